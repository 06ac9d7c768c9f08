"""Bootstrap over patients: by hand, by enumeration and against confidenceinterval."""

from __future__ import annotations

import numpy as np
import pytest

from pantskit.measure.bootstrap import PatientBootstrap, bootstrap_auc
from pantskit.measure.statistics import auc


def scored_cases(seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.25
    return truth, np.round(rng.normal(truth * 1.0, 1.0), 1)  # rounded: with ties


def test_bootstrap_interval_holds_the_auc_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.3
    scores = rng.normal(size=200) + truth
    first = bootstrap_auc(truth, scores, range(200))
    again = bootstrap_auc(truth, scores, range(200))
    assert first == again
    assert first.low < first.value < first.high
    assert first.value == auc(truth, scores)
    # Hanley and McNeil's standard error for this AUC and these counts is about 0.034.
    assert 0.08 < first.high - first.low < 0.18


def test_bootstrap_draws_patients_not_scans() -> None:
    """Ten scans of each patient, all alike, tell no more than one scan each."""
    rng = np.random.default_rng(1)
    truth = np.arange(30) % 3 == 0
    scores = rng.normal(size=30) + truth
    one_each = bootstrap_auc(truth, scores, range(30))
    ten_each = bootstrap_auc(
        np.repeat(truth, 10), np.repeat(scores, 10), np.repeat(np.arange(30), 10).tolist()
    )
    as_if_apart = bootstrap_auc(np.repeat(truth, 10), np.repeat(scores, 10), range(300))
    assert (ten_each.low, ten_each.high) == pytest.approx((one_each.low, one_each.high))
    assert as_if_apart.high - as_if_apart.low < 0.5 * (ten_each.high - ten_each.low)


def test_bootstrap_of_perfect_separation_is_certain() -> None:
    interval = bootstrap_auc([True] * 5 + [False] * 5, range(10, 0, -1), range(10))
    assert (interval.low, interval.value, interval.high) == (1.0, 1.0, 1.0)


def test_bootstrap_is_near_that_of_confidenceinterval() -> None:
    from confidenceinterval import roc_auc_score

    truth, scores = scored_cases(1, 300)
    _, (low, high) = roc_auc_score(
        truth.astype(int), scores, method="bootstrap_percentile", n_resamples=500, random_state=3
    )
    ours = bootstrap_auc(truth, scores, range(truth.size), samples=4000, seed=4)
    # Five hundred samples leave the 2.5th percentile about 0.006 of doubt here.
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.02)


def test_a_sample_counts_every_patient_as_often_as_drawn_with_all_scans() -> None:
    boot = PatientBootstrap.of(["a", "a", "b"], samples=500)
    weights = np.concatenate(list(boot.weights()))
    assert weights.shape == (500, 3)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert set(map(tuple, weights[:, 1:].tolist())) == {(2.0, 0.0), (1.0, 1.0), (0.0, 2.0)}


def test_ratios_of_sums_are_those_of_the_drawn_scans() -> None:
    """Patient a has scans of 1 and 3, patient b one of 8: means 2, 8, or 4 of all three."""
    boot = PatientBootstrap.of(["a", "a", "b"], samples=500)
    ratios = boot.ratios([[1.0], [3.0], [8.0]], np.ones((3, 1)))
    assert set(ratios[:, 0].tolist()) == {2.0, 4.0, 8.0}
    assert boot.interval(ratios[:, 0]) == (2.0, 8.0)


def test_samples_with_nothing_below_the_line_are_left_out() -> None:
    boot = PatientBootstrap.of(["a", "b"], samples=200)
    ratios = boot.ratios([[5.0], [0.0]], [[1.0], [0.0]])
    assert np.isnan(ratios).any()
    assert boot.interval(ratios[:, 0]) == (5.0, 5.0)
    nothing = PatientBootstrap.of([], samples=10)
    assert nothing.ratios(np.empty((0, 1)), np.empty((0, 1))).shape == (0, 1)
    assert all(np.isnan(nothing.interval(np.empty(0))))


def test_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(2).normal(0.8, 0.1, size=(400, 1))
    boot = PatientBootstrap.of(range(400), samples=4000)
    low, high = boot.interval(boot.ratios(values, np.ones_like(values))[:, 0])
    half = 1.96 * values.std() / 400**0.5
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=5e-4)


def test_the_same_seed_draws_the_same_samples_for_every_statistic() -> None:
    truth, scores = scored_cases(3)
    boot = PatientBootstrap.of(range(truth.size), samples=50)
    again = [auc(np.repeat(truth, w.astype(int)), np.repeat(scores, w.astype(int)))
             for chunk in boot.weights() for w in chunk]  # fmt: skip
    assert boot.auc(truth, scores) == pytest.approx(again, nan_ok=True)
