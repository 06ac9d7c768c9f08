"""The facts that may leave a hospital: each through a vocabulary or as a bounded number.

De-identification by construction: a case's row and record are made from what this module
returns and from the voxels. No other header attribute reaches an output. What a word may become
is in data/vocabulary.toml; a value that comes out is one of those written there, never the
header's own text.

Columns of the metadata table beyond the release's: `phase_source` ("header", "hu", "label" of a
read table, or null), `body_part` (regions that BodyPartExamined names), `regions`, `head_in_view`
and `body_truncated` (from the voxels, see view.py), `diagnosis` and `diagnosis_basis` (from the
clinical table, see clinical.py). The release's `site` is `site` here, its `site nationality`
`nationality`, and its free `site detail` has no counterpart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pantskit.core.dataset import METADATA_COLUMNS
from pantskit.core.geometry import Geometry
from pantskit.ingest.facts.vocabulary import patterns, plain_words, vocabulary, words_pattern

REGIONS = ("head", "neck", "chest", "abdomen", "pelvis")
AGE_CAP = 90  # HIPAA safe harbour: ages over 89 are one group

# Where the contrast phase of a series is told; a study's description speaks for all its series.
_PHASE_TEXTS = ("SeriesDescription", "ProtocolName", "AcquisitionProtocolDescription")
_STUDY_TEXTS = ("StudyDescription", "ProtocolName", "SeriesDescription", "BodyPartExamined")

# Terms of PS3.16 Annex L run parts of the body together: CHESTABDPELVIS, HEADNECK.
_RUN_TOGETHER = re.compile(r"(?:head|neck|chest|thorax|abdomen|abdo|abd|pelvis|pelv)+")
_ONE_PART = re.compile(r"head|neck|chest|thorax|abdomen|abdo|abd|pelvis|pelv")
_LONGEST_MODEL = 40


def describe_header(header: Mapping[str, str]) -> dict[str, Any]:
    """The facts that may come out of a header.

    Args:
        header: attributes by keyword, as text; those that are absent may be missing.

    Returns:
        Columns of the metadata table that a header can fill; None where it says nothing that is
        clear. Beside them `phase_reason`, our words for how the phase was told.
    """
    phase, reason = header_phase(header)
    regions = header_regions(header)
    return {
        "phase": phase,
        "phase_source": "header" if phase else None,
        "phase_reason": reason,
        "sex": sex_of(header.get("PatientSex", "")),
        "age_years": _age(header),
        "manufacturer": _manufacturer(header.get("Manufacturer", "")),
        "model": _model(header.get("ManufacturerModelName", "")),
        "study_type": study_type(header),
        "body_part": "-".join(regions) or None,
        "study_year": _year(header),
        "slice_thickness_mm": _bounded(header.get("SliceThickness"), 0.05, 50),
        "kvp": _bounded(header.get("KVP"), 40, 200),
    }


def metadata_row(
    facts: Mapping[str, Any],
    geometry: Geometry,
    *,
    case_id: str,
    patient_id: str,
    split: str,
    site: str,
    lesions: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One row of the metadata table, with its columns and no other.

    Args:
        facts: from `describe_header`, and what completed them.
        geometry: of the CT as written.
        case_id, patient_id, site: pseudonyms (the site may be a name that was given).
        split: `"train"` or `"test"`.
        lesions: connected components of the lesion mask; None where it is not annotated.
        more: further columns that take the place of the facts: of the phase, the view, the
            clinical table. What is no column is left out.
    """
    known = {**facts, **more}
    row = {column: known.get(column) for column in METADATA_COLUMNS}
    return row | {
        "case_id": case_id,
        "patient_id": patient_id,
        "split": split,
        "shape": str(geometry.shape),
        "spacing": str(tuple(round(s, 6) for s in geometry.spacing)),
        "site": site,
        "lesions": lesions,
    }


def phase_of(header: Mapping[str, str]) -> str | None:
    """Contrast phase by the words of the descriptions, or None where they are not clear."""
    return header_phase(header)[0]


def header_phase(header: Mapping[str, str]) -> tuple[str | None, str]:
    """Contrast phase by the words of the descriptions, and how it was told.

    The first description that speaks of a phase decides; where it speaks of two, or of several
    acquisitions, nothing is clear. A contrast agent that is named says nothing: it is usually
    entered for the whole study, the unenhanced series included.

    Returns:
        One of core.dataset.PHASES or None, and the reason in our words.
    """
    for keyword in _PHASE_TEXTS:
        words = plain_words(header.get(keyword, ""))
        found = {phase for phase, pattern in _phases().items() if pattern.search(words)}
        if found - {"with_agent"} != {"non_contrast"}:  # of other phases it goes without saying
            found.discard("with_agent")
        if len(found) == 1 and "unclear" not in found:
            return found.pop(), f"by the words of {keyword}"
        if found:
            return None, f"the words of {keyword} fit several phases"
    agent = plain_words(header.get("ContrastBolusAgent", ""))
    if agent in vocabulary()["phases"]["no_agent"]:
        return "non_contrast", "by ContrastBolusAgent, which says none"
    return None, "no description names a phase"


