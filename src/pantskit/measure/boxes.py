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
    # Scanned as they lie in memory; (2, 3) bounds come back in that axis order.
    fortran = all(m.flags.f_contiguous for m in masks)
    bounds = np.array([masks[0].shape[::-1] if fortran else masks[0].shape, (0, 0, 0)])
    for mask in masks:
        memory = np.ascontiguousarray(mask.T if fortran else mask).view(np.uint8)
        flat = memory.reshape(-1)
        words = flat[: flat.size - flat.size % 8].view(np.uint64)
        _grow(words, flat, memory.shape[1], memory.shape[2], bounds)
    if bounds[1, 0] == 0:
        return None
    lower, upper = (bounds[:, ::-1] if fortran else bounds).tolist()
    i, j, k = (slice(a, b) for a, b in zip(lower, upper, strict=True))
    return i, j, k


@compiled
def _grow(
    words: NDArray[np.uint64],
    flat: NDArray[np.uint8],
    rows: int,
    columns: int,
    bounds: NDArray[np.int64],
) -> None:
    """Widen `bounds` (first index, last index + 1, per axis) to hold all non-zero voxels.

    Most of a scan is background: 64 words of it are passed over by one test.
    """
    whole = words.size // 64
    for n in range(whole):
        found = np.uint64(0)
        for m in range(64 * n, 64 * n + 64):
            found |= words[m]
        if found != 0:
            _grow_by_rows(flat, 512 * n, 512 * n + 512, rows, columns, bounds)
    _grow_by_rows(flat, 512 * whole, flat.size, rows, columns, bounds)


@compiled
def _grow_by_rows(
    flat: NDArray[np.uint8],
    start: int,
    stop: int,
    rows: int,
    columns: int,
    bounds: NDArray[np.int64],
) -> None:
    """Widen `bounds` by the voxels from `start` to `stop`, a row or a part of one at a time."""
    while start < stop:
        row = start // columns
        end = min(stop, (row + 1) * columns)
        first, last = start, end - 1
        while first < end and flat[first] == 0:
            first += 1
        if first < end:
            while flat[last] == 0:
                last -= 1
            x, y, begin = row // rows, row % rows, row * columns
            bounds[0, 0], bounds[1, 0] = min(bounds[0, 0], x), max(bounds[1, 0], x + 1)
            bounds[0, 1], bounds[1, 1] = min(bounds[0, 1], y), max(bounds[1, 1], y + 1)
            bounds[0, 2] = min(bounds[0, 2], first - begin)
            bounds[1, 2] = max(bounds[1, 2], last - begin + 1)
        start = end


def label_boxes(labels: NDArray[np.uint8]) -> dict[int, Box]:
    """The box of every value but 0 of a label map, in one pass.

    Args:
        labels: (i, j, k) uint8.

    Returns:
        Label value to slices along (i, j, k); values that do not occur have none.
    """
    fortran = labels.flags.f_contiguous
    memory = np.ascontiguousarray(labels.T if fortran else labels)
    bounds = np.zeros((256, 2, 3), dtype=np.int64)
    bounds[:, 0] = memory.shape
    flat = memory.reshape(-1)
    whole = flat.size - flat.size % 8
    _grow_labels(flat[:whole].view(np.uint64), flat, memory.shape[1], memory.shape[2], bounds)
    result = {}
    for value in np.flatnonzero(bounds[:, 1, 0]):
        box = bounds[value][:, ::-1] if fortran else bounds[value]
        i, j, k = (slice(a, b) for a, b in zip(*box.tolist(), strict=True))
        result[int(value)] = (i, j, k)
    return result


@compiled
def _grow_labels(
    words: NDArray[np.uint64],
    flat: NDArray[np.uint8],
    rows: int,
    columns: int,
    bounds: NDArray[np.int64],
) -> None:
    """Widen each value's bounds by its voxels; words of background are passed over."""
    last = -(-flat.size // 8)
    for n in range(last):
        if n < words.size and words[n] == 0:
            continue
        start = 8 * n
        z = start % columns
        y = start // columns % rows
        x = start // columns // rows
        for m in range(start, min(start + 8, flat.size)):
            value = flat[m]
            if value:
                low, high = bounds[value, 0], bounds[value, 1]
                low[0], high[0] = min(low[0], x), max(high[0], x + 1)
                low[1], high[1] = min(low[1], y), max(high[1], y + 1)
                low[2], high[2] = min(low[2], z), max(high[2], z + 1)
            z += 1
            if z == columns:
                z, y = 0, y + 1
                if y == rows:
                    y, x = 0, x + 1


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
