"""Faults of masks whatever they are of: lesions, overlaps, pieces, slices, volumes."""

from __future__ import annotations

import numpy as np
from planted_arrays import DOWN, FRONT, LEFT, Mask, along, centre, moved, share
from planted_case import EVERYTHING, PARTS, DoesNotApplyError, Planting
from planted_kind import kind

from pantskit.core.labels import STRUCTURES

TUMOUR = "A scan is positive when its lesion mask has a voxel, and the metadata say the same."
TUMOUR_WHOLE = "Pancreatic tumours: the entire mass."
OWN = "Each organ excludes its neighbours."
SPLIT = "Pancreas: head, body and tail are divisions of the one gland."
ENTIRE = "Each organ: the entire parenchyma."
SLICES = "What is drawn in one slice goes on in the next."
WIDE_MM = 50  # further than any mask is grown
OF_THE_CT = "The masks of a case are those of its CT."


# Lesions


@kind(
    "tumour-without-lesion",
    TUMOUR,
    severity="error",
    structures=("pancreatic_lesion",),
    levels=("metadata say 1",),
    words=("lesions",),
)
def tumour_without_lesion(case: Planting, level: str) -> None:
    if "pancreatic_lesion" not in case.clean.coded.annotated:
        raise DoesNotApplyError("nobody annotated tumours")
    if case.has("pancreatic_lesion"):
        case.put("pancreatic_lesion", np.zeros(case.ct.shape, np.bool_))
    case.fields["lesions"] = 1


def lesion_of(case: Planting, radius_mm: float) -> Mask:
    """A ball in the tail, within the gland."""
    tail = case.mask("pancreas_tail")
    inside = np.argwhere(tail)
    middle = inside[np.argmin(np.linalg.norm(inside - centre(tail), axis=1))]
    return case.ball(middle, radius_mm) & tail


@kind(
    "lesion-without-tumour",
    TUMOUR,
    severity="error",
    structures=("pancreatic_lesion",),
    levels=(15, 8),
    words=("lesions",),
)
def lesion_without_tumour(case: Planting, radius_mm: float) -> None:
    case.put("pancreatic_lesion", lesion_of(case, radius_mm))
    case.fields["lesions"] = 0


@kind("lesion-tiny", TUMOUR_WHOLE, structures=("pancreatic_lesion",), levels=(1, 5, 40))
def lesion_tiny(case: Planting, voxels: int) -> None:
    """So many voxels, where they are less than a lesion that could be seen."""
    tail = case.mask("pancreas_tail")
    if voxels * case.geometry.voxel_volume_mm3 > 120:
        raise DoesNotApplyError(f"{voxels} voxels are no tiny lesion on this grid")
    near = case.distance(lesion_of(case, 1), near=tail)
    case.put("pancreatic_lesion", share(tail, near, voxels / tail.sum()))
    case.fields["lesions"] = 1


# Masks against each other


def grown_into(case: Planting, structure: str, other: str, fraction: float) -> None:
    """A fraction of another structure, the nearest part of it, becomes this structure's too."""
    mask, neighbour = case.mask(structure), case.mask(other)
    case.put(structure, mask | share(neighbour, case.distance(mask, near=neighbour), fraction))


@kind("liver-overlaps-spleen", OWN, structures=("liver", "spleen"), levels=(0.5, 0.1, 0.02))
def liver_overlaps_spleen(case: Planting, fraction: float) -> None:
    grown_into(case, "liver", "spleen", fraction)


@kind("kidneys-overlap", OWN, structures=("kidney_left", "kidney_right"), levels=(1.0, 0.2, 0.02))
def kidneys_overlap(case: Planting, fraction: float) -> None:
    grown_into(case, "kidney_left", "kidney_right", fraction)


@kind("stomach-overlaps-spleen", OWN, structures=("stomach", "spleen"), levels=(0.5, 0.1, 0.02))
def stomach_overlaps_spleen(case: Planting, fraction: float) -> None:
    grown_into(case, "stomach", "spleen", fraction)


@kind(
    "pancreas-takes-duodenum",
    "Pancreas: excludes the duodenum.",
    structures=("pancreas", "pancreas_head", "duodenum"),
    levels=(0.5, 0.2, 0.1),
)
def pancreas_takes_duodenum(case: Planting, fraction: float) -> None:
    grown_into(case, "pancreas_head", "duodenum", fraction)
    case.put("pancreas", case.now("pancreas") | case.now("pancreas_head"))