@cache
def _phases() -> dict[str, re.Pattern[str]]:
    return {name: p for name, p in patterns("phases").items() if name != "no_agent"}


def study_type(header: Mapping[str, str]) -> str | None:
    """What was examined, in the release's words: `ct thorax-abdomen-pelvis`, `ct colonography`.

    The description that names most parts is taken, and of equal ones the first of study,
    protocol, series and body part.
    """
    best: list[str] = []
    kind = ""
    for keyword in _STUDY_TEXTS:
        words = _separated(header.get(keyword, ""))
        parts = _parts(words)
        if len(parts) > len(best):
            best = parts
            kind = "angiography " if _angiography().search(words) else ""
    if not best:
        return None
    return f"ct {kind}{'-'.join(best)}"


def header_regions(header: Mapping[str, str]) -> tuple[str, ...]:
    """Regions that BodyPartExamined names, from head to pelvis; () where it names none."""
    return text_regions(header.get("BodyPartExamined", ""))


def text_regions(text: str) -> tuple[str, ...]:
    """Regions of the body that a text names: of head, neck, chest, abdomen, pelvis."""
    parts = vocabulary()["body_parts"]
    found = {parts[name].get("region") for name in _parts(_separated(text))}
    return tuple(region for region in REGIONS if region in found)


def sex_of(text: str) -> str | None:
    """`"F"` or `"M"`, else None: what stands in (0010,0040) or a clinical table."""
    words = plain_words(text)
    found = [s for s, pattern in patterns("clinical", "sex").items() if pattern.fullmatch(words)]
    return found[0] if len(found) == 1 else None


def _separated(text: str) -> str:
    """Plain words, with parts of the body that were run together separated."""
    words = [
        " ".join(_ONE_PART.findall(word)) if _RUN_TOGETHER.fullmatch(word) else word
        for word in plain_words(text).split()
    ]
    return " ".join(words)


@cache
def _part_patterns() -> dict[str, re.Pattern[str]]:
    return {name: words_pattern(p["words"]) for name, p in vocabulary()["body_parts"].items()}


@cache
def _angiography() -> re.Pattern[str]:
    return words_pattern(vocabulary()["angiography"]["words"])


def _parts(words: str) -> list[str]:
    found = [name for name, pattern in _part_patterns().items() if pattern.search(words)]
    # `whole body` is found in no text that names parts of it.
    return [n for n in found if n != "whole body"] or found


def _manufacturer(text: str) -> str | None:
    words = plain_words(text)
    known = patterns("manufacturers")
    return next((name for name, pattern in known.items() if pattern.search(words)), None)


@cache
def _model_words() -> tuple[dict[str, str], frozenset[str], frozenset[str]]:
    """Plain word to its own spelling; the words that name a family; the long numbers."""
    models = vocabulary()["models"]
    families = models["families"].split()
    spelling = {w.lower(): w for w in (*models["designations"].split(), *families)}
    return spelling, frozenset(f.lower() for f in families), frozenset(models["numbers"])


def _model(text: str) -> str | None:
    """A scanner's model in its maker's spelling, or None where any word of it is unknown."""
    spelling, families, numbers = _model_words()
    text = " ".join(text.split())
    if len(text) > _LONGEST_MODEL:
        return None
    words = re.findall(r"[^\W\d_]+|\d+", text.lower())
    known = all(w in spelling or (w.isdigit() and (len(w) <= 3 or w in numbers)) for w in words)
    if not known or not families.intersection(words):
        return None
    return re.sub(r"[^\W\d_]+", lambda match: spelling[match.group().lower()], text)


def _age(header: Mapping[str, str]) -> int | None:
    match = re.fullmatch(r"(\d{3})Y", header.get("PatientAge", ""))
    if match:
        return capped_age(int(match.group(1)))
    return age_at(read_date(header.get("PatientBirthDate")), _study_date(header))


Date = tuple[int, int, int]


def age_at(born: Date | None, seen: Date | None) -> int | None:
    """Whole years from birth to a study, capped; None where either date is missing."""
    if not born or not seen:
        return None
    return capped_age(seen[0] - born[0] - (seen[1:] < born[1:]))


def capped_age(years: float) -> int | None:
    """Age in whole years; 90 for 90 and over; None where it cannot be one."""
    # An age of 0 is nearly always a birth date that was overwritten with the study's.
    return min(int(years), AGE_CAP) if 1 <= years < 130 else None


def _year(header: Mapping[str, str]) -> int | None:
    date = _study_date(header)
    return date[0] if date else None


def _study_date(header: Mapping[str, str]) -> Date | None:
    keywords = ("StudyDate", "SeriesDate", "AcquisitionDate")
    dates = (read_date(header.get(k)) for k in keywords)
    return next((d for d in dates if d), None)


def read_date(text: str | None) -> Date | None:
    """Year, month and day of a DICOM date (`20140902` or `2014.09.02`), else None."""
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
