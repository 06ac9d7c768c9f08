"""Which cases have a tumour, and how well the predictions tell.

A case is told by a score, of which there are three kinds (`CASE_SCORES`); each kind that every
scored case has gives its own AUC, curves and operating points, and they are never mixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.records import read_table
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.bootstrap import bootstrap_auc
from pantskit.measure.curves import PrecisionRecall, precision_recall
from pantskit.measure.statistics import (
    Roc,
    delong_auc,
    predictive_values,
    roc_curve,
    wilson_interval,
)

Row = dict[str, Any]

# The kinds of score, the most telling first.
CASE_SCORES = {
    "case_score": "score of the case as given by --case-scores",
    "tumor_probability": "tumour probability of the case, from prediction.json or the largest "
    "of its probability map",
    "tumor_volume_mm3_prediction": "volume in mm3 of the predicted tumour mask",
}
CONFIDENCE = 0.95

# Specificities at which the sensitivity is read off the curve, for screening.
SPECIFICITIES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Curves:
    """The curves of one kind of score over all annotated cases."""

    roc: Roc
    precision_recall: PrecisionRecall


@dataclass(frozen=True)
class Detection:
    """Detection over all cases.

    Attributes:
        summary: for summary.json.
        score: column that ranks the cases; None where no kind of score is complete.
        point: how cases are called positive; None likewise.
        curves: of the main score; None without cases of both kinds.
    """

    summary: dict[str, Any]
    score: str | None = None
    point: OperatingPoint | None = None
    curves: Curves | None = None

    @property
    def auroc(self) -> float | None:
        """The main score's AUC."""
        return self.summary["auc"]["value"] if self.summary["auc"] else None


def complete_scores(cases: Iterable[Row]) -> list[str]:
    """The kinds of score that every scored case has, the most telling first."""
    rows = list(cases)
    return [name for name in CASE_SCORES if rows and all(r.get(name) is not None for r in rows)]


def describe_choice(cases: Iterable[Row], score: str | None) -> str:
    """Why this score ranks the cases, for the summary."""
    rows = list(cases)
    if score is None:
        return "neither tumour probability nor predicted tumour is there in every case"
    without = sum(r.get("tumor_probability") is None for r in rows)
    if score == "tumor_volume_mm3_prediction" and 0 < without < len(rows):
        return f"{CASE_SCORES[score]}; {without} of {len(rows)} cases give no probability"
    return CASE_SCORES[score]


def case_value(case: Row, score: str) -> float:
    """The score of an annotated case; without a usable prediction it is the worst there is.

    A tumour case then ranks lowest and a normal one highest, and each is called wrongly.
    """
    if case["status"] != "scored":
        return -math.inf if case["reference_tumor"] else math.inf
    return float(case[score])


@dataclass(frozen=True)
class OperatingPoint:
    """A rule that calls a case positive.

    Attributes:
        score: column of the score.
        threshold: of it.
        strict: `>` rather than `>=`.
        words: for people.
    """

    score: str
    threshold: float
    strict: bool
    words: str

    def calls(self, value: float) -> bool:
        """Whether a case of this score is called positive."""
        return value > self.threshold if self.strict else value >= self.threshold


def operating_points(scores: Sequence[str], config: EvaluateConfig) -> list[OperatingPoint]:
    """The named operating points of the scores that are there, the main one first.

    The main one is the predicted volume, which every segmentation has: P-Sen counts a patient
    in whom any tumour is predicted.
    """
    volume = "any predicted tumour voxel"
    if config.tumor_mm3 > 0:
        volume = f"predicted tumour volume > {config.tumor_mm3:g} mm3"
    points = [
        OperatingPoint("tumor_volume_mm3_prediction", config.tumor_mm3, True, volume),
        OperatingPoint(
            "tumor_probability",
            config.probability,
            False,
            f"tumour probability >= {config.probability:g}",
        ),
    ]
    if config.case_score is not None:
        words = f"case score >= {config.case_score:g}"
        points.append(OperatingPoint("case_score", config.case_score, False, words))
    return [p for p in points if p.score in scores]


def rank_cases(cases: Iterable[Row], score: str | None, point: OperatingPoint | None) -> None:
    """Give each annotated case `detection_score` and `called_positive`, in place."""
    for case in cases:
        known = case["reference_tumor"] is not None
        case["detection_score"] = case_value(case, score) if known and score else None
        case["called_positive"] = (
            point.calls(case_value(case, point.score)) if known and point else None
        )


def summarize_detection(cases: Sequence[Row], config: EvaluateConfig) -> Detection:
    """Patient sensitivity, specificity, AUC and operating points over all annotated cases.

    Args:
        cases: rows of cases.csv; `detection_score` and `called_positive` are filled in.
        config: operating points, bootstrap, prevalence.
    """
    known = [c for c in cases if c["reference_tumor"] is not None]
    scored = [c for c in known if c["status"] == "scored"]
    scores = complete_scores(scored)
    score = scores[0] if scores else None
    points = operating_points(scores, config)
    point = points[0] if points else None
    rank_cases(cases, score, point)
    with_tumor = [c for c in known if c["reference_tumor"]]
    summary: dict[str, Any] = {
        "cases": len(known),
        "tumor_cases": len(with_tumor),
        "normal_cases": len(known) - len(with_tumor),
        "cases_without_tumor_annotation": len(cases) - len(known),
        "score": score,
        "score_is": describe_choice(scored, score),
    }
    if score is None:
        return Detection(summary | dict.fromkeys(("auc", "sensitivity_patient", "specificity")))
    at = [summarize_point(known, point, config) for point in points]
    if at:
        summary["operating_point"] = at[0]["point"]
        summary |= {name: at[0][name] for name in ("sensitivity_patient", "specificity")}
    summary["operating_points"] = at
    both = 0 < len(with_tumor) < len(known)
    by_score = {name: summarize_score(known, name, config) for name in scores} if both else {}
    summary["by_score"] = by_score
    if not both:
        summary |= {"auc": None, "auc_note": "needs cases with and without tumour"}
        return Detection(summary, score, point)
    summary["auc"] = by_score[score]["auc"]
    return Detection(summary, score, point, curves(known, score))


