"""The frame of the trunk: skin, fat, muscles, skeleton, lungs and diaphragm.

Atlas millimetres of an average adult: x to the right, y to the front, z up; origin on the front
of the spine at the first lumbar vertebra, where the superior mesenteric artery leaves the aorta.
"""

from __future__ import annotations

import numpy as np

from pantskit.phantom.layers import Layer, layer
from pantskit.phantom.shapes import (
    Capsule,
    Ellipsoid,
    HalfSpace,
    Part,
    Point,
    Shape,
    Trunk,
    spline,
    tube,
)
from pantskit.phantom.vary import Vary

VERTEBRA_MM = 33.0
L1_Z = -5.0

# (z, half width, front y, back y)
_CAVITY = (
    (-345, 8, 14, -24),
    (-305, 15, 22, -40),
    (-284, 34, 40, -66),
    (-262, 50, 54, -80),
    (-225, 68, 62, -80),
    (-190, 100, 70, -72),
    (-160, 116, 78, -66),
    (-120, 124, 82, -64),
    (-60, 129, 86, -67),
    (0, 133, 88, -76),
    (60, 134, 88, -86),
    (110, 129, 84, -92),
    (200, 112, 70, -88),
    (320, 90, 45, -80),
)
_MUSCLE = (
    (-345, 164, 60, -92),
    (-290, 162, 74, -110),
    (-250, 160, 80, -116),
    (-210, 151, 86, -110),
    (-160, 140, 92, -100),
    (-100, 138, 95, -96),
    (-40, 141, 98, -99),
    (40, 146, 100, -108),
    (110, 144, 97, -114),
    (200, 141, 86, -112),
    (320, 130, 66, -106),
)


# fat between the layers of the muscle wall, by depth below its surface
_FASCIA = ((5.5, "fat"), (6.3, "muscle"))
_DEEP_FASCIAE = ((25.0, "fat"), (26.6, "muscle"), (45.0, "fat"), (47.0, "muscle"))


def cavity() -> Trunk:
    """The inside of chest, abdomen and pelvis."""
    return Trunk.through(_CAVITY)


def muscle_wall() -> Trunk:
    """The trunk without skin and the fat under it."""
    return Trunk.through(_MUSCLE)


def spine_y(z: float) -> float:
    """y of the middle of the vertebral bodies at a height."""
    heights = [-260, -235, -200, -165, -137, -104, -71, -38, -5, 28, 61, 94, 127, 220]
    middle = [-76, -74, -62, -36, -16, -11, -11, -14, -18, -22, -27, -32, -36, -40]
    return float(np.interp(z, heights, middle))


def envelope(fat_mm: float, vary: Vary) -> list[Layer]:
    """Skin, fat under it, muscle wall and the fat inside.

    Args:
        fat_mm: thickness of the fat at the side of the belly.
        vary: of this patient.
    """
    muscle, inside = muscle_wall(), cavity()
    body = muscle.grown(fat_mm, 0.9 * fat_mm, 0.75 * fat_mm)
    ripple = vary.ripple(2.0, (90, 200))
    deep = vary.ripple(6.0, (50, 130))
    return [
        layer(Shape((body,)), "skin", (2.2, "fat")),
        layer(Shape((muscle,), ripple=ripple), "muscle", *_FASCIA),
        Layer(Shape((muscle,), ripple=deep), _DEEP_FASCIAE, over=("muscle",)),
        layer(Shape((inside,)), "visceral_fat"),
        *_muscles(vary),
    ]


def table(back_y: float) -> Layer:
    """The table that the patient lies on, in atlas mm.

    Args:
        back_y: y of the skin of the back.
    """
    top = Ellipsoid((0, back_y + 132, -20), (420, 150, 900))
    below = Ellipsoid((0, back_y + 136, -20), (420, 150, 900))
    edge = Ellipsoid((0, back_y - 10, -20), (205, 30, 900), squareness=1.0)
    return layer(Shape((edge,), keep=((top, 0.0),), cut=(below,)), "table", over="air")


def _muscles(vary: Vary) -> list[Layer]:
    """Psoas, quadratus lumborum and the muscles along the spine, both sides."""
    pieces: list[Part] = []
    thick = vary.factor(0.1)
    for s in (1.0, -1.0):
        psoas = [(s * 27, -22, 10), (s * 38, -22, -60), (s * 48, -20, -120), (s * 72, 0, -185)]
        pieces += tube([*psoas, (s * 92, 22, -255)], [8, 17 * thick, 22 * thick, 19 * thick, 14])
        pieces += tube([(s * 58, -52, 0), (s * 68, -52, -70), (s * 72, -54, -140)], 12 * thick)
        spine = [(s * 32, spine_y(z) - 46, z) for z in (200.0, 90.0, 0.0, -90.0, -160.0)]
        pieces += tube([*spine, (s * 24, -104, -225)], [18, 21, 25, 27, 24, 12], step_mm=14)
    floor = Ellipsoid((0, -12, -308), (54, 66, 36))
    return [
        layer(Shape(tuple(pieces), ripple=vary.ripple(0.8)), "muscle", over="visceral_fat"),
        layer(Shape((floor,)), "muscle", over="visceral_fat"),
    ]


