"""What of the body a CT shows, from its voxels: can a face be recognised, is the body cut off?

Everything is told from axial slices of a coarse grid (4 x 4 x 6 mm). In each the largest piece of
tissue, with all it encloses, is the body; its area, lung and bone say what kind of slice it is:

- **trunk**: 400 cm2 or more, or lung inside it, and little dense bone. A head has 200 to 350 cm2
  and a skull: at least 5 % of it exceeds 350 HU, of a trunk 0.3 to 4 %.
- **head**: small and bony, necks included: where a neck begins, a chin may follow. At the ends of
  a scan bone alone is enough, since raised arms and a table may add to the area.
- **limbs**: two pieces of like size.

Flags err on the side of the face: `head_in_view` is False only when the slices at both ends of the
scan are trunk (or limbs), which leaves no place for a head; children, zoomed views and hip
prostheses at the end of a scan are None, not clear. Where it fails: an emphysematous lung counts
as gas, so chest may be missed; positive oral contrast or metal beside the spine may pass for
pelvic bone; arms are not told from other pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.ingest.facts.describe import REGIONS
from pantskit.ingest.facts.sample import Sample, Steps

_COARSE_MM = (4.0, 4.0, 6.0)
_TISSUE_FROM, _BONE_FROM = -300, 350
_LUNG = (-940, -600)  # gas in bowel is darker

_TRUNK_CM2, _TRUNK_BONE_TO = 400.0, 0.04
_SMALL_TRUNK_CM2, _SMALL_TRUNK_BONE_TO = 280.0, 0.03
_CHEST_CM2, _CHEST_LUNG_FROM = 100.0, 0.2
_HEAD_CM2, _HEAD_BONE_FROM, _HEAD_MM = (30.0, 400.0), 0.05, 10.0
_BONY_END_FROM = 0.06  # shoulders and hips have 0.05 at most
_SKULL_CM2, _SKULL_BONE_FROM, _SKULL_MM = 100.0, 0.1, 50.0
_LIMB_CM2, _LIMB_RATIO = 30.0, 0.5

# A slice with lung in an eighth of it is of the chest; the bases alone reach 100 mm at most.
_LUNG_SLICE, _NO_LUNG = 0.12, 0.05
_CHEST_MM, _ABDOMEN_MM, _PELVIS_MM = 100.0, 60.0, 40.0
# Iliac bones and hips: dense bone on both sides, 50 mm or more from the middle. Ribs have less.
_PELVIC_BONE_FROM, _PELVIC_BONE_FROM_MIDDLE_MM = 0.004, 50.0

# Contact with the edge counts when the body is 30 mm deep behind it: a table is not.
_CONTACT_MM, _DEPTH_MM = 30.0, 30.0

# A region whose organ is labelled is in view, whatever the bones say.
_REGION_OF = {
    "liver": "abdomen",
    "pancreas": "abdomen",
    "spleen": "abdomen",
    "kidney_left": "abdomen",
    "kidney_right": "abdomen",
    "bladder": "pelvis",
    "prostate": "pelvis",
    "femur_left": "pelvis",
    "femur_right": "pelvis",
}


@dataclass(frozen=True)
class View:
    """What a CT shows.

    Attributes:
        head_in_view: whether a face may be recognised; None where that is not clear.
        regions: each of describe.REGIONS to whether it is in view, None where not clear. The
            bases of the lung alone make the chest None. A neck is never told for sure.
        lung_mm: extent of the slices with lung.
        truncated: sides on which the reconstructed field cuts the body.
        cut: structure to the ends or sides of the volume at which its mask touches the border.
        pancreas_in_view: the labelled pancreas is whole; None where it is not labelled.
        faults: what is odd, in words.
    """

    head_in_view: bool | None
    regions: dict[str, bool | None]
    lung_mm: float
    truncated: tuple[str, ...] = ()
    cut: dict[str, list[str]] = field(default_factory=dict)
    pancreas_in_view: bool | None = None
    faults: tuple[str, ...] = ()

    def columns(self) -> dict[str, Any]:
        """Its columns of the metadata table."""
        return {
            "regions": "-".join(r for r in REGIONS if self.regions[r]) or None,
            "head_in_view": self.head_in_view,
            "body_truncated": bool(self.truncated),
        }

    def as_record(self) -> dict[str, Any]:
        """For the case's record."""
        return {
            **self.columns(),
            "regions": self.regions,
            "lung_mm": round(self.lung_mm),
            "truncated": list(self.truncated),
            "cut": self.cut,
            "pancreas_in_view": self.pancreas_in_view,
            "faults": list(self.faults),
        }


