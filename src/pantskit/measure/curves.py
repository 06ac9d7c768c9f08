"""Curves over all thresholds: precision against recall, and FROC."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall from the strictest threshold to the laxest.

    Attributes:
        thresholds: what scores at least this is called positive.
        precision: share of those that are.
        recall: share of the positives that are called.
        average_precision: sum over thresholds of precision times the growth of recall, a step
            integral without interpolation; NaN without positives.
    """

    thresholds: Floats
    precision: Floats
    recall: Floats
    average_precision: float


def precision_recall(positive: ArrayLike, scores: ArrayLike, *, missed: int = 0) -> PrecisionRecall:
    """Precision and recall with one point per distinct score: ties are crossed together.

    Args:
        positive: (n,) bool.
        scores: (n,) higher = more suspicious; not NaN.
        missed: positives that have no score at all, such as lesions without a candidate: no
            threshold finds them.

    Raises:
        ValueError: If the lengths differ or a score is NaN.
    """
    truth = np.asarray(positive, dtype=np.bool_)
    values = np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1 or np.isnan(values).any():
        raise ValueError(f"one score, not NaN, for each: {truth.shape} and {values.shape}")
    hits, calls, thresholds = _crossed(truth, values)
    total = int(truth.sum()) + missed
    precision = hits / np.maximum(calls, 1)
    recall = hits / total if total else np.full(hits.shape, math.nan)
    grown = np.diff(recall, prepend=0.0)
    average = float((precision * grown).sum()) if total else math.nan
    return PrecisionRecall(thresholds, precision, recall, average)


@dataclass(frozen=True)
class Froc:
    """Free-response ROC, from no candidate at all to all of them.

    Attributes:
        thresholds: candidates of at least this confidence count; the first is infinite.
        sensitivity: share of all lesions found.
        false_positives: per scan, over all scans.
    """

    thresholds: Floats
    sensitivity: Floats
    false_positives: Floats

    def sensitivity_at(self, false_positives: float) -> float:
        """Largest share of lesions found with at most so many false positives per scan."""
        return float(self.sensitivity[self.false_positives <= false_positives].max())


def froc_curve(found: ArrayLike, wrong: ArrayLike, *, lesions: int, scans: int) -> Froc:
    """Lesions found against false positives per scan.

    Args:
        found: (n,) confidence of each candidate that found a lesion.
        wrong: (m,) confidence of each false positive.
        lesions: in all scans, those without a candidate included.
        scans: all of them, with and without lesions.

    Returns:
        The curve; its sensitivity is NaN without lesions.

    Raises:
        ValueError: If there is no scan, more lesions found than there are, or a NaN.
    """
    right, false = np.asarray(found, np.float64), np.asarray(wrong, np.float64)
    if scans < 1 or right.size > lesions or np.isnan(right).any() or np.isnan(false).any():
        raise ValueError(f"{right.size} of {lesions} lesions found in {scans} scans")
    truth = np.repeat([True, False], [right.size, false.size])
    hits, calls, thresholds = _crossed(truth, np.concatenate([right, false]))
    share = hits / lesions if lesions else np.full(hits.shape, math.nan)
    return Froc(
        np.concatenate([[math.inf], thresholds]),
        np.concatenate([[0.0 if lesions else math.nan], share]),
        np.concatenate([[0.0], (calls - hits) / scans]),
    )


def _crossed(truth: NDArray[np.bool_], values: Floats) -> tuple[Floats, Floats, Floats]:
    """True ones and all that score at least as much, at each distinct score, highest first."""
    if not values.size:
        none = np.empty(0)
        return none, none, none
    order = np.argsort(-values, kind="stable")
    truth, values = truth[order], values[order]
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    return np.cumsum(truth)[last].astype(np.float64), last + 1.0, values[last]
