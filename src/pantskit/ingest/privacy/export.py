"""A de-identified DICOM series beside a case: new objects, made of what a CT image needs.

De-identification by construction: an object is made with the attributes written here and no
other. Numbers come out as numbers; words only from facts (facts/describe.py) or from lists of
terms of the standard; UIDs and dates by the key (deidentify.py). Of the source object the coded
pixels are kept byte by byte. Enhanced (multi-frame) CT comes out as one CT image a frame.

It follows the Basic Application Confidentiality Profile of DICOM PS3.15 Annex E with the options
named in `METHOD_CODES`: codes of PS3.16 CID 7050.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, ExplicitVRLittleEndian

from pantskit import __version__
from pantskit.core.errors import ImageError, PantskitError, Skipped
from pantskit.core.files import atomic_folder
from pantskit.ingest.dicom.codestreams import image_only
from pantskit.ingest.dicom.headers import CT_IMAGE, ENHANCED_CT, ImageHeader
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.privacy.deidentify import Pseudonyms, Rules, shifted_date
from pantskit.ingest.privacy.identifiers import identifying_values
from pantskit.ingest.privacy.leaks import LeakScan, explain

METHOD = f"pantskit {__version__}: made anew from an allow-list"
METHOD_CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
_DATES_KEPT = "113107"
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate")

# Terms of the standard that may be repeated (PS3.3 C.7.3.1.1.2, C.7.6.1.1.5, C.8.2.1.1.1).
_PATIENT_POSITIONS = {"HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS"}
_LOSSY_METHODS = {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15"}
_IMAGE_TYPES = ({"ORIGINAL", "DERIVED"}, {"PRIMARY", "SECONDARY"}, {"AXIAL"})

# Names of reconstruction kernels of the makers: a letter or two and a number (Siemens, Toshiba),
# one letter (Philips), or one of these words (GE).
_KERNEL = re.compile(
    r"[A-Z][a-z]{0,2}\d{2,3}[a-z]{0,2}(?:\\\d)?|FC\d{1,2}|[A-Z]|Y[A-Z]|"
    r"STANDARD|SOFT|DETAIL|BONE|BONEPLUS|LUNG|CHEST|CHST|EDGE|ULTRA|STND|STD|SMOOTH|SHARP"
)


@dataclass
class _Export:
    """What the slices of one series share."""

    pseudonyms: Pseudonyms
    case_id: str
    patient_id: str
    facts: Mapping[str, Any]
    rules: Rules
    kernel: str | None
    repeated: set[str]
    days: int
    dates: frozenset[str]
    burned_in: set[str] = field(default_factory=set)


def export_series(
    slices: Sequence[ImageHeader],
    reader: Reader,
    folder: Path,
    *,
    pseudonyms: Pseudonyms,
    case_id: str,
    patient_id: str,
    facts: Mapping[str, Any],
    scan: LeakScan,
    rules: Rules | None = None,
) -> dict[str, Any]:
    """Write a CT series as de-identified DICOM, scanned for leaks before it is in its place.

    Args:
        slices: headers in the order of their places, as `Stack.order` has it; copies left out.
        reader: opens their files.
        folder: gets `0001.dcm` and so on; what it held before is replaced.
        pseudonyms: of the dataset's key.
        case_id, patient_id: pseudonyms.
        facts: from `describe_header`: sex, age_years, manufacturer, model, kvp,
            slice_thickness_mm.
        scan: for the values that must not come out; gets those that stand after the pixels too.
        rules: for tests of the scan; all hold.

    Returns:
        For the case's record: files, bytes, transfer_syntax, profile, dates, burned_in.

    Raises:
        Skipped: If an object is no CT image, or says that annotations are burned into it.
        ImageError: If pixels cannot be kept as they are.
        PantskitError: If the scan finds an identifying value. Nothing is left in any of these
            cases; what was in the folder before stays.
    """
    rules = rules or Rules()
    shared = _shared(slices, pseudonyms, case_id, patient_id, facts, rules)
    with atomic_folder(folder) as part:
        _write_slices(slices, reader, part, shared, scan)
        # A moved date can fall on another true one by chance; it is then no leak.
        scan.allow_dates(shared.dates)
        if shared.kernel:
            scan.allow_fact(shared.kernel)
        if leaks := scan.folder(part):
            raise PantskitError(f"{case_id}: {explain(leaks)} of its DICOM export")
        size = sum(path.stat().st_size for path in part.iterdir())
    syntaxes = sorted({_written_syntax(s.transfer_syntax) for s in slices})
    return {
        "files": len(slices),
        "bytes": size,
        "transfer_syntax": [UID(s).name for s in syntaxes],
        "profile": [f"{code} {meaning}" for code, meaning in _codes(shared).items()],
        "dates": "moved" if shared.dates else "removed",
        "burned_in": "no, says the source" if shared.burned_in == {"NO"} else "not told",
    }


def known_kernel(text: str) -> str | None:
    """The reconstruction kernel where it is named as makers name them, else None."""
    return text if _KERNEL.fullmatch(text) else None


def _shared(
    slices: Sequence[ImageHeader],
    pseudonyms: Pseudonyms,
    case_id: str,
    patient_id: str,
    facts: Mapping[str, Any],
    rules: Rules,
) -> _Export:
    for header in slices:
        if header.sop_class not in (CT_IMAGE, *ENHANCED_CT):
            raise Skipped(f"{case_id}: not a CT image: it is not exported as DICOM")
    uids = Counter((s.sop_uid, s.frame) for s in slices)
    repeated = {uid for (uid, _), count in uids.items() if count > 1 or not uid}
    kernels = {s.kernel for s in slices}
    kernel = known_kernel(kernels.pop()) if len(kernels) == 1 else None
    days = pseudonyms.shift_days(patient_id)
    told = (shifted_date(s.description.get(d), days) for s in slices for d in _DATES)
    dates = frozenset(date for date in told if date)
    return _Export(pseudonyms, case_id, patient_id, facts, rules, kernel, repeated, days, dates)


def _write_slices(
    slices: Sequence[ImageHeader], reader: Reader, part: Path, shared: _Export, scan: LeakScan
) -> None:
    source: Dataset = Dataset()
    opened: SourceFile | None = None
    for k, header in enumerate(slices):
        if header.file != opened:  # the frames of an enhanced object share it
            with reader.read(header.file) as stream:
                source = pydicom.dcmread(stream)
            opened = header.file
            for values in _after_pixels(source):
                scan.add(values)
        made = _slice(header, source, k, shared)
        name = f"{k + 1:04d}.dcm" if shared.rules.names else header.file.name
        with (part / name).open("wb") as file:
            made.save_as(file, enforce_file_format=True, overwrite=True)
            file.flush()
            os.fsync(file.fileno())


def _after_pixels(source: Dataset) -> tuple[dict[str, str], ...]:
    """Identifying values behind the pixels, where headers are not read."""
    behind = Dataset()
    for tag in list(source.keys()):
        # A delimiter too many (group FFFE) has no value.
        if 0x7FE00010 < tag < 0xFFFE0000:
            behind[tag] = source.get_item(tag)
    return identifying_values(behind) if behind else ()


def _slice(header: ImageHeader, source: Dataset, k: int, shared: _Export) -> FileDataset:
    burned_in = str(source.get("BurnedInAnnotation", "")).strip().upper()
    shared.burned_in.add(burned_in)
    if burned_in == "YES" and shared.rules.frames:
        raise Skipped(
            f"{shared.case_id}: the source says that annotations are burned into the pixels: it "
            "is not exported as DICOM"
        )
    rules = shared.rules
    made = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    if not rules.elements:
        for tag in list(source.keys()):
            made[tag] = source[tag]
    _patient(made, source, shared)
    _study(made, header, source, k, shared)
    _equipment(made, source, shared)
    _image(made, header, source, k)
    _pixels(made, header, source, rules)
    if burned_in == "NO":
        made.BurnedInAnnotation = "NO"
    _meta(made, header, source, rules)
    return made


def _patient(made: Dataset, source: Dataset, shared: _Export) -> None:
    facts, rules = shared.facts, shared.rules
    made.SpecificCharacterSet = "ISO_IR 192"
    if rules.patients:
        made.PatientName = made.PatientID = shared.patient_id
    else:
        made.PatientName, made.PatientID = source.get("PatientName"), source.get("PatientID")
        made.SpecificCharacterSet = source.get("SpecificCharacterSet", "ISO_IR 6")
    made.PatientBirthDate = "" if rules.dates else source.get("PatientBirthDate", "")
    made.PatientSex = facts.get("sex") or ""
    if facts.get("age_years") is not None:
        made.PatientAge = f"{int(facts['age_years']):03d}Y"
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = METHOD
    items = []
    for code, meaning in _codes(shared).items():
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", meaning
        items.append(item)
    made.DeidentificationMethodCodeSequence = items


def _codes(shared: _Export) -> dict[str, str]:
    return {c: m for c, m in METHOD_CODES.items() if c != _DATES_KEPT or shared.dates}


def _study(made: Dataset, header: ImageHeader, source: Dataset, k: int, shared: _Export) -> None:
    rules, told = shared.rules, header.description
    for keyword in _DATES:
        date = told.get(keyword)
        if rules.dates:
            date = shifted_date(date, shared.days)
        if date or keyword == "StudyDate":
            setattr(made, keyword, date or "")
    made.StudyTime = "" if rules.dates else source.get("StudyTime", "")
    made.AccessionNumber = made.ReferringPhysicianName = made.StudyID = ""
    made.LongitudinalTemporalInformationModified = "MODIFIED" if shared.dates else "REMOVED"
    of_slice = f"{shared.case_id}/{k}"
    if header.sop_uid and header.sop_uid not in shared.repeated:
        of_slice = header.sop_uid + ("" if header.frame is None else f"/{header.frame}")
    for keyword, uid in (
        ("StudyInstanceUID", header.study_uid or f"{shared.case_id}/study"),
        ("SeriesInstanceUID", header.series_uid or f"{shared.case_id}/series"),
        ("FrameOfReferenceUID", header.frame_of_reference or f"{shared.case_id}/frame"),
        ("SOPInstanceUID", of_slice),
    ):
        kept = not rules.uids and uid[:1].isdigit()
        setattr(made, keyword, uid if kept else shared.pseudonyms.uid(uid))
    made.SOPClassUID = CT_IMAGE
    made.Modality = "CT"
    made.SeriesNumber, made.InstanceNumber, made.AcquisitionNumber = 1, k + 1, None
    made.PositionReferenceIndicator = ""


def _equipment(made: Dataset, source: Dataset, shared: _Export) -> None:
    facts = shared.facts
    if shared.rules.facts:
        made.Manufacturer = facts.get("manufacturer") or ""
        if facts.get("model"):
            made.ManufacturerModelName = facts["model"]
        if shared.kernel:
            made.ConvolutionKernel = shared.kernel
    else:
        for keyword in ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel"):
            if keyword in source:
                made[keyword] = source[keyword]
    made.KVP = _decimal(facts.get("kvp"))
    made.SliceThickness = _decimal(facts.get("slice_thickness_mm"))
    position = str(source.get("PatientPosition", "")).strip()
    if position in _PATIENT_POSITIONS:
        made.PatientPosition = position


def _image(made: Dataset, header: ImageHeader, source: Dataset, k: int) -> None:
    assert header.position and header.orientation and header.pixel_spacing
    made.ImageType = [
        value if value in terms else sorted(terms)[0]
        for value, terms in zip((*header.image_type, "", "", "")[:3], _IMAGE_TYPES, strict=True)
    ]
    made.ImagePositionPatient = list(map(_decimal, header.position))
    made.ImageOrientationPatient = list(map(_decimal, header.orientation))
    made.PixelSpacing = list(map(_decimal, header.pixel_spacing))
    made.RescaleIntercept = _decimal(header.intercept)
    made.RescaleSlope = _decimal(header.slope)
    made.RescaleType = "HU"
    centres, widths = (_numbers(source.get(w)) for w in ("WindowCenter", "WindowWidth"))
    if centres and len(centres) == len(widths) and min(widths) >= 1:
        made.WindowCenter, made.WindowWidth = centres, widths
    if header.lossy:
        made.LossyImageCompression = "01"
        if ratios := _numbers(source.get("LossyImageCompressionRatio")):
            made.LossyImageCompressionRatio = ratios
        method = source.get("LossyImageCompressionMethod")
        if isinstance(method, str) and method in _LOSSY_METHODS:
            made.LossyImageCompressionMethod = method


def _decimal(value: Any) -> Any:
    """A number as a decimal string of at most 16 characters."""
    return None if value is None else pydicom.valuerep.DSfloat(float(value), auto_format=True)


def _numbers(value: Any) -> list[Any]:
    many = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
    with suppress(TypeError, ValueError):
        return [_decimal(v) for v in many if v is not None and np.isfinite(float(v))]
    return []


def _pixels(made: Dataset, header: ImageHeader, source: Dataset, rules: Rules) -> None:
    where = header.pixels
    if where is None or where.allocated != 16 or where.samples != 1:
        raise ImageError("pixels are not of 16 bits, as those of a CT image are; not exported")
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = header.rows, header.columns
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, where.stored, where.stored - 1
    made.PixelRepresentation = int(where.signed)
    for keyword, value in zip(
        ("PixelPaddingValue", "PixelPaddingRangeLimit"), where.padding, strict=False
    ):
        made.add_new(keyword, "SS" if where.signed else "US", _in_sixteen_bits(value, where.signed))
    raw, size = source.PixelData, 2 * header.rows * header.columns
    if UID(header.transfer_syntax).is_encapsulated:
        frame = get_frame(raw, header.frame or 0, number_of_frames=where.frames)
        if rules.frames:
            frame = image_only(frame, header.transfer_syntax, header.columns, header.rows)
        made.PixelData = encapsulate([frame])
        made["PixelData"].is_undefined_length = True
        made["PixelData"].VR = "OB"
        return
    start = size * (header.frame or 0)
    values = np.frombuffer(raw, ">u2" if where.big_endian else "<u2", size // 2, start)
    made.PixelData = values.astype("<u2").tobytes()
    if not rules.frames:
        made.PixelData = raw
    made["PixelData"].VR = "OW"


def _in_sixteen_bits(value: int, signed: bool) -> int:
    value &= 0xFFFF
    return value - 0x10000 if signed and value >= 0x8000 else value


def _written_syntax(syntax: str) -> str:
    return str(syntax if UID(syntax).is_encapsulated else ExplicitVRLittleEndian)


def _meta(made: FileDataset, header: ImageHeader, source: Dataset, rules: Rules) -> None:
    meta = made.file_meta
    if not rules.meta:
        made.preamble = source.preamble
        meta.update(source.file_meta)
    meta.MediaStorageSOPClassUID = UID(CT_IMAGE)
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = UID(_written_syntax(header.transfer_syntax))
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = f"PANTSKIT {__version__}"[:16]
    made.set_original_encoding(False, True, "utf-8" if rules.patients else None)
