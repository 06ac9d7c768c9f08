"""Lesion matching by hand, and picai_eval's ten crafted cases by their overlaps."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantskit.measure.curves import froc_curve, precision_recall
from pantskit.measure.matching import RULES, match_lesions, overlaps

SHARED = np.array([[10, 0], [0, 2]])  # two lesions of 40 and 8 voxels, candidates of 20 and 4
LESIONS, CANDIDATES = np.array([40, 8]), np.array([20, 4])


def test_overlap_of_each_rule_by_hand():
    by = {
        rule: overlaps(SHARED, LESIONS, CANDIDATES, rule, centre_in=np.array([0, -1]))
        for rule in RULES
    }
    assert by["touch"].tolist() == [[1, 0], [0, 1]]
    assert by["iou"].tolist() == [[10 / 50, 0], [0, 2 / 10]]
    assert by["dice"].tolist() == [[20 / 60, 0], [0, 4 / 12]]
    assert by["overlap"].tolist() == [[10 / 40, 0], [0, 2 / 8]]
    assert by["centre"].tolist() == [[1, 0], [0, 0]]


def test_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="unknown matching rule"):
        overlaps(SHARED, LESIONS, CANDIDATES, "near")  # type: ignore[arg-type]


def test_more_lesions_found_comes_before_more_overlap():
    # One candidate fits both lesions, the other only the first: both lesions can be found.
    matching = match_lesions(np.array([[0.9, 0.2], [0.3, 0.0]]), "iou", 0.1)
    assert matching.found_by == (1, 0)
    assert matching.overlap == (0.2, 0.3)


def test_candidate_left_over_beside_a_lesion_is_no_false_positive():
    matching = match_lesions(np.array([[0.5, 0.4, 0.05]]), "iou", 0.1)
    assert matching.found_by == (0,)
    assert matching.false_positives == (2,)


def test_one_candidate_over_two_lesions_finds_both_only_by_touch():
    both = np.array([[1.0], [1.0]])
    assert match_lesions(both, "touch", 0).found_by == (0, 0)
    assert sorted(match_lesions(both, "overlap", 0.1).found_by) == [-1, 0]


def test_no_lesions_and_no_candidates():
    assert match_lesions(np.zeros((0, 2)), "iou", 0.1).false_positives == (0, 1)
    assert match_lesions(np.zeros((2, 0)), "iou", 0.1).found_by == (-1, -1)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 10_000))
def test_matching_is_the_best_of_all_assignments(lesions, candidates, seed):
    overlap = np.random.default_rng(seed).choice([0.0, 0.05, 0.1, 0.3, 0.8], (lesions, candidates))
    matching = match_lesions(overlap, "iou", 0.1)
    found = sum(c >= 0 for c in matching.found_by)
    # Every way to give each lesion one of the candidates, or none of them (the padding).
    slots = [*range(candidates), *[-1] * lesions]
    best = (0, 0.0)
    for order in set(permutations(slots, lesions)):
        pairs = [overlap[n, c] for n, c in enumerate(order) if c >= 0 and overlap[n, c] >= 0.1]
        best = max(best, (len(pairs), round(sum(pairs), 9)))
    assert (found, round(sum(matching.overlap), 9)) == best


# What picai_eval's own test says of its ten crafted cases: overlaps (IoU) of lesions (rows)
# and candidates, and the candidates' confidences.
PICAI_CASES = [
    (np.zeros((0, 0)), []),
    (np.zeros((1, 0)), []),
    (np.zeros((0, 1)), [1.0]),
    (np.array([[0.0]]), [1.0]),
    (np.array([[1 / 3]]), [1.0]),
    (np.array([[9 / 41, 3 / 47]]), [1.0, 2.0]),
    (np.array([[1 / 3, 2 / 7]]), [1.0, 2.0]),
    (np.array([[1 / 3], [1 / 3]]), [1.0]),
    (np.array([[5 / 11], [1 / 11]]), [1.0]),
    (np.array([[1 / 25]]), [1.0]),
]


def test_picai_cases_give_five_found_four_false_five_missed_and_ap_5_18():
    found, wrong, lesions = [], [], 0
    for overlap, confidence in PICAI_CASES:
        matching = match_lesions(overlap, "iou", 0.1)
        lesions += len(overlap)
        found += [confidence[c] for c in matching.found_by if c >= 0]
        wrong += [confidence[c] for c in matching.false_positives]
    assert (len(found), len(wrong), lesions - len(found)) == (5, 4, 5)
    truth = [True] * len(found) + [False] * len(wrong)
    curve = precision_recall(truth, found + wrong, missed=lesions - len(found))
    assert curve.average_precision == pytest.approx(5 / 18, abs=1e-15)


def test_picai_lesion_sensitivity_at_a_false_positive_rate():
    # picai_eval tests/test_lesion_tpr_at_fpr.py: six cases, five lesions, all found.
    curve = froc_curve([3, 1, 1, 2.5, 1.5], [1, 2, 3], lesions=5, scans=6)
    assert curve.sensitivity_at(0.3) == pytest.approx(0.4)
    assert curve.sensitivity_at(0.1) == 0


def test_froc_by_hand():
    curve = froc_curve([0.9, 0.4], [0.6, 0.4], lesions=4, scans=2)
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.6, 0.4]
    assert curve.sensitivity.tolist() == [0, 0.25, 0.25, 0.5]
    assert curve.false_positives.tolist() == [0, 0, 0.5, 1.0]


def test_froc_without_lesions_has_no_sensitivity_and_without_scans_no_curve():
    assert np.isnan(froc_curve([], [0.2], lesions=0, scans=3).sensitivity).all()
    with pytest.raises(ValueError, match="scans"):
        froc_curve([], [], lesions=0, scans=0)


def test_precision_recall_is_that_of_scikit_learn():
    from sklearn.metrics import average_precision_score, precision_recall_curve

    rng = np.random.default_rng(5)
    truth = rng.random(200) < 0.3
    scores = np.round(rng.random(200) + 0.3 * truth, 1)  # many ties
    ours = precision_recall(truth, scores)
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    np.testing.assert_allclose(ours.thresholds[::-1], thresholds)
    np.testing.assert_allclose(ours.precision[::-1], precision[:-1])
    np.testing.assert_allclose(ours.recall[::-1], recall[:-1])
    assert ours.average_precision == pytest.approx(average_precision_score(truth, scores))


def test_average_precision_without_positives_is_nan():
    assert np.isnan(precision_recall([False], [0.5]).average_precision)
    assert precision_recall([], [], missed=3).average_precision == 0
