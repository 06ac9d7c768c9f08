"""From every point of one surface on a grid to the nearest point of another.

Surfaces are words of bits, (k, j, i // 64): the memory order of volumes, read backwards (see
`packed`); a point is the index of its bit. Spacings stay mm along (i, j, k), in which order
scipy adds the squares of a distance, and so does this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled
from pantskit.measure.packed import MARGIN, Words

Spacing = tuple[float, float, float]
Distances = NDArray[np.float64]
Points = NDArray[np.int64]  # (n,) bits of a surface's words, in order

# Distances closer to a tolerance than this are equal to it in exact arithmetic: squares of
# spacings of a few mm differ from each other by far more, and rounding by far less.
TIE_MM = 1e-9

# Neighbours tried one by one around a point before all slices are asked. Nearly all points of
# a fair prediction find the other surface within a few; a sphere of 300 is about 4 voxels.
NEIGHBOURS = 300

# Pairs of points up to this are compared one by one, which takes a few milliseconds.
ALL_PAIRS = 1 << 21


@dataclass(frozen=True)
class Neighbourhood:
    """The steps to all neighbours on a grid within a radius, nearest first.

    Attributes:
        radius_mm: nothing nearer than this is left out.
        steps: (n, 3) along (k, j, i), each shorter than `MARGIN`.
        lengths: (n + 1,) mm, with infinity after the last.
    """

    radius_mm: float
    steps: NDArray[np.int64]
    lengths: Distances


@lru_cache(maxsize=64)
def neighbourhood(spacing: Spacing, within_mm: float) -> Neighbourhood:
    """The neighbours to try one by one, when nothing beyond `within_mm` matters."""
    # A ball that holds about NEIGHBOURS grid points, or all that are asked for.
    ball = (NEIGHBOURS * math.prod(spacing) * 3 / (4 * math.pi)) ** (1 / 3)
    radius_mm = min(within_mm, ball, (MARGIN - 1) * min(spacing))
    axes = [np.arange(-r, r + 1) for r in (int((radius_mm + TIE_MM) // s) for s in spacing[::-1])]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = _lengths(steps, spacing)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius_mm + TIE_MM]
    return Neighbourhood(radius_mm, steps[order], np.append(lengths[order], math.inf))


def _lengths(steps: NDArray[np.int64], spacing: Spacing) -> Distances:
    """(n, 3) steps along (k, j, i) to (n,) mm, rounded as scipy's distance transform does."""
    x, y, z = (steps[:, ::-1].astype(np.float64) * spacing).T
    lengths: Distances = np.sqrt((x * x + y * y) + z * z)
    return lengths


def distances_to(
    surface: Words, points: Points, others: Points, spacing: Spacing, within_mm: float
) -> Distances:
    """Distances from points to a surface.

    Args:
        surface: with empty margins as `lay_out` leaves them.
        points: places to measure from, none of them in the margin.
        others: the places on the surface.
        spacing: mm along (i, j, k).
        within_mm: what lies beyond may be given as infinite.

    Returns:
        (n,) mm; infinite where the surface is empty.
    """
    near = neighbourhood(spacing, within_mm)
    rows, columns = surface.shape[1], 64 * surface.shape[2]
    jumps = near.steps @ np.array([rows * columns, columns, 1])
    distances: Distances = near.lengths[_nearest(points, surface.reshape(-1), jumps)]
    if near.radius_mm < within_mm and others.size:
        far = np.flatnonzero(np.isinf(distances))
        if far.size:
            distances[far] = _search_beyond(surface, points[far], others, spacing)
    return distances


