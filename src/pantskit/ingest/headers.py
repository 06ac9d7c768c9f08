"""What is read of a DICOM file before its pixels: geometry, pixel format, and who it is of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import pydicom
import pydicom.config
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from pantskit.core.errors import ImageError
from pantskit.ingest.leaks import Identifiers, Memory, identifying_values
from pantskit.ingest.sources import SourceFile

# Values outside the standard's rules are read as they are: what matters is judged here, and
# pydicom's warnings would quote them.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR: an index of other files
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")

# Attributes that a record or the metadata table may be made from (describe.py); no other
# attribute is kept past this module but for geometry, pixel format and the leak scan.
DESCRIPTIVE = (
    "Manufacturer",
    "ManufacturerModelName",
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "KVP",
    "SliceThickness",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ContrastBolusAgent",
    "AcquisitionProtocolDescription",
    "BodyPartExamined",
    "InstitutionName",
    "PatientID",
    "PatientName",
    "SeriesNumber",
)

_OTHERS = (
    "SOPClassUID MediaStorageSOPClassUID TransferSyntaxUID Modality ImageType SeriesInstanceUID "
    "StudyInstanceUID SOPInstanceUID Rows Columns PixelSpacing ImageOrientationPatient "
    "ImagePositionPatient InstanceNumber RescaleSlope RescaleIntercept RescaleType "
    "NumberOfFrames PhotometricInterpretation BitsAllocated LossyImageCompression "
    "ConvolutionKernel FrameOfReferenceUID AcquisitionNumber AcquisitionDateTime AcquisitionTime"
)
_TAGS = {k: Tag(k) for k in (*DESCRIPTIVE, *_OTHERS.split())}


@dataclass(frozen=True)
class ImageHeader:
    """One DICOM object that could be a slice, or one frame of a multi-frame object.

    Attributes:
        file: where it is.
        frame: index of the frame in its object; None where the object is one image.
        stack: what separates volumes inside one object (stack, temporal position); "" where the
            object is one image.
        sop_class, modality, image_type, transfer_syntax: as in the header, or "".
        series_uid, study_uid, sop_uid: as in the header, or "".
        rows, columns: pixels; 0 where absent.
        pixel_spacing, orientation, position: numbers of the header, None where absent or
            damaged.
        instance: InstanceNumber, or None.
        slope, intercept: of the rescale to HU, None where absent.
        frames: images that the header stands for: 1, or NumberOfFrames where nothing in the
            header tells where each is.
        rescale_type, photometric, bits_allocated, lossy: of the pixels.
        kernel: ConvolutionKernel.
        frame_of_reference: FrameOfReferenceUID.
        acquisition: AcquisitionNumber.
        acquired: AcquisitionDateTime, or date and time in one text; identifying.
        description: attributes of DESCRIPTIVE that are present, as text.
        identifiers: identifying values to the attribute they came from, for the leak scan.
    """

    file: SourceFile
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    transfer_syntax: str
    series_uid: str
    study_uid: str
    sop_uid: str
    rows: int
    columns: int
    pixel_spacing: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    instance: int | None
    slope: float | None
    intercept: float | None
    frames: int
    rescale_type: str
    photometric: str
    bits_allocated: int
    lossy: bool
    description: Mapping[str, str]
    identifiers: tuple[Identifiers, ...]
    frame: int | None = None
    stack: str = ""
    kernel: str = ""
    frame_of_reference: str = ""
    acquisition: str = ""
    acquired: str = ""

    @property
    def stem(self) -> str:
        """Name of the folder the file lies in."""
        return self.file.folder.name


def is_dicom(stream: IO[bytes]) -> bool:
    """Whether a stream has DICOM's mark after a preamble of 128 bytes; it is left at its start."""
    stream.seek(0)
    head = stream.read(132)
    stream.seek(0)
    return head[128:132] == b"DICM"


def looks_damaged(stream: IO[bytes]) -> bool:
    """Whether a stream is empty, or has DICOM's blank preamble and not the mark after it."""
    stream.seek(0)
    head = stream.read(132)
    return not head[:128].strip(b"\0") and head[128:] != b"DICM"


def read_header(stream: IO[bytes], file: SourceFile, known: Memory) -> tuple[ImageHeader, ...]:
    """Parse everything before the pixels.

    Returns:
        One header a slice: one for an object that is one image.

    Args:
        stream: the object, from its start.
        file: where it is.
        known: identifying values of headers read before; added to.

    Raises:
        ImageError: If the header cannot be parsed; the message quotes none of it.
    """
    try:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=False)
        return (_from_dataset(dataset, file, known),)
    except InvalidDicomError:
        raise ImageError("not a DICOM file") from None
    except ImageError:
        raise
    # A damaged header raises nearly anything inside pydicom, with header text in the message.
    except Exception as error:
        raise ImageError(f"damaged DICOM header ({type(error).__name__})") from None


def _from_dataset(dataset: Dataset, file: SourceFile, known: Memory) -> ImageHeader:
    identifiers = identifying_values(dataset, known)  # first: it leaves elements unconverted
    meta = getattr(dataset, "file_meta", Dataset())
    sop_class = _text(dataset, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")
    if not sop_class:
        # Were it skipped as unknown, a damaged slice would be lost without a word.
        raise ImageError("damaged DICOM header (no SOP class)")
    description = {k: text for k in DESCRIPTIVE if (text := _text(dataset, k))}
    return ImageHeader(
        file=file,
        sop_class=sop_class,
        modality=_text(dataset, "Modality"),
        image_type=tuple(str(v).upper() for v in _many(_value(dataset, "ImageType"))),
        transfer_syntax=_text(meta, "TransferSyntaxUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        rows=int(_number(dataset, "Rows") or 0),
        columns=int(_number(dataset, "Columns") or 0),
        pixel_spacing=_numbers(dataset, "PixelSpacing", 2),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        instance=_integer(_number(dataset, "InstanceNumber")),
        slope=_number(dataset, "RescaleSlope"),
        intercept=_number(dataset, "RescaleIntercept"),
        frames=int(_number(dataset, "NumberOfFrames") or 1),
        rescale_type=_text(dataset, "RescaleType").upper(),
        photometric=_text(dataset, "PhotometricInterpretation"),
        bits_allocated=int(_number(dataset, "BitsAllocated") or 0),
        lossy=_text(dataset, "LossyImageCompression") == "01",
        description=description,
        identifiers=identifiers,
        kernel=_joined(dataset, "ConvolutionKernel"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        acquisition=_text(dataset, "AcquisitionNumber"),
        acquired=_acquired(dataset),
    )


def _acquired(dataset: Dataset) -> str:
    date, time = _text(dataset, "AcquisitionDate"), _text(dataset, "AcquisitionTime")
    return _text(dataset, "AcquisitionDateTime") or (date + time if date else "")


def _joined(dataset: Dataset, keyword: str) -> str:
    return "\\".join(str(v).strip() for v in _many(_value(dataset, keyword)))


def _value(dataset: Dataset, keyword: str) -> Any:
    # By tag: looking a keyword up as an attribute costs pydicom four times as much.
    element = dataset.get(_TAGS[keyword])
    return None if element is None else element.value


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip().strip("\0")


def _many(value: Any) -> tuple[Any, ...]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        value = float(_value(dataset, keyword))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _integer(value: float | None) -> int | None:
    return None if value is None else int(value)


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    try:
        values = tuple(float(v) for v in _value(dataset, keyword))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None
