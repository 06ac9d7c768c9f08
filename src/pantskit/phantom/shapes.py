"""Shapes as implicit functions: depth in mm below the surface, negative outside.

Depths are exact for capsules and half-spaces and first-order near the surface otherwise,
which is what walls, cortices and ripples of a few millimetres need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from pantskit.phantom.fields import Float32, Float64, Ripple

Point = tuple[float, float, float]
Bounds = tuple[Point, Point]
ENDLESS: Bounds = ((-np.inf, -np.inf, -np.inf), (np.inf, np.inf, np.inf))


class Piece(Protocol):
    """One closed form."""

    def bounds(self) -> Bounds:
        """Lowest and highest corner, mm; `ENDLESS` where it has no end."""

    def depth(self, x: Float32, y: Float32, z: Float32) -> Float32:
        """Depth in mm at points; the three arrays broadcast."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, or with `power` > 2 a rounder box.

    Attributes:
        centre: mm.
        radii: semi-axes, mm.
        axes: rows are the unit vectors of the semi-axes; None: x, y, z.
        power: exponent of the superquadric.
    """

    centre: Point
    radii: Point
    axes: tuple[Point, Point, Point] | None = None
    power: float = 2.0

    def bounds(self) -> Bounds:
        centre, radii = np.array(self.centre), np.array(self.radii)
        if self.axes is None:
            reach = radii
        elif self.power == 2.0:
            reach = np.sqrt(((np.array(self.axes) * radii[:, None]) ** 2).sum(axis=0))
        else:
            reach = np.abs(np.array(self.axes) * radii[:, None]).sum(axis=0)
        low, high = (centre - reach).tolist(), (centre + reach).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def depth(self, x: Float32, y: Float32, z: Float32) -> Float32:
        p = [axis - np.float32(c) for axis, c in zip((x, y, z), self.centre, strict=True)]
        if self.axes is not None:
            rows = np.array(self.axes, dtype=np.float32)
            p = [row[0] * p[0] + row[1] * p[1] + row[2] * p[2] for row in rows]
        q = [a * np.float32(1 / r) for a, r in zip(p, self.radii, strict=True)]
        if self.power != 2.0:
            n = np.float32(self.power)
            total = np.abs(q[0]) ** n + np.abs(q[1]) ** n + np.abs(q[2]) ** n
            return (1 - total ** (1 / n)) * np.float32(min(self.radii))
        level = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
        g = [a * np.float32(1 / r) for a, r in zip(q, self.radii, strict=True)]
        slope = np.sqrt(g[0] * g[0] + g[1] * g[1] + g[2] * g[2])
        floor = np.float32(1 / max(self.radii))  # slope / level at the centre of a ball
        return (1 - level) * level / np.maximum(slope, floor * level + np.float32(1e-9))

    def volume_mm3(self) -> float:
        """Closed form, for `power` 2."""
        return float(4 / 3 * np.pi * np.prod(self.radii))


@dataclass(frozen=True)
class Capsule:
    """A rod with round ends whose radius goes evenly from one end's to the other's."""

    a: Point
    b: Point
    radius_a: float
    radius_b: float

    def bounds(self) -> Bounds:
        (ax, ay, az), (bx, by, bz), a, b = self.a, self.b, self.radius_a, self.radius_b
        return (
            (min(ax - a, bx - b), min(ay - a, by - b), min(az - a, bz - b)),
            (max(ax + a, bx + b), max(ay + a, by + b), max(az + a, bz + b)),
        )

    def depth(self, x: Float32, y: Float32, z: Float32) -> Float32:
        start, end = np.array(self.a, np.float32), np.array(self.b, np.float32)
        axis = end - start
        square = max(float(axis @ axis), 1e-6)
        px, py, pz = x - start[0], y - start[1], z - start[2]
        scaled = axis / np.float32(square)
        t = np.clip(px * scaled[0] + py * scaled[1] + pz * scaled[2], 0, 1)
        px, py, pz = px - t * axis[0], py - t * axis[1], pz - t * axis[2]
        radius = np.float32(self.radius_a) + t * np.float32(self.radius_b - self.radius_a)
        return radius - np.sqrt(px * px + py * py + pz * pz)


@dataclass(frozen=True)
class HalfSpace:
    """Everything on the side of a plane that its normal points to."""

    point: Point
    normal: Point

    def bounds(self) -> Bounds:
        return ENDLESS

    def depth(self, x: Float32, y: Float32, z: Float32) -> Float32:
        n = np.array(self.normal, dtype=np.float32)
        n /= np.linalg.norm(n)
        p = np.array(self.point, dtype=np.float32)
        return (x - p[0]) * n[0] + (y - p[1]) * n[1] + (z - p[2]) * n[2]


TRUNK_STEP_MM = 0.5


@dataclass(frozen=True, eq=False)
class Trunk:
    """A body-like column along z whose cross-section is a rounded ellipse.

    Attributes:
        bottom_mm: z of the first table entry; one entry each `TRUNK_STEP_MM`.
        half_width, half_depth, centre_y: tables over z, mm.
        power: exponent of the superellipse.
    """

    bottom_mm: float
    half_width: Float32
    half_depth: Float32
    centre_y: Float32
    power: float = 2.4

    @classmethod
    def through(
        cls, rows: Sequence[tuple[float, float, float, float]], power: float = 2.4
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
            power,
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
        return ENDLESS

    def at(self, z: float) -> Point:
        """(half width, front y, back y) at one height."""
        row = int(np.clip((z - self.bottom_mm) / TRUNK_STEP_MM, 0, len(self.half_width) - 1))
        depth, centre = float(self.half_depth[row]), float(self.centre_y[row])
        return float(self.half_width[row]), centre + depth, centre - depth

    def depth(self, x: Float32, y: Float32, z: Float32) -> Float32:
        row = ((z - np.float32(self.bottom_mm)) * np.float32(1 / TRUNK_STEP_MM)).astype(np.int16)
        np.clip(row, 0, len(self.half_width) - 1, out=row)
        width, deep = self.half_width[row], self.half_depth[row]
        n = np.float32(self.power)
        level = np.abs(x / width) ** n + np.abs((y - self.centre_y[row]) / deep) ** n
        return (1 - level ** (1 / n)) * np.minimum(width, deep)


@dataclass(frozen=True)
class Shape:
    """Union of pieces, within others, less others, with a rough surface.

    Attributes:
        add: the union.
        keep: (piece, margin): only where the piece is deeper than the margin in mm.
        cut: pieces taken away.
        ripple: added to the depth of the union.
        thin: a tube that readers draw at least a voxel wide.
    """

    add: tuple[Piece, ...]
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
