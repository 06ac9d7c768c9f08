"""Slices written where they belong in a volume of standard orientation, so that none is moved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pantskit.core.geometry import Geometry
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
