"""How the voxels of two grids on one extent lie along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# nnU-Net treats the coarse axis of such grids apart: nearest slice, no interpolation.
_ANISOTROPY = 3.0
# Of a cubic spline, what lies this far below the largest weight is lost in float32 anyway.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class AxisWeights:
    """Where the voxels of an output axis lie between those of an input axis.

    Attributes:
        low: (n,) int64 index of the lower neighbour.
        high: (n,) int64 index of the upper one.
        weight: (n,) float32 share of the upper one.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]


def axis_weights(n_in: int, n_out: int, *, nearest: bool = False) -> AxisWeights:
    """Linear (or nearest) interpolation along one axis; ends of both axes' voxels coincide.

    Beyond the outermost voxel centres the outermost value holds, as scikit-image's `edge`.
    """
    centre = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    centre = np.clip(centre, 0, n_in - 1)
    if nearest:
        index = np.floor(centre + 0.5).astype(np.int64)
        return AxisWeights(index, index, np.zeros(n_out, np.float32))
    low = np.minimum(np.floor(centre).astype(np.int64), max(n_in - 2, 0))
    high = np.minimum(low + 1, n_in - 1)
    return AxisWeights(low, high, (centre - low).astype(np.float32))


def axis_matrix(n_in: int, n_out: int, *, order: int) -> NDArray[np.float32]:
    """Spline interpolation along one axis as a matrix: (n_out, n_in) float32.

    The answers of scipy's own `zoom` to unit vectors, so prefilter and edges are as scikit-image's
    `resize(..., mode="edge", anti_aliasing=False)` has them. Order 0 takes the nearest voxel.
    """
    if n_in == n_out:
        return np.eye(n_in, dtype=np.float32)
    matrix = np.zeros((n_out, n_in), np.float32)
    if order == 0:
        matrix[np.arange(n_out), axis_weights(n_in, n_out, nearest=True).low] = 1
        return matrix
    from scipy.ndimage import zoom

    unit = np.zeros(n_in)
    for column in range(n_in):
        unit[column] = 1
        matrix[:, column] = zoom(unit, n_out / n_in, order=order, mode="nearest", grid_mode=True)
        unit[column] = 0
    matrix[np.abs(matrix) < _NEGLIGIBLE] = 0
    return matrix


def separate_axis(
    spacing_in: Sequence[float], spacing_out: Sequence[float], force: bool | None = None
) -> int | None:
    """The axis that nnU-Net resamples by nearest slice, or None.

    It is the one coarse axis of a grid whose spacings differ more than threefold; the input
    grid is asked first, then the output grid.

    Args:
        spacing_in: of the grid that there is.
        spacing_out: of the one to make.
        force: nnU-Net's `force_separate_z`: None decides by the spacings.
    """
    if force is False:
        return None
    for spacing in (spacing_in, spacing_out):
        if force or max(spacing) / min(spacing) > _ANISOTROPY:
            coarse = [axis for axis, s in enumerate(spacing) if max(spacing) / s == 1]
            return coarse[0] if len(coarse) == 1 else None
    return None