@compiled
def _nearest(
    points: NDArray[np.int64], surface: NDArray[np.uint64], steps: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each point, the first step that ends on `surface`; `len(steps)` when none does."""
    found = np.empty(points.size, np.int64)
    for n in range(points.size):
        found[n] = steps.size
        for rank in range(steps.size):
            bit = points[n] + steps[rank]
            if (surface[bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1):
                found[n] = rank
                break
    return found


def _search_beyond(surface: Words, points: Points, others: Points, spacing: Spacing) -> Distances:
    """Distances from points to a surface, however far it is."""
    shape = (*surface.shape[:2], 64 * surface.shape[2])
    here = np.stack(np.unravel_index(points, shape))
    scale = np.array(spacing[::-1])
    squares = np.full(points.size, math.inf)
    if points.size * others.size <= ALL_PAIRS:
        there = np.stack(np.unravel_index(others, shape))
        _compare_all(here, there, scale, squares)
    else:
        order = np.lexsort((here[1], here[2]))
        ordered = np.ascontiguousarray(here[:, order])
        planes = np.flatnonzero(surface.any(axis=(1, 2)))
        # The nearest slices first: what is found there rules out most of what lies far.
        planes = planes[np.argsort(np.abs(planes - here[0].mean()), kind="stable")]
        found = np.full(points.size, math.inf)
        _sweep(surface, planes, ordered, scale, found)
        squares[order] = found
    distances: Distances = np.sqrt(squares)
    return distances


@compiled
def _compare_all(
    here: NDArray[np.int64],
    there: NDArray[np.int64],
    scale: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """For each of (3, n) points the least squared distance to any of (3, m)."""
    for n in range(here.shape[1]):
        best = squares[n]
        for m in range(there.shape[1]):
            x = (here[2, n] - there[2, m]) * scale[2]
            y = (here[1, n] - there[1, m]) * scale[1]
            z = (here[0, n] - there[0, m]) * scale[0]
            best = min(best, (x * x + y * y) + z * z)
        squares[n] = best


@compiled
def _sweep(
    surface: NDArray[np.uint64],
    planes: NDArray[np.int64],
    points: NDArray[np.int64],
    scale: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Least squared distances from points to a surface, one slice of the surface at a time.

    In a slice, the squared distance along each row of it (x) is the height at which a parabola
    stands over that row; of all rows, the lower envelope of the parabolas is the distance in
    the slice (Felzenszwalb & Huttenlocher, 2012). It is built for the columns that have
    points and read off at the points alone, so no more than one slice is in memory.

    Args:
        surface: (k, j, i // 64) bits.
        planes: slices that hold any of it.
        points: (3, n) along (k, j, i), sorted by i and then by j.
        scale: mm along (k, j, i).
        squares: (n,) mm2, in and out.
    """
    columns = 64 * surface.shape[2]
    low, high = points[2, 0], points[2, -1] + 1
    heights = np.empty((high - low, surface.shape[1]), np.float64)
    rows = np.empty(surface.shape[1], np.int64)
    hull = np.empty(surface.shape[1], np.int64)  # rows whose parabolas make the envelope
    begins = np.empty(surface.shape[1] + 1, np.float64)  # j at which each takes over, in mm
    for plane in planes:
        count = 0
        for j in range(surface.shape[1]):
            if _row_distances(surface[plane, j], low, high, columns, scale[2], heights[:, count]):
                rows[count] = j
                count += 1
        start = 0
        while start < points.shape[1]:
            i = points[2, start]
            stop = start
            wanted = False
            while stop < points.shape[1] and points[2, stop] == i:
                z = (points[0, stop] - plane) * scale[0]
                wanted |= z * z < squares[stop]
                stop += 1
            if wanted:
                size = _envelope(heights[i - low], rows, count, scale[1], hull, begins)
                part = 0
                for n in range(start, stop):
                    place = points[1, n] * scale[1]
                    while part + 1 < size and begins[part + 1] <= place:
                        part += 1
                    y = (points[1, n] - rows[hull[part]]) * scale[1]
                    z = (points[0, n] - plane) * scale[0]
                    square = (heights[i - low, hull[part]] + y * y) + z * z
                    squares[n] = min(squares[n], square)
            start = stop


@compiled
def _row_distances(
    row: NDArray[np.uint64],
    low: int,
    high: int,
    columns: int,
    scale: float,
    out: NDArray[np.float64],
) -> bool:
    """Squared distance to the nearest bit of a row, from `low` to `high`; False without bits."""
    some = np.uint64(0)
    for word in row:
        some |= word
    if some == 0:
        return False
    last = -columns
    for i in range(high):
        if (row[i >> 6] >> np.uint64(i & 63)) & np.uint64(1):
            last = i
        if i >= low:
            out[i - low] = i - last
    last = 2 * columns
    for i in range(columns - 1, low - 1, -1):
        if (row[i >> 6] >> np.uint64(i & 63)) & np.uint64(1):
            last = i
        if i < high:
            x = min(out[i - low], last - i) * scale
            out[i - low] = x * x
    return True


@compiled
def _envelope(
    heights: NDArray[np.float64],
    rows: NDArray[np.int64],
    count: int,
    scale: float,
    hull: NDArray[np.int64],
    begins: NDArray[np.float64],
) -> int:
    """The lower envelope of parabolas over `rows`; returns how many take part."""
    size = 0
    for n in range(count):
        place = rows[n] * scale
        begin = -np.inf
        while size > 0:
            other = rows[hull[size - 1]] * scale
            # Where both are equally high.
            rise = heights[n] - heights[hull[size - 1]]
            begin = (rise / (place - other) + place + other) / 2
            if begin > begins[size - 1]:
                break
            size -= 1
            begin = -np.inf
        hull[size] = n
        begins[size] = begin
        size += 1
    return size


def settle_ties(
    both: list[Distances],
    points: list[Points],
    surfaces: list[Words],
    inner: tuple[slice, slice, slice],
    spacing: Spacing,
    tolerances_mm: Sequence[float],
) -> tuple[int, ...]:
    """Let scipy's transform decide, in place, where rounding decides about a tolerance.

    With spacings of 0.4, 0.4 and 1 mm the steps (5, 5, 1) and (1, 7, 1) are both 3 mm, but
    their float64 lengths differ in the last bit, so that one is within 3 mm and one is not.
    Which of two such neighbours is met depends on the search. surface-distance meets the one
    that scipy's transform meets, on the box around both masks, so in such cases the same
    transform is run on the same box. They are rare: the search itself is exact.

    Args:
        both: distances from the first surface to the second, and back.
        points: of the first and the second.
        surfaces: the first and the second.
        inner: slices along (k, j, i) of the box around both masks.
        spacing: mm along (i, j, k).
        tolerances_mm: values that distances will be compared with.

    Returns:
        For each tolerance, the number of points at that distance in exact arithmetic, where
        rounding decides.
    """
    ties = []
    for tolerance in tolerances_mm:
        lengths = _lengths_near(spacing, tolerance)
        if not (lengths != tolerance).any():
            ties.append(0)
            continue
        tied = [np.flatnonzero(np.abs(d - tolerance) <= TIE_MM) for d in both]
        ties.append(sum(t.size for t in tied))
        for here, other in ((0, 1), (1, 0)):
            if tied[here].size and lengths.size > 1:
                which = points[here][tied[here]]
                both[here][tied[here]] = _transformed(surfaces[other], inner, which, spacing)
    return tuple(ties)


def _transformed(
    surface: Words, inner: tuple[slice, slice, slice], points: Points, spacing: Spacing
) -> Distances:
    """mm from points to a surface, by scipy's transform of the box around the masks."""
    from scipy.ndimage import distance_transform_edt

    voxels = np.unpackbits(surface.view(np.uint8), axis=-1, bitorder="little")
    # Corners: one more than voxels along each axis, as in surface-distance.
    box = tuple(slice(s.start, s.stop + 1) for s in inner)
    distances = distance_transform_edt((voxels[box] == 0).T, sampling=spacing).T
    places = np.unravel_index(points, voxels.shape)
    found: Distances = distances[tuple(p - s.start for p, s in zip(places, box, strict=True))]
    return found


@lru_cache(maxsize=256)
def _lengths_near(spacing: Spacing, tolerance_mm: float) -> Distances:
    """The different float64 lengths of grid steps that are as long as the tolerance."""
    x, y = (np.arange(int(tolerance_mm / s) + 2) * s for s in spacing[:2])
    rest = tolerance_mm**2 - (x * x)[:, None] - (y * y)[None, :]
    z = np.rint(np.sqrt(np.maximum(rest, 0.0)) / spacing[2])
    x_steps, y_steps = np.indices(z.shape)
    steps = np.stack([z, y_steps, x_steps], axis=-1).reshape(-1, 3).astype(np.int64)
    lengths = _lengths(steps, spacing)
    near: Distances = np.unique(lengths[np.abs(lengths - tolerance_mm) <= TIE_MM])
    return near
