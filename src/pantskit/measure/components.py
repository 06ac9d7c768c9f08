"""Lesions: the connected parts of a tumour mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.boxes import Box, union_box

Mask = NDArray[np.bool_]

# Voxels that touch by a face, an edge or a corner are one lesion, as in picai_eval.
CONNECTIVITY: Literal[26] = 26


@dataclass(frozen=True)
class Component:
    """One connected part of a mask.

    Attributes:
        index: 1 for the largest, its value in the label array.
        voxels: how many.
        volume_mm3: of all its voxels.
        centroid: (i, j, k) mean voxel index in the scan.
        centroid_mm: RAS+ mm of it.
        longest_axis_mm: greatest distance between two points of its surface, which passes
            half a voxel beyond the outermost voxel centres: a single voxel is as long as its
            largest spacing.
        box: slices that hold it in the label array.
    """

    index: int
    voxels: int
    volume_mm3: float
    centroid: tuple[float, float, float]
    centroid_mm: tuple[float, float, float]
    longest_axis_mm: float
    box: Box


def components(
    mask: Mask,
    affine: NDArray[np.float64],
    *,
    corner: Sequence[int] = (0, 0, 0),
    min_voxels: int = 1,
) -> tuple[NDArray[np.uint32], list[Component]]:
    """The 26-connected components of a mask, largest first.

    Equal sizes are ordered by where their first voxel lies (k, then j, then i), so that the
    order depends on nothing but the mask.

    Args:
        mask: (i, j, k) bool; a scan's, or a crop of it.
        affine: (4, 4) from voxel index in the scan to RAS+ mm.
        corner: index in the scan of the crop's first voxel.
        min_voxels: smaller components are left out.

    Returns:
        (i, j, k) uint32 array of component indices, 0 outside; and the components, none for
        an empty mask.
    """
    labels = np.zeros(mask.shape, dtype=np.uint32, order="F")
    box = union_box(mask)
    if box is None:
        return labels, []
    import cc3d

    # As uint8: of a bool row, 1 voxel wide and high, with a gap, cc3d 4.1 raises an exception.
    crop = np.asfortranarray(mask[box]).view(np.uint8)
    raw = np.asarray(cc3d.connected_components(crop, connectivity=CONNECTIVITY))
    statistics = cc3d.statistics(raw)
    sizes = np.asarray(statistics["voxel_counts"]).astype(np.int64)
    flat = raw.ravel(order="F")
    inside = np.flatnonzero(flat)[::-1]
    first = np.zeros(sizes.size, dtype=np.int64)
    first[flat[inside]] = inside  # of several, the one assigned last stays
    values = 1 + np.flatnonzero(sizes[1:] >= max(1, min_voxels))
    order = values[np.lexsort((first[values], -sizes[values]))]
    table = np.zeros(sizes.size, dtype=np.uint32)
    table[order] = np.arange(1, order.size + 1)
    labels[box] = table[raw]
    boxes = [_shifted(statistics["bounding_boxes"][value], box) for value in order]
    ruler = _Ruler(affine)
    return labels, [_describe(n, labels[b] == n, b, corner, ruler) for n, b in enumerate(boxes, 1)]


def _shifted(inner: Sequence[slice], outer: Box) -> Box:
    i, j, k = (
        slice(int(a.start) + b.start, int(a.stop) + b.start)
        for a, b in zip(inner, outer, strict=True)
    )
    return i, j, k


class _Ruler:
    """Sizes in mm of the parts of one mask."""

    def __init__(self, affine: NDArray[np.float64]) -> None:
        self.affine = affine
        self.voxel_mm3 = float(abs(np.linalg.det(affine[:3, :3])))
        self._known: dict[tuple[tuple[int, ...], bytes], float] = {}

    def longest_axis(self, part: Mask) -> float:
        """`_longest_axis`; a noisy mask has thousands of specks of few different shapes."""
        if part.size > 64:
            return _longest_axis(part, self.affine)
        shape = part.shape, part.tobytes()
        if shape not in self._known:
            self._known[shape] = _longest_axis(part, self.affine)
        return self._known[shape]


def _describe(index: int, part: Mask, box: Box, corner: Sequence[int], ruler: _Ruler) -> Component:
    start = np.array([s.start for s in box]) + np.array(corner)
    inside = np.argwhere(part)
    centroid = inside.mean(axis=0) + start
    return Component(
        index=index,
        voxels=len(inside),
        volume_mm3=len(inside) * ruler.voxel_mm3,
        centroid=_triple(centroid),
        centroid_mm=_triple(ruler.affine[:3, :3] @ centroid + ruler.affine[:3, 3]),
        longest_axis_mm=ruler.longest_axis(part),
        box=box,
    )


def _longest_axis(part: Mask, affine: NDArray[np.float64]) -> float:
    """Largest distance in mm between the face centres of a component's voxels."""
    from scipy.spatial.distance import pdist

    # Nothing but the two ends of each row along i can lie on the hull.
    j, k = np.nonzero(part.any(axis=0))
    low = part.argmax(axis=0)[j, k]
    high = part.shape[0] - 1 - part[::-1].argmax(axis=0)[j, k]
    ends = _outermost(np.concatenate([np.stack([i, j, k], axis=-1) for i in (low, high)]))
    # The hull of all face centres is made of those of the voxels whose centres make a hull.
    faces = np.concatenate([ends + half for half in (*np.eye(3) / 2, *-np.eye(3) / 2)])
    points = _outermost(faces) @ affine[:3, :3].T
    return float(pdist(points).max())


def _outermost(points: NDArray[Any]) -> NDArray[Any]:
    """The corners of the convex hull; all points where they lie in one plane."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        corners: NDArray[Any] = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return points
    return corners


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z
