"""Places along the pancreas: mm from the tip of the tail to each voxel, through the gland."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.check.scan import Scan
from pantskit.core.labels import PANCREAS

_CELL_MM = 4.0


@dataclass(frozen=True, eq=False)
class Course:
    """The way through a gland.

    Attributes:
        length_mm: from the tip of the tail to the far end of the head.
        places: mm from the tip of the tail, in the gland's box; NaN outside of the gland.
    """

    length_mm: float
    places: NDArray[np.float32]

    def of(self, scan: Scan, structure: str) -> NDArray[np.float32]:
        """(n,) sorted places of a structure's voxels that lie in the gland."""
        return self.voxels_of(scan, structure)[1]

    def voxels_of(
        self, scan: Scan, structure: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(n, 3) a structure's voxels in the gland, from the tail on, and (n,) their places."""
        region, gland = scan.regions[structure], scan.regions[PANCREAS]
        voxels = np.argwhere(region.array) + region.start
        local = voxels - np.array(gland.start)
        there = ((local >= 0) & (local < self.places.shape)).all(axis=1)
        voxels, places = voxels[there], self.places[tuple(local[there].T)]
        order = np.argsort(places)[: np.count_nonzero(np.isfinite(places))]  # NaN comes last
        return voxels[order], places[order]


def course_of_gland(scan: Scan, *, tail_is_right: bool = False) -> Course | None:
    """Distances within the pancreas from the tip of its tail, over cells of 4 mm.

    Args:
        scan: the pancreas is not empty.
        tail_is_right: of a patient whose organs are mirrored.

    Returns:
        None where a fifth of the gland or more is not joined to the rest.
    """
    from scipy.sparse.csgraph import dijkstra

    gland = scan.regions[PANCREAS]
    voxels = np.argwhere(gland.array)
    cells, number = _cells(voxels, scan.geometry.spacing)
    graph = _neighbours(cells, max(scan.geometry.spacing))
    # From the far left on, the point that is furthest is one end, and what is furthest from it
    # the other.
    start = int(cells[:, 0].argmin())
    for _ in range(2):
        away = dijkstra(graph, indices=start)
        joined = np.isfinite(away)
        ends = start, int(np.where(joined, away, -1).argmax())
        start = ends[1]
    if joined[number].mean() < 0.8:
        return None
    left, right = sorted(ends, key=lambda n: int(cells[n, 0]))
    away = dijkstra(graph, indices=right if tail_is_right else left)
    places = np.full(gland.array.shape, np.nan, np.float32)
    places[tuple(voxels.T)] = np.where(joined, away, np.nan)[number]
    return Course(float(away[joined].max()), places)


def _cells(
    voxels: NDArray[np.int64], spacing: tuple[float, float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(m, 3) cells that hold voxels, in order, and (n,) the number of each voxel's cell."""
    cell = np.floor(voxels * np.array(spacing) / _CELL_MM).astype(np.int64)
    shape = tuple((cell.max(axis=0) + 1).tolist())
    keys, number = np.unique(np.ravel_multi_index(tuple(cell.T), shape), return_inverse=True)
    return np.stack(np.unravel_index(keys, shape), axis=1), number.ravel()


def _neighbours(cells: NDArray[np.int64], largest_mm: float) -> Any:
    """Sparse (m, m) mm between cells that are neighbours, or as near as two voxels are."""
    from scipy.sparse import coo_matrix

    reach = max(1, int(np.ceil(largest_mm / _CELL_MM)))
    shape = cells.max(axis=0) + 1 + 2 * reach
    numbers = np.full(shape, -1, np.int64)
    numbers[tuple((cells + reach).T)] = np.arange(len(cells))
    rows, columns, lengths = [], [], []
    for step in np.argwhere(np.ones((2 * reach + 1,) * 3)):
        other = numbers[tuple((cells + step).T)]
        here = np.flatnonzero(other >= 0)
        rows.append(here)
        columns.append(other[here])
        lengths.append(np.full(len(here), _CELL_MM * float(np.linalg.norm(step - reach))))
    entries = np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))
    return coo_matrix(entries, shape=(len(cells),) * 2).tocsr()


def without(start: float, end: float, taken: tuple[float, float] | None) -> float:
    """Length of the longest piece of a stretch that another one leaves; None takes nothing."""
    if taken is None or taken[1] <= start or taken[0] >= end:
        return max(0.0, end - start)
    return max(0.0, taken[0] - start, end - taken[1])
