"""Vessels: where they begin and end, and what they must reach."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pantskit.check.breaks import in_words, open_breaks, tumour_unplaced
from pantskit.check.ends import RIGHT, UP, end_gap, lumen_beyond
from pantskit.check.findings import Fault, Severity, Voxel
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.organs import KIDNEYS, mirrored, upside_down
from pantskit.check.scan import Scan
from pantskit.measure.shape import parts_of

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

CELIAC, SMA = "celiac_artery", "superior_mesenteric_artery"
BILE = "common_bile_duct"


@rule(
    "artery-origin",
    WARNING,
    Scope.ANATOMY,
    reason="The trunk's first centimetre was left out, or the mask is of another vessel.",
    standard="Coeliac artery: from its origin at the aorta; superior mesenteric artery likewise.",
    distance_mm=3,
    below_mm=25,
    apart_mm=15,
)
def artery_origin(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Coeliac and superior mesenteric artery begin at the aorta, the second close to the first."""
    for artery in (CELIAC, SMA):
        if artery not in scan.regions or "aorta" not in scan.regions:
            continue
        if scan.cut(artery) or scan.cut_aside("aorta"):
            continue  # it may begin outside the view
        distance, at = scan.gap(artery, "aorta")
        if distance > limits["distance_mm"]:
            text = f"{artery} begins {distance:.0f} mm from the aorta"
            yield scan.fault(text, artery, distance, at=at)
        elif artery == SMA and CELIAC in scan.regions:
            # It runs down beside the aorta: without its origin it is as near. The origins lie
            # 5 to 20 mm apart.
            below = scan.heights_mm(CELIAC)[0] - scan.heights_mm(SMA)[1]
            apart = limits["apart_mm"] if distance > 0.5 else limits["below_mm"]
            if below > apart:
                text = f"{SMA} begins {below:.0f} mm below {CELIAC}: its origin is left out"
                yield scan.fault(text, SMA, below, at=at)


