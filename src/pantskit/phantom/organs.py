"""Organs of abdomen and pelvis, in atlas millimetres (see `body`)."""

from __future__ import annotations

import numpy as np

from pantskit.phantom.body import cavity
from pantskit.phantom.layers import Layer, Relabel, layer
from pantskit.phantom.shapes import Capsule, Ellipsoid, HalfSpace, Part, Shape, tube
from pantskit.phantom.vary import Vary, along, axes_along

_STOMACH = "stomach_wall stomach_lumen stomach_gas"
_LUNGS = "lung_left lung_right lung_vessel_left lung_vessel_right"


def bowel(vary: Vary) -> list[Layer | Relabel]:
    """Loops of small bowel: a tube to and fro through the middle of the abdomen."""
    rng = vary.rng
    grid = []
    for depth, y in enumerate((26.0, 50.0, 72.0)):
        for row, z in enumerate(np.arange(-92.0, -205.0, -25.0)):
            xs = np.linspace(-72, 72, 6) * (1.0 if z > -170 else 0.75)
            columns = xs if (row + depth) % 2 else xs[::-1]
            grid += [(float(x), y - 0.12 * max(0.0, -150 - z), float(z)) for x in columns]
    for row, z in enumerate((-72.0, -50.0, -28.0)):  # jejunum, on the left
        spots = [(-24.0, 58.0), (-50.0, 62.0), (-76.0, 46.0), (-72.0, 22.0), (-48.0, 30.0)]
        grid += [(x, y, z) for x, y in (spots if row % 2 else spots[::-1])]
    points = [vary.spot(*p, 7.0) for p in grid]
    size = vary.factor(0.08)
    pieces = tube(points, list(rng.uniform(8.5, 12.0, len(points)) * size), step_mm=5.0)
    shape = Shape(pieces, keep=((cavity(), 3.0),))
    loops = layer(shape, "bowel_wall", (2.4, "bowel_lumen"), over="visceral_fat")
    if rng.random() > 0.3:
        return [loops]
    gas = HalfSpace((0, 72 + 8 * rng.normal(), 0), (0, 1, 0.15 * rng.normal()))
    return [loops, Relabel(gas, {"bowel_lumen": "bowel_gas"})]


def stomach(vary: Vary, *, prone: bool) -> list[Layer | Relabel]:
    """The stomach with liquid and, above it, gas.

    Args:
        vary: of this patient.
        prone: lying face down: gas rises to the back.
    """
    full = vary.factor(0.1)
    path = vary.path(
        [
            (-46, -20, 58),
            (-62, -4, 54),
            (-72, 28, 40),
            (-68, 50, 14),
            (-44, 64, -8),
            (-12, 70, -14),
            (12, 67, -4),
            (31, 60, 7),
        ],
        3.0,
    )
    radii = [24 * full, 32 * full, 31 * full, 25 * full, 21 * full, 17 * full, 13, 8]
    shape = Shape(tube(path, radii), keep=((cavity(), 5.0),), ripple=vary.ripple(1.6))
    inner = layer(
        shape, "stomach_wall", (3.8, "stomach_lumen"), over=f"visceral_fat diaphragm {_LUNGS}"
    )
    level = -33.0 if prone else 45.0
    gas = HalfSpace((0, level + vary.rng.normal() * 6, 0), (0, -1 if prone else 1, 0))
    return [inner, Relabel(gas, {"stomach_lumen": "stomach_gas"})]