@kind(
    "pancreas-takes-veins",
    "Pancreas: excludes vessels.",
    structures=("pancreas", "veins", *PARTS),
    levels=(1.0, 0.3, 0.1),
)
def pancreas_takes_veins(case: Planting, fraction: float) -> None:
    """The parts too: each voxel goes to the nearest."""
    veins = case.mask("veins")
    taken = share(veins, case.distance(case.mask("pancreas"), near=veins), fraction)
    far = np.stack([case.distance(case.mask(part), near=veins) for part in PARTS])
    for n, part in enumerate(PARTS):
        if (mine := taken & (far.argmin(axis=0) == n)).any():
            case.put(part, case.now(part) | mine)
    case.put("pancreas", case.now("pancreas") | taken)


@kind(
    "same-mask-twice",
    OWN,
    severity="error",
    structures=("spleen", "stomach"),
    levels=("the same voxels", "a voxel less"),
)
def same_mask_twice(case: Planting, how: str) -> None:
    spleen = case.mask("spleen")
    case.mask("stomach")
    if how == "a voxel less":
        spleen[tuple(np.argwhere(spleen)[0])] = False
    case.put("stomach", spleen)


@kind("parts-leave-a-gap", SPLIT, structures=("pancreas", *PARTS), levels=(0.3, 0.1, 0.03))
def parts_leave_a_gap(case: Planting, fraction: float) -> None:
    """A slab where body and tail meet is in neither; the gland still has it."""
    both = case.mask("pancreas_body") | case.mask("pancreas_tail")
    border = np.argwhere(case.mask("pancreas_tail"))[:, LEFT].min()
    near = np.abs(along(LEFT, both) - border)
    out = share(both, near, min(1.0, fraction * case.mask("pancreas").sum() / both.sum()))
    for part in ("pancreas_body", "pancreas_tail"):
        if (case.now(part) & out).any():
            case.put(part, case.now(part) & ~out)


@kind("parts-protrude", SPLIT, structures=("pancreas", *PARTS), levels=(0.3, 0.1, 0.03))
def parts_protrude(case: Planting, fraction: float) -> None:
    """The tail grows out of the gland by a fraction of the gland."""
    tail, gland = case.mask("pancreas_tail"), case.mask("pancreas")
    far = case.distance(tail, within_mm=WIDE_MM)
    outside = ~gland & np.isfinite(far)
    new = share(outside, far, fraction * gland.sum() / outside.sum())
    case.put("pancreas_tail", tail | new)


@kind("parts-overlap", SPLIT, structures=("pancreas", *PARTS), levels=(1.0, 0.3, 0.1))
def parts_overlap(case: Planting, fraction: float) -> None:
    grown_into(case, "pancreas_tail", "pancreas_body", fraction)


# Pieces, holes, slices


@kind("stray-piece", ENTIRE, structures=("spleen",), levels=(25, 12, 6))
def stray_piece(case: Planting, radius_mm: float) -> None:
    """A ball low on the other side."""
    place = centre(case.mask("femur_right"))
    place[DOWN] -= 60 / case.spacing[DOWN]
    case.put("spleen", case.mask("spleen") | case.ball(np.maximum(place, 0), radius_mm))


@kind("hole", ENTIRE, structures=("liver",), levels=(25, 12, 6))
def hole(case: Planting, radius_mm: float) -> None:
    """Where the liver is deepest, a ball is missing."""
    liver = case.mask("liver")
    deep = np.unravel_index(case.depth(liver).argmax(), liver.shape)
    case.put("liver", liver & ~case.ball(np.array(deep), radius_mm))


