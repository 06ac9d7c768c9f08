"""From files to series: grouped by what their headers say, never by their names."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pydicom

from pantskit.ingest.dicom_geometry import DIRECTION_TOLERANCE
from pantskit.ingest.headers import CT_IMAGE, ENHANCED_CT, ImageHeader

# A part of a mixed series smaller than this is a stray slice and not a stack of its own.
_SMALLEST_PART = 3

_NOT_ANATOMY = {
    "LOCALIZER": "localizer",
    "SCOUT": "localizer",
    "TOPOGRAM": "localizer",
    "SURVIEW": "localizer",
    "REF_SURVIEW": "localizer",
    "SCREEN SAVE": "screen capture",
    "DOSE": "dose report",
    "DOSE_INFO": "dose report",
    "MIP": "maximum intensity projection",
    "MAX_IP": "maximum intensity projection",
    "MIN_IP": "minimum intensity projection",
    "MINIP": "minimum intensity projection",
    "VRT": "volume rendering",
    "VOLUME_RENDER": "volume rendering",
    "SSD": "surface rendering",
    "RCBF": "perfusion map",
    "RCBV": "perfusion map",
    "MTT": "perfusion map",
    "TTP": "perfusion map",
    "PERFUSION": "perfusion map",
    "IODINE": "material map",
    "VNC": "virtual non-contrast image",
    "Z_EFF": "material map",
    "ELECTRON_DENSITY": "material map",
}

UNKNOWN = "of unknown kind"

# Codes that messages may repeat: modalities, rescale types, photometric interpretations.
_CODE_WORDS = (
    "CR DX MG MR NM OT PT PX RF RG SC US XA XC OD MGML ED EDW HU_MOD PCT Z_EFF MONOCHROME1 RGB "
    "YBR_FULL YBR_FULL_422 YBR_RCT YBR_ICT"
)
_CODES = frozenset(_CODE_WORDS.split()) | {"PALETTE COLOR"}


@dataclass(frozen=True)
class Series:
    """Slices that belong to one volume, or why they are none.

    Attributes:
        slices: headers, in order of their files.
        skip: why it is no CT volume of anatomy; "" for one that is.
        fault: why a CT series cannot become a volume, known before any pixel; "" if none is.
        doubt: why its slices may not be all; "" if nothing says so.
        part: number among the stacks that one series was split into, from 0.
    """

    slices: tuple[ImageHeader, ...]
    skip: str = ""
    fault: str = ""
    doubt: str = ""
    part: int = 0

    @property
    def first(self) -> ImageHeader:
        """A header that speaks for the series."""
        return self.slices[0]

    @property
    def identity(self) -> str:
        """What is the same in every run for this series and no other; secret until keyed.

        The series UID; where it is empty, the objects' UIDs; where those are empty or repeated
        too, `""`: then only the files' content tells series apart.
        """
        # What is skipped may share its series UID with the scan, as localizers do.
        kind = (self.first.sop_class, self.skip, str(self.part))
        if self.first.series_uid:
            patient = self.first.description.get("PatientID", "")
            return "/".join((patient, self.first.study_uid, self.first.series_uid, *kind))
        uids = sorted({s.sop_uid for s in self.slices})
        if "" in uids or len(uids) < len(self.slices):
            return ""
        return "/".join((hashlib.sha256("\n".join(uids).encode()).hexdigest(), *kind))

    @property
    def identifiers(self) -> dict[str, str]:
        """Identifying values of all its headers."""
        found: dict[str, str] = {}
        for values in {id(v): v for s in self.slices for v in s.identifiers}.values():
            found.update(values)
        return found

    @property
    def is_mask(self) -> bool:
        """Whether its pixels are 8-bit: masks stored as CT images, as 3D-IRCADb ships them."""
        return self.first.sop_class == CT_IMAGE and self.first.bits_allocated == 8


def group_series(headers: Iterable[ImageHeader]) -> list[Series]:
    """Series of the headers, each with its reason to be skipped or refused, in file order."""
    groups: dict[Any, list[ImageHeader]] = defaultdict(list)
    for header in headers:
        groups[_group_key(header)].append(header)
    return [series for group in groups.values() for series in _split(group)]


def _group_key(header: ImageHeader) -> tuple[Any, ...]:
    # Localizers often share the series UID of the scan they plan; they are set apart here.
    kind = (header.sop_class, header.modality, skip_reason(header))
    if header.series_uid:
        return (header.description.get("PatientID"), header.study_uid, header.series_uid, *kind)
    person = (header.description.get("PatientID", ""), header.description.get("PatientName", ""))
    number = header.description.get("SeriesNumber", "")
    return (*person, header.study_uid, number, header.file.folder, *kind)


def _split(group: Sequence[ImageHeader]) -> list[Series]:
    """One series, or one for each size, spacing and orientation that it mixes."""
    slices = tuple(group)
    skip = skip_reason(slices[0])
    if skip or slices[0].sop_class in ENHANCED_CT:
        return [Series(slices, skip, "" if skip else _fault(slices))]
    fault = _fault(slices)
    if fault:
        return [Series(slices, fault=fault)]
    parts: list[list[ImageHeader]] = []
    for header in slices:
        part = next((p for p in parts if _same_plane_grid(p[0], header)), None)
        if part is None:
            parts.append(part := [])
        part.append(header)
    sizes = sorted(map(len, parts))
    if len(parts) > 1 and sizes[0] < _SMALLEST_PART:
        mixed = f"{len(parts)} orientations, sizes or pixel spacings are mixed in one series"
        return [Series(slices, fault=f"{mixed} ({sizes} slices); separate them")]
    return [Series(tuple(part), part=n) for n, part in enumerate(parts)]


def _same_plane_grid(a: ImageHeader, b: ImageHeader) -> bool:
    """Whether two slices have one size, pixel spacing and direction."""
    assert a.orientation and b.orientation and a.pixel_spacing and b.pixel_spacing
    turned = max(abs(x - y) for x, y in zip(a.orientation, b.orientation, strict=True))
    scaled = max(abs(x - y) for x, y in zip(a.pixel_spacing, b.pixel_spacing, strict=True))
    same_size = (a.rows, a.columns) == (b.rows, b.columns)
    return same_size and turned <= DIRECTION_TOLERANCE and scaled <= DIRECTION_TOLERANCE


def skip_reason(header: ImageHeader) -> str:
    """Why an object is no slice of a CT of anatomy in Hounsfield units; "" if it is one."""
    if header.sop_class not in (CT_IMAGE, *ENHANCED_CT):
        return f"{_class_name(header)}: not a CT image"
    if header.modality != "CT":
        return f"modality {_word(header.modality)}: not CT"
    for value in header.image_type:
        if value in _NOT_ANATOMY:
            return f"{_NOT_ANATOMY[value]} by its ImageType"
    if header.bits_allocated == 8:
        return "8-bit pixels: a mask or a picture, not Hounsfield units; give masks with --labels"
    if header.rescale_type not in ("", "HU"):
        return f"RescaleType {_word(header.rescale_type)}: not Hounsfield units"
    if header.photometric not in ("", "MONOCHROME2"):
        return f"{_word(header.photometric)} picture: not Hounsfield units"
    return ""


def _class_name(header: ImageHeader) -> str:
    name = pydicom.uid.UID(header.sop_class).name if header.sop_class else ""
    known = name and name != header.sop_class
    return str(name) if known else f"object {UNKNOWN}"


def _word(value: str) -> str:
    """A coded value for a message; what is no known code is not repeated."""
    return value if value in _CODES else UNKNOWN


def _fault(slices: Sequence[ImageHeader]) -> str:
    """What is wrong with the headers of a CT series, in words; "" if nothing is."""
    if slices[0].sop_class in ENHANCED_CT or max(s.frames for s in slices) > 1:
        return (
            "enhanced (multi-frame) CT is not read; convert it to single-frame CT images "
            "(dcm4che's emf2sf does) and ingest those"
        )
    missing: Counter[str] = Counter()
    for header in slices:
        missing["position"] += header.position is None
        missing["orientation"] += header.orientation is None
        missing["pixel spacing"] += header.pixel_spacing is None
        missing["size"] += not (header.rows and header.columns)
        missing["rescale slope and intercept"] += None in (header.slope, header.intercept)
    lacking = [f"{n} of {len(slices)} slices lack {what}" for what, n in missing.items() if n]
    if lacking:
        return f"{'; '.join(lacking)}; export the series again, complete"
    if min(min(s.pixel_spacing or (0.0,)) for s in slices) <= 0:
        return "pixel spacing is not above 0"
    if any(s.slope == 0 for s in slices):
        return "rescale slope is 0"
    return ""
