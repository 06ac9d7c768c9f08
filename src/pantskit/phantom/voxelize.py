"""An anatomy on a voxel grid: one tissue id a voxel, taken at its centre."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.phantom.fields import Float32, Float64, Placement
from pantskit.phantom.layers import Layer, Relabel
from pantskit.phantom.patient import Anatomy
from pantskit.phantom.shapes import Capsule, Shape
from pantskit.phantom.tissues import TISSUE_ID, TISSUES, tissue_ids

# A slab of this many voxels is painted at a time: a few hundred MB of coordinates and depths.
SLAB_VOXELS = 5_000_000
OUTSIDE = np.float32(-1e3)

Coordinates = tuple[Float32, Float32, Float32]


def tissue_map(anatomy: Anatomy, geometry: Geometry, *, thin_mm: float = 0.0) -> NDArray[np.uint8]:
    """Paint an anatomy.

    Args:
        anatomy: what to paint.
        geometry: where the voxels are, in the world of `anatomy.placement`.
        thin_mm: thin tubes get at least this radius, in atlas mm: on a coarse grid readers draw a
            duct a voxel wide, not dotted. 0: their true radius.

    Returns:
        (i, j, k) tissue ids in Fortran order.
    """
    result = np.zeros(geometry.shape, dtype=np.uint8, order="F")
    depth = max(1, SLAB_VOXELS // (geometry.shape[0] * geometry.shape[1]))
    for start in range(0, geometry.shape[2], depth):
        slices = slice(start, min(start + depth, geometry.shape[2]))
        _paint_slab(result[:, :, slices], anatomy, geometry, slices, thin_mm)
    return result


def _paint_slab(
    out: NDArray[np.uint8], anatomy: Anatomy, geometry: Geometry, slices: slice, thin_mm: float
) -> None:
    placement = anatomy.placement
    atlas = placement.on_grid(geometry.affine, geometry.shape, slices)
    boxes = _Boxes(placement, geometry, slices)
    for item in anatomy.layers:
        if isinstance(item, Relabel):
            _relabel(out, item, atlas)
            continue
        shape = _thickened(item.shape, thin_mm) if item.shape.thin and thin_mm else item.shape
        pieces = boxes.of(shape.bounds(), world=item.world)
        whole = _around(pieces)
        if whole is None:
            continue
        points = _world_points(geometry, slices, whole) if item.world else _crop(atlas, whole)
        depth = _depth(shape, points, pieces, whole)
        _fill(out[whole], depth, item)


def _relabel(out: NDArray[np.uint8], item: Relabel, atlas: Coordinates) -> None:
    changes = {TISSUE_ID[a]: TISSUE_ID[b] for a, b in item.changes.items()}
    places = np.flatnonzero(np.isin(out.ravel(order="K"), list(changes)))
    if places.size == 0:
        return
    flat = out.reshape(-1, order="F")
    x, y, z = (axis.reshape(-1, order="F")[places] for axis in atlas)
    hit = places[item.side.depth(x, y, z) > 0]
    table = np.arange(256, dtype=np.uint8)
    table[list(changes)] = list(changes.values())
    flat[hit] = table[flat[hit]]


def _fill(out: NDArray[np.uint8], depth: Float32, item: Layer) -> None:
    allowed: NDArray[np.bool_] | None = None
    if item.over is not None:
        table = np.zeros(256, dtype=np.bool_)
        table[tissue_ids(item.over)] = True
        allowed = table[out]
    for threshold, tissue in item.tissues:
        inside = depth > np.float32(threshold)
        if allowed is not None:
            inside &= allowed
        out[inside] = TISSUE_ID[tissue]


def _depth(shape: Shape, points: Coordinates, pieces: list[Box | None], whole: Box) -> Float32:
    depth = np.full(points[0].shape, OUTSIDE, dtype=np.float32, order="F")
    for piece, box in zip(shape.add, pieces, strict=True):
        if box is None:
            continue
        inner = tuple(
            slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, whole, strict=True)
        )
        here = depth[inner]
        np.maximum(here, piece.depth(*_crop(points, inner)), out=here)
    if shape.ripple is not None:
        depth += shape.ripple.at(*points)
    for keep, margin in shape.keep:
        np.minimum(depth, keep.depth(*points) - np.float32(margin), out=depth)
    for cut in shape.cut:
        np.minimum(depth, -cut.depth(*points), out=depth)
    return depth


Box = tuple[slice, ...]


def _crop(points: Coordinates, box: Box) -> Coordinates:
    return points[0][box], points[1][box], points[2][box]


def _around(boxes: list[Box | None]) -> Box | None:
    """The smallest box around boxes; None when all are empty."""
    real = [box for box in boxes if box is not None]
    if not real:
        return None
    return tuple(
        slice(min(b[axis].start for b in real), max(b[axis].stop for b in real))
        for axis in range(3)
    )


def _thickened(shape: Shape, radius_mm: float) -> Shape:
    pieces = tuple(
        Capsule(p.a, p.b, max(p.radius_a, radius_mm), max(p.radius_b, radius_mm))
        if isinstance(p, Capsule)
        else p
        for p in shape.add
    )
    return replace(shape, add=pieces)


def _world_points(geometry: Geometry, slices: slice, box: Box) -> Coordinates:
    i = np.arange(box[0].start, box[0].stop, dtype=np.float64)[:, None, None]
    j = np.arange(box[1].start, box[1].stop, dtype=np.float64)[None, :, None]
    k = np.arange(slices.start + box[2].start, slices.start + box[2].stop, dtype=np.float64)
    a = geometry.affine
    x, y, z = (
        (a[n, 0] * i + a[n, 1] * j + a[n, 2] * k[None, None] + a[n, 3]).astype(np.float32)
        for n in range(3)
    )
    return x, y, z


class _Boxes:
    """Voxel boxes of a slab that surely hold atlas boxes."""

    def __init__(self, placement: Placement, geometry: Geometry, slices: slice) -> None:
        self.placement = placement
        self.inverse = np.linalg.inv(geometry.affine)
        self.low = np.array([0, 0, slices.start])
        self.high = np.array([*geometry.shape[:2], slices.stop])

    def of(self, bounds: Float64, *, world: bool) -> list[Box | None]:
        """(n, 2, 3) boxes in mm to voxel slices relative to the slab; None: outside it."""
        finite = np.clip(bounds, -2e3, 2e3)
        middle, half = finite.mean(axis=1), (finite[:, 1] - finite[:, 0]) / 2
        if not world:
            place = self.placement
            size = float(place.scale.max())
            centre = place.to_world(middle)
            # the warp moves nothing further from the centre's own move than this
            reach = np.linalg.norm(half, axis=1, keepdims=True) * size
            slack = np.minimum(place.steepness * reach * 1.5, place.limit_mm * 2) * size
            middle, half = centre, half * place.scale + slack
        middle = middle @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        half = half @ np.abs(self.inverse[:3, :3]).T
        low = np.maximum(np.floor(middle - half).astype(np.int64), self.low) - self.low
        high = np.minimum(np.ceil(middle + half).astype(np.int64) + 1, self.high) - self.low
        low[:, 2] = np.maximum(low[:, 2], 0)
        return [
            tuple(slice(int(a), int(b)) for a, b in zip(lo, hi, strict=True))
            if (hi > lo).all()
            else None
            for lo, hi in zip(low, high, strict=True)
        ]


def reference_volumes_ml(anatomy: Anatomy, geometry: Geometry, *, refine: int) -> dict[str, float]:
    """Volumes of all structures by sampling each voxel `refine`^3 times, true tube radii."""
    fine = refined(geometry, refine)
    counts = np.zeros(256, dtype=np.int64)
    for part in _slabs(anatomy, fine):
        counts += np.bincount(part.reshape(-1), minlength=256)
    volumes: dict[str, float] = {}
    for number, tissue in enumerate(TISSUES):
        for structure in tissue.structures:
            volumes[structure] = volumes.get(structure, 0.0) + float(counts[number])
    return {name: n * fine.voxel_volume_mm3 / 1000 for name, n in volumes.items()}


def _slabs(anatomy: Anatomy, geometry: Geometry) -> Iterator[NDArray[np.uint8]]:
    depth = max(1, SLAB_VOXELS // (geometry.shape[0] * geometry.shape[1]))
    for start in range(0, geometry.shape[2], depth):
        slices = slice(start, min(start + depth, geometry.shape[2]))
        out = np.zeros((*geometry.shape[:2], slices.stop - start), dtype=np.uint8, order="F")
        _paint_slab(out, anatomy, geometry, slices, 0.0)
        yield out.reshape(-1, order="F")


def refined(geometry: Geometry, factor: int) -> Geometry:
    """The same space in voxels `factor` times finer along each axis."""
    affine = geometry.affine.copy()
    affine[:3, :3] /= factor
    affine[:3, 3] = geometry.to_world([(1 / factor - 1) / 2] * 3)
    i, j, k = (n * factor for n in geometry.shape)
    return Geometry((i, j, k), affine)
