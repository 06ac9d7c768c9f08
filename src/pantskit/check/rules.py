"""Rules over the masks of one case: pure functions from arrays to findings.

A rule sees a `Labelled` case and yields what it finds; it never raises for bad content.
Bounds that are judgement, not arithmetic, are constants here with their reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Finding, Severity
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, PANCREAS, STRUCTURES, Mask
from pantskit.measure.boxes import Box, union_box

# Neighbours share a voxel layer where readers and models disagree; beyond this share of the
# smaller structure one of two masks is wrong.
OVERLAP_SHARE = 0.02
OVERLAP_VOXELS = 10

# Of a tumour's voxels, how many may lie outside the pancreas mask: exophytic tumours bulge.
LESION_OUTSIDE_SHARE = 0.5

# Released lesions of under 50 voxels, the smallest of 4, were reported as slips of the pen.
LESION_VOXELS = 50

# DSC of the pancreas with the union of its parts: the real release has 0.990 to 0.996.
PARTS_DSC = 0.95

# Arterial phase and excretion lift some structures above both ranges in the table.
_HU_HIGH = {
    "aorta": 500,
    "celiac_artery": 500,
    "superior_mesenteric_artery": 500,
    "kidney_left": 300,
    "kidney_right": 300,
    "bladder": 1000,
}

# Solid tissue that reads like fat or air: the label does not belong to this CT.
_HU_IMPOSSIBLE = -50.0
_SOLID = ("liver", "spleen", "kidney_left", "kidney_right", "pancreas", "aorta")


@dataclass(frozen=True)
class Labelled:
    """One case in memory.

    Attributes:
        case_id: the case.
        geometry: grid of the masks.
        masks: annotated structures; (i, j, k) bool, empty ones included.
        ct: (i, j, k) HU on the same grid, or None where there is no CT.
        metadata: the case's metadata row.
    """

    case_id: str
    geometry: Geometry
    masks: Mapping[str, Mask]
    ct: NDArray[Any] | None
    metadata: Mapping[str, Any]

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """Bounding box of each structure that is not empty."""
        boxes = {s: union_box(mask) for s, mask in self.masks.items()}
        return {s: box for s, box in boxes.items() if box is not None}

    @cached_property
    def present(self) -> tuple[str, ...]:
        """Annotated structures that are not empty."""
        return tuple(self.boxes)

    @cached_property
    def voxels(self) -> dict[str, int]:
        """Size of each mask."""
        return {
            s: int(np.count_nonzero(mask[self.boxes[s]])) if s in self.boxes else 0
            for s, mask in self.masks.items()
        }

    @cached_property
    def shared(self) -> dict[tuple[str, str], int]:
        """Voxels in both masks of each pair of present structures that overlap."""
        counted = {}
        for a, b in combinations(self.present, 2):
            box = _common(self.boxes[a], self.boxes[b])
            shared = np.count_nonzero(self.masks[a][box] & self.masks[b][box]) if box else 0
            if shared:
                counted[a, b] = int(shared)
        return counted

    @cached_property
    def centres(self) -> dict[str, NDArray[np.float64]]:
        """(3,) RAS+ mm of the centre of mass of each present structure."""
        found = {}
        for s, box in self.boxes.items():
            start = [part.start for part in box]
            ijk = np.argwhere(self.masks[s][box]).mean(axis=0) + start
            found[s] = self.geometry.to_world(ijk)
        return found

    def cut_by_view(self, structure: str) -> bool:
        """Whether the structure touches the edge of the volume."""
        box = self.boxes[structure]
        return any(
            part.start == 0 or part.stop == n
            for part, n in zip(box, self.geometry.shape, strict=True)
        )

    def finding(
        self, rule: str, severity: Severity, message: str, structure: str = "", value: Any = None
    ) -> Finding:
        """A finding of this case."""
        number = None if value is None else float(value)
        return Finding(self.case_id, rule, severity, message, structure, number)


def empty_structures(case: Labelled) -> Iterator[Finding]:
    """Annotated and empty: normal for a tumour, worth a look for an organ in view."""
    female = case.metadata.get("sex") == "F"
    if female and "prostate" in case.present:
        text = "metadata says female, the prostate mask is not empty"
        yield case.finding("sex", Severity.WARNING, text, "prostate", case.voxels["prostate"])
    expected = {LESION, *(("prostate",) if female else ())}
    for structure in case.masks:
        if not case.voxels[structure] and structure not in expected:
            text = f"{STRUCTURES[structure].title} is annotated and empty (removed or out of view?)"
            yield case.finding("empty", Severity.INFO, text, structure, 0)


def tumour_flag(case: Labelled) -> Iterator[Finding]:
    """The metadata's tumour flag and the mask must agree."""
    flag = case.metadata.get("lesions")
    if flag is None or LESION not in case.masks:
        return
    voxels = case.voxels[LESION]
    if int(flag) > 0 and not voxels:
        text = f"metadata counts {int(flag)} tumours, the mask is empty"
        yield case.finding("tumour-flag", Severity.ERROR, text, LESION, 0)
    if int(flag) == 0 and voxels:
        text = f"metadata says no tumour, the mask has {voxels} voxels"
        yield case.finding("tumour-flag", Severity.ERROR, text, LESION, voxels)


