"""Shapes as implicit functions: depth in mm below the surface, negative outside.

Depths are exact for capsules and half-spaces and first-order near the surface otherwise,
which is what walls, cortices and ripples of a few millimetres need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from pantskit.phantom import kernels
from pantskit.phantom.fields import Float32, Float64, Ripple

Point = tuple[float, float, float]
Bounds = tuple[Point, Point]
Box = tuple[int, int, int, int, int, int]  # first and past-last voxel along i, j, k
ENDLESS: Bounds = ((-np.inf, -np.inf, -np.inf), (np.inf, np.inf, np.inf))


@dataclass(frozen=True, eq=False)
class Frame:
    """The part of a slab that a shape is painted in.

    Attributes:
        x, y, z: coordinates of the slab's voxel centres, mm, contiguous in Fortran order.
        depth: (i, j, k) of the part: what the pieces are combined into.
        corner: voxel of the slab where the part begins.
    """

    x: Float32
    y: Float32
    z: Float32
    depth: Float32
    corner: NDArray[np.int64]

    @property
    def arrays(self) -> tuple[Float32, Float32, Float32, Float32, NDArray[np.int64]]:
        """As the kernels take them."""
        return self.x, self.y, self.z, self.depth, self.corner


class Piece(Protocol):
    """One closed form."""

    def bounds(self) -> Bounds:
        """Lowest and highest corner, mm; `ENDLESS` where it has no end."""

    def carve(self, where: Frame, box: Box, mode: int, margin: float = 0.0) -> None:
        """Combine its depth with `where.depth` (see `kernels` for modes); `box` for unions."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, or a rounder box: its level set mixes the 2-norm and the 4-norm.

    Attributes:
        centre: mm.
        radii: semi-axes, mm.
        axes: rows are the unit vectors of the semi-axes; None: x, y, z.
        squareness: share of the 4-norm, 0 to 1.
    """

    centre: Point
    radii: Point
    axes: tuple[Point, Point, Point] | None = None
    squareness: float = 0.0

    def bounds(self) -> Bounds:
        """See `Piece`."""
        centre, radii = np.array(self.centre), np.array(self.radii)
        if self.axes is None:
            reach = radii
        elif self.squareness == 0.0:
            reach = np.sqrt(((np.array(self.axes) * radii[:, None]) ** 2).sum(axis=0))
        else:
            reach = np.abs(np.array(self.axes) * radii[:, None]).sum(axis=0)
        low, high = (centre - reach).tolist(), (centre + reach).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def carve(self, where: Frame, box: Box, mode: int, margin: float = 0.0) -> None:
        """See `Piece`."""
        axes = np.eye(3) if self.axes is None else np.array(self.axes)
        kernels.ellipsoid(
            *where.arrays,
            np.array(box, dtype=np.int64),
            np.array(self.centre, dtype=np.float32),
            axes.astype(np.float32),
            np.array(self.radii, dtype=np.float32),
            np.float32(self.squareness),
            mode,
            np.float32(margin),
        )

    def volume_mm3(self) -> float:
        """Closed form, where it is no box."""
        return float(4 / 3 * np.pi * np.prod(self.radii))


@dataclass(frozen=True)
class Capsule:
    """A rod with round ends whose radius goes evenly from one end's to the other's."""

    a: Point
    b: Point
    radius_a: float
    radius_b: float

    def bounds(self) -> Bounds:
        """See `Piece`."""
        (ax, ay, az), (bx, by, bz), a, b = self.a, self.b, self.radius_a, self.radius_b
        return (
            (min(ax - a, bx - b), min(ay - a, by - b), min(az - a, bz - b)),
            (max(ax + a, bx + b), max(ay + a, by + b), max(az + a, bz + b)),
        )


Part = Piece | Capsule  # a union takes rods too, many at a time


@dataclass(frozen=True)
class HalfSpace:
    """Everything on the side of a plane that its normal points to."""

    point: Point
    normal: Point

    def bounds(self) -> Bounds:
        """See `Piece`."""
        return ENDLESS

    def carve(self, where: Frame, box: Box, mode: int, margin: float = 0.0) -> None:
        """See `Piece`."""
        normal = np.array(self.normal) / np.linalg.norm(self.normal)
        point = np.array(self.point, dtype=np.float32)
        kernels.half_space(
            *where.arrays, point, normal.astype(np.float32), mode, np.float32(margin)
        )

    def depth(self, x: Float32, y: Float32, z: Float32) -> Float32:
        """Depth at points, mm."""
        n = np.array(self.normal, dtype=np.float32)
        n /= np.linalg.norm(n)
        p = np.array(self.point, dtype=np.float32)
        depth = (x - p[0]) * n[0] + (y - p[1]) * n[1] + (z - p[2]) * n[2]
        return np.asarray(depth, dtype=np.float32)


TRUNK_STEP_MM = 0.5


@dataclass(frozen=True, eq=False)
class Trunk:
    """A body-like column along z whose cross-section is a rounded ellipse.

    Attributes:
        bottom_mm: z of the first table entry; one entry each `TRUNK_STEP_MM`.
        half_width, half_depth, centre_y: tables over z, mm.
        squareness: share of the 4-norm in the cross-section, 0 to 1.
    """

    bottom_mm: float
    half_width: Float32
    half_depth: Float32
    centre_y: Float32
    squareness: float = 0.25

    @classmethod
    def through(
        cls, rows: Sequence[tuple[float, float, float, float]], squareness: float = 0.25
    ) -> Trunk:
        """From knots (z, half width, front y, back y) in rising z, joined linearly and smoothed."""
        knots = np.array(rows, dtype=np.float64)
        z = np.arange(knots[0, 0], knots[-1, 0], TRUNK_STEP_MM)
        kernel = np.hanning(81)
        kernel /= kernel.sum()

        def table(values: Float64) -> Float32:
            line = np.interp(z, knots[:, 0], values)
            padded = np.pad(line, 40, mode="edge")
            return np.convolve(padded, kernel, mode="valid").astype(np.float32)

        return cls(
            float(z[0]),
            table(knots[:, 1]),
            table((knots[:, 2] - knots[:, 3]) / 2),
            table((knots[:, 2] + knots[:, 3]) / 2),
            squareness,
        )

    def grown(self, sides_mm: float, front_mm: float, back_mm: float) -> Trunk:
        """A trunk with walls of those thicknesses around this one."""
        return replace(
            self,
            half_width=self.half_width + np.float32(sides_mm),
            half_depth=self.half_depth + np.float32((front_mm + back_mm) / 2),
            centre_y=self.centre_y + np.float32((front_mm - back_mm) / 2),
        )

    def bounds(self) -> Bounds:
        """See `Piece`."""
        return ENDLESS

    def at(self, z: float) -> Point:
        """(half width, front y, back y) at one height."""
        row = int(np.clip((z - self.bottom_mm) / TRUNK_STEP_MM, 0, len(self.half_width) - 1))
        depth, centre = float(self.half_depth[row]), float(self.centre_y[row])
        return float(self.half_width[row]), centre + depth, centre - depth

    def carve(self, where: Frame, box: Box, mode: int, margin: float = 0.0) -> None:
        """See `Piece`."""
        least = np.minimum(self.half_width, self.half_depth)
        rows = np.stack([1 / self.half_width, 1 / self.half_depth, self.centre_y, least], axis=1)
        kernels.trunk(
            *where.arrays,
            rows,
            np.float32(self.bottom_mm),
            np.float32(1 / TRUNK_STEP_MM),
            np.float32(self.squareness),
            mode,
            np.float32(margin),
        )


@dataclass(frozen=True)
class Shape:
    """Union of rods and pieces, within others, less others, with a rough surface.

    Attributes:
        add: the union.
        keep: (piece, margin): only where the piece is deeper than the margin in mm.
        cut: pieces taken away.
        ripple: added to the depth of the union.
        thin: a tube that readers draw at least a voxel wide.
    """

    add: tuple[Part, ...]
    keep: tuple[tuple[Piece, float], ...] = ()
    cut: tuple[Piece, ...] = ()
    ripple: Ripple | None = None
    thin: bool = False

    def bounds(self) -> Float64:
        """(n, 2, 3) box of each piece of the union, mm."""
        return np.array([piece.bounds() for piece in self.add], dtype=np.float64)


def tube(
    points: Sequence[Point], radii: float | Sequence[float], *, step_mm: float | None = None
) -> tuple[Capsule, ...]:
    """A tube along a cubic spline through points, its radius joined evenly between them."""
    knots = np.array(points, dtype=np.float64)
    radius = np.broadcast_to(np.asarray(radii, dtype=np.float64), (len(knots),))
    centre, length = spline(knots)
    step = step_mm or max(2.5, 0.4 * float(radius.mean()))
    count = max(2, int(np.ceil(length[-1] / step)) + 1)
    t = np.linspace(0, length[-1], count)
    path, sizes = centre(t), np.interp(t, length, radius)
    ends = [(float(p[0]), float(p[1]), float(p[2])) for p in path]
    return tuple(
        Capsule(ends[n], ends[n + 1], float(sizes[n]), float(sizes[n + 1]))
        for n in range(count - 1)
    )


def spline(knots: Float64) -> tuple[CubicHermiteSpline, Float64]:
    """Smooth curve through (n, 3) points over chord length, and the (n,) lengths at the knots."""
    chords = np.linalg.norm(np.diff(knots, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(chords)])
    slopes = np.gradient(knots, length, axis=0)
    return CubicHermiteSpline(length, knots, slopes), length
