"""DICOM segmentations: each segment a mask of its own, whatever others cover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.errors import GeometryError, ImageError, LabelError, PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LabelMap, Mask
from pantskit.ingest.dicom.geometry import DIRECTION_TOLERANCE, POSITION_TOLERANCE_MM
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels.casemasks import CaseMasks
from pantskit.ingest.labels.planes import Planes, Scan
from pantskit.ingest.labels.references import read_object, references_of, require_own_scan
from pantskit.ingest.labels.segment_names import Described, described_segment

# A voxel of a fractional segment is in it from this share of the maximum on.
FRACTION_INSIDE = 0.5

# Of a grid made from frames alone: a scan of the whole body has some 4000 slices.
_MOST_SLICES = 10_000
_MOST_VOXELS = 1 << 32


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmentation object, its pixels not yet decoded.

    Attributes:
        dataset: the object.
        kind: `"BINARY"`, `"FRACTIONAL"` or `"LABELMAP"`.
        segments: number to description.
        owners: (frames,) segment of each frame; 0 for each of a label map.
        planes: where each frame is.
    """

    dataset: Dataset
    kind: str
    segments: dict[int, Described]
    owners: NDArray[np.int64]
    planes: Planes

    def frame(self, index: int) -> NDArray[Any]:
        """(rows, columns) of one frame: bool where it is in the segment; labels of a label map."""
        columns, rows = self.planes.shape
        stored = _stored_frame(self.dataset, index, rows, columns)
        if self.kind == "FRACTIONAL":
            most = int(self.dataset.MaximumFractionalValue)
            return np.asarray(stored >= FRACTION_INSIDE * most) & (stored > 0)
        return stored if self.kind == "LABELMAP" else np.asarray(stored != 0)


def read_segmentation(
    file: SourceFile, scan: Scan, label_map: LabelMap | None, reader: Reader
) -> CaseMasks:
    """The masks of a DICOM segmentation of a CT.

    Frames that are left out are empty. Where all frames lie on slices of the CT, masks are on
    those slices; else on the grid that the frames themselves make.

    Args:
        file: the object.
        scan: the CT that it must be of.
        label_map: what its segment numbers mean; None for what names and codes say.
        reader: opens it.

    Raises:
        ImageError: If it is damaged, tiled, or does not hold what its header says.
        GeometryError: If its frames make no grid.
        LabelError: If it is another CT's, or no segment is one of the 28 structures.
    """
    try:
        segmentation = _parsed(read_object(file, reader))
        references = references_of(segmentation.dataset)
        faults = require_own_scan(references, scan, what="segmentation")
        found = _masks(segmentation, scan, label_map)
    except PantskitError:
        raise
    # Damaged sequences and pixels raise nearly anything, with header text in the message.
    except Exception as error:
        raise ImageError(f"a damaged segmentation ({type(error).__name__})") from None
    found.faults = faults + found.faults
    return found


def _parsed(dataset: Dataset) -> Segmentation:
    kind = str(dataset.get("SegmentationType") or "").upper()
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise ImageError("a segmentation that is neither binary, fractional nor a label map")
    if "TotalPixelMatrixColumns" in dataset:
        raise ImageError("a tiled segmentation, as of microscopy; not one of a CT")
    if kind == "FRACTIONAL" and int(dataset.get("MaximumFractionalValue") or 0) < 1:
        raise ImageError("a fractional segmentation without its maximum value")
    segments = {}
    for item in dataset.get("SegmentSequence") or []:
        described = described_segment(item)
        if described.number in segments:
            raise LabelError(f"segment {described.number} is described twice")
        segments[described.number] = described
    if kind == "LABELMAP":
        for background in (0, dataset.get("PixelPaddingValue")):
            segments.pop(background, None)
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    shared = (list(dataset.get("SharedFunctionalGroupsSequence") or []) or [Dataset()])[0]
    if len(frames) != int(dataset.get("NumberOfFrames") or 1) or not frames:
        raise ImageError(
            f"a segmentation of {int(dataset.get('NumberOfFrames') or 1)} frames that describes "
            f"{len(frames)}; it is damaged, export it again"
        )
    owners = np.array([_owner(frame, shared, kind) for frame in frames], np.int64)
    unknown = sorted(set(owners.tolist()) - set(segments))
    if unknown and kind != "LABELMAP":
        raise LabelError(f"frames belong to segments {unknown[:8]}, which nothing describes")
    planes = _planes(dataset, frames, shared)
    _require_pixels(dataset, len(frames), planes)
    return Segmentation(dataset, kind, segments, owners, planes)


