"""What cases are ranked by, and the table of the user's own scores."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.records import write_table
from pantskit.evaluate.case_scores import (
    available_scores,
    case_value,
    describe_choice,
    open_case_scores,
)

VOLUME = "tumor_volume_mm3_prediction"


def test_a_kind_counts_only_where_every_case_has_it() -> None:
    cases = [
        {"case_score": 1.0, "tumor_probability": 0.1, VOLUME: 5.0},
        {"case_score": 2.0, "tumor_probability": None, VOLUME: 0.0},
    ]
    assert available_scores(cases) == ["case_score", VOLUME]
    assert available_scores([{"tumor_probability": 0.4, VOLUME: None}]) == ["tumor_probability"]
    assert available_scores([]) == []
    assert "1 of 2 cases give no probability" in describe_choice(cases, VOLUME)


def test_a_case_without_tumour_mask_where_others_have_one_is_the_worst() -> None:
    cases = [
        {"status": "scored", "reference_tumor": True, VOLUME: None},
        {"status": "scored", "reference_tumor": False, VOLUME: None},
        {"status": "scored", "reference_tumor": True, VOLUME: 7.0},
    ]
    assert available_scores(cases) == [VOLUME]
    assert [case_value(c, VOLUME) for c in cases] == [-math.inf, math.inf, 7.0]
    assert "2 of 3 cases predict no tumour mask" in describe_choice(cases, VOLUME)


def test_a_case_without_usable_prediction_is_the_worst_whatever_score_was_given() -> None:
    case = {"status": "failed", "reference_tumor": True, "case_score": 9.0}
    assert case_value(case, "case_score") == -math.inf
    assert case_value(case | {"reference_tumor": False}, "case_score") == math.inf


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_scores_come_from_a_table(tmp_path: Path, suffix: str) -> None:
    rows = [{"case_id": "007", "score": 0.5, "note": "x"}, {"case_id": "b", "score": -3}]
    write_table(tmp_path / "own", rows)
    assert open_case_scores(tmp_path / f"own.{suffix}") == {"007": 0.5, "b": -3.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case_id,score\na,1\na,2\n", "case a is there twice"),
        ("case_id,score\na,high\n", "score of a is 'high'"),
        ("case_id,score\na,\nb,1\n", "score of a is None"),
        ("case_id,score\na,nan\nb,1.5\n", "score of a is '?nan"),
        ("case_id,score\na,inf\nb,1.5\n", "score of a is inf"),
        ("case,score\na,1\n", r"needs the columns case_id and score, found \['case', 'score'\]"),
        ("case_id,score\n", "has no rows"),
        ("", "cannot be read"),
    ],
)
def test_a_table_that_is_wrong_says_how(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        open_case_scores(path)


def test_a_table_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        open_case_scores(tmp_path / "none.csv")
