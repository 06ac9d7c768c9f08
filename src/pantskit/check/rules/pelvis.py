"""Pelvis and thighs: bladder, prostate, femurs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pantskit.check.balls import NO_BALL, Ball, upper_balls
from pantskit.check.findings import Fault, Severity, Voxel
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.scan import Scan
from pantskit.core.labels import Mask

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

FEMURS = ("femur_left", "femur_right")


@rule(
    "femur-length",
    WARNING,
    Scope.ANATOMY,
    reason="Femurs of unlike length make volumes incomparable; the standard sets the end.",
    standard="Proximal femur: head, neck and shaft to 5 cm below the lesser trochanter.",
    longest_mm=180,
    shortest_mm=100,
    slack_mm=25,
)
def femur_length(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A femur has the length from its head to 5 cm below the lesser trochanter, if in view.

    From the top of the head to the lesser trochanter an adult's femur measures 85 to 115 mm. Where
    the head is seen whole its diameter says how much: its centre lies 51.6 mm (SD 7.1) above the
    middle of the lesser trochanter with a diameter of 46.1 mm (Noble, CORR 1988), which ends about
    12 mm lower. A mask that reaches the scan's lowest slice may be too long, but not too short.
    """
    for femur in (f for f in FEMURS if f in scan.regions):
        low, high = scan.heights_mm(femur)
        length, longest = high - low, _longest_mm(scan, femur, limits)
        if length > longest:
            text = f"{femur} is {length:.0f} mm long: more than to 5 cm below the lesser trochanter"
            yield scan.fault(f"{text} (at most {longest:.0f})", femur, length)
        elif length < limits["shortest_mm"] and not scan.cut(femur):
            room = low - scan.view[0] * scan.geometry.spacing[2]
            if room > 10:
                text = (
                    f"{femur} is {length:.0f} mm long and ends {room:.0f} mm above the scan's end"
                )
                yield scan.fault(f"{text}: annotated in part", femur, length)


def _longest_mm(scan: Scan, femur: str, limits: Limits) -> float:
    """The greatest length by the standard, from the head's own size where it is seen whole."""
    ball = None if scan.cut_above(femur) or scan.cut_aside(femur) else _head(scan, femur)
    if ball is None or not 18 <= ball.radius_mm <= 29:
        return limits["longest_mm"]
    by_head = ball.radius_mm * (1 + 2 * 51.6 / 46.1) + 12 + 50 + limits["slack_mm"]
    return min(limits["longest_mm"], by_head)


