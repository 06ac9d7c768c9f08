"""Masks of bits say what the masks say, wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pantskit.measure.boxes import label_boxes, union_box
from pantskit.measure.packed import (
    MARGIN,
    lay_out,
    pack,
    pack_crop,
    pack_labels,
    shared_voxels,
    unite,
)

Mask = NDArray[np.bool_]
# Narrower and wider than a byte and a word of bits, and neither a multiple of 8.
SHAPES = [(1, 1, 1), (7, 3, 2), (8, 4, 5), (63, 5, 3), (130, 6, 4)]


def masks(shape: tuple[int, int, int], order: str = "F") -> list[Mask]:
    rng = np.random.default_rng(shape[0])
    blocks = np.zeros((3, *shape), np.bool_)
    blocks[0] = rng.random(shape) < 0.3
    blocks[1, shape[0] // 2 :, :, shape[2] // 2 :] = True
    blocks[2, -1, -1, -1] = True
    return [m.copy(order) for m in (*blocks, np.zeros(shape, np.bool_))]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_mask_gives_back_every_part_of_it(shape: tuple[int, int, int], order: str) -> None:
    rng = np.random.default_rng(0)
    for mask in masks(shape, order):
        packed = pack(mask)
        assert packed.voxels == mask.sum()
        assert packed.box == union_box(mask)
        for _ in range(20):
            low = rng.integers(0, shape)
            high = low + rng.integers(1, np.array(shape) - low + 1)
            i, j, k = (slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
            np.testing.assert_array_equal(packed.crop((i, j, k)), mask[i, j, k])


@pytest.mark.parametrize("shape", SHAPES)
def test_unions_and_shared_voxels_are_numpys(shape: tuple[int, int, int]) -> None:
    whole = tuple(slice(0, n) for n in shape)
    for a in masks(shape):
        for b in masks(shape):
            one, other = pack(a), pack(b)
            assert shared_voxels(one, other) == (a & b).sum()
            union = unite([one, other])
            assert union.voxels == (a | b).sum()
            assert union.box == union_box(a | b)
            np.testing.assert_array_equal(union.crop((whole[0], whole[1], whole[2])), a | b)


def test_labels_are_packed_together_where_several_make_a_structure() -> None:
    labels = np.random.default_rng(2).integers(0, 5, (20, 9, 7)).astype(np.uint8)
    labels[:, :2] = 0
    whole = (slice(0, 20), slice(0, 9), slice(0, 7))
    boxes = label_boxes(labels)
    inside = np.isin(labels, [2, 4])
    packed = pack_labels(labels, [2, 4, 9], boxes)
    np.testing.assert_array_equal(packed.crop(whole), inside)
    assert pack_labels(labels, [9], boxes).voxels == 0


@pytest.mark.parametrize("start", [(0, 0, 0), (5, 1, 2), (8, 0, 3), (13, 4, 0)])
def test_a_crop_is_packed_in_its_place(start: tuple[int, int, int]) -> None:
    crop = np.random.default_rng(3).random((11, 4, 5)) < 0.5
    mask = np.zeros((40, 12, 9), np.bool_)
    mask[tuple(slice(a, a + n) for a, n in zip(start, crop.shape, strict=True))] = crop
    packed = pack_crop(np.asfortranarray(crop), start, mask.shape)
    whole = (slice(0, 40), slice(0, 12), slice(0, 9))
    np.testing.assert_array_equal(packed.crop(whole), mask)


def test_laid_out_masks_keep_their_places_and_have_empty_margins() -> None:
    one, other = np.zeros((2, 90, 10, 6), np.bool_)
    one[21, 3, 2] = other[85, 7, 5] = True
    layout = lay_out([pack(one), pack(other)])
    first, second = (
        np.unpackbits(w.view(np.uint8), axis=-1, bitorder="little") for w in layout.words
    )
    assert (first.sum(), second.sum()) == (1, 1)
    step = np.argwhere(second)[0] - np.argwhere(first)[0]
    assert step.tolist() == [5 - 2, 7 - 3, 85 - 21]
    inner = first[layout.inner]
    assert inner.shape == (4, 5, 65)
    assert inner[0, 0, 0] == 1
    for axis, part in enumerate(layout.inner):
        assert part.start >= MARGIN
        assert first.shape[axis] - part.stop >= MARGIN


def test_nothing_cannot_be_laid_out() -> None:
    empty = pack(np.zeros((2, 2, 2), np.bool_))
    with pytest.raises(ValueError, match="every mask is empty"):
        lay_out([empty, empty])
