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

from pantskit.measure.compiled import compiled
from pantskit.measure.nearest import Distances, Points, Spacing, distances_to, settle_ties
from pantskit.measure.overlap import require_one_shape
from pantskit.measure.packed import Mask, PackedMask, Words, lay_out, pack
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
    reference: Mask | PackedMask,
    prediction: Mask | PackedMask,
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
    reference: Mask | PackedMask,
    prediction: Mask | PackedMask,
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
    _require_sense(reference, prediction, spacing, tolerances_mm, definition)
    masks = [m if isinstance(m, PackedMask) else pack(m) for m in (reference, prediction)]
    if all(mask.box is None for mask in masks):
        none = np.empty(0)
        return SurfaceDistances(none, none, none, none, (0,) * len(tolerances_mm))
    layout = lay_out(masks)
    surfaces = [_surface(words, definition) for words in layout.words]
    points = [_set_bits(s.reshape(-1), int(np.bitwise_count(s).sum())) for s in surfaces]
    both = [
        distances_to(surfaces[other], points[here], points[other], spacing, within_mm)
        for here, other in ((0, 1), (1, 0))
    ]
    ties = settle_ties(both, points, surfaces, layout.inner, spacing, tolerances_mm)
    weights = [
        _weights(words, places, spacing, definition)
        for words, places in zip(layout.words, points, strict=True)
    ]
    return SurfaceDistances(both[0], both[1], weights[0], weights[1], ties)


def _require_sense(
    reference: Mask | PackedMask,
    prediction: Mask | PackedMask,
    spacing: Spacing,
    tolerances_mm: Sequence[float],
    definition: str,
) -> None:
    require_one_shape(reference, prediction)
    if len(reference.shape) != 3 or len(spacing) != 3:
        raise ValueError(f"expected 3D masks and 3 spacings, found {reference.shape}, {spacing}")
    if not all(s > 0 and math.isfinite(s) for s in spacing):
        raise ValueError(f"spacing must be positive millimetres, found {spacing}")
    if not all(t >= 0 and math.isfinite(t) for t in tolerances_mm):
        raise ValueError(f"a tolerance is 0 mm or more, found {list(tolerances_mm)}")
    if definition not in DEFINITIONS:
        raise ValueError(f"unknown NSD definition {definition!r}; known: {', '.join(DEFINITIONS)}")


def _surface(voxels: Words, definition: Definition) -> Words:
    """Bits of the surface points of a mask.

    Args:
        voxels: (k, j, i // 64) bits with empty margins.
        definition: `"surfel"`: a point is the corner below the voxel of its index. Counted:
            it is the voxel itself.
    """
    surface = np.zeros_like(voxels)
    if definition == "surfel":
        _corners(voxels, surface)
    else:
        _boundary(voxels, surface)
    return surface


@compiled
def _corners(voxels: NDArray[np.uint64], corners: NDArray[np.uint64]) -> None:
    """Corners around which both values occur: some of the eight voxels, and not all."""
    one, top = np.uint64(1), np.uint64(63)
    for k in range(1, voxels.shape[0]):
        for j in range(1, voxels.shape[1]):
            carry_any = carry_all = np.uint64(0)
            for n in range(voxels.shape[2]):
                a, b = voxels[k - 1, j - 1, n], voxels[k - 1, j, n]
                c, d = voxels[k, j - 1, n], voxels[k, j, n]
                some, every = a | b | c | d, a & b & c & d
                some_both = some | (some << one) | carry_any
                every_both = every & ((every << one) | carry_all)
                corners[k, j, n] = some_both & ~every_both
                carry_any, carry_all = some >> top, every >> top


@compiled
def _boundary(voxels: NDArray[np.uint64], boundary: NDArray[np.uint64]) -> None:
    """Voxels inside with one of their six face neighbours outside."""
    one, top, zero = np.uint64(1), np.uint64(63), np.uint64(0)
    last = voxels.shape[2] - 1
    for k in range(1, voxels.shape[0] - 1):
        for j in range(1, voxels.shape[1] - 1):
            for n in range(voxels.shape[2]):
                here = voxels[k, j, n]
                before = voxels[k, j, n - 1] >> top if n > 0 else zero
                after = voxels[k, j, n + 1] << top if n < last else zero
                enclosed = ((here << one) | before) & ((here >> one) | after)
                enclosed &= voxels[k, j - 1, n] & voxels[k, j + 1, n]
                enclosed &= voxels[k - 1, j, n] & voxels[k + 1, j, n]
                boundary[k, j, n] = here & ~enclosed


@compiled
def _set_bits(words: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """The places of the `count` bits that are set, in order."""
    places = np.empty(count, np.int64)
    found = 0
    for n in range(words.size):
        word, place = words[n], 64 * n
        while word != 0:
            if word & np.uint64(255) == 0:
                word >>= np.uint64(8)
                place += 8
                continue
            if word & np.uint64(1):
                places[found] = place
                found += 1
            word >>= np.uint64(1)
            place += 1
    return places


@compiled
def _codes(
    voxels: NDArray[np.uint64], corners: NDArray[np.int64], rows: int, columns: int
) -> NDArray[np.uint8]:
    """Which of the eight voxels around a corner are inside, coded as in `surfels`."""
    codes = np.empty(corners.size, np.uint8)
    around = (-rows * columns - columns, -rows * columns, -columns, 0)
    for n in range(corners.size):
        code = np.uint64(0)
        for step in around[::-1]:
            bit = corners[n] + step
            here = voxels[bit >> 6] >> np.uint64(bit & 63)
            before = voxels[(bit - 1) >> 6] >> np.uint64((bit - 1) & 63)
            two = (before & np.uint64(1)) | ((here & np.uint64(1)) << np.uint64(1))
            code = (code << np.uint64(2)) | two
        codes[n] = code
    return codes


def _weights(voxels: Words, points: Points, spacing: Spacing, definition: Definition) -> Distances:
    if definition != "surfel":
        return np.ones(points.size)
    _, rows, words = voxels.shape
    codes = _codes(voxels.reshape(-1), points, rows, 64 * words)
    weights: Distances = surfel_areas(spacing[::-1])[codes]
    return weights


# Shares closer to the one that is asked for may fall on either side of it by rounding.
_CLOSE_SHARE = 1e-9


def _percentile(distances: Distances, weights: Distances, percent: float) -> float:
    if not distances.size:
        return math.inf
    wanted = percent / 100.0
    share = _shares(weights, order := np.argsort(distances))
    place = int(np.searchsorted(share, wanted))
    if np.abs(share[max(0, place - 1) : place + 1] - wanted).min() < _CLOSE_SHARE:
        # Sums depend on the order of equal distances: take surface-distance's.
        share = _shares(weights, order := np.lexsort((weights, distances)))
        place = int(np.searchsorted(share, wanted))
    return float(distances[order[min(place, distances.size - 1)]])


def _shares(weights: Distances, order: NDArray[np.intp]) -> Distances:
    shares: Distances = np.cumsum(weights[order]) / np.sum(weights[order])
    return shares


def _mean(distances: Distances, weights: Distances) -> float:
    if not distances.size:
        return math.nan
    return float(np.sum(distances * weights) / np.sum(weights))
