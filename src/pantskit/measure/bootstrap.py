"""Intervals by drawing patients again: scans of one patient are not independent.

A patient that is drawn brings all their scans along, as often as they were drawn. The draws
depend on nothing but the seed and the patients, so that two statistics of the same cases are
taken of the same samples and may be combined sample by sample.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pantskit.measure.statistics import Interval, auc, weighted_auc

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_AT_ONCE = 2_000_000  # weights in memory at a time: some 50 MB with what is made of them


@dataclass(frozen=True)
class PatientBootstrap:
    """Samples of patients with replacement, each as large as the cohort.

    Attributes:
        whose: (cases,) number of the patient of each case, from 0.
        samples: how many.
        seed: the same one gives the same samples.
        confidence: of the intervals.
    """

    whose: Indices
    samples: int = 2000
    seed: int = 0
    confidence: float = 0.95

    @classmethod
    def of(
        cls,
        patients: Sequence[Hashable],
        *,
        samples: int = 2000,
        seed: int = 0,
        confidence: float = 0.95,
    ) -> PatientBootstrap:
        """Samples of the patients whose cases these are, one name a case."""
        numbers = {patient: n for n, patient in enumerate(dict.fromkeys(patients))}
        whose = np.array([numbers[patient] for patient in patients], dtype=np.int64)
        return cls(whose, samples, seed, confidence)

    @property
    def patients(self) -> int:
        """How many there are."""
        return int(self.whose.max(initial=-1)) + 1

    def ratios(self, parts: ArrayLike, wholes: ArrayLike) -> Floats:
        """Ratios of two sums over cases, in each sample.

        A mean is the sum of values over the number of cases that have one, a sensitivity the
        hits over the tumour cases: whatever is made of sums comes from here.

        Args:
            parts: (cases, m) what is summed above the line.
            wholes: (cases, m) below it.

        Returns:
            (samples, m); NaN where a sample has nothing below the line.
        """
        above, below = self._by_patient(parts), self._by_patient(wholes)
        found = [_ratio(times @ above, times @ below) for times in self._times()]
        return np.concatenate(found) if found else np.empty((0, above.shape[1]))

    def auc(self, positive: ArrayLike, scores: ArrayLike) -> Floats:
        """(samples,) AUC; NaN in a sample without one of the classes."""
        truth = np.asarray(positive, dtype=np.bool_)
        values = np.asarray(scores, dtype=np.float64)
        return self._each(weighted_auc(truth, values, w) for w in self.weights())

    def weights(self) -> Iterator[Floats]:
        """(some samples, cases) how often each case counts, until all samples are through."""
        for times in self._times():
            yield times[:, self.whose]

    def interval(self, samples: Floats) -> tuple[float, float]:
        """The ends that leave out as much on either side; NaN without a sample that has one."""
        low, high = self.intervals(samples[:, None])
        return float(low[0]), float(high[0])

    def intervals(self, samples: Floats) -> tuple[Floats, Floats]:
        """`interval` of each column of (samples, m): two arrays (m,)."""
        tail = 50 * (1 - self.confidence)
        low, high = (np.full(samples.shape[1], np.nan) for _ in range(2))
        for m, column in enumerate(samples.T):
            known = column[~np.isnan(column)]
            if known.size:
                low[m], high[m] = np.percentile(known, [tail, 100 - tail])
        return low, high

    def _times(self) -> Iterator[Floats]:
        """(some samples, patients) how often each was drawn."""
        rng = np.random.default_rng(self.seed)
        many = self.patients
        chunk = max(1, _AT_ONCE // max(1, self.whose.size))
        for start in range(0, self.samples if many else 0, chunk):
            drawn = rng.integers(0, many, size=(min(chunk, self.samples - start), many))
            times = [np.bincount(row, minlength=many) for row in drawn]
            yield np.stack(times).astype(np.float64)

    def _by_patient(self, values: ArrayLike) -> Floats:
        array = np.asarray(values, dtype=np.float64)
        sums = np.zeros((self.patients, array.shape[1]))
        np.add.at(sums, self.whose, array)
        return sums

    @staticmethod
    def _each(chunks: Iterator[Floats]) -> Floats:
        found = list(chunks)
        return np.concatenate(found) if found else np.empty(0)


def bootstrap_auc(
    positive: ArrayLike,
    scores: ArrayLike,
    patients: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """AUC with a percentile interval over samples of patients.

    Samples in which one class is missing are left out.

    Args:
        positive: (n,) bool; per scan.
        scores: (n,) per scan; infinite is allowed.
        patients: (n,) whose scan it is.
        confidence: of the interval.
        samples: number of bootstrap samples.
        seed: of the draws: the same input gives the same interval.

    Returns:
        The AUC of the cases as they are, with its interval; NaN when one class is missing.

    Raises:
        ValueError: If the lengths differ or a score is NaN.
    """
    value = auc(positive, scores)
    if np.isnan(value):
        return Interval(value, value, value)
    boot = PatientBootstrap.of(patients, samples=samples, seed=seed, confidence=confidence)
    return Interval(value, *boot.interval(boot.auc(positive, scores)))


def _ratio(above: Floats, below: Floats) -> Floats:
    shares = np.full(above.shape, np.nan)
    np.divide(above, below, out=shares, where=below != 0)
    return shares
