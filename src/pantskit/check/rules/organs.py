"""Where organs lie: sides, heights, neighbours; mirrored and swapped scans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from pantskit.check.findings import Fault, Severity
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.labels import twin
from pantskit.check.scan import Scan
from pantskit.core.labels import STRUCTURES

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

KIDNEYS = ("kidney_left", "kidney_right")

# Organs without a twin that lie on one side, and how sure one may be of it.
_RIGHT_OF_MIDDLE = ("liver", "gall_bladder", "postcava", "pancreas_head", "common_bile_duct")
_LEFT_OF_MIDDLE = ("spleen", "stomach", "pancreas_tail", "aorta")


def right_of_middle(scan: Scan) -> dict[str, float]:
    """Structures with a side: mm by which each lies on its proper side of the body's middle.

    The middle is that of the paired organs where both are there, else of aorta and vena cava;
    without either nothing is known. Negative: on the other side.
    """
    middle = _middle(scan)
    if middle is None:
        return {}
    found: dict[str, float] = {}
    for structure in scan.regions:
        side = STRUCTURES[structure].side
        x = float(scan.centre_mm(structure)[0]) - middle
        if side == "right" or structure in _RIGHT_OF_MIDDLE:
            found[structure] = x
        elif side == "left" or structure in _LEFT_OF_MIDDLE:
            found[structure] = -x
    return found


def _middle(scan: Scan) -> float | None:
    pairs = [
        (scan.centre_mm(s)[0] + scan.centre_mm(twin(s))[0]) / 2
        for s in ("femur_left", "kidney_left", "lung_left")
        if all(o in scan.regions and not scan.cut_aside(o) for o in (s, twin(s)))
    ]
    if pairs:
        return float(np.median(pairs))
    vessels = [
        scan.centre_mm(s)[0]
        for s in ("aorta", "postcava")
        if s in scan.regions and not scan.cut_aside(s)
    ]
    return float(np.mean(vessels)) if len(vessels) == 2 else None


def mirrored(scan: Scan) -> bool:
    """Whether all that has a side lies on the other one: three organs or more, none in place.

    Paired organs may be named by their true side: then the single ones tell.
    """
    x = {s: mm for s, mm in right_of_middle(scan).items() if abs(mm) > 5}
    single = {s: mm for s, mm in x.items() if STRUCTURES[s].side is None}
    judged = single if len(single) >= 3 else x
    wrong = [s for s, mm in judged.items() if mm < 0]
    core = [s for s in ("liver", "spleen", "stomach", "gall_bladder") if s in x]
    return bool(len(wrong) >= 3 and len(wrong) > 0.7 * len(judged) and all(x[s] < 0 for s in core))


@rule(
    "mirrored",
    WARNING,
    Scope.ANATOMY,
    reason="A flipped axis makes every left a right; a real situs inversus is one in ten thousand.",
)
def whole_scan_mirrored(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Liver and gall bladder lie on the right, spleen and stomach on the left."""
    if not mirrored(scan):
        return
    wrong = [s for s, mm in right_of_middle(scan).items() if mm < -5]
    paired = any(STRUCTURES[s].side for s in wrong)
    cause = (
        "an axis is flipped (image and labels), or the patient has situs inversus; look at the "
        "heart and at the CT's source"
        if paired
        else "paired organs are on theirs: the patient has situs inversus, or an axis is flipped"
    )
    yield scan.fault(
        f"{', '.join(sorted(wrong)[:6])} lie on the other side: {cause}",
        "liver" if "liver" in scan.regions else wrong[0],
        len(wrong),
    )