def without_slices(case: Planting, structure: str, count: int) -> None:
    mask = case.mask(structure)
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    if len(slices) < count + 6:
        raise DoesNotApplyError(f"{structure} in {len(slices)} slices only")
    start = int(slices[len(slices) // 2])
    mask[:, :, start : start + count] = False
    case.put(structure, mask)


@kind("slices-missing", SLICES, structures=("liver",), levels=(5, 2, 1))
def slices_missing(case: Planting, count: int) -> None:
    without_slices(case, "liver", count)


@kind("slices-missing-of-a-vessel", SLICES, structures=("aorta",), levels=(5, 2, 1))
def slices_missing_of_a_vessel(case: Planting, count: int) -> None:
    without_slices(case, "aorta", count)


@kind("slices-shifted", SLICES, structures=("liver",), levels=(40, 20, 10))
def slices_shifted(case: Planting, mm: float) -> None:
    """Three slices are drawn too far to the left."""
    liver = case.mask("liver")
    slices = np.flatnonzero(liver.any(axis=(0, 1)))
    some = slice(int(slices[len(slices) // 2]), int(slices[len(slices) // 2]) + 3)
    liver[:, :, some] = moved(liver, case.voxels(left=mm))[:, :, some]
    case.put("liver", liver)


@kind(
    "labels-of-another-slab",
    OF_THE_CT,
    severity="error",
    structures=EVERYTHING,
    levels=(100, 40, 15),
)
def labels_of_another_slab(case: Planting, mm: float) -> None:
    for structure in STRUCTURES:
        if case.has(structure):
            case.put(structure, moved(case.now(structure), case.voxels(down=mm)))


@kind(
    "labels-mirrored",
    OF_THE_CT,
    severity="error",
    structures=EVERYTHING,
    levels=("upside down", "front to back", "left to right"),
)
def labels_mirrored(case: Planting, how: str) -> None:
    """The voxels, while the grid says what it said."""
    axis = {"upside down": DOWN, "front to back": FRONT, "left to right": LEFT}[how]
    for structure in STRUCTURES:
        if case.has(structure):
            case.put(structure, np.flip(case.now(structure), axis))


@kind(
    "labels-of-another-case",
    OF_THE_CT,
    severity="error",
    structures=EVERYTHING,
    levels=("by their first voxel", "liver on liver"),
)
def labels_of_another_case(case: Planting, how: str) -> None:
    case.mask("liver")
    step = np.zeros(3, int)
    if how == "liver on liver":
        theirs = case.other.coded.mask("liver")
        if theirs is None or not theirs.any():
            raise DoesNotApplyError("the other case has no liver")
        step = np.rint(centre(case.mask("liver")) - centre(theirs)).astype(int)
    for structure in STRUCTURES:
        mask = case.other.coded.mask(structure)
        if mask is not None and (mask.any() or case.has(structure)):
            case.put(structure, on_grid(np.array(mask, np.bool_), case.ct.shape, step))


def on_grid(mask: Mask, shape: tuple[int, ...], step: np.ndarray) -> Mask:
    """A mask of another grid, voxel by voxel, moved by a step."""
    larger = tuple(max(a, b) for a, b in zip(mask.shape, shape, strict=True))
    room: Mask = np.zeros(larger, np.bool_)
    room[tuple(slice(n) for n in mask.shape)] = mask
    return moved(room, tuple(int(n) for n in step))[tuple(slice(n) for n in shape)]


# Volumes


@kind("liver-in-part", ENTIRE, structures=("liver",), levels=(0.2, 0.5, 0.7))
def liver_in_part(case: Planting, fraction: float) -> None:
    liver = case.mask("liver")
    case.put("liver", share(liver, along(LEFT, liver), fraction))


@kind(
    "pancreas-eroded",
    ENTIRE,
    structures=("pancreas", *PARTS),
    levels=(0.1, 0.25, 0.5),
    below={0.5: "on grids of 5 mm the rim is under a voxel; old glands have half the volume"},
)
def pancreas_eroded(case: Planting, fraction: float) -> None:
    """The innermost fraction of the gland is left; nothing of it protrudes."""
    gland = case.mask("pancreas")
    kept = share(gland, -case.depth(gland), fraction)
    for structure in ("pancreas", *PARTS, "pancreatic_duct", "pancreatic_lesion"):
        if (case.now(structure) & ~kept).any():
            case.put(structure, case.now(structure) & kept)


@kind(
    "pancreas-dilated",
    "Pancreas: excludes fat, vessels and duodenum.",
    structures=("pancreas", *PARTS),
    levels=(5.0, 3.0, 2.0),
)
def pancreas_dilated(case: Planting, times: float) -> None:
    """So many times its volume; each new voxel goes to the nearest part too."""
    gland = case.mask("pancreas")
    away = case.distance(gland, within_mm=WIDE_MM)
    around = ~gland & np.isfinite(away)
    new = share(around, away, (times - 1) * gland.sum() / around.sum())
    far = np.stack([case.distance(case.mask(part), near=new) for part in PARTS])
    for n, part in enumerate(PARTS):
        case.put(part, case.now(part) | (new & (far.argmin(axis=0) == n)))
    case.put("pancreas", gland | new)
