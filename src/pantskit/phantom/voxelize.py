"""An anatomy on a voxel grid: one tissue id a voxel, taken at its centre."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.phantom import kernels
from pantskit.phantom.fields import Float32, Float64, Placement
from pantskit.phantom.layers import Layer, Relabel
from pantskit.phantom.patient import Anatomy
from pantskit.phantom.shapes import Box, Capsule, Frame, Shape
from pantskit.phantom.tissues import TISSUE_ID, TISSUES, tissue_ids

# A slab of this many voxels is painted at a time: a few hundred MB of coordinates and depths.
SLAB_VOXELS = 5_000_000
OUTSIDE = np.float32(-1e3)

Coordinates = tuple[Float32, Float32, Float32]


def tissue_map(
    anatomy: Anatomy,
    geometry: Geometry,
    *,
    thin_mm: float = 0.0,
    base: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Paint an anatomy.

    Args:
        anatomy: what to paint.
        geometry: where the voxels are, in the world of `anatomy.placement`.
        thin_mm: thin tubes get at least this radius, in atlas mm: on a coarse grid readers draw a
            duct a voxel wide, not dotted. 0: their true radius.
        base: (i, j, k) tissue ids to paint over, changed in place; None: air.

    Returns:
        (i, j, k) tissue ids in Fortran order.
    """
    result = np.zeros(geometry.shape, dtype=np.uint8, order="F") if base is None else base
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
    world: Coordinates | None = None
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
        size = (whole[1] - whole[0], whole[3] - whole[2], whole[5] - whole[4])
        depth = np.full(size, OUTSIDE, dtype=np.float32, order="F")
        if item.world and world is None:
            world = placement.unplaced().on_grid(geometry.affine, geometry.shape, slices)
        points = world if item.world and world else atlas
        frame = Frame(*points, depth, np.array(whole[::2]))
        _combine(shape, frame, pieces, item.tissues[-1][0])
        _fill(out, frame, item)


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


def _fill(out: NDArray[np.uint8], frame: Frame, item: Layer) -> None:
    allowed = np.ones(256, dtype=np.bool_)
    if item.over is not None:
        allowed[:] = False
        allowed[tissue_ids(item.over)] = True
    thresholds = np.array([t for t, _ in item.tissues], dtype=np.float32)
    tissues = np.array(tissue_ids(name for _, name in item.tissues), dtype=np.uint8)
    kernels.fill(out, frame.depth, frame.corner, allowed, thresholds, tissues)


def _combine(shape: Shape, frame: Frame, pieces: list[Box | None], deepest: float) -> None:
    """Fill `frame.depth` with the depth below the shape's surface, right up to `deepest` mm."""
    offset = np.repeat(frame.corner, 2)
    rods, boxes = [], []
    for piece, box in zip(shape.add, pieces, strict=True):
        if box is None:
            continue
        low = np.array(box) - offset
        if isinstance(piece, Capsule):
            rods.append((*piece.a, *piece.b, piece.radius_a, piece.radius_b))
            boxes.append(low)
        else:
            a, b, c, d, e, f = low.tolist()
            piece.carve(frame, (a, b, c, d, e, f), kernels.UNION)
    if rods:
        kernels.rods(*frame.arrays, np.array(rods, dtype=np.float32), np.array(boxes))
    if shape.ripple is not None:
        limit = shape.ripple.limit_mm
        span = np.float32(-limit), np.float32(deepest + limit)
        kernels.ripple(*frame.arrays, shape.ripple.waves, *span)
    ni, nj, nk = frame.depth.shape
    everywhere = (0, ni, 0, nj, 0, nk)
    for keep, margin in shape.keep:
        keep.carve(frame, everywhere, kernels.WITHIN, margin)
    for cut in shape.cut:
        cut.carve(frame, everywhere, kernels.WITHOUT)


def _around(boxes: list[Box | None]) -> Box | None:
    """The smallest box around boxes; None when all are empty."""
    real = np.array([box for box in boxes if box is not None])
    if len(real) == 0:
        return None
    a, c, e = real[:, ::2].min(axis=0).tolist()
    b, d, f = real[:, 1::2].max(axis=0).tolist()
    return a, b, c, d, e, f


