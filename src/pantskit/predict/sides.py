"""Left and right organs with the other side's name: renamed where the anatomy leaves no doubt.

Networks that were trained or used with left-right mirroring confuse pairs. The file's affine
says where the patient's left is, and the anatomy must agree: the liver right of the midline,
the spleen left. Where it does not, the patient or the file is mirrored, and nothing is renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, label_counts
from pantskit.predict.changes import Labels, Mask, Report, parts_of, report

# How far from the midline, in mm, a part of each pair must lie to be on one side of it. Adrenals
# lie beside the great vessels, femurs far out.
PAIRS = {"adrenal_gland": 5.0, "kidney": 15.0, "lung": 15.0, "femur": 30.0}

# Liver and spleen must be at least this far on their sides.
LANDMARK_MM = 10.0
# A structure of fewer voxels tells nothing of where the middle is.
_LEAST_ML = 2.0


@dataclass(frozen=True)
class _Part:
    """A connected part of a pair: its box and voxels, its middle and its size."""

    box: tuple[slice, slice, slice]
    voxels: Mask
    x: float
    size: int


def repair_sides(labels: Labels, geometry: Geometry) -> Report:
    """Rename parts of paired organs that lie on the other side of the midline.

    A connected part takes the name of the side that its middle lies on. A pair is left as it
    is, with the reason, where there is no midline, where liver or spleen are not on their side,
    where a part crosses the midline, or where all of a pair would become one side's.

    Args:
        labels: (i, j, k) uint8 ids of the space `pants`; not changed.
        geometry: their grid; its affine says where left is.
    """
    counts = label_counts(labels)
    pairs = [p for p in PAIRS if any(counts[n] for n in _ids(p))]
    if not pairs:
        return Report(labels)
    middle = _midline(labels, geometry, counts)
    doubt = _contradiction(labels, geometry, counts, middle)
    if middle is None or doubt:
        reason = doubt or "neither aorta with postcava, nor both lungs or femurs, show the midline"
        return Report(labels, (), (reason,))
    after, doubts = labels.copy(order="K"), []
    for pair in pairs:
        found = _repair(after, geometry, pair, middle)
        if found:
            doubts.append(f"{pair}: {found}")
    return report(labels, after, doubts)


def _repair(labels: Labels, geometry: Geometry, pair: str, middle: float) -> str | None:
    """Rename the parts of a pair in place; the reason where it is left alone."""
    left, right = _ids(pair)
    parts = [
        _Part(box, part, _middle_of(part, box, geometry), int(np.count_nonzero(part)))
        for box, part in parts_of(np.isin(labels, (left, right)))
    ]
    large = [p for p in parts if p.size >= 0.1 * parts[0].size]
    wrong = [p for p in parts if _share(labels, p, left if p.x < middle else right) < 1.0]
    if not wrong:
        return None
    if any(abs(p.x - middle) < PAIRS[pair] for p in large):
        return "a part lies across the midline"
    if len(large) > 1 and len({p.x > middle for p in large}) == 1:
        return "all its parts lie on one side of the midline"
    for p in wrong:
        if abs(p.x - middle) >= PAIRS[pair]:
            labels[p.box][p.voxels] = left if p.x < middle else right
    return None


def _share(labels: Labels, part: _Part, label: int) -> float:
    return float(np.mean(labels[part.box][part.voxels] == label))


def _midline(labels: Labels, geometry: Geometry, counts: np.ndarray) -> float | None:
    """RAS+ x in mm of the patient's middle; None where nothing shows it.

    Between aorta and vena cava; else between the two lungs or the two femurs together, which is
    the same whichever of them is called left.
    """
    aorta, cava = (
        _centre(labels, geometry, counts, (PANTS.id_of(s),)) for s in ("aorta", "postcava")
    )
    if aorta is not None and cava is not None:
        return (aorta + cava) / 2
    for pair in ("femur", "lung"):
        large = [
            _middle_of(part, box, geometry)
            for box, part in list(parts_of(np.isin(labels, _ids(pair))))[:2]
        ]
        if len(large) == 2 and abs(large[0] - large[1]) > 2 * PAIRS[pair]:
            return (large[0] + large[1]) / 2
    return None


def _contradiction(
    labels: Labels, geometry: Geometry, counts: np.ndarray, middle: float | None
) -> str | None:
    """Why the file's left is not to be trusted; None where nothing speaks against it."""
    if middle is None:
        return None
    told = False
    for organ, side in (("liver", 1), ("spleen", -1)):  # RAS+ x grows to the right
        x = _centre(labels, geometry, counts, (PANTS.id_of(organ),))
        if x is None:
            continue
        told = True
        if side * (x - middle) < LANDMARK_MM:
            return f"the {organ} is not on its side: the patient or the scan may be mirrored"
    return None if told else "neither liver nor spleen shows which side is which"


def _centre(
    labels: Labels, geometry: Geometry, counts: np.ndarray, ids: tuple[int, ...]
) -> float | None:
    if counts[list(ids)].sum() * geometry.voxel_volume_mm3 < 1000 * _LEAST_ML:
        return None
    whole = (slice(None), slice(None), slice(None))
    return _middle_of(np.isin(labels, ids), whole, geometry)


def _middle_of(mask: Mask, box: tuple[slice, slice, slice], geometry: Geometry) -> float:
    """RAS+ x in mm of a mask's centre of mass."""
    centre = []
    for axis, s in enumerate(box):
        profile = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        centre.append(float(np.average(np.arange(profile.size), weights=profile)) + (s.start or 0))
    return float(geometry.to_world(centre)[0])


def _ids(pair: str) -> tuple[int, int]:
    return PANTS.id_of(f"{pair}_left"), PANTS.id_of(f"{pair}_right")
