"""Cases as hospitals deliver them: DICOM with all its identifiers, odd names, and masks beside.

    DIR/<site>/<patient>/<study>/<series>/<slice files, in no order>
    DIR/<site>/labels/<PatientID or PatientID_SeriesNumber>/<site's name>.nii.gz
    DIR/manifest.json    what is what, and every planted identifier

Beside each CT series lie what ingest has to skip: a localizer, and at some sites a secondary
capture with the name burned in and a dose report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset as DicomDataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from pantskit.core.files import write_json
from pantskit.core.labels import STRUCTURES
from pantskit.core.writing import write_volume
from pantskit.phantom.case import PhantomCase
from pantskit.phantom.identity import Identity, invent
from pantskit.phantom.scans import Scan
from pantskit.phantom.tissues import PHASES

RESCALE_INTERCEPT = -1024
MANIFEST = "manifest.json"

_PHASE_WORDS = {
    "northfield": ("ABD W/O CONTRAST", "ABD ARTERIAL", "ABD PORTAL VENOUS", "ABD DELAYED"),
    "suedstadt": ("Abdomen nativ", "Abdomen arteriell", "Abdomen portalvenös", "Abdomen Spätphase"),
    "harbour": ("non-contrast", "ART 35s", "PV 70s", "DELAYED 5min"),
}


def series_folder(scan: Scan, dicom: Path, identity: Identity) -> Path:
    """The folder of a scan's CT series."""
    study = f"study_{identity.values['StudyDate']}"
    return dicom / scan.site.name / identity.folder / study / f"S{identity.series_number:03d}"


def labels_folder(scan: Scan, dicom: Path, identity: Identity) -> Path:
    """The folder of a scan's masks."""
    return dicom / scan.site.name / "labels" / identity.labels_key


def delivered_paths(scan: Scan, dicom: Path) -> tuple[Path, ...]:
    """What must exist once a scan is delivered."""
    identity = invent(scan)
    return series_folder(scan, dicom, identity), labels_folder(scan, dicom, identity)


def deliver(case: PhantomCase, dicom: Path) -> dict[str, Any]:
    """Write one case as its hospital would.

    Args:
        case: the case.
        dicom: the folder of all deliveries.

    Returns:
        Its entry in the manifest.
    """
    scan, identity = case.scan, invent(case.scan)
    series = series_folder(scan, dicom, identity)
    series.mkdir(parents=True, exist_ok=True)
    _write_slices(case, identity, series)
    extras = _write_extras(case, identity, series.parent)
    labels = labels_folder(scan, dicom, identity)
    for structure in STRUCTURES:
        mask = case.ct.with_array(case.mask(structure)).reoriented(scan.site.mask_orientation)
        write_volume(labels / f"{scan.site.mask_names[structure]}.nii.gz", mask)
    return {
        "case_id": scan.case_id,
        "patient_id": scan.patient.patient_id,
        "site": scan.site.name,
        "phase": scan.phase,
        "has_tumor": case.anatomy.tumour is not None,
        "dicom_patient_id": identity.patient_id,
        "series_number": identity.series_number,
        "series_uid": identity.series_uid,
        "study_uid": identity.study_uid,
        "series_folder": str(series.relative_to(dicom)),
        "labels_folder": str(labels.relative_to(dicom)),
        "to_skip": [str(path.relative_to(dicom)) for path in extras],
        "shape": list(case.geometry.shape),
        "affine_ras": case.geometry.affine.tolist(),
        "identifiers": identity.values,
    }


