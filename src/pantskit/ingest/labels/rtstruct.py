"""RT structure sets: closed contours on slices of a CT, filled into masks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.errors import ImageError, LabelError, PantskitError
from pantskit.core.geometry import SAME_GRID_TOLERANCE_MM
from pantskit.core.labels import LabelMap, Mask
from pantskit.ingest.dicom.geometry import POSITION_TOLERANCE_MM
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels.casemasks import CaseMasks
from pantskit.ingest.labels.contours import Points, fill
from pantskit.ingest.labels.planes import Planes, Scan
from pantskit.ingest.labels.references import read_object, references_of, require_own_scan
from pantskit.ingest.labels.segment_names import Described, codes_of

_CONTOUR_DATA = 0x30060050
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_OPEN = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])

# A drawn contour has some hundreds of corners; a structure set, at most some millions.
_MOST_POINTS = 20_000_000


@dataclass
class Roi:
    """A region of interest.

    Attributes:
        described: its number, name and codes.
        contours: (n, 3) RAS mm corners of each closed contour.
        drawn_on: SOPInstanceUIDs that its contours name.
        left: contours that bound nothing, by what they are.
    """

    described: Described
    contours: list[Points] = field(default_factory=list)
    drawn_on: set[str] = field(default_factory=set)
    left: Counter[str] = field(default_factory=Counter)


def read_structure_set(
    file: SourceFile, scan: Scan, label_map: LabelMap | None, reader: Reader
) -> CaseMasks:
    """The masks of an RT structure set, on the slices of its CT.

    A voxel is in a structure when its centre is inside an odd number of the closed contours
    of its ROI on that slice, or on one of them. An ROI without contours says nothing: it is
    listed, and not annotated unless the label map calls its structure annotated.

    Args:
        file: the object.
        scan: the CT that it must be of.
        label_map: what its ROI numbers mean; None for what names and codes say.
        reader: opens it.

    Raises:
        ImageError: If it is damaged.
        LabelError: If it is another CT's, a contour lies between slices, contours skip slices,
            or no ROI is one of the 28 structures.
    """
    try:
        dataset = read_object(file, reader)
        rois = _rois(dataset)
        drawn_on = set().union(*(roi.drawn_on for roi in rois))
        faults = require_own_scan(
            references_of(dataset), scan, what="structure set", drawn_on=drawn_on
        )
        found = _masks(rois, scan, label_map)
    except PantskitError:
        raise
    # Damaged sequences raise nearly anything, with header text in the message.
    except Exception as error:
        raise ImageError(f"a damaged structure set ({type(error).__name__})") from None
    found.faults = faults + found.faults
    return found


def _rois(dataset: Dataset) -> list[Roi]:
    """All regions of interest, with their closed contours."""
    kinds = {
        item.get("ReferencedROINumber"): codes_of(
            list(item.get("RTROIIdentificationCodeSequence") or [])
        )
        for item in dataset.get("RTROIObservationsSequence") or []
    }
    rois: dict[int, Roi] = {}
    for item in dataset.get("StructureSetROISequence") or []:
        number = int(item.ROINumber)
        if number in rois:
            raise LabelError(f"ROI {number} is described twice")
        name = str(item.get("ROIName") or "")
        rois[number] = Roi(Described("ROI", number, name, kinds.get(number, ())))
    points = 0
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        if number not in rois:
            raise LabelError(f"contours belong to ROI {number}, which nothing describes")
        for contour in item.get("ContourSequence") or []:
            points += _add_contour(rois[number], contour)
            if points > _MOST_POINTS:
                raise ImageError(f"a structure set of more than {_MOST_POINTS} points")
    return list(rois.values())


def _add_contour(roi: Roi, item: Dataset) -> int:
    """Read one contour; the number of its points."""
    for image in item.get("ContourImageSequence") or []:
        roi.drawn_on.add(str(image.get("ReferencedSOPInstanceUID") or ""))
    roi.drawn_on.discard("")
    kind = str(item.get("ContourGeometricType") or "").upper()
    if kind in _OPEN:
        roi.left["open or a point"] += 1
        return 0
    if kind not in _CLOSED:
        raise ImageError(
            f"ROI {roi.described.number}: a contour that is neither closed, open nor a point; "
            "it is damaged, export it again"
        )
    points = _points(item, f"{roi.described.kind} {roi.described.number}")
    if len(points) < 3:
        roi.left["of fewer than three points"] += 1
    else:
        roi.contours.append(points)
    return len(points)


def _points(item: Dataset, what: str) -> Points:
    """(n, 3) RAS mm.

    Raises:
        ImageError: If they are not the finite triples that the header counts.
    """
    element = item.get_item(_CONTOUR_DATA)
    damaged = ImageError(f"{what}: a contour whose points are damaged; export it again")
    if element is None:
        raise damaged
    value = element.value
    try:
        # As bytes: pydicom would make an object of every number.
        texts = (value or b"").split(b"\\") if isinstance(element, RawDataElement) else value
        numbers = np.array(texts, dtype=np.float64)
    except (TypeError, ValueError):
        raise damaged from None
    count = item.get("NumberOfContourPoints")
    whole = numbers.ndim == 1 and numbers.size % 3 == 0 and np.isfinite(numbers).all()
    if not whole or (count is not None and int(count) != numbers.size // 3):
        raise damaged
    if numbers.size and np.abs(numbers).max() > 1e5:
        raise damaged
    return np.asarray(numbers.reshape(-1, 3) * _LPS_TO_RAS)


def _masks(rois: Sequence[Roi], scan: Scan, label_map: LabelMap | None) -> CaseMasks:
    found = CaseMasks(CodedMasks.empty(scan.planes.size), scan.geometry, bounded=True)
    for roi in rois:
        for why, count in roi.left.items():
            found.faults.append(f"ROI {roi.described.number}: {count} contours {why}, left out")
        structures = roi.described.structures(label_map)
        if not structures:
            found.unmapped.append(roi.described.shown)
            continue
        mask, faults = _filled(roi, scan.planes)
        found.faults += faults
        for structure in structures:
            if roi.contours or (label_map and structure in label_map.annotated):
                found.add(f"ROI {roi.described.number}", structure, mask)
    if not found.coded.annotated:
        raise LabelError(
            f"none of the {len(rois)} ROIs with contours is one of the 28 structures; say what "
            "they are with --label-map"
        )
    return found


def _filled(roi: Roi, planes: Planes) -> tuple[Mask, list[str]]:
    """(i, j, k) mask of a region, and what is odd about it.

    Raises:
        LabelError: If a contour lies on no slice, or contours leave out slices as a rule.
    """
    what = f"ROI {roi.described.number}"
    mask: Mask = np.zeros(planes.size, np.bool_, order="F")
    by_slice: dict[int, list[Points]] = defaultdict(list)
    for contour in roi.contours:
        slices, distance = planes.nearest(contour)
        if distance.max() > POSITION_TOLERANCE_MM or np.ptp(slices):
            raise LabelError(
                f"{what}: a contour lies {distance.max():.2f} mm off the CT's slices (at most "
                f"{POSITION_TOLERANCE_MM} mm is let pass); was it drawn on another series?"
            )
        by_slice[int(slices[0])].append(planes.pixels(contour, int(slices[0])))
    if not roi.contours:
        return mask, [f"{what} has no closed contour"]
    faults = _require_no_skipped(sorted(by_slice), what)
    on_path = SAME_GRID_TOLERANCE_MM / np.linalg.norm(planes.steps, axis=1)
    holes = twice = 0
    for k, contours in by_slice.items():
        once = {contour.tobytes(): contour for contour in contours}
        twice += len(contours) - len(once)
        try:
            filled, inner = fill(
                list(once.values()), planes.shape, (float(on_path[0]), float(on_path[1]))
            )
        except LabelError as error:
            raise LabelError(f"{what}: {error}") from None
        mask[:, :, k] = filled
        holes += inner
    if twice:
        faults.append(f"{what}: {twice} contours are there twice and count once")
    if holes:
        faults.append(f"{what}: {holes} contours lie inside another and were taken for holes")
    if not mask.any():
        faults.append(f"{what}: its contours hold no voxel's centre")
    return mask, faults


def _require_no_skipped(slices: Sequence[int], what: str) -> list[str]:
    """Refuse a region drawn on every second or third slice only: between them it is not empty."""
    steps = np.diff(slices)
    if steps.size and np.median(steps) > 1:
        raise LabelError(
            f"{what}: drawn on {len(slices)} slices, with {int(np.median(steps)) - 1} left out "
            "between them as a rule; interpolate the contours where they were drawn"
        )
    gaps = int(np.sum(steps[steps > 1] - 1))
    return [f"{what}: {gaps} slices between its contours have none"] if gaps else []