@rule(
    "femur-heights",
    WARNING,
    Scope.ANATOMY,
    reason="One femur's head was left out, or the other's mask goes on into the pelvis.",
    standard="Left and right proximal femurs with head and neck.",
    apart_mm=20,
    seen_mm=10,
    soft_share=0.1,
)
def femur_heights(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The heads of both femurs lie at one height; told of both, as nobody knows which is right.

    Lying down, they differ by the tilt of the pelvis: 20 mm are 6 degrees over the 180 mm between
    them. From 10 mm on the CT tells: the higher one's upper end is soft where the other's is bone.
    """
    if not set(FEMURS) <= set(scan.regions) or any(scan.cut_above(f) for f in FEMURS):
        return
    tops = [scan.heights_mm(f)[1] for f in FEMURS]
    apart = abs(tops[0] - tops[1])
    lower, upper = FEMURS if tops[0] < tops[1] else FEMURS[::-1]
    text = f"the top of {lower} lies {apart:.0f} mm below that of {upper}"
    if apart > limits["apart_mm"]:
        yield scan.fault(f"{text}: its head was left out, or the other is too high", lower, apart)
        yield scan.fault(f"{text}: too high or too long, or the other lacks its head", upper, apart)
    elif apart > limits["seen_mm"] and scan.ct is not None:
        soft, other = _soft_share(scan, upper), _soft_share(scan, lower)
        if soft - other > limits["soft_share"]:
            seen = f"{text}, whose upper end is soft tissue ({soft:.0%})"
            yield scan.fault(f"{seen}: too high or too long", upper, apart)


def _soft_share(scan: Scan, femur: str, *, reach_mm: float = 15, bone_hu: float = 60) -> float:
    """Share of a femur's upper end that is no bone; the marrow of heads has 100 HU and more."""
    region = scan.regions[femur]
    slices = max(1, round(reach_mm / scan.geometry.spacing[2]))
    top = region.array[:, :, -slices:]
    i, j, k = region.box
    hu = scan.ct[i, j, k][:, :, -slices:][top]  # type: ignore[index]  # the caller has seen it
    return float((hu < bone_hu).mean())


@rule(
    "femur-head",
    WARNING,
    Scope.ANATOMY,
    reason="The head was left out, in part or whole: a femur's volume is half without it.",
    standard="Left and right proximal femurs with head and neck.",
    largest_radius_mm=28,
    lost_mm=4,
    medial_mm=8,
    least_mm=45,
    ball=0.75,
    ball_least_mm=35,
    ball_coarsest_mm=10,
)
def femur_head(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A femur that ends inside the scan ends in a ball, nearer to the body's middle than its shaft.

    The ball through its upper sections says how much is missing above them; the first section of
    the largest head, 56 mm wide, has a size that the slices' distance gives. Of a ball of 36 to
    60 mm, wherever it fits best with the rest of the bone on its outer side, most of the surface is
    there: the neck takes 8 to 18 % of it, and a plane at any angle that takes a third of its
    breadth some 25 %, which count twice as they are not even bone. A femur without its head has no
    such ball. Slices further apart than 10 mm do not tell, nor do scans that begin less than 35 mm
    below its top and show less than half of a ball.
    """
    for femur in (f for f in FEMURS if f in scan.regions):
        region = scan.regions[femur]
        if scan.cut_above(femur) or scan.cut_aside(femur):
            continue
        i, j, k = scan.geometry.spacing
        # A slice that shows a tip begins up to one above it; half of one is its blur.
        radius, depth = limits["largest_radius_mm"], 1.5 * k + 2
        cap = np.pi * (2 * radius * depth - depth**2) if depth < radius else np.inf
        section = float(region.areas[-1]) * i * j
        at = scan.at(region.in_slice(len(region.areas) - 1))
        ball = _head(scan, femur)
        if section > cap:
            text = f"{femur} ends above in a section of {section / 100:.0f} cm2: a head is round"
            yield scan.fault(f"{text} there, and was left out or cut", femur, section, at=at)
        elif (medial := _medial_mm(scan, femur, limits["least_mm"])) < limits["medial_mm"]:
            text = f"the upper end of {femur} lies {medial:.0f} mm nearer to the body's middle than"
            yield scan.fault(f"{text} its shaft: the head was left out", femur, medial, at=at)
        elif ball is not None and ball.lost_mm > max(k, 3) + limits["lost_mm"]:
            text = f"{femur} is flat above, as a head that lacks its upper {ball.lost_mm:.0f} mm"
            yield scan.fault(f"{text}: cut or left out", femur, ball.lost_mm, at=at)
        elif (best := _best_ball(scan, femur, limits)) and best.score < limits["ball"]:
            text = f"the upper end of {femur} is no whole ball: of the one that fits best"
            text = f"{text} {best.whole:.0%} of the surface are there, {best.lost:.0%} missing"
            at = _inside(scan, best.missing, at)
            yield scan.fault(f"{text}: its head was cut or left out", femur, best.whole, at=at)


def _best_ball(scan: Scan, femur: str, limits: Limits) -> Ball | None:
    """The ball that fits a femur's upper end best, on its inner side; None where nobody can say."""
    low, high = scan.heights_mm(femur)
    cut = scan.cut_below(femur)
    if cut and high - low < limits["ball_least_mm"]:
        return None
    if max(scan.geometry.spacing) > limits["ball_coarsest_mm"]:
        return None
    inward = _inward(scan, femur)
    best = NO_BALL
    for ball in upper_balls(scan.regions[femur], scan.geometry.spacing, cut_below=cut):
        right, _, up = ball.toward
        # The neck leads outward and down from the head, and so does all that follows it.
        outward = up < 0.2 and (inward == 0 or -right * inward > 0.4)
        if (outward or not ball.toward.any()) and ball.score > best.score:
            best = ball
        if best.score >= limits["ball"]:
            break
    return best


def _inward(scan: Scan, femur: str) -> int:
    """1 where the body's middle lies to the right of a femur, -1 left of it; 0: nobody knows."""
    other = FEMURS[1 - FEMURS.index(femur)]
    if other not in scan.regions:
        return 0
    return 1 if scan.centre_mm(other)[0] > scan.centre_mm(femur)[0] else -1


def _inside(scan: Scan, voxel: NDArray[np.float64] | None, otherwise: Voxel) -> Voxel:
    """A voxel along the body's axes as index in the file, moved into the scan."""
    if voxel is None:
        return otherwise
    last = np.array(scan.geometry.shape) - 1
    i, j, k = np.clip(np.rint(voxel), 0, last).astype(int).tolist()
    return scan.at((i, j, k))


@dataclass(frozen=True)
class _Ball:
    """The ball through a femur's upper sections: its radius, and what is missing of it above."""

    radius_mm: float
    lost_mm: float


def _head(scan: Scan, femur: str, *, reach_mm: float = 15) -> _Ball | None:
    """The ball through the sections of a femur's upper 15 mm; None where there are too few.

    At a depth t under the first section a ball that lacks d above it has the section
    pi (2 R (d + t) - (d + t)^2), so section / pi + t^2 is a line in t: of slope 2 (R - d), and
    2 R d - d^2 at t = 0. The first section of a whole ball lies up to a slice under its top.
    """
    i, j, k = scan.geometry.spacing
    sections = scan.regions[femur].areas[::-1] * i * j / np.pi
    count = max(3, int(reach_mm / k) + 1)
    if len(sections) < count or k > reach_mm:
        return None
    under = np.arange(count) * k
    slope, first = np.polyfit(under, sections[:count] + under**2, 1)
    radius = float(np.hypot(slope / 2, np.sqrt(max(first, 0.0))))
    return _Ball(radius, radius - float(slope) / 2)


def _medial_mm(scan: Scan, femur: str, least_mm: float) -> float:
    """How far a femur's upper end lies inward of its lower one; infinite where nobody can say."""
    low, high = scan.heights_mm(femur)
    inward = _inward(scan, femur)
    if not inward or high - low < least_mm:
        return float("inf")
    region = scan.regions[femur]
    slices = max(1, round(0.2 * region.array.shape[2]))

    def middle(part: Mask) -> float:
        return float(np.argwhere(part)[:, 0].mean()) * scan.geometry.spacing[0]

    return inward * (middle(region.array[:, :, -slices:]) - middle(region.array[:, :, :slices]))


@rule(
    "femur-ends",
    WARNING,
    Scope.ANATOMY,
    reason="One femur was drawn further down its shaft than the other: one of both ends is wrong.",
    standard="Proximal femur: to 5 cm below the lesser trochanter, on both sides.",
    apart_mm=20,
)
def femur_ends(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Femurs whose heads are level end at one height; told of both where no length decides."""
    if not set(FEMURS) <= set(scan.regions) or any(scan.cut_aside(f) for f in FEMURS):
        return
    (low, high), (other_low, other_high) = (scan.heights_mm(f) for f in FEMURS)
    apart = abs((high - low) - (other_high - other_low))
    if apart <= limits["apart_mm"] or abs(high - other_high) > limits["apart_mm"]:
        return  # of unlike height, femur-heights tells
    long, short = FEMURS if low < other_low else FEMURS[::-1]
    text = f"{long} reaches {apart:.0f} mm further down than {short}"
    yield scan.fault(f"{text}: too far, or the other is too short", long, apart)
    yield scan.fault(f"{text}: too short, or the other too long", short, apart)


@rule(
    "prostate-place",
    WARNING,
    Scope.ANATOMY,
    reason="The prostate lies under the bladder, between the hips: elsewhere it is something else.",
    standard="Prostate: parenchyma, without seminal vesicles and bladder.",
    bladder_mm=20,
    aside_mm=30,
)
def prostate_place(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The prostate is at the bladder and between the femurs."""
    if "prostate" not in scan.regions:
        return
    if "bladder" in scan.regions:
        distance, at = scan.gap("prostate", "bladder")
        if distance > limits["bladder_mm"]:
            text = f"the prostate is {distance:.0f} mm from the bladder"
            yield scan.fault(text, "prostate", distance, at=at)
    yield from _aside(scan, "prostate", limits["aside_mm"])


@rule(
    "bladder-place",
    WARNING,
    Scope.ANATOMY,
    reason="The bladder lies between the hips: higher up it is bowel or a cyst.",
    standard="Bladder: wall and lumen, without reproductive structures.",
    aside_mm=60,
    above_mm=120,
)
def bladder_place(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The bladder is between the femurs, not far above their heads."""
    if "bladder" not in scan.regions:
        return
    yield from _aside(scan, "bladder", limits["aside_mm"])
    heads = [scan.heights_mm(f)[1] for f in FEMURS if f in scan.regions]
    if heads:
        above = scan.heights_mm("bladder")[0] - max(heads)
        if above > limits["above_mm"]:
            text = f"the bladder lies {above:.0f} mm above the heads of the femurs"
            yield scan.fault(text, "bladder", above)


def _aside(scan: Scan, structure: str, most_mm: float) -> Iterator[Fault]:
    if not set(FEMURS) <= set(scan.regions):
        return
    middle = np.mean([scan.centre_mm(f)[0] for f in FEMURS])
    aside = abs(float(scan.centre_mm(structure)[0] - middle))
    if aside > most_mm:
        text = f"{structure} lies {aside:.0f} mm beside the middle between the femurs"
        yield scan.fault(text, structure, aside)
