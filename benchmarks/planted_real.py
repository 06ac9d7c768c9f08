"""Real labels as datasets to plant in: one case each, with its CT or one painted from its labels.

Large grids are thinned to every nth row, column and slice, so that a fault takes seconds.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from planted_aims import Figure, table
from planted_case import Clean
from planted_kind import Kind
from planted_report import report
from planted_run import WEIGHT, Outcomes, plant_all

from pantskit.check.case import check_arrays
from pantskit.check.dataset import check_dataset
from pantskit.check.findings import Finding
from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, LabelMap
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelsources import open_label_source
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume
from pantskit.ingest import IngestSettings, ingest
from pantskit.phantom.paint import paint

Step = tuple[int, int, int]
MOST_FALSE = 1  # errors of a case that nobody judged to be true
# Looked at in pictures and judged in docs/quality.md: case, rule, structure.
JUDGED_TRUE = {("PanTS_00000001", "overlap", "adrenal_gland_right")}


@dataclass(frozen=True)
class Real:
    """A real label set.

    Attributes:
        name: of the case made from it.
        step: every nth voxel along (i, j, k) that is kept.
        labels: how its labels are opened.
        image: file of its CT; None: painted.
    """

    name: str
    step: Step
    labels: CaseLabels
    image: Path | None = None


def real_cases(folder: Path) -> Iterator[Real]:
    """PanTS, PANORAMA and TotalSegmentator label sets of a folder."""
    for case_id, step in (("PanTS_00000001", (3, 3, 3)), ("PanTS_00000035", (3, 3, 1))):
        numbering = LabelMap.parse("pants_alphabetical")
        source = folder / "pants_labels" / case_id
        (labels,) = open_label_source(source, label_map=numbering).values()
        yield Real(case_id, step, labels)
    for number, step in (("100036_00001", (3, 3, 1)), ("101381_00001", (3, 3, 3))):
        path = folder / "panorama_labels" / f"{number}.nii.gz"
        labels = CaseLabels(number, map_path=path, label_map=LabelMap.parse("panorama"))
        yield Real(f"PANORAMA_{number}", step, labels)
    place, numbering = folder / "totalsegmentator", LabelMap.parse("totalsegmentator")
    for seg, ct in (
        ("example_seg_fast_force_split", "example_ct"),
        ("example_seg", "example_ct_sm"),
    ):
        labels = CaseLabels(seg, map_path=place / f"{seg}.nii.gz", label_map=numbering)
        yield Real(f"TotalSegmentator_{ct}", (1, 1, 1), labels, place / f"{ct}.nii.gz")


def thinned(array: NDArray[Any], geometry: Geometry, step: Step) -> Volume:
    """Every nth voxel, in standard orientation."""
    volume = Volume(array, geometry).reoriented()
    kept = np.ascontiguousarray(volume.array[tuple(slice(n // 2, None, n) for n in step)])
    affine = volume.geometry.affine @ np.diag([*step, 1.0])
    affine[:3, 3] = volume.geometry.to_world([n // 2 for n in step])
    return Volume(kept, replace(volume.geometry, shape=kept.shape, affine=affine))


def make(real: Real, root: Path) -> Dataset:
    """The case as a dataset of ours."""
    grid = real.labels.geometry
    masks = {s: thinned(m, grid, real.step) for s, m in real.labels.masks().items()}
    first = next(iter(masks.values())).geometry
    arrays = {s: v.array for s, v in masks.items()}
    if real.image is None:
        rng = np.random.default_rng(zlib.crc32(real.name.encode()))
        hu, phase = paint(arrays, first, "portal_venous", rng), "portal_venous"
    else:
        ct = read_volume(real.image)
        hu, phase = thinned(ct.array, ct.geometry, real.step).array, None
    return write(real.name, root, np.clip(hu, -1000, 1000).astype(np.int16), arrays, first, phase)


def write(
    name: str,
    root: Path,
    hu: NDArray[np.int16],
    masks: Mapping[str, NDArray[np.bool_]],
    grid: Geometry,
    phase: str | None,
) -> Dataset:
    """One case with its row."""
    dataset = Dataset.create(root, name=name, annotated=masks)
    write_volume(dataset.image_path(name, "train"), Volume(hu, grid))
    write_case_labels(dataset, name, "train", dict(masks), grid)
    row = {
        "case_id": name,
        "patient_id": name,
        "split": "train",
        "shape": str(tuple(grid.shape)),
        "spacing": str(tuple(round(s, 4) for s in grid.spacing)),
        "slice_thickness_mm": round(grid.spacing[2], 4),
        "phase": phase,
        "lesions": int(masks[LESION].any()) if LESION in masks else None,
    }
    dataset.write_metadata([row])
    dataset.write_info()
    return dataset


def ircadb(folder: Path, root: Path, work: Path) -> Dataset:
    """3D-IRCADb-01 case 17 with its liver, every third row and column."""
    (archive,) = (folder / "ircadb01_case17").glob("*.zip")
    settings = IngestSettings(workers=0, labels=archive)
    ingest([archive], work / "ircadb-whole", settings)
    (case,) = Dataset.open(work / "ircadb-whole").cases()
    labels = case.labels()
    assert labels is not None
    ct = read_volume(case.image_path)
    hu = thinned(ct.array, ct.geometry, (3, 3, 1))
    masks = {s: thinned(m, ct.geometry, (3, 3, 1)).array for s, m in labels.masks().items()}
    return write("IRCADb_17", root, hu.array.astype(np.int16), masks, hu.geometry, "portal_venous")


def real_datasets(folder: Path, work: Path) -> dict[str, Dataset]:
    """Case to its dataset; what was made before is opened."""
    found: dict[str, Dataset] = {}
    for real in real_cases(folder):
        root = work / "real" / real.name
        there = (root / "metadata.csv").is_file()
        found[real.name] = Dataset.open(root) if there else make(real, root)
    root = work / "real" / "IRCADb_17"
    there = (root / "metadata.csv").is_file()
    found[root.name] = Dataset.open(root) if there else ircadb(folder, root, work)
    return found


def plant_in_real(
    folder: Path,
    work: Path,
    kinds: list[Kind],
    only: list[str] | None,
    every: bool,
    outcomes: Outcomes,
) -> dict[str, list[Finding]]:
    """Plant in real labels.

    Args:
        folder: of the label sets.
        work: scratch folder; the datasets are kept in it.
        kinds: what to plant.
        only: cases whose name begins so; None: all.
        every: all levels, not only the first and the last that can be told.
        outcomes: added to.

    Returns:
        What is said of each case as it is.
    """
    datasets = real_datasets(folder, work)
    clean = {name: Clean.load(dataset, name) for name, dataset in datasets.items()}
    alarms = {}
    order = list(clean)
    for n, name in enumerate(order):
        if only and not name.startswith(tuple(only)):
            continue
        alarms[name] = list(check_dataset(datasets[name], workers=0).findings)
        other = clean[order[(n + 1) % len(order)]]
        print(name, file=sys.stderr, flush=True)
        plant_all(kinds, clean[name], other, alarms[name], work, outcomes, ends_only=not every)
    return alarms


def wrong_slab(folder: Path) -> Figure:
    """Labels of another slab with the CT's own affine: whether an error comes from the content."""
    place = folder / "totalsegmentator"
    labels = CaseLabels(
        "case", map_path=place / "example_seg.nii.gz", label_map=LabelMap.parse("totalsegmentator")
    )
    ct = read_volume(place / "example_ct.nii.gz").array[:, :, : labels.geometry.shape[2]]
    found = check_arrays(labels.masks(), labels.geometry, ct=ct)
    errors = sorted({f.rule for f in found if f.severity == "error"})
    return Figure("example_seg on example_ct: errors", ", ".join(errors) or "none",
                  "told by content", bool(errors))  # fmt: skip


