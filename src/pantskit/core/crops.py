"""Masks cut to where they have something, while they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation

from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry
from pantskit.core.labels import Mask
from pantskit.core.labelvolumes import faults_of_mask, inside_of, require_mask
from pantskit.core.volume import read_filled_slabs, read_header


@dataclass(frozen=True, eq=False)
class MaskCrop:
    """A part of a mask; outside of it the mask is empty.

    Attributes:
        array: (i, j, k) bool, in Fortran order.
        start: (i, j, k) index in the scan of its first voxel.
        geometry: the grid of the scan.
        faults: what was odd in the file.
    """

    array: Mask
    start: tuple[int, int, int]
    geometry: Geometry
    faults: tuple[str, ...] = ()

    def reoriented(self, orientation: str = STANDARD_ORIENTATION) -> MaskCrop:
        """The same voxels with axes flipped and permuted, as `Volume.reoriented`: a view."""
        axis_map = self.geometry.axis_map(orientation)
        start = [0, 0, 0]
        for axis, (to, flip) in enumerate(axis_map):
            first, length = self.start[axis], self.array.shape[axis]
            start[int(to)] = first if flip > 0 else self.geometry.shape[axis] - first - length
        return MaskCrop(
            apply_orientation(self.array, axis_map),
            (start[0], start[1], start[2]),
            self.geometry.reoriented(orientation),
            self.faults,
        )


def read_mask_crop(path: Path) -> MaskCrop:
    """Read a mask as `read_mask` does, keeping no more than the box around it.

    Raises:
        ImageError, GeometryError: If the file is not a whole 3D NIfTI image in its place.
        LabelError: As `read_mask`.
    """
    geometry = read_header(path).geometry
    faults: list[str] = []
    odd: set[float] = set()
    parts = []
    for k, slab in read_filled_slabs(path, faults):
        mask, other_values = inside_of(slab, str(path))
        odd |= other_values
        if mask.any():
            parts.append(_cut(mask, k))
    require_mask(odd, str(path), anything=bool(parts))
    array, start = _joined(parts)
    return MaskCrop(array, start, geometry, (*faults, *faults_of_mask(odd)))


def cut_mask(mask: Mask, geometry: Geometry) -> MaskCrop:
    """A copy of the box around a mask that is in memory."""
    array, start = _joined([_cut(mask, 0)] if mask.any() else [])
    return MaskCrop(array, start, geometry)


Part = tuple[Mask, tuple[int, int, int]]  # with its first voxel's index


def _cut(mask: Mask, first: int) -> Part:
    """A copy of the box around some slices' mask, of which `first` is the first one."""
    rows = np.any(mask, axis=0)
    j, k = np.flatnonzero(np.any(rows, axis=1)), np.flatnonzero(np.any(rows, axis=0))
    part = mask[:, j[0] : j[-1] + 1, k[0] : k[-1] + 1]
    i = np.flatnonzero(np.any(part, axis=(1, 2)))
    start = (int(i[0]), int(j[0]), first + int(k[0]))
    return part[i[0] : i[-1] + 1].copy(order="F"), start


def _joined(parts: list[Part]) -> Part:
    if not parts:
        return np.zeros((0, 0, 0), np.bool_), (0, 0, 0)
    starts = np.array([start for _, start in parts])
    stops = starts + [part.shape for part, _ in parts]
    low, high = starts.min(axis=0), stops.max(axis=0)
    array = np.zeros(high - low, np.bool_, order="F")
    for (part, _), start, stop in zip(parts, starts - low, stops - low, strict=True):
        array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = part
    i, j, k = low.tolist()
    return array, (i, j, k)
