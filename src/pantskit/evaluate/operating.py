"""Named ways to call a case positive, and how often each is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.evaluate.case_scores import VOLUME, case_value
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.bootstrap import Floats, PatientBootstrap
from pantskit.measure.statistics import predictive_values, wilson_interval

Row = dict[str, Any]

CONFIDENCE = 0.95

# A volume is a sum of float64 voxel volumes and a probability often a float32: what is equal to
# the threshold but for their rounding is meant to reach it.
ROUNDING = 1e-7


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

    def calls(self, case: Row) -> bool:
        """Whether an annotated case is called positive; wrongly without a usable prediction."""
        value = case_value(case, self.score)
        if self.strict:
            return value > self.threshold
        return value >= self.threshold or math.isclose(value, self.threshold, rel_tol=ROUNDING)


def operating_points(scores: Sequence[str], config: EvaluateConfig) -> list[OperatingPoint]:
    """The named operating points of the scores that are there, the main one first.

    The main one is the predicted volume, which every segmentation has: P-Sen counts a patient
    in whom any tumour is predicted.
    """
    anything = config.tumor_mm3 == 0
    volume = f"predicted tumour volume >= {config.tumor_mm3:g} mm3"
    points = [
        OperatingPoint(
            VOLUME,
            config.tumor_mm3,
            anything,
            "any predicted tumour voxel" if anything else volume,
        ),
        OperatingPoint(
            "tumor_probability",
            config.probability,
            False,
            f"tumour probability >= {config.probability:g}",
        ),
        OperatingPoint(
            "max_probability",
            config.probability,
            False,
            f"largest probability of the map >= {config.probability:g}",
        ),
    ]
    if config.case_score is not None:
        words = f"case score >= {config.case_score:g}"
        points.append(OperatingPoint("case_score", config.case_score, False, words))
    return [p for p in points if p.score in scores]


def summarize_point(
    cases: Sequence[Row], point: OperatingPoint, config: EvaluateConfig
) -> dict[str, Any]:
    """Sensitivity, specificity, precision, accuracy and F1 of one way to call cases positive.

    Args:
        cases: annotated cases.
        point: the rule.
        config: bootstrap, and prevalences for predictive values.

    Returns:
        Each share with Wilson's interval and that of a bootstrap of patients; F1, which is no
        share, with the latter alone; predictive values where there are cases of both kinds.
    """
    tally = tally_calls(cases, point)
    names = ("sensitivity_patient", "specificity", "precision", "accuracy")
    boot = patients_of(cases, config)
    samples = boot.ratios(*_parts_and_wholes(cases, point))
    ends = np.stack(boot.intervals(samples), axis=1).tolist()
    found: dict[str, Any] = {
        "point": point.words,
        "score": point.score,
        "threshold": point.threshold,
        **{n: tally[n] | {"bootstrap": e} for n, e in zip(names, ends, strict=False)},
        "f1": {"value": tally["f1"], "bootstrap": ends[-1]},
    }
    sensitivity, specificity = tally["sensitivity_patient"], tally["specificity"]
    if config.prevalence and sensitivity["of"] and specificity["of"]:
        of_samples = samples[:, :2][~np.isnan(samples[:, :2]).any(axis=1)]
        found["at_prevalence"] = {
            f"{share:g}": _at_prevalence(
                sensitivity["value"], specificity["value"], share, of_samples, boot
            )
            for share in config.prevalence
        }
    return found


def tally_calls(cases: Sequence[Row], point: OperatingPoint) -> dict[str, Any]:
    """How often a way to call annotated cases is right, with Wilson's intervals."""
    truth, called = _truth_and_calls(cases, point)
    hits, alarms = int((truth & called).sum()), int((called & ~truth).sum())
    ill, well = int(truth.sum()), int((~truth).sum())
    wrong = ill - hits + alarms
    return {
        "sensitivity_patient": proportion(hits, ill),
        "specificity": proportion(well - alarms, well),
        "precision": proportion(hits, hits + alarms),
        "f1": 2 * hits / (2 * hits + wrong) if hits + wrong else None,
        "accuracy": proportion(len(truth) - wrong, len(truth)),
    }


def proportion(successes: int, trials: int) -> dict[str, Any]:
    """A share with Wilson's interval and the counts it is made of."""
    interval = wilson_interval(successes, trials, confidence=CONFIDENCE)
    return asdict(interval) | {"count": successes, "of": trials}


def patients_of(cases: Sequence[Row], config: EvaluateConfig) -> PatientBootstrap:
    """Samples of the patients of these cases, as the settings ask."""
    return PatientBootstrap.of(
        [c["patient_id"] for c in cases],
        samples=config.bootstrap_samples,
        seed=config.seed,
        confidence=CONFIDENCE,
    )


def _truth_and_calls(
    cases: Sequence[Row], point: OperatingPoint
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    truth = np.array([bool(c["reference_tumor"]) for c in cases], dtype=np.bool_)
    return truth, np.array([point.calls(c) for c in cases], dtype=np.bool_)


def _parts_and_wholes(cases: Sequence[Row], point: OperatingPoint) -> tuple[Floats, Floats]:
    """(cases, 5) above and below the line: sensitivity, specificity, precision, accuracy, F1."""
    truth, called = _truth_and_calls(cases, point)
    hits, right = truth & called, truth == called
    columns = (
        (hits, truth),
        (~truth & ~called, ~truth),
        (hits, called),
        (right, np.ones_like(truth)),
        (2 * hits, 2 * hits + ~right),
    )
    above, below = (np.stack(side, axis=1) for side in zip(*columns, strict=True))
    return above.astype(np.float64), below.astype(np.float64)


def _at_prevalence(
    sensitivity: float,
    specificity: float,
    prevalence: float,
    of_samples: Floats,
    boot: PatientBootstrap,
) -> dict[str, Any]:
    values = predictive_values(sensitivity, specificity, prevalence)
    samples = np.array([predictive_values(a, b, prevalence) for a, b in of_samples.tolist()])
    low, high = boot.intervals(samples.reshape(-1, 2))
    return {
        name: {"value": value, "bootstrap": [float(a), float(b)]}
        for name, value, a, b in zip(("ppv", "npv"), values, low, high, strict=True)
    }
