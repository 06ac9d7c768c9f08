"""The CT and the labels of one case of a source, read from its files as they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.errors import GeometryError, ImageError, LabelError, PantskitError, Quarantined
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LabelMap, containers, find_structure
from pantskit.core.labelsets import SEGMENTATIONS
from pantskit.core.labelsources import labels_in
from pantskit.core.labelvolumes import read_label_map, read_mask
from pantskit.core.volume import Volume, read_volume
from pantskit.ingest.dicom.geometry import IrregularStack
from pantskit.ingest.dicom.headers import CT_IMAGE, ImageHeader
from pantskit.ingest.dicom.hounsfield import Clipped, volume_to_hu
from pantskit.ingest.dicom.placing import StandardArray
from pantskit.ingest.dicom.stacks import Layout as SliceLayout
from pantskit.ingest.dicom.stacks import read_series
from pantskit.ingest.discovery.discover import discover
from pantskit.ingest.discovery.sources import Reader, natural_order
from pantskit.ingest.facts.describe import describe_header
from pantskit.ingest.sources.declaration import LabelSet, Meaning
from pantskit.ingest.sources.layouts import FoundCase, is_dicom

# 255 for PNG masks of one structure, which are black and white.
_PNG_INSIDE = 127


@dataclass(frozen=True)
class Scan:
    """A CT that has been read.

    Attributes:
        volume: int16 HU in [-1000, 1000], in the standard orientation.
        clipped: what the clip changed.
        record: format, orientation and faults of the source.
        facts: what its header says, in our words.
        slices: DICOM headers in the order of the files' names; () for a volume file.
        layout: where those slices lie.
    """

    volume: Volume
    clipped: Clipped
    record: dict[str, Any]
    facts: dict[str, Any]
    slices: tuple[ImageHeader, ...] = ()
    layout: SliceLayout | None = None


@dataclass
class Labels:
    """Labels of one case on their own grid.

    Attributes:
        coded: the masks; bases that are still to be split by side are among the sets.
        geometry: their grid.
        made_of: structure to what was united into it.
        unmapped: what has no place among the 28.
        faults: what was odd and harmless.
    """

    coded: CodedMasks
    geometry: Geometry
    made_of: dict[str, list[str]] = field(default_factory=dict)
    unmapped: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_scan(case: FoundCase) -> Scan:
    """Read the CT of a case.

    Raises:
        ImageError, GeometryError, Quarantined, Skipped: If it is no whole CT, or its place is in
            doubt.
    """
    return _read_slices(case) if is_dicom(case.layout) else _read_file(case.images[0])


def _read_file(path: Path) -> Scan:
    try:
        source = read_volume(path)
    except GeometryError as error:  # readable, but its place is in doubt
        raise Quarantined(str(error)) from None
    volume, clipped = volume_to_hu(source)
    record = {
        "format": "nifti",
        "orientation": source.geometry.orientation,
        "type": str(source.array.dtype),
        "faults": list(source.faults),
    }
    return Scan(volume, clipped, record, describe_header({}))


def _read_slices(case: FoundCase) -> Scan:
    found = discover(case.images)
    bad = [b.message for b in found.bad]
    if bad:
        raise ImageError(f"{len(bad)} of its DICOM files cannot be read: {bad[0]}")
    # All slices of the folder together: CHAOS gives every slice a series UID of its own.
    series = [s for s in found.series if not s.skip and s.first.sop_class == CT_IMAGE]
    slices = sorted(
        (header for one in series for header in one.slices),
        key=lambda header: natural_order(header.file.name),
    )
    if not slices:
        reasons = sorted({s.skip for s in found.series if s.skip})
        raise ImageError(f"no CT slices among its {len(case.images)} files {reasons[:2] or ''}")
    faults = [s.fault for s in series if s.fault]
    if faults:
        raise ImageError(faults[0])
    with Reader() as reader:
        volume, clipped, layout = read_series(slices, reader)
    if isinstance(layout, IrregularStack):
        raise GeometryError("its slices make no regular grid")
    record = {
        "format": "dicom",
        "orientation": layout.orientation,
        "slices": len(slices),
        "faults": [f"{len(series)} series UIDs in one scan"] if len(series) > 1 else [],
    }
    facts = describe_header(slices[0].description)
    return Scan(volume, clipped, record, facts, tuple(slices), layout)


def read_labels(
    case: FoundCase,
    labels: LabelSet,
    scan: Scan | None,
    *,
    sex: str | None,
    label_map: LabelMap | None = None,
) -> Labels:
    """Read whatever annotates a case.

    Args:
        case: its files.
        labels: what they mean.
        scan: the CT; None where there are labels alone.
        sex: of the patient, `"F"`, `"M"` or None: some labels are a structure in one sex only.
        label_map: what the ids of a combined map of the release mean, where it does not say so.

    Raises:
        LabelError: If a value or a name is not known, or nothing is annotated.
        ImageError, GeometryError: If a file cannot be read, or masks differ in grid.
    """
    layout = case.layout
    if layout.folder:
        return _of_folder(case, label_map)
    if layout.masks:
        return _of_masks(case, labels, sex)
    if layout.slices:
        return _of_slices(case, labels, scan, sex)
    volume = read_label_map(case.labels[0])
    return of_map(volume, labels, name=case.labels[0].name, sex=sex)


def of_map(volume: Volume, labels: LabelSet, *, name: str, sex: str | None = None) -> Labels:
    """Masks of a label map.

    Args:
        volume: (i, j, k) uint8 or uint16; taken over.
        labels: what its values mean.
        name: of the file, for messages.
        sex: of the patient.

    Raises:
        LabelError: If a value means nothing; each is named with its number of voxels.
    """
    coded = CodedMasks(volume.array)
    present = [v for v in coded.occurring if v]
    unknown = [v for v in present if v not in labels.ids and v > labels.unlisted]
    if unknown:
        counts = ", ".join(
            f"{v} ({int(np.count_nonzero(volume.array == v))} voxels)" for v in unknown[:8]
        )
        raise LabelError(
            f"{name} holds values that this dataset does not use: {counts}; it uses "
            f"{', '.join(map(str, sorted(labels.ids)))}. A damaged file, or another version of it"
        )
    result = Labels(coded, volume.geometry, faults=list(volume.faults))
    sets = {v: _parts(labels.ids[v], sex) if v in labels.ids else () for v in present}
    coded.sets = [frozenset(sets.get(v, ())) for v in range(max([0, *present]) + 1)]
    coded.annotated = set(labels.annotated).union(*coded.sets)
    for value, meaning in labels.ids.items():
        parts = _parts(meaning, sex)
        if not parts and value in present:
            result.unmapped.append(f"{value} {meaning.name}")
        for part in parts:
            if part in coded.annotated:
                result.made_of.setdefault(part, []).append(f"{value} {meaning.name}")
    listed = [v for v in present if v not in labels.ids]
    result.unmapped += [f"label {v}" for v in listed]
    return result


def _parts(meaning: Meaning, sex: str | None) -> tuple[str, ...]:
    """Structures and bases that a label's voxels belong to, containers included."""
    if meaning.sex and meaning.sex != sex:
        return ()
    inside = (c for s in meaning.structures for c in containers(s))
    return tuple(dict.fromkeys((*meaning.parts, *inside)))