def colon(vary: Vary) -> list[Layer]:
    """Caecum to rectum as one tube with haustra, stool and stretches of gas."""
    rng = vary.rng
    path = vary.path(
        [
            (72, 34, -172),
            (82, 26, -150),
            (92, 8, -118),
            (94, -2, -88),
            (88, 16, -62),
            (66, 58, -62),
            (34, 74, -76),
            (0, 76, -84),
            (-36, 76, -70),
            (-70, 60, -44),
            (-96, 22, -14),
            (-104, -10, -8),
            (-108, -22, -40),
            (-104, -18, -90),
            (-98, -2, -135),
            (-84, 18, -168),
            (-50, 22, -190),
            (-22, 4, -182),
            (2, -16, -190),
            (4, -40, -204),
        ],
        4.0,
    )
    end = path[-1]
    rectum = tube([end, (2, -56, -228), (0, -54, -256), (0, -34, -290)], [14, 18, 15, 8])
    wide = vary.factor(0.1)
    base = np.interp(np.arange(len(path)), [0, 3, 5, 10, 13, 17, 19], [24, 21, 18, 17, 14, 14, 14])
    rods = tube(path, list(base * wide), step_mm=5.5)
    swell = [float(1 + 0.13 * np.sin(n * 5.5 / 5.2)) for n in range(len(rods) + 1)]
    rods = tuple(
        Capsule(r.a, r.b, r.radius_a * swell[n], r.radius_b * swell[n + 1])
        for n, r in enumerate(rods)
    )
    gas: list[Part] = []
    for start in rng.choice(len(rods) - 22, 4, replace=False):
        length = int(rng.integers(9, 20))
        gas += [
            Capsule(
                (r.a[0], r.a[1] + 0.22 * r.radius_a, r.a[2]),
                (r.b[0], r.b[1] + 0.22 * r.radius_b, r.b[2]),
                0.7 * r.radius_a,
                0.7 * r.radius_b,
            )
            for r in rods[start : start + length]
        ]
    inside = ((cavity(), 2.0),)
    return [
        layer(Shape(rectum), "bowel_wall", (3.0, "bowel_lumen"), over="visceral_fat muscle"),
        layer(
            Shape(rods, keep=inside),
            "colon_wall",
            (2.6, "colon_stool"),
            over="visceral_fat bowel_wall bowel_lumen bowel_gas muscle",
        ),
        layer(Shape(tuple(gas)), "colon_gas", over="colon_stool"),
    ]


def liver(vary: Vary) -> list[Layer]:
    """Liver with its larger veins, and the gall bladder under it."""
    inside = ((cavity(), 4.0),)
    right = Ellipsoid(vary.spot(66, 4, 0, 1.5), vary.radii(73, 84, 70, 0.04))
    left = Ellipsoid(vary.spot(4, 46, 40), vary.radii(72, 37, 30), squareness=0.15)
    # the visceral surface climbs from the lower right to the upper left and from front to back
    slope = 0.62 + 0.05 * vary.rng.normal()
    under = HalfSpace(vary.spot(66, 10, -30, 3), (-slope, -0.28, -1.0))
    hilum = Ellipsoid((40, 30, 2), (13, 15, 16))
    shape = Shape((right, left), keep=inside, cut=(under, hilum), ripple=vary.ripple(2.2))
    veins = [
        *tube(vary.path([(24, 12, 58), (60, -4, 46), (104, -22, 12)]), [6, 4.5, 2]),
        *tube(vary.path([(22, 16, 56), (40, 40, 40), (62, 62, 10)]), [5, 4, 2]),
        *tube(vary.path([(20, 14, 57), (-4, 36, 48), (-34, 50, 40)]), [5, 3.5, 2]),
        *tube(
            [(46, 32, 21), *vary.path([(70, 22, 16), (92, 24, -6), (112, 26, -30)])], [6, 5, 3, 2]
        ),
        *tube([(70, 22, 16), *vary.path([(92, -8, 22), (112, -28, 26)])], [5, 3, 1.5]),
        *tube(
            [(46, 32, 21), *vary.path([(22, 42, 30), (-10, 50, 36), (-36, 52, 42)])], [5, 4, 3, 1.5]
        ),
    ]
    over = f"visceral_fat diaphragm muscle heart_muscle {_STOMACH} {_LUNGS}"
    return [
        layer(shape, "liver", over=over + " colon_wall colon_stool colon_gas"),
        layer(Shape(tuple(veins)), "liver_vein", over="liver"),
    ]