@rule(
    "sides",
    ERROR,
    Scope.ANATOMY,
    reason="Swapped names of paired organs teach a network that sides do not matter.",
    standard="Left and right kidneys, adrenal glands, femurs and lungs are told apart.",
    distance_mm=0,
)
def sides(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The left one of a pair lies to the left of the right one.

    Where all that has a side lies on the other one, `mirrored` tells.
    """
    pairs = {left: twin(left) for left in _pairs(scan)}
    gaps = {a: float(scan.centre_mm(b)[0] - scan.centre_mm(a)[0]) for a, b in pairs.items()}
    if mirrored(scan) and all(gap < limits["distance_mm"] for gap in gaps.values()):
        return
    for left, right in pairs.items():
        gap = gaps[left]
        if gap < limits["distance_mm"]:
            text = f"{left} lies {-gap:.0f} mm to the right of {right}: swapped, or mirrored"
            yield scan.fault(text, left, gap, severity=WARNING if mirrored(scan) else None)


def _pairs(scan: Scan) -> list[str]:
    return [s for s in scan.regions if STRUCTURES[s].side == "left" and twin(s) in scan.regions]


@rule(
    "wrong-side",
    WARNING,
    Scope.ANATOMY,
    reason="A single organ on the other side: its name is its twin's, or a model mistook it.",
    distance_mm=25,
)
def wrong_side(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """An organ with a side lies on it, where its twin does not tell already."""
    if mirrored(scan):
        return
    told = {s for left in _pairs(scan) for s in (left, twin(left))}
    off = right_of_middle(scan)
    # Neither goes over the middle by itself.
    exchanged = [s for s in ("liver", "spleen") if off.get(s, 0) < -limits["distance_mm"]]
    for structure, mm in off.items():
        if structure in told or structure in ("aorta", "postcava", "stomach", "pancreas_head"):
            continue
        if mm < -limits["distance_mm"]:
            grave = STRUCTURES[structure].side is not None
            text = f"{structure} lies {-mm:.0f} mm on the other side of the body's middle"
            if structure in exchanged and len(exchanged) == 2:
                grave, text = True, f"{text}, and so does its fellow: liver and spleen exchanged"
            yield scan.fault(text, structure, -mm, severity=ERROR if grave else None)


# (upper, lower, why): centres of mass, far enough apart in everybody.
_ABOVE = (
    ("lung_left", "kidney_left"), ("lung_right", "kidney_right"), ("lung_left", "bladder"),
    ("lung_right", "bladder"), ("liver", "bladder"), ("spleen", "bladder"), ("liver", "prostate"),
    ("kidney_left", "bladder"), ("kidney_right", "bladder"), ("liver", "femur_left"),
    ("liver", "femur_right"), ("kidney_left", "femur_left"), ("kidney_right", "femur_right"),
    ("pancreas", "bladder"), ("aorta", "prostate"), ("stomach", "bladder"),
    ("bladder", "prostate"), ("stomach", "colon"),
)  # fmt: skip
# (in front, behind)
_BEFORE = (
    ("pancreas", "kidney_left"), ("pancreas", "kidney_right"), ("stomach", "kidney_left"),
    ("pancreas", "aorta"), ("veins", "aorta"), ("superior_mesenteric_artery", "aorta"),
    ("duodenum", "kidney_right"), ("pancreas_head", "postcava"), ("liver", "kidney_right"),
    ("gall_bladder", "duodenum"),
)  # fmt: skip
# Their one end lies behind the other: of what is left in view nobody can say how it lies.
_FOLDED = frozenset({"gall_bladder", "duodenum", "stomach"})


@rule(
    "upside-down",
    ERROR,
    Scope.ANATOMY,
    reason="Head and feet, or front and back, are exchanged: the affine or the array is flipped.",
)
def upside_down(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Organs lie above and before one another as they do in everybody."""
    for pairs, axis, words in ((_ABOVE, 2, "above"), (_BEFORE, 1, "in front of")):
        known = [(a, b) for a, b in pairs if a in scan.regions and b in scan.regions]
        wrong = [(a, b) for a, b in known if scan.centre_mm(a)[axis] < scan.centre_mm(b)[axis] - 5]
        if _turned(known, wrong):
            a, b = wrong[0]
            yield scan.fault(
                f"{len(wrong)} of {len(known)} pairs of organs are the wrong way round ({a} is not "
                f"{words} {b}): an axis is flipped",
                a,
                len(wrong),
            )


def _turned(known: Sequence[tuple[str, str]], wrong: Sequence[tuple[str, str]]) -> bool:
    """Whether most pairs are the wrong way round, and not for one structure that is astray."""
    if len(wrong) < 2 or len(wrong) <= 0.6 * len(known):
        return False
    commonest = Counter(s for pair in wrong for s in pair).most_common(1)[0][0]
    return any(commonest not in pair for pair in wrong)


@rule(
    "place",
    WARNING,
    Scope.ANATOMY,
    reason="The mask lies where its organ never is: a wrong name, or a model's mistake.",
    slack_mm=5,
)
def place(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """No organ is below or behind one that it always lies above or before."""
    for pairs, axis, words in ((_ABOVE, 2, "above"), (_BEFORE, 1, "in front of")):
        known = [(a, b) for a, b in pairs if a in scan.regions and b in scan.regions]
        wrong = [
            (a, b)
            for a, b in known
            if scan.centre_mm(a)[axis] < scan.centre_mm(b)[axis] - limits["slack_mm"]
            and not any(s in _FOLDED and scan.cut(s) for s in (a, b))
        ]
        if not wrong or _turned(known, wrong):
            continue  # none, or told by upside-down
        for a, b in wrong[:3]:
            mm = float(scan.centre_mm(b)[axis] - scan.centre_mm(a)[axis])
            yield scan.fault(f"{a} is not {words} {b}, by {mm:.0f} mm", a, mm)


# (structure, neighbour, largest distance in mm): between their nearest voxels.
_NEIGHBOURS = (
    ("gall_bladder", "liver", 15),
    ("adrenal_gland_left", "kidney_left", 40),
    ("adrenal_gland_right", "kidney_right", 40),
    ("adrenal_gland_right", "liver", 25),
    ("duodenum", "pancreas", 15),
    ("stomach", "duodenum", 40),
    ("spleen", "stomach", 60),
    ("postcava", "liver", 15),
    ("common_bile_duct", "pancreas", 20),
    ("lung_right", "liver", 40),
    ("pancreas", "superior_mesenteric_artery", 30),
    ("pancreas", "veins", 15),
)  # fmt: skip


@rule(
    "neighbours",
    WARNING,
    Scope.ANATOMY,
    reason="Organs that always lie together are far apart: one mask is of something else.",
    standard="Pancreatic head within the curve of the duodenum; common bile duct to the ampulla; "
    "gall bladder without liver tissue, at the liver.",
    extra_mm=0,
)
def neighbours(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Organs lie at their neighbours."""
    for a, b, most in _NEIGHBOURS:
        if a not in scan.regions or b not in scan.regions or scan.cut(a):
            continue
        if b == "liver" and STRUCTURES[a].side and mirrored(scan):
            continue  # it lies at the left ones, which may be called so
        distance, at = scan.gap(a, b)
        if distance > most + limits["extra_mm"]:
            text = f"{a} is {distance:.0f} mm from {b}; expected at most {most} mm"
            yield scan.fault(text, a, distance, at=at)


@rule(
    "adrenal-height",
    WARNING,
    Scope.ANATOMY,
    reason="Adrenal glands cap the kidneys: lower, the mask is of a vessel or of bowel.",
    standard="Left and right adrenal glands: the entire gland.",
    slack_mm=10,
)
def adrenal_height(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """An adrenal gland lies above the middle of its kidney, unless the scan is upside down."""
    if next(upside_down(scan), None):
        return
    for side in ("left", "right"):
        gland, kidney = f"adrenal_gland_{side}", f"kidney_{side}"
        if gland not in scan.regions or kidney not in scan.regions or scan.cut(kidney):
            continue
        mm = float(scan.centre_mm(kidney)[2] - scan.centre_mm(gland)[2])
        if mm > limits["slack_mm"]:
            text = (
                f"{gland} lies {mm:.0f} mm below the middle of {kidney} (a low gland, or a kidney"
            )
            yield scan.fault(f"{text} that is out of place?)", gland, mm)


@rule(
    "kidney-sizes",
    INFO,
    Scope.ANATOMY,
    reason="One kidney much smaller than the other is shrunken, or annotated in part.",
    ratio=1.8,
)
def kidney_sizes(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Kidneys that are wholly in view have like volumes."""
    if any(s not in scan.regions or scan.cut(s) for s in KIDNEYS):
        return
    small, large = sorted(KIDNEYS, key=scan.ml)
    ratio = scan.ml(large) / scan.ml(small)
    if ratio > limits["ratio"]:
        text = f"{small} has {scan.ml(small):.0f} ml, {large} {scan.ml(large):.0f} ml"
        yield scan.fault(text, small, ratio)


@rule(
    "stretched",
    WARNING,
    Scope.ANATOMY,
    reason="Kidneys as long as no kidney is, for their section: the slices' distance is wrong, or "
    "slices were dropped or repeated. Sections and volumes alone may still be plausible.",
    longest=2.95,
    shortest=1.6,
)
def stretched(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Kidneys are 1.6 to 2.95 times as high as wide; told where both are higher, or both lower.

    They are 9 to 13 cm long and 4 to 6 cm across; wide is the square's side of the same area.
    """
    if any(s not in scan.regions or scan.cut(s) for s in KIDNEYS):
        return
    small, large = sorted(_slenderness(scan, s) for s in KIDNEYS)
    mm = f"slices of {scan.geometry.spacing[2]:.3g} mm"
    if small > limits["longest"]:
        text = f"both kidneys are {small:.1f} times as high as wide, or more"
        yield scan.fault(f"{text}: {mm} are too far apart?", KIDNEYS[0], small)
    if large < limits["shortest"]:
        text = f"both kidneys are {large:.1f} times as high as wide, or less"
        yield scan.fault(f"{text}: {mm} are too near?", KIDNEYS[0], large)


def _slenderness(scan: Scan, structure: str) -> float:
    """Height over the side of the square that is as large as its larger sections."""
    i, j, _ = scan.geometry.spacing
    low, high = scan.heights_mm(structure)
    # The largest section of all may be that of a cyst; the median one lacks the sinus.
    section = float(np.percentile(scan.regions[structure].areas, 80)) * i * j
    return (high - low) / float(np.sqrt(section))