def _owner(frame: Dataset, shared: Dataset, kind: str) -> int:
    if kind == "LABELMAP":
        return 0
    item = _group(frame, shared, "SegmentIdentificationSequence")
    number = item.get("ReferencedSegmentNumber")
    if not isinstance(number, int):
        raise ImageError("a frame of a segmentation without the number of its segment")
    return number


def _group(frame: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """A functional group of a frame, its own or the one that all share."""
    for place in (frame, shared):
        items = place.get(keyword)
        if items:
            found: Dataset = items[0]
            return found
    return Dataset()


def _planes(dataset: Dataset, frames: Sequence[Dataset], shared: Dataset) -> Planes:
    """Where each frame is.

    Raises:
        GeometryError: If one does not say, or they differ in orientation or pixel spacing.
    """
    positions, orientations, spacings = [], [], []
    for frame in frames:
        place = _group(frame, shared, "PlanePositionSequence").get("ImagePositionPatient")
        turn = _group(frame, shared, "PlaneOrientationSequence").get("ImageOrientationPatient")
        spacing = _group(frame, shared, "PixelMeasuresSequence").get("PixelSpacing")
        if not (place and turn and spacing and len(place) == 3 and len(spacing) == 2):
            raise GeometryError("a frame of a segmentation does not say where it is in the patient")
        positions.append([float(v) for v in place])
        orientations.append([float(v) for v in turn])
        spacings.append([float(v) for v in spacing])
    numbers = np.concatenate([np.array(positions), np.array(orientations), np.array(spacings)], 1)
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e5 or min(spacings[0]) <= 0:
        raise GeometryError("a segmentation whose positions or spacings are no plausible numbers")
    if np.ptp(numbers[:, 3:], axis=0).max() > DIRECTION_TOLERANCE:
        raise GeometryError("frames of a segmentation differ in orientation or pixel spacing")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows < 1 or columns < 1:
        raise ImageError("a segmentation without rows or columns")
    return Planes.at(positions, orientations[0], spacings[0], rows=rows, columns=columns)


def _require_pixels(dataset: Dataset, frames: int, planes: Planes) -> None:
    """Refuse pixels that are not as many as the header says, before any array is made."""
    bits = int(dataset.get("BitsAllocated") or 0)
    if bits not in (1, 8, 16) or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise ImageError(f"a segmentation of {bits} bits a pixel; 1, 8 or 16 are expected")
    if "PixelData" not in dataset:
        raise ImageError("a segmentation without pixels")
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian and bits > 8:
        raise ImageError("a segmentation stored with the high byte first; export it again")
    expected = (frames * planes.shape[0] * planes.shape[1] * bits + 7) // 8
    if not expected <= len(dataset.PixelData) <= expected + 1:
        raise ImageError(
            f"a segmentation with {len(dataset.PixelData)} bytes of pixels, {expected} expected; "
            "it is damaged, export it again"
        )


def _stored_frame(dataset: Dataset, index: int, rows: int, columns: int) -> NDArray[Any]:
    """(rows, columns) of one frame as stored."""
    size, bits = rows * columns, int(dataset.BitsAllocated)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        decoded, _ = get_decoder(syntax).as_array(dataset, index=index, raw=True)
        if decoded.shape != (rows, columns):
            raise ImageError(f"a frame decodes to {decoded.shape}, expected {(rows, columns)}")
        return np.asarray(decoded)
    if bits > 1:
        dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
        flat = np.frombuffer(dataset.PixelData, dtype, size, index * size * dtype.itemsize)
    else:  # frames follow one another without a gap between their bits
        first, last = index * size, (index + 1) * size
        packed = np.frombuffer(dataset.PixelData, np.uint8)[first // 8 : (last + 7) // 8]
        flat = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]
    return flat.reshape(rows, columns)


def _masks(segmentation: Segmentation, scan: Scan, label_map: LabelMap | None) -> CaseMasks:
    named = {n: s.structures(label_map) for n, s in segmentation.segments.items()}
    known = {n: structures for n, structures in named.items() if structures}
    unmapped = [segmentation.segments[n].shown for n, structures in named.items() if not structures]
    if not known:
        raise LabelError(
            f"none of the {len(named)} segments is one of the 28 structures; say what they are "
            "with --label-map"
        )
    slices = scan.planes.same_slices(segmentation.planes)
    geometry, size = scan.geometry, scan.planes.size
    if slices is None:
        own, slices = _own_grid(segmentation.planes)
        geometry, size = own, own.shape
    found = CaseMasks(CodedMasks.empty(size), geometry, bounded=True, unmapped=unmapped)
    if segmentation.kind == "FRACTIONAL":
        found.faults.append(
            f"fractional segmentation: inside from {FRACTION_INSIDE:g} of the maximum on"
        )
    for number, mask in _segment_masks(segmentation, list(known), slices, size):
        for structure in known[number]:
            found.add(f"segment {number}", structure, mask)
    return found


def _segment_masks(
    segmentation: Segmentation,
    numbers: Sequence[int],
    slices: NDArray[np.int64],
    size: tuple[int, int, int],
) -> Iterator[tuple[int, Mask]]:
    """(i, j, k) mask of each segment, one at a time."""
    if segmentation.kind == "LABELMAP":
        labels = _label_array(segmentation, slices, size)
        yield from ((number, labels == number) for number in numbers)
        return
    for number in numbers:
        mask: Mask = np.zeros(size, np.bool_, order="F")
        frames = np.flatnonzero(segmentation.owners == number).tolist()
        _require_one_each(slices[frames], f"segment {number}")
        for index in frames:
            mask[:, :, slices[index]] = segmentation.frame(index).T
        yield number, mask


def _label_array(
    segmentation: Segmentation, slices: NDArray[np.int64], size: tuple[int, int, int]
) -> NDArray[np.uint16]:
    _require_one_each(slices, "the label map")
    labels: NDArray[np.uint16] = np.zeros(size, np.uint16, order="F")
    for index, k in enumerate(slices.tolist()):
        labels[:, :, k] = segmentation.frame(index).T
    padding = segmentation.dataset.get("PixelPaddingValue")
    background = {0, int(padding)} if isinstance(padding, int) else {0}
    unknown = set(np.unique(labels).tolist()) - set(segmentation.segments) - background
    if unknown:
        raise LabelError(f"labels {sorted(unknown)[:8]} are segments that nothing describes")
    return labels


def _require_one_each(slices: NDArray[np.int64], what: str) -> None:
    if len(np.unique(slices)) < len(slices):
        raise LabelError(f"{what} has two frames at one place; it holds several times or stacks")


def _own_grid(planes: Planes) -> tuple[Geometry, NDArray[np.int64]]:
    """A regular grid through frames of which some may be left out, and the k of each.

    Raises:
        GeometryError: If there is none, or one frame alone does not tell its distance.
    """
    along = planes.origins @ planes.normal
    places = np.unique(np.round(along, 4))
    steps = np.diff(places)
    steps = steps[steps > POSITION_TOLERANCE_MM]
    if not steps.size:
        raise GeometryError(
            "the segmentation has one slice, and it lies on none of the CT's; is it another CT's?"
        )
    spacing = float(steps.min())
    count = round(float(places[-1] - places[0]) / spacing) + 1
    if count > _MOST_SLICES or count * planes.shape[0] * planes.shape[1] > _MOST_VOXELS:
        raise GeometryError(f"frames of a segmentation are spread over {count} slices")
    slices = np.rint((along - places[0]) / spacing).astype(np.int64)
    spacing = float((places[-1] - places[0]) / max(count - 1, 1))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = planes.steps
    affine[:3, 2] = planes.normal * spacing
    first = int(np.argmin(along))
    affine[:3, 3] = planes.origins[first]
    geometry = Geometry((*planes.shape, count), affine)
    index = np.column_stack([np.zeros((len(slices), 2)), slices])
    off = np.linalg.norm(geometry.to_world(index) - planes.origins, axis=1).max()
    if off > POSITION_TOLERANCE_MM:
        raise GeometryError(
            f"frames of the segmentation lie on none of the CT's slices and up to {off:.2f} mm off "
            "any regular grid of their own"
        )
    return geometry, slices
