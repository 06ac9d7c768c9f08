"""Closed contours to masks: a voxel is inside where its centre is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import LabelError
from pantskit.core.labels import Mask
from pantskit.measure.compiled import compiled

Points = NDArray[np.float64]

# Of the smaller of two contours on one slice, the share that the other may cover to count as
# beside it, and from which on it lies inside it.
_BESIDE, _INSIDE = 0.02, 0.9

# A thresholded bone has some hundreds of contours on a slice.
_MOST_CONTOURS = 20_000


@dataclass(frozen=True)
class _Filled:
    """One contour's inside: a box of pixels, and what is inside of it."""

    box: tuple[slice, slice]
    inside: Mask


def fill(
    contours: Sequence[Points], shape: tuple[int, int], tolerance: tuple[float, float]
) -> tuple[Mask, int]:
    """The pixels of one slice that are in a structure.

    A pixel is in it when its centre is inside an odd number of the contours, so that a contour
    in another is a hole and a keyhole is open; or when its centre lies on one of them, which
    DICOM counts as inside (PS3.3 C.8.8.6.3).

    Args:
        contours: (n, 2) corners each, (i, j) with (0, 0) the first pixel's centre; the last
            corner is joined to the first.
        shape: (columns, rows).
        tolerance: how far along i and j a centre may be from a contour to lie on it, in pixels.

    Returns:
        (columns, rows) bool, and the number of contours that lie inside another.

    Raises:
        LabelError: If two contours cross each other, so that the inside is not clear, or there
            are more than any structure has.
    """
    if len(contours) > _MOST_CONTOURS:
        raise LabelError(
            f"{len(contours)} contours on one slice; at most {_MOST_CONTOURS} are read"
        )
    inside: Mask = np.zeros(shape, np.bool_, order="F")
    filled = [f for contour in contours if (f := _filled(contour, shape)) is not None]
    holes = _nested(filled)
    for part in filled:
        inside[part.box] ^= part.inside
    for contour in contours:
        _mark_path(contour, tolerance[0], tolerance[1], inside)
    return inside, holes


def _filled(contour: Points, shape: tuple[int, int]) -> _Filled | None:
    """Pixels whose centre is inside one polygon by the even-odd rule; None where it has none."""
    low = np.clip(np.ceil(contour.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.floor(contour.max(axis=0)) + 1, 0, shape).astype(int)
    if (high <= low).any():
        return None
    parity = np.zeros((high - low)[::-1], np.bool_)
    _fill_polygon(contour - low, parity)
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    return _Filled(box, parity.T)


@compiled
def _fill_polygon(contour: Points, inside: Mask) -> None:
    """Set `inside` (rows, columns) where a ray to lower i meets an odd number of edges.

    An edge counts half-open in j, so that no corner counts twice and polygons that share an
    edge share no pixel.
    """
    rows, columns = inside.shape
    for n in range(len(contour)):
        i0, j0 = contour[n - 1]
        i1, j1 = contour[n]
        if j0 > j1:
            i0, j0, i1, j1 = i1, j1, i0, j0
        for j in range(max(int(np.ceil(j0)), 0), min(int(np.ceil(j1)), rows)):
            meets = np.ceil(i0 + (j - j0) * (i1 - i0) / (j1 - j0))
            if meets < columns:  # flips that row from there on, once all edges are through
                column = max(int(meets), 0)
                inside[j, column] = not inside[j, column]
    for j in range(rows):
        for i in range(1, columns):
            inside[j, i] = inside[j, i] != inside[j, i - 1]


@compiled
def _mark_path(contour: Points, tolerance_i: float, tolerance_j: float, inside: Mask) -> None:
    """Set `inside` (columns, rows) where a pixel's centre lies on an edge of the polygon."""
    columns, rows = inside.shape
    for n in range(len(contour)):
        i0, j0 = contour[n - 1]
        i1, j1 = contour[n]
        if abs(j1 - j0) >= abs(i1 - i0):  # steep: one place in each row of centres
            if j0 > j1:
                i0, j0, i1, j1 = i1, j1, i0, j0
            first = max(int(np.ceil(j0 - tolerance_j)), 0)
            for j in range(first, min(int(np.floor(j1 + tolerance_j)) + 1, rows)):
                at = min(max(float(j), j0), j1)
                i = i0 + (at - j0) * (i1 - i0) / (j1 - j0) if j1 > j0 else i0
                nearest = int(np.rint(i))
                if abs(i - nearest) <= tolerance_i and 0 <= nearest < columns:
                    inside[nearest, j] = True
        else:
            if i0 > i1:
                i0, j0, i1, j1 = i1, j1, i0, j0
            first = max(int(np.ceil(i0 - tolerance_i)), 0)
            for i in range(first, min(int(np.floor(i1 + tolerance_i)) + 1, columns)):
                at = min(max(float(i), i0), i1)
                j = j0 + (at - i0) * (j1 - j0) / (i1 - i0)
                nearest = int(np.rint(j))
                if abs(j - nearest) <= tolerance_j and 0 <= nearest < rows:
                    inside[i, nearest] = True


def _nested(filled: Sequence[_Filled]) -> int:
    """The number of contours inside another.

    Raises:
        LabelError: If two cross.
    """
    boxes = np.array([[b.start, b.stop] for f in filled for b in f.box]).reshape(-1, 4)
    inner = set()
    for n, one in enumerate(filled):
        low = np.maximum(boxes[n, ::2], boxes[n + 1 :, ::2])
        high = np.minimum(boxes[n, 1::2], boxes[n + 1 :, 1::2])
        for other in np.flatnonzero((low < high).all(axis=1)).tolist():
            m = n + 1 + other
            sizes = (int(one.inside.sum()), int(filled[m].inside.sum()))
            common = (slice(*pair) for pair in zip(low[other], high[other], strict=True))
            i, j = common
            share = int((_part(one, i, j) & _part(filled[m], i, j)).sum()) / max(min(sizes), 1)
            if _BESIDE < share < _INSIDE:
                raise LabelError("two contours of it cross on one slice; draw them as one")
            if share >= _INSIDE:
                inner.add(n if sizes[0] <= sizes[1] else m)
    return len(inner)


def _part(filled: _Filled, i: slice, j: slice) -> Mask:
    """What of a filled contour lies in a box of pixels."""
    left, top = filled.box[0].start, filled.box[1].start
    return filled.inside[i.start - left : i.stop - left, j.start - top : j.stop - top]