def write_manifest(dicom: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Write DIR/manifest.json."""
    write_json(dicom / MANIFEST, {"intercept": RESCALE_INTERCEPT, "series": list(entries)})


def _write_slices(case: PhantomCase, identity: Identity, folder: Path) -> None:
    scan, geometry = case.scan, case.geometry
    to_lps = np.diag([-1.0, -1.0, 1.0])
    directions = to_lps @ geometry.affine[:3, :3] / np.array(geometry.spacing)
    header = _ct_header(case, identity)
    header.ImageOrientationPatient = _decimals([*directions[:, 0], *directions[:, 1]])
    header.PixelSpacing = _decimals([geometry.spacing[1], geometry.spacing[0]])
    stored = (case.ct.array - np.int16(RESCALE_INTERCEPT)).astype(np.uint16)
    count = geometry.shape[2]
    names = scan.rng(5).permutation(count) + 1  # file numbers do not follow the slices
    for k in range(count):
        position = to_lps @ geometry.to_world([0, 0, k])
        header.SOPInstanceUID = identity.uid("slice", k)
        header.InstanceNumber = k + 1
        header.ImagePositionPatient = _decimals(position)
        header.SliceLocation = _decimals([position[2]])[0]
        name = scan.site.file_name.format(n=int(names[k]), uid=header.SOPInstanceUID)
        _save(header, stored[:, :, k].T, folder / name, identity, scan)


def _decimals(values: Any) -> list[float]:
    """Decimal strings hold 16 characters."""
    return [round(float(v), 10) for v in values]


def _ct_header(case: PhantomCase, identity: Identity) -> FileDataset:
    scan = case.scan
    header = _header(scan, identity, CTImageStorage)
    words = _PHASE_WORDS.get(scan.site.name, _PHASE_WORDS["harbour"])
    header.Modality = "CT"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SeriesInstanceUID = identity.series_uid
    header.SeriesNumber = identity.series_number
    header.SeriesDescription = words[PHASES.index(scan.phase)]
    header.FrameOfReferenceUID = identity.frame_uid
    header.PatientPosition = "HFP" if scan.site.prone else "HFS"
    header.KVP = str(scan.site.kvp)
    header.SliceThickness = _decimals([case.geometry.spacing[2]])[0]
    header.ConvolutionKernel = "B30f"
    if scan.phase != "non_contrast":
        header.ContrastBolusAgent = "Iomeprol 350"
    header.RescaleIntercept = RESCALE_INTERCEPT
    header.RescaleSlope = 1
    header.RescaleType = "HU"
    header.BitsStored, header.HighBit = 12, 11
    return header


def _header(scan: Scan, identity: Identity, sop_class: UID) -> FileDataset:
    """What every object of a study says, identifiers included."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.SourceApplicationEntityTitle = identity.values["SourceApplicationEntityTitle"]
    preamble = identity.values["Preamble"].encode("ascii").ljust(128, b"\0")[:128]
    header = FileDataset("", {}, file_meta=meta, preamble=preamble)
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = sop_class
    no_header_place = ("SourceApplicationEntityTitle", "PrivateElement", "Preamble")
    for keyword, value in identity.values.items():
        if keyword not in no_header_place:
            setattr(header, keyword, value)
    for keyword in ("SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(header, keyword, identity.values["StudyDate"])
    for keyword in ("SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(header, keyword, identity.values["StudyTime"])
    header.StudyInstanceUID = identity.study_uid
    header.StudyDescription = "CT abdomen"
    header.BodyPartExamined = "ABDOMEN"
    header.PatientSex = scan.patient.sex
    header.PatientAge = f"{scan.patient.age_years + scan.visit:03d}Y"
    header.Manufacturer = scan.site.manufacturer
    header.ManufacturerModelName = scan.site.model
    private = header.private_block(0x0029, "PHANTOM HEALTH 1.0", create=True)
    private.add_new(0x10, "LO", identity.values["PrivateElement"])
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.PixelRepresentation = 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    return header


def _save(
    header: FileDataset,
    pixels: NDArray[np.uint16] | None,
    path: Path,
    identity: Identity,
    scan: Scan,
) -> None:
    """Write one object; the image's bytes are those of `pixels`, rows first."""
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if pixels is not None:
        header.Rows, header.Columns = pixels.shape
        if scan.site.transfer_syntax == "rle":
            header.compress(RLELossless, np.ascontiguousarray(pixels), generate_instance_uid=False)
        else:
            header.PixelData = np.ascontiguousarray(pixels).tobytes()
            header["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def _write_extras(case: PhantomCase, identity: Identity, study: Path) -> list[Path]:
    """A localizer; from the second site on a secondary capture and a dose report too."""
    scan = case.scan
    paths = [study / "S001" / "LOC0001.dcm"]
    _save(*_localizer(case, identity), paths[0], identity, scan)
    if scan.site.name != "northfield":
        paths.append(study / "S900" / "SC0001")
        _save(*_screenshot(case, identity), paths[-1], identity, scan)
    paths.append(study / "S999" / "SR000001.dcm")
    _save(_dose_report(case, identity), None, paths[-1], identity, scan)
    return paths


def _localizer(case: PhantomCase, identity: Identity) -> tuple[FileDataset, NDArray[np.uint16]]:
    """A frontal scout: the mean through the body, head at the top."""
    geometry = case.geometry
    header = _ct_header(case, identity)
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    header.SeriesInstanceUID = identity.uid("localizer series")
    header.SOPInstanceUID = identity.uid("localizer")
    header.SeriesNumber, header.InstanceNumber = 1, 1
    header.SeriesDescription = "Topogram"
    frontal = case.ct.array.mean(axis=1)
    if geometry.affine[2, 2] > 0:
        frontal = frontal[:, ::-1]
    world = geometry.to_world([0, geometry.shape[1] / 2, 0])
    top = max(geometry.affine[2, 3], geometry.to_world([0, 0, geometry.shape[2] - 1])[2])
    header.ImagePositionPatient = _decimals([-world[0], -world[1], top])
    header.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    header.PixelSpacing = _decimals([geometry.spacing[2], geometry.spacing[0]])
    return header, (frontal.T - RESCALE_INTERCEPT).astype(np.uint16)


def _screenshot(case: PhantomCase, identity: Identity) -> tuple[FileDataset, NDArray[np.uint16]]:
    """A key image with the patient's name burned in."""
    from PIL import Image, ImageDraw

    middle = case.ct.array[:, :, case.geometry.shape[2] // 2].T
    grey = np.clip((middle.astype(np.float32) + 160) * (255 / 400), 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey)
    ImageDraw.Draw(picture).text((1, 1), identity.values["PatientName"], fill=255)
    header = _header(case.scan, identity, SecondaryCaptureImageStorage)
    header.Modality = "CT"
    header.ConversionType = "WSD"
    header.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    header.BurnedInAnnotation = "YES"
    header.SeriesInstanceUID = identity.uid("capture series")
    header.SOPInstanceUID = identity.uid("capture")
    header.SeriesNumber, header.InstanceNumber = 900, 1
    header.SeriesDescription = "Key images"
    return header, np.asarray(picture).astype(np.uint16)


def _dose_report(case: PhantomCase, identity: Identity) -> FileDataset:
    header = _header(case.scan, identity, XRayRadiationDoseSRStorage)
    header.Modality = "SR"
    header.SeriesInstanceUID = identity.uid("dose series")
    header.SOPInstanceUID = identity.uid("dose")
    header.SeriesNumber, header.InstanceNumber = 999, 1
    header.SeriesDescription = "Dose report"
    header.CompletionFlag, header.VerificationFlag = "COMPLETE", "UNVERIFIED"
    header.ValueType = "CONTAINER"
    header.ContinuityOfContent = "SEPARATE"
    header.ConceptNameCodeSequence = [_code("113701", "X-Ray Radiation Dose Report")]
    person = DicomDataset()
    person.RelationshipType = "HAS OBS CONTEXT"
    person.ValueType = "PNAME"
    person.ConceptNameCodeSequence = [_code("121008", "Person Observer Name")]
    person.PersonName = identity.values["OperatorsName"]
    header.ContentSequence = [person]
    for keyword in _IMAGE_ATTRIBUTES:
        delattr(header, keyword)
    return header


_IMAGE_ATTRIBUTES = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
)


def _code(value: str, meaning: str) -> DicomDataset:
    item = DicomDataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
