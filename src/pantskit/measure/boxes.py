"""The part of a grid where there is something to measure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled

Box = tuple[slice, slice, slice]


def union_box(*masks: NDArray[np.bool_]) -> Box | None:
    """The smallest box that holds every true voxel of the masks.

    Args:
        masks: (i, j, k) bool, all of one shape.

    Returns:
        Slices along (i, j, k), or None when all masks are empty.
    """
    return join(*(label_boxes(mask.view(np.uint8)).get(1) for mask in masks))


def label_boxes(labels: NDArray[np.uint8]) -> dict[int, Box]:
    """The box of every value but 0 of a label map, in one pass.

    Args:
        labels: (i, j, k) uint8.

    Returns:
        Label value to slices along (i, j, k); values that do not occur have none.
    """
    # Scanned as it lies in memory; bounds come back in that axis order.
    fortran = labels.flags.f_contiguous
    memory = np.ascontiguousarray(labels.T if fortran else labels)
    bounds = np.zeros((256, 2, 3), dtype=np.int64)
    bounds[:, 0] = memory.shape
    flat = memory.reshape(-1)
    whole = flat.size - flat.size % 8
    _grow(flat[:whole].view(np.uint64), flat, memory.shape[1], memory.shape[2], bounds)
    result = {}
    for value in np.flatnonzero(bounds[:, 1, 0]):
        box = bounds[value][:, ::-1] if fortran else bounds[value]
        i, j, k = (slice(a, b) for a, b in zip(*box.tolist(), strict=True))
        result[int(value)] = (i, j, k)
    return result


@compiled
def _grow(
    words: NDArray[np.uint64],
    flat: NDArray[np.uint8],
    rows: int,
    columns: int,
    bounds: NDArray[np.int64],
) -> None:
    """Widen each value's bounds (first index, last index + 1) by its runs along a row.

    What lies within a run is passed over eight voxels at a time, background still faster.
    """
    ones = np.uint64(0x0101010101010101)
    n = 0
    while n < flat.size:
        if n & 7 == 0:
            n = _next_filled(words, n >> 3) << 3
            if n >= flat.size:
                break
        value = flat[n]
        if value == 0:
            n += 1
            continue
        row = n // columns
        begin, first, end = row * columns, n, (row + 1) * columns
        eight = ones * np.uint64(value)
        n += 1
        while n < end:
            if n & 7 == 0 and n + 8 <= end and words[n >> 3] == eight:
                n += 8
            elif flat[n] == value:
                n += 1
            else:
                break
        low, high = bounds[value, 0], bounds[value, 1]
        low[0], high[0] = min(low[0], row // rows), max(high[0], row // rows + 1)
        low[1], high[1] = min(low[1], row % rows), max(high[1], row % rows + 1)
        low[2], high[2] = min(low[2], first - begin), max(high[2], n - begin)


@compiled
def _next_filled(words: NDArray[np.uint64], n: int) -> int:
    """The first word from n on that is not 0, or the number of words."""
    while n + 64 <= words.size:
        found = np.uint64(0)
        for m in range(n, n + 64):  # without a way out of it, several words at a time
            found |= words[m]
        if found != 0:
            break
        n += 64
    while n < words.size and words[n] == 0:
        n += 1
    return n


def join(*boxes: Box | None) -> Box | None:
    """The smallest box around all boxes; None around none."""
    some = [box for box in boxes if box is not None]
    if not some:
        return None
    i, j, k = (
        slice(min(s.start for s in sides), max(s.stop for s in sides))
        for sides in zip(*some, strict=True)
    )
    return i, j, k


def within(box: Box, other: Box) -> Box:
    """What another box covers of a box, counted from the box's own corner; empty if nothing."""
    i, j, k = (overlap(a, b) for a, b in zip(box, other, strict=True))
    return i, j, k


def overlap(base: slice, other: slice) -> slice:
    """What `other` covers of `base`, counted from the start of `base`; empty if nothing."""
    start = min(max(base.start, other.start), base.stop)
    stop = max(start, min(base.stop, other.stop))
    return slice(start - base.start, stop - base.start)