def summarize_point(
    cases: Sequence[Row], point: OperatingPoint, config: EvaluateConfig
) -> dict[str, Any]:
    """Sensitivity, specificity, F1 and accuracy of one way to call cases positive.

    Args:
        cases: annotated cases.
        point: the rule.
        config: prevalences for predictive values.
    """
    tally = tally_calls(cases, lambda case: point.calls(case_value(case, point.score)))
    found = {"point": point.words, "score": point.score, "threshold": point.threshold} | tally
    sensitivity, specificity = tally["sensitivity_patient"], tally["specificity"]
    if config.prevalence and sensitivity["of"] and specificity["of"]:
        found["at_prevalence"] = {
            f"{prevalence:g}": dict(
                zip(
                    ("ppv", "npv"),
                    predictive_values(sensitivity["value"], specificity["value"], prevalence),
                    strict=True,
                )
            )
            for prevalence in config.prevalence
        }
    return found


def tally_calls(cases: Iterable[Row], call: Callable[[Row], bool]) -> dict[str, Any]:
    """How often a way to call cases is right, with Wilson's intervals."""
    pairs = [(bool(c["reference_tumor"]), call(c)) for c in cases]
    hits = sum(truth and called for truth, called in pairs)
    alarms = sum(called and not truth for truth, called in pairs)
    ill = sum(truth for truth, _ in pairs)
    well = len(pairs) - ill
    wrong = ill - hits + alarms
    return {
        "sensitivity_patient": proportion(hits, ill),
        "specificity": proportion(well - alarms, well),
        "precision": proportion(hits, hits + alarms),
        "f1": 2 * hits / (2 * hits + wrong) if hits + wrong else None,
        "accuracy": proportion(len(pairs) - wrong, len(pairs)),
    }


def curves(cases: Sequence[Row], score: str) -> Curves:
    """ROC and precision-recall of a score over annotated cases of both kinds."""
    truth = [bool(c["reference_tumor"]) for c in cases]
    values = [case_value(c, score) for c in cases]
    return Curves(roc_curve(truth, values), precision_recall(truth, values))


def summarize_score(cases: Sequence[Row], score: str, config: EvaluateConfig) -> dict[str, Any]:
    """AUC with both intervals, average precision, and sensitivity at fixed specificities."""
    truth = [bool(c["reference_tumor"]) for c in cases]
    values = [case_value(c, score) for c in cases]
    patients = [c["patient_id"] for c in cases]
    interval = bootstrap_auc(
        truth,
        values,
        patients,
        confidence=CONFIDENCE,
        samples=config.bootstrap_samples,
        seed=config.seed,
    )
    delong = delong_auc(truth, values, confidence=CONFIDENCE)
    drawn = curves(cases, score)
    return {
        "score_is": CASE_SCORES[score],
        "auc": asdict(interval)
        | {
            "delong": [delong.low, delong.high],
            "cases": len(cases),
            "patients": len(set(patients)),
            "interval": f"{CONFIDENCE:.0%} percentile bootstrap of patients, "
            f"{config.bootstrap_samples} samples, seed {config.seed}; delong: DeLong's, which "
            "takes every scan for a patient",
        },
        "average_precision": drawn.precision_recall.average_precision,
        "sensitivity_at_specificity": {
            f"{wanted:g}": _sensitivity_at(drawn.roc, wanted) for wanted in SPECIFICITIES
        },
    }


def _sensitivity_at(roc: Roc, specificity: float) -> float:
    """Largest sensitivity of a threshold with at least this specificity."""
    # Half a case of rounding room: 1 - 0.95 is no float64.
    return float(roc.sensitivity[roc.false_positive_rate <= 1 - specificity + 1e-12].max())


def proportion(successes: int, trials: int) -> dict[str, Any]:
    """A share with Wilson's interval and the counts it is made of."""
    interval = wilson_interval(successes, trials, confidence=CONFIDENCE)
    return asdict(interval) | {"count": successes, "of": trials}


def open_case_scores(path: Path) -> dict[str, float]:
    """case_id to score, from a table (.csv, .parquet, .xlsx) with these two columns.

    Raises:
        ConfigError: If it cannot be read, a column is missing, a case is there twice, or a score
            is no number.
    """
    try:
        rows = read_table(path)
    except DatasetError as error:
        raise ConfigError(str(error)) from None
    scores: dict[str, float] = {}
    for row in rows:
        if not {"case_id", "score"} <= row.keys():
            raise ConfigError(f"{path}: needs the columns case_id and score, found {list(row)}")
        case_id, value = str(row["case_id"]), row["score"]
        if case_id in scores:
            raise ConfigError(f"{path}: case {case_id} is there twice; keep one row")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ConfigError(f"{path}: the score of {case_id} is {value!r}, no number")
        scores[case_id] = float(value)
    return scores
