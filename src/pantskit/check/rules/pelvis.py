"""Pelvis and thighs: bladder, prostate, femurs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pantskit.check.findings import Fault, Severity
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
)
def femur_length(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A femur has the length from its head to 5 cm below the lesser trochanter, if in view.

    From the top of the head to the lesser trochanter an adult's femur measures 85 to 115 mm.
    """
    for femur in (f for f in FEMURS if f in scan.regions):
        low, high = scan.heights_mm(femur)
        length = high - low
        if length > limits["longest_mm"]:
            text = f"{femur} is {length:.0f} mm long: more than to 5 cm below the lesser trochanter"
            yield scan.fault(text, femur, length)
        elif length < limits["shortest_mm"] and not scan.cut(femur):
            room = low - scan.view[0] * scan.geometry.spacing[2]
            if room > 10:
                text = (
                    f"{femur} is {length:.0f} mm long and ends {room:.0f} mm above the scan's end"
                )
                yield scan.fault(f"{text}: annotated in part", femur, length)


@rule(
    "femur-heights",
    WARNING,
    Scope.ANATOMY,
    reason="One femur's head was left out, or the mask is of the pelvis.",
    standard="Left and right proximal femurs with head and neck.",
    apart_mm=25,
)
def femur_heights(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The heads of both femurs lie at one height."""
    if not set(FEMURS) <= set(scan.regions) or any(scan.cut_above(f) for f in FEMURS):
        return
    tops = [scan.heights_mm(f)[1] for f in FEMURS]
    apart = abs(tops[0] - tops[1])
    if apart > limits["apart_mm"]:
        femur = FEMURS[int(np.argmin(tops))]
        text = f"the top of {femur} lies {apart:.0f} mm below that of the other"
        yield scan.fault(text, femur, apart)


@rule(
    "femur-head",
    WARNING,
    Scope.ANATOMY,
    reason="The head was left out, in part or whole: a femur's volume is half without it.",
    standard="Left and right proximal femurs with head and neck.",
    largest_radius_mm=28,
    medial_mm=8,
    least_mm=45,
)
def femur_head(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A femur that ends inside the scan ends in a ball, nearer to the body's middle than its shaft.

    The first section of the largest head, 56 mm wide, has a size that the slices' distance gives.
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
        if section > cap:
            text = f"{femur} ends above in a section of {section / 100:.0f} cm2: a head is round"
            yield scan.fault(f"{text} there, and was left out or cut", femur, section, at=at)
        elif (medial := _medial_mm(scan, femur, limits["least_mm"])) < limits["medial_mm"]:
            text = f"the upper end of {femur} lies {medial:.0f} mm nearer to the body's middle than"
            yield scan.fault(f"{text} its shaft: the head was left out", femur, medial, at=at)


def _medial_mm(scan: Scan, femur: str, least_mm: float) -> float:
    """How far a femur's upper end lies inward of its lower one; infinite where nobody can say."""
    other = FEMURS[1 - FEMURS.index(femur)]
    low, high = scan.heights_mm(femur)
    if other not in scan.regions or high - low < least_mm:
        return float("inf")
    region = scan.regions[femur]
    slices = max(1, round(0.2 * region.array.shape[2]))

    def middle(part: Mask) -> float:
        return float(np.argwhere(part)[:, 0].mean()) * scan.geometry.spacing[0]

    right = middle(region.array[:, :, -slices:]) - middle(region.array[:, :, :slices])
    return right if scan.centre_mm(other)[0] > scan.centre_mm(femur)[0] else -right


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