def lungs(vary: Vary) -> list[Layer]:
    """Both lungs, what lies between them, and the domes of the diaphragm over the abdomen."""
    result: list[Layer] = []
    inside = cavity()
    for side, s in (("right", 1.0), ("left", -1.0)):
        chest = Ellipsoid((s * 76, 0, 190), (72, 115, 180), squareness=1.0)
        shape = Shape((chest,), keep=((inside, 2.5),), ripple=vary.ripple(1.0))
        result.append(layer(shape, f"lung_{side}", over="visceral_fat"))
        root = (s * 22.0, -2.0, 165.0)
        tips = [vary.spot(s * x, y, z, 8) for x, y, z in _LUNG_TIPS]
        vessels = [
            p for tip in tips for p in tube([root, _bent(root, tip, vary), tip], [6, 3.2, 1])
        ]
        result.append(layer(Shape(tuple(vessels)), f"lung_vessel_{side}", over=f"lung_{side}"))
    lung = "lung_left lung_right lung_vessel_left lung_vessel_right"
    middle = Ellipsoid((0, 0, 190), (24, 74, 190), squareness=0.9)
    lift = vary.rng.normal() * 3
    domes = (
        Ellipsoid(vary.spot(64, 4, lift, 1.5), (78, 90, 74)),
        Ellipsoid(vary.spot(-62, 2, lift - 6, 1.5), (78, 88, 70)),
        Ellipsoid((0, 30, lift), (60, 62, 66)),
    )
    dome = Shape(domes, ripple=vary.ripple(1.5, (60, 120)))
    heart = Ellipsoid(vary.spot(-24, 34, 112 + lift), vary.radii(60, 44, 42), squareness=0.15)
    return [
        *result,
        layer(Shape((middle,)), "visceral_fat", over=lung),
        layer(Shape((heart,)), "heart_muscle", (9.0, "heart_blood"), over=f"visceral_fat {lung}"),
        layer(dome, "diaphragm", (2.5, "visceral_fat"), over=f"{lung} heart_muscle heart_blood"),
    ]


_LUNG_TIPS = (
    (105, -50, 60),
    (70, -70, 50),
    (115, 10, 75),
    (60, -40, 85),
    (95, 40, 90),
    (80, -75, 110),
    (110, -20, 120),
    (60, 60, 120),
)


