"""What a segmentation or structure set was drawn on, and whether that is the CT at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pydicom
from pydicom.dataset import Dataset

from pantskit.core.errors import ImageError, LabelError, PantskitError
from pantskit.ingest.dicom.elements import DEFLATED
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels.planes import Scan

SEGMENTATIONS_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURE_SET_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"

# Segmentations of 28 structures on 1000 slices are some 900 MB unpacked, structure sets of a
# whole body 100 MB; more is hostile or no such object.
MAX_OBJECT_BYTES = 1024**3

_REFERENCE_TAGS = [
    "SOPClassUID",
    "FrameOfReferenceUID",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence",
]


@dataclass(frozen=True)
class References:
    """UIDs that an object refers to.

    Attributes:
        series: SeriesInstanceUID to the SOPInstanceUIDs it names of it.
        frames: FrameOfReferenceUIDs.
    """

    series: Mapping[str, frozenset[str]] = field(default_factory=dict)
    frames: frozenset[str] = frozenset()

    @property
    def instances(self) -> frozenset[str]:
        """All SOPInstanceUIDs."""
        return frozenset().union(*self.series.values())


def is_label_object(sop_class: str) -> bool:
    """Whether a SOP class is a segmentation or a structure set."""
    return sop_class in SEGMENTATIONS_STORAGE or sop_class == STRUCTURE_SET_STORAGE


def read_references(file: SourceFile, reader: Reader) -> References:
    """What an object refers to, without reading its pixels or contours.

    Raises:
        ImageError: If it cannot be read; the message quotes none of it.
    """
    return references_of(read_object(file, reader, tags=_REFERENCE_TAGS))


def read_object(file: SourceFile, reader: Reader, *, tags: list[str] | None = None) -> Dataset:
    """A segmentation or structure set as pydicom reads it, values unconverted.

    Args:
        file: where it is.
        reader: opens it.
        tags: keywords to read, nothing of the pixels; None for everything.

    Raises:
        ImageError: If it is no DICOM, damaged, or larger than any real one.
    """
    try:
        with reader.read(file) as stream:
            size = stream.seek(0, 2)
            if size > MAX_OBJECT_BYTES:
                raise ImageError(f"{size} bytes; at most {MAX_OBJECT_BYTES} are read")
            stream.seek(0)
            if DEFLATED.encode() in stream.read(1024):
                # pydicom would inflate all of it, however large it becomes.
                raise ImageError("a deflated object; export it without that compression")
            stream.seek(0)
            return pydicom.dcmread(
                stream, stop_before_pixels=tags is not None, specific_tags=list(tags or []) or None
            )
    except PantskitError:
        raise
    # A damaged object raises nearly anything inside pydicom, with header text in the message.
    except Exception as error:
        raise ImageError(f"damaged DICOM object ({type(error).__name__})") from None


def references_of(dataset: Dataset) -> References:
    """What a segmentation or structure set refers to.

    Raises:
        ImageError: If its sequences are damaged.
    """
    try:
        frames = {str(dataset.get("FrameOfReferenceUID") or "")}
        series: dict[str, frozenset[str]] = {}
        for item in dataset.get("ReferencedSeriesSequence") or []:
            _add(series, item, "ReferencedInstanceSequence")
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
            frames.add(str(frame.get("FrameOfReferenceUID") or ""))
            for study in frame.get("RTReferencedStudySequence") or []:
                for item in study.get("RTReferencedSeriesSequence") or []:
                    _add(series, item, "ContourImageSequence")
        for roi in dataset.get("StructureSetROISequence") or []:
            frames.add(str(roi.get("ReferencedFrameOfReferenceUID") or ""))
    except Exception as error:  # as in read_object: what is damaged shows when it is looked at
        raise ImageError(f"damaged DICOM object ({type(error).__name__})") from None
    return References(series, frozenset(frames - {""}))


def _add(series: dict[str, frozenset[str]], item: Dataset, keyword: str) -> None:
    uid = str(item.get("SeriesInstanceUID") or "")
    named = {str(i.get("ReferencedSOPInstanceUID") or "") for i in item.get(keyword) or []}
    series[uid] = series.get(uid, frozenset()) | frozenset(named - {""})


def require_own_scan(
    references: References, scan: Scan, *, what: str, drawn_on: Iterable[str] = ()
) -> list[str]:
    """Refuse an object that was drawn on something else than this CT.

    Args:
        references: what it refers to.
        scan: the CT.
        what: `"segmentation"` or `"structure set"`, for messages.
        drawn_on: SOPInstanceUIDs that its contours name one by one.

    Returns:
        What is odd and harmless.

    Raises:
        LabelError: If it refers to another series, to slices that the CT does not have, or to
            nothing that tells whose it is.
    """
    if not scan.instances and not scan.series:
        return [f"the CT is no DICOM series: whose {what} this is was not checked by UIDs"]
    drawn = frozenset(drawn_on)
    own = [uids for uid, uids in references.series.items() if uid in scan.series or not uid]
    # Of a series UID that was changed in one of the two, the slices still tell.
    by_slices = [uids for uids in references.series.values() if uids & scan.instances]
    if references.series and not own and not by_slices:
        raise LabelError(f"the {what} refers to another series than this CT")
    named = drawn.union(*(own or by_slices))
    missing = named - scan.instances
    if missing:
        raise LabelError(
            f"the {what} refers to {len(missing)} of {len(named)} slices that the CT does not "
            "have: the CT is not whole or it is another one's; send both again"
        )
    if not references.frames or not scan.frames or references.frames & scan.frames:
        if references.series and not own:
            return [f"the {what} names another series, though slices of this CT"]
        if named or references.series or references.frames & scan.frames:
            return []
        raise LabelError(f"the {what} refers to nothing that tells whose it is")
    if drawn:
        # Some toolkits make up a frame of reference and name every slice rightly.
        return [f"the {what} names another frame of reference, though slices of this CT"]
    raise LabelError(f"the {what} lies in another frame of reference than this CT")
