"""Organs that end in a straight plane: annotated in part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pantskit.check.border import face_share, share_behind
from pantskit.check.findings import Fault, Severity, Voxel
from pantskit.check.planes import FlatSide, flat_sides
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.organs import KIDNEYS
from pantskit.check.scan import Scan

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

# Those that lie free: others are flat where they lean on the wall of the belly.
_FREE = ("kidney_left", "kidney_right", "spleen", "prostate")

# Closed organs: a straight side in the middle of the body is where somebody stopped.
_ROUND = (
    "bladder", "gall_bladder", "kidney_left", "kidney_right", "liver", "prostate", "spleen",
    "stomach",
)  # fmt: skip

# The CT shows their border; the stomach lies on its like, the prostate in it.
_SEEN = tuple(s for s in _ROUND if s not in ("stomach", "prostate"))

_FACES = (
    (0, 0, "left"), (0, 1, "right"), (1, 0, "rear"), (1, 1, "front"), (2, 0, "lower"),
    (2, 1, "upper"),
)  # fmt: skip


@rule(
    "straight-cut",
    WARNING,
    Scope.LABELS,
    reason="An organ that ends in a plane, where the scan goes on, was annotated in part.",
    standard="Entire organ: all segments of the liver, entire spleen, kidneys, stomach from fundus "
    "to pylorus, gall bladder with fundus, body and neck.",
    share=0.35,
    leaning_share=0.8,
    seen_share=0.06,
    seen_part=0.5,
    own_border_part=0.1,
    wall_share=0.2,
    tip_cm2=3,
    tip_part=0.75,
    plane_share=0.22,
    plane_part=0.35,
    least_ml=2,
)
def straight_cut(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A closed organ does not end in a straight plane inside the scan.

    Where the CT shows the same tissue behind most of the plane, a small one is told as well, and
    so is one that lies at an angle to the body's axes.
    """
    for structure in (s for s in _ROUND if s in scan.regions):
        if scan.ml(structure) < limits["least_ml"]:
            continue
        told = False
        for axis, end, name in _FACES:
            face = _face(scan, structure, axis, end)
            if face is None:
                continue
            most = face.of_ball + limits["share"]
            if axis < 2 and structure not in _FREE:
                most = 1.0 if structure == "stomach" else max(most, limits["leaning_share"])
            seen = structure in _SEEN and _goes_on(scan, structure, face, axis, end, limits)
            straight = face.share > most and not _own_border(
                scan, structure, face, axis, end, limits
            )
            if straight or seen:
                yield scan.fault(
                    f"{structure} ends in a plane on its {name} side ({face.share:.0%} of its "
                    f"largest section) though {'it' if seen else 'the scan'} goes on: annotated "
                    "in part, or removed in part?",
                    structure,
                    face.share,
                    at=scan.at(face.middle),
                )
                told = True
                break
        if not told and structure in _SEEN and (side := _oblique(scan, structure, limits)):
            i, j, k = side.voxels[len(side.voxels) // 2].tolist()
            yield scan.fault(
                f"{structure} ends in a plane ({side.share:.0%} of its largest parallel section), "
                "behind which the CT shows it going on: annotated in part?",
                structure,
                side.share,
                at=scan.at((i, j, k)),
            )


def _oblique(scan: Scan, structure: str, limits: Limits) -> FlatSide | None:
    """A flat side of any direction, inside the view, behind which the CT shows the same."""
    if scan.ct is None:
        return None
    for side in flat_sides(scan, structure):
        if side.share < side.of_ball + limits["plane_share"] or _at_edge(scan, side):
            continue
        step = float(np.abs(side.normal * scan.geometry.spacing).max())
        first, *others = _DEEP_MM if structure == "liver" else _BEHIND_MM
        depths = (max(first, step + 1), *(mm + step / 2 for mm in others))
        wide = structure in KIDNEYS
        part = share_behind(scan, structure, side.voxels, side.normal, depths_mm=depths, wide=wide)
        if part > limits["plane_part"]:
            return side
    return None


# How far behind a flat side the CT is looked at. The liver leans on the wall of chest and belly,
# whose muscles are as bright without contrast medium, but thinner.
_BEHIND_MM = (3.0, 6.0)
_DEEP_MM = (4.0, 8.0, 12.0)


def _at_edge(scan: Scan, side: FlatSide) -> bool:
    """Whether a side lies at the edge of the view: there the scan ends, not the mask."""
    low, high = np.zeros(3, int), np.array(scan.geometry.shape) - 1
    low[2], high[2] = scan.view[0], scan.view[1] - 1
    near = (side.voxels <= low + 1) | (side.voxels >= high - 1)
    return float(near.any(axis=1).mean()) > 0.1


@dataclass(frozen=True)
class _Face:
    """The last section of a structure on one side.

    Attributes:
        share: its size over that of the largest parallel section.
        of_ball: what a ball would have there.
        voxels: (n, 3) of the scan.
    """

    share: float
    of_ball: float
    voxels: NDArray[np.int64]

    @property
    def middle(self) -> Voxel:
        """One of its voxels."""
        i, j, k = self.voxels[len(self.voxels) // 2].tolist()
        return i, j, k


def _face(scan: Scan, structure: str, axis: int, end: int) -> _Face | None:
    """The last section on one side; None where the structure reaches the edge of the view."""
    region = scan.regions[structure]
    part, n = region.box[axis], scan.geometry.shape[axis]
    low, high = scan.view if axis == 2 else (0, n)
    if (part.start <= low + 1) if end == 0 else (part.stop >= high - 1):
        return None
    others = tuple(a for a in range(3) if a != axis)
    sections = np.count_nonzero(region.array, axis=others)
    index = 0 if end == 0 else len(sections) - 1
    depth = min(1.0, 2 / max(len(sections), 1))  # of a whole voxel, over the half length
    plane = np.moveaxis(region.array, axis, 0)[index]
    voxels = np.insert(np.argwhere(plane), axis, index, axis=1) + region.start
    return _Face(float(sections[index] / sections.max()), 1 - (1 - depth) ** 2, voxels)


def _own_border(
    scan: Scan, structure: str, face: _Face, axis: int, end: int, limits: Limits
) -> bool:
    """Whether the CT shows something else behind a plane: gas in a bowel, on which organs lie."""
    if scan.ct is None or structure not in _SEEN:
        return False
    part = face_share(scan, structure, face.voxels, axis=axis, upper=end == 1)
    return part <= limits["own_border_part"]


def _goes_on(scan: Scan, structure: str, face: _Face, axis: int, end: int, limits: Limits) -> bool:
    """Whether the CT shows a structure behind a plane that is larger than a round end's.

    An organ that leans on the wall has muscle behind it, which is as bright in some phases: the
    plane must be larger. Under the tips of liver and spleen lies nothing like them: there a small
    one tells.
    """
    if scan.ct is None:
        return False
    i, j, _ = scan.geometry.spacing
    tip = structure in ("liver", "spleen") and axis == 2 and end == 0
    tip = tip and len(face.voxels) * i * j >= 100 * limits["tip_cm2"]
    left_lobe = structure == "liver" and (axis, end) == (0, 0)
    leans = axis < 2 and structure not in _FREE and not left_lobe
    large = face.share > face.of_ball + limits["wall_share" if leans else "seen_share"]
    if not tip and not large:
        return False
    part = face_share(scan, structure, face.voxels, axis=axis, upper=end == 1)
    return part > limits["seen_part" if large else "tip_part"]
