"""Faults of anatomy: masks that are whole and tidy, and not where or what they should be."""

from __future__ import annotations

import numpy as np
from planted_arrays import DOWN, FRONT, LEFT, along, centre, onto, share
from planted_case import PARTS, DoesNotApplyError, Planting
from planted_kind import kind
from scipy import ndimage

SIDES = "Left and right are the patient's."
GLAND = "Head right of the superior mesenteric vessels, body to the aorta's left edge, then tail."
DUCT = "Pancreatic duct: within the pancreas, from the tail to the ampulla."
AORTA = "Aorta: from the diaphragm to the bifurcation."
CELIAC = "Celiac artery: from its origin at the aorta to its division."
SMA = "Superior mesenteric artery: from its origin at the aorta."
PORTAL = "Portal vein: from the confluence to its entry into the liver."
SPLENIC = "Splenic vein: from the spleen to the confluence."
CAVA = "Postcava: its entire lumen, right of the aorta."
FEMUR = "Femur: head, neck and up to 5 cm below the lesser trochanter."
PLACE = "Each mask is the organ of its name."


def swapped(case: Planting, one: str, other: str) -> None:
    a, b = case.mask(one), case.mask(other)
    case.put(one, b)
    case.put(other, a)


def _swap_kind(name: str, one: str, other: str, standard: str, severity: str) -> None:
    @kind(name, standard, severity=severity, structures=(one, other), levels=("whole",))
    def plant(case: Planting, level: str) -> None:
        swapped(case, one, other)


for _organ in ("kidney", "lung", "adrenal_gland", "femur"):
    _swap_kind(
        f"{_organ.split('_')[0]}s-swapped", f"{_organ}_left", f"{_organ}_right", SIDES, "error"
    )
_swap_kind("stomach-colon-swapped", "stomach", "colon", PLACE, "warning")
_swap_kind("liver-spleen-swapped", "liver", "spleen", PLACE, "error")
_swap_kind("aorta-postcava-swapped", "aorta", "postcava", CAVA, "warning")
_swap_kind("celiac-sma-swapped", "celiac_artery", "superior_mesenteric_artery", SMA, "warning")
_swap_kind("head-tail-swapped", "pancreas_head", "pancreas_tail", GLAND, "warning")


# The pancreas


@kind(
    "body-absent",
    GLAND,
    structures=("pancreas", *PARTS),
    levels=("not in the gland", "given to the tail", "given to the head"),
)
def body_absent(case: Planting, how: str) -> None:
    body = case.mask("pancreas_body")
    case.put("pancreas_body", np.zeros_like(body))
    if how == "not in the gland":
        case.put("pancreas", case.mask("pancreas") & ~body)
    else:
        part = f"pancreas_{how.split()[-1]}"
        case.put(part, case.mask(part) | body)


@kind("parts-border-shifted", GLAND, structures=PARTS, levels=(40, 25, 15))
def parts_border_shifted(case: Planting, mm: float) -> None:
    """Head and body meet too far to the left."""
    head = case.mask("pancreas_head")
    border = np.argwhere(head)[:, LEFT].max() + case.voxels(left=mm)[LEFT]
    for part in ("pancreas_body", "pancreas_tail"):
        old = case.mask(part)
        taken = old & (along(LEFT, old) <= border)
        head |= taken
        if taken.any():
            case.put(part, old & ~taken)
    case.put("pancreas_head", head)


@kind(
    "lesion-away",
    "Pancreatic tumours: within the pancreas.",
    severity="error",
    structures=("pancreatic_lesion",),
    levels=("in the liver", 60, 30),
)
def lesion_away(case: Planting, where: str | int) -> None:
    """In the middle of the liver, or so many mm in front of where it is."""
    lesion = case.mask("pancreatic_lesion")
    if isinstance(where, str):
        case.put("pancreatic_lesion", onto(lesion, centre(case.mask("liver"))))
    else:
        case.shift("pancreatic_lesion", front=where)


@kind("duct-outside", DUCT, structures=("pancreatic_duct",), levels=(60, 25, 12))
def duct_outside(case: Planting, mm: float) -> None:
    case.shift("pancreatic_duct", front=mm)


THIN = "a duct of 2 mm is seen in places only: a part left out looks the same"


@kind(
    "duct-cut",
    DUCT,
    severity="info",
    structures=("pancreatic_duct",),
    levels=(40, 20, 10),
    below={10: "two slices or fewer of a tube that is thinner than a voxel"},
)
def duct_cut(case: Planting, mm: float) -> None:
    gap(case, "pancreatic_duct", mm, 0.5)


