"""Distances between two surfaces, and the scores made of them.

Three definitions of a surface point and its weight are offered, because published numbers
use all three (docs/metrics.md):

- `"surfel"`: DeepMind's surface-distance. Points are corners between voxels where both
  values meet, weighted by the area of surface that passes there; `distance <= tolerance`.
- `"counted"`: the PanTS paper's equation 2. Points are boundary voxels, each counting one;
  `distance < tolerance`.
- `"counted-le"`: MONAI's default. As counted, with `distance <= tolerance`.

Distances are those of scipy's exact Euclidean transform on surface-distance's own box, down
to the last bit where that bit decides (see `_settle_ties`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.boxes import union_box
from pantskit.measure.compiled import compiled
from pantskit.measure.overlap import Mask, require_one_shape
from pantskit.measure.surfels import surfel_areas

Definition = Literal["surfel", "counted", "counted-le"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)

Spacing = tuple[float, float, float]
Distances = NDArray[np.float64]

# Distances closer to a tolerance than this are equal to it in exact arithmetic: squares of
# spacings of a few mm differ from each other by far more, and rounding by far less.
TIE_MM = 1e-9

# Neighbours tried one by one around a point before a tree is asked. Nearly all points of a
# fair prediction find the other surface within a few; a sphere of 600 is about 5 voxels.
NEIGHBOURS = 600


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
    near = _neighbourhood(spacing, within_mm)
    margin = tuple(r + 1 for r in near.reach)
    # From here on arrays are (k, j, i): the memory order of volumes, read backwards.
    maps = [_surface(m[box].T, margin, definition) for m in (reference, prediction)]
    points = [np.flatnonzero(m.reshape(-1) != 0) for m in maps]
    jumps = near.steps @ np.array(maps[0].strides, dtype=np.int64)
    both = []
    for here, other in ((0, 1), (1, 0)):
        found = _nearest(points[here], maps[other].reshape(-1), jumps)
        both.append(near.lengths[found])
        if near.radius_mm < within_mm:
            shape = maps[0].shape
            _search_beyond(both[-1], points[here], points[other], shape, spacing, within_mm)
    ties = _settle_ties(both, points, maps, margin, spacing, tolerances_mm)
    weights = [_weights(m, p, spacing, definition) for m, p in zip(maps, points, strict=True)]
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


def _surface(mask: Mask, margin: tuple[int, ...], definition: Definition) -> NDArray[np.uint8]:
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


@dataclass(frozen=True)
class _Neighbourhood:
    """The steps to all neighbours on a grid within a radius, nearest first.

    Attributes:
        radius_mm: nothing nearer than this is left out.
        reach: voxels that steps go along (k, j, i) at most.
        steps: (n, 3) along (k, j, i).
        lengths: (n + 1,) mm, with infinity after the last.
    """

    radius_mm: float
    reach: tuple[int, ...]
    steps: NDArray[np.int64]
    lengths: Distances


@lru_cache(maxsize=64)
def _neighbourhood(spacing: Spacing, within_mm: float) -> _Neighbourhood:
    # A ball that holds about NEIGHBOURS grid points, or all that are asked for.
    ball = (NEIGHBOURS * math.prod(spacing) * 3 / (4 * math.pi)) ** (1 / 3)
    radius_mm = min(within_mm, ball)
    reach = tuple(int((radius_mm + TIE_MM) // s) for s in reversed(spacing))
    axes = [np.arange(-r, r + 1) for r in reach]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = _lengths(steps, spacing)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius_mm + TIE_MM]
    return _Neighbourhood(radius_mm, reach, steps[order], np.append(lengths[order], math.inf))


def _lengths(steps: NDArray[np.int64], spacing: Spacing) -> Distances:
    """(n, 3) steps along (k, j, i) to (n,) mm, rounded as scipy's distance transform does."""
    x, y, z = (steps[:, ::-1].astype(np.float64) * spacing).T
    lengths: Distances = np.sqrt((x * x + y * y) + z * z)
    return lengths


