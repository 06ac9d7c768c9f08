"""One number a case that says how suspicious it is: which kinds there are, and which is used.

Kinds are never mixed: a probability of one case and a volume of another cannot be ranked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.records import read_table

Row = dict[str, Any]

VOLUME = "tumor_volume_mm3_prediction"

# The kinds of score, columns of cases.csv, the most telling first.
CASE_SCORES = {
    "case_score": "score of the case as given by --case-scores",
    "tumor_probability": "tumour probability of the case, from its prediction.json",
    "max_probability": "largest value of the case's tumour probability map",
    VOLUME: "volume in mm3 of the predicted tumour mask",
}


def available_scores(cases: Sequence[Row]) -> list[str]:
    """The kinds of score that cases can be ranked by, the most telling first.

    A kind must be there for every case, or it is none. The volume is asked of some only: where
    others have a tumour mask, a case without one was not predicted, and counts as the worst.

    Args:
        cases: rows of annotated and scored cases.
    """
    found = {name: sum(case.get(name) is not None for case in cases) for name in CASE_SCORES}
    return [n for n, count in found.items() if count and (n == VOLUME or count == len(cases))]


def describe_choice(cases: Sequence[Row], score: str | None) -> str:
    """Which score ranks the cases and why, for the summary; `cases` as above."""
    if score is None:
        return "no kind of score is there for every case, and no tumour mask is predicted"
    words = CASE_SCORES[score]
    if score == VOLUME:
        probability = ("tumor_probability", "max_probability")
        told = max(sum(c.get(name) is not None for c in cases) for name in probability)
        if told:
            words += f"; {len(cases) - told} of {len(cases)} cases give no probability"
        without = sum(c.get(VOLUME) is None for c in cases)
        if without:
            words += f"; {without} of {len(cases)} cases predict no tumour mask and count as wrong"
    return words


def case_value(case: Row, score: str) -> float:
    """The score of an annotated case; without a usable prediction it is the worst there is.

    A tumour case then ranks lowest and a normal one highest, and each is called wrongly.
    """
    if case["status"] != "scored" or case[score] is None:
        return worst_value(case)
    return float(case[score])


def worst_value(case: Row) -> float:
    """Below every score for a tumour case, above every one for a normal case."""
    return -math.inf if case["reference_tumor"] else math.inf


def open_case_scores(path: Path) -> dict[str, float]:
    """case_id to score, from a table (.csv, .parquet, .xlsx) with these two columns.

    Raises:
        ConfigError: If it cannot be read, a column is missing, it is empty, a case is there
            twice, or a score is no finite number.
    """
    try:
        rows = read_table(path)
    except DatasetError as error:
        raise ConfigError(str(error)) from None
    if not rows:
        raise ConfigError(f"{path}: has no rows; expected one a case, with case_id and score")
    if not {"case_id", "score"} <= rows[0].keys():
        raise ConfigError(f"{path}: needs the columns case_id and score, found {list(rows[0])}")
    scores: dict[str, float] = {}
    for row in rows:
        case_id, value = str(row["case_id"]), row["score"]
        if case_id in scores:
            raise ConfigError(f"{path}: case {case_id} is there twice; keep one row")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ConfigError(f"{path}: the score of {case_id} is {value!r}, no finite number")
        scores[case_id] = float(value)
    return scores
