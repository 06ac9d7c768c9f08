"""Masks moved, ordered and cut.

Axes of the arrays are those of a standard dataset: i toward the patient's left, j toward the
front, k toward the feet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    return np.broadcast_to(np.arange(mask.shape[axis]).reshape(shape), mask.shape)


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
