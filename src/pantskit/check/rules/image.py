"""The CT as a stack of slices: repeated, blank and missing ones, and values cut to a window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Fault, Severity, Voxel
from pantskit.check.read import CaseFiles
from pantskit.check.region import BODY_AXES, Turn
from pantskit.check.registry import Limits, Scope, rule

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

_THINNED = 3  # every third row and column tells how alike two slices are
_LEAST = 16  # such rows and columns; fewer show too little
_FEWEST = 20  # voxels of a slice; so few are alike, or the same, by chance
_AROUND = 4  # pairs of slices on each side that a pair is compared with


@rule(
    "slice-repeated",
    WARNING,
    Scope.FILES,
    reason="Slices that came twice, or were filled in by their neighbour, stretch what they show.",
)
def slice_repeated(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """No slice is a copy of its neighbour."""
    planes = _planes(files)
    if planes is None:
        return
    thin = planes[::_THINNED, ::_THINNED]
    likely = np.flatnonzero((thin[:, :, 1:] == thin[:, :, :-1]).all(axis=(0, 1)))
    same = [
        k
        for k in likely.tolist()
        if (planes[:, :, k] == planes[:, :, k + 1]).all() and np.ptp(planes[:, :, k]) > 0
    ]
    if same:
        text = "is a copy of its neighbour" if len(same) == 1 else "are copies of their neighbour"
        text = f"{len(same)} of {planes.shape[2]} slices {text}, voxel for voxel"
        yield Fault(text, value=len(same), at=_middle(files, same[0] + 1))


@rule(
    "slice-blank",
    WARNING,
    Scope.FILES,
    reason="A slice that was lost and filled with one value: what it showed is missing.",
)
def slice_blank(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """No slice of one value lies between slices that show something."""
    planes = _planes(files)
    if planes is None:
        return
    blank = np.ptp(planes[::_THINNED, ::_THINNED], axis=(0, 1)) == 0
    blank[blank] = np.ptp(planes[:, :, blank], axis=(0, 1)) == 0
    shown = np.flatnonzero(~blank).tolist()
    inside = [k for k in np.flatnonzero(blank).tolist() if shown and shown[0] < k < shown[-1]]
    if inside:
        values = float(planes[0, 0, inside[0]])
        text = "1 slice inside the scan holds" if len(inside) == 1 else ""
        text = text or f"{len(inside)} slices inside the scan hold"
        text = f"{text} one value ({values:g}) only"
        yield Fault(text, value=len(inside), at=_middle(files, inside[0]))


@rule(
    "slice-missing",
    WARNING,
    Scope.FILES,
    reason="Where slices are missing, all that lies beyond is nearer in the file than in the "
    "patient; where the patient breathed, organs come twice or not at all.",
    ratio=2.0,
)
def slice_missing(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Neighbouring slices are about as alike as the pairs around them.

    One missing slice of a fine stack differs no more than anatomy does; some of them do.
    """
    planes = _planes(files)
    if planes is None:
        return
    thin = np.clip(planes[::_THINNED, ::_THINNED], -200, 300).astype(np.int16)
    if min(thin.shape[:2]) < _LEAST:
        return
    blank = np.ptp(thin, axis=(0, 1)) == 0
    pairs = thin.shape[2] - 1
    unlike = [float(np.abs(thin[:, :, k + 1] - thin[:, :, k]).mean()) for k in range(pairs)]
    for k in range(_AROUND, pairs - _AROUND):
        around = float(np.median([*unlike[k - _AROUND : k], *unlike[k + 1 : k + 1 + _AROUND]]))
        told = blank[k] or blank[k + 1]  # by slice-blank, or padding
        if around > 0 and unlike[k] > limits["ratio"] * around and not told:
            text = (
                f"two neighbouring slices differ {unlike[k] / around:.1f} times as much as those "
                "around: slices are missing between them, or the patient moved"
            )
            yield Fault(text, value=unlike[k] / around, at=_middle(files, k + 1))


@rule(
    "hu-clipped",
    WARNING,
    Scope.FILES,
    reason="A display window was saved in place of Hounsfield units: air, fat and bone, or "
    "contrast medium, cannot be told from what is near them.",
    highest_low=-900,
    lowest_high=900,
    low_share=0.02,
    high_share=0.001,
    values=30,
    voxels=10,
)
def hu_clipped(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """HU do not end, with many voxels, above that of air or below that of bone."""
    if files.ct is None or files.value_problem:
        return
    array = files.ct.array
    low, high = float(array.min()), float(array.max())
    thin = array[::_THINNED, ::_THINNED]
    at_low, at_high = int((thin == low).sum()), int((thin == high).sum())
    few = limits["voxels"]  # of a small crop one voxel is a share
    ends = []
    if low > limits["highest_low"] and at_low > max(few, limits["low_share"] * thin.size):
        ends.append(f"begin at {low:g} ({at_low / thin.size:.0%} of the voxels have that)")
    if high < limits["lowest_high"] and at_high > max(few, limits["high_share"] * thin.size):
        ends.append(f"end at {high:g} ({at_high / thin.size:.1%})")
    if ends and len(np.unique(thin)) > limits["values"]:  # of a drawing there are few
        yield Fault(f"HU {' and '.join(ends)}: cut to a display window", value=high)


def _planes(files: CaseFiles) -> NDArray[Any] | None:
    """(i, j, k) HU along the body's axes: a view; None where there are none, or next to none."""
    if files.ct is None or files.value_problem:
        return None
    planes = files.ct.reoriented(BODY_AXES).array
    return planes if planes[:, :, 0].size >= _FEWEST else None


def _middle(files: CaseFiles, k: int) -> Voxel:
    """The middle of an axial slice, as index in the file."""
    assert files.ct is not None
    turn = Turn.of(files.ct.geometry)
    i, j, _ = files.ct.geometry.reoriented(BODY_AXES).shape
    return turn.back((i // 2, j // 2, k))
