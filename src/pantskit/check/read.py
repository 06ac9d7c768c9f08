"""Reading a case for its check: whatever cannot be read is kept as a problem and told later."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Voxel
from pantskit.check.ranges import BUILT_IN, Ranges
from pantskit.check.scan import Scan
from pantskit.check.values import value_doubt, value_problem
from pantskit.core.dataset import Case
from pantskit.core.errors import PantskitError
from pantskit.core.geometry import Geometry, require_same_grid
from pantskit.core.labels import LabelArray, Mask, find_structure
from pantskit.core.labelsets import SEGMENTATIONS, CaseLabels
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import Volume, read_volume
from pantskit.measure.boxes import Box, join, label_boxes


@dataclass
class CaseFiles:
    """The files of a case, as far as they could be read.

    Attributes:
        case: where they are.
        metadata: the case's row, {} where there is none.
        tabled: whether the dataset has a metadata table at all.
        expected: structures that the dataset says are annotated in its cases.
        ct: the image.
        ct_problem: why there is none, "" where there is one or no file.
        value_problem: why its values are no HU; the masks are judged without it then.
        value_doubt: why they may be none.
        labels: label files; None where nothing is annotated.
        problems: structure, or "" for all of them, to why it could not be read.
        grid_problem: why labels and CT do not meet.
        combined: the label map's file, beside masks of their own.
        combined_problem: why it could not be read.
        geometry: the labels' grid.
        scan: the masks in memory, with the CT where both lie on one grid and it is in HU.
    """

    case: Case
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tabled: bool = False
    expected: tuple[str, ...] = ()
    ct: Volume | None = None
    ct_problem: str = ""
    value_problem: str = ""
    value_doubt: str = ""
    labels: CaseLabels | None = None
    problems: dict[str, str] = field(default_factory=dict)
    grid_problem: str = ""
    combined: Volume | None = None
    combined_problem: str = ""
    geometry: Geometry | None = None
    scan: Scan | None = None


def read_case(
    case: Case,
    *,
    metadata: Mapping[str, Any] | None = None,
    tabled: bool = False,
    expected: tuple[str, ...] = (),
    ranges: Ranges = BUILT_IN,
) -> CaseFiles:
    """Read all files of a case; the arguments are those of `CaseFiles`."""
    files = CaseFiles(case, metadata or {}, tabled, expected)
    if case.image_path.is_file():
        try:
            files.ct = read_volume(case.image_path)
            files.value_problem = value_problem(files.ct)
            files.value_doubt = "" if files.value_problem else value_doubt(files.ct)
        except PantskitError as error:
            files.ct_problem = str(error)
    try:
        files.labels = case.labels()
        if files.labels is None:
            return files
        files.geometry = files.labels.geometry
        structures = files.labels.structures()
    except PantskitError as error:
        files.problems[""] = str(error)
        return files
    crops = _read_structures(files, structures)
    _read_combined(files)
    ct = _ct_on_grid(files, files.geometry)
    files.scan = Scan(
        case.case_id,
        files.geometry,
        crops,
        ct=ct if ct is not None and not files.value_problem else None,
        metadata=files.metadata,
        ranges=ranges,
    )
    return files


def beside(case: Case, labels: CaseLabels) -> dict[str, tuple[Path, ...]]:
    """Structures of a case to further files that mean them, beside the one that is read."""
    found: dict[str, tuple[Path, ...]] = {}
    used = set(labels.mask_paths.values())
    for folder in (case.labels_path, case.labels_path / SEGMENTATIONS):
        for path in (p for p in _masks_in(folder) if p not in used):
            structure = find_structure(path.name)
            if structure in labels.mask_paths and structure not in labels.rivals:
                found[structure] = (*found.get(structure, ()), path)
    return found


def unknown_masks(case: Case, labels: CaseLabels | None) -> list[Path]:
    """Files of a case's labels whose names mean none of the structures, and no combined map."""
    known = {labels.map_path} if labels is not None else set()
    return [
        path
        for folder in (case.labels_path, case.labels_path / SEGMENTATIONS)
        for path in _masks_in(folder)
        if path not in known and find_structure(path.name) is None
    ]


def grouped(faults: Iterable[str]) -> list[str]:
    """Faults of files, `"name: what"`, with the same one of many files told once."""
    alike: dict[str, list[str]] = {}
    for fault in faults:
        name, _, text = fault.partition(": ")
        alike.setdefault(text, []).append(name)
    return [
        f"{names[0] if len(names) == 1 else f'{len(names)} files ({names[0]}, ...)'}: {text}"
        for text, names in alike.items()
    ]


def _masks_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            Path(e.path)
            for e in entries
            if e.name[0] != "." and e.name.lower().endswith(_MASKS) and e.is_file()
        )


_MASKS = (".nii", ".nii.gz", ".npz")


def _ct_on_grid(files: CaseFiles, geometry: Geometry) -> NDArray[Any] | None:
    if files.ct is None:
        return None
    try:
        what = f"{files.case.case_id}: labels and CT"
        require_same_grid(geometry, files.ct.geometry, what=what)
    except PantskitError as error:
        files.grid_problem = str(error)
        return None
    return files.ct.array


def _read_structures(
    files: CaseFiles, structures: tuple[str, ...]
) -> dict[str, tuple[Mask, Voxel]]:
    """Each structure cut to its box: from the label map where that gives it back exactly."""
    labels = files.labels
    assert labels is not None
    crops: dict[str, tuple[Mask, Voxel]] = {}
    map_array: LabelArray | None = None
    boxes: dict[int, Box] = {}
    for structure in structures:
        try:
            ids = labels.ids_in_map(structure)
            if ids is not None and map_array is None:
                map_array, boxes = _label_map(labels)
            if ids is not None and map_array is not None:
                crops[structure] = _cut(map_array, boxes, ids)
                continue
            if structure in labels.mask_paths:
                crop = labels.mask_crop(structure)
                crops[structure] = crop.array, crop.start
        except PantskitError as error:
            files.problems[structure] = str(error)
            if not labels.mask_paths:  # the one map that all would come from
                files.problems = {"": str(error)}
                return {}
    return crops


def _label_map(labels: CaseLabels) -> tuple[LabelArray, dict[int, Box]]:
    volume = labels.combined()
    assert volume is not None
    values = volume.array
    if values.dtype != np.uint8:  # ids above 255 mean none of our structures
        values = np.where(values < 256, values, 255).astype(np.uint8)
    boxes = label_boxes(values)
    if not labels.mask_paths:
        known = labels.label_map_used()
        name = f"{labels.case_id}: {labels.map_path}"
        known.require_known([int(v) for v in np.unique(volume.array)], name=name)
    labels.forget()
    return values, boxes


def _cut(array: LabelArray, boxes: Mapping[int, Box], ids: tuple[int, ...]) -> tuple[Mask, Voxel]:
    box = join(*(boxes[n] for n in ids if n in boxes))
    if box is None:
        return np.zeros((0, 0, 0), np.bool_), (0, 0, 0)
    table = np.zeros(256, np.bool_)
    table[[n for n in ids if n < 256]] = True
    part = array[box]
    # Transposed: looked up in the order of memory.
    mask = table[part.T].T if len(ids) > 1 else part == ids[0]
    return mask, (box[0].start, box[1].start, box[2].start)


def _read_combined(files: CaseFiles) -> None:
    labels = files.labels
    if labels is None or labels.map_path is None or not labels.mask_paths:
        return
    try:
        files.combined = read_label_map(labels.map_path)
    except PantskitError as error:
        files.combined_problem = str(error)
