"""The pancreas with its parts, ducts, vessels and tumour, in atlas millimetres (see `body`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from pantskit.phantom.fields import Float64, Placement
from pantskit.phantom.layers import Layer, Relabel, layer
from pantskit.phantom.shapes import Ellipsoid, HalfSpace, Point, Shape, spline, tube
from pantskit.phantom.tissues import PARTS
from pantskit.phantom.vary import Vary

# The annotation standard: head to the right of the left border of the superior mesenteric
# vessels, body from there to the left edge of the aorta, tail beyond.
MESENTERIC_LEFT_X = -2.0
AORTA_LEFT_X = -22.0

WALL_MM = 3.5

_GLAND = (  # head to tail: x, y, z, radius
    (38, 28, -66, 9.0),
    (43, 33, -50, 13.5),
    (39, 40, -32, 13.5),
    (22, 50, -18, 10.0),
    (2, 51, -9, 9.5),
    (-22, 44, -2, 10.5),
    (-46, 26, 5, 11.0),
    (-68, 3, 11, 10.5),
    (-84, -15, 16, 7.5),
)
# where along the gland (0 head end, 1 tail end) a tumour's centre may lie, by part
_REACH = {"head": (0.12, 0.36), "body": (0.49, 0.57), "tail": (0.68, 0.92)}


@dataclass(frozen=True)
class TumourPlan:
    """What a tumour shall be.

    Attributes:
        part: "head", "body" or "tail".
        kind: "solid" or "cystic".
        radii: semi-axes in mm of the world.
        dilated_duct_mm: radius of the duct upstream of it; None: not dilated.
        blocks_bile: whether it dilates the bile duct.
    """

    part: str
    kind: str
    radii: Point
    dilated_duct_mm: float | None
    blocks_bile: bool


@dataclass(frozen=True)
class Tumour:
    """A tumour where it came to lie: an ellipsoid in the world.

    Attributes:
        plan: what was asked for.
        shape: centre and semi-axes in RAS+ mm.
    """

    plan: TumourPlan
    shape: Ellipsoid

    @property
    def volume_mm3(self) -> float:
        """Closed form."""
        return self.shape.volume_mm3()

    @property
    def diameter_mm(self) -> float:
        """Greatest dimension."""
        return 2 * max(self.shape.radii)

    def moved_by(self, shift: Float64) -> Tumour:
        """The tumour of a patient who lies elsewhere; shift in RAS+ mm."""
        x, y, z = np.array(self.shape.centre) + shift
        return replace(self, shape=replace(self.shape, centre=(float(x), float(y), float(z))))


@dataclass(frozen=True, eq=False)
class Gland:
    """Centre line and radius of one patient's pancreas."""

    path: list[Point]
    radii: list[float]

    def at(self, t: float) -> tuple[Float64, float]:
        """Centre and radius at a fraction of the way from the head's end to the tail's."""
        curve, length = self._curve
        s = t * length[-1]
        return np.asarray(curve(s)), float(np.interp(s, length, self.radii))

    @cached_property
    def _curve(self) -> tuple[CubicHermiteSpline, Float64]:
        return spline(np.array(self.path))


def plan_tumour(rng: np.random.Generator) -> TumourPlan:
    """Draw part, kind, size (about 10 to 58 mm, median 27 mm) and what it blocks."""
    part = str(rng.choice(PARTS, p=[0.6, 0.2, 0.2]))
    longest = float(np.clip(27 * np.exp(0.38 * rng.normal()), 11, 58)) / 2
    radii = (longest, longest * rng.uniform(0.74, 0.97), longest * rng.uniform(0.66, 0.95))
    order = rng.permutation(3)
    dilated = rng.random() < {"head": 0.7, "body": 0.6, "tail": 0.15}[part]
    width = float(rng.uniform(2.6, 4.2))
    return TumourPlan(
        part=part,
        kind="cystic" if rng.random() < 0.2 else "solid",
        radii=(float(radii[order[0]]), float(radii[order[1]]), float(radii[order[2]])),
        dilated_duct_mm=width if dilated else None,
        blocks_bile=bool(part == "head" and rng.random() < 0.6),
    )


def gland(vary: Vary) -> Gland:
    """A patient's pancreas, its size and course varied."""
    path = vary.path([(x, y, z) for x, y, z, _ in _GLAND], 1.4)
    wide = vary.factor(0.07)
    return Gland(path, [r * wide * vary.factor(0.03) for *_, r in _GLAND])


def place_tumour(
    plan: TumourPlan, organ: Gland, placement: Placement, rng: np.random.Generator
) -> tuple[Tumour, float]:
    """Put a tumour into its part; a large one grows forward, away from the vessels behind.

    Returns:
        The tumour, in the world, and the fraction of the gland's length where it sits.
    """
    t = float(rng.uniform(*_REACH[plan.part]))
    centre, radius = organ.at(t)
    excess = max(0.0, plan.radii[1] - 0.8 * radius)
    forward = np.array([0.35 if plan.part == "head" else 0.0, 1.0, -0.15])
    atlas = centre + forward * 0.75 * excess
    x, y, z = placement.to_world(atlas)[0]
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rows = [(float(r[0]), float(r[1]), float(r[2])) for r in turn]
    shape = Ellipsoid((float(x), float(y), float(z)), plan.radii, (rows[0], rows[1], rows[2]))
    return Tumour(plan, shape), t


