"""Compiled loops over voxels: depths of the closed forms, combined on the fly.

All take the x, y, z arrays of a whole slab, contiguous in Fortran order, and `corner`, the
slab voxel where the box `depth` begins. `mode` says what happens to `depth`: `UNION` takes the
larger of it and the new value, `WITHIN` the smaller of it and value - margin, `WITHOUT` the
smaller of it and -value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

UNION, WITHIN, WITHOUT = 0, 1, 2


@compiled
def _combined(old: np.float32, new: np.float32, mode: int, margin: np.float32) -> np.float32:
    if mode == 0:
        return max(old, new)
    if mode == 1:
        return min(old, new - margin)
    return min(old, -new)


@compiled
def rods(
    x: Float32, y: Float32, z: Float32, depth: Float32, corner: Int64, ends: Float32, boxes: Int64
) -> None:
    """Union with round cones.

    Args:
        x: atlas mm, with y and z.
        depth: box to fill.
        corner: see the module.
        ends: (n, 8) start, end, radius at start, radius at end.
        boxes: (n, 6) first and past-last voxel of each in `depth`; empty ones are skipped.
    """
    for n in range(ends.shape[0]):
        ax, ay, az = ends[n, 0], ends[n, 1], ends[n, 2]
        dx, dy, dz = ends[n, 3] - ax, ends[n, 4] - ay, ends[n, 5] - az
        radius, slope = ends[n, 6], ends[n, 7] - ends[n, 6]
        inverse = np.float32(1) / max(dx * dx + dy * dy + dz * dz, np.float32(1e-6))
        ex, ey, ez = dx * inverse, dy * inverse, dz * inverse
        for k in range(boxes[n, 4], boxes[n, 5]):
            for j in range(boxes[n, 2], boxes[n, 3]):
                for i in range(boxes[n, 0], boxes[n, 1]):
                    px = x[corner[0] + i, corner[1] + j, corner[2] + k] - ax
                    py = y[corner[0] + i, corner[1] + j, corner[2] + k] - ay
                    pz = z[corner[0] + i, corner[1] + j, corner[2] + k] - az
                    t = px * ex + py * ey + pz * ez
                    t = min(max(t, np.float32(0)), np.float32(1))
                    px -= t * dx
                    py -= t * dy
                    pz -= t * dz
                    value = radius + t * slope - np.sqrt(px * px + py * py + pz * pz)
                    depth[i, j, k] = max(depth[i, j, k], value)


@compiled
def ellipsoid(
    x: Float32,
    y: Float32,
    z: Float32,
    depth: Float32,
    corner: Int64,
    box: Int64,
    centre: Float32,
    rows: Float32,
    radii: Float32,
    squareness: np.float32,
    mode: int,
    margin: np.float32,
) -> None:
    """An ellipsoid, or with squareness up to 1 a rounder box (see `shapes.Ellipsoid`).

    Args:
        box: (6,) first and past-last voxel in `depth`.
        centre: (3,) mm.
        rows: (3, 3) unit vectors of the semi-axes.
        radii: (3,) mm.
    """
    one = np.float32(1)
    ra, rb, rc = one / radii[0], one / radii[1], one / radii[2]
    least = min(radii[0], min(radii[1], radii[2]))
    floor = one / max(radii[0], max(radii[1], radii[2]))
    tiny = np.float32(1e-6)
    for k in range(box[4], box[5]):
        for j in range(box[2], box[3]):
            for i in range(box[0], box[1]):
                px = x[corner[0] + i, corner[1] + j, corner[2] + k] - centre[0]
                py = y[corner[0] + i, corner[1] + j, corner[2] + k] - centre[1]
                pz = z[corner[0] + i, corner[1] + j, corner[2] + k] - centre[2]
                a = (rows[0, 0] * px + rows[0, 1] * py + rows[0, 2] * pz) * ra
                b = (rows[1, 0] * px + rows[1, 1] * py + rows[1, 2] * pz) * rb
                c = (rows[2, 0] * px + rows[2, 1] * py + rows[2, 2] * pz) * rc
                a *= a
                b *= b
                c *= c
                level = np.sqrt(a + b + c)
                if squareness > 0:
                    square = np.sqrt(np.sqrt(a * a + b * b + c * c))
                    value = (one - level + squareness * (level - square)) * least
                else:
                    slope = np.sqrt(a * ra * ra + b * rb * rb + c * rc * rc)
                    # level / slope tends to a radius at the centre, where both are 0;
                    # np.divide: no check for zero, which would keep the loop scalar
                    value = (one - level) * np.divide(level + tiny, slope + tiny * floor)
                depth[i, j, k] = _combined(depth[i, j, k], value, mode, margin)


@compiled
def trunk(
    x: Float32,
    y: Float32,
    z: Float32,
    depth: Float32,
    corner: Int64,
    table: Float32,
    bottom: np.float32,
    per_mm: np.float32,
    squareness: np.float32,
    mode: int,
    margin: np.float32,
) -> None:
    """A column of rounded ellipses (see `shapes.Trunk`); over the whole box.

    Args:
        table: (n, 4) over z: 1 / half width, 1 / half depth, centre y, the smaller half.
        bottom: z of the first row.
        per_mm: rows a mm.
    """
    one = np.float32(1)
    for k in range(depth.shape[2]):
        for j in range(depth.shape[1]):
            for i in range(depth.shape[0]):
                height = (z[corner[0] + i, corner[1] + j, corner[2] + k] - bottom) * per_mm
                row = int(min(max(height, np.float32(0)), np.float32(table.shape[0] - 1)))
                a = x[corner[0] + i, corner[1] + j, corner[2] + k] * table[row, 0]
                b = (y[corner[0] + i, corner[1] + j, corner[2] + k] - table[row, 2]) * table[row, 1]
                a *= a
                b *= b
                level = np.sqrt(a + b)
                level += squareness * (np.sqrt(np.sqrt(a * a + b * b)) - level)
                value = (one - level) * table[row, 3]
                depth[i, j, k] = _combined(depth[i, j, k], value, mode, margin)


@compiled
def half_space(
    x: Float32,
    y: Float32,
    z: Float32,
    depth: Float32,
    corner: Int64,
    point: Float32,
    normal: Float32,
    mode: int,
    margin: np.float32,
) -> None:
    """One side of a plane, over the whole box.

    Args:
        point: (3,) on the plane, mm.
        normal: (3,) unit vector.
    """
    for k in range(depth.shape[2]):
        for j in range(depth.shape[1]):
            for i in range(depth.shape[0]):
                px = x[corner[0] + i, corner[1] + j, corner[2] + k] - point[0]
                py = y[corner[0] + i, corner[1] + j, corner[2] + k] - point[1]
                pz = z[corner[0] + i, corner[1] + j, corner[2] + k] - point[2]
                value = px * normal[0] + py * normal[1] + pz * normal[2]
                depth[i, j, k] = _combined(depth[i, j, k], value, mode, margin)


@compiled
def ripple(
    x: Float32,
    y: Float32,
    z: Float32,
    depth: Float32,
    corner: Int64,
    waves: Float32,
    lowest: np.float32,
    highest: np.float32,
) -> None:
    """Add plane waves where they can matter.

    Args:
        waves: (m, 5) wave vector in rad/mm, phase, amplitude in mm.
        lowest, highest: depths outside these stay as they are, mm.
    """
    for k in range(depth.shape[2]):
        for j in range(depth.shape[1]):
            for i in range(depth.shape[0]):
                if lowest < depth[i, j, k] < highest:
                    px = x[corner[0] + i, corner[1] + j, corner[2] + k]
                    py = y[corner[0] + i, corner[1] + j, corner[2] + k]
                    pz = z[corner[0] + i, corner[1] + j, corner[2] + k]
                    total = np.float32(0)
                    for m in range(waves.shape[0]):
                        angle = waves[m, 0] * px + waves[m, 1] * py + waves[m, 2] * pz + waves[m, 3]
                        total += waves[m, 4] * np.sin(angle)
                    depth[i, j, k] += total


@compiled
def fill(
    out: NDArray[np.uint8],
    depth: Float32,
    corner: Int64,
    allowed: NDArray[np.bool_],
    thresholds: Float32,
    tissues: NDArray[np.uint8],
) -> None:
    """Paint tissues by depth over the tissues that may be painted over.

    Args:
        out: (i, j, k) tissue ids of the slab.
        allowed: (256,) which ids may be painted over.
        thresholds: (n,) rising depths, mm.
        tissues: (n,) id from each depth on.
    """
    for k in range(depth.shape[2]):
        for j in range(depth.shape[1]):
            for i in range(depth.shape[0]):
                value = depth[i, j, k]
                if value > thresholds[0]:
                    a, b, c = corner[0] + i, corner[1] + j, corner[2] + k
                    if allowed[out[a, b, c]]:
                        n = 0
                        while n + 1 < len(thresholds) and value > thresholds[n + 1]:
                            n += 1
                        out[a, b, c] = tissues[n]