@compiled
def _nearest(
    points: NDArray[np.int64], surface: NDArray[np.uint8], steps: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each point, the first step that ends on `surface`; `len(steps)` when none does."""
    found = np.empty(points.size, np.int64)
    for n in range(points.size):
        rank = 0
        while rank < steps.size and surface[points[n] + steps[rank]] == 0:
            rank += 1
        found[n] = rank
    return found


def _search_beyond(
    distances: Distances,
    points: NDArray[np.int64],
    others: NDArray[np.int64],
    shape: tuple[int, ...],
    spacing: Spacing,
    within_mm: float,
) -> None:
    """Fill in, in place, what lies beyond the neighbours that were tried one by one."""
    far = np.flatnonzero(np.isinf(distances))
    if not far.size or not others.size:
        return
    from scipy.spatial import KDTree

    here = np.stack(np.unravel_index(points[far], shape), axis=-1)
    there = np.stack(np.unravel_index(others, shape), axis=-1)
    scale = np.array(spacing[::-1])
    tree = KDTree(there * scale, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(here * scale, distance_upper_bound=within_mm + TIE_MM)
    near = nearest < len(there)
    distances[far[near]] = _lengths(here[near] - there[nearest[near]], spacing)


def _settle_ties(
    both: list[Distances],
    points: list[NDArray[np.int64]],
    maps: list[NDArray[np.uint8]],
    margin: tuple[int, ...],
    spacing: Spacing,
    tolerances_mm: Sequence[float],
) -> tuple[int, ...]:
    """Let scipy's transform decide, in place, where rounding decides about a tolerance.

    With spacings of 0.4, 0.4 and 1 mm the steps (5, 5, 1) and (1, 7, 1) are both 3 mm, but
    their float64 lengths differ in the last bit, so that one is within 3 mm and one is not.
    Which of two such neighbours is met depends on the search. surface-distance meets the one
    that scipy's transform meets, on the box around both masks, so in such cases the same
    transform is run on the same box. They are rare: the search itself is exact.

    Returns:
        For each tolerance, the number of points at that distance in exact arithmetic, where
        rounding decides.
    """
    ties = []
    for tolerance in tolerances_mm:
        tied = [
            np.flatnonzero(np.abs(d - tolerance) <= TIE_MM) if d.size else np.empty(0, np.int64)
            for d in both
        ]
        lengths = _lengths_near(spacing, tolerance)
        count = sum(t.size for t in tied) if (lengths != tolerance).any() else 0
        ties.append(count)
        if not count or lengths.size == 1:
            continue
        for here, other in ((0, 1), (1, 0)):
            transformed = _transform(maps[other], margin, spacing)
            which = points[here][tied[here]]
            both[here][tied[here]] = transformed.reshape(-1)[which]
    return tuple(ties)


def _transform(surface: NDArray[np.uint8], margin: tuple[int, ...], spacing: Spacing) -> Distances:
    """mm from every place in the box around the masks to the surface; infinite around it."""
    from scipy.ndimage import distance_transform_edt

    # Corners: one more than voxels along each axis, as in surface-distance.
    box = tuple(slice(m, n - m + 1) for n, m in zip(surface.shape, margin, strict=True))
    distances = np.full(surface.shape, math.inf)
    distances[box] = distance_transform_edt((surface[box] == 0).T, sampling=spacing).T
    return distances


@lru_cache(maxsize=256)
def _lengths_near(spacing: Spacing, tolerance_mm: float) -> Distances:
    """The different float64 lengths of grid steps that are as long as the tolerance."""
    x, y = (np.arange(int(tolerance_mm / s) + 2) * s for s in spacing[:2])
    rest = tolerance_mm**2 - (x * x)[:, None] - (y * y)[None, :]
    z = np.rint(np.sqrt(np.maximum(rest, 0.0)) / spacing[2])
    x_steps, y_steps = np.indices(z.shape)
    steps = np.stack([z, y_steps, x_steps], axis=-1).reshape(-1, 3).astype(np.int64)
    lengths = _lengths(steps, spacing)
    near: Distances = np.unique(lengths[np.abs(lengths - tolerance_mm) <= TIE_MM])
    return near


def _weights(
    surface: NDArray[np.uint8],
    points: NDArray[np.int64],
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
