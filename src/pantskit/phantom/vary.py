"""Random variation of one patient's organs, in the atlas' millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pantskit.phantom.fields import Ripple
from pantskit.phantom.shapes import Point

Axes = tuple[Point, Point, Point]


class Vary:
    """Draws places, sizes and surfaces around the atlas' own; spread is limited to 2 sd."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def spot(self, x: float, y: float, z: float, sd_mm: float = 2.0) -> Point:
        """A point near (x, y, z)."""
        dx, dy, dz = np.clip(self.rng.normal(size=3), -2, 2) * sd_mm
        return float(x + dx), float(y + dy), float(z + dz)

    def path(self, points: Sequence[Point], sd_mm: float = 2.0) -> list[Point]:
        """Points near points: one shift for all and a smaller one each."""
        sx, sy, sz = self.spot(0, 0, 0, sd_mm)
        return [self.spot(x + sx, y + sy, z + sz, 0.6 * sd_mm) for x, y, z in points]

    def factor(self, sd: float = 0.06) -> float:
        """A size factor around 1."""
        return float(np.exp(np.clip(self.rng.normal(), -2, 2) * sd))

    def radii(self, a: float, b: float, c: float, sd: float = 0.06) -> Point:
        """Semi-axes near those: one factor for all and a smaller one each."""
        whole = self.factor(sd)
        x, y, z = (whole * self.factor(0.5 * sd) * r for r in (a, b, c))
        return x, y, z

    def ripple(self, rms_mm: float, wavelength_mm: tuple[float, float] = (35, 90)) -> Ripple:
        """A rough surface."""
        return Ripple.random(self.rng, rms_mm, wavelength_mm)


def axes_along(long: Point, lateral: Point) -> Axes:
    """Unit rows (lateral, across, long) of a right-angled frame with that long axis."""
    e3 = np.array(long) / np.linalg.norm(long)
    e1 = np.array(lateral) - (np.array(lateral) @ e3) * e3
    e1 /= np.linalg.norm(e1)
    rows = [tuple(float(v) for v in row) for row in (e1, np.cross(e3, e1), e3)]
    return (
        (rows[0][0], rows[0][1], rows[0][2]),
        (rows[1][0], rows[1][1], rows[1][2]),
        (rows[2][0], rows[2][1], rows[2][2]),
    )


def along(origin: Point, axis: Point, mm: float) -> Point:
    """The point that many mm from `origin` along a unit vector."""
    return origin[0] + mm * axis[0], origin[1] + mm * axis[1], origin[2] + mm * axis[2]
