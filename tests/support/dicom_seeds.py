"""Small DICOM series of every kind, as bytes, for mutation: made here and cut from real ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from imagecodecs import htj2k_encode, ljpeg_encode
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

ROWS, COLUMNS, SLICES = 36, 32, 3  # the least that JPEG 2000 is made of
Seed = list[bytes]


def _series(uid: str, *, signed: bool = False) -> list[FileDataset]:
    """Three oblique slices of 12-bit noise around soft tissue, with a usual header."""
    rng = np.random.default_rng([ord(c) for c in uid])
    stored = rng.integers(0, 2048, (SLICES, ROWS, COLUMNS), dtype=np.uint16)
    angle = np.radians(10)
    row = np.array([1.0, 0.0, 0.0])
    column = np.array([0.0, np.cos(angle), np.sin(angle)])
    made = []
    for k in range(SLICES):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        one.SpecificCharacterSet = "ISO_IR 100"
        one.SOPClassUID, one.Modality = CTImageStorage, "CT"
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = f"{uid}.{k + 1}"
        one.StudyInstanceUID, one.SeriesInstanceUID = f"{uid}.8", f"{uid}.9"
        one.FrameOfReferenceUID = f"{uid}.7"
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.StudyDate = one.AcquisitionDate = "20140902"
        one.AcquisitionTime = "101112.5"
        one.Manufacturer, one.ManufacturerModelName = "SIEMENS", "Sensation 16"
        one.SeriesDescription, one.ConvolutionKernel = "Abdomen portal venous", "B30f"
        one.PatientName, one.PatientID = "Quellmann^Ludmilla", f"Q{uid[-8:]}"
        one.PatientBirthDate, one.PatientSex, one.PatientAge = "19500317", "F", "064Y"
        one.KVP, one.SliceThickness = "120", "2.5"
        one.SeriesNumber, one.AcquisitionNumber, one.InstanceNumber = 3, 1, k + 1
        position = np.array([-100.0, -120.0, 50.0]) + 2.5 * k * np.cross(row, column)
        one.ImagePositionPatient = [round(float(v), 9) for v in position]
        one.ImageOrientationPatient = [round(float(v), 12) for v in (*row, *column)]
        one.PixelSpacing = [0.75, 0.5]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.Rows, one.Columns = ROWS, COLUMNS
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
        one.PixelRepresentation = 0
        one.RescaleIntercept, one.RescaleSlope, one.RescaleType = -1024, 1, "HU"
        item = Dataset()
        item.RequestedProcedureID = "RP1"
        one.RequestAttributesSequence = [item]
        private = one.private_block(0x0029, "HOSPITAL 1.0", create=True)
        private.add_new(0x10, "LO", "a private word")
        values = stored[k]
        if signed:
            values = values.astype(np.int16) - np.int16(1024)
            one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 15, 1
            one.RescaleIntercept, one.PixelPaddingValue = 0, -2000
        one.PixelData = values.tobytes()
        one["PixelData"].VR = "OW"
        made.append(one)
    return made


def _bytes(image: FileDataset) -> bytes:
    stream = io.BytesIO()
    image.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _recoded(image: FileDataset, syntax: UID) -> bytes:
    """The same object in another transfer syntax."""
    pixels = image.pixel_array
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        image.compress(syntax, generate_instance_uid=False)
    elif syntax == JPEGLosslessSV1:
        _encapsulate(image, ljpeg_encode(pixels, bitspersample=16), syntax)
    elif syntax == HTJ2KLossless:
        _encapsulate(image, htj2k_encode(pixels, reversible=True), syntax)
    else:
        if syntax == ExplicitVRBigEndian:
            image.PixelData = pixels.byteswap().tobytes()
        image.file_meta.TransferSyntaxUID = syntax
        stream = io.BytesIO()
        pydicom.dcmwrite(
            stream,
            image,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
            force_encoding=True,
        )
        return stream.getvalue()
    return _bytes(image)


def _encapsulate(image: FileDataset, code: bytes, syntax: UID) -> None:
    image.PixelData = encapsulate([code])
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = syntax


def _enhanced(uid: str) -> FileDataset:
    """The three slices as one enhanced multi-frame object (PS3.3 A.38.1)."""
    parts = _series(uid)
    one = parts[0]
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    one.NumberOfFrames = SLICES
    one.PixelData = b"".join(part.PixelData for part in parts)
    one["PixelData"].VR = "OW"
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[0.75, 0.5], SliceThickness=2.5)]
    shared.PlaneOrientationSequence = [
        _item(ImageOrientationPatient=list(one.ImageOrientationPatient))
    ]
    shared.PixelValueTransformationSequence = [
        _item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")
    ]
    shared.CTImageFrameTypeSequence = [_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]
    one.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, part in enumerate(parts, 1):
        frame = Dataset()
        frame.PlanePositionSequence = [_item(ImagePositionPatient=list(part.ImagePositionPatient))]
        frame.FrameContentSequence = [
            _item(StackID="1", InStackPositionNumber=number, FrameAcquisitionNumber=1)
        ]
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = frames
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleIntercept",
        "RescaleSlope",
        "RescaleType",
        "AcquisitionNumber",
    ):
        delattr(one, keyword)
    one.VolumetricProperties, one.PresentationLUTShape = "VOLUME", "IDENTITY"
    return one


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg": JPEGLosslessSV1,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "htj2k": HTJ2KLossless,
}


def made_seeds() -> dict[str, Callable[[str], Seed]]:
    """Seeds that are made here, each a function of the root of its UIDs."""

    def recoded(syntax: UID) -> Callable[[str], Seed]:
        return lambda uid: [_recoded(one, syntax) for one in _series(uid)]

    seeds: dict[str, Callable[[str], Seed]] = {
        "plain": lambda uid: [_bytes(one) for one in _series(uid)],
        "signed": lambda uid: [_bytes(one) for one in _series(uid, signed=True)],
        "enhanced": lambda uid: [_bytes(_enhanced(uid))],
    }
    return seeds | {name: recoded(syntax) for name, syntax in SYNTAXES.items()}


REAL = {
    "philips": ("philips_head/S2010/I10", "philips_head/S2010/I20", "philips_head/S2010/I30"),
    "ge": tuple(f"missing_slice/IM-0001-000{n}-0001.dcm" for n in (7, 8, 9)),
    "siemens-tilt": tuple(f"tilt_untagged/IM-0001-000{n}.dcm" for n in (1, 2, 3)),
    "rt": ("rtstruct/ct_1.dcm", "rtstruct/ct_2.dcm"),
    "rtstruct": ("rtstruct/ct_1.dcm", "rtstruct/ct_2.dcm", "rtstruct/rt.dcm"),
    "seg": ("seg/ct_image.dcm", "seg/seg_image_ct_binary_overlap.dcm"),
    "real-enhanced": ("enhanced_ct/eCT_Supplemental.dcm",),
}


def real_seeds(data: Path) -> dict[str, Callable[[str], Seed]]:
    """Real series with their whole headers and a window of their pixels (40 x 36)."""
    return {
        name: _as_own([_window(data / "dicom" / file) for file in files])
        for name, files in REAL.items()
    }


def _window(path: Path) -> FileDataset:
    image = pydicom.dcmread(path)
    _defined_lengths(image)
    if "PixelData" not in image or image.SOPClassUID.name == "Segmentation Storage":
        return image
    whole: NDArray[Any] = image.pixel_array
    rows, columns = whole.shape[-2:]
    top, left = rows // 2 - 20, columns // 4  # crosses the skin: air and tissue
    image.Rows, image.Columns = 40, 36
    image.PixelData = np.ascontiguousarray(whole[..., top : top + 40, left : left + 36]).tobytes()
    image["PixelData"].VR = "OW"
    return image


def _defined_lengths(dataset: Dataset) -> None:
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = False
            for item in element.value:
                item.is_undefined_length_sequence_item = False
                _defined_lengths(item)


def _as_own(images: list[FileDataset]) -> Callable[[str], Seed]:
    """The images under UIDs of their own, so that a series can be used many times."""
    old = list(dict.fromkeys(str(image.SeriesInstanceUID) for image in images))
    numbers = [old.index(str(image.SeriesInstanceUID)) for image in images]

    def made(uid: str) -> Seed:
        seed = []
        for image, series in zip(images, numbers, strict=True):
            image.StudyInstanceUID, image.SeriesInstanceUID = f"{uid}.0", f"{uid}.{series + 1}"
            seed.append(_bytes(image))
        return seed

    return made