def pancreas(organ: Gland, vary: Vary) -> list[Layer]:
    """The gland, all of it still called head."""
    ripple = vary.ripple(0.9, (16, 34))
    over_all = layer(
        Shape(tube(organ.path, organ.radii, step_mm=3.0), ripple=ripple), "pancreas_head"
    )
    return [over_all]


def ducts(
    organ: Gland, vary: Vary, tumour: Tumour | None, at: float, resting_mm: float
) -> list[Layer]:
    """Pancreatic and common bile duct; upstream of a tumour they may be dilated.

    Args:
        organ: the gland that the duct runs in.
        vary: of this patient.
        tumour: or None.
        at: fraction of the gland's length where the tumour sits.
        resting_mm: radius of the duct in the head of a gland that nothing blocks.
    """
    plan = tumour.plan if tumour else None
    points, radii = [], []
    for t in np.linspace(0.1, 0.96, 16):
        centre, _ = organ.at(float(t))
        radius = resting_mm * (1.15 - 0.5 * float(t))
        if plan and plan.dilated_duct_mm and t > at:
            radius = plan.dilated_duct_mm * (1.1 - 0.25 * float(t))
        points.append((float(centre[0]), float(centre[1]), float(centre[2])))
        radii.append(radius)
    papilla = vary.spot(51, 24, -60, 0.8)
    main = Shape(tube([papilla, *points], [radii[0], *radii], step_mm=3.0), thin=True)
    bile = vary.factor(0.1) * (5.8 if plan and plan.blocks_bile else 3.1)
    course = [*vary.path([(47, 34, 20), (44, 32, 4), (46, 29, -18), (49, 27, -42)], 0.8), papilla]
    common = Shape(tube(course, [bile, bile, bile, 0.8 * bile, 0.5 * bile]), thin=True)
    return [
        layer(common, "bile_duct"),
        layer(main, "duct_head", over="pancreas_head"),
    ]


def vessels(vary: Vary) -> list[Layer]:
    """Portal and splenic vein, coeliac and superior mesenteric artery, and their neighbours."""
    wide = vary.factor(0.05)
    meet = vary.spot(16, 36, -20, 0.6)
    portal = tube([meet, (25, 36, -4), (37, 36, 12), (47, 32, 22)], 6.6 * wide)
    splenic = tube(
        [
            meet,
            *vary.path([(0, 37, -11), (-23, 30, -3), (-46, 11, 7), (-67, -12, 14)], 0.8),
            (-80, -26, 19),
        ],
        [5.0 * wide, *[4.6 * wide] * 4, 4.0 * wide],
    )
    mesenteric_vein = tube([meet, (14, 38, -46), (12, 50, -90), (6, 52, -150)], [6, 6, 5, 3])
    sma = tube(
        [(-10, 18, 0), (-7, 27, -8), (0, 31, -24), (2, 36, -52), (2, 46, -88), (-2, 48, -120)],
        [4.9, 4.8, 4.7, 4.5, 4.2, 3.9],
    )
    celiac = (
        *tube([(-11, 17, 16), (-9, 27, 17), (-5, 34, 17)], [4.2, 4.0, 3.6]),
        *tube([(-5, 34, 17), (8, 38, 18)], [3.4, 3.0]),
        *tube([(-5, 34, 17), (-20, 32, 18)], [3.4, 3.0]),
    )
    beyond = (
        *tube([(8, 38, 18), (28, 42, 16), (42, 42, 22)], [2.8, 2.4, 2.2]),
        *tube([(-20, 32, 18), (-44, 18, 20), (-62, -6, 24), (-82, -24, 26)], [2.8, 2.5, 2.4, 2]),
    )
    return [
        layer(Shape(mesenteric_vein), "vein"),
        layer(Shape(beyond), "artery", over="visceral_fat pancreas_head stomach_wall"),
        layer(Shape((*portal, *splenic), thin=True), "portal_splenic_vein"),
        layer(Shape(sma, thin=True), "mesenteric_artery"),
        layer(Shape(celiac, thin=True), "celiac_artery"),
    ]


def lesion(tumour: Tumour | None) -> list[Layer]:
    """The tumour, over everything: its volume is that of the ellipsoid."""
    if tumour is None:
        return []
    a, b, c = tumour.shape.radii
    lifted = replace(tumour.shape, radii=(a + WALL_MM, b + WALL_MM, c + WALL_MM))
    hollow = ("stomach_lumen", "stomach_gas")
    return [
        # where a tumour bulges into the stomach, the wall lies over it
        Layer(Shape((lifted,)), ((0.0, "stomach_wall"),), over=hollow, world=True),
        Layer(Shape((tumour.shape,)), ((0.0, "lesion_head"),), world=True),
    ]


def parts() -> list[Relabel]:
    """Head to body to tail, for gland, duct and lesion alike."""
    kinds = ("pancreas", "duct", "lesion")
    to_left: Point = (-1.0, 0.0, 0.0)
    return [
        Relabel(
            HalfSpace((MESENTERIC_LEFT_X, 0, 0), to_left),
            {f"{k}_head": f"{k}_body" for k in kinds},
        ),
        Relabel(
            HalfSpace((AORTA_LEFT_X, 0, 0), to_left), {f"{k}_body": f"{k}_tail" for k in kinds}
        ),
    ]
