"""Every n-th voxel of a volume, taken while its slices go by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Steps = tuple[int, int, int]


class Sample:
    """A thinned copy of a volume.

    Attributes:
        array: (i, j, k) in Fortran order, of the voxels at multiples of the steps; complete when
            all slices have gone by.
        steps: along (i, j, k); 1 takes all.
    """

    def __init__(self, shape: tuple[int, ...], steps: Steps) -> None:
        """Take the memory.

        Args:
            shape: of the volume, (i, j, k).
            steps: positive.
        """
        self.steps = steps
        thinned = [-(-extent // step) for extent, step in zip(shape, steps, strict=True)]
        self.array: NDArray[np.int16] = np.empty(thinned, np.int16, order="F")
        self._passed = 0

    @classmethod
    def of(cls, array: NDArray[Any], steps: Steps) -> Sample:
        """The sample of a volume that is in memory."""
        i, j, k = steps
        sample = cls((0, 0, 0), steps)
        sample.array = np.asfortranarray(array[::i, ::j, ::k])
        return sample

    def add(self, slab: NDArray[np.int16]) -> None:
        """Take what belongs to it of (i, j, n) voxels, the volume's next slices."""
        i, j, k = self.steps
        first = -self._passed % k
        part = slab[::i, ::j, first::k]
        start = (self._passed + first) // k
        self.array[:, :, start : start + part.shape[2]] = part
        self._passed += slab.shape[2]