def gap(case: Planting, structure: str, mm: float, at: float) -> None:
    """Cut a gap across a structure at a fraction of its voxels from right to left."""
    mask = case.mask(structure)
    column = along(LEFT, mask)
    middle = np.quantile(column[mask], at)
    half = max(1.0, mm / case.spacing[LEFT]) / 2
    left = mask & (np.abs(column - middle) > half)
    if not (left & (column < middle)).any() or not (left & (column > middle)).any():
        raise DoesNotApplyError(f"nothing of {structure} is left on one side of the gap")
    case.put(structure, left)


@kind(
    "duct-short",
    DUCT,
    severity="info",
    structures=("pancreatic_duct",),
    levels=(0.25, 0.5, 0.75),
    below={0.75: THIN},
)
def duct_short(case: Planting, fraction: float) -> None:
    """The fraction from the head on is left; the tail has none."""
    duct = case.mask("pancreatic_duct")
    case.put("pancreatic_duct", share(duct, along(LEFT, duct), fraction))


# Vessels


def shorter(case: Planting, structure: str, fraction: float, *, from_top: bool) -> None:
    """A fraction of a structure's slices is missing at one end."""
    mask = case.mask(structure)
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    count = max(1, round(fraction * len(slices)))
    mask[:, :, slices[:count] if from_top else slices[-count:]] = False
    case.put(structure, mask)


HIATUS = "it still begins above the coeliac artery, where the aorta passes the diaphragm"


@kind(
    "aorta-short-above",
    AORTA,
    structures=("aorta",),
    levels=(0.5, 0.25, 0.1),
    below={0.25: HIATUS, 0.1: HIATUS},
)
def aorta_short_above(case: Planting, fraction: float) -> None:
    shorter(case, "aorta", fraction, from_top=True)


@kind(
    "aorta-short-below",
    AORTA,
    structures=("aorta",),
    levels=(0.5, 0.25, 0.1),
    below={0.1: "2 cm: the height of the bifurcation varies by a vertebra"},
)
def aorta_short_below(case: Planting, fraction: float) -> None:
    shorter(case, "aorta", fraction, from_top=False)


@kind(
    "postcava-short-above",
    CAVA,
    structures=("postcava",),
    levels=(0.5, 0.25, 0.1),
    below={0.1: "2 cm: the atrium has no mask, and its height varies by a vertebra"},
)
def postcava_short_above(case: Planting, fraction: float) -> None:
    shorter(case, "postcava", fraction, from_top=True)


def _detached(case: Planting, structure: str, target: str, fraction: float) -> None:
    """The fraction nearest to a target is missing."""
    mask = case.mask(structure)
    far = case.distance(case.mask(target), near=mask)
    kept = mask & ~share(mask, far, fraction)
    if not kept.any() or far[kept].min() <= far[mask].min():
        raise DoesNotApplyError(f"{structure} would be as near to {target} as it was")
    case.put(structure, kept)


def _short_of(case: Planting, structure: str, target: str, mm: float) -> None:
    """What is nearer to a target than this is missing."""
    mask = case.mask(structure)
    kept = mask & (case.distance(case.mask(target), near=mask) > mm)
    if not kept.any():
        raise DoesNotApplyError(f"all of {structure} is within {mm} mm of {target}")
    case.put(structure, kept)


@kind("celiac-detached", CELIAC, structures=("celiac_artery",), levels=(0.7, 0.5, 0.3))
def celiac_detached(case: Planting, fraction: float) -> None:
    _detached(case, "celiac_artery", "aorta", fraction)


@kind("sma-detached", SMA, structures=("superior_mesenteric_artery",), levels=(0.5, 0.25, 0.15))
def sma_detached(case: Planting, fraction: float) -> None:
    _detached(case, "superior_mesenteric_artery", "aorta", fraction)


@kind("veins-short-of-liver", PORTAL, structures=("veins",), levels=(40, 25, 15))
def veins_short_of_liver(case: Planting, mm: float) -> None:
    _short_of(case, "veins", "liver", mm)


@kind(
    "veins-short-of-spleen",
    SPLENIC,
    structures=("veins",),
    levels=(60, 35, 15),
    below={15: "the vein divides in the hilum, one to three cm from the spleen"},
)
def veins_short_of_spleen(case: Planting, mm: float) -> None:
    _short_of(case, "veins", "spleen", mm)


@kind("veins-cut", SPLENIC, structures=("veins",), levels=(40, 20, 10))
def veins_cut(case: Planting, mm: float) -> None:
    gap(case, "veins", mm, 0.7)


