"""The ball at the upper end of a femur: where it is, and how much of it is there.

A ball of a plausible size is looked for in the outer faces of the mask's voxels, wherever it fits
best, and then judged in all directions: the mask ends at its surface, goes on beyond it (the neck),
or is missing below it (a part that was cut off). Most of a ball is enough to find it by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from pantskit.check.planes import directions
from pantskit.check.region import Region
from pantskit.core.labels import Mask

Float64 = NDArray[np.float64]

# Heads are 40 to 56 mm wide; a mask may be a voxel tighter or wider.
_RADII_MM = (18.0, 30.0)
_REACH_MM = 80.0  # from a femur's top: its head and neck, wherever the scan ends
_LOWEST_MM = 50.0  # from its top to the centre of its head, where nothing or all of it is missing
_FINE_MM = 2.0  # finer voxels tell no more
_STEP_MM = 7.0  # between places that are tried; the fit finds its way from there
_TRIED = 6
_TURNS = 4  # until a sphere has settled
_FEW = 3000  # points tell a ball
_TIGHTER = 0.95  # a ball that is longer than wide is there in full around a smaller one
_DIRECTIONS = 400  # over the sphere: 11 degrees apart
_BESIDE_DEGREES = 20  # directions that are judged together: a rough surface is no cut


@dataclass(frozen=True)
class Ball:
    """A ball in a mask.

    Attributes:
        centre: (3,) voxel index in the scan, not rounded.
        radius_mm: its radius.
        whole: share of its surface, as far as in view, at which the mask ends.
        lost: share of its surface below which nothing of the mask is; the rest goes on.
        toward: (3,) unit vector along the body's axes to the rest of the mask; zeros if none is.
        missing: (3,) voxel index in the scan, in the middle of what is lost; None if nothing is.
    """

    centre: Float64
    radius_mm: float
    whole: float
    lost: float
    toward: Float64
    missing: Float64 | None

    @property
    def score(self) -> float:
        """What is there of its surface less what is not: 1 for a ball alone, 0.5 for half of it."""
        return self.whole - self.lost


NO_BALL = Ball(np.zeros(3), 0.0, 0.0, 1.0, np.zeros(3), None)


def upper_balls(
    region: Region, spacing: tuple[float, float, float], *, cut_below: bool = False
) -> Iterator[Ball]:
    """Balls of a femoral head's size in the upper end of a mask, likely ones first.

    Args:
        region: the mask, along the body's axes.
        spacing: mm.
        cut_below: whether the view ends at its lowest slice; what lies below is not judged.
    """
    upper = _Upper.of(region, spacing, cut_below)
    points, weights = upper.faces()
    few = slice(None, None, max(1, len(points) // _FEW))
    points, weights = points[few], weights[few]
    if len(points) < 30:
        return
    blur = 1.5 + 0.4 * float(upper.spacing.max())
    for centre, radius in _likely(points, weights):
        fitted = _fitted(points, weights, centre, radius, blur)
        if fitted is not None:
            centre, radius = fitted
            yield upper.judged(centre, radius)
            yield upper.judged(centre, max(_RADII_MM[0], _TIGHTER * radius))


@dataclass(frozen=True)
class _Upper:
    """The upper end of a mask, thinned to voxels of 2 mm or so.

    Attributes:
        array: (i, j, k) bool.
        spacing: (3,) mm.
        start: (3,) index in the scan of its first voxel.
        step: (3,) voxels of the scan from one to the next.
        goes_on: whether the mask goes on below.
    """

    array: Mask
    spacing: Float64
    start: NDArray[np.int64]
    step: NDArray[np.int64]
    goes_on: bool

    @classmethod
    def of(cls, region: Region, spacing: tuple[float, float, float], cut_below: bool) -> _Upper:
        """That of a region."""
        step = np.maximum(1, _FINE_MM / np.array(spacing)).astype(np.int64)
        low = max(0, region.array.shape[2] - int(np.ceil(_REACH_MM / spacing[2])))
        # so that the uppermost slice is one of them
        low += (region.array.shape[2] - 1 - low) % int(step[2])
        array = region.array[:: step[0], :: step[1], low :: step[2]]
        start = np.array(region.start) + np.array([0, 0, low])
        return cls(array, np.array(spacing) * step, start, step, cut_below or low > 0)

    def faces(self) -> tuple[Float64, Float64]:
        """(n, 3) mm from the first voxel, middles of faces toward the outside; (n,) their areas."""
        points, areas = [], []
        for axis in range(3):
            padding = [(0, 0), (0, 0), (0, 0)]
            padding[axis] = (1, 1)
            padded = np.pad(self.array, padding)
            if axis == 2 and self.goes_on:
                padded[:, :, 0] = padded[:, :, 1]
            found = np.argwhere(np.diff(padded, axis=axis)).astype(np.float64)
            found[:, axis] -= 0.5
            points.append(found * self.spacing)
            areas.append(np.full(len(found), self.spacing.prod() / self.spacing[axis]))
        return np.concatenate(points), np.concatenate(areas)

    def judged(self, centre: Float64, radius: float) -> Ball:
        """A ball with what the mask shows of it, to within a voxel and what heads differ by."""
        sphere, beside = _sphere()
        slack = (2.0 + 0.3 * np.linalg.norm(sphere * self.spacing, axis=1))[:, None]
        heights = (centre + radius * sphere)[:, 2]
        seen = heights > -self.spacing[2] / 2 if self.goes_on else heights > -np.inf
        seen |= not seen.any()
        below = beside @ self._inside(centre + (radius - slack) * sphere) >= 0.5
        beyond = beside @ self._inside(centre + (radius + slack) * sphere) > 0.5
        lost = ~below & seen
        return Ball(
            self._voxel(centre),
            radius,
            float((below & ~beyond)[seen].mean()),
            float(lost.sum() / seen.sum()),
            self._rest(centre, radius + float(slack.max())),
            self._voxel(centre + radius * sphere[lost].mean(axis=0)) if lost.any() else None,
        )

    def _rest(self, centre: Float64, reach_mm: float) -> Float64:
        """(3,) unit vector from a centre to the middle of what lies further from it; or zeros."""
        away = self.voxels - centre
        total = away[np.linalg.norm(away, axis=1) > reach_mm].sum(axis=0)
        length = float(np.linalg.norm(total))
        return np.asarray(total / length if length > 0 else total)

    @cached_property
    def voxels(self) -> Float64:
        """(n, 3) mm from the first voxel, some 3,000 of the mask's voxels."""
        found = np.argwhere(self.array)
        return np.asarray(found[:: max(1, len(found) // _FEW)] * self.spacing)

    def _inside(self, points: Float64) -> NDArray[np.float64]:
        """(n,) 1 for points in mm from the first voxel that lie in the mask, 0 for others."""
        voxels = np.rint(points / self.spacing).astype(np.int64)
        there = np.asarray(((voxels >= 0) & (voxels < self.array.shape)).all(axis=1))
        there[there] = self.array[tuple(voxels[there].T)]
        return there.astype(np.float64)

    def _voxel(self, point: Float64) -> Float64:
        return np.asarray(point / self.spacing * self.step + self.start)


@cache
def _sphere() -> tuple[Float64, Float64]:
    """(n, 3) unit vectors evenly over the sphere, and (n, n) weights of those beside each."""
    sphere = directions(_DIRECTIONS)
    beside = (sphere @ sphere.T > np.cos(np.deg2rad(_BESIDE_DEGREES))).astype(np.float64)
    return sphere, beside / beside.sum(axis=1, keepdims=True)


def _likely(points: Float64, weights: Float64) -> list[tuple[Float64, float]]:
    """Centres and radii of the spheres near which most of the surface lies, apart by a step."""
    low, high = points.min(axis=0), points.max(axis=0)
    low[2] = max(low[2], high[2] - _LOWEST_MM)
    lines = [np.arange(a, b + _STEP_MM, _STEP_MM) for a, b in zip(low, high, strict=True)]
    centres = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    few = slice(None, None, max(1, len(points) // 500))
    squared = (centres**2).sum(axis=1)[:, None] - 2 * centres @ points[few].T
    distances = np.sqrt(np.maximum(squared + (points[few] ** 2).sum(axis=1), 0))
    shells = int(_RADII_MM[1] / 2) + 2  # of 2 mm; what lies further away is the last one
    index = np.minimum(distances / 2, shells - 1).astype(np.int64)
    index += np.arange(len(centres))[:, None] * shells
    area = np.bincount(
        index.ravel(), np.broadcast_to(weights[few], index.shape).ravel(), len(centres) * shells
    ).reshape(-1, shells)
    near = area[:, 1:-1] + (area[:, :-2] + area[:, 2:]) / 2
    radii = 2 * np.arange(1, shells - 1) + 1.0
    share = np.where((radii >= _RADII_MM[0]) & (radii <= _RADII_MM[1]), near / radii, 0)
    found: list[tuple[Float64, float]] = []
    for n in np.argsort(-share.max(axis=1), kind="stable"):
        if all(np.linalg.norm(centres[n] - other) > 1.1 * _STEP_MM for other, _ in found):
            found.append((centres[n], float(radii[share[n].argmax()])))
        if len(found) == _TRIED:
            break
    return found


def _fitted(
    points: Float64, weights: Float64, centre: Float64, radius: float, blur: float
) -> tuple[Float64, float] | None:
    """A sphere moved and sized until it fits the surface that lies near it; None if none does.

    Gauss-Newton with Tukey-like weights, which leave out what lies further from it than blur.
    """
    for reach in (7.0, 6.0, 5.0, 5.0, 1.5 * blur, *[blur] * _TURNS):
        away = points - centre
        distance = np.linalg.norm(away, axis=1)
        near = (np.abs(distance - radius) < reach) & (distance > 1)
        if np.count_nonzero(near) < 12:
            return None
        off = distance[near] - radius
        weight = weights[near] * (1 - (off / reach) ** 2)
        slopes = np.c_[away[near] / distance[near, None], np.ones(len(off))]
        weighted = slopes * weight[:, None]
        normal = weighted.T @ slopes
        moved = np.linalg.solve(normal + 1e-6 * np.trace(normal) * np.eye(4), weighted.T @ off)
        centre = centre + moved[:3]
        if reach == blur and np.abs(moved).max() < 0.02:
            break
        radius = float(np.clip(radius + moved[3], *_RADII_MM))
    return centre, radius
