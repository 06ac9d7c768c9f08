"""Area of the surface that passes between the eight voxels around a corner, from geometry.

A corner of the voxel grid has eight voxels around it; which of them are inside is its code
(one bit a voxel). Seen as a cube with those voxels' centres as its vertices, the surface
cuts every cube edge that joins an inside vertex to an outside one, half-way. This is
marching cubes with the surface at one half, and its triangles carry the area (DeepMind's
surface-distance weighs every surface point in this way).

The rule used here for all 256 codes:

1. Take the vertices that are fewer, inside or outside (on a tie, inside: either gives the
   same area). Those joined by cube edges belong together: diagonal neighbours stay apart.
2. The cut edges around each such group, in order, form one closed polygon of 3 to 6 corners.
3. The polygon need not be flat, so the way it is cut into triangles matters: cut off every
   other corner, beginning with one that belongs to the group's best-connected vertex, until
   a triangle is left. A group of three (an L) folds where its flat side ends.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

Vertex = tuple[int, int, int]
Cut = tuple[Vertex, Vertex]  # an edge of the cube: its inside vertex, its outside vertex

VERTICES: tuple[Vertex, ...] = tuple((x, y, z) for x, y, z in product((0, 1), repeat=3))


@lru_cache(maxsize=64)
def surfel_areas(spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """(256,) mm2 of surface at a corner, by neighbourhood code.

    Args:
        spacing: mm along (i, j, k).

    Bit n of a code stands for the voxel at `VERTICES[n]`, so voxel (0, 0, 0) is bit 0,
    (0, 0, 1) bit 1, (1, 1, 1) bit 7. Codes 0 and 255 have no surface.
    """
    x, y, z = spacing
    faces = np.array([y * z, x * z, x * y])
    areas = np.zeros(256)
    for code in range(256):
        for normal in triangle_normals(code):
            areas[code] += np.linalg.norm(normal * faces)
    areas.setflags(write=False)
    return areas


@cache
def triangle_normals(code: int) -> tuple[NDArray[np.float64], ...]:
    """Normals of a code's triangles on the unit cube; their length is the area."""
    inside = {v for n, v in enumerate(VERTICES) if code >> n & 1}
    few = inside if len(inside) <= 4 else set(VERTICES) - inside
    normals: list[NDArray[np.float64]] = []
    for group in _groups(few):
        polygon = [np.add(*cut) / 2 for cut in _polygon(group)]
        normals += [np.cross(b - a, c - a) / 2 for a, b, c in _triangles(polygon)]
    return tuple(normals)


def _groups(vertices: set[Vertex]) -> list[set[Vertex]]:
    """The vertices joined by cube edges, together."""
    left, groups = set(vertices), []
    while left:
        group, edge = set(), [min(left)]
        while edge:
            vertex = edge.pop()
            group.add(vertex)
            edge += [n for n in _neighbours(vertex) if n in left and n not in group]
        left -= group
        groups.append(group)
    return groups


def _polygon(group: set[Vertex]) -> list[Cut]:
    """The cut edges around a group, in order, from one of its best-connected vertex on."""
    cuts = [(v, n) for v in group for n in _neighbours(v) if n not in group]
    best = max(cuts, key=lambda cut: sum(n in group for n in _neighbours(cut[0])))
    polygon = [best]
    while len(polygon) < len(cuts):
        polygon.append(next(c for c in cuts if c not in polygon and _meet(c, polygon[-1], group)))
    return polygon


def _meet(a: Cut, b: Cut, group: set[Vertex]) -> bool:
    """Whether the surface runs from one cut to the other across a face of the cube.

    It does when they lie on one face and share an end, or when their inside ends are
    neighbours. (No group of a face has two diagonal vertices without one between them.)
    """
    same_face = any(len({v[axis] for v in (*a, *b)}) == 1 for axis in range(3))
    joined = a[0] == b[0] or a[1] == b[1] or b[0] in _neighbours(a[0])
    return same_face and joined


def _triangles(
    polygon: list[NDArray[np.float64]],
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """Cut off every other corner, the first one first, until a triangle is left."""
    corners, triangles, ear = list(polygon), [], 0
    while len(corners) > 3:
        ear %= len(corners)
        triangles.append((corners[ear - 1], corners[ear], corners[(ear + 1) % len(corners)]))
        del corners[ear]
        ear += 1
    return [*triangles, (corners[0], corners[1], corners[2])]


def _neighbours(vertex: Vertex) -> list[Vertex]:
    x, y, z = vertex
    return [(1 - x, y, z), (x, 1 - y, z), (x, y, 1 - z)]
