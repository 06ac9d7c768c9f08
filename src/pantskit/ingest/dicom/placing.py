"""Slices written where they belong in a volume of standard orientation, so that none is moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry
from pantskit.core.volume import Volume


class StandardArray:
    """A volume in standard orientation that is filled slice by slice in a source's order.

    Attributes:
        array: (i, j, k) in Fortran order, of the standard orientation; unset at first.
        geometry: its grid.
    """

    def __init__(self, source: Geometry, dtype: DTypeLike) -> None:
        """Take the memory.

        Args:
            source: the grid as its slices lie: i along a row, j down a column, k over slices.
            dtype: of the voxels.
        """
        self.geometry = source.reoriented()
        self.array: NDArray[Any] = np.empty(self.geometry.shape, dtype, order="F")
        axis_map = source.axis_map(self.geometry.orientation)
        view = self.array.transpose([int(axis) for axis, _ in axis_map])
        self._source = view[tuple(slice(None, None, int(flip)) for _, flip in axis_map)]

    def plane(self, k: int) -> NDArray[Any]:
        """(rows, columns) of the source's slice k: a view to be written into."""
        return self._source[:, :, k].T

    @property
    def volume(self) -> Volume:
        """The volume; it shares this memory."""
        return Volume(self.array, self.geometry)


def standard_slabs(
    source: Geometry, dtype: DTypeLike, slab_bytes: int
) -> Iterator[tuple[StandardArray, range]]:
    """Memory for a volume in standard orientation, some slices at a time, in their order there.

    Args:
        source: the grid as its slices lie, as for `StandardArray`.
        dtype: of the voxels.
        slab_bytes: how much to take at a time; at least a slice is taken. Slices that are not
            axial go through all of the standard slices, so that there is one slab then.

    Yields:
        Memory, to be filled before the next is asked for, which may be the same memory; and
        which of the source's slices belong there: its `plane(0)` is the first of them.
    """
    axis, flip = source.axis_map(STANDARD_ORIENTATION)[2]
    columns, rows, depth = source.shape
    slice_bytes = columns * rows * np.dtype(dtype).itemsize
    most = max(1, slab_bytes // slice_bytes) if axis == 2 else depth
    placed = None
    for start in range(0, depth, most):
        count = min(most, depth - start)
        if placed is None or count < most:
            placed = StandardArray(Geometry((columns, rows, count), source.affine), dtype)
        first = depth - start - count if flip < 0 else start
        yield placed, range(first, first + count)
