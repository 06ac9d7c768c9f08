"""Distances between two surfaces, and the scores made of them.

Three definitions of a surface point and its weight are offered, because published numbers
use all three (docs/metrics.md):

- `"surfel"`: DeepMind's surface-distance. Points are corners between voxels where both
  values meet, weighted by the area of surface that passes there; `distance <= tolerance`.
- `"counted"`: the PanTS paper's equation 2. Points are boundary voxels, each counting one;
  `distance < tolerance`.
- `"counted-le"`: MONAI's default. As counted, with `distance <= tolerance`.

Distances are those of scipy's exact Euclidean transform on surface-distance's own box, down
to the last bit where that bit decides (see `nearest.settle_ties`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.boxes import union_box
from pantskit.measure.compiled import compiled
from pantskit.measure.nearest import (
    Distances,
    Points,
    Spacing,
    Surface,
    distances_to,
    neighbourhood,
    settle_ties,
)
from pantskit.measure.overlap import Mask, require_one_shape
from pantskit.measure.surfels import surfel_areas

Definition = Literal["surfel", "counted", "counted-le"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)


@dataclass(frozen=True)
class SurfaceDistances:
    """How far each point of one surface is from the other surface.

    Attributes:
        to_prediction: (n,) mm from each point of the reference's surface; infinite when the
            prediction is empty or further than was asked for.
        to_reference: (m,) mm from each point of the prediction's surface.
        reference_weights: (n,) mm2 of surface at each point, or ones.
        prediction_weights: (m,) likewise.
        ties: for each tolerance that was asked for, how many points lie at that distance in
            exact arithmetic while their float64 distance may fall on either side of it.
    """

    to_prediction: Distances
    to_reference: Distances
    reference_weights: Distances
    prediction_weights: Distances
    ties: tuple[int, ...] = ()

    def nsd(self, tolerance_mm: float, *, strict: bool = False) -> float:
        """Share of both surfaces, pooled, that lies within a tolerance of the other.

        Args:
            tolerance_mm: mm.
            strict: count `distance < tolerance_mm` rather than `<=`.

        Returns:
            NSD in [0, 1]; 0 when one surface is empty, NaN when both are.
        """
        total = float(self.reference_weights.sum() + self.prediction_weights.sum())
        if total == 0:
            return math.nan
        near = np.less if strict else np.less_equal
        within = (
            self.reference_weights[near(self.to_prediction, tolerance_mm)].sum()
            + self.prediction_weights[near(self.to_reference, tolerance_mm)].sum()
        )
        return float(within / total)

    def hausdorff(self, percent: float = 100.0) -> float:
        """The larger of the two directions' distances below which `percent` of area lies.

        Returns:
            mm; infinite when one surface is empty, NaN when both are. As surface-distance's
            `compute_robust_hausdorff`, which says infinite for both.
        """
        if not self.to_prediction.size and not self.to_reference.size:
            return math.nan
        return max(
            _percentile(self.to_prediction, self.reference_weights, percent),
            _percentile(self.to_reference, self.prediction_weights, percent),
        )

    def averages(self) -> tuple[float, float]:
        """Mean mm from reference to prediction and back, by area; NaN from an empty one."""
        return (
            _mean(self.to_prediction, self.reference_weights),
            _mean(self.to_reference, self.prediction_weights),
        )


def nsd(
    reference: Mask,
    prediction: Mask,
    spacing: Spacing,
    tolerances_mm: Sequence[float],
    *,
    definition: Definition = "surfel",
) -> list[float]:
    """Normalised surface Dice of two masks at each tolerance.

    Args:
        reference: (i, j, k) bool; the annotation.
        prediction: (i, j, k) bool; the model's mask.
        spacing: mm along (i, j, k).
        tolerances_mm: mm, any number of them.
        definition: what a surface point is and whether `<` or `<=` counts; see the module.

    Returns:
        NSD in [0, 1] per tolerance: 0 when one mask is empty, NaN when both are.

    Raises:
        ValueError: If the shapes differ, or a tolerance or spacing makes no sense.
    """
    distances = surface_distances(
        reference,
        prediction,
        spacing,
        definition=definition,
        tolerances_mm=tolerances_mm,
        within_mm=max(tolerances_mm, default=0.0),
    )
    strict = definition == "counted"
    return [distances.nsd(tolerance, strict=strict) for tolerance in tolerances_mm]


def surface_distances(
    reference: Mask,
    prediction: Mask,
    spacing: Spacing,
    *,
    definition: Definition = "surfel",
    tolerances_mm: Sequence[float] = (),
    within_mm: float = math.inf,
) -> SurfaceDistances:
    """Distances in mm between the surfaces of two masks, both ways.

    Args:
        reference: (i, j, k) bool; what lies outside the array is outside the mask.
        prediction: (i, j, k) bool.
        spacing: mm along (i, j, k).
        definition: what a surface point is; see the module.
        tolerances_mm: values that distances will be compared with: ties at them are settled.
        within_mm: distances beyond this may be given as infinite. All that NSD needs is its
            tolerance, which is much faster than every distance.

    Raises:
        ValueError: If the shapes differ, or a tolerance or spacing makes no sense.
    """
    require_one_shape(reference, prediction)
    _require_sense(reference, spacing, tolerances_mm, definition)
    box = union_box(reference, prediction)
    if box is None:
        none = np.empty(0)
        return SurfaceDistances(none, none, none, none, (0,) * len(tolerances_mm))
    margin = tuple(r + 1 for r in neighbourhood(spacing, within_mm).reach)
    # From here on arrays are (k, j, i): the memory order of volumes, read backwards.
    surfaces = [_surface(m[box].T, margin, definition) for m in (reference, prediction)]
    points = [np.flatnonzero(s.reshape(-1) != 0) for s in surfaces]
    both = [
        distances_to(surfaces[other], points[here], points[other], spacing, within_mm)
        for here, other in ((0, 1), (1, 0))
    ]
    ties = settle_ties(both, points, surfaces, margin, spacing, tolerances_mm)
    weights = [_weights(s, p, spacing, definition) for s, p in zip(surfaces, points, strict=True)]
    return SurfaceDistances(both[0], both[1], weights[0], weights[1], ties)


def _require_sense(
    mask: Mask, spacing: Spacing, tolerances_mm: Sequence[float], definition: str
) -> None:
    if mask.ndim != 3 or len(spacing) != 3:
        raise ValueError(f"expected a 3D mask and 3 spacings, found {mask.shape} and {spacing}")
    if not all(s > 0 and math.isfinite(s) for s in spacing):
        raise ValueError(f"spacing must be positive millimetres, found {spacing}")
    if not all(t >= 0 and math.isfinite(t) for t in tolerances_mm):
        raise ValueError(f"a tolerance is 0 mm or more, found {list(tolerances_mm)}")
    if definition not in DEFINITIONS:
        raise ValueError(f"unknown NSD definition {definition!r}; known: {', '.join(DEFINITIONS)}")


def _surface(mask: Mask, margin: tuple[int, ...], definition: Definition) -> Surface:
    """Neighbourhood codes of the surface points of a cropped mask, 0 elsewhere.

    Args:
        mask: (k, j, i) bool, cropped.
        margin: empty voxels to lay around it along (k, j, i), 1 or more.
        definition: `"surfel"`: a point is the corner below the voxel of its index, coded as
            in `surfels`. Counted: it is the voxel itself, coded 1.
    """
    padded = np.zeros([n + 2 * m for n, m in zip(mask.shape, margin, strict=True)], np.uint8)
    inner = tuple(slice(m, m + n) for n, m in zip(mask.shape, margin, strict=True))
    padded[inner] = mask
    surface = np.zeros_like(padded)
    if definition == "surfel":
        _corners(padded, surface)
    else:
        _boundary(padded, surface)
    return surface


@compiled
def _corners(voxels: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
    for x in range(1, voxels.shape[0]):
        for y in range(1, voxels.shape[1]):
            for z in range(1, voxels.shape[2]):
                code = np.uint8(
                    voxels[x - 1, y - 1, z - 1]
                    | voxels[x - 1, y - 1, z] << 1
                    | voxels[x - 1, y, z - 1] << 2
                    | voxels[x - 1, y, z] << 3
                    | voxels[x, y - 1, z - 1] << 4
                    | voxels[x, y - 1, z] << 5
                    | voxels[x, y, z - 1] << 6
                    | voxels[x, y, z] << 7
                )
                codes[x, y, z] = 0 if code == 255 else code


@compiled
def _boundary(voxels: NDArray[np.uint8], boundary: NDArray[np.uint8]) -> None:
    """Voxels inside with one of their six face neighbours outside."""
    for x in range(1, voxels.shape[0] - 1):
        for y in range(1, voxels.shape[1] - 1):
            for z in range(1, voxels.shape[2] - 1):
                enclosed = (
                    voxels[x - 1, y, z]
                    & voxels[x + 1, y, z]
                    & voxels[x, y - 1, z]
                    & voxels[x, y + 1, z]
                    & voxels[x, y, z - 1]
                    & voxels[x, y, z + 1]
                )
                boundary[x, y, z] = voxels[x, y, z] & (1 - enclosed)


def _weights(
    surface: Surface,
    points: Points,
    spacing: Spacing,
    definition: Definition,
) -> Distances:
    if definition != "surfel":
        return np.ones(points.size)
    weights: Distances = surfel_areas(spacing[::-1])[surface.reshape(-1)[points]]
    return weights


def _percentile(distances: Distances, weights: Distances, percent: float) -> float:
    if not distances.size:
        return math.inf
    order = np.lexsort((weights, distances))
    share = np.cumsum(weights[order]) / np.sum(weights[order])
    place = int(np.searchsorted(share, percent / 100.0))
    return float(distances[order[min(place, distances.size - 1)]])


def _mean(distances: Distances, weights: Distances) -> float:
    if not distances.size:
        return math.nan
    return float(np.sum(distances * weights) / np.sum(weights))