def gall_bladder(vary: Vary, *, swollen: bool) -> list[Layer]:
    """A pear under the right lobe; swollen when the bile duct is blocked."""
    size = vary.factor(0.12) * (1.25 if swollen else 1.0)
    neck, body, fundus = vary.path([(54, 40, -8), (64, 54, -22), (72, 68, -38)], 2.0)
    pear = (*tube([neck, body, fundus], [6 * size, 12 * size, 14.5 * size]),)
    return [layer(Shape(pear, keep=((cavity(), 3.0),)), "gall_bladder")]


def spleen(vary: Vary) -> list[Layer]:
    """Between diaphragm, stomach and left kidney."""
    axes = axes_along((0.22, -0.42, 1.0), (-1.0, -0.35, 0.0))
    body = Ellipsoid(vary.spot(-97, -36, 20), vary.radii(29, 45, 52, 0.09), axes)
    hilum = Ellipsoid((-58, -14, 22), (27, 26, 34))
    shape = Shape((body,), keep=((cavity(), 4.0),), cut=(hilum,), ripple=vary.ripple(1.8))
    over = f"visceral_fat muscle diaphragm colon_wall {_STOMACH} {_LUNGS}"
    return [layer(shape, "spleen", over=over + " colon_stool colon_gas")]


def kidneys(vary: Vary) -> list[Layer]:
    """Cortex, medulla and, left out of the mask, the sinus with its pelvis."""
    result: list[Layer] = []
    for side, s, z in (("right", 1.0, -46.0), ("left", -1.0, -34.0)):
        axes = axes_along((-0.2 * s, -0.2, 1.0), (s, -0.45, 0.0))
        centre = vary.spot(s * 67, -35, z)
        radii = vary.radii(28, 25, 54)
        sinus = Ellipsoid(along(centre, axes[0], -0.72 * radii[0]), (15, 9, 20), axes)
        pelvis = Ellipsoid(along(centre, axes[0], -0.95 * radii[0]), (16, 6, 9), axes)
        shape = Shape((Ellipsoid(centre, radii, axes),), cut=(sinus,), ripple=vary.ripple(1.3))
        within = (radii[0] - 7.5, radii[1] - 7.5, radii[2] - 8.0)
        pyramids = Shape((Ellipsoid(centre, within, axes),), ripple=vary.ripple(2.4, (15, 26)))
        result += [
            layer(shape, f"kidney_cortex_{side}"),
            layer(pyramids, f"kidney_medulla_{side}", over=f"kidney_cortex_{side}"),
            layer(Shape((sinus,)), "visceral_fat", over="visceral_fat muscle"),
            layer(Shape((pelvis,)), "renal_pelvis", over="visceral_fat"),
        ]
    return result


def adrenals(vary: Vary) -> list[Layer]:
    """An inverted Y on each side, above and medial of the kidney."""
    result = []
    for side, s, x, y, z in (("right", 1.0, 35, -12, 22), ("left", -1.0, -37, -8, 22)):
        apex = vary.spot(x, y, z, 1.2)
        size = vary.factor(0.1)
        lateral = (apex[0] + s * 9, apex[1] - 18, apex[2] - 10)
        medial = (apex[0] - s * 5, apex[1] - 18, apex[2] - 9)
        limbs = (
            *tube(
                [(apex[0], apex[1] + 4, apex[2] + 5), apex, lateral], [2.2, 4.9 * size, 3.4 * size]
            ),
            *tube([apex, medial], [4.6 * size, 3.4 * size]),
        )
        result.append(layer(Shape(limbs, thin=True), f"adrenal_{side}"))
    return result