def _of_masks(case: FoundCase, labels: LabelSet, sex: str | None) -> Labels:
    """One mask a structure; a structure of several masks needs all of them."""
    files = dict(zip(case.names, case.labels, strict=True))
    known = {name: _meaning(name, labels) for name in files}
    lacking = _lacking(labels, files)
    result: Labels | None = None
    for name, path in files.items():
        meaning = known[name]
        parts = [p for p in _parts(meaning, sex) if p not in lacking] if meaning else []
        if meaning is None or not parts:
            continue
        mask = _named(name, partial(read_mask, path)).reoriented()
        if result is None:
            result = Labels(CodedMasks.empty(mask.geometry.shape), mask.geometry)
        if not mask.geometry.same_grid(result.geometry):
            raise GeometryError(
                f"mask {name} lies on {mask.geometry.describe()}, the others on "
                f"{result.geometry.describe()}; they are of different scans"
            )
        for part in parts:
            result.coded.add(part, mask.array)
            result.made_of.setdefault(part, []).append(name)
        result.faults += [f"mask {name}: {fault}" for fault in mask.faults]
    if result is None:
        raise LabelError(f"none of its masks is one of the 28 structures ({_few(list(files))})")
    result.unmapped = sorted(n for n, m in known.items() if m is None or not m.parts)
    result.faults += [f"{s} is left out: {why}" for s, why in lacking.items()]
    return result


