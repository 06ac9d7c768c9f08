"""What is read of a DICOM file before its pixels: geometry, pixel format, and who it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Any

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from pantskit.core.errors import ImageError
from pantskit.ingest.dicom.cutting import PIXEL_DATA
from pantskit.ingest.dicom.elements import Converter, Elements, HeaderMemory, read_elements
from pantskit.ingest.dicom.enhanced import frame_attributes
from pantskit.ingest.dicom.values import (
    integer_of,
    number_of,
    numbers_of,
    padding_of,
    text_of,
    words_of,
)
from pantskit.ingest.discovery.sources import SourceFile
from pantskit.ingest.privacy.identifiers import Census, Identifiers

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR: an index of other files
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")

# Attributes that a record or the metadata table may be made from (facts/describe.py); no other
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

_CONVERTERS: dict[Converter, str] = {
    text_of: "SOPClassUID MediaStorageSOPClassUID TransferSyntaxUID Modality SeriesInstanceUID "
    "StudyInstanceUID SOPInstanceUID RescaleType PhotometricInterpretation "
    "LossyImageCompression FrameOfReferenceUID AcquisitionNumber AcquisitionDateTime "
    "AcquisitionTime " + " ".join(DESCRIPTIVE),
    number_of: "RescaleSlope RescaleIntercept GantryDetectorTilt",
    numbers_of: "PixelSpacing ImageOrientationPatient ImagePositionPatient",
    words_of: "ImageType ConvolutionKernel",
    integer_of: "Rows Columns InstanceNumber NumberOfFrames BitsAllocated BitsStored HighBit "
    "PixelRepresentation SamplesPerPixel",
    padding_of: "PixelPaddingValue PixelPaddingRangeLimit",
    bool: "ModalityLUTSequence",
}
_WANTED = {
    int(Tag(keyword)): (keyword, converter)
    for converter, keywords in _CONVERTERS.items()
    for keyword in keywords.split()
}


@dataclass(frozen=True)
class PixelFormat:
    """Where an object has its pixels, and what their bits mean.

    Attributes:
        offset: byte at which the value of PixelData begins; in a deflated object, after inflating.
        length: bytes of that value; None where it is compressed, in fragments.
        allocated, stored: bits of a value, and how many of them count.
        signed: whether values are two's complement.
        samples: values of a pixel.
        big_endian: whether the high byte comes first.
        padding: header values of PixelPaddingValue and PixelPaddingRangeLimit.
        frames: images in the object.
    """

    offset: int
    length: int | None
    allocated: int
    stored: int
    signed: bool
    samples: int
    big_endian: bool
    padding: tuple[int, ...]
    frames: int


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
        tilt: GantryDetectorTilt in degrees, which is recorded and never relied upon.
        fault: why its pixels cannot become Hounsfield units; "" if nothing says so.
        pixels: where they are and what their bits mean; None where the object has none.
        description: attributes of DESCRIPTIVE that are present, as text.
        identifiers: identifying values to the attribute they came from, for the leak scan.
        census: how many elements the object has, for the audit.
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
    tilt: float | None = None
    fault: str = ""
    pixels: PixelFormat | None = None
    census: Census = field(default_factory=Census)

    @property
    def stem(self) -> str:
        """Name of the folder the file lies in."""
        return self.file.folder.name


def read_header(
    stream: IO[bytes], file: SourceFile, known: HeaderMemory
) -> tuple[ImageHeader, ...]:
    """Read everything before the pixels.

    Args:
        stream: the object, with its preamble.
        file: where it is.
        known: what elements of headers read before mean; added to.

    Returns:
        One header a slice: one for an object that is one image, one a frame for enhanced CT.

    Raises:
        ImageError: If the header cannot be parsed, or does not describe each of its frames; the
            message quotes none of it.
    """
    try:
        elements = read_elements(stream, _WANTED, known, ENHANCED_CT.__contains__)
        header = _image_header(elements, file)
        if header.sop_class not in ENHANCED_CT:
            return (header,)
        assert elements.dataset is not None
        return _frames(header, elements.dataset)
    except InvalidDicomError:
        raise ImageError("not a DICOM file") from None
    except ImageError:
        raise
    # A damaged header raises nearly anything inside pydicom, with header text in the message.
    except Exception as error:
        raise ImageError(f"damaged DICOM header ({type(error).__name__})") from None


def _frames(header: ImageHeader, dataset: Dataset) -> tuple[ImageHeader, ...]:
    frames = []
    for attributes in frame_attributes(dataset, header.frames):
        described = {**header.description, **attributes.pop("description", {})}
        frames.append(replace(header, description=described, **attributes))
    return tuple(frames)


def _image_header(elements: Elements, file: SourceFile) -> ImageHeader:
    values = elements.values
    sop_class = values.get("SOPClassUID") or values.get("MediaStorageSOPClassUID")
    if not sop_class:
        # Were it skipped as unknown, a damaged slice would be lost without a word.
        raise ImageError("damaged DICOM header (no SOP class)")
    date, time = values.get("AcquisitionDate", ""), values.get("AcquisitionTime", "")
    return ImageHeader(
        file=file,
        sop_class=sop_class,
        modality=values.get("Modality", ""),
        image_type=tuple(v.upper() for v in values.get("ImageType", ())),
        transfer_syntax=values.get("TransferSyntaxUID", ""),
        series_uid=values.get("SeriesInstanceUID", ""),
        study_uid=values.get("StudyInstanceUID", ""),
        sop_uid=values.get("SOPInstanceUID", ""),
        rows=values.get("Rows", 0),
        columns=values.get("Columns", 0),
        pixel_spacing=_of_length(values.get("PixelSpacing"), 2),
        orientation=_of_length(values.get("ImageOrientationPatient"), 6),
        position=_of_length(values.get("ImagePositionPatient"), 3),
        instance=values.get("InstanceNumber"),
        slope=values.get("RescaleSlope"),
        intercept=values.get("RescaleIntercept"),
        frames=values.get("NumberOfFrames") or 1,
        rescale_type=values.get("RescaleType", "").upper(),
        photometric=values.get("PhotometricInterpretation", ""),
        bits_allocated=values.get("BitsAllocated", 0),
        lossy=values.get("LossyImageCompression") == "01",
        description={k: values[k] for k in DESCRIPTIVE if k in values},
        identifiers=elements.identifiers,
        kernel="\\".join(values.get("ConvolutionKernel", ())),
        frame_of_reference=values.get("FrameOfReferenceUID", ""),
        acquisition=values.get("AcquisitionNumber", ""),
        acquired=values.get("AcquisitionDateTime") or (date + time if date else ""),
        tilt=values.get("GantryDetectorTilt"),
        fault=_fault(elements),
        pixels=_pixel_format(elements),
        census=elements.census,
    )


def _of_length(values: tuple[float, ...] | None, length: int) -> tuple[float, ...] | None:
    return values if values is not None and len(values) == length else None


def _fault(elements: Elements) -> str:
    """Why pixels cannot become Hounsfield units, by the header alone."""
    if elements.pixels and elements.pixels.tag != PIXEL_DATA:
        return "pixels are floating-point numbers, which no CT image has: they are a derived map"
    if elements.values.get("ModalityLUTSequence"):
        return (
            "a look-up table (ModalityLUTSequence) stands where slope and intercept are expected; "
            "convert the series to one with a linear rescale"
        )
    return _open_bits(elements.values) if elements.pixels else ""


def _open_bits(values: Mapping[str, Any]) -> str:
    """Why the bits of a pixel may be read in more than one way; "" if they may not."""
    stored, high = values.get("BitsStored"), values.get("HighBit")
    if stored is None or values.get("PixelRepresentation") not in (0, 1):
        return (
            "the header does not say how many bits a pixel has, or whether it can be negative; "
            "export the series again, complete"
        )
    if high is not None and high != stored - 1:
        return f"pixels end at bit {high} and have {stored} bits: which bits they are is open"
    return ""


def _pixel_format(elements: Elements) -> PixelFormat | None:
    values, where = elements.values, elements.pixels
    if where is None or where.tag != PIXEL_DATA:
        return None
    allocated = values.get("BitsAllocated", 0)
    ends = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    return PixelFormat(
        offset=where.offset,
        length=where.length,
        allocated=allocated,
        stored=values.get("BitsStored", allocated),
        signed=values.get("PixelRepresentation") == 1,
        samples=values.get("SamplesPerPixel", 1),
        big_endian=elements.big_endian,
        padding=tuple(values[k] for k in ends if k in values) if ends[0] in values else (),
        frames=values.get("NumberOfFrames") or 1,
    )
