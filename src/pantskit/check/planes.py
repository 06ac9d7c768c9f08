"""Flat sides of a mask, in any direction: planes that it touches and lies behind as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pantskit.check.scan import Scan

_DIRECTIONS = 300  # over the sphere: 13 degrees apart
_TRIED = 12  # of them, those on which most of the surface lies
_VOXELS = 60_000  # of a mask are enough for the size of its sections
_TURNS = 4  # until a plane has settled


@dataclass(frozen=True)
class FlatSide:
    """A side of a structure on a plane that touches it.

    Attributes:
        normal: (3,) unit vector along the body's axes, outward.
        share: voxels on the plane over those of the largest parallel section.
        of_ball: what a ball of the same depth would have.
        voxels: (n, 3) of the scan, on the structure's surface at the plane.
    """

    normal: NDArray[np.float64]
    share: float
    of_ball: float
    voxels: NDArray[np.int64]


def flat_sides(scan: Scan, structure: str) -> Iterator[FlatSide]:
    """The sides of a structure that are flattest, of all directions; some may be found twice.

    A plane that somebody cut along is found to within its voxels: those beside it have their
    middle no further behind it than a step across to the next voxel, along the axis that is
    steepest to the plane.

    Args:
        scan: the case; the structure is not empty.
        structure: any.
    """
    spacing = np.array(scan.geometry.spacing)
    surface = scan.surface(structure)
    points = surface * spacing
    region = scan.regions[structure]
    inside = np.argwhere(region.array)[:: max(1, region.voxels // _VOXELS)] + region.start
    for start in _flattest(points, spacing):
        normal = _settled(points, start, spacing)
        depth = 1.05 * _step(normal, spacing)
        along = points @ normal
        top = float(along.max())
        layers = np.clip((top - (inside * spacing) @ normal) / depth, 0, None).astype(int)
        sections = np.bincount(layers)
        cap = min(1.0, 2 / len(sections))
        yield FlatSide(
            normal,
            float(sections[0] / sections.max()),
            1 - (1 - cap) ** 2,
            surface[along >= top - depth],
        )


@cache
def directions(count: int) -> NDArray[np.float64]:
    """(count, 3) unit vectors, evenly over the sphere: a spiral that turns by the golden angle."""
    n = np.arange(count) + 0.5
    height, angle = 1 - 2 * n / count, np.pi * (1 + 5**0.5) * n
    ring = np.sqrt(1 - height**2)
    return np.stack([np.cos(angle) * ring, np.sin(angle) * ring, height], axis=1)


def _step(normal: NDArray[np.float64], spacing: NDArray[np.float64]) -> float:
    """mm along a direction from a voxel to its neighbour across the steepest face."""
    return float(np.abs(normal * spacing).max())


def _flattest(points: NDArray[np.float64], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) directions in which most of the surface lies near its furthest point."""
    sphere = directions(_DIRECTIONS)
    few = points[:: max(1, len(points) // 5000)]
    along = few @ sphere.T
    depth = np.maximum(3.0, 2 * np.abs(sphere * spacing).max(axis=1))
    near = np.count_nonzero(along >= along.max(axis=0) - depth, axis=0) / depth
    return sphere[np.argsort(-near, kind="stable")[:_TRIED]]


def _settled(
    points: NDArray[np.float64], normal: NDArray[np.float64], spacing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A direction turned until it is that of the plane through the points that it touches."""
    for turn in range(_TURNS):
        step = _step(normal, spacing)
        depth = max(3.0, 2 * step) if turn < _TURNS // 2 else 1.3 * step
        along = points @ normal
        near = points[along >= along.max() - depth]
        if len(near) < 6:
            return normal
        flat = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)[2][2]
        flat = flat if flat @ normal > 0 else -flat
        if flat @ normal < 0.9:
            return normal
        normal = flat
    return normal
