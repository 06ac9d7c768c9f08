"""Score 28 structures at 512 x 512 x 300 beside nnU-Net's arithmetic and surface-distance.

    python benchmarks/evaluate.py [--small] [--cpu] [--repeat N] [--only arrays bad files ...]

Every ratio is printed with its target and whether it is met; results are compared with the
peer's before. Exit status 1 if a target is missed. pantskit's time is the median of N runs
(default 3), the peer's is of one run, and both have one process and the same arrays or files:

    python benchmarks/scoring.py pantskit         REFERENCE PREDICTION
    python benchmarks/scoring.py surface-distance REFERENCE PREDICTION
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from organs import IDS, SPACING, Labels, organs, shifted, speckled, swapped

from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.evaluate.evaluation import evaluate
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.boxes import label_boxes
from pantskit.measure.overlap import confusion_of, joint_counts
from pantskit.measure.packed import pack_labels
from pantskit.measure.surface import nsd

TOLERANCE_MM = 2.0
SPECKLED_IDS = (1, 12)  # each spans the scan, for which the peer takes a minute and 5 GB
COHORT = 72
RELEASE_CASES, RELEASE_CORES = 26_489, 64
SCORING = Path(__file__).with_name("scoring.py")
PEERS = ("nnunetv2", "Surface-Distance-Based-Measures", "nibabel", "numpy", "scipy")

missed: list[str] = []
clock = time.perf_counter


def seconds(run: Callable[[], Any], repeat: int = 1) -> tuple[float, Any]:
    times = []
    for _ in range(repeat):
        start = clock()
        result = run()
        times.append(clock() - start)
    return median(times), result


def judge(name: str, value: float, target: float, text: str, *, most: bool = False) -> None:
    met = value <= target if most else value >= target
    if not met:
        missed.append(name)
    sign = "<=" if most else ">="
    print(f"{name:<34} {text:<64} target {sign} {target:g}: {'met' if met else 'MISSED'}")


def ratio(name: str, ours: float, peer: float, target: float) -> None:
    judge(name, peer / ours, target, f"{ours:8.3f} s, peer {peer:8.2f} s, ratio {peer / ours:6.1f}")


def our_nsd(truth: Labels, found: Labels, ids: Iterable[int]) -> list[float]:
    """From two label maps in memory."""
    boxes = label_boxes(truth), label_boxes(found)
    return [
        nsd(
            pack_labels(truth, [n], boxes[0]),
            pack_labels(found, [n], boxes[1]),
            SPACING,
            [TOLERANCE_MM],
        )[0]
        for n in ids
    ]


def peer_nsd(truth: Labels, found: Labels, ids: Iterable[int]) -> list[float]:
    import surface_distance

    vars(np)["Inf"] = np.inf  # the package asks for it; numpy 2 no longer has it
    scores = []
    for n in ids:
        distances = surface_distance.compute_surface_distances(truth == n, found == n, SPACING)
        scores.append(surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM))
    return scores


def time_counts(truth: Labels, found: Labels, repeat: int) -> None:
    from nnunetv2.evaluation.evaluate_predictions import (
        compute_tp_fp_fn_tn,
        region_or_label_to_mask,
    )

    def ours() -> list[tuple[int, ...]]:
        counts = joint_counts(truth, found)
        confusions = [confusion_of(counts, [n], [n]) for n in IDS]
        return [
            (c.true_positive, c.false_positive, c.false_negative, c.true_negative)
            for c in confusions
        ]

    def peer() -> list[tuple[int, ...]]:
        return [
            compute_tp_fp_fn_tn(
                region_or_label_to_mask(truth, n), region_or_label_to_mask(found, n)
            )
            for n in IDS
        ]

    ours()
    took, mine = seconds(ours, repeat)
    peer_took, theirs = seconds(peer)
    assert mine == [tuple(map(int, counts)) for counts in theirs]
    ratio("confusion and DSC / nnU-Net", took, peer_took, 300)


def time_nsd(
    name: str, truth: Labels, found: Labels, repeat: int, target: float, ids: Iterable[int] = IDS
) -> None:
    our_nsd(truth[:64, :64, :16], found[:64, :64, :16], ids)
    took, mine = seconds(lambda: our_nsd(truth, found, ids), repeat)
    peer_took, theirs = seconds(lambda: peer_nsd(truth, found, ids))
    np.testing.assert_allclose(mine, theirs, atol=1e-9, rtol=0)
    ratio(f"NSD, {name} / surface-distance", took, peer_took, target)


def scored(tool: str, *paths: Path, cache: Path | None = None) -> dict[str, Any]:
    """`scoring.py` in a fresh process."""
    environment = os.environ | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    command = [sys.executable, str(SCORING), tool, *map(str, paths)]
    if clock is time.process_time:
        command.append("--cpu")
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def time_files(name: str, reference: Path, prediction: Path, repeat: int, target: float) -> float:
    """A case from disk, the imports apart; returns its MB above the imported process."""
    ours = [scored("pantskit", reference, prediction) for _ in range(repeat)]
    peer = scored("surface-distance", reference, prediction)
    np.testing.assert_allclose(ours[0]["scores"], peer["scores"], atol=1e-9, rtol=0)
    ratio(f"{name} / nibabel script", median(r["again_s"] for r in ours), peer["first_s"], target)
    mb, peer_mb = max(r["again_mb"] for r in ours), peer["first_mb"]
    judge(
        f"{name}, memory / script's",
        mb / peer_mb,
        0.25,
        f"{mb:8.0f} MB, peer {peer_mb:6.0f} MB, share {mb / peer_mb:6.2f}",
        most=True,
    )
    return float(mb)


def write_masks(folder: Path, labels: Labels, geometry: Geometry) -> None:
    for structure in PANTS.names:
        mask = np.isin(labels, PANTS.evaluation_ids(structure))
        write_volume(folder / f"{structure}.nii.gz", Volume(np.asfortranarray(mask), geometry))


def time_start(paths: list[Path], folder: Path) -> None:
    """From nothing to the scores of a first case: what is compiled is kept for the next time."""
    cache = folder / "numba"
    for name, target in (("cold compile cache", 10), ("warm compile cache", 2)):
        result = scored("pantskit", *paths, cache=cache)
        took = result["import_s"] + result["first_s"] - result["again_s"]
        text = f"{took:8.2f} s for imports and compiled code, beside the case's own time"
        judge(f"first call, {name}", took, target, text, most=True)


def time_workers(paths: list[Path], folder: Path) -> None:
    for name, path in zip(("reference", "prediction"), paths, strict=True):
        (folder / name).mkdir()
        for n in range(COHORT):
            os.link(path, folder / name / f"case_{n:02}.nii.gz")
    took = {}
    for workers in (1, 2):
        out = folder / f"scores_{workers}"
        config = EvaluateConfig(label_map="pants", reference_label_map="pants")
        start = time.perf_counter()
        result = evaluate(folder / "prediction", folder / "reference", out, config, workers=workers)
        took[workers] = time.perf_counter() - start
        assert result.run.counts == {"done": COHORT}
    text = f"{took[1]:8.2f} s and {took[2]:6.2f} s for {COHORT} cases"
    judge("two processes / one", took[1] / took[2], 1.6, text)
    case_s = took[1] / COHORT
    hours = case_s * RELEASE_CASES / RELEASE_CORES / 3600
    print(
        f"{RELEASE_CASES:,} cases at {case_s:.2f} s each on {RELEASE_CORES} cores, on paper: "
        f"{hours:.2f} hours"
    )


def main() -> None:
    parts = ("arrays", "bad", "files", "masks", "start", "two")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="128 x 128 x 75, in seconds")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds: the machine is not alone")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    args = parser.parse_args()
    if args.cpu:
        global clock
        clock = time.process_time
    shape = (128, 128, 75) if args.small else (512, 512, 300)
    warnings.simplefilter("ignore")
    truth, found = organs(shape)
    print(
        f"{len(IDS)} structures, {shape} at {SPACING} mm; {platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(", ".join(f"{name} {version(name)}" for name in ("pantskit", *PEERS)))
    if "arrays" in args.only:
        time_counts(truth, found, args.repeat)
        time_nsd("a voxel off", truth, found, args.repeat, 40)
    if "bad" in args.only:
        time_nsd("10 mm away", truth, shifted(truth), args.repeat, 5)
        time_nsd("organs swapped", truth, swapped(truth), args.repeat, 5)
        time_nsd("0.2 % speckle", truth, speckled(found), args.repeat, 5, SPECKLED_IDS)
        time_nsd("empty", truth, np.zeros_like(truth), args.repeat, 5)
    with tempfile.TemporaryDirectory() as name:
        folder, geometry = Path(name), Geometry.from_spacing(shape, SPACING)
        paths = [folder / f"{side}.nii.gz" for side in ("reference", "prediction")]
        for path, labels in zip(paths, (truth, found), strict=True):
            write_volume(path, Volume(labels, geometry), label_space="pants")
        if "files" in args.only:
            taken = time_files("label maps", paths[0], paths[1], args.repeat, 25)
            volumes = taken * 2**20 / math.prod(shape)
            judge("label maps, memory", volumes, 3, f"{volumes:8.2f} label volumes", most=True)
        if "masks" in args.only:
            folders = [folder / f"{side}_masks" for side in ("reference", "prediction")]
            for place, labels in zip(folders, (truth, found), strict=True):
                place.mkdir()
                write_masks(place, labels, geometry)
            time_files("28 masks", folders[0], folders[1], args.repeat, 5)
        if "start" in args.only:
            time_start(paths, folder)
        if "two" in args.only:
            time_workers(paths, folder)
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
