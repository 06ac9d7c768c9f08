"""Further faults of masks, written from the sentences of the annotation standard."""

from __future__ import annotations

import numpy as np
from planted_anatomy import AORTA, FEMUR
from planted_arrays import DOWN, FRONT, LEFT, Mask, along, centre, moved, share
from planted_case import EVERYTHING, PARTS, DoesNotApplyError, Planting
from planted_kind import kind
from planted_masks import ENTIRE, SLICES, TUMOUR_WHOLE
from scipy import ndimage

from pantskit.core.labels import STRUCTURES

WALL = "Aorta and vena cava: wall and entire lumen. Femur: cortex and marrow."
EMPTY = "An empty mask says that the patient has no such organ."
BILE = "Common bile duct: from the confluence of the hepatic ducts to the ampulla."


# Empty masks


@kind(
    "organ-said-to-be-missing",
    EMPTY,
    severity="info",
    structures=("gall_bladder", "kidney_left", "spleen"),
    levels=("spleen", "kidney_left", "gall_bladder"),
)
def organ_said_to_be_missing(case: Planting, structure: str) -> None:
    """An organ that surgeons take out; a remark is due, for it was there."""
    case.put(structure, np.zeros_like(case.mask(structure)))


@kind(
    "organ-emptied",
    EMPTY,
    structures=("liver", "aorta", "adrenal_gland_right"),
    levels=("liver", "aorta", "adrenal_gland_right"),
)
def organ_emptied(case: Planting, structure: str) -> None:
    """An organ that everybody has."""
    case.put(structure, np.zeros_like(case.mask(structure)))


@kind("all-masks-empty", EMPTY, structures=EVERYTHING, levels=("all", "all but a voxel"))
def all_masks_empty(case: Planting, how: str) -> None:
    left = np.argwhere(case.mask("liver"))[0]
    for structure in STRUCTURES:
        if case.has(structure):
            case.put(structure, np.zeros(case.ct.shape, np.bool_))
    if how != "all":
        one = case.now("liver")
        one[tuple(left)] = True
        case.put("liver", one)
    case.fields["lesions"] = 0


# Pieces and slices


@kind("organ-in-two", ENTIRE, structures=("liver",), levels=(40, 20, 10))
def organ_in_two(case: Planting, mm: float) -> None:
    """A sagittal slab through the middle of the liver is missing."""
    liver = case.mask("liver")
    column = along(LEFT, liver)
    half = max(1.0, mm / case.spacing[LEFT]) / 2
    case.put("liver", liver & (np.abs(column - np.median(column[liver])) > half))


@kind("lower-half-displaced", SLICES, structures=("spleen",), levels=(60, 30, 15))
def lower_half_displaced(case: Planting, mm: float) -> None:
    """From its middle downward the spleen is drawn too far to the front."""
    spleen = case.mask("spleen")
    middle = round(float(centre(spleen)[DOWN]))
    lower = moved(spleen, case.voxels(front=mm))
    case.put("spleen", np.where(along(DOWN, spleen) > middle, lower, spleen))


@kind("slices-exchanged", SLICES, structures=("liver",), levels=("thirds", "neighbours"))
def slices_exchanged(case: Planting, how: str) -> None:
    """The first and the last third of the slices change places, or two runs of three in a row."""
    liver = case.mask("liver")
    slices = np.flatnonzero(liver.any(axis=(0, 1)))
    order = slices.copy()
    if how == "thirds":
        n = len(slices) // 3
        order = np.concatenate([slices[-n:], slices[n:-n], slices[:n]])
    else:
        a = len(slices) // 2
        order[a : a + 6] = np.concatenate([slices[a + 3 : a + 6], slices[a : a + 3]])
    exchanged = liver.copy()
    exchanged[:, :, slices] = liver[:, :, order]
    case.put("liver", exchanged)


