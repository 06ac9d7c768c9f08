"""The facts that may leave a hospital: each through a vocabulary or as a bounded number.

De-identification by construction: a case's row and record are made from what this module
returns and from the voxels. No other header attribute reaches an output.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

AGE_CAP = 90  # HIPAA safe harbour: ages over 89 are one group

# Makers of CT scanners: words in (0008,0070) to the name that comes out.
_MANUFACTURERS = {
    "siemens": "Siemens",
    "ge medical": "GE",
    "ge healthcare": "GE",
    "general electric": "GE",
    "philips": "Philips",
    "picker": "Philips",
    "marconi": "Philips",
    "toshiba": "Toshiba",
    "canon": "Canon",
    "hitachi": "Hitachi",
    "fujifilm": "Fujifilm",
    "neusoft": "Neusoft",
    "united imaging": "United Imaging",
    "uih": "United Imaging",
    "shimadzu": "Shimadzu",
    "samsung": "Samsung",
}

# Product families; a model name comes out when it begins with one and goes on with no more
# than short designations (`SOMATOM Definition AS+`, `LightSpeed VCT`, `Aquilion ONE`).
_MODEL_FAMILIES = (
    "somatom|sensation|definition|emotion|perspective|biograph|volume zoom|naeotom|symbia|"
    "lightspeed|brightspeed|hispeed|optima|discovery|revolution|"
    "brilliance|ingenuity|ict|iqon|incisive|mx ?8000|gemini|spectral ct|"
    "aquilion|asteion|activion|alexion|scenaria|eclos|supria|neuviz|uct|umi"
)
_DESIGNATIONS = (
    "definition|sensation|emotion|force|drive|edge|flash|as|perspective|scope|spirit|confidence|"
    "go|top|up|now|all|sim|open|plus|pro|vct|ultra|rt|xt|hd|evo|ct|st|ste|mi|iq|gsi|apex|"
    "maxima|core|elite|big|bore|air|one|prime|prism|genesis|lightning|idt|tf|gxl|alpha|x|"
    "mct|vision|horizon|tx|qx|qxi|i|n|s|mv|duo|volume|access|zoom|start|spectral|cv|cardiac|series"
)
_MODEL = re.compile(
    rf"(?:{_MODEL_FAMILIES})\s?\d{{0,4}}(?:[\s./+-]*(?:{_DESIGNATIONS}|\d{{1,4}}[a-z]?)\+?)*",
    re.IGNORECASE,
)

# Words that make a contrast phase clear, as whole words of a description.
_PHASE_WORDS = {
    "non_contrast": (
        "non contrast|noncontrast|non con|noncon|unenhanced|without contrast|w o contrast|wo|"
        "native|nativ|plain|precontrast|pre contrast|no contrast|sans injection"
    ),
    "arterial": "arterial|artery phase|art|pancreatic phase|arteriell|artero",
    "portal_venous": "portal venous|portal|venous|pv|pvp|ven|portalven(?:o|oe|ou)s|ven(?:o|oe)s",
    "delayed": "delayed|delay|late phase|equilibrium|excretory|spatphase|spaetphase|tardif",
}
_PHASES = {phase: re.compile(rf"\b(?:{words})\b") for phase, words in _PHASE_WORDS.items()}

_STUDY_TYPES = {
    "colonography": "ct colonography",
    "chest abdomen pelvis": "ct thorax-abdomen-pelvis",
    "thorax abdomen pelvis": "ct thorax-abdomen-pelvis",
    "abdomen pelvis": "ct abdomen-pelvis",
    "abd pelvis": "ct abdomen-pelvis",
    "abdomen": "ct abdomen",
    "pancreas": "ct pancreas",
    "thorax": "ct thorax",
    "chest": "ct thorax",
    "head": "ct head",
}


def describe_header(header: Mapping[str, str]) -> dict[str, str | int | float | None]:
    """The facts that may come out, each through a vocabulary or as a bounded number.

    Returns:
        The release's metadata columns that a header can fill; None where it says nothing that
        is clear.
    """
    return {
        "phase": phase_of(header),
        "sex": header.get("PatientSex") if header.get("PatientSex") in ("M", "F") else None,
        "age_years": _age(header),
        "manufacturer": _manufacturer(header.get("Manufacturer", "")),
        "model": _model(header.get("ManufacturerModelName", "")),
        "study_type": _study_type(header),
        "study_year": _year(header),
        "slice_thickness_mm": _bounded(header.get("SliceThickness"), 0.05, 50),
        "kvp": _bounded(header.get("KVP"), 40, 200),
    }


def phase_of(header: Mapping[str, str]) -> str | None:
    """Contrast phase by the words of the descriptions, or None where they are not clear."""
    for keyword in ("SeriesDescription", "ProtocolName", "AcquisitionProtocolDescription"):
        words = _plain_words(header.get(keyword, ""))
        phases = [phase for phase, pattern in _PHASES.items() if pattern.search(words)]
        if len(phases) == 1:
            return phases[0]
        if phases:
            return None
    agent = header.get("ContrastBolusAgent", "").strip().lower()
    return "non_contrast" if agent in ("none", "no", "no contrast", "without") else None


def _plain_words(text: str) -> str:
    """Lower case without accents, punctuation as spaces: `portal-venös` is `portal venos`."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", " ", bare.lower()).strip()


def _manufacturer(text: str) -> str | None:
    lowered = text.lower().strip()
    if lowered == "ge":
        return "GE"
    return next((name for word, name in _MANUFACTURERS.items() if word in lowered), None)


def _model(text: str) -> str | None:
    text = " ".join(text.split())
    return text if len(text) <= 40 and _MODEL.fullmatch(text) else None


def _study_type(header: Mapping[str, str]) -> str | None:
    for keyword in ("BodyPartExamined", "ProtocolName", "SeriesDescription"):
        words = _plain_words(header.get(keyword, ""))
        for known, name in _STUDY_TYPES.items():
            if known in words:
                return name
    return None


def _age(header: Mapping[str, str]) -> int | None:
    match = re.fullmatch(r"(\d{3})Y", header.get("PatientAge", ""))
    years = int(match.group(1)) if match else None
    born, seen = _date(header.get("PatientBirthDate")), _study_date(header)
    if years is None and born and seen:
        years = seen[0] - born[0] - (seen[1:] < born[1:])
    # An age of 0 is nearly always a birth date that was overwritten with the study's.
    return min(years, AGE_CAP) if years is not None and 0 < years < 130 else None


def _year(header: Mapping[str, str]) -> int | None:
    date = _study_date(header)
    return date[0] if date else None


def _study_date(header: Mapping[str, str]) -> tuple[int, int, int] | None:
    dates = (_date(header.get(k)) for k in ("StudyDate", "SeriesDate", "AcquisitionDate"))
    return next((d for d in dates if d), None)


def _date(text: str | None) -> tuple[int, int, int] | None:
    match = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", text or "")
    if not match:
        return None
    year, month, day = (int(part) for part in match.groups())
    return (year, month, day) if 1880 < year < 2200 else None


def _bounded(text: str | None, low: float, high: float) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    # Four decimals: headers that went through float32 say 1.600000023841858.
    return round(value, 4) if low <= value <= high else None