def _meaning(name: str, labels: LabelSet) -> Meaning | None:
    if name in labels.masks:
        return labels.masks[name]
    structure = find_structure(name)
    return Meaning(name, (structure,)) if structure else None


def _lacking(labels: LabelSet, files: Mapping[str, Path]) -> dict[str, str]:
    """Structures of which not every mask is there, with what is missing."""
    lacking: dict[str, str] = {}
    for structure in labels.structures:
        parts = [n for n, m in labels.masks.items() if structure in m.structures]
        missing = [n for n in parts if n not in files and not labels.masks[n].optional]
        if missing and any(n in files for n in parts):
            lacking[structure] = f"{_few(missing)} is missing"
    return lacking


def _of_folder(case: FoundCase, label_map: LabelMap | None) -> Labels:
    """The labels of a case's folder in the release's layout, its own masks first."""
    first = case.labels[0].parent
    folder = first.parent if first.name == SEGMENTATIONS else first
    held = labels_in(folder, label_map=label_map)
    if held is None:
        raise LabelError(f"{folder.name}: no mask of one of the 28 structures")
    geometry = held.geometry
    grid = geometry.reoriented()
    coded = CodedMasks.empty(grid.shape)
    for structure in held.structures():
        mask = held.mask(structure)
        if mask is not None:
            coded.add(structure, Volume(mask, geometry).reoriented().array)
    used = {s: [p.name] for s, p in held.mask_paths.items()}
    faults = list(dict.fromkeys(held.faults))
    return Labels(coded, grid, used, _unmapped_files(case), faults)


def _unmapped_files(case: FoundCase) -> list[str]:
    names = {path.name for path in case.labels if path.parent.name == SEGMENTATIONS}
    return sorted(name for name in names if not find_structure(name))


def _of_slices(case: FoundCase, labels: LabelSet, scan: Scan | None, sex: str | None) -> Labels:
    """PNG masks, one a slice, in the order of the file names of slices and of masks."""
    from PIL import Image

    if scan is None or scan.layout is None or isinstance(scan.layout, IrregularStack):
        raise LabelError("PNG masks say nothing of where they lie; the DICOM slices are needed")
    pictures = sorted(case.labels, key=lambda p: natural_order(p.name))
    if len(pictures) != len(scan.slices):
        raise LabelError(
            f"{len(pictures)} PNG masks for {len(scan.slices)} slices; was it copied whole?"
        )
    placed = StandardArray(scan.layout.geometry, np.uint8)
    odd: set[int] = set()
    for k, index in enumerate(scan.layout.order):
        with Image.open(pictures[index]) as picture:
            values = np.asarray(picture.convert("L"))
        plane = placed.plane(k)
        if values.shape != plane.shape:
            raise LabelError(f"a PNG mask has {values.shape} pixels, its slice {plane.shape}")
        odd.update(set(np.unique(values).tolist()) - {0, 255})
        np.greater(values, _PNG_INSIDE, out=plane, casting="unsafe")
    volume = Volume(placed.volume.array, placed.volume.geometry)
    one = LabelSet({1: next(iter(labels.ids.values()))}, annotated=labels.annotated)
    found = of_map(volume, one, name="the PNG masks", sex=sex)
    if odd:
        found.faults.append(f"PNG masks are not black and white: {_few(sorted(odd))} occur too")
    return found


def _named(name: str, read: Callable[[], Volume]) -> Volume:
    try:
        return read()
    except PantskitError as error:
        raise type(error)(f"mask {name}: {error}") from None


def _few(names: list[Any]) -> str:
    return ", ".join(map(str, names[:6])) + (", ..." if len(names) > 6 else "")
