"""Where a vessel or duct breaks off: the gaps between its pieces, and what a tumour closes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Voxel
from pantskit.check.scan import Scan
from pantskit.core.labels import LESION
from pantskit.measure.shape import Part, edge_voxels

_MOST_PIECES = 30  # the largest ones: the specks of a noisy mask bridge nothing
_STEP_MM = 1.0


@dataclass(frozen=True, eq=False)
class Break:
    """A gap between two pieces of a structure that no third piece bridges.

    Attributes:
        ends: (2, 3) the voxels, along the body's axes, between which the gap is narrowest.
        mm: length of what is missing: one voxel less than from the one end to the other.
        share: of the structure's voxels on the side that has fewer.
        leaves_view: whether both sides reach the edge of the view: beyond it they may be joined.
    """

    ends: NDArray[np.int64]
    mm: float
    share: float
    leaves_view: bool

    @property
    def at(self) -> Voxel:
        """The end on the smaller side, along the body's axes."""
        i, j, k = self.ends[1].tolist()
        return i, j, k


def breaks_of(scan: Scan, structure: str) -> list[Break]:
    """The gaps of a structure, the widest first; none where it is one piece.

    The pieces (26-connected) are joined by the shortest gaps that make one of them, so that a
    piece in the middle of a gap makes two of it.

    Args:
        scan: the case; the structure is not empty.
        structure: a tube.
    """
    parts = scan.parts(structure)[:_MOST_PIECES]
    sizes = np.array([p.voxels for p in parts], np.float64)
    cut = np.array([scan.cut_part(structure, p) for p in parts])
    pieces = [_surface(scan, structure, p) for p in parts]
    joins = _joins(pieces, np.array(scan.geometry.spacing))
    found = []
    for n, (*_, ends) in enumerate(joins):
        side = _beyond(joins, n, len(pieces))
        share = float(sizes[side].sum() / sizes.sum())
        if share > 0.5:
            share, ends = 1 - share, ends[::-1]
        steps = int(np.abs(ends[1] - ends[0]).max())
        length = float(np.linalg.norm((ends[1] - ends[0]) * scan.geometry.spacing))
        leaves = bool(cut[side].any() and cut[~side].any())
        found.append(Break(ends, length * (1 - 1 / max(steps, 1)), share, leaves))
    return sorted(found, key=lambda b: -b.mm)


def open_breaks(
    scan: Scan, structure: str, *, least_mm: float, share: float, tumour_mm: float
) -> list[tuple[Break, float]]:
    """Gaps that neither a tumour nor the edge of the view explains, with mm missing, worst first.

    Args:
        scan: the case; the structure is not empty.
        structure: a tube.
        least_mm: that are missing; less is no gap.
        share: of the structure's voxels beyond the gap; a smaller piece is a stray.
        tumour_mm: from the tumour up to which it closes the tube.
    """
    gaps = [(gap, open_mm(scan, gap, tumour_mm)) for gap in breaks_of(scan, structure)]
    found = [
        (gap, mm) for gap, mm in gaps if mm > least_mm and gap.share > share and not gap.leaves_view
    ]
    return sorted(found, key=lambda each: -each[1])


def in_words(gaps: list[tuple[Break, float]]) -> str:
    """`"a gap of 28 mm"`, `"gaps of 49 and 28 mm"`: the three widest."""
    mm = [f"{missing:.0f}" for _, missing in gaps[:3]]
    if len(mm) == 1:
        return f"a gap of {mm[0]} mm"
    return f"gaps of {', '.join(mm[:-1])} and {mm[-1]} mm"


def open_mm(scan: Scan, gap: Break, reach_mm: float) -> float:
    """Length of a gap's longest stretch that is not in or at the tumour, which closes it.

    Args:
        scan: the case.
        gap: a gap in one of its tubes.
        reach_mm: from the tumour, beyond a voxel.
    """
    if LESION not in scan.regions:
        return gap.mm
    from scipy.spatial import cKDTree

    first, last = gap.ends
    count = max(2, int(np.ceil(gap.mm / _STEP_MM)) + 1)
    line = first + (last - first) * np.linspace(0, 1, count)[:, None]
    inside = scan.contains(LESION, np.rint(line).astype(np.int64))
    reach = reach_mm + 0.5 * max(scan.geometry.spacing)
    near = cKDTree(scan.points(LESION)).query(scan.geometry.to_world(line))[0] <= reach
    longest = run = 0
    for closed in inside | near:
        run = 0 if closed else run + 1
        longest = max(longest, run)
    return gap.mm * longest / count


def tumour_unplaced(scan: Scan) -> bool:
    """Whether the metadata tell of a tumour that has no mask: it may close what is broken."""
    flag = str(scan.metadata.get("lesions") or "0").strip()
    return LESION not in scan.regions and flag not in ("0", "0.0", "nan")


def section_mm2(scan: Scan, structure: str, gap: Break, *, within_mm: float = 30) -> float:
    """Mean section of a tube beside a gap, on the side that is thinner there.

    Args:
        scan: the case.
        structure: the tube that has the gap.
        gap: where.
        within_mm: of each end.

    Returns:
        Volume over the stretches of 6 mm that show it, in mm2.
    """
    step, sections = 6.0, []
    voxels = np.argwhere(scan.regions[structure].array) + scan.regions[structure].start
    spacing = np.array(scan.geometry.spacing)
    for end, other in (gap.ends, gap.ends[::-1]):
        from_end = (voxels - end) * spacing
        away = np.linalg.norm(from_end, axis=1)
        own = (away <= within_mm) & (from_end @ ((end - other) * spacing) >= 0)
        length = step * len(np.unique(np.floor(away[own] / step)))
        sections.append(np.count_nonzero(own) * scan.geometry.voxel_volume_mm3 / length)
    return min(sections)


def _surface(scan: Scan, structure: str, part: Part) -> NDArray[np.int64]:
    """(n, 3) the surface voxels of a piece, along the body's axes."""
    region = scan.regions[structure]
    start = [a + s.start for a, s in zip(region.start, part.box, strict=True)]
    found: NDArray[np.int64] = edge_voxels(part.mask(region.array)) + np.array(start)
    return found


def _joins(
    pieces: list[NDArray[np.int64]], spacing: NDArray[np.float64]
) -> list[tuple[int, int, NDArray[np.int64]]]:
    """For each piece but the first: itself, the one that it is joined to, and the two ends."""
    from scipy.spatial import cKDTree

    # Of the pieces that wait: how far from what piece, and the ends there and here.
    ends: dict[int, tuple[float, int, NDArray[np.int64]]] = {}
    new, joins = 0, []
    waiting = set(range(1, len(pieces)))
    while waiting:
        tree = cKDTree(pieces[new] * spacing)
        for n in waiting:
            mm, nearest = tree.query(pieces[n] * spacing)
            best = int(mm.argmin())
            if n not in ends or mm[best] < ends[n][0]:
                both = np.stack([pieces[new][nearest[best]], pieces[n][best]])
                ends[n] = float(mm[best]), new, both
        new = min(waiting, key=lambda n: ends[n][0])
        waiting.remove(new)
        joins.append((new, ends[new][1], ends[new][2]))
    return joins


def _beyond(
    joins: list[tuple[int, int, NDArray[np.int64]]], number: int, count: int
) -> NDArray[np.bool_]:
    """Which pieces hang on the first one by a join."""
    side = np.zeros(count, np.bool_)
    side[joins[number][0]] = True
    for new, old, _ in joins[number + 1 :]:  # each piece is joined after the one it hangs on
        side[new] |= side[old]
    return side
