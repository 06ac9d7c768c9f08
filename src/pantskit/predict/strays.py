"""Lesions of the pancreas that are not at the pancreas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, PANCREAS, PANTS, STRUCTURES
from pantskit.predict.changes import Labels, Mask, Report, parts_of, report
from pantskit.predict.islands import surrounding

# Beyond this a part of the lesion is not the pancreas': a gland of which a network found too
# little still comes nearer, a metastasis in the liver seldom does.
DISTANCE_MM = 10.0
# A gland smaller than this is no landmark.
LEAST_GLAND_ML = 5.0


def remove_stray_lesions(labels: Labels, geometry: Geometry) -> Report:
    """Give lesions away from the pancreas to what lies around them.

    A part of the lesion stays when it, or another part within reach of it, comes within
    `DISTANCE_MM` of the gland's own voxels. Where there is hardly a gland nothing is changed:
    a large tumour may have taken all of it.

    Args:
        labels: (i, j, k) uint8 ids of the space `pants`; not changed.
        geometry: their grid.
    """
    lesion = PANTS.id_of(LESION)
    parts = list(parts_of(labels == lesion))
    if not parts:
        return Report(labels)
    members = (PANCREAS, *(s for s in STRUCTURES[PANCREAS].members if s != LESION))
    gland = np.isin(labels, [PANTS.id_of(s) for s in members])
    volume_ml = np.count_nonzero(gland) * geometry.voxel_volume_mm3 / 1000
    if volume_ml < LEAST_GLAND_ML:
        doubt = f"the pancreas has {volume_ml:.1f} ml beside the lesion: too little to judge by"
        return Report(labels, (), (doubt,))
    after = labels.copy(order="K")
    for box, part in _away(parts, gland, geometry):
        after[box][part] = surrounding(after, box, part)
    return report(labels, after, [])


_Part = tuple[tuple[slice, slice, slice], Mask]


def _away(parts: list[_Part], gland: Mask, geometry: Geometry) -> list[_Part]:
    """The parts that no chain of steps of `DISTANCE_MM` leads to from the gland."""
    from scipy.spatial import cKDTree

    points = [_surface(part, box, geometry) for box, part in parts]
    everything = (slice(None), slice(None), slice(None))
    reached = [_surface(gland, everything, geometry)]
    away = list(range(len(parts)))
    while reached and away:
        tree = cKDTree(np.concatenate(reached))
        near = [n for n in away if _nearest(tree, points[n]) <= DISTANCE_MM]
        reached = [points[n] for n in near]
        away = [n for n in away if n not in near]
    return [parts[n] for n in away]


def _nearest(tree: object, points: NDArray[np.float64]) -> float:
    from scipy.spatial import cKDTree

    assert isinstance(tree, cKDTree)
    distances, _ = tree.query(points, distance_upper_bound=2 * DISTANCE_MM)
    return float(np.min(distances))


def _surface(
    mask: Mask, box: tuple[slice, slice, slice], geometry: Geometry
) -> NDArray[np.float64]:
    """(n, 3) mm of the voxels of a mask that have a face neighbour outside it."""
    from scipy.ndimage import binary_erosion

    shell = np.argwhere(mask & ~binary_erosion(mask))
    return geometry.to_world(shell + [s.start or 0 for s in box])
