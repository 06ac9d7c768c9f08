"""How well scores tell cases apart, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic, from the strictest threshold to the laxest.

    Attributes:
        thresholds: a case is called positive when its score is at least this; the first is
            infinite and calls none (unless a score is infinite too).
        sensitivity: share of positive cases called positive, at each threshold.
        false_positive_rate: share of negative cases called positive.
    """

    thresholds: Floats
    sensitivity: Floats
    false_positive_rate: Floats


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; NaN where there is nothing to estimate."""

    value: float
    low: float
    high: float


def roc_curve(positive: ArrayLike, scores: ArrayLike) -> Roc:
    """ROC with one point per distinct score: tied cases are crossed together.

    Args:
        positive: (n,) bool; the truth.
        scores: (n,) higher = more suspicious; infinite is allowed, NaN is not.

    Raises:
        ValueError: If the lengths differ, a score is NaN, or one class is missing.
    """
    truth, values = _checked(positive, scores)
    order = np.argsort(-values, kind="stable")
    truth, values = truth[order], values[order]
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    hits = np.cumsum(truth)[last]
    alarms = last + 1 - hits
    return Roc(
        thresholds=np.concatenate([[math.inf], values[last]]),
        sensitivity=np.concatenate([[0.0], hits / truth.sum()]),
        false_positive_rate=np.concatenate([[0.0], alarms / (~truth).sum()]),
    )


def auc(positive: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC: how often a positive case outranks a negative one, ties one half.

    Equal to Mann-Whitney's U over the number of pairs.

    Args:
        positive: (n,) bool.
        scores: (n,) higher = more suspicious; infinite is allowed.

    Returns:
        AUC in [0, 1], or NaN when one class is missing.

    Raises:
        ValueError: If the lengths differ or a score is NaN.
    """
    truth, values = _checked(positive, scores, both=False)
    if truth.all() or not truth.any():
        return math.nan
    return float(weighted_auc(truth, values, np.ones((1, truth.size)))[0])


def weighted_auc(truth: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """AUC for each row of case weights; NaN where a class has no weight.

    Args:
        truth: (n,) bool.
        scores: (n,).
        weights: (samples, n); how often each case counts.

    Returns:
        (samples,) AUC of each row.
    """
    _, level = np.unique(scores, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.flatnonzero(np.diff(level[order], prepend=-1))
    sorted_weights, sorted_truth = weights[:, order], truth[order]
    positives = np.add.reduceat(sorted_weights * sorted_truth, starts, axis=1)
    negatives = np.add.reduceat(sorted_weights * ~sorted_truth, starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    shares = np.full(len(wins), math.nan)
    np.divide(wins, pairs, out=shares, where=pairs > 0)
    return shares


def delong_auc(positive: ArrayLike, scores: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """AUC with DeLong's interval, which takes every scan for a patient of its own.

    The variance is that of the two samples of placements: how much of the other class each
    case outranks. Ranks alone enter, so infinite scores are allowed.

    Args:
        positive: (n,) bool.
        scores: (n,) higher = more suspicious.
        confidence: of the interval.

    Returns:
        The AUC and its normal interval, cut to [0, 1]; NaN ends where a class has fewer than
        two cases, and NaN where one is missing.

    Raises:
        ValueError: If the lengths differ or a score is NaN.

    Source: E. R. DeLong et al., Biometrics 44 (1988), 837-845.
    """
    truth, values = _checked(positive, scores, both=False)
    value = auc(truth, values)
    if min(truth.sum(), (~truth).sum()) < 2:
        return Interval(value, math.nan, math.nan)
    above, below = values[truth], values[~truth]
    of_positives = _placements(above, below)
    of_negatives = 1 - _placements(below, above)
    variance = of_positives.var(ddof=1) / above.size + of_negatives.var(ddof=1) / below.size
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _placements(values: Floats, others: Floats) -> Floats:
    """Share of `others` that each value exceeds, ties one half."""
    ordered = np.sort(others)
    less = np.searchsorted(ordered, values, side="left")
    not_more = np.searchsorted(ordered, values, side="right")
    shares: Floats = (less + not_more) / (2 * others.size)
    return shares


def predictive_values(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float, float]:
    """Positive and negative predictive value where a share `prevalence` has the disease.

    A screening population has far fewer tumours than a benchmark, so that the same test
    raises mostly false alarms there: Bayes' rule says how many.

    Returns:
        (PPV, NPV); NaN where nobody is called positive (or negative).

    Raises:
        ValueError: If the prevalence is not between 0 and 1.
    """
    if not 0 <= prevalence <= 1:
        raise ValueError(f"a prevalence is between 0 and 1, not {prevalence}")
    hits, misses = sensitivity * prevalence, (1 - sensitivity) * prevalence
    clear, alarms = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    ppv = hits / (hits + alarms) if hits + alarms else math.nan
    npv = clear / (clear + misses) if clear + misses else math.nan
    return ppv, npv


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval; NaN for no trials.

    Source: E. B. Wilson, JASA 22 (1927), 209-212.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return Interval(math.nan, math.nan, math.nan)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    half = z * spread / (1 + z * z / trials)
    # At 0 and n of n one end is exactly 0 or 1; rounding must not push it outside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(share, low, high)


def _checked(
    positive: ArrayLike, scores: ArrayLike, *, both: bool = True
) -> tuple[NDArray[np.bool_], Floats]:
    truth = np.asarray(positive, dtype=np.bool_)
    values = np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(f"one score per case is needed: {truth.shape} and {values.shape}")
    if np.isnan(values).any():
        raise ValueError("a score is NaN; leave the case out or rank it explicitly")
    if both and (truth.all() or not truth.any()):
        raise ValueError("a curve needs positive and negative cases")
    return truth, values
