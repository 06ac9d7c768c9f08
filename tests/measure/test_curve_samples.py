"""Curves in bootstrap samples, against the same curves of the cases as drawn."""

from __future__ import annotations

import numpy as np
import pytest

from pantskit.measure.bootstrap import PatientBootstrap
from pantskit.measure.curve_samples import (
    Scored,
    average_precisions,
    precision_band,
    roc_band,
    sensitivities_at,
)
from pantskit.measure.curves import froc_curve, precision_recall
from pantskit.measure.statistics import roc_curve

BOOT = PatientBootstrap.of([n // 2 for n in range(40)], samples=60, seed=5)
RNG = np.random.default_rng(5)
TRUTH = RNG.random(40) < 0.4
SCORES = np.round(RNG.normal(TRUTH * 1.0, 1.0), 1)


def drawn() -> list[np.ndarray]:
    return [row.astype(int) for chunk in BOOT.weights() for row in chunk]


def test_average_precision_of_a_sample_is_that_of_the_cases_drawn() -> None:
    expected = [
        precision_recall(np.repeat(TRUTH, w), np.repeat(SCORES, w)).average_precision
        for w in drawn()
    ]
    assert average_precisions(BOOT, Scored.of(TRUTH, SCORES)) == pytest.approx(expected)


def candidates() -> tuple[Scored, np.ndarray, np.ndarray]:
    """Candidates of 40 scans, lesions a scan, and those that nothing found."""
    case = RNG.integers(0, 40, 70)
    found = RNG.random(70) < 0.3
    missed = RNG.integers(0, 2, 40)
    lesions = missed + np.bincount(case[found], minlength=40)
    return Scored.of(found, np.round(RNG.random(70), 1), case), lesions, missed


def test_lesion_average_precision_counts_missed_lesions_of_drawn_scans() -> None:
    items, _, missed = candidates()
    expected = [
        precision_recall(
            np.repeat(items.positive, w[items.case]),
            np.repeat(items.scores, w[items.case]),
            missed=int((w * missed).sum()),
        ).average_precision
        for w in drawn()
    ]
    assert average_precisions(BOOT, items, missed) == pytest.approx(expected)


def test_lesion_sensitivity_of_a_sample_is_read_off_its_own_froc() -> None:
    items, lesions, _ = candidates()
    rates = (1.0, 0.5, 0.1, 0.01)
    expected = []
    for w in drawn():
        times, values = w[items.case], items.scores
        curve = froc_curve(
            np.repeat(values[items.positive], times[items.positive]),
            np.repeat(values[~items.positive], times[~items.positive]),
            lesions=int((w * lesions).sum()),
            scans=int(w.sum()),
        )
        expected.append([curve.sensitivity_at(rate) for rate in rates])
    np.testing.assert_allclose(sensitivities_at(BOOT, items, lesions, rates), expected)


def test_bands_are_the_percentiles_of_the_curves_of_the_samples() -> None:
    at = np.array([0.0, 0.2, 0.5, 1.0])
    sensitivities, precisions = [], []
    for w in drawn():
        truth, scores = np.repeat(TRUTH, w), np.repeat(SCORES, w)
        roc = roc_curve(truth, scores)
        within = [roc.false_positive_rate <= x + 1e-9 for x in at]
        sensitivities.append([roc.sensitivity[i].max() for i in within])
        curve = precision_recall(truth, scores)
        precisions.append([curve.precision[curve.recall >= x - 1e-9][0] for x in at])
    for band, values in (
        (roc_band(BOOT, Scored.of(TRUTH, SCORES), at=at), sensitivities),
        (precision_band(BOOT, Scored.of(TRUTH, SCORES), at=at), precisions),
    ):
        np.testing.assert_allclose(band.low, np.percentile(values, 2.5, axis=0))
        np.testing.assert_allclose(band.high, np.percentile(values, 97.5, axis=0))


def test_without_candidates_nothing_is_found() -> None:
    nothing = Scored.of([], [], [])
    ones = np.ones(40)
    assert set(average_precisions(BOOT, nothing, ones).tolist()) == {0.0}
    assert set(sensitivities_at(BOOT, nothing, ones, (0.1,)).ravel().tolist()) == {0.0}
    assert np.isnan(average_precisions(BOOT, nothing, np.zeros(40))).all()
