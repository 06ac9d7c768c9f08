"""Detection over cases: operating points, curves, groups; all by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.files import jsonable
from pantskit.evaluate.detection import summarize_detection
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.evaluate.strata import size_group, summarize_strata

Row = dict[str, Any]


def case(case_id: str, tumor: bool | None, volume: float | None, **more: Any) -> Row:
    unknown = ("case_score", "tumor_probability", "max_probability", "largest_lesion_mm")
    unknown += ("location", "phase", "site", "diagnosis", "sex", "manufacturer")
    return {
        **dict.fromkeys(unknown),
        "case_id": case_id,
        "patient_id": case_id,
        "status": "scored",
        "reference_tumor": tumor,
        "tumor_volume_mm3_prediction": volume,
        **more,
    }


def config(**settings: Any) -> EvaluateConfig:
    return EvaluateConfig(bootstrap_samples=300, **settings)


# Four tumour cases with 0, 50, 100 and 400 mm3 predicted; four normal ones, two with an alarm.
COHORT = [
    case("t1", True, 0.0, tumor_probability=0.5),
    case("t2", True, 50.0, tumor_probability=0.6),
    case("t3", True, 100.0, tumor_probability=0.7),
    case("t4", True, 400.0, tumor_probability=0.9),
    case("n1", False, 0.0, tumor_probability=0.1),
    case("n2", False, 0.0, tumor_probability=0.2),
    case("n3", False, 20.0, tumor_probability=0.3),
    case("n4", False, 200.0, tumor_probability=0.8),
]


def point_of(summary: Row, score: str) -> Row:
    (point,) = (p for p in summary["operating_points"] if p["score"] == score)
    return point


def test_every_number_of_an_operating_point_by_hand() -> None:
    point = point_of(summarize_detection(COHORT, config()).summary, "tumor_volume_mm3_prediction")
    shares = ("sensitivity_patient", "specificity", "precision", "accuracy")
    assert [(point[n]["count"], point[n]["of"]) for n in shares] == [(3, 4), (2, 4), (3, 5), (5, 8)]
    assert point["f1"]["value"] == 2 * 3 / (2 * 3 + 2 + 1)
    for name in (*shares, "f1"):
        low, high = point[name]["bootstrap"]
        assert 0 <= low < point[name]["value"] < high <= 1, name


@pytest.mark.parametrize(
    ("mm3", "hits", "kept"), [(0, 3, 2), (20, 3, 2), (20.1, 3, 3), (100, 2, 3), (400.1, 0, 4)]
)
def test_a_volume_calls_from_there_on(mm3: float, hits: int, kept: int) -> None:
    summary = summarize_detection(COHORT, config(tumor_mm3=mm3)).summary
    assert (summary["sensitivity_patient"]["count"], summary["specificity"]["count"]) == (
        hits,
        kept,
    )
    expected = "any predicted tumour voxel" if not mm3 else f"tumour volume >= {mm3:g} mm3"
    assert expected in summary["operating_point"]


def test_rounding_does_not_keep_a_volume_from_its_threshold() -> None:
    cases = [case("t", True, 191.99999999999997), case("n", False, 0.0)]
    summary = summarize_detection(cases, config(tumor_mm3=192)).summary
    assert summary["sensitivity_patient"]["count"] == 1


def test_every_kind_of_score_has_its_point_and_its_auc() -> None:
    own = dict(zip((c["case_id"] for c in COHORT), (5, 6, 7, 8, 1, 2, 3, 4), strict=True))
    cases = [c | {"case_score": float(own[c["case_id"]])} for c in COHORT]
    settings = config(case_scores=own, case_score=6.0, probability=0.6)
    found = summarize_detection(cases, settings)
    summary = found.summary
    assert found.score == summary["score"] == "case_score"
    assert [p["score"] for p in summary["operating_points"]] == [
        "tumor_volume_mm3_prediction", "tumor_probability", "case_score",
    ]  # fmt: skip
    assert point_of(summary, "tumor_probability")["sensitivity_patient"]["count"] == 3
    assert point_of(summary, "tumor_probability")["specificity"]["count"] == 3
    assert point_of(summary, "case_score")["sensitivity_patient"]["count"] == 3
    assert point_of(summary, "case_score")["point"] == "case score >= 6"
    aucs = {name: scored["auc"]["value"] for name, scored in summary["by_score"].items()}
    assert aucs == {
        "case_score": 1.0,
        "tumor_probability": 13 / 16,  # n4 outranks t1, t2 and t3
        # By volume t1 ties with n1 and n2 and loses twice, t2 and t3 lose to n4.
        "tumor_volume_mm3_prediction": (1 + 3 + 3 + 4) / 16,
    }
    assert summary["auc"]["value"] == 1.0


def test_curve_numbers_by_hand() -> None:
    found = summarize_detection(COHORT, config())
    scored = found.summary["by_score"]["tumor_probability"]
    # Highest first: t4, n4, t3, t2, t1, then normal cases.
    assert scored["average_precision"]["value"] == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 5) / 4)
    at = scored["sensitivity_at_specificity"]
    assert {name: estimate["value"] for name, estimate in at.items()} == {
        "0.9": 0.25, "0.95": 0.25, "0.99": 0.25,
    }  # fmt: skip
    assert found.curves is not None
    assert found.curves.roc_band.low[-1] == found.curves.roc_band.high[-1] == 1.0


def test_predictive_values_at_a_prevalence_by_hand() -> None:
    """Sensitivity 3/4, specificity 1/2: of 1,000 people 10 are ill, 7.5 found, 495 alarms."""
    point = summarize_detection(COHORT, config(prevalence=(0.01,))).summary["operating_points"][0]
    values = point["at_prevalence"]["0.01"]
    assert values["ppv"]["value"] == pytest.approx(7.5 / 502.5)
    assert values["npv"]["value"] == pytest.approx(495 / 497.5)
    low, high = values["ppv"]["bootstrap"]
    assert low < values["ppv"]["value"] < high


def test_nobody_called_positive_has_no_positive_predictive_value() -> None:
    cases = [case("t", True, 0.0), case("n", False, 0.0)]
    summary = summarize_detection(cases, config(prevalence=(0.1,))).summary
    values = jsonable(summary["operating_points"][0]["at_prevalence"]["0.1"])
    assert values["ppv"] == {"value": None, "bootstrap": [None, None]}
    assert values["npv"]["value"] == pytest.approx(0.9)


def test_patients_are_drawn_and_not_scans() -> None:
    """The scans of one patient are all found or all missed: less is known than of as many."""
    apart = [case(f"{n}", n < 20, 1.0 if n % 2 else 0.0) for n in range(40)]
    together = [c | {"patient_id": f"p{n // 20}{n % 2}"} for n, c in enumerate(apart)]
    widths = []
    for cases in (apart, together):
        found = summarize_detection(cases, config()).summary["sensitivity_patient"]
        assert (found["count"], found["of"]) == (10, 20)
        widths.append(found["bootstrap"][1] - found["bootstrap"][0])
    assert widths[1] == 1.0 > 2 * widths[0]


@pytest.mark.parametrize(
    ("tumor", "other"), [(True, "specificity"), (False, "sensitivity_patient")]
)
def test_a_cohort_of_one_kind_has_one_share_and_no_auc(tumor: bool, other: str) -> None:
    found = summarize_detection([case("a", tumor, 5.0), case("b", tumor, 0.0)], config())
    summary = jsonable(found.summary)
    assert (summary["auc"], summary["by_score"], found.curves) == (None, {}, None)
    assert summary[other]["of"] == 0
    assert summary[other]["value"] is None
    kept = {"specificity", "sensitivity_patient"} - {other}
    assert summary[kept.pop()]["value"] == 0.5
    assert summary["auc_note"] == "needs cases with and without tumour"


def test_no_case_at_all_and_one_case() -> None:
    empty = summarize_detection([], config()).summary
    assert (empty["cases"], empty["score"], empty["operating_points"]) == (0, None, [])
    one = jsonable(summarize_detection([case("a", True, 5.0)], config()).summary)
    assert one["sensitivity_patient"]["value"] == 1.0
    assert one["sensitivity_patient"]["low"] == pytest.approx(0.2065, abs=1e-4)


def test_cases_that_nobody_annotated_are_counted_and_left_out() -> None:
    cases = [*COHORT, case("u", None, 900.0)]
    summary = summarize_detection(cases, config()).summary
    assert (summary["cases"], summary["cases_without_tumor_annotation"]) == (8, 1)
    assert cases[-1]["detection_score"] is None
    assert cases[-1]["called_positive"] is None


def test_a_failed_case_is_called_wrongly_at_every_point() -> None:
    cases = [
        *COHORT,
        case("t5", True, None, status="failed"),
        case("n5", False, None, status="missing_prediction", tumor_probability=0.0),
    ]
    summary = summarize_detection(cases, config()).summary
    for point in summary["operating_points"]:
        assert point["sensitivity_patient"]["of"] == point["specificity"]["of"] == 5
    assert summary["sensitivity_patient"]["count"] == 3
    assert summary["specificity"]["count"] == 2
    assert (cases[-2]["detection_score"], cases[-1]["detection_score"]) == (-math.inf, math.inf)
    # 13 of the 16 pairs as before, t5 behind all 5 normal cases, n5 before all 5 tumour cases.
    assert summary["auc"]["value"] == pytest.approx(13 / 25)


LESIONS = [
    {"case_id": "t1", "longest_axis_mm": 12.0, "location": "head", "hit": False},
    {"case_id": "t2", "longest_axis_mm": 20.0, "location": "head", "hit": True},
    {"case_id": "t3", "longest_axis_mm": 20.5, "location": "body", "hit": True},
    {"case_id": "t3", "longest_axis_mm": 9.0, "location": "tail", "hit": False},
    {"case_id": "t4", "longest_axis_mm": 41.0, "location": None, "hit": True},
]


def grouped() -> list[Row]:
    known = {
        "t1": {"largest_lesion_mm": 12.0, "location": "head", "site": "north"},
        "t2": {"largest_lesion_mm": 20.0, "location": "head", "site": "north"},
        "t3": {"largest_lesion_mm": 20.5, "location": "body", "site": "south"},
        "t4": {"largest_lesion_mm": 41.0},
        "n1": {"site": "north"},
        "n4": {"site": "north"},
    }
    return [c | known.get(c["case_id"], {}) for c in COHORT]


def test_groups_by_size_place_and_site_by_hand() -> None:
    cases = grouped()
    found = summarize_detection(cases, config())
    strata = summarize_strata(cases, LESIONS, found.score, found.point)
    sizes = strata["tumor_size"]
    assert list(sizes) == ["<= 20 mm", "20-40 mm", "> 40 mm"]
    counts = [
        [(group[n]["count"], group[n]["of"]) for n in ("sensitivity_tumor", "sensitivity_patient")]
        for group in sizes.values()
    ]
    assert counts == [[(1, 3), (1, 2)], [(1, 1), (1, 1)], [(1, 1), (1, 1)]]
    # t1 and t2, of probability 0.5 and 0.6, against all four normal cases.
    assert sizes["<= 20 mm"]["auc"]["value"] == 6 / 8
    places = strata["tumor_location"]
    assert list(places) == ["body", "head", "tail", "unknown"]
    assert places["tail"]["tumor_cases"] == 0  # nobody's largest one, but a tumour of its own
    assert (places["tail"]["sensitivity_tumor"]["of"], places["unknown"]["tumor_cases"]) == (1, 1)
    sites = strata["site"]
    assert list(sites) == ["north", "south", "unknown"]
    assert (sites["north"]["tumor_cases"], sites["north"]["normal_cases"]) == (2, 2)
    assert sites["north"]["auc"]["value"] == 0.5
    assert sites["north"]["specificity"]["count"] == 1
    assert sites["north"]["sensitivity_tumor"]["count"] == 1
    assert "auc" not in sites["south"]
    assert jsonable(sites["south"])["specificity"]["value"] is None
    assert "phase" not in strata  # known of nobody


def test_without_a_score_groups_have_their_tumours_alone() -> None:
    strata = summarize_strata(grouped(), LESIONS, None, None)
    assert set(strata["tumor_size"]["> 40 mm"]) == {"tumor_cases", "sensitivity_tumor"}


def test_sizes_include_their_upper_end() -> None:
    names = [size_group(mm) for mm in (20.0, 20.01, 40.0, 40.01)]
    assert names == ["<= 20 mm", "20-40 mm", "20-40 mm", "> 40 mm"]
    assert size_group(None) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hit_rule": "near"}, "rule 'near' is unknown"),
        ({"hit_rule": "iou", "hit_minimum": 1.5}, "from 0 to 1"),
        ({"hit_minimum": 0.2}, "'touch' knows no least overlap"),
        ({"hit_rule": "centre", "hit_minimum": 0.2}, "'centre' knows no least overlap"),
        ({"probability": math.nan}, "from 0 to 1"),
        ({"prevalence": (0.1, 2.0)}, "from 0 to 1"),
        ({"tumor_mm3": math.inf}, "tumour volume"),
        ({"case_score": 1.0}, "needs --case-scores"),
        ({"case_score": math.nan, "case_scores": {"a": 1.0}}, "no number"),
    ],
)
def test_senseless_detection_settings_are_refused(settings: Row, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EvaluateConfig(**settings)
