"""Which cases have a tumour, and how well the predictions tell.

Each kind of score that the cases have gives its own AUC, curves and operating points
(`case_scores`, `operating`); they are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pantskit.evaluate.case_scores import (
    CASE_SCORES,
    VOLUME,
    available_scores,
    case_value,
    describe_choice,
)
from pantskit.evaluate.operating import (
    CONFIDENCE,
    OperatingPoint,
    operating_points,
    patients_of,
    summarize_point,
)
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.curve_samples import (
    Band,
    Scored,
    average_precisions,
    precision_band,
    roc_band,
)
from pantskit.measure.curves import PrecisionRecall, precision_recall
from pantskit.measure.statistics import Roc, auc, delong_auc, roc_curve

Row = dict[str, Any]

# Specificities at which the sensitivity is read off the curve, for screening.
SPECIFICITIES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Curves:
    """The curves of one kind of score over all annotated cases, with their bootstrap bands."""

    roc: Roc
    precision_recall: PrecisionRecall
    roc_band: Band
    precision_band: Band


@dataclass(frozen=True)
class Detection:
    """Detection over all cases.

    Attributes:
        summary: for summary.json.
        score: column that ranks the cases; None where no kind of score is there.
        point: how cases are called positive; None likewise.
        curves: of the main score; None without cases of both kinds.
    """

    summary: dict[str, Any]
    score: str | None = None
    point: OperatingPoint | None = None
    curves: Curves | None = None


def rank_cases(cases: Iterable[Row], score: str | None, point: OperatingPoint | None) -> None:
    """Give each annotated case `detection_score` and `called_positive`, in place.

    The score of a case without a usable prediction is infinite: an empty cell in the table.
    """
    for case in cases:
        known = case["reference_tumor"] is not None
        case["detection_score"] = case_value(case, score) if known and score else None
        case["called_positive"] = point.calls(case) if known and point else None


def summarize_detection(cases: Sequence[Row], config: EvaluateConfig) -> Detection:
    """Patient sensitivity, specificity, AUC and operating points over all annotated cases.

    Args:
        cases: rows of cases.csv; `detection_score` and `called_positive` are filled in.
        config: operating points, bootstrap, prevalence.
    """
    known = [c for c in cases if c["reference_tumor"] is not None]
    scored = [c for c in known if c["status"] == "scored"]
    scores = available_scores(scored)
    score = scores[0] if scores else None
    points = operating_points(scores, config)
    point = points[0] if points else None
    rank_cases(cases, score, point)
    ill = sum(c["reference_tumor"] for c in known)
    both = 0 < ill < len(known)
    at = [summarize_point(known, p, config) for p in points]
    by_score = {name: summarize_score(known, name, config) for name in scores} if both else {}
    summary: dict[str, Any] = {
        "cases": len(known),
        "tumor_cases": ill,
        "normal_cases": len(known) - ill,
        "cases_without_tumor_annotation": len(cases) - len(known),
        "cases_without_predicted_tumor_mask": sum(c[VOLUME] is None for c in scored),
        "score": score,
        "score_is": describe_choice(scored, score),
        "operating_point": at[0]["point"] if at else None,
        "sensitivity_patient": at[0]["sensitivity_patient"] if at else None,
        "specificity": at[0]["specificity"] if at else None,
        "auc": by_score[score]["auc"] if by_score and score else None,
        "operating_points": at,
        "by_score": by_score,
        "intervals": f"{CONFIDENCE:.0%}; low, high: Wilson's (of an AUC the bootstrap's); "
        f"bootstrap: percentiles of {config.bootstrap_samples} samples of patients with all "
        f"their scans, seed {config.seed}; delong: DeLong's, every scan taken for a patient",
    }
    if not both:
        summary["auc_note"] = "needs cases with and without tumour"
    drawn = curves(known, score, config) if both and score else None
    return Detection(summary, score, point, drawn)


def summarize_score(cases: Sequence[Row], score: str, config: EvaluateConfig) -> dict[str, Any]:
    """AUC with both intervals, average precision, and sensitivity at fixed specificities.

    Args:
        cases: annotated cases of both kinds.
        score: column that ranks them.
        config: bootstrap.
    """
    items = _items(cases, score)
    boot = patients_of(cases, config)
    low, high = boot.interval(boot.auc(items.positive, items.scores))
    delong = delong_auc(items.positive, items.scores, confidence=CONFIDENCE)
    average = precision_recall(items.positive, items.scores).average_precision
    return {
        "score_is": CASE_SCORES[score],
        "auc": {
            "value": auc(items.positive, items.scores),
            "low": low,
            "high": high,
            "delong": [delong.low, delong.high],
            "cases": len(cases),
            "patients": boot.patients,
        },
        "average_precision": {
            "value": average,
            "bootstrap": list(boot.interval(average_precisions(boot, items))),
        },
        "sensitivity_at_specificity": _at_specificities(items, cases, config),
    }


def curves(cases: Sequence[Row], score: str, config: EvaluateConfig) -> Curves:
    """ROC and precision-recall of a score over annotated cases of both kinds."""
    items, boot = _items(cases, score), patients_of(cases, config)
    return Curves(
        roc_curve(items.positive, items.scores),
        precision_recall(items.positive, items.scores),
        roc_band(boot, items),
        precision_band(boot, items),
    )


def _items(cases: Sequence[Row], score: str) -> Scored:
    return Scored.of(
        [bool(c["reference_tumor"]) for c in cases], [case_value(c, score) for c in cases]
    )


def _at_specificities(
    items: Scored, cases: Sequence[Row], config: EvaluateConfig
) -> dict[str, dict[str, Any]]:
    """Largest sensitivity of a threshold with at least each specificity."""
    roc = roc_curve(items.positive, items.scores)
    rates = np.array([1 - wanted for wanted in SPECIFICITIES])
    band = roc_band(patients_of(cases, config), items, at=rates)
    # A little room: 1 - 0.95 is no float64.
    values = [roc.sensitivity[roc.false_positive_rate <= rate + 1e-12].max() for rate in rates]
    ends = np.stack([band.low, band.high], axis=1).tolist()
    return {
        f"{wanted:g}": {"value": float(value), "bootstrap": own}
        for wanted, value, own in zip(SPECIFICITIES, values, ends, strict=True)
    }
