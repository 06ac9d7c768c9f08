"""The pancreatic duct: in the gland, from the tail to the ampulla, without a gap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pantskit.check.course import Course, course_of_gland, widest_gap, without
from pantskit.check.findings import Fault, Severity, Voxel
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
    reason="The pancreatic duct runs in the gland; outside it is a vessel or bowel.",
    standard="Pancreatic duct: a tube within the pancreas, from the tail to the ampulla.",
    share=0.2,
    grown_mm=3,
)
def duct_outside(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Most of the duct lies in the gland or within a few mm of it."""
    if DUCT not in scan.regions or PANCREAS not in scan.regions:
        return
    share = scan.share_away(DUCT, PANCREAS, limits["grown_mm"])
    if share > limits["share"]:
        text = f"{share:.0%} of the pancreatic duct lies outside the gland"
        yield scan.fault(text, DUCT, share)


@rule(
    "duct-extent",
    WARNING,
    Scope.ANATOMY,
    reason="A duct that is wide enough to be seen goes on to both ends of the gland; a thin one "
    "is seen in places only, and leaves a remark.",
    standard="Pancreatic duct: from the tail to the ampulla of Vater.",
    missing_mm=35,
    wide_mm2=10,
)
def duct_extent(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The duct comes near to both ends of the gland; what lies behind a tumour may be closed."""
    course = _course(scan)
    if course is None:
        return
    duct, tumour = course.of(scan, DUCT), _tumour(scan, course)
    if not len(duct):
        return
    first, last = float(duct[0]), float(duct[-1])
    closed = tumour is not None and tumour[0] - 15 < last < tumour[1] + 15
    for missing, end in (
        (without(0.0, first, tumour), "tail"),
        (0.0 if closed else without(last, course.length_mm, tumour), "head"),
    ):
        if missing > limits["missing_mm"] and not scan.cut(PANCREAS):
            text = f"the pancreatic duct ends {missing:.0f} mm before the end of the {end}"
            place = first if end == "tail" else last
            wide = _section(scan, duct, place) > limits["wide_mm2"]
            severity, at = None if wide else INFO, _at(scan, course, place)
            yield scan.fault(text, DUCT, missing, severity=severity, at=at)


@rule(
    "duct-broken",
    WARNING,
    Scope.ANATOMY,
    reason="Where the duct is seen on both sides it runs between them: a piece was left out.",
    standard="Pancreatic duct: from the tail to the ampulla of Vater, lumen and wall.",
    gap_mm=12,
    voxels=2.5,
    piece_share=0.1,
    wide_mm2=10,
)
def duct_broken(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Along the gland the duct has no gap but at a tumour; some voxels' length is none.

    Small pieces of a thin duct far from one another are a remark.
    """
    course = _course(scan)
    if course is None:
        return
    duct = course.of(scan, DUCT)
    start, end = widest_gap(duct)
    least = limits["gap_mm"] + limits["voxels"] * max(scan.geometry.spacing)
    missing = without(start, end, _tumour(scan, course))
    below = float((duct <= start).mean()) if len(duct) else 0.0
    if missing > least and min(below, 1 - below) > limits["piece_share"]:
        wide = min(_section(scan, duct, start), _section(scan, duct, end)) > limits["wide_mm2"]
        severity = None if wide else INFO
        text = f"the pancreatic duct has a gap of {missing:.0f} mm along the gland"
        yield scan.fault(text, DUCT, missing, severity=severity, at=_at(scan, course, start))


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


def _at(scan: Scan, course: Course, place: float) -> Voxel:
    """The voxel of the duct that lies nearest to a place."""
    region, gland = scan.regions[DUCT], scan.regions[PANCREAS]
    voxels = np.argwhere(region.array) + region.start
    local = voxels - np.array(gland.start)
    there = ((local >= 0) & (local < course.places.shape)).all(axis=1)
    off = np.abs(course.places[tuple(local[there].T)] - place)
    i, j, k = voxels[there][int(np.nanargmin(off))].tolist()
    return scan.at((i, j, k))
