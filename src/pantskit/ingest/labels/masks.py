"""Annotations of one case: read, named, united, and brought onto the CT's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.codedmasks import CodedMasks, Codes
from pantskit.core.crops import MaskCrop, read_mask_crop
from pantskit.core.errors import GeometryError, LabelError, PantskitError
from pantskit.core.geometry import Geometry, require_same_grid
from pantskit.core.labels import PANCREAS, STRUCTURES, LabelMap, Mask, find_structure
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelvolumes import as_label_map, as_mask, read_label_map
from pantskit.core.nrrd import NRRD_SUFFIXES, read_nrrd
from pantskit.core.slicer import is_segmentation, read_segments
from pantskit.core.volume import Volume, read_volume
from pantskit.ingest.dicom.geometry import IrregularStack
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.dicom.pixels import decode_slice
from pantskit.ingest.dicom.resample import resample_labels
from pantskit.ingest.dicom.stacks import Layout, read_mask_series
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels.casemasks import CaseMasks
from pantskit.ingest.labels.nearest import part_of, share_outside, take_nearest
from pantskit.ingest.labels.planes import Planes, Scan
from pantskit.ingest.labels.references import SEGMENTATIONS_STORAGE
from pantskit.ingest.labels.rtstruct import read_structure_set
from pantskit.ingest.labels.segment_names import Described, code
from pantskit.ingest.labels.segmentations import read_segmentation
from pantskit.ingest.labels.sources import LabelObject, LabelSource
from pantskit.ingest.privacy.own_words import shown_name

_PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail")

Placed = MaskCrop | Mask  # on a grid, or on the CT's own slices


def read_masks(
    source: LabelSource, label_map: LabelMap | None, reader: Reader, *, case_id: str, scan: Scan
) -> CaseMasks:
    """Read a case's annotations into masks of our structures.

    The pancreas is united with its members (its parts, duct and lesion), and made from head,
    body and tail where those are all there and it is not.

    Args:
        source: where they are.
        label_map: what ids of label maps, segments and ROIs mean; None for what files say.
        reader: opens the files.
        case_id: for messages.
        scan: the CT, in the source's own order of slices.

    Raises:
        LabelError: If no structure is among them, label values are outside the map, or an
            object is another CT's.
        ImageError, GeometryError: If a file cannot be read, or masks differ in grid.
    """
    if source.objects:
        found = _from_objects(source.objects, scan, label_map, reader, case_id)
    elif source.map_file is not None:
        with _on_disk(source.map_file, reader, "the label map") as path:
            found = _from_map(path, label_map, case_id)
    elif source.series:
        read = [(n, partial(_mask_series, s, scan, reader)) for n, s in source.series]
        found = _united(read, case_id)
    else:
        by_name = label_map is None
        read = [(n, partial(_mask_file, f, reader, by_name)) for n, f in source.masks]
        found = _united(read, case_id)
    _complete_pancreas(found)
    found.sources = {s: found.sources[s] for s in STRUCTURES if s in found.sources}
    return found


def _from_objects(
    objects: Sequence[LabelObject],
    scan: Scan,
    label_map: LabelMap | None,
    reader: Reader,
    case_id: str,
) -> CaseMasks:
    """All segmentations and structure sets of a CT together."""
    found: CaseMasks | None = None
    for item in objects:
        segments = item.header.sop_class in SEGMENTATIONS_STORAGE
        read = read_segmentation if segments else read_structure_set
        try:
            one = read(item.header.file, scan, label_map, reader)
        except PantskitError as error:
            raise type(error)(f"{case_id}: {error}") from None
        if found is None:
            found = one
            continue
        if found.geometry is not one.geometry:
            ct = scan.geometry
            if ct is None or found.geometry is None or one.geometry is None:
                raise GeometryError(
                    f"{case_id}: one annotation lies on the CT's slices and another does not"
                )
            onto_grid(found, ct.reoriented(), case_id=case_id, resample=False)
            onto_grid(one, ct.reoriented(), case_id=case_id, resample=False)
        found.absorb(one, case_id=case_id)
    assert found is not None
    return found


def _from_map(path: Path, label_map: LabelMap | None, case_id: str) -> CaseMasks:
    if path.suffix.lower() in NRRD_SUFFIXES:
        if is_segmentation(path):
            return _from_segments(path, label_map, case_id)
        if label_map is None:
            raise LabelError(
                f"{case_id}: the label map names no segments; say what its ids mean with "
                "--label-map (a known name, a file, or 1=pancreas,2=pancreatic_lesion)"
            )
        used, volume = label_map, as_label_map(read_nrrd(path), str(path))
    else:
        used = CaseLabels(case_id, map_path=path, label_map=label_map).label_map_used()
        volume = read_label_map(path)
    coded = CodedMasks.from_label_map(volume.array, used, name=f"{case_id}: the label map")
    found = CaseMasks(coded, volume.geometry, faults=list(volume.faults))
    found.sources = {s: [str(i) for i in used.ids_of(s)] for s in coded.structures}
    unmapped = [v for v in coded.occurring if v and v not in used.ids]
    found.unmapped = [used.unmapped.get(v, f"label {v}") for v in unmapped]
    return found


def _from_segments(path: Path, label_map: LabelMap | None, case_id: str) -> CaseMasks:
    """A segmentation of 3D Slicer; a label map speaks of its segments' values."""
    segments = read_segments(path)
    found = CaseMasks(
        CodedMasks.empty(segments.geometry.shape),
        segments.geometry,
        bounded=True,
        faults=list(segments.faults),
    )
    for segment in segments.segments:
        # Category, type, its modifier, region, its modifier; a category is no structure.
        codes = [tuple(code(*c) for c in segment.codes[n : n + 1]) for n in range(5)]
        described = Described(
            "segment", segment.value, segment.name, codes[1], codes[3], codes[2] + codes[4]
        )
        structures = described.structures(label_map)
        if not structures:
            found.unmapped.append(described.shown)
            continue
        mask = segments.mask(segment)
        for structure in structures:
            found.add(f"segment {segment.value}", structure, mask)
    if not found.coded.annotated:
        raise LabelError(
            f"{case_id}: none of the {len(segments.segments)} segments is one of the 28 "
            "structures; say what they are with --label-map"
        )
    return found


