"""Bone in the mask of a vessel: a piece of the spine was taken for its lumen or its wall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pantskit.check.border import hu_between
from pantskit.check.findings import Fault, Severity, Voxel
from pantskit.check.region import Region, common
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.scan import Scan
from pantskit.core.labels import Mask
from pantskit.measure.boxes import Box, within

_MARGIN_MM = 15.0
_BONE_ML = 1.0  # of one piece outside the mask: more than any plaque or branch shows there
_BRIGHTER_HU = 100.0  # than the blood: cortical bone, which has 300 HU and more, half in a voxel
_BONE_HU = 180.0  # where the blood is dark: marrow of 100 to 250 HU with its cortex
_MARROW_HU = 100.0
_WALL_MM = 2.5  # of aorta, and the blur at it


@rule(
    "bone",
    Severity.WARNING,
    Scope.CONTENT,
    reason="Bone that goes on outside the mask is the spine: a vertebra was taken into the vessel.",
    standard="Aorta: lumen and wall with calcification, no surrounding tissue.",
    share=0.02,
    contact_cm2=2.5,
    marrow_share=0.08,
    marrow_contact_cm2=5,
    bright_hu=200,
)
def bone(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The aorta's mask holds no bone that goes on outside it over a broad border.

    Calcified plaques are as bright, but end with the wall, which fat and ligament part from the
    spine. Where the blood is brighter than marrow, in the arterial phase, marrow tells: darker
    than the blood, brighter than a thrombus, and no part of the wall's blurred border.
    """
    if scan.ct is None or "aorta" not in scan.regions:
        return
    around = _around(scan, "aorta")
    darkest, _ = hu_between(scan, "aorta", 0.25, 0.25)
    bright = around.hu > max(darkest + _BRIGHTER_HU, _BONE_HU)
    found = _going_on(scan, around, bright, least_share=limits["share"])
    told = found.share > limits["share"] and found.contact_cm2 > limits["contact_cm2"]
    blood = scan.median_hu("aorta")
    if not told and blood > limits["bright_hu"]:
        marrow = (around.hu > _MARROW_HU) & (around.hu < blood - 80)
        found = _going_on(scan, around, marrow, least_share=limits["marrow_share"])
        told = found.contact_cm2 > limits["marrow_contact_cm2"]
        told = told and _deep_share(scan, around, found.inside) > limits["marrow_share"]
    if told:
        region = Region(np.asfortranarray(found.inside), around.start)
        yield scan.fault(
            f"{found.share:.0%} of the aorta's mask is bone that goes on outside it, over "
            f"{found.contact_cm2:.0f} cm2: a part of the spine",
            "aorta",
            found.share,
            at=scan.at(region.widest),
        )


@dataclass(frozen=True)
class _Around:
    """The scan around a structure, at the structure's heights.

    Attributes:
        start: index in the scan of the first voxel.
        hu: (i, j, k) view of the CT.
        own: the structure.
        free: what no structure has.
    """

    start: Voxel
    hu: NDArray[np.int16]
    own: Mask
    free: Mask


@dataclass(frozen=True)
class _GoingOn:
    """What of a structure goes on outside it: where, its share, and the border's size."""

    inside: Mask
    share: float
    contact_cm2: float


def _around(scan: Scan, structure: str) -> _Around:
    region = scan.regions[structure]
    sides = []
    for part, n, mm in zip(region.box, scan.geometry.shape, scan.geometry.spacing, strict=True):
        margin = int(_MARGIN_MM / mm) + 1
        sides.append(slice(max(0, part.start - margin), min(n, part.stop + margin)))
    box: Box = (sides[0], sides[1], region.box[2])
    assert scan.ct is not None  # the rule has asked
    hu = scan.ct[box]
    own = np.zeros(hu.shape, np.bool_, order="F")
    own[within(box, region.box)] = region.array
    free = ~own
    for name, other in scan.regions.items():
        shared = common(box, other.box) if name != structure else None
        if shared is not None:
            free[within(box, shared)] &= ~other.crop(shared)
    return _Around((box[0].start, box[1].start, box[2].start), hu, own, free)


def _going_on(scan: Scan, around: _Around, like: Mask, *, least_share: float) -> _GoingOn:
    """What of some voxels lies in the structure and goes on outside it in a large piece."""
    from scipy.ndimage import label

    own = around.own
    size = int(np.count_nonzero(own))
    if np.count_nonzero(like & own) < least_share * size:
        return _GoingOn(np.zeros_like(own), 0.0, 0.0)
    pieces, count = label(like & (own | around.free))
    outside = np.bincount(pieces[around.free], minlength=count + 1)
    outside[0] = 0
    large = outside * scan.geometry.voxel_volume_mm3 > 1000 * _BONE_ML
    inside, beyond = large[pieces] & own, large[pieces] & around.free
    contact = 0.0
    for axis, mm in enumerate(scan.geometry.spacing):
        a, b = np.moveaxis(inside, axis, 0), np.moveaxis(beyond, axis, 0)
        faces = np.count_nonzero(a[1:] & b[:-1]) + np.count_nonzero(a[:-1] & b[1:])
        contact += faces * scan.geometry.voxel_volume_mm3 / mm / 100
    return _GoingOn(inside, int(np.count_nonzero(inside)) / size, contact)


def _deep_share(scan: Scan, around: _Around, inside: Mask) -> float:
    """Share of a structure without its border, in its axial slices, that some voxels take."""
    from scipy.ndimage import binary_erosion

    i, _, _ = scan.geometry.spacing
    cross = np.zeros((3, 3, 1), np.bool_)
    cross[1, :, 0] = cross[:, 1, 0] = True
    deep = binary_erosion(around.own, cross, iterations=max(1, round(_WALL_MM / i)))
    whole = int(np.count_nonzero(deep))
    return int(np.count_nonzero(deep & inside)) / whole if whole else 0.0