@rule(
    "artery-order",
    ERROR,
    Scope.ANATOMY,
    reason="The coeliac artery leaves the aorta above the superior mesenteric artery: exchanged?",
    standard="Coeliac artery: a short branch; superior mesenteric artery: from its origin on.",
    slack_mm=5,
)
def artery_order(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The coeliac artery begins above the superior mesenteric one and is the shorter."""
    if not {CELIAC, SMA, "aorta"} <= set(scan.regions) or next(upside_down(scan), None):
        return
    below = float(scan.centre_mm(SMA)[2] - scan.centre_mm(CELIAC)[2])
    if below > limits["slack_mm"]:
        text = f"{CELIAC} lies {below:.0f} mm below {SMA}: names exchanged?"
        yield scan.fault(text, CELIAC, below)


@rule(
    "aorta-extent",
    WARNING,
    Scope.ANATOMY,
    reason="The aorta was annotated in part: it goes on in the scan.",
    standard="Aorta: the entire lumen from the diaphragm to the bifurcation.",
    slack_mm=15,
    dome_mm=25,
    beyond_mm=10,
    cava_mm=45,
)
def aorta_extent(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The aorta reaches from the diaphragm to its bifurcation, in what is in view.

    Behind the diaphragm it runs up to the height of the dome, where the liver ends; below, it
    ends beneath the kidneys, and where the CT shows its lumen going on, it is not the end. A scan
    that ends in the liver, or in a kidney, has it to its end.
    """
    if "aorta" not in scan.regions or scan.cut_aside("aorta"):
        return
    if not scan.cut_above("aorta"):
        short = list(_short_of_dome(scan, "aorta", limits))
        yield from short or _below_branches(scan, limits["slack_mm"])
    if not scan.cut_below("aorta"):
        yield from _short_below(scan, "aorta", "postcava", limits["cava_mm"], limits)


def _below_branches(scan: Scan, slack_mm: float) -> Iterator[Fault]:
    high = scan.heights_mm("aorta")[1]
    upper = [scan.heights_mm(s)[1] for s in (CELIAC, SMA) if s in scan.regions]
    if upper and high < max(upper) - slack_mm:
        mm = max(upper) - high
        text = f"the aorta ends {mm:.0f} mm below the top of its branches"
        yield scan.fault(text, "aorta", mm, at=_end(scan, "aorta", upper=True))


def _short_below(
    scan: Scan, vessel: str, beside: str, most_mm: float, limits: Limits
) -> Iterator[Fault]:
    """A vessel that goes on below its mask: by the CT, the kidneys, or the vessel beside it.

    The aorta divides within some centimetres above the place where the vena cava begins.
    """
    low, _ = scan.heights_mm(vessel)
    poles, text = _lower_poles(scan), ""
    above_edge = low - scan.view[0] * scan.geometry.spacing[2]
    going_on = [s for s in KIDNEYS if s in scan.regions and scan.cut_below(s)]
    beyond = lumen_beyond(scan, vessel, upper=False)
    other = scan.heights_mm(beside)[0] if beside in scan.regions else low
    # Two slices below its mask may be where it divides: they show it and its branches mixed.
    if beyond >= max(limits["beyond_mm"], 2.5 * scan.geometry.spacing[2]):
        mm, text = beyond, f"the CT shows {vessel} going on for {beyond:.0f} mm below its mask"
    elif poles is not None and low > poles + limits["slack_mm"]:
        mm = low - poles
        text = f"{vessel} ends {mm:.0f} mm above the lower end of the kidneys"
    elif going_on and above_edge > limits["slack_mm"]:
        mm = above_edge
        text = f"{vessel} ends {mm:.0f} mm above the scan's lower end, where {going_on[0]} goes on"
    elif low - other > most_mm and not scan.cut_aside(beside):
        mm, text = low - other, f"{vessel} ends {low - other:.0f} mm above the end of {beside}"
    if text:
        yield scan.fault(text, vessel, mm, at=_end(scan, vessel, upper=False))


def _short_of_dome(scan: Scan, vessel: str, limits: Limits) -> Iterator[Fault]:
    """A vessel that ends below the dome of the diaphragm, which is the top of the liver.

    Where the scan ends in the liver, the vessel goes on to that end.
    """
    if "liver" not in scan.regions:
        return
    mm = scan.heights_mm("liver")[1] - scan.heights_mm(vessel)[1]
    if scan.cut_above("liver"):
        if mm > limits["slack_mm"]:
            text = f"{vessel} ends {mm:.0f} mm below the scan's upper end, where the liver goes on"
            yield scan.fault(text, vessel, mm, at=_end(scan, vessel, upper=True))
        return
    seen = mm > 0 and lumen_beyond(scan, vessel, upper=True) >= limits["beyond_mm"]
    if mm > limits["dome_mm"] or seen:
        text = f"{vessel} ends {mm:.0f} mm below the dome of the diaphragm"
        goes_on = ", and the CT shows it going on" if seen else ""
        yield scan.fault(text + goes_on, vessel, mm, at=_end(scan, vessel, upper=True))


def _end(scan: Scan, vessel: str, *, upper: bool) -> Voxel:
    """A voxel in the last slice of a vessel."""
    region = scan.regions[vessel]
    return scan.at(region.in_slice(region.array.shape[2] - 1 if upper else 0))


def _lower_poles(scan: Scan) -> float | None:
    """Height of the higher of both kidneys' lower ends: the bifurcation lies below it."""
    ends = [scan.heights_mm(s)[0] for s in KIDNEYS if s in scan.regions and not scan.cut(s)]
    return max(ends) if len(ends) == 2 else None


@rule(
    "aorta-iliac",
    INFO,
    Scope.ANATOMY,
    reason="Below the bifurcation lie the iliac arteries, which the standard leaves out.",
    standard="Aorta: down to the bifurcation.",
    length_mm=20,
)
def aorta_iliac(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The aorta's lowest slices show one vessel."""
    if "aorta" not in scan.regions:
        return
    region, mm = scan.regions["aorta"], scan.geometry.spacing[2]
    split = 0
    for k in range(min(region.array.shape[2], int(100 / mm) + 1)):
        plane = region.array[:, :, k]
        blobs = [p for p in parts_of(plane[:, :, None]) if p.voxels >= 4]
        if len(blobs) < 2:
            break
        split += 1
    if split * mm > limits["length_mm"]:
        at = scan.at(region.in_slice(0))
        text = f"the lowest {split * mm:.0f} mm of the aorta are two vessels: iliac arteries"
        yield scan.fault(text, "aorta", split * mm, at=at)


@rule(
    "postcava-extent",
    WARNING,
    Scope.ANATOMY,
    reason="The vena cava was annotated in part: it goes on in the scan.",
    standard="Vena cava: the entire lumen from its origin to the right atrium.",
    slack_mm=15,
    dome_mm=25,
    beyond_mm=10,
    aorta_mm=15,
)
def postcava_extent(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The vena cava reaches from below the kidneys to the diaphragm, over which the atrium lies."""
    if "postcava" not in scan.regions or scan.cut_aside("postcava"):
        return
    if not scan.cut_above("postcava"):
        yield from _short_of_dome(scan, "postcava", limits)
    if not scan.cut_below("postcava"):
        yield from _short_below(scan, "postcava", "aorta", limits["aorta_mm"], limits)


@rule(
    "postcava-side",
    WARNING,
    Scope.ANATOMY,
    reason="Right of the aorta lies the vena cava: names exchanged, or the rare left-sided one.",
    standard="Vena cava and aorta are structures of their own.",
    share=0.7,
    apart_mm=8,
)
def postcava_side(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The vena cava lies to the right of the aorta below the liver."""
    if not {"postcava", "aorta"} <= set(scan.regions) or mirrored(scan):
        return
    cava, aorta = _middles(scan, "postcava"), _middles(scan, "aorta")
    both = np.flatnonzero(np.isfinite(cava) & np.isfinite(aorta))
    if not both.size:
        return
    apart = cava[both] - aorta[both]
    share = float((apart < 0).mean())
    if share > limits["share"] and np.median(apart) < -limits["apart_mm"]:
        k = int(both[apart.argmin()]) - scan.regions["postcava"].start[2]
        # A left-sided vena cava crosses to the right below the liver.
        at_liver = _at_height(scan, both, "liver")
        crossed = at_liver.any() and bool(
            (apart[at_liver] < -limits["apart_mm"]).mean() > share / 2
        )
        yield scan.fault(
            f"the vena cava lies to the left of the aorta in {share:.0%} of slices: names "
            "exchanged, or a left-sided vena cava",
            "postcava",
            share,
            severity=ERROR if crossed else None,
            at=scan.at(scan.regions["postcava"].in_slice(k)),
        )


def _at_height(scan: Scan, slices: NDArray[np.int64], structure: str) -> NDArray[np.bool_]:
    """Which slices show a structure."""
    if structure not in scan.regions:
        return np.zeros(len(slices), np.bool_)
    part = scan.regions[structure].box[2]
    return np.asarray((slices >= part.start) & (slices < part.stop))


def _middles(scan: Scan, structure: str) -> NDArray[np.float64]:
    """(k,) RAS+ mm (x) of a structure's middle in each axial slice, NaN where it is not."""
    x, k = scan.columns(structure)
    depth = scan.geometry.shape[2]
    counts = np.bincount(k, minlength=depth)
    with np.errstate(invalid="ignore"):
        return np.bincount(k, weights=x, minlength=depth) / counts


@rule(
    "veins-reach",
    WARNING,
    Scope.ANATOMY,
    reason="Portal and splenic vein end at their organs: a gap was left out.",
    standard="Portal vein: to where it enters the liver; splenic vein: from the spleen on.",
    liver_mm=12,
    spleen_mm=12,
    bile_mm=6,
    slab_mm=8,
)
def veins_reach(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The right end of portal and splenic vein reaches the liver, the left one the spleen.

    On its way into the liver the portal vein lies behind the bile duct, whose upper end is as
    near to it as its lower one.
    """
    if "veins" not in scan.regions or scan.cut("veins"):
        return
    for organ, right in (("liver", True), ("spleen", False)):
        if organ not in scan.regions:
            continue
        right_end = right != mirrored(scan)
        distance, at = end_gap(
            scan, "veins", organ, axis=RIGHT, last=right_end, slab_mm=limits["slab_mm"]
        )
        if distance > limits[f"{organ}_mm"]:
            text = f"portal and splenic vein end {distance:.0f} mm from the {organ}"
            yield scan.fault(text, "veins", distance, at=at)
        elif right and _higher_bile_duct(scan, last=right_end):
            mm, _ = end_gap(scan, BILE, "veins", axis=UP, last=True, slab_mm=limits["slab_mm"])
            if mm > limits["bile_mm"]:
                text = f"the portal vein ends {mm:.0f} mm before the bile duct does, at the liver"
                yield scan.fault(text, "veins", mm, at=at)


def _higher_bile_duct(scan: Scan, *, last: bool) -> bool:
    """Whether the bile duct goes up to an end of the veins: a short one tells nothing of them."""
    if BILE not in scan.regions or scan.cut(BILE):
        return False
    veins = scan.regions["veins"]
    slices = np.flatnonzero(veins.array[-1 if last else 0].any(axis=0))
    return bool(scan.regions[BILE].box[2].stop >= veins.start[2] + slices[0])


@rule(
    "veins-broken",
    WARNING,
    Scope.ANATOMY,
    reason="From the spleen to the liver runs one vessel: where it breaks off, a part is missing.",
    standard="Splenic vein to its confluence with the superior mesenteric vein; portal vein from "
    "there to the liver.",
    share=0.03,
    distance_mm=5,
    tumour_mm=3,
)
def veins_broken(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Portal and splenic vein are connected, but for what lies in or at a tumour.

    A piece smaller than the share is a stray. A tumour explains the stretch that it takes, and
    no gap elsewhere.
    """
    if "veins" not in scan.regions:
        return
    gaps = open_breaks(
        scan,
        "veins",
        least_mm=limits["distance_mm"],
        share=limits["share"],
        tumour_mm=limits["tumour_mm"],
    )
    if gaps:
        widest, missing = gaps[0]
        unplaced = tumour_unplaced(scan)
        text = f"portal and splenic vein have {in_words(gaps)} on the way from spleen to liver"
        yield scan.fault(
            f"{text}: at the tumour that has no mask?" if unplaced else text,
            "veins",
            missing,
            severity=INFO if unplaced else None,
            at=scan.at(widest.at),
        )