def lesion_place(case: Labelled) -> Iterator[Finding]:
    """A pancreatic tumour is larger than a slip of the pen and in or at the pancreas."""
    if LESION not in case.present:
        return
    voxels = case.voxels[LESION]
    if voxels < LESION_VOXELS:
        text = f"tumour of {voxels} voxels; fewer than {LESION_VOXELS} is often a slip"
        yield case.finding("lesion-small", Severity.WARNING, text, LESION, voxels)
    if PANCREAS not in case.masks:
        return
    inside = case.shared.get((PANCREAS, LESION), 0)
    outside = 1 - inside / voxels
    if inside == 0:
        text = "tumour does not touch the pancreas mask"
        yield case.finding("lesion-outside", Severity.ERROR, text, LESION, outside)
    elif outside > LESION_OUTSIDE_SHARE:
        text = f"{outside:.0%} of the tumour lies outside the pancreas mask"
        yield case.finding("lesion-outside", Severity.WARNING, text, LESION, outside)


def overlaps(case: Labelled) -> Iterator[Finding]:
    """Two structures that are not part of one another share no more than a border."""
    for (a, b), shared in sorted(case.shared.items()):
        if _may_share(a, b) or _told_of_whole(a, b, case.shared):
            continue
        share = shared / min(case.voxels[a], case.voxels[b])
        if shared > OVERLAP_VOXELS and share > OVERLAP_SHARE:
            twins = _twin(a) == b
            text = f"{a} and {b} share {shared} voxels ({share:.1%} of the smaller)"
            severity = Severity.ERROR if twins else Severity.WARNING
            yield case.finding("overlap", severity, text, a, shared)


def sides(case: Labelled) -> Iterator[Finding]:
    """The left one of a pair lies to the left of the right one (less x in RAS+)."""
    for left in case.present:
        right = _twin(left)
        if STRUCTURES[left].side != "left" or right not in case.centres:
            continue
        gap = case.centres[right][0] - case.centres[left][0]
        if gap < 0:
            text = f"{left} lies {-gap:.0f} mm to the right of {right}: swapped, or mirrored"
            yield case.finding("sides", Severity.ERROR, text, left, gap)


def parts_of_pancreas(case: Labelled) -> Iterator[Finding]:
    """Head, body, tail, duct and tumour together are the pancreas."""
    members = [m for m in STRUCTURES[PANCREAS].members if m in case.masks]
    if PANCREAS not in case.present or "pancreas_head" not in members:
        return
    masks = [case.masks[m] for m in (*members, PANCREAS)]
    box = union_box(*masks)
    assert box is not None  # the pancreas is present
    *parts, pancreas = (mask[box] for mask in masks)
    union = np.logical_or.reduce(parts)
    both = np.count_nonzero(union & pancreas)
    dsc = 2 * both / (np.count_nonzero(union) + case.voxels[PANCREAS])
    if dsc < PARTS_DSC:
        text = f"DSC of the pancreas and its parts together is {dsc:.3f}, expected {PARTS_DSC}"
        yield case.finding("pancreas-parts", Severity.WARNING, text, PANCREAS, dsc)


def volumes(case: Labelled) -> Iterator[Finding]:
    """Volume of a structure that is wholly in view is plausible."""
    for structure in case.present:
        low, high = STRUCTURES[structure].volume_ml
        ml = case.voxels[structure] * case.geometry.voxel_volume_mm3 / 1000
        too_small = ml < low and not case.cut_by_view(structure)
        if too_small or ml > high:
            text = f"{structure} has {ml:.3g} ml, expected {low:g} to {high:g}"
            yield case.finding("volume", Severity.WARNING, text, structure, ml)


def attenuation(case: Labelled) -> Iterator[Finding]:
    """Mean HU under a mask is that of the structure: else the labels are of another CT."""
    if case.ct is None:
        return
    for structure in case.present:
        box = case.boxes[structure]
        mean = float(case.ct[box][case.masks[structure][box]].mean())
        entry = STRUCTURES[structure]
        low = min(entry.hu_non_contrast[0], entry.hu_portal_venous[0])
        high = max(entry.hu_non_contrast[1], entry.hu_portal_venous[1])
        high = max(high, _HU_HIGH.get(structure, high))
        if low <= mean <= high:
            continue
        wrong = structure in _SOLID and mean < _HU_IMPOSSIBLE
        text = f"mean of {mean:.0f} HU under {structure}, expected {low:g} to {high:g}"
        if wrong:
            text += ": the labels belong to another CT or another place"
        severity = Severity.ERROR if wrong else Severity.WARNING
        yield case.finding("hu", severity, text, structure, mean)


RULES = (
    empty_structures,
    tumour_flag,
    lesion_place,
    overlaps,
    sides,
    parts_of_pancreas,
    volumes,
    attenuation,
)


def _twin(structure: str) -> str:
    if structure.endswith("_left"):
        return structure.removesuffix("_left") + "_right"
    if structure.endswith("_right"):
        return structure.removesuffix("_right") + "_left"
    return ""


def _told_of_whole(a: str, b: str, shared: Mapping[tuple[str, str], int]) -> bool:
    """Whether a pair of a part repeats what the pair of the whole pancreas says."""
    parts = STRUCTURES[PANCREAS].members
    other = b if a in parts else a if b in parts else ""
    return bool(other) and other != PANCREAS and tuple(sorted((other, PANCREAS))) in shared


def _may_share(a: str, b: str) -> bool:
    """Whether one may lie in the other: the pancreas with its ducts; vessels in the liver."""
    if {a, b} == {"liver", "veins"}:  # the standard counts intrahepatic vessels to the liver
        return True
    if b in STRUCTURES[a].members or a in STRUCTURES[b].members:
        return True
    family = {*STRUCTURES[PANCREAS].members, PANCREAS}
    inner = {"pancreatic_duct", "common_bile_duct", LESION}
    return a in family | inner and b in family | inner and bool({a, b} & inner)


def _common(a: Box, b: Box) -> Box | None:
    i, j, k = (slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return (i, j, k) if all(part.start < part.stop for part in (i, j, k)) else None
