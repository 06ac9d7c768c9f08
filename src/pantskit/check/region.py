"""Structures cut to their boxes, turned from a file's axes to the body's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Voxel
from pantskit.core.geometry import Geometry
from pantskit.core.labels import Mask
from pantskit.measure.boxes import Box
from pantskit.measure.shape import edge_voxels

BODY_AXES = "RAS"  # nibabel codes: toward right, front, head


@dataclass(frozen=True)
class Turn:
    """Flips and permutation from a file's axes to the body's.

    Attributes:
        axes: for each axis of the body, the file's axis.
        flipped: whether it runs the other way.
        shape: of the file's array.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, geometry: Geometry) -> Turn:
        """That of a file's grid."""
        table = geometry.axis_map(BODY_AXES)
        sources = [int(np.flatnonzero(table[:, 0] == n)[0]) for n in range(3)]
        flips = [bool(table[s, 1] < 0) for s in sources]
        return cls(
            (sources[0], sources[1], sources[2]), (flips[0], flips[1], flips[2]), geometry.shape
        )

    def turned(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of an array with the body's axes."""
        flips = tuple(slice(None, None, -1 if f else 1) for f in self.flipped)
        return array.transpose(self.axes)[flips]

    def start(self, start: Voxel, size: tuple[int, ...]) -> Voxel:
        """Where a crop begins along the body's axes; `start` and `size` along the file's."""
        i, j, k = (
            self.shape[a] - start[a] - size[a] if f else start[a]
            for a, f in zip(self.axes, self.flipped, strict=True)
        )
        return i, j, k

    def back(self, at: Voxel) -> Voxel:
        """The index in the file's array of a voxel given along the body's axes."""
        found = [0, 0, 0]
        for n, axis, flipped in zip(at, self.axes, self.flipped, strict=True):
            found[axis] = self.shape[axis] - 1 - int(n) if flipped else int(n)
        return found[0], found[1], found[2]


@dataclass(frozen=True, eq=False)
class Region:
    """A structure that is not empty, cut to its box.

    Attributes:
        array: (i, j, k) bool along the body's axes, in Fortran order.
        start: index in the scan of its first voxel.
    """

    array: Mask
    start: Voxel

    @cached_property
    def box(self) -> Box:
        """Slices of the scan."""
        i, j, k = (slice(a, a + n) for a, n in zip(self.start, self.array.shape, strict=True))
        return i, j, k

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """(k,) voxels in each axial slice."""
        flat = self.array.reshape(-1, self.array.shape[2], order="F")
        counts: NDArray[np.int64] = np.count_nonzero(flat, axis=0)
        return counts

    @cached_property
    def voxels(self) -> int:
        """How many voxels it has."""
        return int(self.areas.sum())

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """(3,) mean voxel index in the scan."""
        summed = self.array.sum(axis=2, dtype=np.int64)
        lines = (summed.sum(axis=1), summed.sum(axis=0), self.areas)
        means = [float(line @ np.arange(len(line))) / self.voxels for line in lines]
        return np.array(means) + self.start

    @cached_property
    def widest(self) -> Voxel:
        """A voxel of it in the axial slice that shows most of it, near the middle there."""
        return self.in_slice(int(self.areas.argmax()))

    @property
    def inner(self) -> Mask:
        """Its voxels that have no neighbour outside by a face."""
        inner = self.array.copy(order="F")
        inner[tuple((edge_voxels(self.array)).T)] = False
        return inner

    def in_slice(self, k: int) -> Voxel:
        """A voxel of it near the middle of a slice, counted from its own first one."""
        i, j = np.nonzero(self.array[:, :, k])
        if not i.size:
            middle = [n // 2 for n in self.array.shape[:2]]
            return self.start[0] + middle[0], self.start[1] + middle[1], self.start[2] + k
        n = int(((i - i.mean()) ** 2 + (j - j.mean()) ** 2).argmin())
        return self.start[0] + int(i[n]), self.start[1] + int(j[n]), self.start[2] + k

    def crop(self, box: Box) -> Mask:
        """The part of it in a box of the scan that lies within its own."""
        i, j, k = (slice(b.start - a, b.stop - a) for a, b in zip(self.start, box, strict=True))
        return self.array[i, j, k]


def common(a: Box, b: Box) -> Box | None:
    """The box in both; None where there is none."""
    i, j, k = (slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return (i, j, k) if all(part.start < part.stop for part in (i, j, k)) else None


def box_gap_mm(a: Box, b: Box, spacing: tuple[float, float, float]) -> float:
    """Smallest distance in mm between two boxes of voxels; 0 where they meet."""
    gaps = [
        max(0, p.start - q.stop + 1, q.start - p.stop + 1) * mm
        for p, q, mm in zip(a, b, spacing, strict=True)
    ]
    return float(np.linalg.norm(gaps))
