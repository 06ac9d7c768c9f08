"""From logits on the network's grid to labels on the image's grid.

The usual way resamples the logits of every class to the image's size, gigabytes of them, and
takes the largest. Here both happen together, one output slice at a time: beside the logits
themselves there is never more than one slice of each class.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled

Labels = NDArray[np.uint8]

# nnU-Net treats the coarse axis of such grids apart: nearest slice, no interpolation.
_ANISOTROPY = 3.0


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


def separate_axis(spacing_in: list[float], spacing_out: list[float]) -> int | None:
    """The axis that nnU-Net resamples by nearest slice, or None.

    It is the one coarse axis of a grid whose spacings differ more than threefold; the input
    grid is asked first, then the output grid.
    """
    for spacing in (spacing_in, spacing_out):
        if max(spacing) / min(spacing) > _ANISOTROPY:
            coarse = [axis for axis, s in enumerate(spacing) if s == max(spacing)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def resample_argmax(
    logits: NDArray[np.float32],
    shape: tuple[int, int, int],
    *,
    nearest_axis: int | None = None,
    threads: int = 1,
) -> Labels:
    """Label of the largest logit, interpolated, at every voxel of a grid of another size.

    Args:
        logits: (c, z, y, x) float32, contiguous; at most 255 channels.
        shape: of the output, on the same extent.
        nearest_axis: axis that takes the nearest slice in place of interpolation.
        threads: that share the slices.

    Returns:
        `shape` uint8; of equal logits the first channel's, as argmax gives.
    """
    axes = [
        axis_weights(n_in, n_out, nearest=axis == nearest_axis)
        for axis, (n_in, n_out) in enumerate(zip(logits.shape[1:], shape, strict=True))
    ]
    logits = np.ascontiguousarray(logits, dtype=np.float32)
    out: Labels = np.empty(shape, np.uint8)
    z, y, x = axes

    def fill(start: int, stop: int) -> None:
        _argmax_slices(
            logits, out, start, stop,
            z.low, z.high, z.weight, y.low, y.high, y.weight, x.low, x.high, x.weight,
        )  # fmt: skip

    edges = np.linspace(0, shape[0], max(1, min(4 * threads, shape[0])) + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, edges[:-1], edges[1:]))
    return out


@compiled
def _argmax_slices(
    logits: Any, out: Any, start: int, stop: int,
    z_low: Any, z_high: Any, z_weight: Any,
    y_low: Any, y_high: Any, y_weight: Any,
    x_low: Any, x_high: Any, x_weight: Any,
) -> None:  # fmt: skip
    """Fill output slices start to stop; interpolates along z, then y, then x."""
    n_channels, _, n_rows, n_columns = logits.shape
    plane = np.empty((n_channels, n_rows, n_columns), np.float32)
    row = np.empty(n_columns, np.float32)
    width = out.shape[2]
    best = np.empty(width, np.float32)
    winner = np.empty(width, np.uint8)
    for z in range(start, stop):
        wz, z0, z1 = z_weight[z], z_low[z], z_high[z]
        for c in range(n_channels):
            for i in range(n_rows):
                for j in range(n_columns):
                    below = logits[c, z0, i, j]
                    plane[c, i, j] = below + wz * (logits[c, z1, i, j] - below)
        for y in range(out.shape[1]):
            wy, y0, y1 = y_weight[y], y_low[y], y_high[y]
            for x in range(width):
                best[x] = -np.inf
                winner[x] = 0
            for c in range(n_channels):
                for j in range(n_columns):
                    row[j] = plane[c, y0, j] + wy * (plane[c, y1, j] - plane[c, y0, j])
                for x in range(width):
                    left = row[x_low[x]]
                    value = left + x_weight[x] * (row[x_high[x]] - left)
                    if value > best[x]:
                        best[x] = value
                        winner[x] = c
            for x in range(width):
                out[z, y, x] = winner[x]