def report_real(
    kinds: list[Kind], outcomes: Outcomes, alarms: Mapping[str, list[Finding]]
) -> list[Figure]:
    """Alarms of the labels as they are, recall by case, and the matrix."""
    told = {k.name: k for k in kinds}
    rows = []
    for name in dict.fromkeys(o.case_id for o in outcomes.rows):
        some = [o for o in outcomes.rows if o.case_id == name and told[o.kind].told(o.level)]
        found = sum(o.found for o in some)
        hidden = sum(bool(o.hidden) for o in some if not o.found)
        rows.append((name, f"{found}/{len(some)}", f"{found / max(1, len(some)):.2f}", hidden))
    print("## Real labels\n")
    print("Levels that can be told. Last: missed where a rule had named the structure before.\n")
    table(("case", "found", "recall", "hidden"), rows)
    for name, some in alarms.items():
        print(f"{name}, as it is:")
        for f in some:
            if WEIGHT[f.severity]:
                print(f"- {f.severity}: {f.rule} {f.structure}: {f.message}")
    print()
    figures = report(kinds, outcomes, "Faults planted in real labels")
    false = {
        name: sum(
            str(f.severity) == "error" and (name, f.rule, f.structure) not in JUDGED_TRUE
            for f in some
        )
        for name, some in alarms.items()
    }
    worst = max(false, key=lambda name: false[name])
    judged = Figure("real labels: errors of a case that were not judged to be true, at most",
                    f"{false[worst]} (of {len(false)} cases)", f"at most {MOST_FALSE}",
                    false[worst] <= MOST_FALSE)  # fmt: skip
    # The aim of a recall is set for sound cases that faults are planted in.
    return [judged, *(Figure(f.what, f.value) for f in figures[1:3])]