def look_at(
    ct: Volume, masks: CodedMasks | None = None, header_regions: Iterable[str] = ()
) -> View:
    """What a CT shows, from its voxels and its labels.

    Args:
        ct: HU; any orientation, read from its affine.
        masks: on the CT's grid; None without annotations.
        header_regions: regions that the header names, to compare with.
    """
    sample = Sample.of(ct.array, view_steps(ct.geometry))
    return look_at_sample(sample, ct.geometry, masks, header_regions)


def look_at_sample(
    sample: Sample,
    geometry: Geometry,
    masks: CodedMasks | None = None,
    header_regions: Iterable[str] = (),
) -> View:
    """The same from a sample of the CT.

    Args:
        sample: HU, thinned by `view_steps`.
        geometry: of the CT and of its masks.
        masks, header_regions: as for `look_at`.
    """
    coarse = _coarse(sample, geometry)
    slices = _Slices.of(coarse)
    regions = slices.regions()
    labelled = {s for s, n in masks.counts.items() if n} if masks else set()
    regions |= {_REGION_OF[s]: True for s in labelled if s in _REGION_OF}
    cut = cut_structures(masks, geometry) if masks else {}
    head = slices.head_in_view()
    absent = [r for r in header_regions if regions.get(r) is False]
    faults = [f"BodyPartExamined names the {r}, which is not in view" for r in absent]
    if head and header_regions and not {"head", "neck"}.intersection(header_regions):
        faults.append("a head or neck may be in view, which BodyPartExamined does not name")
    return View(
        head_in_view=head,
        regions=regions,
        lung_mm=float(slices.step_mm * np.count_nonzero(slices.lung >= _LUNG_SLICE)),
        truncated=_truncated(coarse, slices.body),
        cut=cut,
        pancreas_in_view="pancreas" not in cut if "pancreas" in labelled else None,
        faults=tuple(faults),
    )


def view_steps(geometry: Geometry) -> Steps:
    """Which voxels of a CT tell what it shows: every n-th along each axis."""
    # Millimetres of each axis: the coarser step goes along the one between slices.
    wanted = [_COARSE_MM[2] if c in "SI" else _COARSE_MM[0] for c in geometry.orientation]
    i, j, k = (max(1, round(w / s)) for w, s in zip(wanted, geometry.spacing, strict=True))
    return i, j, k


def _coarse(sample: Sample, geometry: Geometry) -> Volume:
    """The sample in its place, in the standard orientation: i to the left, j to the front, k down.

    Args:
        sample: of a CT.
        geometry: of that CT.
    """
    affine = geometry.affine @ np.diag([*sample.steps, 1.0])
    return Volume(sample.array, Geometry(sample.array.shape, affine)).reoriented()


