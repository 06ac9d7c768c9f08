"""What each shortcut and each step of post-processing changes, on data; see predict.py."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.labels import LESION, PANTS
from pantskit.core.labelsources import open_label_source
from pantskit.core.labelvolumes import read_mask
from pantskit.core.volume import Volume, read_volume
from pantskit.predict.case import Shortcuts
from pantskit.predict.inputs import find_inputs

Labels = NDArray[np.uint8]
# Below this an overlap is a matter of a voxel or two.
LEAST_VOXELS = 20

SHORTCUTS: Mapping[str, tuple[bool, Shortcuts]] = {
    "exact": (True, Shortcuts()),
    "exact again": (True, Shortcuts()),
    "--skip-air": (True, Shortcuts(skip_air=True)),
    "--step 0.75": (True, Shortcuts(step=0.75)),
    "--step 1.0": (True, Shortcuts(step=1.0)),
    "--mirror-axes 0,1": (True, Shortcuts(mirror_axes=(0, 1))),
    "--mirror-axes 0": (True, Shortcuts(mirror_axes=(0,))),
    "--no-mirror": (False, Shortcuts()),
    "--bf16": (True, Shortcuts(bf16=True)),
    "--no-mirror --step 0.75": (False, Shortcuts(step=0.75)),
}


def dsc(a: NDArray[Any], b: NDArray[Any]) -> float:
    """DSC of two masks; NaN where both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else float("nan")


def mask(labels: Labels, structure: str) -> NDArray[np.bool_]:
    return np.isin(labels, PANTS.evaluation_ids(structure))


def references(cases: Path) -> Mapping[str, Any]:
    """The labels of cases that have some."""
    try:
        Dataset.open(cases)
        return open_label_source(cases, split="test")
    except DatasetError:
        return {}


# Shortcuts ---------------------------------------------------------------------------------


