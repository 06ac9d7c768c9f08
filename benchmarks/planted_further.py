"""Faults of what no other kind was planted for; femurs in scans that show more of the shaft."""

from __future__ import annotations

import math
from typing import Any

import nibabel as nib
import numpy as np
from planted_anatomy import CAVA, FEMUR, GLAND, shorter
from planted_arrays import DOWN, FRONT, LEFT, along, centre, onto, share
from planted_case import EVERYTHING, PARTS, DoesNotApplyError, Planting
from planted_files import IDS, WHOLE, cut, respaced, rewrite, voxels_of
from planted_kind import kind
from planted_masks import ENTIRE
from planted_scans import MILLIMETRES
from scipy import ndimage

from pantskit.core.labels import STRUCTURES

ONE_MASK = "Each structure has one mask."
TO_ITS_END_MM = 140  # head's top to 5 cm below the lesser trochanter: 125 to 150 in adults
HEAD_MM = 47


# Files


@kind(
    "mask-saved-again",
    ONE_MASK,
    structures=("spleen",),
    levels=("under another spelling", "not compressed", "beside the folder of masks"),
    on_disk=True,
)
def mask_saved_again(case: Planting, how: str) -> None:
    """An earlier version of a mask, a third of it, lies beside the mask."""
    path = case.mask_path("spleen")
    image = nib.load(path)
    values = voxels_of(path)
    inside = np.argwhere(values)
    values[tuple(inside[len(inside) // 3 :].T)] = 0
    second = {
        "under another spelling": path.with_name("lien.nii.gz"),
        "not compressed": path.with_name("spleen.nii"),
        "beside the folder of masks": path.parent.with_name("spleen.nii.gz"),
    }[how]
    nib.save(nib.Nifti1Image(values, image.affine, image.header), second)


@kind(
    "map-unreadable",
    WHOLE,
    severity="error",
    structures=(),
    levels=("web page", "empty file", 0.5, -4),
    words=("combined", "combined_labels.nii.gz"),
    on_disk=True,
)
def map_unreadable(case: Planting, how: str | float) -> None:
    if isinstance(how, str):
        case.map_path.write_bytes(b"<html>404</html>" if how == "web page" else b"")
    else:
        cut(case.map_path, how)


@kind(
    "map-of-another-shape",
    IDS,
    severity="error",
    structures=(),
    levels=("half", "a slice less"),
    words=("combined", "combined_labels.nii.gz"),
    on_disk=True,
)
def map_of_another_shape(case: Planting, how: str) -> None:
    values = voxels_of(case.map_path)
    keep = values.shape[2] // 2 if how == "half" else values.shape[2] - 1
    rewrite(case.map_path, values[:, :, :keep])


@kind(
    "map-left-behind",
    IDS,
    structures=("spleen",),
    levels=("a third erased", "a twentieth erased", "a voxel erased"),
    words=("combined",),
    on_disk=True,
)
def map_left_behind(case: Planting, how: str) -> None:
    """The mask was corrected afterwards, and the map has what was erased."""
    path = case.mask_path("spleen")
    values = voxels_of(path)
    inside = np.argwhere(values)
    parts = {"a third erased": 3, "a twentieth erased": 20, "a voxel erased": len(inside)}
    values[tuple(inside[: len(inside) // parts[how]].T)] = 0
    rewrite(path, values)


# Slices


@kind(
    "slice-distance-wrong",
    MILLIMETRES,
    structures=EVERYTHING,
    levels=(2.5, 0.4, 1.7, 0.6),
    on_disk=True,
)
def slice_distance_wrong(case: Planting, factor: float) -> None:
    """In all files alike, and in the metadata, which is made from them."""
    respaced(case, np.array(case.spacing) * (1, 1, factor))


@kind(
    "slices-dropped-or-repeated",
    "A scan has every slice once.",
    structures=EVERYTHING,
    levels=("one of three left", "each twice", "every second left", "every second twice"),
)
def slices_dropped_or_repeated(case: Planting, how: str) -> None:
    """In the CT and the masks alike, at the distance that there was."""
    count = case.ct.shape[DOWN]
    case.take_slices(
        {
            "one of three left": np.arange(0, count, 3),
            "every second left": np.arange(0, count, 2),
            "each twice": np.repeat(np.arange(count), 2),
            "every second twice": np.repeat(np.arange(count), 1 + np.arange(count) % 2),
        }[how]
    )


# Femurs


def femurs_to(case: Planting, left_mm: float, right_mm: float) -> None:
    """The scan shows more of the shafts, and the masks go so far down from the heads' tops."""
    ends = {}
    for structure, mm in (("femur_left", left_mm), ("femur_right", right_mm)):
        slices = np.flatnonzero(case.mask(structure).any(axis=(0, 1)))
        if slices[-1] != case.ct.shape[DOWN] - 1:
            raise DoesNotApplyError("the femurs end where the scan goes on")
        ends[structure] = int(slices[0]) + math.ceil(mm / case.spacing[DOWN])
    last = case.ct.shape[DOWN] - 1
    case.go_on_below(max(*ends.values(), last) - last + 6)
    for structure, end in ends.items():
        mask = case.mask(structure)
        if end <= last + 1:
            raise DoesNotApplyError("the scan shows as much of the shaft as is annotated")
        mask[:, :, last + 1 : end] = mask[:, :, last : last + 1]
        case.put(structure, mask)


@kind("femur-too-long", FEMUR, structures=("femur_left", "femur_right"), levels=(100, 50, 25))
def femur_too_long(case: Planting, mm: float) -> None:
    """The left one goes further down its shaft than the right one, which ends where it should."""
    femurs_to(case, TO_ITS_END_MM + mm, TO_ITS_END_MM)


@kind("femurs-too-long", FEMUR, structures=("femur_left", "femur_right"), levels=(150, 80, 50))
def femurs_too_long(case: Planting, mm: float) -> None:
    """Both go too far down."""
    femurs_to(case, TO_ITS_END_MM + mm, TO_ITS_END_MM + mm)


@kind("femur-head-cut-slanting", FEMUR, structures=("femur_left",), levels=(1.0, 0.5, 0.3))
def femur_head_cut_slanting(case: Planting, fraction: float) -> None:
    """Of the head's breadth so much is missing, from inside and above along the neck."""
    femur = case.mask("femur_left")
    left, down = (along(axis, femur) * case.spacing[axis] for axis in (LEFT, DOWN))
    inward = (left + down) / math.sqrt(2)
    case.put("femur_left", femur & (inward > inward[femur].min() + fraction * HEAD_MM))


@kind("femur-with-hip-bone", FEMUR, structures=("femur_left",), levels=(60, 40, 25))
def femur_with_hip_bone(case: Planting, mm: float) -> None:
    """The bone around the joint, up to so far from the femur."""
    femur = case.mask("femur_left")
    near = (case.distance(femur, within_mm=mm) <= mm) & ~femur & ~case.now("femur_right")
    pieces, count = ndimage.label(near & (case.ct > 150), np.ones((3, 3, 3)))
    if not count:
        raise DoesNotApplyError("no bone beside the femur")
    largest = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    case.put("femur_left", femur | (pieces == largest))


# Organs


@kind("kidney-drawn-wide", "Kidneys: no fat.", structures=("kidney_right",), levels=(15, 10, 6))
def kidney_drawn_wide(case: Planting, mm: float) -> None:
    """So far into what is around it, other structures left out."""
    kidney = case.mask("kidney_right")
    new = (case.distance(kidney, within_mm=mm) <= mm) & ~kidney
    for structure in STRUCTURES:
        if structure != "kidney_right":
            new &= ~case.now(structure)
    case.put("kidney_right", kidney | new)


@kind(
    "adrenal-too-low",
    "Adrenal glands: the gland alone.",
    structures=("adrenal_gland_left",),
    levels=("below the kidney", "beside its lower end"),
)
def adrenal_too_low(case: Planting, how: str) -> None:
    """Toward the middle from there: a vessel or bowel in place of the gland."""
    kidney = case.mask("kidney_left")
    place = centre(share(kidney, -along(DOWN, kidney), 0.15))
    place[LEFT] -= 40 / case.spacing[LEFT]
    if how == "below the kidney":
        place[DOWN] += 50 / case.spacing[DOWN]
    case.put("adrenal_gland_left", onto(case.mask("adrenal_gland_left"), place))


@kind("gland-interrupted", GLAND, structures=("pancreas", *PARTS), levels=(40, 25, 15))
def gland_interrupted(case: Planting, mm: float) -> None:
    """Where head and body meet, a slab of the gland is in no mask."""
    border = float(np.argwhere(case.mask("pancreas_body"))[:, LEFT].min())
    half = max(1.0, mm / case.spacing[LEFT]) / 2
    gland = case.mask("pancreas")
    kept = np.abs(along(LEFT, gland) - border) > half
    sides = (along(LEFT, gland) < border, along(LEFT, gland) > border)
    if not all((gland & kept & side).any() for side in sides):
        raise DoesNotApplyError("nothing of the gland is left on one side")
    for structure in ("pancreas", *PARTS, "pancreatic_duct", "pancreatic_lesion"):
        if (case.now(structure) & ~kept).any():
            case.put(structure, case.now(structure) & kept)


@kind(
    "postcava-short-below",
    CAVA,
    structures=("postcava",),
    levels=(0.5, 0.3, 0.1),
    below={0.1: "2 cm: the height at which the iliac veins join varies by a vertebra"},
)
def postcava_short_below(case: Planting, fraction: float) -> None:
    shorter(case, "postcava", fraction, from_top=False)


@kind(
    "stomach-in-part",
    "Stomach: from fundus to pylorus.",
    structures=("stomach",),
    levels=(0.5, 0.3, 0.15),
)
def stomach_in_part(case: Planting, fraction: float) -> None:
    """The part next to the duodenum is missing."""
    stomach = case.mask("stomach")
    far = case.distance(case.mask("duodenum"), near=stomach)
    case.put("stomach", stomach & ~share(stomach, far, fraction))


@kind("bladder-in-part", ENTIRE, structures=("bladder",), levels=(0.3, 0.5, 0.7))
def bladder_in_part(case: Planting, fraction: float) -> None:
    """Its back is left."""
    bladder = case.mask("bladder")
    order: Any = along(FRONT, bladder)
    case.put("bladder", share(bladder, order, fraction))
