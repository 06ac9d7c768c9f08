"""The pancreas: its parts by the vessels, its tumour, the bile duct."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pantskit.check.ends import UP, end_gap
from pantskit.check.findings import Fault, Severity, Voxel
from pantskit.check.region import Region
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.organs import mirrored
from pantskit.check.scan import Scan
from pantskit.core.labels import LESION, PANCREAS, PANCREAS_PARTS, STRUCTURES

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

HEAD, BODY, TAIL = PANCREAS_PARTS
SMA = "superior_mesenteric_artery"
DUCT = "pancreatic_duct"


@rule(
    "pancreas-parts",
    WARNING,
    Scope.LABELS,
    reason="The whole pancreas and its parts were edited apart; scores of both disagree then.",
    standard="Head, body and tail: the parenchyma divided into three regions, the entire gland.",
    share=0.02,
    voxels=10,
    among=0.1,
)
def pancreas_parts(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Head, body and tail, with duct and tumour, are the pancreas, no more and no less.

    Where some of a tumour or duct is drawn as part of head, body or tail, as in the release, all
    of it is: then it fills no gap between them. Read from one label map, the parts have neither.
    """
    if PANCREAS not in scan.regions or not any(p in scan.annotated for p in PANCREAS_PARTS):
        return
    parts, members = scan.union(PANCREAS_PARTS), scan.union(STRUCTURES[PANCREAS].members)
    filling = [m for m in (LESION, DUCT) if not _among_parts(scan, parts, m, limits["among"])]
    claimed = scan.union([*PANCREAS_PARTS, *filling])
    whole = scan.regions[PANCREAS].voxels
    both = scan.count_inside(claimed, PANCREAS) if claimed is not None else 0
    beyond = parts.voxels - scan.count_inside(parts, PANCREAS) if parts is not None else 0
    total = max(whole, members.voxels if members is not None else 0)
    for odd, text in (
        (whole - both, "of the pancreas is in none of its parts"),
        (beyond, "of the parts of the pancreas lies outside of it"),
    ):
        share = odd / total
        if share > limits["share"] and odd > limits["voxels"]:
            severity = ERROR if both < 0.05 * whole else None
            yield scan.fault(f"{share:.1%} {text}", PANCREAS, share, severity=severity)


def _among_parts(scan: Scan, parts: Region | None, structure: str, least: float) -> bool:
    """Whether head, body and tail have some of what a structure has in the gland."""
    if parts is None or structure not in scan.regions:
        return False
    return scan.count_inside(parts, structure) > least * scan.overlap(structure, PANCREAS)


