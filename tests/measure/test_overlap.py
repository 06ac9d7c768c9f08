"""Voxel counts and their ratios, against hand-worked cases and numpy's formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pantskit.measure.overlap import Confusion, confusion, confusion_of, joint_counts

Mask = NDArray[np.bool_]


def mask(*rows: str) -> Mask:
    return np.array([[c == "#" for c in row] for row in rows])


def numpy_dsc(reference: Mask, prediction: Mask) -> float:
    return float(2 * np.sum(reference & prediction) / (np.sum(reference) + np.sum(prediction)))


def test_counts_of_a_hand_drawn_pair() -> None:
    counts = confusion(mask("##..", "##.."), mask(".##.", ".#.."))
    assert counts == Confusion(true_positive=2, false_positive=1, false_negative=2, true_negative=3)
    assert counts.dsc == 4 / 7
    assert counts.iou == 2 / 5
    assert counts.sensitivity == 2 / 4
    assert counts.specificity == 3 / 4
    assert counts.precision == 2 / 3


def test_dsc_of_a_mask_inside_another_is_panopticas() -> None:
    # panoptica, unit_tests/test_metrics.py: 10 voxels around 4.
    big = mask("..#.", "###.", "####", ".##.")
    small = mask("....", ".##.", ".##.", "....")
    assert confusion(big, small).dsc == 0.5714285714285714
    assert confusion(small, big).dsc == 0.5714285714285714


@pytest.mark.parametrize(
    ("reference_ids", "prediction_ids", "expected"),
    [
        ([1], [1], 0.094117647),
        ([2], [2], 0.068376068),
        ([1], [2], 0.15384615),
        ([2], [1], 0.0),
    ],
)
def test_dsc_of_labels_is_panopticas(
    reference_ids: list[int], prediction_ids: list[int], expected: float
) -> None:
    # panoptica, case_multiple_overlapping_instances: squares of 9, 9 and 2, 6 pixels.
    reference, prediction = np.zeros((2, 30, 30), np.uint8)
    reference[1:10, 1:10], reference[11:20, 11:20] = 1, 2
    prediction[1:3, 1:3], prediction[7:13, 7:13] = 1, 2
    counts = confusion_of(joint_counts(reference, prediction), reference_ids, prediction_ids)
    assert counts.dsc == pytest.approx(expected, abs=1e-8)
    masks = np.isin(reference, reference_ids), np.isin(prediction, prediction_ids)
    assert confusion(*masks) == counts


def test_dsc_of_a_union_counts_voxels_where_panoptica_adds_label_values() -> None:
    # Its 0.106583072 for the same picture divides by 1 x 81 + 2 x 81 and 1 x 4 + 2 x 36.
    reference, prediction = np.zeros((2, 30, 30), np.uint8)
    reference[1:10, 1:10], reference[11:20, 11:20] = 1, 2
    prediction[1:3, 1:3], prediction[7:13, 7:13] = 1, 2
    counts = joint_counts(reference, prediction)
    union = confusion_of(counts, [1, 2], [1, 2])
    assert union.dsc == 2 * 17 / (162 + 40)
    values = np.arange(256)
    label_sums = values @ counts.sum(axis=1) + values @ counts.sum(axis=0)
    assert 2 * union.true_positive / label_sums == pytest.approx(0.106583072, abs=1e-9)


@pytest.mark.parametrize(
    "ratio",
    [lambda c: c.dsc, lambda c: c.iou, lambda c: c.sensitivity, lambda c: c.precision],
)
def test_two_empty_masks_have_no_overlap_to_measure(ratio: Callable[[Confusion], float]) -> None:
    empty = np.zeros((3, 4, 5), np.bool_)
    assert math.isnan(ratio(confusion(empty, empty)))
    assert confusion(empty, empty).specificity == 1.0


def test_an_empty_prediction_scores_zero_and_has_no_precision() -> None:
    counts = confusion(np.ones((2, 2, 2), np.bool_), np.zeros((2, 2, 2), np.bool_))
    assert (counts.dsc, counts.iou, counts.sensitivity) == (0.0, 0.0, 0.0)
    assert math.isnan(counts.precision)
    assert math.isnan(counts.specificity)


def test_a_crop_counts_the_voxels_outside_as_true_negatives() -> None:
    reference, prediction = np.zeros((2, 20, 20, 20), np.bool_)
    reference[4:9, 4:9, 4:9] = prediction[5:9, 4:9, 4:9] = True
    box = np.s_[3:10, 3:10, 3:10]
    cropped = confusion(reference[box], prediction[box], voxels=reference.size)
    assert cropped == confusion(reference, prediction)


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and prediction \(2, 3\)"):
        confusion(np.zeros((2, 2), np.bool_), np.zeros((2, 3), np.bool_))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(17, 13, 5), (8, 8, 8), (1, 1, 3), (40, 1, 1)])
def test_joint_counts_are_numpys_histogram(shape: tuple[int, int, int], order: str) -> None:
    rng = np.random.default_rng(4)
    # Runs of one label, as in real maps, with sharp ends anywhere.
    reference, prediction = (
        np.asarray(np.repeat(rng.integers(0, 29, np.prod(shape)), 7)[: np.prod(shape)], np.uint8)
        .reshape(shape)
        .copy(order)
        for _ in range(2)
    )
    expected = np.zeros((256, 256), np.int64)
    np.add.at(expected, (reference.ravel(), prediction.ravel()), 1)
    np.testing.assert_array_equal(joint_counts(reference, prediction), expected)


def test_dsc_of_every_label_and_union_is_numpys_to_the_last_bit() -> None:
    rng = np.random.default_rng(5)
    reference, prediction = (
        np.asfortranarray(rng.integers(0, 6, (31, 22, 9)).astype(np.uint8)) for _ in range(2)
    )
    counts = joint_counts(reference, prediction)
    for ids in ([1], [2], [5], [1, 2, 3]):
        masks = np.isin(reference, ids), np.isin(prediction, ids)
        assert confusion_of(counts, ids, ids) == confusion(*masks)
        assert confusion_of(counts, ids, ids).dsc == numpy_dsc(*masks)
