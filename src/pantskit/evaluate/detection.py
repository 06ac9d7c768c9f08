"""Which cases have a tumour, and how well the predictions tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from pantskit.evaluate.lesions import HIT_RULE
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.statistics import Roc, bootstrap_auc, roc_curve, wilson_interval

Row = dict[str, Any]

CASE_SCORES = {
    "tumor_probability": "tumour probability of the case, from prediction.json",
    "tumor_volume_mm3_prediction": "volume in mm3 of the predicted tumour mask",
}
CONFIDENCE = 0.95


def choose_score(cases: Iterable[Row]) -> tuple[str | None, str]:
    """The one score that ranks all cases, and why: kinds are never mixed.

    Args:
        cases: rows of cases that were scored.

    Returns:
        The column, or None where neither is complete; and a note for the summary.
    """
    rows = list(cases)
    lacking = {name: [r["case_id"] for r in rows if r.get(name) is None] for name in CASE_SCORES}
    for name, words in CASE_SCORES.items():
        if rows and not lacking[name]:
            without = len(lacking["tumor_probability"])
            if 0 < without < len(rows):
                return name, f"{words}; {without} of {len(rows)} cases give no probability"
            return name, words
    return None, "neither tumour probability nor predicted tumour is there in every case"


def rank_cases(cases: Iterable[Row], score: str | None, config: EvaluateConfig) -> None:
    """Give each annotated case `detection_score` and `called_positive`, in place.

    A case without a usable prediction ranks lowest if it has a tumour and highest if it has
    none, and is called wrongly.
    """
    for case in cases:
        tumor = case["reference_tumor"]
        case["detection_score"] = case["called_positive"] = None
        if tumor is None or score is None:
            continue
        if case["status"] != "scored":
            case["detection_score"] = -math.inf if tumor else math.inf
            case["called_positive"] = not tumor
            continue
        case["detection_score"] = case[score]
        volume = case["tumor_volume_mm3_prediction"]
        if volume is None:
            case["called_positive"] = case["tumor_probability"] >= 0.5
        else:
            case["called_positive"] = volume > config.tumor_mm3


def summarize_detection(
    cases: Sequence[Row],
    lesions: Sequence[Row],
    note: str,
    score: str | None,
    config: EvaluateConfig,
) -> tuple[dict[str, Any], Roc | None]:
    """Patient and tumour sensitivity, specificity and AUC over all annotated cases.

    Args:
        cases: rows that `rank_cases` completed.
        lesions: rows of lesions.csv.
        note: what the score is.
        score: its column, or None.
        config: operating point and bootstrap.

    Returns:
        The summary's part on detection; and the ROC, where there are both kinds of cases.
    """
    known = [c for c in cases if c["reference_tumor"] is not None]
    with_tumor = [c for c in known if c["reference_tumor"]]
    without = [c for c in known if not c["reference_tumor"]]
    summary: dict[str, Any] = {
        "cases": len(known),
        "tumor_cases": len(with_tumor),
        "normal_cases": len(without),
        "cases_without_tumor_annotation": len(cases) - len(known),
        "score": score,
        "score_is": note,
    }
    summary["sensitivity_tumor"] = _proportion([bool(r["hit"]) for r in lesions]) | {
        "rule": HIT_RULE
    }
    if score is None:
        return summary | {"auc": None, "sensitivity_patient": None, "specificity": None}, None
    summary["operating_point"] = _operating_point(known, config)
    summary["sensitivity_patient"] = _proportion([c["called_positive"] for c in with_tumor])
    summary["specificity"] = _proportion([not c["called_positive"] for c in without])
    if not with_tumor or not without:
        return summary | {"auc": None, "auc_note": "needs cases with and without tumour"}, None
    truth = [bool(c["reference_tumor"]) for c in known]
    scores = [float(c["detection_score"]) for c in known]
    interval = bootstrap_auc(
        truth,
        scores,
        [c["patient_id"] for c in known],
        confidence=CONFIDENCE,
        samples=config.bootstrap_samples,
        seed=config.seed,
    )
    summary["auc"] = asdict(interval) | {
        "cases": len(known),
        "patients": len({c["patient_id"] for c in known}),
        "interval": f"{CONFIDENCE:.0%} percentile bootstrap of patients, "
        f"{config.bootstrap_samples} samples, seed {config.seed}",
    }
    return summary, roc_curve(truth, scores)


def _operating_point(cases: Iterable[Row], config: EvaluateConfig) -> str:
    scored = [c for c in cases if c["status"] == "scored"]
    if any(c["tumor_volume_mm3_prediction"] is None for c in scored):
        return "tumour probability >= 0.5"
    if config.tumor_mm3 == 0:
        return "any predicted tumour voxel"
    return f"predicted tumour volume > {config.tumor_mm3:g} mm3"


def _proportion(successes: Sequence[bool]) -> dict[str, Any]:
    interval = wilson_interval(sum(successes), len(successes), confidence=CONFIDENCE)
    return asdict(interval) | {
        "count": sum(successes),
        "of": len(successes),
        "interval": f"{CONFIDENCE:.0%} Wilson",
    }
