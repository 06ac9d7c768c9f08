"""Shapes of masks: surface, cavities, slices that do not fit."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pantskit.measure.shape import (
    cavities,
    edge_voxels,
    lost_shares,
    parts_of,
    repeats,
    ring_holes,
    shared_with_next,
)


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*s) for s in sides)] = True
    return mask


def test_surface_is_what_an_erosion_takes_away():
    mask = np.random.default_rng(0).random((9, 8, 7)) > 0.4
    eroded = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1))
    expected = np.argwhere(mask & ~eroded)
    found = edge_voxels(np.asfortranarray(mask))
    assert {tuple(p) for p in found} == {tuple(p) for p in expected}
    assert edge_voxels(np.zeros((3, 3, 3), bool)).shape == (0, 3)


def test_parts_come_largest_first_with_a_voxel_inside_each():
    mask = box((20, 10, 10), (0, 3), (0, 3), (0, 3)) | box((20, 10, 10), (8, 18), (2, 8), (2, 8))
    parts = parts_of(mask)
    assert [p.voxels for p in parts] == [360, 27]
    assert all(mask[p.inside] for p in parts)
    assert parts[1].box == (slice(0, 3), slice(0, 3), slice(0, 3))
    assert parts[1].mask(mask).sum() == 27
    assert parts_of(np.zeros((4, 4, 4), bool)) == []


def test_cavity_is_what_filling_holes_adds():
    mask = box((12, 12, 12), (1, 11), (1, 11), (1, 11))
    mask[3:5, 3:5, 3:5] = False  # enclosed
    mask[7, 7, 7:] = False  # open
    (hole,) = cavities(mask)
    filled = ndimage.binary_fill_holes(mask)
    assert hole.voxels == (filled & ~mask).sum() == 8
    assert (filled & ~mask)[hole.inside]
    assert cavities(np.ones((3, 3, 3), bool)) == []


def test_share_that_a_slice_lacks_of_what_its_neighbours_have():
    mask = box((6, 6, 6), (1, 5), (1, 5), (0, 6))
    mask[1:3, :, 2] = False  # 8 of 16 voxels
    shares, common = lost_shares(mask)
    assert shares.tolist() == [0, 0, 0.5, 0, 0, 0]
    assert common.tolist() == [0, 8, 16, 8, 16, 0]


def test_repeated_slices_are_those_that_equal_the_next():
    mask = np.zeros((4, 4, 5), bool)
    mask[1, 1, 1:3] = mask[1:3, 1, 3] = True
    assert repeats(mask).tolist() == [False, True, False, False]


def test_share_with_the_next_slice_is_of_the_smaller_one():
    mask = np.zeros((6, 4, 4), bool)
    mask[0:4, 1, 0] = mask[2:6, 1, 1] = mask[3, 1, 2] = True
    assert np.array_equal(shared_with_next(mask), [0.5, 1, np.nan], equal_nan=True)


def test_rings_are_counted_slice_by_slice_even_where_the_tube_is_open():
    mask = box((6, 6, 3), (1, 5), (1, 5), (0, 2)) & ~box((6, 6, 3), (2, 4), (2, 4), (0, 3))
    assert cavities(mask) == []
    assert ring_holes(mask).tolist() == [4, 4, 0]