@kind("postcava-on-the-left", CAVA, structures=("postcava",), levels=(80, 60, 50))
def postcava_on_the_left(case: Planting, mm: float) -> None:
    case.shift("postcava", left=mm)


# Organs


@kind("femur-too-short", FEMUR, structures=("femur_left",), levels=(0.6, 0.4, 0.2))
def femur_too_short(case: Planting, fraction: float) -> None:
    shorter(case, "femur_left", fraction, from_top=False)


@kind(
    "kidney-pelvis-filled",
    "Kidneys: parenchyma, without the renal pelvis.",
    structures=("kidney_left",),
    levels=(30, 15),
)
def kidney_pelvis_filled(case: Planting, mm: float) -> None:
    """Closed by a ball of this radius."""
    kidney = case.mask("kidney_left")
    grown = case.distance(kidney, within_mm=mm) <= mm
    case.put("kidney_left", kidney | (ndimage.binary_fill_holes(grown) & (case.depth(grown) > mm)))


@kind(
    "lung-with-effusion",
    "Lungs: without pleural effusion.",
    structures=("lung_right",),
    levels=(0.5, 0.25, 0.1),
)
def lung_with_effusion(case: Planting, fraction: float) -> None:
    """Water in the CT at the back of the lung, and the mask has it."""
    lung = case.mask("lung_right")
    case.ct[share(lung, along(FRONT, lung), fraction)] = 12


@kind(
    "bladder-too-high",
    PLACE,
    structures=("bladder",),
    levels=("above the kidneys", "beside the kidneys", "60 mm"),
)
def bladder_too_high(case: Planting, how: str) -> None:
    bladder = case.mask("bladder")
    if how == "60 mm":
        case.shift("bladder", down=-60)
        return
    kidneys = case.mask("kidney_left") | case.mask("kidney_right")
    place = centre(bladder)
    place[DOWN] = centre(kidneys)[DOWN]
    if how == "above the kidneys":
        place[DOWN] -= 75 / case.spacing[DOWN]
    case.put("bladder", onto(bladder, place))


@kind("prostate-too-high", PLACE, structures=("prostate",), levels=(200, 100, 50))
def prostate_too_high(case: Planting, mm: float) -> None:
    case.shift("prostate", down=-mm)


@kind(
    "gall-bladder-away",
    PLACE,
    structures=("gall_bladder",),
    levels=("in the spleen", "mirrored", "60 mm to the left"),
)
def gall_bladder_away(case: Planting, how: str) -> None:
    mask = case.mask("gall_bladder")
    place = centre(mask)
    if how == "in the spleen":
        place = centre(case.mask("spleen"))
    elif how == "mirrored":
        place[LEFT] = 2 * centre(case.mask("aorta"))[LEFT] - place[LEFT]
    else:
        place[LEFT] += 60 / case.spacing[LEFT]
    case.put("gall_bladder", onto(mask, place))


@kind(
    "bile-duct-into-stomach",
    "Bile duct: from the hepatic ducts to the ampulla.",
    structures=("common_bile_duct",),
    levels=("whole", "its lower half"),
)
def bile_duct_into_stomach(case: Planting, how: str) -> None:
    duct, stomach = case.mask("common_bile_duct"), centre(case.mask("stomach"))
    if how == "whole":
        case.put("common_bile_duct", onto(duct, stomach))
        return
    lower = share(duct, -along(DOWN, duct), 0.5)
    case.put("common_bile_duct", (duct & ~lower) | onto(lower, stomach))


@kind(
    "adrenal-in-kidney",
    "Adrenal glands: exclude nearby organs.",
    structures=("adrenal_gland_left",),
    levels=("its middle", "its upper end"),
)
def adrenal_in_kidney(case: Planting, how: str) -> None:
    gland, kidney = case.mask("adrenal_gland_left"), case.mask("kidney_left")
    target = kidney if how == "its middle" else share(kidney, along(DOWN, kidney), 0.15)
    case.put("adrenal_gland_left", onto(gland, centre(target)))


@kind(
    "duodenum-away",
    "Duodenum: from the bulb to the ligament of Treitz, around the head.",
    structures=("duodenum",),
    levels=(100, 60, 30),
)
def duodenum_away(case: Planting, mm: float) -> None:
    case.shift("duodenum", down=mm)


@kind("spleen-too-low", PLACE, structures=("spleen",), levels=(150, 80, 40))
def spleen_too_low(case: Planting, mm: float) -> None:
    case.shift("spleen", down=mm)
