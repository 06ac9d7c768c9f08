"""DICOM annotations of a series made by hand: a binary segmentation and a structure set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

Masks = Mapping[str, NDArray[np.bool_]]


def segmentation(images: Sequence[FileDataset], masks: Masks) -> FileDataset:
    """A BINARY segmentation (PS3.3 A.51); its segments may overlap.

    Args:
        images: the series, in the order of the masks' slices.
        masks: (slice, row, column) by segment label; slices without a voxel have no frame.
    """
    first = images[0]
    made = _object(first, SegmentationStorage, "SEG")
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.Rows, made.Columns = first.Rows, first.Columns
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 1
    made.HighBit = made.PixelRepresentation = 0
    made.SegmentationType, made.LossyImageCompression = "BINARY", "00"
    made.ReferencedSeriesSequence = [
        item(
            SeriesInstanceUID=first.SeriesInstanceUID,
            ReferencedInstanceSequence=[_reference(image) for image in images],
        )
    ]
    made.SegmentSequence = [
        item(
            SegmentNumber=number,
            SegmentLabel=label,
            SegmentAlgorithmType="MANUAL",
            SegmentedPropertyCategoryCodeSequence=[_code("123037004", "Anatomical Structure")],
            SegmentedPropertyTypeCodeSequence=[_code("0", label)],
        )
        for number, label in enumerate(masks, 1)
    ]
    made.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=first.PixelSpacing, SliceThickness=1)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=first.ImageOrientationPatient)],
        )
    ]
    frames, pixels = [], []
    for number, mask in enumerate(masks.values(), 1):
        for k in np.flatnonzero(mask.any((1, 2))):
            frames.append(
                item(
                    FrameContentSequence=[item(DimensionIndexValues=[number, int(k) + 1])],
                    PlanePositionSequence=[
                        item(ImagePositionPatient=images[k].ImagePositionPatient)
                    ],
                    SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
                    DerivationImageSequence=[item(SourceImageSequence=[_reference(images[k])])],
                )
            )
            pixels.append(mask[k])
    made.PerFrameFunctionalGroupsSequence = frames
    made.NumberOfFrames = len(frames)
    packed = np.packbits(np.array(pixels).reshape(-1), bitorder="little").tobytes()
    made.PixelData = packed + b"\0" * (len(packed) % 2)
    made["PixelData"].VR = "OB"
    return made


def structure_set(
    images: Sequence[FileDataset], contours: Mapping[str, Sequence[tuple[int, Any]]]
) -> FileDataset:
    """A structure set (PS3.3 A.19).

    Args:
        images: the series.
        contours: by structure, (slice, (n, 2) column and row of the corners) each.
    """
    first = images[0]
    made = _object(first, RTStructureSetStorage, "RTSTRUCT")
    made.StructureSetLabel = "made"
    series = item(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[_reference(image) for image in images],
    )
    made.ReferencedFrameOfReferenceSequence = [
        item(
            FrameOfReferenceUID=first.FrameOfReferenceUID,
            RTReferencedStudySequence=[
                item(
                    ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
                    ReferencedSOPInstanceUID=first.StudyInstanceUID,
                    RTReferencedSeriesSequence=[series],
                )
            ],
        )
    ]
    made.StructureSetROISequence = [
        item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID)
        for n, name in enumerate(contours, 1)
    ]
    made.ROIContourSequence = [
        item(
            ReferencedROINumber=n,
            ContourSequence=[
                item(
                    ContourImageSequence=[_reference(images[k])],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(corners),
                    ContourData=_places(images[k], np.asarray(corners, float)),
                )
                for k, corners in drawn
            ],
        )
        for n, drawn in enumerate(contours.values(), 1)
    ]
    return made


def _places(image: Dataset, corners: NDArray[np.float64]) -> list[float]:
    cosines = np.array(image.ImageOrientationPatient, float)
    rows, columns = map(float, image.PixelSpacing)
    places = (
        np.array(image.ImagePositionPatient, float)
        + corners[:, :1] * columns * cosines[:3]
        + corners[:, 1:] * rows * cosines[3:]
    )
    return [round(float(v), 6) for v in places.reshape(-1)]


def item(**values: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def _object(first: Dataset, storage: str, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = storage, ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.Modality = storage, modality
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID, made.SeriesNumber = generate_uid(), 900
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "FrameOfReferenceUID"):
        if keyword in first:
            setattr(made, keyword, first[keyword].value)
    return made


def _reference(image: Dataset) -> Dataset:
    return item(
        ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID
    )


def _code(value: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