def _united(masks: Sequence[tuple[str, Callable[[], Placed]]], case_id: str) -> CaseMasks:
    """Read the masks that have a place among the 28 and unite those of one structure."""
    named = [(find_structure(n), shown_name(n, i), read) for i, (n, read) in enumerate(masks, 1)]
    unmapped = [name for structure, name, _ in named if structure is None]
    found: CaseMasks | None = None
    for structure, name, read in named:
        if structure is None:
            continue
        try:
            placed = read()
        except PantskitError as error:
            raise type(error)(f"mask {name}: {error}") from None
        if isinstance(placed, MaskCrop):
            # Masks of one case may differ in axes and be one grid.
            part = placed.reoriented()
            mask, start, grid, shape = part.array, part.start, part.geometry, part.geometry.shape
        else:
            part, mask, start, grid, shape = None, placed, None, None, placed.shape
        if found is None:
            found = CaseMasks(CodedMasks.empty(shape), grid, unmapped=unmapped)
        if grid is not None and found.geometry is not None:
            what = f"{case_id}: mask {name} and the others"
            require_same_grid(grid, found.geometry, what=what)
        elif grid is not found.geometry:
            raise GeometryError(f"{case_id}: mask {name} is not on the slices of the others")
        found.add(name, structure, mask, start)
        found.faults += [f"mask {name}: {fault}" for fault in (part.faults if part else ())]
    if found is None:
        raise LabelError(
            f"{case_id}: none of the masks is one of the 28 structures "
            f"(found {', '.join(unmapped[:8])})"
        )
    return found


@contextmanager
def _on_disk(file: SourceFile, reader: Reader, what: str) -> Iterator[Path]:
    """A volume file on disk; errors call it `what` and not by its path."""
    with reader.local(file) as path:
        try:
            yield path
        except PantskitError as error:
            message = str(error).replace(str(path), what).replace(path.name, what)
            raise type(error)(message) from None


def _mask_file(file: SourceFile, reader: Reader, by_name: bool) -> Placed:
    """A mask's file; where a label map was given too, one that holds several values is refused."""
    with _on_disk(file, reader, "the file") as path:
        if path.suffix.lower() not in NRRD_SUFFIXES:
            if by_name:
                return read_mask_crop(path)
            image = read_volume(path)
            if not _is_mask(image):
                raise LabelError(
                    "holds several values and bears a structure's name, so that --label-map "
                    "does not speak of it; name a label map after its CT, or leave --label-map out"
                )
            volume = as_mask(image, str(path))
        elif not is_segmentation(path):
            volume = as_mask(read_nrrd(path), str(path))
        else:
            segments = read_segments(path)
            if len(segments.segments) != 1:
                raise LabelError(
                    f"{len(segments.segments)} segments in the file of one structure; name the "
                    "file after its CT instead"
                )
            mask = segments.mask(segments.segments[0])
            volume = Volume(mask, segments.geometry, segments.faults)
    return _whole(volume)


def _whole(volume: Volume) -> MaskCrop:
    return MaskCrop(volume.array, (0, 0, 0), volume.geometry, volume.faults)


def _is_mask(image: Volume) -> bool:
    """Whether an image has no more than two values."""
    low, high = image.array.min(), image.array.max()
    return not ((image.array > low) & (image.array < high)).any()


