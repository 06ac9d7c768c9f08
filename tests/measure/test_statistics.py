"""ROC, AUC and intervals, by hand and against scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from pantskit.measure.statistics import (
    auc,
    delong_auc,
    predictive_values,
    roc_curve,
    wilson_interval,
)

TRUTH = [True, True, False, False]


def test_auc_of_four_cases_by_hand() -> None:
    assert auc(TRUTH, [0.9, 0.8, 0.7, 0.1]) == 1.0
    assert auc(TRUTH, [0.1, 0.8, 0.7, 0.9]) == 0.25
    assert auc(TRUTH, [0.5, 0.5, 0.5, 0.5]) == 0.5
    assert auc(TRUTH, [0.7, 0.8, 0.7, 0.1]) == 3.5 / 4


def test_infinite_scores_rank_first_and_last() -> None:
    assert auc(TRUTH, [math.inf, 5.0, -math.inf, 0.0]) == 1.0
    assert auc(TRUTH, [-math.inf, 5.0, math.inf, 0.0]) == 0.25


def test_auc_needs_both_classes() -> None:
    assert math.isnan(auc([True, True], [0.1, 0.2]))
    with pytest.raises(ValueError, match="positive and negative"):
        roc_curve([True, True], [0.1, 0.2])


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auc(TRUTH, [0.1, math.nan, 0.2, 0.3])
    with pytest.raises(ValueError, match="one score per case"):
        auc(TRUTH, [0.1])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60).filter(
        lambda cases: len({truth for truth, _ in cases}) == 2
    )
)
def test_auc_with_ties_is_mann_whitneys_and_scikit_learns(cases: list[tuple[bool, int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth = np.array([t for t, _ in cases])
    scores = np.array([s for _, s in cases], dtype=float)
    statistic = mannwhitneyu(scores[truth], scores[~truth]).statistic
    assert auc(truth, scores) == pytest.approx(statistic / (truth.sum() * (~truth).sum()))
    assert auc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))
    curve = roc_curve(truth, scores)
    fpr, tpr, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, fpr)
    np.testing.assert_allclose(curve.sensitivity, tpr)
    np.testing.assert_allclose(curve.thresholds[1:], thresholds[1:])
    area = np.trapezoid(curve.sensitivity, curve.false_positive_rate)
    assert auc(truth, scores) == pytest.approx(area)


def test_wilson_interval_of_textbook_counts() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    for (hits, n), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        interval = wilson_interval(hits, n)
        assert (interval.low, interval.high) == pytest.approx(expected, abs=5e-5)
        assert interval.value == hits / n


def test_wilson_interval_of_none_of_nothing_is_unknown() -> None:
    assert math.isnan(wilson_interval(0, 0).value)
    assert wilson_interval(7, 7).high == 1.0
    with pytest.raises(ValueError, match="8 successes in 7"):
        wilson_interval(8, 7)


def scored_cases(seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.25
    return truth, np.round(rng.normal(truth * 1.0, 1.0), 1)  # rounded: with ties


@pytest.mark.parametrize("seed", range(5))
def test_delong_is_that_of_confidenceinterval(seed: int) -> None:
    from confidenceinterval import roc_auc_score

    truth, scores = scored_cases(seed)
    value, (low, high) = roc_auc_score(truth.astype(int), scores, confidence_level=0.9)
    ours = delong_auc(truth, scores, confidence=0.9)
    # The peer keeps its ranks in float32.
    assert (ours.value, ours.low, ours.high) == pytest.approx((value, low, high), abs=5e-7)


def test_delong_is_the_variance_of_every_pair() -> None:
    truth, scores = scored_cases(7, 40)
    ill, well = scores[truth], scores[~truth]
    wins = (ill[:, None] > well) + 0.5 * (ill[:, None] == well)
    variance = wins.mean(1).var(ddof=1) / ill.size + wins.mean(0).var(ddof=1) / well.size
    ours = delong_auc(truth, scores)
    assert ours.value == pytest.approx(wins.mean(), abs=1e-12)
    assert ours.value - ours.low == pytest.approx(1.959963984540054 * variance**0.5, abs=1e-12)


def test_delong_of_perfect_scores_has_no_width_and_of_one_case_no_end() -> None:
    perfect = delong_auc(TRUTH, [4.0, 3.0, 2.0, 1.0])
    assert (perfect.value, perfect.low, perfect.high) == (1, 1, 1)
    assert math.isnan(delong_auc([True, False, False], [3, 2, 1]).low)
    assert delong_auc(TRUTH, [-math.inf, 5.0, math.inf, 0.0]).value == 0.25


def test_predictive_values_by_hand() -> None:
    # 1,000 people, 10 ill: 9 found, 99 healthy ones called ill.
    ppv, npv = predictive_values(0.9, 0.9, 0.01)
    assert ppv == pytest.approx(9 / 108)
    assert npv == pytest.approx(891 / 892)
    assert math.isnan(predictive_values(0.0, 1.0, 0.1)[0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        predictive_values(0.5, 0.5, 1.5)
