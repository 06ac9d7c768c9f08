"""How the voxels of two grids on one extent lie along an axis, and interpolation between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# nnU-Net treats the coarse axis of such grids apart: nearest slice, no interpolation.
_ANISOTROPY = 3.0
# Of a cubic spline, what lies this far below the largest weight is lost in float32 anyway.
_NEGLIGIBLE = 1e-9
# Rows of a matrix that are multiplied at once on a CPU. A spline's weights lie along the diagonal,
# some 34 to a row, so that most of a large matrix is zeros.
_BAND_ROWS = 64


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


def axis_centres(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Where the centres of an output axis' voxels lie on an input axis of the same extent.

    In voxels of the input, from its first centre. Beyond the outermost centres the outermost
    ones hold, as in scikit-image's `edge`. Rounded as by scipy's `zoom` with `grid_mode`.
    """
    return np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)


def axis_weights(n_in: int, n_out: int, *, nearest: bool = False) -> AxisWeights:
    """Linear (or nearest) interpolation along one axis, see `axis_centres`."""
    centre = axis_centres(n_in, n_out)
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

    # All unit vectors side by side; across them nothing is interpolated.
    unit = np.eye(n_in)
    matrix[:] = zoom(unit, (n_out / n_in, 1.0), order=order, mode="nearest", grid_mode=True)
    matrix[np.abs(matrix) < _NEGLIGIBLE] = 0
    return matrix


class PlaneResampler:
    """Interpolation of slices in their plane, by the parts of two matrices that are not 0."""

    def __init__(
        self, rows: NDArray[np.float32], columns: NDArray[np.float32], device: torch.device
    ) -> None:
        """Cut the matrices.

        Args:
            rows: (y_out, y_in), along axis 1 of a stack of slices.
            columns: (x_out, x_in), along axis 2.
            device: where the slices will be.
        """
        whole = device.type != "cpu"  # where one product costs less than many
        self._rows, self._columns = _Bands(rows, device, whole), _Bands(columns, device, whole)

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        """(n, y_in, x_in) float32 to (n, y_out, x_out)."""
        if self._rows.parts:
            found = planes.new_empty((planes.shape[0], self._rows.n_out, planes.shape[2]))
            for part in self._rows.parts:
                found[:, part.out] = part.weights @ planes[:, part.taken]
            planes = found
        if self._columns.parts:
            found = planes.new_empty((*planes.shape[:2], self._columns.n_out))
            for part in self._columns.parts:
                found[:, :, part.out] = planes[:, :, part.taken] @ part.weights.T
            planes = found
        return planes


@dataclass(frozen=True)
class _Band:
    out: slice
    taken: slice
    weights: torch.Tensor


class _Bands:
    """Parts of a matrix; none of one that changes nothing."""

    def __init__(self, matrix: NDArray[np.float32], device: torch.device, whole: bool) -> None:
        import torch

        self.n_out, n_in = matrix.shape
        self.parts: list[_Band] = []
        if self.n_out == n_in and np.array_equal(matrix, np.eye(n_in)):
            return
        first, last = row_ends(matrix)
        step = self.n_out if whole else _BAND_ROWS
        for start in range(0, self.n_out, step):
            out = slice(start, min(start + step, self.n_out))
            taken = slice(int(first[out].min()), int(last[out].max()) + 1)
            weights = torch.from_numpy(np.ascontiguousarray(matrix[out, taken])).to(device)
            self.parts.append(_Band(out, taken, weights))


def row_ends(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last column of each row that is not 0."""
    filled = matrix != 0
    return filled.argmax(axis=1), matrix.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)


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
