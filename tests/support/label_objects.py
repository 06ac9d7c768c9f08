"""DICOM segmentations and structure sets of known content, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

# What highdicom asks of the images that a segmentation is made from.
SOURCE = {
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.77",
    "PatientSex": "",
    "PatientAge": "",
    "AccessionNumber": "",
    "StudyTime": "",
    "ReferringPhysicianName": "",
    "StudyID": "",
    "Manufacturer": "none",
    "PositionReferenceIndicator": "",
    "SliceThickness": 2.5,
}
ORGAN = Code("123037004", "SCT", "Anatomical Structure")
TISSUE = Code("85756007", "SCT", "Tissue")


def segment(
    number: int,
    label: str,
    kind: Code = TISSUE,
    *,
    region: Code | None = None,
    side: Code | None = None,
) -> highdicom.seg.SegmentDescription:
    """One segment; `side` modifies the region where there is one, else the kind."""
    made = highdicom.seg.SegmentDescription(
        number,
        label,
        ORGAN,
        kind,
        highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        anatomic_regions=[region] if region else None,
    )
    if side:
        item = (
            made.AnatomicRegionSequence[0] if region else made.SegmentedPropertyTypeCodeSequence[0]
        )
        name = "AnatomicRegion" if region else "SegmentedPropertyType"
        keyword = f"{name}Modifier{'' if region else 'Code'}Sequence"
        setattr(item, keyword, [highdicom.sr.CodedConcept.from_code(side)])
    return made


def segmentation(
    images: Sequence[FileDataset],
    masks: np.ndarray,
    segments: Sequence[Any],
    *,
    kind: str = "BINARY",
    **rest: Any,
) -> Dataset:
    """A segmentation of some images.

    Args:
        images: the slices it is of.
        masks: (slices, rows, columns, segments), or (slices, rows, columns) labels of a LABELMAP.
        segments: from `segment`.
        kind: `"BINARY"`, `"FRACTIONAL"` (masks are shares of 1) or `"LABELMAP"`.
        rest: for highdicom.
    """
    return highdicom.seg.Segmentation(
        list(images),
        masks,
        kind,
        list(segments),
        generate_uid(),
        9,
        generate_uid(),
        1,
        "none",
        "none",
        "1",
        "1",
        **rest,
    )


def structure_set(
    images: Sequence[FileDataset],
    rois: Mapping[str, Sequence[tuple[int, np.ndarray]]],
    *,
    kinds: Mapping[str, str] | None = None,
) -> FileDataset:
    """A structure set.

    Args:
        images: the slices it is of.
        rois: name to contours: index of the image, and (n, 3) LPS mm.
        kinds: name to ContourGeometricType where that is not CLOSED_PLANAR.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    made.StudyInstanceUID = images[0].StudyInstanceUID
    made.PatientID, made.PatientName = images[0].PatientID, images[0].PatientName
    series = Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ContourImageSequence = [_image(image) for image in images]
    study = Dataset()
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), 1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = images[0].FrameOfReferenceUID
        made.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = []
        for index, points in contours:
            contour = Dataset()
            contour.ContourImageSequence = [_image(images[index])]
            contour.ContourGeometricType = (kinds or {}).get(name, "CLOSED_PLANAR")
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.6f}" for value in np.asarray(points).ravel()]
            drawn.ContourSequence.append(contour)
        made.ROIContourSequence.append(drawn)
    return made


def save(made: Dataset, path: Path) -> Path:
    """Write an object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def _image(image: FileDataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return item
