"""Vessels: where they begin and end, and what they must reach."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pantskit.check.findings import Fault, Severity
from pantskit.check.region import box_gap_mm
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.organs import mirrored
from pantskit.check.scan import Scan
from pantskit.core.labels import LESION
from pantskit.measure.shape import Part, parts_of

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

CELIAC, SMA = "celiac_artery", "superior_mesenteric_artery"


@rule(
    "artery-origin",
    WARNING,
    Scope.ANATOMY,
    reason="The trunk's first centimetre was left out, or the mask is of another vessel.",
    standard="Coeliac artery: from its origin at the aorta; superior mesenteric artery likewise.",
    distance_mm=3,
)
def artery_origin(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Coeliac and superior mesenteric artery begin at the aorta."""
    for artery in (CELIAC, SMA):
        if artery not in scan.regions or "aorta" not in scan.regions:
            continue
        if scan.cut(artery) or scan.cut_aside("aorta"):
            continue  # it may begin outside the view
        distance, at = scan.gap(artery, "aorta")
        if distance > limits["distance_mm"]:
            text = f"{artery} begins {distance:.0f} mm from the aorta"
            yield scan.fault(text, artery, distance, at=at)


@rule(
    "artery-order",
    WARNING,
    Scope.ANATOMY,
    reason="The coeliac artery leaves the aorta above the superior mesenteric artery: exchanged?",
    standard="Coeliac artery: a short branch; superior mesenteric artery: from its origin on.",
    slack_mm=5,
)
def artery_order(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The coeliac artery begins above the superior mesenteric one and is the shorter."""
    if not {CELIAC, SMA, "aorta"} <= set(scan.regions):
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
)
def aorta_extent(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The aorta reaches from above its upper branches to below the kidneys, in what is in view."""
    if "aorta" not in scan.regions or scan.cut_aside("aorta"):
        return
    low, high = scan.heights_mm("aorta")
    upper = [scan.heights_mm(s)[1] for s in (CELIAC, SMA) if s in scan.regions]
    if upper and high < max(upper) - limits["slack_mm"] and not scan.cut_above("aorta"):
        mm = max(upper) - high
        yield scan.fault(f"the aorta ends {mm:.0f} mm below the top of its branches", "aorta", mm)
    lower = _lower_poles(scan)
    if lower is not None and low > lower + limits["slack_mm"] and not scan.cut_below("aorta"):
        mm = low - lower
        text = f"the aorta ends {mm:.0f} mm above the lower end of the kidneys"
        yield scan.fault(f"{text}, before its bifurcation", "aorta", mm)


def _lower_poles(scan: Scan) -> float | None:
    """Height of the higher of both kidneys' lower ends: the bifurcation lies below it."""
    ends = [
        scan.heights_mm(s)[0]
        for s in ("kidney_left", "kidney_right")
        if s in scan.regions and not scan.cut(s)
    ]
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
    top_share=0.5,
    slack_mm=15,
)
def postcava_extent(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The vena cava reaches from below the kidneys to the liver's upper half."""
    if "postcava" not in scan.regions or scan.cut_aside("postcava"):
        return
    low, high = scan.heights_mm("postcava")
    lower = _lower_poles(scan)
    if lower is not None and low > lower + limits["slack_mm"] and not scan.cut_below("postcava"):
        mm = low - lower
        text = f"the vena cava ends {mm:.0f} mm above the lower end of the kidneys"
        yield scan.fault(text, "postcava", mm)
    if "liver" in scan.regions and not scan.cut("liver") and not scan.cut_above("postcava"):
        bottom, top = scan.heights_mm("liver")
        needed = bottom + limits["top_share"] * (top - bottom)
        if high < needed:
            mm = needed - high
            text = f"the vena cava ends {mm:.0f} mm below the middle of the liver"
            yield scan.fault(f"{text}: it goes on to the heart", "postcava", mm)


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
        yield scan.fault(
            f"the vena cava lies to the left of the aorta in {share:.0%} of slices: names "
            "exchanged, or a left-sided vena cava",
            "postcava",
            share,
            at=scan.at(scan.regions["postcava"].in_slice(k)),
        )


def _middles(scan: Scan, structure: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
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
    spleen_mm=30,
)
def veins_reach(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Portal and splenic vein reach the liver and the spleen."""
    if "veins" not in scan.regions or scan.cut("veins"):
        return
    for organ in ("liver", "spleen"):
        if organ not in scan.regions:
            continue
        distance, at = scan.gap("veins", organ)
        if distance > limits[f"{organ}_mm"]:
            text = f"portal and splenic vein end {distance:.0f} mm from the {organ}"
            yield scan.fault(text, "veins", distance, at=at)


@rule(
    "veins-broken",
    WARNING,
    Scope.ANATOMY,
    reason="From the spleen to the liver runs one vessel: where it breaks off, a part is missing.",
    standard="Splenic vein to its confluence with the superior mesenteric vein; portal vein from "
    "there to the liver.",
    share=0.1,
    distance_mm=5,
)
def veins_broken(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Portal and splenic vein are connected, unless a tumour closes them."""
    if "veins" not in scan.regions:
        return
    broken = scan.broken("veins", limits["share"], limits["distance_mm"])
    if broken is not None and not _at_tumour(scan, broken[0], limits["distance_mm"]):
        part, mm = broken
        share = part.voxels / scan.regions["veins"].voxels
        yield scan.fault(
            f"portal and splenic vein are in pieces: {share:.0%} of them lies {mm:.0f} mm from "
            "the rest",
            "veins",
            mm,
            at=scan.inside("veins", part),
        )


def _at_tumour(scan: Scan, part: Part, reach_mm: float) -> bool:
    """Whether a piece of the veins ends at the tumour."""
    if LESION not in scan.regions:
        return False
    i, j, k = (
        slice(a + s.start, a + s.stop)
        for a, s in zip(scan.regions["veins"].start, part.box, strict=True)
    )
    return box_gap_mm((i, j, k), scan.regions[LESION].box, scan.geometry.spacing) <= reach_mm
