"""Labels carried onto another grid: each voxel takes the one nearest to its centre."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import SAME_GRID_TOLERANCE_MM, Geometry
from pantskit.measure.compiled import compiled


def take_nearest(labels: NDArray[Any], source: Geometry, target: Geometry) -> NDArray[Any]:
    """Labels on another grid.

    Args:
        labels: (i, j, k) integers on the source grid.
        source: where they are.
        target: where they are wanted.

    Returns:
        (i, j, k) of the same type, Fortran order; 0 outside the source. Ties go to the higher
        index (round half up).
    """
    out = np.zeros(target.shape, labels.dtype, order="F")
    _gather(np.asfortranarray(labels).T, np.linalg.inv(source.affine) @ target.affine, out.T)
    return out


@compiled
def _gather(labels: NDArray[Any], to_source: NDArray[np.float64], out: NDArray[Any]) -> None:
    """Fill `out` (k, j, i) from `labels` (k, j, i); `to_source` takes (i, j, k, 1)."""
    n_k, n_j, n_i = labels.shape
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            start_i = to_source[0, 1] * j + to_source[0, 2] * k + to_source[0, 3] + 0.5
            start_j = to_source[1, 1] * j + to_source[1, 2] * k + to_source[1, 3] + 0.5
            start_k = to_source[2, 1] * j + to_source[2, 2] * k + to_source[2, 3] + 0.5
            for i in range(out.shape[2]):
                at_i = np.floor(start_i + to_source[0, 0] * i)
                at_j = np.floor(start_j + to_source[1, 0] * i)
                at_k = np.floor(start_k + to_source[2, 0] * i)
                if 0 <= at_i < n_i and 0 <= at_j < n_j and 0 <= at_k < n_k:
                    out[k, j, i] = labels[int(at_k), int(at_j), int(at_i)]


def share_outside(labels: NDArray[Any], source: Geometry, target: Geometry) -> float:
    """Share of the labelled voxels whose centre lies outside another grid; 0 without any."""
    total = outside = 0
    limits = np.array(target.shape) - 0.5
    for k in range(labels.shape[2]):
        marked = np.argwhere(labels[:, :, k])
        if not marked.size:
            continue
        places = source.to_world(np.column_stack([marked, np.full(len(marked), k)]))
        voxels = target.to_voxel(places)
        outside += int(((voxels < -0.5) | (voxels >= limits)).any(axis=1).sum())
        total += len(marked)
    return outside / total if total else 0.0


def part_of(grid: Geometry, whole: Geometry) -> tuple[slice, slice, slice] | None:
    """The box of a grid's voxels that another grid is; None where it is no such part.

    Args:
        grid: the grid that may be a part.
        whole: the grid it may be a part of, with its axes in the same order and direction.
    """
    first = np.rint(whole.to_voxel(grid.affine[:3, 3])).astype(int)
    last = first + np.array(grid.shape)
    if (first < 0).any() or (last > np.array(whole.shape)).any():
        return None
    affine = whole.affine.copy()
    affine[:3, 3] = whole.to_world(first)
    if grid.distance_mm(Geometry(grid.shape, affine)) > SAME_GRID_TOLERANCE_MM:
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return i, j, k
