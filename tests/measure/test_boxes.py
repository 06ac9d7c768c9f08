"""Boxes around what is there."""

from __future__ import annotations

import numpy as np
import pytest

from pantskit.measure.boxes import join, label_boxes, union_box, within


@pytest.mark.parametrize("order", ["C", "F"])
def test_box_holds_both_masks_and_nothing_more(order: str) -> None:
    first, second = (np.zeros((9, 8, 7), np.bool_, order=order) for _ in range(2))
    first[2, 3, 4] = second[5, 1, 6] = True
    assert union_box(first, second) == (slice(2, 6), slice(1, 4), slice(4, 7))


def test_box_of_a_single_corner_voxel() -> None:
    mask = np.zeros((4, 5, 6), np.bool_)
    mask[3, 4, 5] = True
    assert union_box(mask) == (slice(3, 4), slice(4, 5), slice(5, 6))


def test_box_of_a_full_mask_is_the_whole() -> None:
    assert union_box(np.ones((2, 3, 4), np.bool_)) == (slice(0, 2), slice(0, 3), slice(0, 4))


def test_empty_masks_have_no_box() -> None:
    assert union_box(np.zeros((4, 5, 6), np.bool_), np.zeros((4, 5, 6), np.bool_)) is None


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(11, 7, 5), (16, 8, 4), (1, 1, 3)])
def test_boxes_of_all_labels_are_those_of_each(shape: tuple[int, int, int], order: str) -> None:
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(shape) < 0.1, rng.integers(0, 256, shape), 0)
    labels = labels.astype(np.uint8).copy(order)
    expected = {int(v): union_box(labels == v) for v in np.unique(labels) if v}
    assert label_boxes(labels) == expected


def test_join_skips_what_is_empty() -> None:
    one = (slice(1, 2), slice(5, 9), slice(0, 3))
    other = (slice(4, 6), slice(2, 6), slice(1, 2))
    assert join(one, None, other) == (slice(1, 6), slice(2, 9), slice(0, 3))
    assert join(None, None) is None


def test_within_counts_from_the_boxs_own_corner() -> None:
    box = (slice(2, 8), slice(5, 9), slice(0, 3))
    other = (slice(0, 4), slice(6, 20), slice(0, 3))
    assert within(box, other) == (slice(0, 2), slice(1, 4), slice(0, 3))
    assert within(other, box) == (slice(2, 4), slice(0, 3), slice(0, 3))


def test_boxes_that_do_not_meet_have_nothing_of_each_other() -> None:
    grid = np.ones((9, 9, 9), np.bool_)
    for box, other in (((0, 2), (5, 7)), ((5, 7), (0, 2)), ((3, 3), (0, 9))):
        part = grid[slice(*box), :, :][
            within(
                (slice(*box), slice(0, 9), slice(0, 9)), (slice(*other), slice(0, 9), slice(0, 9))
            )
        ]
        assert part.size == 0
