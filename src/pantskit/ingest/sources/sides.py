"""Left and right: labels of both sides split, and sides checked against the liver and the names.

World coordinates are RAS+: the patient's right is where x is larger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from pantskit.core.codedmasks import CodedMasks, bounding_box
from pantskit.core.errors import Quarantined
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES, Mask
from pantskit.core.volume import Volume
from pantskit.ingest.sources.declaration import SIDED

# Fewer voxels than this tell no side.
_ENOUGH_VOXELS = 20
# A piece of which a tenth lies on the other side is cut at the middle: a horseshoe kidney, lungs
# that touch.
_ONE_SIDED = 0.9
# The middle of a body is known to some 20 mm; a liver lies 40 mm and more from it.
_CLEARLY_MM = 10.0
_BODY_FROM_HU = -300
_STEP = 4
# A side plane that holds so much more tissue than the other, as a share of the widest one, cuts the
# body: then the middle of what is seen is not the body's.
_CUT_SHARE = 0.3


@dataclass(frozen=True)
class Middle:
    """The middle of the body.

    Attributes:
        x: mm.
        sure: whether it is known: the scan does not cut the body off on one side.
    """

    x: float
    sure: bool


def middle_of(scan: Volume) -> Middle:
    """The middle of the body in a CT.

    Args:
        scan: HU in the standard orientation: i runs from right to left.
    """
    tissue = scan.array[::_STEP, ::_STEP, ::_STEP] > _BODY_FROM_HU
    across = tissue.sum(axis=(1, 2)) / max(1, int(tissue.sum(axis=(1, 2)).max(initial=0)))
    cut = abs(float(across[0] - across[-1])) > _CUT_SHARE
    return Middle(_mean_x(np.argwhere(tissue) * _STEP, scan.geometry), not cut)


def split_sides(coded: CodedMasks, geometry: Geometry, middle: Middle) -> list[str]:
    """Split the bases among the sets of a case, as `"kidney"`, into left and right, in place.

    Every connected piece goes to the side its centre lies on; one that lies on both is cut at the
    middle.

    Returns:
        What is to be said of it: pieces that were cut, a middle that is not sure.
    """
    notes = []
    bases = [base for base in SIDED if base in coded.annotated]
    if bases and not middle.sure:
        notes.append(
            f"{', '.join(bases)}: sides are by the middle of what is seen, which may not be the "
            "body's: there is no CT, or it cuts the body off on one side; look at them"
        )
    for base in bases:
        mask = coded.mask(base)
        assert mask is not None
        coded.sets = [names - {base} for names in coded.sets]
        coded.annotated.discard(base)
        left, right, cut = _split(mask, geometry, middle.x)
        for side, part in (("left", left), ("right", right)):
            coded.add(f"{base}_{side}", part)
        if cut:
            notes.append(
                f"{base}: {cut} pieces lie on both sides and were cut at the middle of the body"
            )
    return notes


def _split(mask: Mask, geometry: Geometry, middle: float) -> tuple[Mask, Mask, int]:
    """The left and the right part of a mask, and how many pieces had to be cut."""
    left = np.zeros(mask.shape, np.bool_, order="F")
    right = np.zeros(mask.shape, np.bool_, order="F")
    box = bounding_box(mask)
    if box is None:
        return left, right, 0
    inside = np.ascontiguousarray(mask[box])
    pieces, count = cc3d.connected_components(inside, connectivity=26, return_N=True)
    on_right = _x(box, geometry) > middle
    right_voxels = np.bincount(pieces[on_right], minlength=count + 1)
    share = right_voxels / np.maximum(np.bincount(pieces.ravel(), minlength=count + 1), 1)
    both = (share > 1 - _ONE_SIDED) & (share < _ONE_SIDED)
    both[0] = False
    to_right = np.where(both[pieces], on_right, (share > 0.5)[pieces])
    right[box] = inside & to_right
    left[box] = inside & ~to_right
    return left, right, int(both.sum())


def _x(box: tuple[slice, slice, slice], geometry: Geometry) -> NDArray[np.float64]:
    """x in mm of every voxel of a box."""
    i, j, k = (np.arange(s.start, s.stop) for s in box)
    row = geometry.affine[0]
    along = row[0] * i[:, None, None] + row[1] * j[None, :, None] + row[2] * k[None, None, :]
    return np.asarray(along + row[3])


def require_sides(coded: CodedMasks, geometry: Geometry, middle: Middle) -> dict[str, float]:
    """Refuse a case whose liver is on the left, or whose names of sides are exchanged.

    Args:
        coded: the masks.
        geometry: of them.
        middle: of the body.

    Returns:
        For the record, see `side_offsets`.

    Raises:
        Quarantined: If they lie on the wrong side; the likely reason is named.
    """
    found = side_offsets(coded, geometry, middle)
    organs = [name for name in ("liver", "spleen") if name in found]
    pairs = [name for name in found if name in SIDED]
    swapped = [name for name in pairs if found[name] < -_CLEARLY_MM]
    # Together they tell by themselves; one alone needs the middle of the body.
    toward = np.mean([found[name] for name in organs]) if organs else 0.0
    if toward < -_CLEARLY_MM and (middle.sure or len(organs) == 2):
        mirrored = "so are left and right of its names" if swapped else "names of sides fit it"
        raise Quarantined(
            f"the {organs[0]} lies {-toward:.0f} mm on the wrong side of the body "
            f"({mirrored if pairs else 'no label tells sides by name'}): CT and label are likely "
            "mirrored along x (left and right), or the organs are (situs inversus). Look at it; a "
            "mirrored scan has its affine's first row negated"
        )
    if swapped and len(swapped) * 2 > len(pairs):
        raise Quarantined(
            f"left and right are exchanged in the names of {', '.join(swapped)}: what is called "
            f"right lies up to {-min(found[n] for n in swapped):.0f} mm to the left of what is "
            "called left, though the organs lie where they should. Is it the right label map?"
        )
    return found


def side_offsets(coded: CodedMasks, geometry: Geometry, middle: Middle) -> dict[str, float]:
    """mm toward the expected side, negative on the wrong one.

    Returns:
        `liver`: to the right of the middle; `spleen`: to the left of it; `kidney` and other bases:
        right minus left. Structures that are not there are missing.
    """
    centres = {s: c for s in _telling(coded) if (c := _centre(coded, s, geometry)) is not None}
    found: dict[str, float] = {}
    if "liver" in centres:
        found["liver"] = centres["liver"] - middle.x
    if "spleen" in centres:
        found["spleen"] = middle.x - centres["spleen"]
    for base in SIDED:
        left, right = centres.get(f"{base}_left"), centres.get(f"{base}_right")
        if left is not None and right is not None:
            found[base] = right - left
    return {name: round(mm, 1) for name, mm in found.items()}


def _telling(coded: CodedMasks) -> Iterable[str]:
    counts = coded.counts
    sided = [s for s in STRUCTURES if STRUCTURES[s].side or s in ("liver", "spleen")]
    return (s for s in sided if counts.get(s, 0) >= _ENOUGH_VOXELS)


def _centre(coded: CodedMasks, structure: str, geometry: Geometry) -> float | None:
    codes = [c for c, names in enumerate(coded.sets) if structure in names]
    table = np.zeros(max(len(coded.sets), int(coded.codes.max(initial=0)) + 1), np.bool_)
    table[codes] = True
    for step in (_STEP, 1):  # a small structure may fall between the voxels looked at
        places = np.argwhere(table[coded.codes[::step, ::step, ::step]]) * step
        if len(places) >= _ENOUGH_VOXELS // 2:
            return _mean_x(places, geometry)
    return None


def _mean_x(places: NDArray[np.int64], geometry: Geometry) -> float:
    mean = places.mean(axis=0) if len(places) else (np.array(geometry.shape) - 1) / 2
    return float(geometry.to_world(mean)[0])
