"""From every point of one surface on a grid to the nearest point of another.

Arrays here are (k, j, i): the memory order of volumes, read backwards. Spacings stay mm along
(i, j, k), in which order scipy adds the squares of a distance, and so does this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled

Spacing = tuple[float, float, float]
Distances = NDArray[np.float64]
Points = NDArray[np.int64]  # (n,) indices into a flattened surface
Surface = NDArray[np.uint8]  # (k, j, i), 0 where there is no surface

# Distances closer to a tolerance than this are equal to it in exact arithmetic: squares of
# spacings of a few mm differ from each other by far more, and rounding by far less.
TIE_MM = 1e-9

# Neighbours tried one by one around a point before a tree is asked. Nearly all points of a
# fair prediction find the other surface within a few; a sphere of 600 is about 5 voxels.
NEIGHBOURS = 600


@dataclass(frozen=True)
class Neighbourhood:
    """The steps to all neighbours on a grid within a radius, nearest first.

    Attributes:
        radius_mm: nothing nearer than this is left out.
        reach: voxels that steps go along (k, j, i) at most.
        steps: (n, 3) along (k, j, i).
        lengths: (n + 1,) mm, with infinity after the last.
    """

    radius_mm: float
    reach: tuple[int, ...]
    steps: NDArray[np.int64]
    lengths: Distances


@lru_cache(maxsize=64)
def neighbourhood(spacing: Spacing, within_mm: float) -> Neighbourhood:
    """The neighbours to try one by one, when nothing beyond `within_mm` matters."""
    # A ball that holds about NEIGHBOURS grid points, or all that are asked for.
    ball = (NEIGHBOURS * math.prod(spacing) * 3 / (4 * math.pi)) ** (1 / 3)
    radius_mm = min(within_mm, ball)
    reach = tuple(int((radius_mm + TIE_MM) // s) for s in reversed(spacing))
    axes = [np.arange(-r, r + 1) for r in reach]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = _lengths(steps, spacing)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius_mm + TIE_MM]
    return Neighbourhood(radius_mm, reach, steps[order], np.append(lengths[order], math.inf))


def _lengths(steps: NDArray[np.int64], spacing: Spacing) -> Distances:
    """(n, 3) steps along (k, j, i) to (n,) mm, rounded as scipy's distance transform does."""
    x, y, z = (steps[:, ::-1].astype(np.float64) * spacing).T
    lengths: Distances = np.sqrt((x * x + y * y) + z * z)
    return lengths


def distances_to(
    surface: Surface, points: Points, others: Points, spacing: Spacing, within_mm: float
) -> Distances:
    """Distances from points to a surface.

    Args:
        surface: with a margin of `neighbourhood(spacing, within_mm).reach + 1` all around.
        points: places to measure from, none of them in the margin.
        others: the places on the surface.
        spacing: mm along (i, j, k).
        within_mm: what lies beyond may be given as infinite.

    Returns:
        (n,) mm; infinite where the surface is empty.
    """
    near = neighbourhood(spacing, within_mm)
    jumps = near.steps @ np.array(surface.strides, dtype=np.int64)
    distances: Distances = near.lengths[_nearest(points, surface.reshape(-1), jumps)]
    if near.radius_mm < within_mm:
        _search_beyond(distances, points, others, surface.shape, spacing, within_mm)
    return distances


@compiled
def _nearest(
    points: NDArray[np.int64], surface: NDArray[np.uint8], steps: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each point, the first step that ends on `surface`; `len(steps)` when none does."""
    found = np.empty(points.size, np.int64)
    for n in range(points.size):
        rank = 0
        while rank < steps.size and surface[points[n] + steps[rank]] == 0:
            rank += 1
        found[n] = rank
    return found


def _search_beyond(
    distances: Distances,
    points: Points,
    others: Points,
    shape: tuple[int, ...],
    spacing: Spacing,
    within_mm: float,
) -> None:
    """Fill in, in place, what lies beyond the neighbours that were tried one by one."""
    far = np.flatnonzero(np.isinf(distances))
    if not far.size or not others.size:
        return
    from scipy.spatial import KDTree

    here = np.stack(np.unravel_index(points[far], shape), axis=-1)
    there = np.stack(np.unravel_index(others, shape), axis=-1)
    scale = np.array(spacing[::-1])
    tree = KDTree(there * scale, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(here * scale, distance_upper_bound=within_mm + TIE_MM)
    near = nearest < len(there)
    distances[far[near]] = _lengths(here[near] - there[nearest[near]], spacing)


def settle_ties(
    both: list[Distances],
    points: list[Points],
    surfaces: list[Surface],
    margin: tuple[int, ...],
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
        surfaces: the first and the second, each with the same margin around the box.
        margin: along (k, j, i).
        spacing: mm along (i, j, k).
        tolerances_mm: values that distances will be compared with.

    Returns:
        For each tolerance, the number of points at that distance in exact arithmetic, where
        rounding decides.
    """
    ties = []
    for tolerance in tolerances_mm:
        tied = [
            np.flatnonzero(np.abs(d - tolerance) <= TIE_MM) if d.size else np.empty(0, np.int64)
            for d in both
        ]
        lengths = _lengths_near(spacing, tolerance)
        count = sum(t.size for t in tied) if (lengths != tolerance).any() else 0
        ties.append(count)
        if not count or lengths.size == 1:
            continue
        for here, other in ((0, 1), (1, 0)):
            transformed = _transform(surfaces[other], margin, spacing)
            which = points[here][tied[here]]
            both[here][tied[here]] = transformed.reshape(-1)[which]
    return tuple(ties)


def _transform(surface: Surface, margin: tuple[int, ...], spacing: Spacing) -> Distances:
    """mm from every place in the box around the masks to the surface; infinite around it."""
    from scipy.ndimage import distance_transform_edt

    # Corners: one more than voxels along each axis, as in surface-distance.
    box = tuple(slice(m, n - m + 1) for n, m in zip(surface.shape, margin, strict=True))
    distances = np.full(surface.shape, math.inf)
    distances[box] = distance_transform_edt((surface[box] == 0).T, sampling=spacing).T
    return distances


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
