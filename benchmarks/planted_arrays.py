"""Masks moved, ordered and cut.

Axes of the arrays are those of a standard dataset: i toward the patient's left, j toward the
front, k toward the feet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
LEFT, FRONT, DOWN = 0, 1, 2


def moved(mask: NDArray[Any], by: tuple[int, ...]) -> NDArray[Any]:
    """An array moved by whole voxels; what leaves the volume is lost."""
    result = np.zeros_like(mask)
    take, give = [], []
    for size, step in zip(mask.shape, by, strict=True):
        take.append(slice(max(0, -step), max(0, size - max(0, step))))
        give.append(slice(max(0, step), max(0, size - max(0, -step))))
    result[tuple(give)] = mask[tuple(take)]
    return result


def centre(mask: Mask) -> NDArray[np.float64]:
    """Mean voxel index."""
    return np.asarray(np.argwhere(mask).mean(axis=0))


def along(axis: int, mask: Mask) -> NDArray[np.int64]:
    """(i, j, k) index of each voxel along an axis."""
    shape = [1, 1, 1]
    shape[axis] = mask.shape[axis]
    found = np.empty(mask.shape, np.int64, order="F")  # as masks are: mixed orders are slow
    found[...] = np.arange(mask.shape[axis]).reshape(shape)
    return found


def share(mask: Mask, order: NDArray[Any], fraction: float) -> Mask:
    """The fraction of a mask's voxels that come first in an order; one voxel at least."""
    at = np.argwhere(mask)
    first = np.argsort(order[mask], kind="stable")[: max(1, round(fraction * len(at)))]
    found = np.zeros_like(mask)
    found[tuple(at[first].T)] = True
    return found


def onto(mask: Mask, place: NDArray[Any]) -> Mask:
    """A mask moved so that its centre comes to lie on a voxel."""
    step = np.rint(place - centre(mask)).astype(int)
    return moved(mask, tuple(int(n) for n in step))


def edt(mask: Mask, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Millimetres from each voxel to a mask; 0 in it."""
    far: NDArray[np.float64] = ndimage.distance_transform_edt(~mask, sampling=spacing)
    return far


def box_of(mask: Mask, spacing: tuple[float, float, float], margin_mm: float) -> tuple[slice, ...]:
    """The box around a mask that has a voxel, so much wider on each side as the volume allows."""
    box = []
    for axis, (size, step) in enumerate(zip(mask.shape, spacing, strict=True)):
        there = np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis)))
        more = int(np.ceil(margin_mm / step))
        box.append(slice(max(0, int(there[0]) - more), min(size, int(there[-1]) + 1 + more)))
    return tuple(box)
