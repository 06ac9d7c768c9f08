"""The pancreatic duct: in the gland, from the tail to the ampulla, without a gap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pantskit.check.breaks import in_words, open_breaks, section_mm2, tumour_unplaced
from pantskit.check.course import Course, course_of_gland, without
from pantskit.check.depth import deeper_elsewhere
from pantskit.check.findings import Fault, Severity
from pantskit.check.region import Region
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.organs import mirrored
from pantskit.check.scan import Scan
from pantskit.core.labels import LESION, PANCREAS

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

DUCT = "pancreatic_duct"


@rule(
    "duct-outside",
    WARNING,
    Scope.ANATOMY,
    reason="The pancreatic duct runs in the gland; outside it is a vessel or bowel, or the mask "
    "was moved.",
    standard="Pancreatic duct: a tube within the pancreas, from the tail to the ampulla.",
    share=0.15,
    grown_mm=0,
    some_share=0.03,
    most_share=0.95,
    deeper_mm=1.75,
    deep_mm=5,
    long_mm=40,
)
def duct_outside(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The duct lies in the gland, or beside it by a voxel, where it was left out of the mask.

    A mask that is out of its place as a whole may stay in a thick gland for the most part. Then
    some of it is outside, and moved back all of it would lie deeper, up to half the thickness
    of a thin gland; a duct that runs near the border on one side and on another would not. Short
    pieces say nothing of that, nor a gland whose mask leaves the duct out.
    """
    if DUCT not in scan.regions or PANCREAS not in scan.regions:
        return
    duct = scan.regions[DUCT]
    local = np.argwhere(duct.array)
    inside = scan.contains(PANCREAS, local + duct.start)
    if inside.all():
        return
    beyond = duct.array.copy(order="F")
    beyond[tuple(local[inside].T)] = False
    at = scan.at(Region(beyond, duct.start).widest)
    share = scan.share_away(DUCT, PANCREAS, limits["grown_mm"])
    if share > limits["share"]:
        text = f"{share:.0%} of the pancreatic duct lies outside the gland"
        yield scan.fault(text, DUCT, share, at=at)
        return
    share = 1 - float(inside.mean())
    length = float(np.linalg.norm(np.ptp(local, axis=0) * scan.geometry.spacing))
    if limits["some_share"] < share < limits["most_share"] and length > limits["long_mm"]:
        gain = deeper_elsewhere(
            scan, local + duct.start, scan.regions[PANCREAS], deep_mm=limits["deep_mm"]
        )
        if gain > limits["deeper_mm"]:
            text = f"{share:.0%} of the pancreatic duct lies outside the gland, and moved as a"
            text = f"{text} whole it would lie {gain:.1f} mm deeper: the mask is out of place"
            yield scan.fault(text, DUCT, share, at=at)


