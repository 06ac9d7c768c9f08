"""Score one case in a fresh process: DSC, NSD at 2 mm, HD95 and ASSD of 28 structures.

    python benchmarks/scoring.py pantskit|surface-distance REFERENCE PREDICTION [--cpu]

REFERENCE and PREDICTION are label maps (.nii.gz) or folders of 28 masks. `surface-distance` is
what a script with nibabel and DeepMind's package does. Prints one line of JSON: seconds for the
imports, for the first case and for the same again (of CPU time with --cpu); MB that the case
takes above the imported process; and the scores.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE_MM = 2.0

Scores = list[tuple[float, ...]]
Mask = NDArray[np.bool_]


def with_surface_distance() -> Callable[[Path, Path], Scores]:
    import nibabel as nib
    import scipy.ndimage
    import surface_distance

    from pantskit.core.labels import PANTS, STRUCTURES

    assert scipy.ndimage
    warnings.simplefilter("ignore")
    vars(np)["Inf"] = np.inf  # surface-distance asks for it; numpy 2 no longer has it

    def opened(path: Path) -> Callable[[str], Mask]:
        """Gives the mask of a structure; a label map is read once."""
        if path.is_dir():
            return lambda name: np.asarray(nib.load(path / f"{name}.nii.gz").dataobj) > 0
        labels = np.asarray(nib.load(path).dataobj)

        def mask(name: str) -> Mask:
            first, *members = PANTS.evaluation_ids(name)
            inside: Mask = labels == first
            for label in members:
                inside |= labels == label
            return inside

        return mask

    def score(reference: Path, prediction: Path) -> Scores:
        truth, found = opened(reference), opened(prediction)
        first = reference / "liver.nii.gz" if reference.is_dir() else reference
        spacing = np.linalg.norm(nib.load(first).affine[:3, :3], axis=0)
        scores = []
        for name in STRUCTURES:
            a, b = truth(name), found(name)
            distances = surface_distance.compute_surface_distances(a, b, spacing)
            scores.append(
                (
                    surface_distance.compute_dice_coefficient(a, b),
                    surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM),
                    surface_distance.compute_robust_hausdorff(distances, 95),
                    sum(surface_distance.compute_average_surface_distance(distances)) / 2,
                )
            )
        return scores

    return score


def with_pantskit() -> Callable[[Path, Path], Scores]:
    from pantskit.core.labels import STRUCTURES
    from pantskit.core.labelsets import CaseLabels
    from pantskit.core.labelsources import labels_in
    from pantskit.evaluate.case import score_case
    from pantskit.evaluate.settings import EvaluateConfig

    def opened(path: Path) -> CaseLabels:
        labels = labels_in(path) if path.is_dir() else CaseLabels("case", map_path=path)
        assert labels is not None
        return labels

    def score(reference: Path, prediction: Path) -> Scores:
        config = EvaluateConfig(tolerances_mm=(TOLERANCE_MM,))
        result = score_case(opened(reference), opened(prediction), config)
        rows = {row["structure"]: row for row in result["scores"]}
        return [tuple(rows[s][c] for c in ("dsc", "nsd", "hd95_mm", "assd_mm")) for s in STRUCTURES]

    return score


def main() -> None:
    tool, *paths = (word for word in sys.argv[1:] if word != "--cpu")
    clock = time.process_time if "--cpu" in sys.argv else time.perf_counter
    started = clock()
    score = with_pantskit() if tool == "pantskit" else with_surface_distance()
    imported = clock()
    from pantskit.core.memory import peak_memory

    with peak_memory() as before:  # what the process holds now
        pass
    result: dict[str, Any] = {"import_s": imported - started}
    for name in ("first", "again"):
        started = clock()
        with peak_memory() as peak:
            result["scores"] = score(Path(paths[0]), Path(paths[1]))
        result[f"{name}_s"] = clock() - started
        result[f"{name}_mb"] = peak[0] - before[0]
        if tool != "pantskit":  # nothing is compiled: the first time is as good as any
            break
        with peak_memory() as before:
            pass
    print(json.dumps(result))


if __name__ == "__main__":
    main()
