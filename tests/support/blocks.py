"""Organs as blocks of voxels in a trunk of 240 x 160 x 400 mm, for rules whose answer is plain."""

from __future__ import annotations

import numpy as np

from pantskit.check.registry import built_in_rules
from pantskit.check.scan import Scan
from pantskit.core.geometry import Geometry

SHAPE = (60, 40, 100)
SPACING = (4.0, 4.0, 4.0)
# Box in voxels toward right, front and head.
TRUNK = {
    "liver": ((32, 54), (12, 32), (60, 82)),
    "spleen": ((6, 14), (8, 16), (62, 78)),
    "stomach": ((12, 31), (22, 34), (62, 76)),
    "kidney_left": ((10, 18), (4, 12), (44, 62)),
    "kidney_right": ((42, 50), (4, 12), (42, 58)),
    "adrenal_gland_left": ((18, 20), (8, 11), (60, 64)),
    "adrenal_gland_right": ((40, 42), (8, 11), (58, 62)),
    "aorta": ((26, 31), (8, 13), (34, 90)),
    "postcava": ((34, 38), (9, 12), (34, 82)),
    "superior_mesenteric_artery": ((28, 30), (13, 18), (40, 60)),
    "celiac_artery": ((28, 30), (13, 17), (63, 66)),
    "pancreas_head": ((31, 40), (14, 20), (46, 58)),
    "pancreas_body": ((26, 31), (18, 22), (52, 58)),
    "pancreas_tail": ((14, 26), (16, 21), (54, 60)),
    "veins": ((14, 37), (14, 16), (60, 62)),
    "duodenum": ((40, 44), (14, 24), (40, 60)),
    "common_bile_duct": ((38, 40), (16, 18), (50, 60)),
    "gall_bladder": ((38, 44), (26, 32), (54, 60)),
    "bladder": ((24, 36), (16, 26), (14, 24)),
    "prostate": ((27, 33), (14, 20), (8, 13)),
    "femur_left": ((8, 14), (14, 20), (2, 32)),
    "femur_right": ((46, 52), (14, 20), (2, 32)),
    "lung_left": ((6, 26), (6, 32), (82, 100)),
    "lung_right": ((34, 54), (6, 32), (82, 100)),
}
# Balls of 48 mm, by their middle.
FEMORAL_HEADS = {"femur_left": (17.5, 16.5, 27.5), "femur_right": (41.5, 16.5, 27.5)}
HU = {
    "lung_left": -850, "lung_right": -850, "aorta": 160, "veins": 175, "postcava": 140,
    "celiac_artery": 160, "superior_mesenteric_artery": 160, "kidney_left": 180,
    "kidney_right": 180, "femur_left": 300, "femur_right": 300, "bladder": 8, "gall_bladder": 12,
    "common_bile_duct": 12, "stomach": 40, "duodenum": 50,
}  # fmt: skip


def block(i, j, k):
    """A mask along the body's axes."""
    mask = np.zeros(SHAPE, bool)
    mask[slice(*i), slice(*j), slice(*k)] = True
    return mask


def ball(middle, radius):
    """A mask of the voxels whose middle is within a radius, both in voxels."""
    return sum((n - m) ** 2 for n, m in zip(np.indices(SHAPE), middle, strict=True)) <= radius**2


def trunk(**changed):
    """Masks of the whole trunk; a structure may be replaced, or left out by None."""
    masks = {name: block(*box) for name, box in TRUNK.items()}
    for name, middle in FEMORAL_HEADS.items():
        masks[name] |= ball(middle, 6)
    masks["pancreas"] = masks["pancreas_head"] | masks["pancreas_body"] | masks["pancreas_tail"]
    return {name: mask for name, mask in (masks | changed).items() if mask is not None}


def painted(masks):
    """A CT of the portal venous phase: fat, and each organ with its HU."""
    ct = np.full(SHAPE, -90, np.int16)
    for name in sorted(masks, key=lambda name: "duct" in name):  # what lies inside comes last
        ct[masks[name]] = HU.get(name, 100)
    return ct


def scan(masks, *, orientation="RAS", ct=None, spacing=SPACING, **metadata):
    """A scan of masks given along the body's axes, stored in another orientation."""
    geometry = Geometry.from_spacing(SHAPE, spacing, orientation="RAS")
    stored = geometry.reoriented(orientation)
    turn = stored.axis_map("RAS")

    def stored_as(array):
        # Undone by hand: axes back in the file's order, then flipped where the file runs back.
        array = array.transpose([int(axis) for axis in turn[:, 0]])
        flips = tuple(slice(None, None, int(flip)) for flip in turn[:, 1])
        return np.asfortranarray(array[flips])

    return Scan.from_masks(
        "case",
        stored,
        {name: stored_as(mask) for name, mask in masks.items()},
        ct=None if ct is None else stored_as(ct),
        metadata=metadata,
    )


def faults(name, view, **limits):
    """What one of our rules finds."""
    (rule,) = (r for r in built_in_rules() if r.name == name)
    return list(rule(view, **limits))
