"""What an image is by its coded fields, and why it may be no anatomy in Hounsfield units."""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

import pydicom

from pantskit.ingest.dicom.headers import CT_IMAGE, ENHANCED_CT, ImageHeader
from pantskit.ingest.facts.vocabulary import plain_words, words_pattern
from pantskit.ingest.labels.references import is_label_object

UNKNOWN = "of unknown kind"

# Codes that messages may repeat: modalities, rescale types, photometric interpretations.
_CODE_WORDS = (
    "CR DX MG MR NM OT PT PX RF RG SC US XA XC OD MGML ED EDW HU_MOD PCT Z_EFF MONOCHROME1 RGB "
    "YBR_FULL YBR_FULL_422 YBR_RCT YBR_ICT"
)
_CODES = frozenset(_CODE_WORDS.split()) | {"PALETTE COLOR"}

# Monoenergetic images near 70 keV have the contrast of a conventional CT at 120 kVp, and scanners
# that count photons deliver nothing else; at other energies iodine, which is what tells a
# phase, has other values.
_CONVENTIONAL_KEV = (60, 80)

_MONOENERGETIC, _REFORMAT, _TRACKING = "monoenergetic", "reformat", "tracking"
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_KEV = re.compile(r"\b([0-9]{2,3}) ?kev\b")
_ENERGY_UNKNOWN = (
    "monoenergetic image, and not one of 60 to 80 keV by its name: its contrast is not that of a "
    "conventional CT"
)


class _Kind(NamedTuple):
    reason: str
    values: frozenset[str]
    words: frozenset[str]
    description: re.Pattern[str] | None


@cache
def _kinds() -> dict[str, _Kind]:
    text = files("pantskit.ingest").joinpath("data/kinds.toml").read_text("utf-8")
    return {
        name: _Kind(
            kind["reason"],
            frozenset(kind["values"]),
            frozenset(kind["words"]),
            words_pattern(kind["descriptions"]) if kind["descriptions"] else None,
        )
        for name, kind in tomllib.loads(text).items()
    }


def skip_reason(header: ImageHeader) -> str:
    """Why an object is no slice of a CT of anatomy in Hounsfield units; "" if it is one.

    RescaleType may be left out where it is HU (PS3.3 C.8.2.1). "US" is unspecified there: its
    values may be anything, so such images are refused.
    """
    if is_label_object(header.sop_class):
        return f"{_class_name(header.sop_class)}: annotations; give them with --labels"
    if header.sop_class not in (CT_IMAGE, *ENHANCED_CT):
        return f"{_class_name(header.sop_class)}: not a CT image"
    if header.modality != "CT":
        return f"modality {_word(header.modality)}: not CT"
    kind, where = _kind_of(header.image_type, _description(header))
    if kind == _MONOENERGETIC:
        energy = _KEV.search(plain_words(_description(header)))
        low, high = _CONVENTIONAL_KEV
        if not (energy and low <= int(energy[1]) <= high):
            return _ENERGY_UNKNOWN
    elif kind not in ("", _REFORMAT, _TRACKING):
        return f"{_kinds()[kind].reason} by its {where}"
    if header.bits_allocated == 8:
        return "8-bit pixels: a mask or a picture, not Hounsfield units; give masks with --labels"
    if header.rescale_type == "US":
        return "RescaleType US (unspecified): not known to be Hounsfield units"
    if header.rescale_type not in ("", "HU"):
        return f"RescaleType {_word(header.rescale_type)}: not Hounsfield units"
    if header.photometric not in ("", "MONOCHROME2"):
        return f"{_word(header.photometric)} picture: not Hounsfield units"
    return ""


def reformat_reason(header: ImageHeader) -> str:
    """Why an image in HU is a reformat of another series; "" if it is not."""
    kind, _ = _kind_of(header.image_type, _description(header))
    return _kinds()[kind].reason if kind == _REFORMAT else ""


def is_virtual(header: ImageHeader) -> bool:
    """Whether an image is computed for one photon energy."""
    return _kind_of(header.image_type, _description(header))[0] == _MONOENERGETIC


def tracking_reason(header: ImageHeader) -> str:
    """What a series that stays in one place is by its name; "" if its name says nothing."""
    kind, _ = _kind_of(header.image_type, _description(header))
    return _kinds()[kind].reason if kind == _TRACKING else ""


@lru_cache(maxsize=4096)
def _kind_of(image_type: tuple[str, ...], description: str) -> tuple[str, str]:
    """Kind and the attribute that says so, ("", "") for a plain CT; codes before words.

    A reformat counts only where nothing graver is said: Siemens calls a thick slab MIP and MPR.
    """
    values = {" ".join(value.split()) for value in image_type}
    words = {word for value in values for word in value.split()}
    plain = plain_words(description)
    coded = [n for n, k in _kinds().items() if values & k.values or words & k.words]
    # Siemens writes LOCALIZER in the coronal and sagittal views it plans from, and MPR beside it.
    if _REFORMAT in coded and set(coded) <= {_REFORMAT, "localizer"}:
        coded = [_REFORMAT]
    # `IodineNoWater[HU*]` too; not split alone, since `MonoE 55keV` would lose its unit.
    apart = plain_words(_CAMEL.sub(" ", description))
    told = [
        name
        for name, kind in _kinds().items()
        if kind.description and (kind.description.search(plain) or kind.description.search(apart))
    ]
    for found, where in ((coded, "ImageType"), (told, "SeriesDescription")):
        graver = [name for name in found if name not in (_REFORMAT, _TRACKING, _MONOENERGETIC)]
        if graver:
            return graver[0], where
    for name in (_MONOENERGETIC, _REFORMAT, _TRACKING):
        if name in coded or name in told:
            return name, "ImageType" if name in coded else "SeriesDescription"
    return "", ""


def _description(header: ImageHeader) -> str:
    return header.description.get("SeriesDescription", "")


def _class_name(sop_class: str) -> str:
    name = pydicom.uid.UID(sop_class).name if sop_class else ""
    known = name and name != sop_class
    return str(name) if known else f"object {UNKNOWN}"


def _word(value: str) -> str:
    """A coded value for a message; what is no known code is not repeated."""
    return value if value in _CODES else UNKNOWN