def _mask_series(slices: Sequence[ImageHeader], scan: Scan, reader: Reader) -> Placed:
    """A DICOM mask series, on the CT's own slices where those make no regular grid."""
    first = slices[0]
    if scan.geometry is None and first.orientation and first.pixel_spacing:
        planes = Planes.at(
            [s.position or (np.inf,) * 3 for s in slices],
            first.orientation,
            first.pixel_spacing,
            rows=first.rows,
            columns=first.columns,
        )
        order = scan.planes.same_slices(planes)
        if order is not None and sorted(order) == list(range(len(scan.planes.origins))):
            mask = np.zeros(scan.planes.size, np.bool_, order="F")
            for k, header in zip(order.tolist(), slices, strict=True):
                mask[:, :, k] = decode_slice(header, reader).pixels.T != 0
            return mask
    return _whole(read_mask_series(slices, reader))


def _complete_pancreas(found: CaseMasks) -> None:
    coded = found.coded
    members = [m for m in STRUCTURES[PANCREAS].members if m in coded.annotated]
    given = PANCREAS in coded.annotated
    if not given:
        if not all(part in coded.annotated for part in _PARTS):
            return
        found.faults.append("no mask of the whole pancreas; made from head, body and tail")
    grown = coded.unite(PANCREAS, members)
    if grown and given:
        found.faults.append(f"pancreas grew by {grown} voxels of its parts, duct or lesion")


def following(layout: Layout) -> Callable[[Codes], Codes] | None:
    """For `onto_grid`: codes on the slices of a CT taken to the grid it was resampled to.

    Args:
        layout: where the CT's slices are, as `read_series` returns it.

    Returns:
        A function of (i, j, k) codes in the source's order of slices; None for a CT whose slices
        are a regular grid.
    """
    if not isinstance(layout, IrregularStack):
        return None
    return lambda codes: resample_labels(codes.T, layout).array


def onto_grid(
    found: CaseMasks,
    ct: Geometry,
    *,
    case_id: str,
    resample: bool,
    follow: Callable[[Codes], Codes] | None = None,
) -> dict[str, Any]:
    """Bring masks to the CT's grid, by axis flips alone unless `resample` allows more.

    Args:
        found: the masks, changed in place.
        ct: the grid of the CT as it is written, in standard orientation.
        case_id: for messages.
        resample: take the nearest voxel where the grids differ.
        follow: for a CT resampled from slices that make no regular grid, from `following`.

    Returns:
        What the record says of a resampling, `{}` without one: grids `from` and `to`, voxels per
        structure `before` and `after`, and `outside`, the share of labelled voxels beyond the CT.

    Raises:
        GeometryError: If the grids differ and `resample` is off, or they do not overlap.
    """
    grid = found.geometry
    if grid is None:
        if follow is None:
            raise GeometryError(
                f"{case_id}: labels lie on slices that make no regular grid; resample the CT"
            )
        return _moved(found, ct, follow, "the CT's slices as they were sent", 0.0)
    before = grid
    flip = partial(_flipped, geometry=before)
    grid = grid.reoriented()
    part = part_of(grid, ct) if found.bounded else None
    if grid.same_grid(ct):
        found.coded = found.coded.mapped(flip)
    elif part is not None:
        found.coded = found.coded.mapped(lambda codes: _embedded(flip(codes), part, ct))
    else:
        if not resample:
            require_same_grid(
                grid,
                ct,
                what=f"{case_id}: label and CT",
                mend="Is it another scan's label? --resample-labels takes the nearest voxels.",
            )
        outside = share_outside(found.coded.codes, before, ct)
        record = _moved(
            found, ct, lambda codes: take_nearest(codes, before, ct), grid.describe(), outside
        )
        if any(record["before"].values()) and not any(record["after"].values()):
            raise GeometryError(
                f"{case_id}: label and CT do not overlap; is it another scan's label?"
            )
        corners = grid.to_voxel(ct.corners)
        if ((corners < -0.5) | (corners > np.array(grid.shape) - 0.5)).any():
            found.faults.append("labels do not cover the whole CT; outside them nothing is marked")
        return record
    found.geometry = ct
    return {}


def _moved(
    found: CaseMasks, ct: Geometry, move: Callable[[Codes], Codes], origin: str, outside: float
) -> dict[str, Any]:
    before = found.coded.counts
    found.coded = found.coded.mapped(move)
    found.geometry = ct
    return {
        "from": origin,
        "to": ct.describe(),
        "before": before,
        "after": found.coded.counts,
        "outside": round(outside, 6),
    }


def _flipped(codes: Codes, geometry: Geometry) -> Codes:
    return Volume(codes, geometry).reoriented().array


def _embedded(codes: Codes, part: tuple[slice, slice, slice], ct: Geometry) -> Codes:
    whole = np.zeros(ct.shape, codes.dtype, order="F")
    whole[part] = codes
    return whole
