"""A CT painted from a map of the 28 structures: real anatomy, made-up grey values.

What the structures leave open (skin, fat, muscles, bones, bowel) comes from the phantom's own
trunk, fitted to the structures, and from the hull around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

from pantskit.core.errors import LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, PANCREAS, STRUCTURES, Mask
from pantskit.phantom.fields import Float32, Float64, Placement, Ripple
from pantskit.phantom.layers import Layer
from pantskit.phantom.patient import Anatomy, Patient, anatomy
from pantskit.phantom.render import Scanner, render
from pantskit.phantom.tissues import PARTS, TISSUE_ID, structure_mask
from pantskit.phantom.voxelize import tissue_map

PAINT_SCANNER = Scanner((0.8, 0.8, 0.4), noise_hu=14.0, grain_voxels=0.9)

# Tissues of the phantom's trunk that no mask names.
_BACKGROUND = {
    *("skin", "fat", "muscle", "visceral_fat", "bone_cortex", "bone_marrow", "rib_bone"),
    *("cartilage", "disc", "spinal_canal", "heart_muscle", "heart_blood", "bowel_wall"),
    "bowel_lumen",
}
# Structures whose centres place the trunk: compact, and seldom displaced.
_ANCHORS = (
    "aorta",
    "postcava",
    "kidney_left",
    "kidney_right",
    "pancreas",
    "spleen",
    "liver",
    "adrenal_gland_left",
    "adrenal_gland_right",
    "celiac_artery",
    "bladder",
    "femur_left",
    "femur_right",
)
_HULL_DIRECTIONS = 32
MUSCLE_MM = 11.0
_WALL = [TISSUE_ID[name] for name in ("air", "skin", "fat", "muscle")]
# (structure, wall's tissue, inner tissue, wall in mm)
_SHELLS = (
    ("stomach", "stomach_wall", "stomach_lumen", 3.8),
    ("duodenum", "duodenum_wall", "duodenum_lumen", 2.6),
    ("colon", "colon_wall", "colon_stool", 2.4),
    ("bladder", "bladder_wall", "urine", 3.0),
    ("kidney_left", "kidney_cortex_left", "kidney_medulla_left", 9.0),
    ("kidney_right", "kidney_cortex_right", "kidney_medulla_right", 9.0),
    ("femur_left", "femur_cortex_left", "femur_marrow_left", 3.4),
    ("femur_right", "femur_cortex_right", "femur_marrow_right", 3.4),
)
_SOLID = (
    ("lung_left", "lung_left"),
    ("lung_right", "lung_right"),
    ("liver", "liver"),
    ("spleen", "spleen"),
    ("gall_bladder", "gall_bladder"),
    ("prostate", "prostate"),
    ("adrenal_gland_left", "adrenal_left"),
    ("adrenal_gland_right", "adrenal_right"),
)
_TUBES = (
    ("postcava", "postcava"),
    ("aorta", "aorta"),
    ("veins", "portal_splenic_vein"),
    ("superior_mesenteric_artery", "mesenteric_artery"),
    ("celiac_artery", "celiac_artery"),
    ("common_bile_duct", "bile_duct"),
)


def paint(
    masks: Mapping[str, Mask],
    geometry: Geometry,
    phase: str,
    rng: np.random.Generator,
    *,
    scanner: Scanner = PAINT_SCANNER,
    fat_mm: float = 18.0,
) -> NDArray[np.int16]:
    """A CT whose organs are those of the masks.

    Args:
        masks: (i, j, k) bool by structure, of the 28; missing and empty ones are not painted.
        geometry: their grid, in any orientation.
        phase: contrast phase, one of `tissues.PHASES`.
        rng: of everything random.
        scanner: blur and noise.
        fat_mm: fat under the skin.

    Returns:
        (i, j, k) int16 HU in Fortran order.

    Raises:
        LabelError: If no structure has a voxel, or a name is none of the 28.
    """
    unknown = set(masks) - set(STRUCTURES)
    if unknown:
        raise LabelError(f"cannot paint {', '.join(sorted(unknown))}: none of the 28 structures")
    present = {name: mask for name, mask in masks.items() if mask.any()}
    if not present:
        raise LabelError("cannot paint a CT: no structure has a voxel")
    wall, within = _trunk_for(present, geometry, rng)
    tissues = tissue_map(wall, geometry)
    _wrap(tissues, present, geometry, fat_mm)
    tissue_map(within, geometry, base=tissues)
    _paint_masks(tissues, present, geometry, rng)
    return render(tissues, geometry.spacing, phase, rng, scanner=scanner)


def _trunk_for(
    masks: Mapping[str, Mask], geometry: Geometry, rng: np.random.Generator
) -> tuple[Anatomy, Anatomy]:
    """The phantom's trunk without its organs, placed by the masks' centres: wall, and inside."""
    model = _model("M" if "prostate" in masks else "F", int(rng.integers(2**31)))
    placement = _fitted(model.placement, masks, geometry)
    bare = [
        item
        for item in model.layers
        if isinstance(item, Layer) and {name for _, name in item.tissues} <= _BACKGROUND
    ]
    first_inside = next(n for n, item in enumerate(bare) if item.over == ("visceral_fat",))
    wall, within = bare[:first_inside], bare[first_inside:]
    return (
        replace(model, layers=tuple(wall), placement=placement),
        replace(model, layers=tuple(within), placement=placement),
    )


def _model(sex: str, seed: int) -> Anatomy:
    return anatomy(Patient("model", (seed,), sex, 60, (1.0, 1.0, 1.0), 16.0, 1.0, None))


@cache
def _model_centres() -> dict[str, Float64]:
    """(3,) RAS+ mm of the anchors in an average phantom, wholly in view."""
    model = _model("M", 0)
    grid = Geometry.from_spacing(
        (80, 60, 110), (5, 5, 5), orientation="RAS", origin=(-200, -150, -400)
    )
    tissues = tissue_map(model, grid, thin_mm=3.0)
    centres = {}
    for name in _ANCHORS:
        places = np.argwhere(structure_mask(tissues, name))
        centres[name] = grid.to_world(places.mean(axis=0))
    return centres


def _fitted(model: Placement, masks: Mapping[str, Mask], geometry: Geometry) -> Placement:
    """The model's placement, moved and stretched along each axis to meet the masks' centres."""
    own, theirs = [], []
    for name, centre in _model_centres().items():
        # a structure that the field of view cuts has its centre elsewhere
        if name in masks and not _is_cut(masks[name], geometry):
            own.append(centre)
            theirs.append(geometry.to_world(_centre(masks[name])))
    if not own:
        places = np.mean([geometry.to_world(_centre(m)) for m in masks.values()], axis=0)
        return model.moved_to(places)
    a, b = np.array(own), np.array(theirs)
    scale = np.ones(3)
    if len(own) >= 4:
        spread = a - a.mean(axis=0)
        scale = (spread * (b - b.mean(axis=0))).sum(axis=0) / (spread**2).sum(axis=0)
    scale = np.clip(scale, 0.8, 1.3)
    origin = b.mean(axis=0) - scale * a.mean(axis=0)
    stretched = Placement(model.origin, scale, model.vectors, model.phases, model.amplitudes)
    return stretched.moved_to(origin)


def _centre(mask: Mask) -> Float64:
    """Voxel index of a mask's centre."""
    sums = [mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    return np.array([(line @ np.arange(len(line))) / line.sum() for line in sums])


def _is_cut(mask: Mask, geometry: Geometry) -> bool:
    """Whether a mask reaches the first or last slice along the body."""
    axis = int(np.abs(geometry.affine[2, :3]).argmax())
    slices = np.moveaxis(mask, axis, 2)
    return bool(slices[:, :, 0].any() or slices[:, :, -1].any())


def _wrap(
    tissues: NDArray[np.uint8], masks: Mapping[str, Mask], geometry: Geometry, fat_mm: float
) -> None:
    """Fit the wall of the trunk to the structures: one convex outline a slice, smooth over slices.

    Where liver or lungs say how wide the trunk is, the outline follows the hull of the
    structures; elsewhere it also holds the phantom's own trunk.
    """
    axis = int(np.abs(geometry.affine[2, :3]).argmax())
    view = np.moveaxis(tissues, axis, 2)
    along = _along(geometry, axis)
    spacing = geometry.spacing[axis]
    wide = [masks[name] for name in ("liver", "lung_left", "lung_right") if name in masks]
    hull = _reaches(_union(list(masks.values()), axis), along, spacing)
    body = hull + (MUSCLE_MM + fat_mm)
    if wide:
        known: Mask = np.asarray(_union(wide, axis).any(axis=(0, 1)))
        own = _reaches(np.asarray(view != TISSUE_ID["air"]), along, spacing)
        body = np.where(known[:, None], body, np.maximum(body, own))
        body = gaussian_filter1d(body, max(0.5, 12.0 / spacing), axis=0, mode="nearest")
    else:
        known = np.zeros(len(hull), dtype=np.bool_)
    for k in range(view.shape[2]):
        part = view[:, :, k]
        beyond = (along - hull[k]).max(axis=2)  # mm outside the structures' hull
        outside = (along - body[k]).max(axis=2)  # mm outside the body
        soft: Mask = np.asarray(np.isin(part, _WALL))
        part[soft & (beyond < 2)] = TISSUE_ID["visceral_fat"]
        ring = soft if known[k] else part == TISSUE_ID["air"]
        part[ring & (beyond >= 2)] = TISSUE_ID["muscle"]
        part[ring & (beyond >= MUSCLE_MM)] = TISSUE_ID["fat"]
        part[outside > -2] = TISSUE_ID["skin"]
        part[outside > 0] = TISSUE_ID["air"]


def _along(geometry: Geometry, axis: int) -> Float32:
    """(n, m, directions) in-plane position of a slice's voxels along each direction, mm."""
    step = [np.delete(geometry.affine[:3, n], 2) for n in range(3) if n != axis]
    size = [geometry.shape[n] for n in range(3) if n != axis]
    angles = np.linspace(0, 2 * np.pi, _HULL_DIRECTIONS, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    rows = np.arange(size[0])[:, None] * (step[0] @ directions)
    columns = np.arange(size[1])[:, None] * (step[1] @ directions)
    return np.asarray(rows[:, None] + columns[None], dtype=np.float32)


def _union(masks: list[Mask], axis: int) -> Mask:
    """Union of masks, slices last."""
    union = np.zeros(masks[0].shape, dtype=np.bool_, order="F")
    for mask in masks:
        union |= mask
    return np.moveaxis(union, axis, 2)


def _reaches(union: Mask, along: Float32, spacing_mm: float) -> Float32:
    """(slices, directions) how far the structures reach in each direction, smooth over slices."""
    reach = np.full((union.shape[2], along.shape[2]), np.nan)
    for k in range(union.shape[2]):
        if union[:, :, k].any():
            reach[k] = along[union[:, :, k]].max(axis=0)
    known = np.flatnonzero(~np.isnan(reach[:, 0]))
    every = np.arange(len(reach))
    filled = np.stack([np.interp(every, known, column[known]) for column in reach.T], axis=1)
    smooth = gaussian_filter1d(filled, max(0.5, 15.0 / spacing_mm), axis=0, mode="nearest")
    # smoothing must not cut off what sticks out
    return np.asarray(np.maximum(smooth, filled), dtype=np.float32)


def _paint_masks(
    tissues: NDArray[np.uint8],
    masks: Mapping[str, Mask],
    geometry: Geometry,
    rng: np.random.Generator,
) -> None:
    for name, wall, inner, wall_mm in _SHELLS:
        if name in masks:
            _paint_shell(tissues, masks[name], geometry, wall, inner, wall_mm)
    for name, tissue in _SOLID:
        if name in masks:
            tissues[masks[name]] = TISSUE_ID[tissue]
    for organ, vessel in (
        ("liver", "liver_vein"),
        ("lung_left", "lung_vessel_left"),
        ("lung_right", "lung_vessel_right"),
    ):
        if organ in masks:
            _paint_branches(tissues, masks[organ], geometry, vessel, rng)
    _paint_gas(tissues, masks, geometry, rng)
    if PANCREAS in masks:
        tissues[masks[PANCREAS]] = TISSUE_ID["pancreas_head"]
    for part in PARTS:
        if f"pancreas_{part}" in masks:
            tissues[masks[f"pancreas_{part}"]] = TISSUE_ID[f"pancreas_{part}"]
    for name, tissue in _TUBES:
        if name in masks:
            tissues[masks[name]] = TISSUE_ID[tissue]
    for name, kind in (("pancreatic_duct", "duct"), (LESION, "lesion")):
        if name in masks:
            tissues[masks[name]] = TISSUE_ID[f"{kind}_head"]


def _box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, a voxel wider where there is room."""
    plane: Mask = np.asarray(mask.any(axis=2))
    line: Mask = np.asarray(mask.any(axis=(0, 1)))
    found = (np.flatnonzero(hits) for hits in (plane.any(axis=1), plane.any(axis=0), line))
    return tuple(slice(max(0, int(hits[0]) - 1), int(hits[-1]) + 2) for hits in found)


def _paint_shell(
    tissues: NDArray[np.uint8], mask: Mask, geometry: Geometry, wall: str, inner: str, mm: float
) -> None:
    box = _box(mask)
    inside = mask[box]
    depth = distance_transform_edt(inside, sampling=geometry.spacing)
    part = tissues[box]
    part[inside] = TISSUE_ID[wall]
    part[depth > mm] = TISSUE_ID[inner]


def _paint_branches(
    tissues: NDArray[np.uint8],
    mask: Mask,
    geometry: Geometry,
    vessel: str,
    rng: np.random.Generator,
) -> None:
    """Vessel-like lines inside an organ: where two smooth fields are both near zero."""
    places = np.argwhere(mask)
    x, y, z = geometry.to_world(places).astype(np.float32).T
    distance = np.zeros(len(places), dtype=np.float32)
    for _ in range(2):
        field = Ripple.random(rng, 1.0, (38, 70))
        # over its usual slope, a field of standard deviation 1 is a distance in mm from its zeros
        slope = np.linalg.norm(field.vectors, axis=1).mean() / np.sqrt(3)
        distance += (_wave(field, x, y, z) / np.float32(slope)) ** 2
    hit = places[distance < 2.2**2]
    tissues[tuple(hit.T)] = TISSUE_ID[vessel]


def _wave(field: Ripple, x: Float32, y: Float32, z: Float32) -> Float32:
    total = np.zeros_like(x)
    for kx, ky, kz, phase, amplitude in field.waves:
        total += amplitude * np.sin(kx * x + ky * y + kz * z + phase)
    return total


def _paint_gas(
    tissues: NDArray[np.uint8],
    masks: Mapping[str, Mask],
    geometry: Geometry,
    rng: np.random.Generator,
) -> None:
    """Gas in the front part of the stomach, and in stretches of the colon."""
    if "stomach" in masks:
        places = np.argwhere(tissues == TISSUE_ID["stomach_lumen"])
        if len(places):
            y = geometry.to_world(places)[:, 1]
            gas = places[y > np.quantile(y, 0.8)]
            tissues[tuple(gas.T)] = TISSUE_ID["stomach_gas"]
    if "colon" in masks:
        places = np.argwhere(tissues == TISSUE_ID["colon_stool"])
        if len(places):
            x, y, z = geometry.to_world(places).astype(np.float32).T
            level = _wave(Ripple.random(rng, 1.0, (90, 180)), x, y, z)
            gas = places[level > np.quantile(level, 0.6)]
            tissues[tuple(gas.T)] = TISSUE_ID["colon_gas"]