def _bent(a: Point, b: Point, vary: Vary) -> Point:
    return vary.spot((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2 + 8, 5)


def skeleton(vary: Vary) -> list[Layer]:
    """Spine, ribs, pelvis and femurs."""
    return [*_ribs(vary), *_pelvis(vary), *_spine(vary), *_femurs(vary)]


def _spine(vary: Vary) -> list[Layer]:
    wide = vary.factor(0.04)
    bodies: list[Part] = []
    discs: list[Part] = []
    arches: list[Part] = []
    for n in range(-4, 7):
        z = L1_Z + VERTEBRA_MM * n
        y, size = spine_y(z), wide * (1 - 0.015 * max(n, 0))
        bodies.append(Ellipsoid((0, y, z), (23.5 * size, 16.5 * size, 14.2), squareness=0.8))
        below = z - VERTEBRA_MM / 2
        discs.append(
            Ellipsoid((0, spine_y(below), below), (22 * size, 15.5 * size, 7), squareness=0.6)
        )
        arches.append(Capsule((0, y - 36, z - 4), (0, y - 60, z - 16), 4.5, 5.5))
        for s in (1.0, -1.0):
            arches.append(Capsule((s * 13, y - 12, z + 4), (s * 15, y - 27, z + 2), 5, 6))
            arches.append(Capsule((s * 15, y - 27, z), (0, y - 37, z - 6), 6, 5))
            arches.append(Capsule((s * 15, y - 27, z), (s * 40, y - 31, z + 2), 5, 4))
    sacrum = [(0.0, spine_y(z), z) for z in (-160.0, -185.0, -215.0, -240.0, -258.0)]
    for s in (1.0, -1.0):
        arches += tube([(s * 20, -42, -165), (s * 30, -62, -195), (s * 12, -74, -235)], [17, 14, 7])
    canal = [(0.0, spine_y(z) - 25.0, z) for z in np.arange(200.0, -200.0, -25.0)]
    return [
        layer(Shape(tuple(discs)), "disc"),
        layer(
            Shape((*arches, *tube(sacrum, [20, 18, 13, 9, 6]))), "bone_cortex", (3.5, "bone_marrow")
        ),
        layer(Shape(tuple(bodies)), "bone_cortex", (1.8, "bone_marrow")),
        layer(Shape(tube(canal, 8.5, step_mm=12)), "spinal_canal"),
    ]


def _ribs(vary: Vary) -> list[Layer]:
    """Ribs 7 to 12 along the wall of the chest, falling to the front."""
    inside = cavity()
    bone: list[Part] = []
    soft: list[Part] = []
    for level, reach in enumerate((0.52, 0.72, 0.92, 0.95, 0.98, 1.0)):  # 12th rib first
        top = L1_Z + VERTEBRA_MM * (level + 1)
        steps = np.linspace(0.1, 0.86 * reach, 9)
        fall = 55 + 5 * level + vary.rng.normal() * 2
        for s in (1.0, -1.0):
            points = [_on_wall(inside, s, t, top - fall * t**1.25) for t in steps]
            bone += tube([(s * 22, spine_y(top) - 18, top), *points], 5.2, step_mm=9)
            if level > 2:
                ends = [_on_wall(inside, s, t, top - fall * t**1.25) for t in (0.86 * reach, 0.96)]
                soft += tube([*ends, (s * 12, inside.at(95)[1] + 5, 100 + 6.0 * level)], 5.0)
    return [
        layer(Shape(tuple(soft)), "cartilage", over="muscle fat visceral_fat"),
        layer(Shape(tuple(bone)), "rib_bone", (3.2, "bone_marrow"), over="muscle fat visceral_fat"),
    ]


def _on_wall(inside: Trunk, s: float, t: float, z: float) -> Point:
    """The point just outside the chest wall, from the back (t = 0) to the front (t = 1)."""
    width, front, back = inside.at(z)
    angle = np.pi * t
    power = 0.85
    x = (width + 6) * np.sin(angle) ** power
    y = (front + back) / 2 - np.sign(np.cos(angle)) * ((front - back) / 2 + 6) * (
        abs(np.cos(angle)) ** power
    )
    return s * float(x), float(y), float(z)


def _pelvis(vary: Vary) -> list[Layer]:
    plate: list[Part] = []
    socket: list[Ellipsoid] = []
    cuts: list[HalfSpace] = []
    for s in (1.0, -1.0):
        crest = [(s * x, y, z) for x, y, z in _CREST]
        edge = spline(np.array(crest))[0]
        for t in np.linspace(0, 1, 22):
            top = edge(t * edge.x[-1])
            foot = (s * (80 + 15 * float(t)), -20 + 35 * float(t), -230.0)
            plate.append(Capsule((float(top[0]), float(top[1]), float(top[2])), foot, 5.0, 7.5))
        plate += tube(crest, 5.6)
        plate += tube([(s * 84, 16, -252), (s * 45, 42, -268), (s * 8, 42, -280)], [9, 7, 8])
        plate += tube([(s * 86, -34, -256), (s * 72, -48, -292), (s * 62, -44, -312)], [13, 12, 13])
        plate += tube([(s * 60, -36, -312), (s * 34, 6, -302), (s * 9, 36, -286)], [9, 6, 7])
        socket.append(Ellipsoid((s * 89, 0, -257), (32, 33, 33)))
        cuts.append(HalfSpace((s * 100, 0, -262), (s * 0.8, 0.15, -0.6)))
    shapes = [Shape(tuple(plate))]
    shapes += [Shape((cup,), cut=(cut,)) for cup, cut in zip(socket, cuts, strict=True)]
    return [layer(shape, "bone_cortex", (2.6, "bone_marrow")) for shape in shapes]


_CREST = (
    (40, -72, -168),
    (56, -70, -148),
    (74, -56, -134),
    (92, -34, -130),
    (106, -8, -136),
    (114, 16, -150),
    (116, 34, -168),
    (114, 42, -184),
)


def _femurs(vary: Vary) -> list[Layer]:
    result = []
    size = vary.factor(0.04)
    for side, s in (("right", 1.0), ("left", -1.0)):
        head = vary.spot(s * 90, 0, -258, 1.0)
        gap = Ellipsoid(head, (26 * size,) * 3)
        pieces: tuple[Part, ...] = (
            Ellipsoid(head, (23.5 * size,) * 3),
            *tube([head, (s * 108, -4, -268), (s * 126, -9, -290)], [16, 14.5, 17]),
            Ellipsoid((s * 133, -14, -282), (15, 17, 20)),
            *tube([(s * 126, -9, -290), (s * 121, -6, -330), (s * 114, 0, -400)], [18, 15, 13.5]),
        )
        result += [
            layer(Shape((gap,)), "cartilage"),
            layer(Shape(pieces), f"femur_cortex_{side}", (3.6, f"femur_marrow_{side}")),
        ]
    return result