@dataclass
class Effect:
    """One shortcut over all cases."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    windows: int = 0
    skipped: int = 0
    differing: int = 0
    inside: int = 0

    def __post_init__(self) -> None:
        self.against_exact: dict[str, list[float]] = defaultdict(list)
        self.against_reference: list[float] = []
        self.scores: list[float] = []

    def row(self, name: str, exact: Effect) -> str:
        """One line of the table."""
        means = {s: float(np.mean(v)) for s, v in self.against_exact.items() if v}
        worst = min(means, key=means.__getitem__) if means else "none"
        reference = np.nanmean(self.against_reference) if self.against_reference else float("nan")
        score = np.abs(np.subtract(self.scores, exact.scores)).max() if self.scores else 0.0
        return (
            f"{name:<24} {self.windows:4d} windows ({self.skipped} left out) "
            f"{self.seconds:7.1f} s  {exact.seconds / self.seconds:5.2f} x "
            f"({exact.cpu_seconds / self.cpu_seconds:5.2f} of CPU)  "
            f"{1000 * self.differing / max(self.inside, 1):7.2f} of 1,000 voxels differ  "
            f"DSC with exact {np.mean(list(means.values())):.4f}, least {worst} "
            f"{means.get(worst, float('nan')):.4f}  with the reference {reference:.4f}  "
            f"tumour probability by up to {score:.3f}"
        )


def shortcuts(
    model_folder: Path, sources: Sequence[Path], limit: int | None, batch: int, device: str
) -> None:
    """Every shortcut on every case, one after the other, beside the exact answer.

    Structures count where the exact answer has 20 voxels of them; voxels that differ are
    counted of those that either answer gives a structure.
    """
    import torch

    from pantskit.networks.folder import Model
    from pantskit.networks.runtime import start_torch
    from pantskit.predict.case import predict_volume

    chosen = start_torch(device)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = Model.load(model_folder)
    network = model.build(chosen)
    ways = dict(SHORTCUTS)
    if chosen.type == "cuda":
        ways["--compile"] = (True, Shortcuts(compile=True))
    elif not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        del ways["--bf16"]  # emulated: over ten minutes a case where exact takes ten seconds
        print("--bf16: left out, this CPU has no such arithmetic", file=sys.stderr)
    effects = {name: Effect() for name in ways}
    count, warm = 0, False
    for source in sources:
        truths = references(source)
        for case_id, path in list(find_inputs(source).items())[:limit]:
            image, count = read_volume(path), count + 1
            if not warm:  # code is compiled once
                predict_volume(model, network, image, device=chosen, mirror=False)
                warm = True
            exact = None
            for name, (mirror, how) in ways.items():
                start, cpu = time.perf_counter(), time.process_time()
                answer = predict_volume(
                    model, network, image, device=chosen, mirror=mirror, shortcuts=how,
                    threads=len(os.sched_getaffinity(0)), batch=batch,
                )  # fmt: skip
                effect, labels = effects[name], answer.labels.array
                effect.seconds += time.perf_counter() - start
                effect.cpu_seconds += time.process_time() - cpu
                effect.windows += answer.windows
                effect.skipped += answer.skipped
                effect.scores.append(answer.tumor_probability or 0.0)
                took = time.perf_counter() - start
                print(f"{case_id} {name}: {took:.1f} s", file=sys.stderr, flush=True)
                exact = labels if exact is None else exact
                compare(effect, labels, exact, model.heads.structures)
                truth = truths.get(case_id)
                if truth is not None:
                    effect.against_reference += against(truth, labels, model.heads.structures)
    print(
        f"{count} cases, {model_folder.name}: windows {model.plans.patch_size}, "
        f"{2 ** len(model.mirror_axes)} flips, {chosen.type}, load {os.getloadavg()[0]:.1f}"
    )
    for name, effect in effects.items():
        print(effect.row(name, effects["exact"]))


def compare(effect: Effect, labels: Labels, exact: Labels, structures: Sequence[str]) -> None:
    effect.differing += int(np.count_nonzero(labels != exact))
    effect.inside += int(np.count_nonzero(labels | exact))
    for structure in structures:
        inside = mask(exact, structure)
        if np.count_nonzero(inside) >= LEAST_VOXELS:
            effect.against_exact[structure].append(dsc(mask(labels, structure), inside))


def against(truth: Any, labels: Labels, structures: Sequence[str]) -> list[float]:
    """DSC with the reference, of structures that are there."""
    found = ((s, truth.mask(s)) for s in structures)
    return [dsc(mask(labels, s), m) for s, m in found if m is not None and m.any()]


# Post-processing ---------------------------------------------------------------------------


@dataclass
class Change:
    """DSC of a structure before and after a step, over cases."""

    before: list[float]
    after: list[float]

    def __str__(self) -> str:
        before, after = np.array(self.before), np.array(self.after)
        told = ~(np.isnan(before) | np.isnan(after))
        before, after = before[told], after[told]
        gain = after - before
        better, worse = (gain > 1e-9).sum(), (gain < -1e-9).sum()
        return (
            f"n {len(gain):5d}  mean DSC {before.mean():.4f} -> {after.mean():.4f}  "
            f"{better:4d} better (up to {gain.max(initial=0):+.3f}), "
            f"{worse:4d} worse (down to {gain.min(initial=0):+.3f})"
        )


def postprocess(
    algorithms: Path | None, model_folder: Path | None, sources: Sequence[Path], device: str
) -> None:
    """Each step alone, on predictions of others and on those of a model."""
    if algorithms is not None:
        pancreases(algorithms)
    if model_folder is not None:
        of_a_model(model_folder, sources, device)


def pancreases(folder: Path) -> None:
    """`<folder>/reference/*.nii.gz` beside `<folder>/predictions/<network>/*.nii.gz`.

    They hold a pancreas alone, so that `sides` and `stray-lesions` have nothing to do.
    """
    from pantskit.predict.postprocess import STEPS

    changes = {step: Change([], []) for step in STEPS}
    for reference in sorted((folder / "reference").glob("*.nii.gz")):
        truth = read_mask(reference).array
        for path in sorted(folder.glob(f"predictions/*/{reference.name}")):
            found = read_mask(path)
            labels = np.asfortranarray(found.array * np.uint8(PANTS.id_of("pancreas")))
            before = dsc(found.array, truth)
            for step, function in STEPS.items():
                report = function(labels, found.geometry)
                changes[step].before.append(before)
                changes[step].after.append(dsc(report.labels > 0, truth))
    print(f"{folder.name}: the pancreas by networks of others")
    for step, change in changes.items():
        print(f"  {step:<14} {change}")


def of_a_model(model_folder: Path, sources: Sequence[Path], device: str) -> None:
    """A model's answers for cases with references, structure by structure."""
    from pantskit.predict.postprocess import STEPS

    changes: dict[tuple[str, str], Change] = defaultdict(lambda: Change([], []))
    lesions: dict[str, list[tuple[int, int]]] = defaultdict(list)
    touched: dict[str, int] = defaultdict(int)
    doubts: dict[str, list[str]] = defaultdict(list)
    count = 0
    for labels, truth, structures in answers(model_folder, sources, device):
        count += 1
        before = dict(scores(labels.array, truth, structures))
        for step, function in STEPS.items():
            report = function(labels.array, labels.geometry)
            touched[step] += report.labels is not labels.array
            doubts[step] += report.doubts
            for structure, after in scores(report.labels, truth, structures):
                for key in (structure, "all"):
                    changes[step, key].before.append(before[structure])
                    changes[step, key].after.append(after)
            lesions[step].append(
                (false_lesions(labels.array, truth), false_lesions(report.labels, truth))
            )
    print(f"{model_folder.name}: {count} cases")
    for step in STEPS:
        a, b = np.sum(lesions[step], axis=0)
        print(f"  {step}: changed {touched[step]} cases, left {len(doubts[step])} in doubt")
        for doubt in sorted(set(doubts[step])):
            print(f"    {doubts[step].count(doubt)} x {doubt}")
        print(f"    false lesions {a} -> {b}")
        for (name, structure), change in changes.items():
            moved = not np.array_equal(change.before, change.after, equal_nan=True)
            if name == step and (structure == "all" or moved):
                print(f"    {structure:<28} {change}")


def answers(
    model_folder: Path, sources: Sequence[Path], device: str
) -> Iterator[tuple[Volume, Any, tuple[str, ...]]]:
    import torch

    from pantskit.networks.folder import Model
    from pantskit.networks.runtime import start_torch
    from pantskit.predict.case import predict_volume

    chosen = start_torch(device)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = Model.load(model_folder)
    network = model.build(chosen)
    for source in sources:
        truths = references(source)
        for case_id, path in find_inputs(source).items():
            if case_id in truths:
                answer = predict_volume(model, network, read_volume(path), device=chosen)
                yield answer.labels, truths[case_id], model.heads.structures


def scores(labels: Labels, truth: Any, structures: Sequence[str]) -> Iterator[tuple[str, float]]:
    """DSC of every structure that is annotated; NaN where both are empty."""
    for structure in structures:
        inside = truth.mask(structure)
        if inside is not None:
            yield structure, dsc(mask(labels, structure), inside)


def false_lesions(labels: Labels, truth: Any) -> int:
    """Predicted lesions that touch no true one."""
    import cc3d

    inside = truth.mask(LESION)
    parts: Any = cc3d.connected_components(
        (labels == PANTS.id_of(LESION)).astype(np.uint8), connectivity=26
    )
    hit = set() if inside is None else set(np.unique(parts[inside]).tolist())
    return len(set(np.unique(parts).tolist()) - hit - {0})
