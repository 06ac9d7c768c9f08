"""The shape of one mask: strays, pieces, holes, missed and repeated slices."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pantskit.check.border import like_inside
from pantskit.check.findings import Fault, Severity
from pantskit.check.region import Region, box_gap_mm, common
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.organs import KIDNEYS
from pantskit.check.scan import Scan
from pantskit.core.labels import LESION, PANCREAS, STRUCTURES
from pantskit.measure.shape import (
    Part,
    cavities,
    lost_shares,
    repeats,
    ring_holes,
    shared_with_next,
)

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

# Organs of one piece. The others may be seen in several: bowel that is collapsed, ducts and small
# vessels thinner than a voxel, a spleen with accessory ones, tumours, parts of the gland.
ONE_PIECE = (
    "adrenal_gland_left", "adrenal_gland_right", "aorta", "bladder", "duodenum", "femur_left",
    "femur_right", "gall_bladder", "kidney_left", "kidney_right", "liver", "lung_left",
    "lung_right", "pancreas", "postcava", "prostate", "spleen", "stomach",
)  # fmt: skip

# Thin tubes are seen in places, and bowel collapses: their pieces may lie further apart.
_BROKEN = ("pancreatic_duct", "common_bile_duct", "colon", "veins")

_BOWEL = ("stomach", "duodenum", "colon")

_LUNGS = ("lung_left", "lung_right")

# Thick all through: in folds and thin walls a single voxel may be enclosed by chance.
_COMPACT = ("liver", "spleen", "kidney_left", "kidney_right", "aorta", "bladder", "gall_bladder")

# Thick enough to lie over themselves from slice to slice.
_THICK = (
    "aorta", "bladder", "femur_left", "femur_right", "kidney_left", "kidney_right", "liver",
    "lung_left", "lung_right", "prostate", "spleen", "postcava",
)  # fmt: skip
_ROD = ("aorta", "postcava", "femur_left", "femur_right")


@rule(
    "stray",
    WARNING,
    Scope.LABELS,
    reason="A piece far from its organ is a slip of the brush or a model's mistake; `--fix` "
    "removes small ones.",
    standard="Each structure is annotated as itself, without neighbouring organs.",
    distance_mm=20,
    broken_mm=50,
    share=0.1,
)
def stray(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """No small piece of a mask lies away from the rest of it."""
    for structure in _ordered(scan):
        reach = limits["broken_mm" if structure in _BROKEN else "distance_mm"]
        away = strays(scan, structure, limits["share"], reach)
        if not away:
            continue
        voxels = sum(p.voxels for p, _ in away)
        far = max(distance for _, distance in away)
        pieces = "a piece" if len(away) == 1 else f"{len(away)} pieces"
        yield scan.fault(
            f"{pieces} of {structure} with {voxels} voxels in all, up to {far:.0f} mm from the "
            "rest",
            structure,
            voxels,
            at=scan.inside(structure, away[0][0]),
        )


def strays(
    scan: Scan, structure: str, share: float, distance_mm: float
) -> list[tuple[Part, float]]:
    """Pieces below a share of a structure that lie away from all larger ones, with distances."""
    parts = scan.parts(structure)
    if len(parts) < 2:
        return []
    total = scan.regions[structure].voxels
    kept = [p for n, p in enumerate(parts) if n == 0 or p.voxels >= share * total]
    spacing = scan.geometry.spacing
    found = []
    for part in parts:
        if part in kept or scan.cut_part(structure, part):
            continue
        distance = min(box_gap_mm(part.box, other.box, spacing) for other in kept)
        known = distance < distance_mm or _in_gland(scan, structure, part)
        if not known and not _at_tumour(scan, structure, part):
            found.append((part, distance))
        else:
            kept.append(part)  # a chain of pieces leads to it, as of a thin vessel
    return found


def _in_gland(scan: Scan, structure: str, part: Part) -> bool:
    """Whether it is a piece of the pancreatic duct in its gland: thin ones are seen in places."""
    if structure != "pancreatic_duct" or PANCREAS not in scan.regions:
        return False
    here = np.array([part.inside]) + np.array(scan.regions[structure].start)
    return bool(scan.contains(PANCREAS, here)[0])


def _at_tumour(scan: Scan, structure: str, part: Part) -> bool:
    """Whether it is a piece of bowel at a tumour, which may divide what it grows into."""
    if LESION not in scan.regions or structure not in _BOWEL:
        return False
    i, j, k = (
        slice(max(0, a + s.start - 1), a + s.stop + 1)
        for a, s in zip(scan.regions[structure].start, part.box, strict=True)
    )
    box = common((i, j, k), scan.regions[LESION].box)
    return box is not None and bool(scan.regions[LESION].crop(box).any())


@rule(
    "pieces",
    WARNING,
    Scope.LABELS,
    reason="An organ in two large pieces has a gap, or a piece belongs to a neighbour.",
    standard="The whole organ is annotated: entire parenchyma, wall and lumen, entire lumen.",
    share=0.1,
)
def pieces(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """An organ of one piece is not in two large ones."""
    for structure in (s for s in ONE_PIECE if s in scan.regions):
        parts = scan.parts(structure)
        total = scan.regions[structure].voxels
        large = [p for p in parts if p.voxels >= limits["share"] * total]
        outside = [p for p in large if scan.cut_part(structure, p)]
        # Those that leave the view may be joined outside of it.
        large = [*outside[:1], *(p for p in large if p not in outside)]
        divided = len(large) == 2 and all(_at_tumour(scan, structure, p) for p in large)
        if len(large) > 1 and not divided:
            shares = ", ".join(f"{p.voxels / total:.0%}" for p in large)
            yield scan.fault(
                f"{structure} is in {len(large)} large pieces ({shares})",
                structure,
                len(large),
                at=scan.inside(structure, min(large, key=lambda p: p.voxels)),
            )


@rule(
    "hole",
    WARNING,
    Scope.LABELS,
    reason="What a mask encloses belongs to it: a lesion, a stone, a lumen left out.",
    standard="Liver, spleen, kidneys with their lesions and vessels; hollow organs with wall and "
    "lumen; vessels with thrombus and calcification; tumours with necrosis.",
    least_ml=0.05,
    lung_share=0.001,
    cleft_ml=0.3,
    flesh_hu=25,
    blurred_part=0.4,
)
def hole(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """No mask has a cavity of some size."""
    voxel_ml = scan.geometry.voxel_volume_mm3 / 1000
    for structure in _ordered(scan):
        region = scan.regions[structure]
        share = limits["lung_share"] if structure in _LUNGS else 0.0  # vessels leave many
        single = 1 if structure in _COMPACT else 2
        least = max(share * region.voxels, limits["least_ml"] / voxel_ml, single)
        found = [
            part
            for part in cavities(region.array)
            if part.voxels >= least
            and (free := scan.unclaimed(structure, part)).voxels >= least
            and not (structure in KIDNEYS and _may_be_sinus(scan, structure, free, limits))
            and not (
                free.voxels * voxel_ml < limits["cleft_ml"] and _is_cleft(scan, structure, free)
            )
        ]
        if not found:
            continue
        total = sum(p.voxels for p in found)
        yield scan.fault(
            f"{structure} encloses {len(found)} hole{'s' * (len(found) > 1)} of {total} voxels "
            f"({total * voxel_ml:.2g} ml) that no structure has",
            structure,
            total,
            at=scan.inside(structure, found[0]),
        )


def _may_be_sinus(scan: Scan, kidney: str, inside: Region, limits: Limits) -> bool:
    """Whether what a kidney encloses is fat or urine, or nobody knows.

    Thick slices blur the sinus with the parenchyma around, which contrast medium makes bright.
    """
    if scan.ct is None:
        return True
    most = max(limits["flesh_hu"], limits["blurred_part"] * scan.median_hu(kidney))
    return float(scan.ct[inside.box][inside.array].mean()) < most


def _is_cleft(scan: Scan, structure: str, inside: Region) -> bool:
    """Whether something small that is enclosed is fat, or the blurred border of two structures.

    A single voxel unlike the organ is such a border, and so are some that another structure
    touches.
    """
    if scan.ct is None:
        return False
    hu = float(scan.ct[inside.box][inside.array].mean())
    low, high = like_inside(scan, structure)
    unlike = not low <= hu <= high
    return hu < _FAT_HU or (unlike and (inside.voxels == 1 or _touched(scan, structure, inside)))


def _touched(scan: Scan, structure: str, inside: Region) -> bool:
    """Whether a voxel beside a region is of another structure."""
    voxels = np.argwhere(inside.array) + inside.start
    beside = (voxels[:, None] + np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)])).reshape(
        -1, 3
    )
    return any(scan.contains(s, beside).any() for s in scan.regions if s != structure)


_FAT_HU = -20.0


@rule(
    "missed-slice",
    WARNING,
    Scope.LABELS,
    reason="A slice that was skipped, or drawn from another place, while its neighbours agree.",
    share=0.5,
    common=20,
)
def missed_slice(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """No slice lacks what both its neighbours have."""
    for structure in _ordered(scan):
        region = scan.regions[structure]
        shares, common = lost_shares(region.array)
        missed = np.flatnonzero((shares >= limits["share"]) & (common >= limits["common"]))
        if not missed.size:
            continue
        k = int(missed[shares[missed].argmax()])
        where = scan.at(region.in_slice(k - 1))
        slices = "a slice" if missed.size == 1 else f"{missed.size} slices"
        yield scan.fault(
            f"{structure} lacks {shares[k]:.0%} of what both neighbours have, in {slices}",
            structure,
            float(shares[k]),
            at=where,
        )


@rule(
    "jump",
    WARNING,
    Scope.LABELS,
    reason="From one slice to the next the organ is elsewhere: slices were displaced or exchanged.",
    share=0.35,
    area_share=0.25,
    voxels=30,
)
def jump(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Neighbouring slices of a thick organ lie over one another."""
    for structure in (s for s in _THICK if s in scan.regions):
        region = scan.regions[structure]
        if region.array.shape[2] < 3:
            continue
        large = region.areas >= max(limits["voxels"], limits["area_share"] * region.areas.max())
        shares = np.where(large[:-1] & large[1:], shared_with_next(region.array), 1.0)
        k = int(np.nanargmin(shares))
        if shares[k] < limits["share"]:
            yield scan.fault(
                f"two neighbouring slices of {structure} share only {shares[k]:.0%} of the smaller",
                structure,
                float(shares[k]),
                at=scan.at(region.in_slice(k)),
            )


