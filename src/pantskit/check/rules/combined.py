"""The combined map beside the masks: it is a view of them, and differs from them nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Fault, Severity
from pantskit.check.read import CaseFiles
from pantskit.check.registry import Limits, Scope, rule
from pantskit.core.errors import PantskitError
from pantskit.core.geometry import require_same_grid
from pantskit.core.labels import (
    LABEL_SPACES,
    PANTS,
    PANTS_ALPHABETICAL,
    LabelSpace,
    label_counts,
)
from pantskit.core.labelspaces import label_space_of_counts

ERROR, WARNING = Severity.ERROR, Severity.WARNING
_NAMED = 5  # values in a message


@rule(
    "combined-map",
    ERROR,
    Scope.FILES,
    reason="The combined map is what many programs train on.",
)
def combined_map(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The combined map can be read."""
    if files.combined_problem:
        yield Fault(files.combined_problem)


@rule(
    "combined-file",
    WARNING,
    Scope.FILES,
    reason="Slopes and float types are read differently by other programs.",
)
def combined_file(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The combined map is a plain file of integers."""
    for fault in files.combined.faults if files.combined else ():
        yield Fault(f"combined map: {fault}")


@rule(
    "combined-grid",
    ERROR,
    Scope.FILES,
    reason="A combined map elsewhere than its masks is a label of nothing.",
)
def combined_grid(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The combined map lies on the masks' grid."""
    if files.combined is None or files.geometry is None:
        return
    try:
        what = f"{files.case.case_id}: combined map and masks"
        require_same_grid(files.combined.geometry, files.geometry, what=what)
    except PantskitError as error:
        yield Fault(str(error))


@rule(
    "combined-ids",
    ERROR,
    Scope.FILES,
    reason="By the wrong numbering veins read as tumour: maps in circulation are alphabetical.",
)
def combined_ids(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The combined map's ids are those that it declares, or the release README's.

    Masks that were changed since, or over which others are painted, are no wrong ids.
    """
    combined, scan = files.combined, files.scan
    if combined is None or scan is None or not scan.regions:
        return
    if combined.geometry.shape != scan.source.shape:
        return
    declared = LABEL_SPACES.get(combined.label_space or "")
    found = None
    if combined.array.dtype == np.uint8:
        inside = {s: scan.label_counts(s, combined.array) for s in scan.regions}
        sizes = label_counts(combined.array)
        found = label_space_of_counts(sizes, inside)
        likely = [s for s in (declared, PANTS, PANTS_ALPHABETICAL) if s is not None]
        found = found or _least_confused(likely, sizes, inside)
    if found is None:
        yield Fault("the combined map's ids match the masks under no known label space")
    elif declared is None and found is not PANTS:
        yield Fault(
            f"the combined map declares no label space; by the masks its ids are {found.name}, "
            f"not the release README's ({found.id_of('pancreatic_lesion')} is the tumour)"
        )
    elif declared is not None and declared is not found:
        yield Fault(f"the combined map declares {declared.name}, its ids are {found.name}")


def _least_confused(
    spaces: Sequence[LabelSpace], sizes: NDArray[np.int64], inside: Mapping[str, NDArray[np.int64]]
) -> LabelSpace | None:
    """The space by which the fewest masks are confused; None where more than one in ten are."""
    confused = [
        sum(_is_confused(space, s, sizes, inside) for s in inside if s in space.names)
        for space in spaces
    ]
    fewest = min(confused)
    return spaces[confused.index(fewest)] if fewest <= 0.1 * len(inside) else None


def _is_confused(
    space: LabelSpace,
    structure: str,
    sizes: NDArray[np.int64],
    inside: Mapping[str, NDArray[np.int64]],
) -> bool:
    """Whether a mask and its id lie apart, or another's id fills it that lies nowhere else.

    A mask that was moved does so, too; masks that were changed in part or overlap do not.
    """
    counts, own = inside[structure], list(space.evaluation_ids(structure))
    if sizes[own].sum() and counts[own].sum() < 0.05 * min(sizes[own].sum(), counts.sum()):
        return True
    most = int(counts[1:].argmax()) + 1
    if 2 * counts[most] <= counts.sum() or most in own:
        return False
    other = inside.get(space.ids.get(most, ""))
    return other is None or bool(2 * other[most] < sizes[most])


@rule(
    "combined-values",
    ERROR,
    Scope.FILES,
    reason="A value that stands for nothing is background to one program and a class to another.",
)
def combined_values(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Every value of the combined map is background or a structure of its label space."""
    if files.combined is None:
        return
    space = LABEL_SPACES.get(files.combined.label_space or "", PANTS)
    known = {0, *map(space.id_of, space.names)}
    planes, length = files.combined.array.T, int(files.combined.array.max()) + 1
    counts = np.sum([np.bincount(plane.ravel(), minlength=length) for plane in planes], axis=0)
    odd = [n for n in np.flatnonzero(counts).tolist() if n not in known]
    if odd:
        shown = ", ".join(f"{n} in {counts[n]} voxels" for n in odd[:_NAMED])
        yield Fault(f"the combined map holds {shown}: no structure of {space.name}")


@rule(
    "combined-complete",
    WARNING,
    Scope.FILES,
    reason="What has no id in the combined map is background to who reads the map alone.",
    voxels=0,
)
def combined_complete(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """No voxel of a mask is background in the combined map: what is painted over has an id."""
    combined, scan = files.combined, files.scan
    if combined is None or scan is None or combined.geometry.shape != scan.source.shape:
        return
    space = LABEL_SPACES.get(combined.label_space or "", PANTS)
    if combined.array.dtype != np.uint8:
        return
    for structure in [s for s in scan.regions if s in space.names]:
        under = scan.label_counts(structure, combined.array)
        missing, size = int(under[0]), int(under.sum())
        if missing > limits["voxels"]:
            yield scan.fault(
                f"{missing} of the {size} voxels of its mask are background in the combined map: "
                "write the map anew from the masks",
                structure,
                missing,
            )


@rule(
    "combined-content",
    WARNING,
    Scope.FILES,
    reason="Masks that were corrected later leave the combined map behind.",
    voxels=0,
)
def combined_content(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """What the combined map calls a structure lies in the structure's mask."""
    combined, scan = files.combined, files.scan
    if combined is None or scan is None or combined.geometry.shape != scan.source.shape:
        return
    space = LABEL_SPACES.get(combined.label_space or "")
    if space is None or combined.array.dtype != np.uint8:
        return
    sizes = label_counts(combined.array)
    for structure in [s for s in space.names if s in scan.annotated]:
        number = space.id_of(structure)
        outside = int(sizes[number]) - scan.count_under(structure, combined.array, number)
        if outside > limits["voxels"]:
            yield scan.fault(
                f"{outside} of the {sizes[number]} voxels that the combined map calls {structure} "
                "lie outside its mask: write the map anew from the masks",
                structure,
                outside,
            )
