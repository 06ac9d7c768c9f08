"""Score one case of 28 structures at 512 x 512 x 300, beside nibabel with surface-distance.

    python benchmarks/evaluate.py [--small]

Both read the same two .nii.gz label maps in this process and give DSC, NSD at 2 mm, HD95 and
average distances of every structure. Equal results are checked before a ratio is printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import surface_distance
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, STRUCTURES
from pantskit.core.labelsets import CaseLabels
from pantskit.core.volume import Volume, write_volume
from pantskit.evaluate.case import score_case
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.overlap import confusion_of, joint_counts
from pantskit.measure.surface import nsd

SPACING = (0.8, 0.8, 1.5)
TOLERANCE_MM = 2.0
IDS = range(1, len(STRUCTURES) + 1)

Labels = NDArray[np.uint8]


def organs(shape: tuple[int, int, int], seed: int = 0) -> tuple[Labels, Labels]:
    """28 bumpy ellipsoids, and the same ones moved by about a voxel and resized by 3 %."""
    rng = np.random.default_rng(seed)
    reference, prediction = (np.zeros(shape, np.uint8, order="F") for _ in range(2))
    scale = np.array(shape) / (512, 512, 300)
    for label in IDS:
        largest = label <= 4
        radius = scale * rng.uniform(
            (70, 60, 45) if largest else (10, 10, 6), (95, 80, 60) if largest else (60, 60, 40)
        )
        centre = rng.uniform(radius + 8, np.array(shape) - radius - 8)
        paint(reference, label, centre, radius)
        paint(prediction, label, centre + rng.normal(0, 1, 3), radius * rng.uniform(0.97, 1.03))
    return reference, prediction


def paint(labels: Labels, label: int, centre: NDArray[Any], radius: NDArray[Any]) -> None:
    low = np.maximum((centre - radius - 4).astype(int), 0)
    box = tuple(slice(a, int(c + r + 5)) for a, c, r in zip(low, centre, radius, strict=True))
    part = labels[box]
    grid = [a + n for a, n in zip(low, np.ogrid[tuple(map(slice, part.shape))], strict=True)]
    distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True))
    bumps = 0.12 * np.sin(grid[0] / 7) * np.sin(grid[1] / 6) * np.sin(grid[2] / 5)
    part[distance + bumps < 1] = label


def peer_scores(reference: Path, prediction: Path) -> list[tuple[float, ...]]:
    """What a script with nibabel and surface-distance does."""
    image = nib.load(reference)
    spacing = tuple(float(s) for s in np.linalg.norm(image.affine[:3, :3], axis=0))
    truth = np.asarray(image.dataobj)
    found = np.asarray(nib.load(prediction).dataobj)
    scores = []
    for structure in STRUCTURES:
        a, b = (union(labels, structure) for labels in (truth, found))
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


def peer_nsd(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    distances = surface_distance.compute_surface_distances(truth, found, SPACING)
    return float(surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM))


def union(labels: Labels, structure: str) -> NDArray[np.bool_]:
    first, *members = PANTS.evaluation_ids(structure)
    mask = labels == first
    for label in members:
        mask |= labels == label
    return mask


def our_scores(reference: Path, prediction: Path) -> list[tuple[float, ...]]:
    """The same columns of pantskit's score table."""
    labels = [CaseLabels("case", map_path=path) for path in (reference, prediction)]
    config = EvaluateConfig(tolerances_mm=(TOLERANCE_MM,), definition="surfel")
    rows = {r["structure"]: r for r in score_case(labels[0], labels[1], config)["scores"]}
    return [tuple(rows[s][c] for c in ("dsc", "nsd", "hd95_mm", "assd_mm")) for s in STRUCTURES]


def seconds(run: Callable[[], Any], repeat: int = 1) -> tuple[float, Any]:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def report(name: str, ours: float, peer: float, what: str) -> None:
    print(f"{name:<28} {ours:8.3f} s   {what} {peer:8.3f} s   ratio {peer / ours:6.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="128 x 128 x 75, in seconds")
    shape = (128, 128, 75) if parser.parse_args().small else (512, 512, 300)
    warnings.simplefilter("ignore")
    vars(np)["Inf"] = np.inf  # surface-distance asks for it; numpy 2 no longer has it
    truth, found = organs(shape)
    print(f"{len(STRUCTURES)} structures, {shape} at {SPACING} mm")

    seconds(lambda: (joint_counts(truth, found), nsd(truth == 1, found == 1, SPACING, [2.0])))
    ours, counts = seconds(lambda: joint_counts(truth, found), 3)
    peer, dsc = seconds(
        lambda: [surface_distance.compute_dice_coefficient(truth == n, found == n) for n in IDS]
    )
    assert dsc == [confusion_of(counts, [n], [n]).dsc for n in IDS]
    report("confusion and DSC, arrays", ours, peer, "numpy")

    ours = peer = 0.0
    for label in IDS:
        pair = truth == label, found == label
        took, (mine,) = seconds(lambda pair=pair: nsd(*pair, SPACING, [TOLERANCE_MM]), 3)
        ours += took
        took, theirs = seconds(lambda pair=pair: peer_nsd(*pair))
        peer += took
        np.testing.assert_allclose(mine, theirs, atol=1e-9, rtol=0)
    report("NSD at 2 mm, arrays", ours, peer, "surface-distance")

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.nii.gz" for name in ("reference", "prediction")]
        geometry = Geometry.from_spacing(shape, SPACING)
        for path, labels in zip(paths, (truth, found), strict=True):
            write_volume(path, Volume(labels, geometry), label_space="pants")
        ours, mine = seconds(lambda: our_scores(*paths), 3)
        peer, theirs = seconds(lambda: peer_scores(*paths))
    np.testing.assert_allclose(mine, theirs, atol=1e-9, rtol=0)
    report("all scores, from .nii.gz", ours, peer, "nibabel + surface-distance")


if __name__ == "__main__":
    main()