@rule(
    "ring",
    WARNING,
    Scope.LABELS,
    reason="Only the wall was annotated: what it surrounds belongs to the structure.",
    standard="Aorta and vena cava: wall and entire lumen; femurs: cortex and marrow.",
    share=0.1,
    least_mm=15,
    slices=3,
)
def ring(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Vessels and bones are not rings in their axial slices, be it over a part of their length.

    A slice or two may enclose something by chance, as where a femur's neck leaves its shaft.
    """
    for structure in (s for s in _ROD if s in scan.regions):
        region = scan.regions[structure]
        holes = ring_holes(region.array)
        rings = holes > limits["share"] * (region.areas + holes)
        mm = float(rings.sum() * scan.geometry.spacing[2])
        if rings.sum() >= limits["slices"] and mm > limits["least_mm"]:
            yield scan.fault(
                f"{structure} is a ring in {rings.sum()} of its {len(rings)} slices ({mm:.0f} mm), "
                f"around {holes[rings].sum()} voxels",
                structure,
                mm,
                at=scan.at(region.in_slice(int(holes.argmax()))),
            )


@rule(
    "gap",
    WARNING,
    Scope.LABELS,
    reason="A run of empty slices inside an organ was skipped, or the mask is of two things.",
    standard="Aorta, vena cava: the entire lumen from end to end; organs: the entire parenchyma.",
    share=0.01,
)
def gap(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """No organ of one piece has empty slices between filled ones, or a single one but at a tip."""
    for structure in (s for s in ONE_PIECE if s in scan.regions and not scan.cut_aside(s)):
        region = scan.regions[structure]
        filled = np.flatnonzero(region.areas)
        jumps = [
            (a, b)
            for a, b in pairwise(filled.tolist())
            if b - a > 2 or (b - a == 2 and _both_sides(region, a) > limits["share"])
        ]
        if jumps:
            a, b = max(jumps, key=lambda ends: ends[1] - ends[0])
            mm = (b - a - 1) * scan.geometry.spacing[2]
            at = scan.at(region.in_slice(a))
            text = f"{structure} has {b - a - 1} empty slices ({mm:.0f} mm) inside it"
            yield scan.fault(text, structure, mm, at=at)


def _both_sides(region: Region, k: int) -> float:
    """Share of its voxels on the smaller side of a slice, which counts to the lower one."""
    below = float(region.areas[: k + 1].sum() / region.voxels)
    return min(below, 1 - below)


@rule(
    "step-slices",
    WARNING,
    Scope.LABELS,
    reason="The mask was drawn on thicker slices and repeated: its surface is a staircase.",
    share=0.5,
    area=200,
    slices=8,
)
def step_slices(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Slices are not copies of one another."""
    found = []
    for structure in _ordered(scan):
        region = scan.regions[structure]
        if region.array.shape[2] < limits["slices"] or np.median(region.areas) < limits["area"]:
            continue
        share = float(repeats(region.array).mean())
        if share >= limits["share"]:
            found.append((share, structure))
    for share, structure in found:
        yield scan.fault(
            f"{share:.0%} of the slices of {structure} are copies of their neighbour: drawn on "
            "thicker slices",
            structure,
            share,
        )


def _ordered(scan: Scan) -> list[str]:
    return [s for s in STRUCTURES if s in scan.regions]