def pelvis_organs(vary: Vary, sex: str) -> list[Layer]:
    """Bladder, and prostate or uterus.

    Args:
        vary: of this patient.
        sex: "M" or "F".
    """
    full = vary.factor(0.16)
    bladder = Ellipsoid(vary.spot(0, 22, -232), (38 * full, 28 * full, 27 * full), squareness=0.15)
    gland = Ellipsoid(vary.spot(0, 4, -272, 1.0), vary.radii(24, 18, 17, 0.12))
    womb = Ellipsoid(vary.spot(4, -14, -222), vary.radii(26, 18, 26, 0.1))
    over = "visceral_fat bowel_wall bowel_lumen bowel_gas muscle bone_cortex"
    inner = (
        layer(Shape((gland,)), "prostate", over=over)
        if sex == "M"
        else layer(Shape((womb,)), "uterus", over=over)
    )
    return [
        inner,
        layer(
            Shape((bladder,), keep=((cavity(), 2.0),)),
            "bladder_wall",
            (3.2, "urine"),
            over=over + " uterus colon_wall colon_stool colon_gas",
        ),
    ]


def duodenum(vary: Vary) -> list[Layer]:
    """The C around the head of the pancreas, from the pylorus to the ligament of Treitz."""
    path = vary.path(
        [
            (33, 60, 8),
            (52, 48, 6),
            (58, 32, -10),
            (59, 23, -38),
            (57, 20, -64),
            (50, 24, -86),
            (20, 33, -94),
            (-8, 32, -92),
            (-30, 32, -78),
            (-36, 36, -62),
        ],
        1.2,
    )
    size = vary.factor(0.06)
    radii = [r * size for r in (11, 12.5, 12, 12, 12, 11, 9, 8.5, 10, 10)]
    over = "visceral_fat liver liver_vein colon_wall colon_stool colon_gas bowel_wall bowel_lumen"
    wall = layer(
        Shape(tube(path, radii)),
        "duodenum_wall",
        (2.6, "duodenum_lumen"),
        over=over + " bowel_gas muscle stomach_wall stomach_lumen stomach_gas",
    )
    return [wall]


def great_vessels(vary: Vary) -> list[Layer]:
    """Aorta and vena cava, and the unlabelled vessels that go on from them."""
    wide = vary.factor(0.06)
    aorta = [
        (-16, -14, 210),
        (-15, -8, 110),
        (-13, 2, 60),
        (-12, 8, 20),
        (-12, 11, -10),
        (-11, 15, -70),
        (-5, 18, -122),
    ]
    cava = [(26, 26, 96), (25, 18, 66), (24, 10, 30), (23, 10, -20), (21, 14, -80), (14, 16, -130)]
    branches: list[Part] = []
    veins: list[Part] = []
    for s in (1.0, -1.0):
        iliac = [(s * 24, 8, -152), (s * 52, 6, -186), (s * 74, 34, -232), (s * 78, 46, -300)]
        branches += tube([(-4, 18, -124), *iliac], [6.5, 6, 5, 5, 4.5])
        behind = [(x + s * 2, y - 11, z) for x, y, z in iliac]
        veins += tube([(13, 15, -132), *behind], [8, 7, 6, 6, 5.5])
        kidney = (s * 44, -24, -34 if s < 0 else -44)
        branches += tube([(-12, 8, -14), (s * 26 - 4, -8, -24), kidney], [3, 2.6, 2.4])
        entry = (22, 10, -24)
        middle = (-14, 25, -24) if s < 0 else (32, 0, -34)
        veins += tube([entry, middle, (kidney[0], kidney[1] + 8, kidney[2] + 3)], [5, 4.2, 4])
    gullet = tube([(-4, -2, 210), (-5, 4, 110), (-14, 4, 74), (-36, -4, 58)], 8)
    soft = "visceral_fat muscle diaphragm bowel_wall bowel_lumen duodenum_wall heart_muscle"
    trunk = Shape(tube(aorta, [r * wide for r in (12, 11.5, 11, 11, 10.5, 9.5, 8.5)]))
    vena = Shape(tube(cava, [r * wide for r in (13, 12.5, 12, 11.5, 11, 10.5)]))
    return [
        layer(Shape(gullet), "oesophagus", over=f"visceral_fat diaphragm {_LUNGS}"),
        layer(Shape(tuple(veins)), "vein", over=soft),
        layer(Shape(tuple(branches)), "artery", over=soft),
        layer(vena, "postcava"),
        layer(trunk, "aorta"),
    ]
