"""What a mask looks like: its surface voxels, cavities, slices that do not fit their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def edge_voxels(mask: Mask) -> NDArray[np.int64]:
    """(n, 3) indices of the voxels that have a neighbour outside by a face; (0, 3) if empty.

    Args:
        mask: (i, j, k) bool; what lies beyond the array counts as outside.
    """
    turned = np.ascontiguousarray(mask.T)  # worked through in the order of memory
    inner = turned.copy()
    for axis in range(3):
        inside, own = np.moveaxis(inner, axis, 0), np.moveaxis(turned, axis, 0)
        inside[1:] &= own[:-1]
        inside[:-1] &= own[1:]
        inside[0] = inside[-1] = False
    return np.argwhere(turned & ~inner)[:, ::-1]


@dataclass(frozen=True, eq=False)
class Part:
    """One connected part of a mask, or of what it encloses.

    Attributes:
        voxels: how many.
        box: first and last index + 1 along each axis, of the array.
        inside: index of one of its voxels, near the middle of its box where it can be.
    """

    voxels: int
    box: tuple[slice, slice, slice]
    inside: tuple[int, int, int]

    def mask(self, whole: Mask, *, connectivity: Literal[6, 26] = 26) -> Mask:
        """(i, j, k) bool of the part's box: its own voxels.

        Args:
            whole: the mask that it is a part of; of a cavity, the mask's complement.
            connectivity: by which it was found: 6 of a cavity.
        """
        import cc3d

        here = np.asfortranarray(whole[self.box])
        labels = cc3d.connected_components(here.view(np.uint8), connectivity=connectivity)
        i, j, k = (n - s.start for n, s in zip(self.inside, self.box, strict=True))
        own: Mask = labels == labels[i, j, k]
        return own


def parts_of(mask: Mask) -> list[Part]:
    """The 26-connected parts of a mask, largest first; none of an empty one.

    Args:
        mask: (i, j, k) bool.
    """
    import cc3d

    # As uint8: of a bool row, 1 voxel wide and high, with a gap, cc3d 4.1 raises an exception.
    labels = cc3d.connected_components(np.asfortranarray(mask).view(np.uint8), connectivity=26)
    return _parts(labels)


def cavities(mask: Mask) -> list[Part]:
    """What a mask encloses on all sides, part by part (6-connected), largest first.

    Args:
        mask: (i, j, k) bool, cut to its box or larger; what lies beyond is outside.
    """
    import cc3d

    outside = np.ones([n + 2 for n in mask.shape], np.bool_, order="F")
    outside[1:-1, 1:-1, 1:-1] = ~mask
    labels = cc3d.connected_components(outside.view(np.uint8), connectivity=6)
    open_air = int(labels[0, 0, 0])
    found = []
    for part in _parts(labels, leave_out=open_air):
        i, j, k = (slice(s.start - 1, s.stop - 1) for s in part.box)
        at = (part.inside[0] - 1, part.inside[1] - 1, part.inside[2] - 1)
        found.append(Part(part.voxels, (i, j, k), at))
    return found


def _parts(labels: NDArray[np.unsignedinteger], *, leave_out: int = 0) -> list[Part]:
    import cc3d

    statistics = cc3d.statistics(labels)
    sizes = np.asarray(statistics["voxel_counts"]).astype(np.int64)
    found = []
    for value in (np.argsort(-sizes[1:], kind="stable") + 1).tolist():
        if value == leave_out or not sizes[value]:
            continue
        i, j, k = (slice(int(s.start), int(s.stop)) for s in statistics["bounding_boxes"][value])
        found.append(Part(int(sizes[value]), (i, j, k), _inside(labels, value, (i, j, k))))
    return found


def _inside(
    labels: NDArray[np.unsignedinteger], value: int, box: tuple[slice, slice, slice]
) -> tuple[int, int, int]:
    """A voxel of a part, in the middle slice of its box, or the first slice that has one."""
    i, j, k = box
    middle = (k.start + k.stop) // 2
    for slice_k in (middle, *range(k.start, k.stop)):
        there = np.argwhere(labels[i, j, slice_k] == value)
        if len(there):
            near = there[int(((there - there.mean(axis=0)) ** 2).sum(axis=1).argmin())]
            return i.start + int(near[0]), j.start + int(near[1]), slice_k
    raise ValueError("a part has at least one voxel")


def lost_shares(mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How much of what both neighbours of a slice have is missing in the slice itself.

    Args:
        mask: (i, j, k) bool.

    Returns:
        (k,) share missing in each slice along k, 0 where the neighbours have nothing in
        common; and (k,) voxels that they have in common. First and last slice have 0 and 0.
    """
    depth = mask.shape[2]
    shares, common = np.zeros(depth), np.zeros(depth, np.int64)
    for k in range(1, depth - 1):
        both = mask[:, :, k - 1] & mask[:, :, k + 1]
        common[k] = np.count_nonzero(both)
        if common[k]:
            shares[k] = np.count_nonzero(both & ~mask[:, :, k]) / common[k]
    return shares, common


def shared_with_next(mask: Mask) -> NDArray[np.float64]:
    """(k - 1,) share of the smaller of two neighbouring slices that the other one has as well.

    Args:
        mask: (i, j, k) bool.

    Returns:
        NaN where a slice is empty.
    """
    areas = np.count_nonzero(mask.reshape(-1, mask.shape[2], order="F"), axis=0)
    both = [np.count_nonzero(mask[:, :, k] & mask[:, :, k + 1]) for k in range(mask.shape[2] - 1)]
    smaller = np.minimum(areas[:-1], areas[1:])
    return np.where(smaller > 0, np.array(both) / np.maximum(smaller, 1), np.nan)


def ring_holes(mask: Mask) -> NDArray[np.int64]:
    """(k,) voxels that the mask encloses within each slice along k.

    Args:
        mask: (i, j, k) bool.
    """
    from scipy.ndimage import binary_fill_holes

    planes = (mask[:, :, k] for k in range(mask.shape[2]))
    return np.array([np.count_nonzero(binary_fill_holes(p)) - np.count_nonzero(p) for p in planes])


def repeats(mask: Mask) -> NDArray[np.bool_]:
    """(k - 1,) whether each slice along k is the same as the next, where both have voxels."""
    filled = np.asarray(mask.any(axis=(0, 1)))
    same = [
        bool(filled[k] and np.array_equal(mask[:, :, k], mask[:, :, k + 1]))
        for k in range(mask.shape[2] - 1)
    ]
    return np.array(same, np.bool_)
