"""Lesions as connected parts, with sizes worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from pantskit.measure.components import components

AFFINE = np.array(
    [[-0.8, 0.0, 0.0, 100.0], [0.0, 0.5, 0.0, -20.0], [0.0, 0.0, -2.0, 7.0], [0.0, 0.0, 0.0, 1.0]]
)


def test_no_lesion_in_an_empty_mask() -> None:
    labels, found = components(np.zeros((3, 4, 5), np.bool_), AFFINE)
    assert found == []
    assert not labels.any()
    assert labels.shape == (3, 4, 5)


def test_voxels_that_touch_by_a_corner_are_one_lesion() -> None:
    mask = np.zeros((5, 5, 5), np.bool_)
    mask[1, 1, 1] = mask[2, 2, 2] = mask[4, 4, 4] = True
    labels, found = components(mask, np.eye(4))
    assert [c.voxels for c in found] == [2, 1]
    assert labels[1, 1, 1] == labels[2, 2, 2] == 1
    assert labels[4, 4, 4] == 2


def test_a_block_is_measured_in_its_place() -> None:
    mask = np.zeros((10, 10, 10), np.bool_)
    mask[2:6, 3:5, 7:8] = True
    _, (block,) = components(mask, AFFINE)
    assert block.voxels == 8
    assert block.volume_mm3 == pytest.approx(8 * 0.8 * 0.5 * 2.0)
    assert block.centroid == (3.5, 3.5, 7.0)
    assert block.centroid_mm == pytest.approx((100 - 0.8 * 3.5, -20 + 0.5 * 3.5, 7 - 14))
    assert block.box == (slice(2, 6), slice(3, 5), slice(7, 8))


def test_a_crop_is_measured_where_it_was_cut() -> None:
    mask = np.zeros((10, 10, 10), np.bool_)
    mask[2:6, 3:5, 7:8] = True
    _, (whole,) = components(mask, AFFINE)
    _, (cut,) = components(mask[2:8, 3:9, 5:9], AFFINE, corner=(2, 3, 5))
    assert (cut.centroid, cut.centroid_mm) == (whole.centroid, whole.centroid_mm)


def test_longest_axis_reaches_half_a_voxel_beyond_the_centres() -> None:
    single, row, diagonal = np.zeros((3, 12, 12, 12), np.bool_)
    single[3, 3, 3] = row[3, 2:9, 3] = diagonal[0, 0, 0] = diagonal[1, 1, 1] = True
    axes = [components(mask, AFFINE)[1][0].longest_axis_mm for mask in (single, row, diagonal)]
    assert axes[0] == pytest.approx(2.0)
    # Seven voxels of 0.5 mm along j: between k faces 2 mm apart it is longer than 3.5 mm.
    assert axes[1] == pytest.approx(math.hypot(6 * 0.5, 2.0))
    # From the lower k face of one to the upper k face of the other.
    assert axes[2] == pytest.approx(math.hypot(0.8, 0.5, 4.0))


def test_longest_axis_of_a_ball_is_its_diameter() -> None:
    i, j, k = np.indices((40, 40, 40)) - 20
    mask = i**2 + j**2 + k**2 <= 15.25**2
    _, (ball,) = components(mask, np.eye(4))
    assert ball.longest_axis_mm == pytest.approx(31, abs=0.5)


def test_largest_first_and_equal_ones_in_memory_order() -> None:
    mask = np.zeros((9, 9, 9), np.bool_)
    for place in ((8, 0, 0), (0, 8, 0), (0, 0, 8), (0, 0, 0)):
        mask[place] = True
    mask[4:6, 4:6, 4:6] = True
    for order in ("C", "F"):
        labels, found = components(mask.copy(order), np.eye(4))
        assert [c.voxels for c in found] == [8, 1, 1, 1, 1]
        assert [tuple(c.centroid) for c in found[1:]] == [
            (0, 0, 0),
            (8, 0, 0),
            (0, 8, 0),
            (0, 0, 8),
        ]
        assert labels[4, 4, 4] == 1


def test_small_ones_are_left_out_on_request() -> None:
    mask = np.zeros((9, 9, 9), np.bool_)
    mask[0, 0, 0] = mask[4:6, 4, 4] = True
    labels, found = components(mask, np.eye(4), min_voxels=2)
    assert [c.voxels for c in found] == [2]
    assert labels[0, 0, 0] == 0


def test_speckle_is_split_as_scipy_splits_it() -> None:
    mask = np.random.default_rng(2).random((30, 25, 20)) < 0.06
    labels, found = components(mask, np.eye(4))
    expected, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    assert len(found) == count
    assert np.array_equal(labels > 0, mask)
    pairs = set(zip(labels[mask].tolist(), expected[mask].tolist(), strict=True))
    assert len(pairs) == count
    sizes = np.bincount(labels.ravel())[1:]
    assert sizes.tolist() == [c.voxels for c in found] == sorted(sizes, reverse=True)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 7, 1), (1, 1, 5)])
def test_lesions_in_one_row_with_a_gap_are_two(shape: tuple[int, int, int]) -> None:
    """cc3d raises an exception here when it is given bool."""
    mask = np.ones(shape, np.bool_)
    mask.reshape(-1)[1] = False
    assert [c.voxels for c in components(mask, np.eye(4))[1]] == sorted(
        [1, mask.size - 2], reverse=True
    )