def walls(mask: Mask, every: float) -> Mask:
    """A mask without its inside, in the slices that have one, or in a fraction of those."""
    inside = ndimage.binary_erosion(mask, np.ones((3, 3, 1)))
    slices = np.flatnonzero(inside.any(axis=(0, 1)))
    if len(slices) < 6:
        raise DoesNotApplyError("too thin to have an inside on this grid")
    inside[:, :, slices[round(every * len(slices)) :]] = False
    return mask & ~inside


@kind("aorta-wall-alone", WALL, structures=("aorta",), levels=(1.0, 0.5, 0.25))
def aorta_wall_alone(case: Planting, fraction: float) -> None:
    case.put("aorta", walls(case.mask("aorta"), fraction))


@kind("femur-cortex-alone", WALL, structures=("femur_right",), levels=(1.0, 0.5, 0.25))
def femur_cortex_alone(case: Planting, fraction: float) -> None:
    case.put("femur_right", walls(case.mask("femur_right"), fraction))


@kind(
    "drawn-on-thick-slices",
    SLICES,
    structures=EVERYTHING,
    levels=(5, 3, 2),
)
def drawn_on_thick_slices(case: Planting, step: int) -> None:
    """All masks: of every run of so many slices the middle one, repeated."""
    count = case.ct.shape[DOWN]
    taken = np.minimum(np.arange(count) // step * step + step // 2, count - 1)
    for structure in STRUCTURES:
        if case.has(structure):
            thick = case.now(structure)[:, :, taken]
            if not np.array_equal(thick, case.now(structure)):
                case.put(structure, thick)


# Organs in part, or more than the organ


@kind("kidney-in-part", ENTIRE, structures=("kidney_left",), levels=(0.1, 0.25, 0.5))
def kidney_in_part(case: Planting, fraction: float) -> None:
    """Of the left kidney the lower end is left."""
    kidney = case.mask("kidney_left")
    case.put("kidney_left", share(kidney, -along(DOWN, kidney), fraction))


@kind(
    "kidney-pelvis-with-contrast",
    "Kidneys: parenchyma, without the renal pelvis.",
    structures=("kidney_left",),
    levels=(800, 500, 350),
)
def kidney_pelvis_with_contrast(case: Planting, hu: float) -> None:
    """A pelvis of 12 mm is full of contrast medium, and the mask has it."""
    kidney = case.mask("kidney_left")
    pelvis = case.ball(centre(kidney), 12)
    if any((pelvis & case.now(s)).any() for s in STRUCTURES if s != "kidney_left"):
        raise DoesNotApplyError("another structure lies there")
    case.ct[pelvis] = hu
    if not kidney[pelvis].all():
        case.put("kidney_left", kidney | pelvis)


HILUM = "two slices: the ducts join in the liver or up to 25 mm below it"
CLOSED_MM = 10  # between a duct's end and the tumour that closes it
AMPULLA = "the last centimetre is narrower than a voxel"


def _without_end(case: Planting, fraction: float, order: int) -> None:
    duct = case.mask("common_bile_duct")
    kept = share(duct, order * along(DOWN, duct), 1 - fraction)
    case.put("common_bile_duct", kept)


@kind(
    "bile-duct-short-below",
    BILE,
    structures=("common_bile_duct",),
    levels=(0.7, 0.45, 0.2),
    below={0.2: AMPULLA},
)
def bile_duct_short_below(case: Planting, fraction: float) -> None:
    """Nothing is wrong where the duct comes to end at the tumour: tumours close it."""
    _without_end(case, fraction, 1)
    duct, tumour = case.mask("common_bile_duct"), case.now("pancreatic_lesion")
    down = along(DOWN, duct)
    end = duct & (down == down[duct].max())
    most = CLOSED_MM + max(case.spacing)  # between the middles of voxels
    if tumour.any() and case.distance(tumour)[end].min() <= most:
        raise DoesNotApplyError("the duct would end at the tumour")


@kind(
    "bile-duct-short-above",
    BILE,
    structures=("common_bile_duct",),
    levels=(0.7, 0.45, 0.2),
    below={0.2: HILUM},
)
def bile_duct_short_above(case: Planting, fraction: float) -> None:
    _without_end(case, fraction, -1)


@kind(
    "aorta-with-iliac-arteries",
    AORTA,
    severity="info",
    structures=("aorta",),
    levels=(80, 50, 30),
)
def aorta_with_iliac_arteries(case: Planting, mm: float) -> None:
    """Two branches of 5 mm radius go on downward and outward from its lower end."""
    aorta = case.mask("aorta")
    end = int(np.flatnonzero(aorta.any(axis=(0, 1)))[-1])
    place = np.argwhere(aorta[:, :, end]).mean(axis=0)
    grown = aorta.copy()
    for step in range(1, case.voxels(down=mm)[DOWN] + 1):
        away = (6 + 0.5 * step * case.spacing[DOWN]) / case.spacing[LEFT]
        for side in (-away, away):
            at = np.array([place[0] + side, place[1], end + step])
            if not (at < aorta.shape).all():
                raise DoesNotApplyError("the scan ends above")
            grown |= case.ball(at, 5)
    case.put("aorta", grown)


@kind("femur-head-missing", FEMUR, structures=("femur_left",), levels=(0.5, 0.35, 0.25))
def femur_head_missing(case: Planting, fraction: float) -> None:
    femur = case.mask("femur_left")
    case.put("femur_left", femur & ~share(femur, along(DOWN, femur), fraction))


@kind(
    "lesion-huge",
    TUMOUR_WHOLE + " No adjacent organs.",
    structures=("pancreatic_lesion",),
    levels=(80, 60, 50),
)
def lesion_huge(case: Planting, radius_mm: float) -> None:
    """A ball around the tail, the patient's other organs included."""
    place = centre(case.mask("pancreas_tail"))
    case.put("pancreatic_lesion", case.ball(place, radius_mm) & (case.ct > -300))
    case.fields["lesions"] = 1


@kind(
    "head-with-body-of-stomach",
    "Pancreas: the gland alone.",
    structures=("pancreas", *PARTS, "stomach"),
    levels=(0.5, 0.2, 0.05),
)
def head_with_body_of_stomach(case: Planting, fraction: float) -> None:
    """The body of the pancreas takes the part of the stomach that is nearest to it."""
    body, stomach = case.mask("pancreas_body"), case.mask("stomach")
    taken = share(stomach, case.distance(body, near=stomach), fraction)
    case.put("pancreas_body", body | taken)
    case.put("pancreas", case.now("pancreas") | taken)
    case.put("stomach", stomach & ~taken)


@kind(
    "aorta-with-spine",
    "Aorta: no surrounding tissue.",
    structures=("aorta",),
    levels=(25, 15, 8),
)
def aorta_with_spine(case: Planting, mm: float) -> None:
    """It goes on backward for so many mm."""
    aorta = case.mask("aorta")
    grown = aorta.copy()
    for step in range(1, case.voxels(front=mm)[FRONT] + 1):
        grown |= moved(aorta, (0, -step, 0))
    case.put("aorta", grown)


@kind(
    "colon-lumen-left-out",
    "Colon: wall and lumen.",
    structures=("colon",),
    levels=(1.0, 0.5, 0.25),
)
def colon_lumen_left_out(case: Planting, fraction: float) -> None:
    """What is further than a voxel from its surface is missing, in a fraction of the slices."""
    colon = case.mask("colon")
    inside = ndimage.binary_erosion(colon, np.ones((3, 3, 3)))
    if inside.sum() < 50:
        raise DoesNotApplyError("too thin to have a lumen on this grid")
    slices = np.flatnonzero(inside.any(axis=(0, 1)))
    inside[:, :, slices[round(fraction * len(slices)) :]] = False
    case.put("colon", colon & ~inside)
