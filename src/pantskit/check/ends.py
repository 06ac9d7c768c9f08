"""The ends of a vessel or duct: how far from what it should reach, and whether the CT goes on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Voxel
from pantskit.check.scan import Scan
from pantskit.core.labels import Mask

RIGHT, FRONT, UP = 0, 1, 2  # axes of the body


def end_gap(
    scan: Scan, structure: str, other: str, *, axis: int, last: bool, slab_mm: float
) -> tuple[float, Voxel]:
    """Smallest distance in mm from one end of a structure to another structure.

    Args:
        scan: the case; neither structure is empty.
        structure: the one that ends.
        other: the one that it should reach.
        axis: along which it ends: `RIGHT`, `FRONT` or `UP`.
        last: its end on that side; else on the opposite one.
        slab_mm: how much of the structure is its end.

    Returns:
        The distance less a voxel, 0 where they touch or overlap, and the voxel of the end (in
        the file) that is nearest.
    """
    from scipy.spatial import cKDTree

    region = scan.regions[structure]
    along = np.flatnonzero(region.array.any(axis=tuple({0, 1, 2} - {axis})))
    depth = max(1, round(slab_mm / scan.geometry.spacing[axis]))
    kept = along[along > along[-1] - depth] if last else along[along < along[0] + depth]
    voxels = np.argwhere(np.take(region.array, kept, axis))
    voxels[:, axis] += kept[0]
    voxels += region.start
    inside = scan.contains(other, voxels)
    if inside.any():
        i, j, k = voxels[int(np.argmax(inside))].tolist()
        return 0.0, scan.at((i, j, k))
    distances, _ = cKDTree(scan.points(other)).query(scan.geometry.to_world(voxels))
    n = int(np.argmin(distances))
    i, j, k = voxels[n].tolist()
    beyond = float(distances[n]) - 1.01 * max(scan.geometry.spacing)
    return max(0.0, beyond), scan.at((i, j, k))


def lumen_beyond(scan: Scan, vessel: str, *, upper: bool) -> float:
    """How far the CT shows a vessel's lumen beyond the upper or lower end of its mask, in mm.

    From the last whole section on, what is as bright as it and joined to it is followed from
    slice to slice while it stays as large and in its place. Where the vessel divides, or opens
    into a chamber, its size changes; where its surroundings are as bright as it is, nothing can
    be said.

    Args:
        scan: the case; the vessel is not empty.
        vessel: one that runs along the body.
        upper: its upper end; else the lower one.

    Returns:
        0 where it ends, nothing can be said, or there is no CT.
    """
    region = scan.regions[vessel]
    if scan.ct is None:
        return 0.0
    reach = max(2, round(30 / scan.geometry.spacing[2]))
    last = _last_whole(region.areas, upper=upper, reach=reach)
    seen, rows = _around(scan, region.array[:, :, last], region.start)
    step = 1 if upper else -1
    k = region.start[2] + last
    end = region.box[2].stop - 1 if upper else region.start[2]
    under = scan.ct[rows][:, :, k][seen].astype(np.float64)
    middle = float(np.median(under))
    spread = 1.4826 * float(np.median(np.abs(under - middle)))
    near = max(_LEAST_HU, 3 * spread)

    def joined(k: int, section: Mask) -> Mask | None:
        plane = scan.ct[rows][:, :, k]  # type: ignore[index]  # the caller has seen that there is a CT
        return _joined(np.abs(plane.astype(np.float32) - middle) <= near, section)

    whole = joined(k, seen)
    if whole is None or whole.sum() > _LARGER * seen.sum():
        return 0.0
    size, found, middle_of_it = float(whole.sum()), end, _middle(whole)
    drift = np.sqrt(size / np.pi)  # an iliac artery leaves the aorta's place within a radius
    low, high = scan.view
    k += step
    while low <= k < high:
        section = joined(k, whole)
        if section is None or not _SMALLER * size <= section.sum() <= _LARGER * size:
            break
        if 2 * np.count_nonzero(section & whole) < min(section.sum(), whole.sum()):
            break
        if np.linalg.norm(_middle(section) - middle_of_it) > drift:
            break
        whole, found = section, k
        k += step
    return max(0.0, (found - end) * step * scan.geometry.spacing[2])


_LEAST_HU = 25.0  # of noise, where a section is of few voxels
_SMALLER, _LARGER = 0.6, 1.6  # of a section: an iliac artery has half the aorta's
_MARGIN_MM = 20.0


def _last_whole(areas: NDArray[np.int64], *, upper: bool, reach: int) -> int:
    """Index of the slice nearest to an end whose section is no cap."""
    order = np.arange(len(areas))[::-1] if upper else np.arange(len(areas))
    near = order[:reach]
    return int(near[np.flatnonzero(areas[near] >= 0.7 * np.median(areas[near]))[0]])


def _around(scan: Scan, plane: Mask, start: Voxel) -> tuple[Mask, tuple[slice, slice]]:
    """A section within a window around it, and the window's rows and columns of the scan."""
    window = []
    for axis, used in enumerate((plane.any(axis=1), plane.any(axis=0))):
        own = np.flatnonzero(used) + start[axis]
        margin = int(_MARGIN_MM / scan.geometry.spacing[axis]) + 1
        ends = max(0, own[0] - margin), min(scan.geometry.shape[axis], own[-1] + margin + 1)
        window.append(slice(*map(int, ends)))
    rows, columns = window
    seen = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.bool_)
    i, j = np.nonzero(plane)
    seen[i + start[0] - rows.start, j + start[1] - columns.start] = True
    return seen, (rows, columns)


def _middle(section: Mask) -> NDArray[np.float64]:
    middle: NDArray[np.float64] = np.argwhere(section).mean(axis=0)
    return middle


def _joined(alike: Mask, section: Mask) -> Mask | None:
    """The connected part of a plane that has most of a section; None where there is none."""
    from scipy.ndimage import label

    numbers, count = label(alike)
    votes = np.bincount(numbers[section], minlength=count + 1)
    votes[0] = 0
    return None if votes.max() == 0 else np.asarray(numbers == votes.argmax())