@rule(
    "duct-extent",
    WARNING,
    Scope.ANATOMY,
    reason="A duct that is wide enough to be seen goes on to both ends of the gland; a thin one "
    "is seen in places only, and leaves a remark.",
    standard="Pancreatic duct: from the tail to the ampulla of Vater.",
    missing_mm=35,
    papilla_mm=10,
    wide_mm=3.5,
)
def duct_extent(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The duct comes near to the tip of the tail, and in the head to the papilla.

    What a tumour takes is not missing. Below a tumour it may be collapsed: a remark.
    """
    course = _course(scan)
    if course is None or scan.cut(PANCREAS):
        return
    (voxels, duct), tumour = course.voxels_of(scan, DUCT), _tumour(scan, course)
    if not len(duct):
        return
    first, last = float(duct[0]), float(duct[-1])
    closed = tumour is not None and tumour[0] - 15 < last < tumour[1] + 15
    arrived = _at_papilla(scan, voxels[duct > last - 10], limits["papilla_mm"])
    for missing, end in (
        (without(0.0, first, tumour), "tail"),
        (0.0 if arrived else without(last, course.length_mm, tumour), "head"),
    ):
        if missing > limits["missing_mm"]:
            of_gland = "tip of the tail" if end == "tail" else "end of the head"
            text = f"the pancreatic duct ends {missing:.0f} mm before the {of_gland}"
            place, n = (first, 0) if end == "tail" else (last, -1)
            wide = _section(scan, duct, place) > _wide_mm2(scan, limits)
            i, j, k = voxels[n].tolist()
            severity = INFO if not wide or (closed and end == "head") else None
            yield scan.fault(text, DUCT, missing, severity=severity, at=scan.at((i, j, k)))


def _at_papilla(scan: Scan, voxels: NDArray[np.int64], most_mm: float) -> bool:
    """Whether some voxels lie at the duodenum or at the bile duct, which ends beside the duct.

    The head reaches further down than its papilla, and the way through it with it.
    """
    from scipy.spatial import cKDTree

    reach = most_mm + max(scan.geometry.spacing)
    points = scan.geometry.to_world(voxels)
    return any(
        bool((cKDTree(scan.points(s)).query(points)[0] <= reach).any())
        for s in ("duodenum", "common_bile_duct")
        if s in scan.regions
    )


@rule(
    "duct-broken",
    WARNING,
    Scope.ANATOMY,
    reason="Where the duct is seen on both sides it runs between them: a piece was left out, or "
    "a tumour that nobody annotated closes it.",
    standard="Pancreatic duct: from the tail to the ampulla of Vater, lumen and wall.",
    gap_mm=12,
    voxels=0.5,
    piece_share=0.05,
    tumour_mm=3,
    wide_mm=3.5,
)
def duct_broken(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Between its two ends the duct has no gap but at a tumour.

    Of a duct too thin to be seen all the way a gap is a remark; so it is where the metadata
    tell of a tumour that has no mask: it may lie there.
    """
    if DUCT not in scan.regions:
        return
    least = limits["gap_mm"] + limits["voxels"] * max(scan.geometry.spacing)
    gaps = open_breaks(
        scan, DUCT, least_mm=least, share=limits["piece_share"], tumour_mm=limits["tumour_mm"]
    )
    if not gaps:
        return
    widest, missing = gaps[0]
    unplaced = tumour_unplaced(scan)
    wide = section_mm2(scan, DUCT, widest) > _wide_mm2(scan, limits)
    text = f"the pancreatic duct has {in_words(gaps)}"
    yield scan.fault(
        f"{text}: at the tumour that has no mask?" if unplaced else text,
        DUCT,
        missing,
        severity=None if wide and not unplaced else INFO,
        at=scan.at(widest.at),
    )


def _wide_mm2(scan: Scan, limits: Limits) -> float:
    """Section from which a duct is wide: over 3 mm, the upper bound of a normal one.

    A thin one is drawn some voxels wide, so that voxels set the least width.
    """
    widths = [max(limits["wide_mm"], 1.3 * mm) for mm in sorted(scan.geometry.spacing)[1:]]
    return float(np.pi / 4 * widths[0] * widths[1])


def _course(scan: Scan) -> Course | None:
    if DUCT not in scan.regions or PANCREAS not in scan.regions:
        return None
    return scan.once("course", lambda: course_of_gland(scan, tail_is_right=mirrored(scan)))


def _tumour(scan: Scan, course: Course) -> tuple[float, float] | None:
    """Where along the gland the tumour begins and ends."""
    if LESION not in scan.regions:
        return None
    places = course.of(scan, LESION)
    return (float(places[0]), float(places[-1])) if len(places) else None


def _section(scan: Scan, duct: NDArray[np.float32], place: float) -> float:
    """Mean section of the duct in mm2 within 30 mm of a place, over the stretches that show it."""
    step, near = 6.0, duct[np.abs(duct - place) <= 30]
    length = step * len(np.unique(np.floor(near / step)))
    return len(near) * scan.geometry.voxel_volume_mm3 / length if length else 0.0