@dataclass(frozen=True)
class _Slices:
    """The body in each axial slice, from the head down.

    Attributes:
        body: (k, i, j) bool; the largest piece, filled.
        area_cm2, second_cm2: of it and of the next piece.
        lung, bone: shares of the body that are lung and dense bone.
        side_bone: the lesser of the shares that are dense bone far left and far right.
        step_mm: distance of the slices.
    """

    body: NDArray[np.bool_]
    area_cm2: NDArray[np.float64]
    second_cm2: NDArray[np.float64]
    lung: NDArray[np.float64]
    bone: NDArray[np.float64]
    side_bone: NDArray[np.float64]
    step_mm: float

    @classmethod
    def of(cls, coarse: Volume) -> _Slices:
        hu = np.ascontiguousarray(coarse.array.transpose(2, 0, 1))
        spacing = coarse.geometry.spacing
        pieces = _filled_pieces(hu > _TISSUE_FROM)
        sizes = np.bincount(pieces.ravel())
        first, second = _largest_two(pieces, sizes)
        body = (pieces == first[:, None, None]) & (first > 0)[:, None, None]
        count = np.maximum(body.sum(axis=(1, 2)), 1)
        dense = body & (hu > _BONE_FROM)
        i = np.arange(hu.shape[1])[:, None] * spacing[0]
        middle = (body.sum(axis=2) @ i)[:, 0] / count
        offset = i[None, :, :] - middle[:, None, None]
        left = (dense & (offset > _PELVIC_BONE_FROM_MIDDLE_MM)).sum(axis=(1, 2))
        right = (dense & (offset < -_PELVIC_BONE_FROM_MIDDLE_MM)).sum(axis=(1, 2))
        lung = body & (hu > _LUNG[0]) & (hu < _LUNG[1])
        cm2 = spacing[0] * spacing[1] / 100
        return cls(
            body=body,
            area_cm2=np.where(first > 0, count, 0) * cm2,
            second_cm2=np.where(second > 0, sizes[second], 0) * cm2,
            lung=lung.sum(axis=(1, 2)) / count,
            bone=dense.sum(axis=(1, 2)) / count,
            side_bone=np.minimum(left, right) / count,
            step_mm=float(spacing[2]),
        )

    @property
    def limbs(self) -> NDArray[np.bool_]:
        like = self.second_cm2 >= _LIMB_RATIO * self.area_cm2
        return like & (self.second_cm2 >= _LIMB_CM2)

    @property
    def trunk(self) -> NDArray[np.bool_]:
        large = (self.area_cm2 >= _TRUNK_CM2) & (self.bone <= _TRUNK_BONE_TO)
        small = (self.area_cm2 >= _SMALL_TRUNK_CM2) & (self.bone <= _SMALL_TRUNK_BONE_TO)
        chest = (self.area_cm2 >= _CHEST_CM2) & (self.lung >= _CHEST_LUNG_FROM)
        return large | small | (chest & (self.bone <= _TRUNK_BONE_TO))

    def head_in_view(self) -> bool | None:
        """True where any slices may be of a head, False where there is no place for one."""
        low, high = _HEAD_CM2
        small = (self.area_cm2 >= low) & (self.area_cm2 < high) & ~self.limbs & ~self.trunk
        head = small & (self.bone >= _HEAD_BONE_FROM)
        if self._mm(head) >= min(_HEAD_MM, self.step_mm * len(head)):
            return True
        if not self.trunk.any():
            return None
        # Between slices of the trunk no head lies: only the ends matter.
        trunk = np.flatnonzero(self.trunk)
        end = np.ones(len(head), bool)
        end[trunk[0] : trunk[-1] + 1] = False
        end &= ~self.limbs & (self.area_cm2 >= low)
        if self._mm(end & (self.bone >= _BONY_END_FROM)) >= _HEAD_MM:
            return True  # a head that arms and a table made large
        return False if self._mm(end) < _HEAD_MM and not head.any() else None

    def regions(self) -> dict[str, bool | None]:
        """Each region to whether it is in view, by the voxels alone."""
        head = None if self.head_in_view() is not False else False
        skull = (self.area_cm2 < _HEAD_CM2[1]) & (self.bone >= _SKULL_BONE_FROM) & ~self.limbs
        skull &= self.area_cm2 >= _SKULL_CM2
        with_lung = self.lung >= _LUNG_SLICE
        chest = _yes_no(self._mm(with_lung), _CHEST_MM) if self.trunk.any() else None
        belly = self.trunk & (self.lung < _NO_LUNG)
        pelvic = (self.area_cm2 >= _SMALL_TRUNK_CM2) & (self.lung < _NO_LUNG)
        pelvic &= self.side_bone >= _PELVIC_BONE_FROM
        pelvis = _extent(pelvic) * self.step_mm
        soft = self._mm(belly & ~pelvic)
        return {
            "head": True if self._mm(skull) >= _SKULL_MM else head,
            "neck": head,
            "chest": chest,
            "abdomen": _yes_no(soft, _ABDOMEN_MM),
            "pelvis": _yes_no(pelvis, _PELVIS_MM),
        }

    def _mm(self, slices: NDArray[np.bool_]) -> float:
        return float(np.count_nonzero(slices) * self.step_mm)


def _yes_no(mm: float, enough: float) -> bool | None:
    """True for enough, False for none to speak of, None between."""
    if mm >= enough:
        return True
    return False if mm < enough / 4 else None


