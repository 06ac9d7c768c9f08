"""Files and grids: what cannot be read, is not where it should be, or is not in HU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pantskit.check.findings import Fault, Severity
from pantskit.check.read import CaseFiles
from pantskit.check.registry import Limits, Scope, rule
from pantskit.core.errors import PantskitError
from pantskit.core.geometry import STANDARD_ORIENTATION, require_same_grid
from pantskit.core.hounsfield import HU_RANGE, require_hounsfield
from pantskit.core.labels import LABEL_SPACES, PANTS, label_counts
from pantskit.core.labelsets import label_space_of_counts

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
_NAMED = 5  # values in a message


@rule(
    "image-missing",
    WARNING,
    Scope.FILES,
    reason="Without the CT nothing can be said of what lies under the masks.",
)
def image_missing(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """There is a CT."""
    if files.ct is None and not files.ct_problem:
        yield Fault(f"no {files.case.image_path.name}; content cannot be checked")


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
    reason="Read all the same; other programs may read it otherwise.",
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
    """The CT is in HU and shows something."""
    if files.ct is None:
        return
    try:
        require_hounsfield(files.ct)
    except PantskitError as error:
        yield Fault(str(error))
        return
    low, high = float(files.ct.array.min()), float(files.ct.array.max())
    if low == high:
        yield Fault(f"every voxel of the CT is {low:g}", value=low)


@rule(
    "hu-range",
    WARNING,
    Scope.FILES,
    reason="The standard clips to -1000 to 1000 HU; metal and padding values skew statistics.",
)
def hu_range(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """HU lie in the standard's range."""
    if files.ct is None:
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


@rule("labels-missing", INFO, Scope.FILES, reason="Such a case serves prediction only.")
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
    alike: dict[str, list[str]] = {}
    for fault in files.labels.faults if files.labels else ():
        name, _, text = fault.partition(": ")
        alike.setdefault(text, []).append(name)
    for text, names in alike.items():
        where = names[0] if len(names) == 1 else f"{len(names)} files ({names[0]}, ...)"
        yield Fault(f"{where}: {text}")


@rule(
    "mask-missing",
    WARNING,
    Scope.FILES,
    reason="Absent means not annotated: training and scoring leave the structure out of this case.",
)
def mask_missing(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Every structure that the dataset calls annotated has a mask in the case."""
    if files.labels is None or files.problems or not files.labels.mask_paths:
        return
    there = set(files.labels.mask_paths)
    missing = [s for s in files.expected if s not in there]
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


@rule("combined-file", WARNING, Scope.FILES, reason="As for label files.")
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
    """The combined map's ids are those that it declares, or the release README's."""
    combined, scan = files.combined, files.scan
    if combined is None or scan is None or not scan.regions:
        return
    if combined.geometry.shape != scan.source.shape:
        return
    declared = LABEL_SPACES.get(combined.label_space or "")
    found = None
    if combined.array.dtype == np.uint8:
        inside = {s: scan.label_counts(s, combined.array) for s in scan.regions}
        found = label_space_of_counts(label_counts(combined.array), inside)
    if found is None:
        yield Fault("the combined map's ids match the masks under no known label space")
    elif declared is None and found is not PANTS:
        yield Fault(
            f"the combined map declares no label space; by the masks its ids are {found.name}, "
            f"not the release README's ({found.id_of('pancreatic_lesion')} is the tumour)"
        )
    elif declared is not None and declared is not found:
        yield Fault(f"the combined map declares {declared.name}, its ids are {found.name}")


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
    reason="A program that reads the combined map alone takes it for background.",
    share=0.02,
    voxels=20,
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
        if missing > max(limits["voxels"], limits["share"] * size):
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
    share=0.02,
    voxels=20,
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
        if outside > max(limits["voxels"], limits["share"] * sizes[number]):
            yield scan.fault(
                f"{outside} of the {sizes[number]} voxels that the combined map calls {structure} "
                "lie outside its mask: write the map anew from the masks",
                structure,
                outside,
            )