@rule(
    "parts-order",
    ERROR,
    Scope.ANATOMY,
    reason="Head and tail exchanged turn every statement on the tumour's place around.",
    standard="Head to the right of the vessels, body up to the aorta's left edge, tail beyond.",
)
def parts_order(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """From right to left come head, body and tail."""
    x = {p: float(scan.centre_mm(p)[0]) for p in PANCREAS_PARTS if p in scan.regions}
    sign = -1 if mirrored(scan) else 1
    for first, second in ((HEAD, BODY), (BODY, TAIL), (HEAD, TAIL)):
        if first in x and second in x and sign * (x[first] - x[second]) < 0:
            mm = abs(x[first] - x[second])
            text = f"{first} lies {mm:.0f} mm to the left of {second}: names exchanged?"
            # A body that winds may lie beside the head; names exchanged show by far more.
            severity = None if mm > 10 else WARNING
            yield scan.fault(text, first, mm, severity=severity)
            return


@rule(
    "parts-borders",
    WARNING,
    Scope.ANATOMY,
    reason="A part reaches far over its border: the standard draws it at the vessels.",
    standard="Head right of the superior mesenteric vessels; body from their left border to the "
    "left edge of the aorta; tail beyond, toward the spleen.",
    band_mm=10,
    reach_mm=15,
    share=0.1,
)
def parts_borders(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Few voxels of a part lie beyond its borders by more than the band."""
    if not {HEAD, SMA, "aorta"} <= set(scan.regions) or mirrored(scan):
        return  # after a resection, or with organs on the other side, the borders mean nothing
    (right_most, vessels), (edge_right, edge) = (
        _ends(scan, s, limits["reach_mm"]) for s in (SMA, "aorta")
    )
    band = limits["band_mm"]
    for part in (p for p in PANCREAS_PARTS if p in scan.regions):
        x, k = scan.columns(part)
        if part == HEAD:
            wrong = x < vessels[k] - band
        elif part == BODY:
            wrong = (x > right_most[k] + band) | (x < edge[k] - band)
        else:
            wrong = x > edge_right[k] + band
        share = float(wrong.mean())
        if share > limits["share"]:
            left = float((x < edge[k] - band).mean())
            border = {
                HEAD: "the mesenteric vessels",
                BODY: "the aorta's left edge" if left > share / 2 else "the mesenteric vessels",
                TAIL: "the aorta's left edge",
            }
            yield scan.fault(
                f"{share:.0%} of {part} lies more than {band:g} mm beyond its border at "
                f"{border[part]}",
                part,
                share,
                at=_at_worst(scan, part, k[wrong]),
            )


def _ends(
    scan: Scan, structure: str, reach_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right-most and left-most of a structure's left edges within a reach above and below.

    The artery leaves the aorta far to the left of where it runs beside its vein.
    """
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    edges = left_edges(scan, structure)
    size = 2 * max(1, round(reach_mm / scan.geometry.spacing[2])) + 1
    return maximum_filter1d(edges, size), minimum_filter1d(edges, size)


def left_edges(scan: Scan, structure: str) -> NDArray[np.float64]:
    """(k,) RAS+ mm (x) of a structure's left edge in each axial slice; gaps interpolated."""
    x, k = scan.columns(structure)
    edges = np.full(scan.geometry.shape[2], np.inf)
    np.minimum.at(edges, k, x)
    known = np.flatnonzero(np.isfinite(edges))
    filled: NDArray[np.float64] = np.interp(np.arange(edges.size), known, edges[known])
    return filled


def _at_worst(scan: Scan, part: str, slices: NDArray[np.int64]) -> Voxel:
    k = int(np.bincount(slices).argmax())
    region = scan.regions[part]
    return scan.at(region.in_slice(k - region.start[2]))


@rule(
    "parts-apart",
    WARNING,
    Scope.ANATOMY,
    reason="Head, body and tail follow one another; a gap between them is gland left out.",
    standard="The entire gland's parenchyma, divided into three regions.",
    distance_mm=8,
)
def parts_apart(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Head touches body, body touches tail, with the tumour between them at most."""
    for a, b in ((HEAD, BODY), (BODY, TAIL)):
        if a not in scan.regions or b not in scan.regions:
            continue
        if scan.cut(a) and scan.cut(b):
            continue  # they may meet outside of the view
        distance, at = scan.gap(a, b)
        bridged = LESION in scan.regions and max(scan.gap(a, LESION)[0], scan.gap(b, LESION)[0])
        if distance > limits["distance_mm"] and (bridged is False or bridged > 3):
            yield scan.fault(f"{a} and {b} are {distance:.0f} mm apart", a, distance, at=at)


@rule(
    "parts-missing",
    WARNING,
    Scope.ANATOMY,
    reason="A part left out, or taken out by an operation: then the rules on parts mean little.",
    standard="Head, body and tail are annotated each.",
)
def parts_missing(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A gland that is wholly in view has all three parts."""
    there = [p for p in PANCREAS_PARTS if p in scan.regions]
    if not there or PANCREAS not in scan.regions or scan.cut(PANCREAS):
        return
    causes = {HEAD: "a Whipple operation", TAIL: "a left resection", BODY: "a central resection"}
    for part in PANCREAS_PARTS:
        if part in scan.empty:
            text = f"{part} is empty, the gland is not: forgotten, or {causes[part]}?"
            yield scan.fault(text, PANCREAS, 0)


@rule(
    "lesion-outside",
    WARNING,
    Scope.ANATOMY,
    reason="A pancreatic tumour lies in or at the pancreas; elsewhere it is another organ's.",
    standard="Pancreatic tumours within the pancreas, without adjacent organs.",
    share=0.2,
    distance_mm=10,
)
def lesion_outside(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A tumour, and each part of it, is in or at the pancreas."""
    if LESION not in scan.regions or PANCREAS not in scan.regions:
        return
    region, inside = scan.regions[LESION], scan.overlap(PANCREAS, LESION)
    outside = 1 - inside / region.voxels
    distance, _ = scan.gap(LESION, PANCREAS)
    if inside == 0 and distance > limits["distance_mm"]:
        text = f"tumour lies {distance:.0f} mm from the pancreas"
        yield scan.fault(text, LESION, distance, severity=ERROR)
    elif inside == 0:
        text = "tumour does not overlap the pancreas mask"
        yield scan.fault(text, LESION, outside, severity=ERROR)
    elif outside > limits["share"]:
        text = f"{outside:.0%} of the tumour lies outside the pancreas mask"
        yield scan.fault(text, LESION, outside)
    elif len(scan.parts(LESION)) > 1:
        for part, mm in scan.parts_away(LESION, PANCREAS, limits["distance_mm"])[:3]:
            text = f"a part of the tumour ({part.voxels} voxels) lies {mm:.0f} mm from the pancreas"
            yield scan.fault(text, LESION, mm, at=scan.inside(LESION, part))


@rule(
    "bile-duct-extent",
    WARNING,
    Scope.ANATOMY,
    reason="A bile duct that stops early was annotated in part, or is removed.",
    standard="Common bile duct: from the confluence of the hepatic ducts to the ampulla of Vater.",
    liver_mm=25,
    ampulla_mm=15,
    above_mm=4.5,
    low_share=0.62,
    low_mm=35,
    tumour_mm=10,
    portal_mm=30,
)
def bile_duct_extent(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The bile duct comes from the liver, above the pancreas, and ends at the duodenum.

    Above the head it has some centimetres to go to the liver. The papilla lies at half the height
    of the head or lower; a tumour may close the duct above. The hepatic ducts join where the
    portal vein enters the liver, in front of it: a mask of the vein that goes on into its branches
    ends up to 30 mm above.
    """
    duct = "common_bile_duct"
    if duct not in scan.regions or scan.cut(duct):
        return
    for other, most in (("liver", limits["liver_mm"]), ("duodenum", limits["ampulla_mm"])):
        if other in scan.regions and scan.gap(duct, other)[0] > most:
            mm, at = scan.gap(duct, other)
            yield scan.fault(f"{duct} ends {mm:.0f} mm from {other}", duct, mm, at=at)
    yield from _short_above(scan, duct, limits)
    if HEAD in scan.regions and not scan.cut(HEAD):
        yield from _short_below(scan, duct, limits)


def _short_above(scan: Scan, duct: str, limits: Limits) -> Iterator[Fault]:
    """A duct that ends at the top of the head, or below the upper end of the portal vein."""
    high, text = scan.heights_mm(duct)[1], ""
    mm = _below_hilum_mm(scan, duct)
    if HEAD in scan.regions and not scan.cut(HEAD):
        below = scan.heights_mm(HEAD)[1] - high
        if below > -limits["above_mm"]:
            where = f"{below:.0f} mm below" if below > 0 else f"{-below:.0f} mm above"
            mm, text = below, f"{where} the top of the head of the pancreas"
    if not text and mm > limits["portal_mm"]:
        text = f"{mm:.0f} mm below the upper end of the portal vein beside it"
    if text:
        yield scan.fault(f"{duct} ends {text}: before the liver", duct, mm)


def _short_below(scan: Scan, duct: str, limits: Limits) -> Iterator[Fault]:
    """A duct that ends above the head of the pancreas, or high up in it."""
    low, (bottom, top) = scan.heights_mm(duct)[0], scan.heights_mm(HEAD)
    if low > top:
        mm = low - top
        yield scan.fault(f"{duct} ends {mm:.0f} mm above the head of the pancreas", duct, mm)
        return
    above = low - bottom
    high_up = above > max(limits["low_mm"], limits["low_share"] * (top - bottom))
    if high_up and not _at_tumour(scan, duct, limits["tumour_mm"]):
        text = f"{duct} ends {above:.0f} mm above the lower end of the head ({top - bottom:.0f} mm"
        at = scan.at(scan.regions[duct].in_slice(0))
        yield scan.fault(f"{text} high): before the papilla", duct, above, at=at)


def _below_hilum_mm(scan: Scan, duct: str, *, beside_mm: float = 25) -> float:
    """How far the portal vein beside a duct's upper end goes on above it; 0 where it is not seen.

    The splenic vein, in the same mask, may be higher elsewhere.
    """
    if "veins" not in scan.regions or scan.cut("veins"):
        return 0.0
    spacing = np.array(scan.geometry.spacing)
    ducts, veins = (scan.surface(s) * spacing for s in (duct, "veins"))
    top = ducts[:, UP].max()
    end = ducts[ducts[:, UP] == top].mean(axis=0)
    beside = np.hypot(*(veins - end)[:, :UP].T) <= beside_mm
    return float(veins[beside, UP].max() - top) if beside.any() else 0.0


def _at_tumour(scan: Scan, duct: str, most_mm: float) -> bool:
    """Whether a duct's lower end is at a tumour, which closes it."""
    if LESION not in scan.regions:
        return False
    return end_gap(scan, duct, LESION, axis=UP, last=False, slab_mm=5)[0] <= most_mm
