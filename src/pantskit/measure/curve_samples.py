"""Curves in each bootstrap sample of patients: bands around them, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pantskit.measure.bootstrap import Floats, Indices, PatientBootstrap

GRID: Floats = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Band:
    """Where a curve lies in the given share of samples, point by point.

    Attributes:
        at: places along the x axis.
        low, high: ends of the interval at each; NaN where no sample has a value.
    """

    at: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Scored:
    """What is ranked by a score, each item belonging to a case: cases, or candidates.

    Attributes:
        positive: (n,) bool.
        scores: (n,) higher = more suspicious; not NaN.
        case: (n,) number of the case that each belongs to.
    """

    positive: NDArray[np.bool_]
    scores: Floats
    case: Indices

    @classmethod
    def of(cls, positive: ArrayLike, scores: ArrayLike, case: ArrayLike | None = None) -> Scored:
        """Items from sequences; without `case` each is the case of its place."""
        truth = np.asarray(positive, dtype=np.bool_)
        numbers = np.arange(truth.size) if case is None else np.asarray(case, dtype=np.int64)
        return cls(truth, np.asarray(scores, dtype=np.float64), numbers)


def average_precisions(
    boot: PatientBootstrap, items: Scored, missed: ArrayLike | None = None
) -> Floats:
    """Average precision in each sample, by a step integral as in `precision_recall`.

    Args:
        boot: samples of the cases.
        items: what is ranked.
        missed: (cases,) positives of each case that have no score.

    Returns:
        (samples,); NaN in a sample without positives.
    """

    def of_sample(hits: Floats, calls: Floats, weights: Floats) -> Floats:
        total = _last(hits) + (0.0 if lost is None else weights @ lost)
        precision = hits / np.maximum(calls, 1)
        sums = (precision * np.diff(hits, axis=1, prepend=0.0)).sum(axis=1)
        return _share(sums, total)

    lost = None if missed is None else np.asarray(missed, dtype=np.float64)
    return _concatenated(of_sample(*crossed) for crossed in _crossings(boot, items))


def sensitivities_at(
    boot: PatientBootstrap,
    items: Scored,
    lesions: ArrayLike,
    false_positives: Sequence[float],
) -> Floats:
    """Share of lesions found at rates of false positives per scan, in each sample.

    Args:
        boot: samples of the cases, which are the scans.
        items: candidates that found a lesion (positive) or are false.
        lesions: (cases,) lesions of each case.
        false_positives: rates; see `Froc.sensitivity_at`.

    Returns:
        (samples, rates); NaN in a sample without lesions.
    """
    per_case = np.asarray(lesions, dtype=np.float64)

    def of_sample(hits: Floats, calls: Floats, weights: Floats) -> Floats:
        start = np.zeros((len(weights), 1))
        found, wrong = np.hstack([start, hits]), np.hstack([start, calls - hits])
        scans = weights.sum(axis=1, keepdims=True)
        shares = []
        for rate in false_positives:
            # Crossing a threshold adds to both counts: the last one within the rate is the best.
            last = (wrong <= rate * scans).sum(axis=1) - 1
            shares.append(_share(found[np.arange(len(found)), last], weights @ per_case))
        return np.stack(shares, axis=1)

    return _concatenated(of_sample(*crossed) for crossed in _crossings(boot, items))


def roc_band(boot: PatientBootstrap, items: Scored, *, at: Floats = GRID) -> Band:
    """Sensitivity at false positive rates: of the laxest threshold that stays within each."""

    def of_sample(hits: Floats, alarms: Floats) -> Floats:
        rates, shares = alarms / alarms[-1], np.concatenate([[0.0], hits / hits[-1]])
        return np.asarray(shares[np.searchsorted(rates, at + 1e-12, side="right")])

    return _band(boot, items, of_sample, at)


def precision_band(boot: PatientBootstrap, items: Scored, *, at: Floats = GRID) -> Band:
    """Precision at recalls: of the strictest threshold that reaches each."""

    def of_sample(hits: Floats, alarms: Floats) -> Floats:
        precision = hits / np.maximum(hits + alarms, 1)
        reached = np.searchsorted(hits / hits[-1], at - 1e-12, side="left")
        return np.asarray(precision[reached])

    return _band(boot, items, of_sample, at)


def _band(
    boot: PatientBootstrap,
    items: Scored,
    of_sample: Callable[[Floats, Floats], Floats],
    at: Floats,
) -> Band:
    """Intervals over the samples that hold items of both classes."""
    curves = [np.empty((0, at.size))]
    for hits, calls, _ in _crossings(boot, items):
        for right, wrong in zip(hits, calls - hits, strict=True):
            if right[-1] and wrong[-1]:
                seen = np.diff(right + wrong, prepend=0.0) > 0  # thresholds of drawn items
                curves.append(of_sample(right[seen], wrong[seen])[None])
    return Band(at, *boot.intervals(np.concatenate(curves)))


def _crossings(boot: PatientBootstrap, items: Scored) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Weight of the positive ones, and of all, that score at least each distinct score.

    Yields:
        Two arrays (some samples, distinct scores), highest score first; and the weights of
        the cases, (some samples, cases).
    """
    order = np.argsort(-items.scores, kind="stable")
    scores, truth, case = items.scores[order], items.positive[order], items.case[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: scores.size])
    for weights in boot.weights():
        of_items = weights[:, case]
        hits = np.cumsum(of_items * truth, axis=1)[:, last]
        yield hits, np.cumsum(of_items, axis=1)[:, last], weights


def _last(sums: Floats) -> Floats:
    """The last column; 0 where there is none."""
    return np.asarray(sums[:, -1] if sums.shape[1] else np.zeros(len(sums)))


def _share(parts: Floats, wholes: Floats) -> Floats:
    shares = np.full(parts.shape, np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _concatenated(chunks: Iterator[Floats]) -> Floats:
    found = list(chunks)
    return np.concatenate(found) if found else np.empty(0)