def _thickened(shape: Shape, radius_mm: float) -> Shape:
    pieces = tuple(
        Capsule(p.a, p.b, max(p.radius_a, radius_mm), max(p.radius_b, radius_mm))
        if isinstance(p, Capsule)
        else p
        for p in shape.add
    )
    return replace(shape, add=pieces)


class _Boxes:
    """Voxel boxes of a slab that surely hold atlas boxes."""

    def __init__(self, placement: Placement, geometry: Geometry, slices: slice) -> None:
        self.placement = placement
        self.inverse = np.linalg.inv(geometry.affine)
        self.low = np.array([0, 0, slices.start])
        self.high = np.array([*geometry.shape[:2], slices.stop])

    def of(self, bounds: Float64, *, world: bool) -> list[Box | None]:
        """(n, 2, 3) boxes in mm to voxel boxes in the slab; None: outside it."""
        finite = np.clip(bounds, -2e3, 2e3)
        middle, half = finite.mean(axis=1), (finite[:, 1] - finite[:, 0]) / 2
        if not world:
            place = self.placement
            middle = place.to_world(middle)
            half = half * place.scale
            half = half + place.stretch_mm(middle, half)
        middle = middle @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        half = half @ np.abs(self.inverse[:3, :3]).T
        low = np.maximum(np.floor(middle - half).astype(np.int64), self.low) - self.low
        high = np.minimum(np.ceil(middle + half).astype(np.int64) + 1, self.high) - self.low
        low[:, 2] = np.maximum(low[:, 2], 0)
        return [
            (int(lo[0]), int(hi[0]), int(lo[1]), int(hi[1]), int(lo[2]), int(hi[2]))
            if (hi > lo).all()
            else None
            for lo, hi in zip(low, high, strict=True)
        ]


def reference_volumes_ml(anatomy: Anatomy, geometry: Geometry, *, refine: int) -> dict[str, float]:
    """Volumes of the continuous shapes within a grid, by fine sampling, thin tubes as thin as true.

    Args:
        anatomy: what to measure.
        geometry: the field of view.
        refine: samples along each axis of its voxels.

    Returns:
        Structure to ml; what has no sample is left out.
    """
    fine = refined(geometry, refine)
    counts = np.zeros(256, dtype=np.int64)
    depth = max(1, SLAB_VOXELS // (fine.shape[0] * fine.shape[1]))
    for start in range(0, fine.shape[2], depth):
        slices = slice(start, min(start + depth, fine.shape[2]))
        out = np.zeros((*fine.shape[:2], slices.stop - start), dtype=np.uint8, order="F")
        _paint_slab(out, anatomy, fine, slices, 0.0)
        counts += np.bincount(out.reshape(-1, order="F"), minlength=256)
    return _volumes_ml(counts, fine.voxel_volume_mm3)


def drawn_volumes_ml(tissues: NDArray[np.uint8], geometry: Geometry) -> dict[str, float]:
    """Volumes of the structures as drawn: voxels times their size; structure to ml."""
    counts = np.bincount(tissues.reshape(-1, order="F"), minlength=256)
    return _volumes_ml(counts, geometry.voxel_volume_mm3)


def _volumes_ml(counts: NDArray[np.int64], voxel_mm3: float) -> dict[str, float]:
    volumes: dict[str, float] = {}
    for number, tissue in enumerate(TISSUES):
        for structure in tissue.structures:
            volumes[structure] = volumes.get(structure, 0.0) + float(counts[number])
    return {name: n * voxel_mm3 / 1000 for name, n in volumes.items() if n}


def refined(geometry: Geometry, factor: int) -> Geometry:
    """The same space in voxels `factor` times finer along each axis."""
    affine = geometry.affine.copy()
    affine[:3, :3] /= factor
    affine[:3, 3] = geometry.to_world([(1 / factor - 1) / 2] * 3)
    i, j, k = (n * factor for n in geometry.shape)
    return Geometry((i, j, k), affine)