def _extent(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run, a single gap allowed."""
    closed = flags.copy()
    closed[1:-1] |= flags[:-2] & flags[2:]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], closed.astype(np.int8), [0]))))
    return int(max(edges[1::2] - edges[::2], default=0))


def _filled_pieces(tissue: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(k, i, j) number of each piece of tissue of a slice with all that it encloses; 0 outside."""
    around = _numbered(~tissue, 4)
    rim = np.ones(tissue.shape[1:], bool)
    rim[1:-1, 1:-1] = False
    outside = np.zeros(int(around.max()) + 1, bool)
    outside[around[:, rim]] = True
    outside[0] = False
    return _numbered(~outside[around], 8)  # corners connect tissue, as they do not connect air


def _numbered(flags: NDArray[np.bool_], connectivity: Literal[4, 8]) -> NDArray[np.int32]:
    """(k, i, j) number of each connected piece within its slice, going on from slice to slice."""
    import cc3d

    numbers = np.empty(flags.shape, np.int32)
    before = np.zeros(len(flags) + 1, np.int32)
    for k, plane in enumerate(flags):
        numbers[k], count = cc3d.connected_components(
            plane, connectivity=connectivity, return_N=True
        )
        before[k + 1] = before[k] + count
    numbers += before[:-1, None, None] * (numbers > 0)
    return numbers


def _largest_two(
    pieces: NDArray[np.int32], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The largest and the next piece of each slice, 0 for none.

    Pieces are numbered slice by slice, since slices are the first axis.
    """
    last = np.maximum.accumulate(pieces.max(axis=(1, 2)))
    first = np.zeros(len(last), np.int64)
    second = np.zeros(len(last), np.int64)
    for k, stop in enumerate(last):
        start = (last[k - 1] if k else 0) + 1
        if stop >= start:
            order = np.argsort(sizes[start : stop + 1])[::-1] + start
            first[k] = order[0]
            second[k] = order[1] if len(order) > 1 else 0
    return first, second


def _truncated(coarse: Volume, body: NDArray[np.bool_]) -> tuple[str, ...]:
    """Sides on which the body reaches the edge of the field, square or round."""
    ni, nj = body.shape[1:]
    di, dj = coarse.geometry.spacing[:2]
    x = (np.arange(ni) - (ni - 1) / 2)[:, None] * di + np.zeros(nj)
    y = (np.arange(nj) - (nj - 1) / 2)[None, :] * dj + np.zeros((ni, 1))
    radius = np.hypot(x, y)
    edge = min(ni * di, nj * dj) / 2
    step = 1.5 * max(di, dj)
    corners = coarse.array[radius > edge + step]
    if corners.size and corners.min() == corners.max():  # a round field: constant outside it
        rim = (radius <= edge) & (radius > edge - step)
    else:
        rim = np.ones((ni, nj), bool)
        rim[1:-1, 1:-1] = False
    at = np.argwhere(rim)
    # The place 30 mm nearer to the middle of the field.
    nearer = 1 - _DEPTH_MM / np.maximum(radius[rim], _DEPTH_MM)
    deep_i = np.rint(x[rim] * nearer / di + (ni - 1) / 2).astype(int)
    deep_j = np.rint(y[rim] * nearer / dj + (nj - 1) / 2).astype(int)
    touch = body[:, at[:, 0], at[:, 1]] & body[:, deep_i, deep_j]
    sideways = np.abs(x[rim]) / (ni * di) >= np.abs(y[rim]) / (nj * dj)
    # Standard orientation: i runs to the left, j to the front.
    sides = {
        "left": sideways & (x[rim] > 0),
        "right": sideways & (x[rim] < 0),
        "front": ~sideways & (y[rim] > 0),
        "back": ~sideways & (y[rim] < 0),
    }
    enough = _CONTACT_MM / max(di, dj)
    return tuple(s for s, which in sides.items() if (touch[:, which].sum(axis=1) >= enough).any())


def cut_structures(masks: CodedMasks, geometry: Geometry) -> dict[str, list[str]]:
    """Structures whose masks touch the border of the volume, and where.

    Args:
        masks: of the CT's grid.
        geometry: of that grid; tells which end is which.

    Returns:
        Structure to some of `"left"`, `"right"`, `"front"`, `"back"`, `"top"`, `"bottom"`.
    """
    names = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "top", "I": "bottom"}
    opposite = dict(zip("LRAPSI", "RLPAIS", strict=True))
    found: dict[str, list[str]] = {}
    for axis, toward in enumerate(geometry.orientation):
        for index, letter in ((0, opposite[toward]), (-1, toward)):
            # By index: `take` would first copy the whole array.
            plane = masks.codes[(slice(None),) * axis + (index,)]
            codes = np.flatnonzero(np.bincount(plane.ravel())).tolist()
            held = frozenset().union(*(masks.sets[code] for code in codes))
            for structure in sorted(held):
                found.setdefault(structure, []).append(names[letter])
    return found
