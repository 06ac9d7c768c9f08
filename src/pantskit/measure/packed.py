"""Masks with a bit a voxel, each cut to where it has something.

A structure of a scan takes some kilobytes in this form, and 64 voxels are looked at at once.
Arrays of bits are (k, j, i): the memory order of volumes, read backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.boxes import Box, join, overlap, union_box

Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]  # (k, j, i // 64); bit n of a word is voxel 64 * word + n along i

# Empty voxels around what is laid out, so that nothing need be asked at the border. Along i
# it is a whole byte, and no shift is needed.
MARGIN = 8

_SLAB_VOXELS = 1 << 20


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A mask of a grid, cut to its box.

    Attributes:
        shape: (i, j, k) voxels of the grid.
        box: slices along (i, j, k) that hold every voxel of it; None when it is empty.
        bits: (k, j, i // 8) uint8 of the box, which along i begins at a multiple of 8 of the
            grid; bit n of a byte is voxel 8 * byte + n.
    """

    shape: tuple[int, ...]
    box: Box | None
    bits: NDArray[np.uint8]

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return int(np.bitwise_count(self.bits).sum())

    def crop(self, box: Box) -> Mask:
        """(i, j, k) bool of a part of the grid, in Fortran order."""
        i, j, k = box
        mask = np.zeros([s.stop - s.start for s in reversed(box)], np.bool_)
        if self.box is not None:
            left = _byte_start(self.box)
            part, to_j = overlap(self.box[1], j), overlap(j, self.box[1])
            slab, to_k = overlap(self.box[2], k), overlap(k, self.box[2])
            rows = np.unpackbits(self.bits[slab, part], axis=-1, bitorder="little")
            whole = slice(left, left + rows.shape[-1])
            mask[to_k, to_j, overlap(i, whole)] = rows[..., overlap(whole, i)]
        return mask.T

    def __or__(self, other: PackedMask) -> PackedMask:
        """The union of both."""
        box = join(self.box, other.box)
        if box is None:
            return self
        bits = np.zeros(_bits_shape(box), np.uint8)
        for mask in (self, other):
            if mask.box is not None:
                bits[_within(mask, box)] |= mask.bits
        return PackedMask(self.shape, box, bits)


def pack(mask: Mask, box: Box | None = None) -> PackedMask:
    """A mask in its packed form.

    Args:
        mask: (i, j, k) bool.
        box: holds every voxel of it; searched for when not given.
    """
    box = box or union_box(mask)
    return _packed(mask.shape, box, lambda part: mask[part])


def pack_labels(
    labels: NDArray[np.uint8], ids: Sequence[int], boxes: Mapping[int, Box]
) -> PackedMask:
    """The voxels of a label map that hold one of the ids.

    Args:
        labels: (i, j, k) uint8.
        ids: label values.
        boxes: of all values that the map holds, from `label_boxes`.
    """
    # Each value within its own box: parts of one structure may lie far apart.
    masks = [_packed(labels.shape, boxes[n], partial(_equal, labels, n)) for n in ids if n in boxes]
    return unite(masks or [_packed(labels.shape, None, lambda part: labels[part] > 0)])


def _equal(labels: NDArray[np.uint8], value: int, part: Box) -> Mask:
    inside: Mask = labels[part] == value
    return inside


def pack_crop(crop: Mask, start: Sequence[int], shape: Sequence[int]) -> PackedMask:
    """A mask of which a part is given, outside of which it is empty.

    Args:
        crop: (i, j, k) bool, cut to what it holds.
        start: index in the grid of its first voxel.
        shape: of the grid.
    """
    if not crop.size:
        return _packed(tuple(shape), None, lambda part: crop[part])
    i, j, k = (slice(a, a + n) for a, n in zip(start, crop.shape, strict=True))

    def inside(part: Box) -> Mask:
        planes = slice(part[2].start - k.start, part[2].stop - k.start)
        before = i.start - part[0].start
        slab = crop[:, :, planes]
        return np.pad(slab, ((before, 0), (0, 0), (0, 0))) if before else slab

    return _packed(tuple(shape), (i, j, k), inside)


def unite(masks: Iterable[PackedMask]) -> PackedMask:
    """The union of one mask or more, of one grid."""
    return reduce(lambda a, b: a | b, masks)


def shared_voxels(first: PackedMask, second: PackedMask) -> int:
    """Voxels that are in both."""
    if first.box is None or second.box is None:
        return 0
    one, other = lay_out([first, second]).words
    return int(np.bitwise_count(one & other).sum())


@dataclass(frozen=True, eq=False)
class Layout:
    """Masks side by side, in one box with empty margins.

    Attributes:
        words: (k, j, i // 64) of each.
        inner: slices along (k, j, i) of the smallest box that holds all masks.
    """

    words: list[Words]
    inner: tuple[slice, slice, slice]


def lay_out(masks: Sequence[PackedMask]) -> Layout:
    """Bring masks into one frame, at least `MARGIN` voxels away from its sides.

    Raises:
        ValueError: If all are empty.
    """
    box = join(*(mask.box for mask in masks))
    if box is None:
        raise ValueError("there is nothing to lay out: every mask is empty")
    planes, rows, columns = _bits_shape(box)
    around = 2 * MARGIN
    frame = (planes + around, rows + around, -(-(columns + around // 8) // 8) * 8)
    words = []
    for mask in masks:
        bits = np.zeros(frame, np.uint8)
        if mask.box is not None:
            inside = bits[MARGIN : MARGIN + planes, MARGIN : MARGIN + rows, MARGIN // 8 :]
            inside[_within(mask, box)] = mask.bits
        words.append(bits.view(np.uint64))
    i, j, k = box
    before = i.start - _byte_start(box)
    starts = (MARGIN, MARGIN, MARGIN + before)
    k_in, j_in, i_in = (
        slice(a, a + s.stop - s.start) for a, s in zip(starts, (k, j, i), strict=True)
    )
    return Layout(words, (k_in, j_in, i_in))


def _packed(shape: tuple[int, ...], box: Box | None, inside: Callable[[Box], Mask]) -> PackedMask:
    """Pack a box, some slices at a time; `inside` gives the mask of a part of the grid."""
    if box is None:
        return PackedMask(shape, None, np.zeros((0, 0, 0), np.uint8))
    i, j, k = box
    i = slice(_byte_start(box), i.stop)
    bits = np.empty(_bits_shape(box), np.uint8)
    slices = max(1, _SLAB_VOXELS // ((i.stop - i.start) * (j.stop - j.start)))
    for start in range(k.start, k.stop, slices):
        stop = min(k.stop, start + slices)
        part = inside((i, j, slice(start, stop)))
        to = slice(start - k.start, stop - k.start)
        bits[to] = np.packbits(part.T, axis=-1, bitorder="little")
    return PackedMask(shape, box, bits)


def _byte_start(box: Box) -> int:
    return int(box[0].start) & ~7


def _bits_shape(box: Box) -> tuple[int, int, int]:
    i, j, k = box
    return k.stop - k.start, j.stop - j.start, -(-(i.stop - _byte_start(box)) // 8)


def _within(mask: PackedMask, box: Box) -> tuple[slice, slice, slice]:
    """Where a mask's bits lie among those of a box that holds it."""
    assert mask.box is not None
    starts = [a.start - b.start for a, b in zip(mask.box[:0:-1], box[:0:-1], strict=True)]
    starts.append((_byte_start(mask.box) - _byte_start(box)) // 8)
    k, j, i = (slice(a, a + n) for a, n in zip(starts, mask.bits.shape, strict=True))
    return k, j, i
