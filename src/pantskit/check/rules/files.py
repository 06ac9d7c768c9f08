"""Files and grids: what cannot be read, is not where it should be, or is not in HU."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import numpy as np

from pantskit.check.findings import Fault, Severity
from pantskit.check.read import CaseFiles, beside, grouped, unknown_masks
from pantskit.check.registry import Limits, Scope, rule
from pantskit.core.errors import PantskitError
from pantskit.core.geometry import STANDARD_ORIENTATION
from pantskit.core.hounsfield import HU_RANGE
from pantskit.core.labels import STRUCTURES
from pantskit.core.labelsets import CaseLabels
from pantskit.core.volume import read_header

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


@rule(
    "image",
    ERROR,
    Scope.FILES,
    reason="A CT that cannot be read whole, or whose place is in doubt, trains on nothing.",
)
def image(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The CT can be read and its place is known."""
    if files.ct_problem:
        yield Fault(files.ct_problem)


@rule(
    "image-file",
    WARNING,
    Scope.FILES,
    reason="The file was read all the same; other programs may read it otherwise.",
)
def image_file(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Nothing is odd about the CT's file."""
    for fault in files.ct.faults if files.ct else ():
        yield Fault(fault)


@rule(
    "image-values",
    ERROR,
    Scope.FILES,
    reason="Networks and HU statistics need Hounsfield units.",
)
def image_values(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The CT is in HU and shows something.

    A crop from inside an organ need not show that it is, and nothing is said of it.
    """
    if files.value_problem:
        yield Fault(files.value_problem)
    elif files.value_doubt:
        yield Fault(files.value_doubt, severity=WARNING)


@rule(
    "hu-range",
    WARNING,
    Scope.FILES,
    reason="The standard clips to -1000 to 1000 HU; metal and padding values skew statistics.",
)
def hu_range(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """HU lie in the standard's range."""
    if files.ct is None or files.value_problem:
        return
    low, high = float(files.ct.array.min()), float(files.ct.array.max())
    if low < HU_RANGE[0] or high > HU_RANGE[1]:
        text = f"HU from {low:g} to {high:g}; the standard clips to -1000 to 1000"
        yield Fault(text, value=high)


@rule(
    "orientation",
    INFO,
    Scope.FILES,
    reason="Readers that assume an orientation mix up sides; ours read the affine.",
)
def orientation(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The CT has the standard's orientation."""
    if files.ct is not None and files.ct.geometry.orientation != STANDARD_ORIENTATION:
        found = files.ct.geometry.orientation
        yield Fault(f"orientation {found}; the standard is {STANDARD_ORIENTATION}")


@rule(
    "volume-tiny",
    WARNING,
    Scope.FILES,
    reason="A few slices hold no organ whole: most rules have nothing to judge by.",
    least_slices=8,
    least_mm=40,
)
def volume_tiny(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The volume is large enough to hold organs."""
    geometry = files.ct.geometry if files.ct is not None else files.geometry
    if geometry is None:
        return
    few = min(geometry.shape) < limits["least_slices"]
    if few or min(geometry.extent_mm) < limits["least_mm"]:
        yield Fault(
            f"a volume of {geometry.describe()} shows little: organs are cut, and rules on volume "
            "and extent are silent",
            value=min(geometry.extent_mm),
        )


@rule(
    "spacing-lost",
    WARNING,
    Scope.FILES,
    reason="A conversion that drops the spacing leaves 1 x 1 x 1 mm: all volumes are wrong then.",
    largest_view_mm=510,
)
def spacing_lost(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """A spacing of exactly 1 mm gives a field of view that a scanner has."""
    geometry = files.ct.geometry if files.ct is not None else files.geometry
    if geometry is None or not np.allclose(geometry.spacing, 1.0, atol=1e-6):
        return
    widest = max(geometry.reoriented("RAS").extent_mm[:2])
    if widest > limits["largest_view_mm"]:
        yield Fault(
            f"spacing is exactly 1 mm and the slice {widest:g} mm wide, more than scanners show: "
            "the spacing was probably lost in a conversion",
            value=widest,
        )


@rule("labels-missing", INFO, Scope.FILES, reason="A case without labels serves prediction only.")
def labels_missing(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Something is annotated."""
    if files.labels is None and not files.problems:
        yield Fault("nothing is annotated")


@rule(
    "labels",
    ERROR,
    Scope.FILES,
    reason="A mask that cannot be read, or lies on another grid than the others, is no label.",
)
def labels(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Every label file can be read, with values that mean something, on one grid."""
    for structure, problem in files.problems.items():
        yield Fault(problem, structure)


@rule(
    "label-file",
    WARNING,
    Scope.FILES,
    reason="Slopes, float types and values beside 0 and 1 are read differently by other programs.",
)
def label_file(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Label files are plain: integers, binary masks, no slope; told once for many files."""
    if files.labels is None:
        return
    for text in grouped((*files.labels.faults, *_floats(files.labels))):
        yield Fault(text)


def _floats(labels: CaseLabels) -> Iterator[str]:
    """What to say of masks of a float type: 0 and 1 today, 0.9999 after the next program."""
    for structure, path in labels.mask_paths.items():
        if path.suffix.lower() == ".npz" or structure in labels.rivals:
            continue
        try:
            header = read_header(path)
        except PantskitError:
            continue  # `labels` tells
        if header.dtype.kind == "f":
            yield f"{path.name}: mask is stored as {header.dtype}; the standard's are uint8"


@rule(
    "mask-twice",
    WARNING,
    Scope.FILES,
    reason="Which of two files counts is in doubt: another program, or another version of one, may "
    "take the other.",
)
def mask_twice(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """A structure has one file, whatever the spelling, the suffix, and a number behind its name."""
    if files.labels is None:
        return
    for structure, others in beside(files.case, files.labels).items():
        used = files.labels.mask_paths[structure]
        names = ", ".join(f"{p.parent.name}/{p.name}" for p in others)
        text = f"{used.parent.name}/{used.name} is read; {names} may mean {structure}, too"
        yield Fault(f"{text}: keep one", structure, 1 + len(others))


@rule(
    "mask-unknown",
    INFO,
    Scope.FILES,
    reason="A file whose name means none of the 28 structures is not read: a slip of the name, or "
    "a structure that nobody asks for.",
)
def mask_unknown(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Every label file's name means a structure; one nearly called as an absent one is a slip."""
    there = set(files.labels.mask_paths) if files.labels else set()
    others = []
    for path in unknown_masks(files.case, files.labels):
        near = get_close_matches(path.name.split(".")[0].lower(), STRUCTURES, 1, cutoff=0.8)
        if near and near[0] not in there:
            text = f"{path.parent.name}/{path.name} is not read: no structure is called so; "
            yield Fault(f"{text}{near[0]}, which has no mask?", near[0], severity=WARNING)
        else:
            others.append(f"{path.parent.name}/{path.name}")
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        text = f"not read, as the name means no structure: {', '.join(others[:3])}{more}"
        yield Fault(text, value=len(others))


@rule(
    "mask-missing",
    WARNING,
    Scope.FILES,
    reason="Absent means not annotated: training and scoring leave the structure out of this case.",
    named=6,
)
def mask_missing(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Every structure that the dataset calls annotated has a mask; many are told in one line."""
    if files.labels is None or files.problems or not files.labels.mask_paths:
        return
    there = set(files.labels.mask_paths)
    missing = [s for s in files.expected if s not in there]
    if len(missing) > limits["named"]:
        text = f"{len(missing)} of the {len(files.expected)} structures that dataset.json calls"
        some = ", ".join(missing[:3])
        text = f"{text} annotated have no mask here: {some} and {len(missing) - 3} more"
        yield Fault(f"{text}; is the list right?", value=len(missing))
        return
    for structure in missing:
        yield Fault(f"no mask of {structure}, which dataset.json calls annotated", structure)


@rule(
    "grid",
    ERROR,
    Scope.FILES,
    reason="Labels on another grid than their CT lie in the wrong place.",
)
def grid(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Labels and CT are on one grid."""
    if files.grid_problem:
        yield Fault(files.grid_problem)
