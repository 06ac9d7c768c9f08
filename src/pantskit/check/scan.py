"""One case in memory as the rules see it: structures cut to their boxes, axes as in the body.

Index i runs to the patient's right, j to the front, k to the head, whatever the file has; on
oblique grids each as near as an axis comes. Nothing is resampled: axes are flipped and permuted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pantskit.check.brightness import Brightness
from pantskit.check.findings import Fault, Severity, Voxel
from pantskit.check.ranges import BUILT_IN, Ranges
from pantskit.check.region import BODY_AXES, Region, Turn, common
from pantskit.core.crops import cut_mask
from pantskit.core.dataset import PHASES
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES, Mask
from pantskit.measure.boxes import Box, join, within
from pantskit.measure.shape import Part, edge_voxels, parts_of

T = TypeVar("T")

# Enough points of a surface for distances to within a millimetre or two.
_POINTS = 20_000


class Scan(Brightness):
    """One case as the rules of masks, anatomy and content see it.

    Attributes:
        case_id: the case.
        source: the grid of the file.
        geometry: the same grid with the body's axes.
        regions: annotated structures that are not empty.
        empty: annotated structures that are.
        ct: (i, j, k) HU along the body's axes, or None.
        metadata: the case's row, {} where there is none.
        ranges: what is plausible.
    """

    def __init__(
        self,
        case_id: str,
        source: Geometry,
        crops: Mapping[str, tuple[Mask, Voxel]],
        *,
        ct: NDArray[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        ranges: Ranges = BUILT_IN,
    ) -> None:
        """Turn crops to the body's axes.

        Args:
            case_id: the case.
            source: the grid of the file.
            crops: structure to its mask, cut to a box, and the index of the box's first voxel,
                both along the file's axes; a mask without voxels is annotated and empty.
            ct: (i, j, k) HU on `source`.
            metadata: the case's row.
            ranges: what is plausible.
        """
        self.case_id = case_id
        self.source = source
        self.geometry = source.reoriented(BODY_AXES)
        self.metadata = metadata or {}
        self.ranges = ranges
        self._turn = Turn.of(source)
        super().__init__(None if ct is None else self._turn.turned(ct))
        self.empty: set[str] = set()
        for structure, (mask, start) in crops.items():
            if not mask.any():
                self.empty.add(structure)
                continue
            array = np.asfortranarray(self._turn.turned(mask))
            self.regions[structure] = Region(array, self._turn.start(start, mask.shape))
        self._parts: dict[str, list[Part]] = {}
        self._surfaces: dict[str, NDArray[np.int64]] = {}
        self._points: dict[str, NDArray[np.float64]] = {}
        self._gaps: dict[tuple[str, str], tuple[float, Voxel]] = {}
        self._kept: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, made when it is first asked for: several rules need it."""
        if name not in self._kept:
            self._kept[name] = make()
        kept: T = self._kept[name]
        return kept

    @classmethod
    def from_masks(
        cls,
        case_id: str,
        geometry: Geometry,
        masks: Mapping[str, Mask],
        *,
        ct: NDArray[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        ranges: Ranges = BUILT_IN,
    ) -> Scan:
        """From whole masks, (i, j, k) bool on `geometry`; those of annotated structures."""
        crops = {}
        for structure, mask in masks.items():
            cut = cut_mask(mask, geometry)
            crops[structure] = (cut.array, cut.start)
        return cls(case_id, geometry, crops, ct=ct, metadata=metadata, ranges=ranges)

    @property
    def annotated(self) -> set[str]:
        """Structures that somebody annotated, empty ones included."""
        return {*self.regions, *self.empty}

    @cached_property
    def phase(self) -> str | None:
        """The contrast phase of the metadata; None where it has none, or a word of its own."""
        told = self.metadata.get("phase")
        return told if told in PHASES else None

    @cached_property
    def view(self) -> tuple[int, int]:
        """First slice and the one after the last that show anything but air, from below."""
        depth = self.geometry.shape[2]
        if self.ct is None:
            return 0, depth
        rows = self.ct[::8, ::8]
        shown = np.flatnonzero((rows > -700).any(axis=(0, 1)))  # outside of body and table: air
        return (int(shown[0]), int(shown[-1]) + 1) if shown.size else (0, depth)

    def cut(self, structure: str) -> bool:
        """Whether a structure reaches the edge of what is in view."""
        return self._at_edge(self.regions[structure].box)

    def cut_part(self, structure: str, part: Part) -> bool:
        """Whether a part of it does: outside it may go on, and be joined to the others."""
        i, j, k = (
            slice(a + s.start, a + s.stop)
            for a, s in zip(self.regions[structure].start, part.box, strict=True)
        )
        return self._at_edge((i, j, k))

    def cut_aside(self, structure: str) -> bool:
        """Whether it reaches the left, right, front or rear edge of the volume."""
        sides = zip(self.regions[structure].box[:2], self.geometry.shape[:2], strict=True)
        return any(part.start == 0 or part.stop == n for part, n in sides)

    def _at_edge(self, box: Box) -> bool:
        sides = zip(box[:2], self.geometry.shape[:2], strict=True)
        aside = any(part.start == 0 or part.stop == n for part, n in sides)
        below, above = self.view
        return bool(aside or box[2].start <= below or box[2].stop >= above)

    def cut_below(self, structure: str) -> bool:
        """Whether it reaches the lowest slice in view."""
        return bool(self.regions[structure].box[2].start <= self.view[0])

    def cut_above(self, structure: str) -> bool:
        """Whether it reaches the highest slice in view."""
        return bool(self.regions[structure].box[2].stop >= self.view[1])

    def ml(self, structure: str) -> float:
        """Volume."""
        return self.regions[structure].voxels * self.geometry.voxel_volume_mm3 / 1000

    def centre_mm(self, structure: str) -> NDArray[np.float64]:
        """(3,) RAS+ mm of the centre of mass."""
        return self.geometry.to_world(self.regions[structure].centre)

    def heights_mm(self, structure: str) -> tuple[float, float]:
        """Lowest and highest point, mm along the body from the scan's first slice."""
        part = self.regions[structure].box[2]
        return part.start * self.geometry.spacing[2], part.stop * self.geometry.spacing[2]

    @cached_property
    def shared(self) -> dict[tuple[str, str], int]:
        """Voxels in both of each pair of structures that overlap, in the order of the 28."""
        counted = {}
        ordered = [s for s in STRUCTURES if s in self.regions]
        for a, b in combinations(ordered, 2):
            box = common(self.regions[a].box, self.regions[b].box)
            if box is None:
                continue
            both = self.regions[a].crop(box) & self.regions[b].crop(box)
            number = int(np.count_nonzero(both))
            if number:
                counted[a, b] = number
        return counted

    def overlap(self, a: str, b: str) -> int:
        """Voxels in both of two structures; 0 where one is absent or empty."""
        return self.shared.get((a, b), 0) or self.shared.get((b, a), 0)

    def overlap_at(self, a: str, b: str) -> Voxel | None:
        """A voxel in both, in the slice that has most of them."""
        box = common(self.regions[a].box, self.regions[b].box)
        if box is None:
            return None
        both = self.regions[a].crop(box) & self.regions[b].crop(box)
        if not both.any():
            return None
        start = (box[0].start, box[1].start, box[2].start)
        return self.at(Region(np.asfortranarray(both), start).widest)

    def parts(self, structure: str) -> list[Part]:
        """The connected parts (26) of a structure, largest first, within its own box."""
        if structure not in self._parts:
            self._parts[structure] = parts_of(self.regions[structure].array)
        return self._parts[structure]

    def inside(self, structure: str, part: Part) -> Voxel:
        """A voxel of a part that was found in a structure's box, as index in the file."""
        i, j, k = (a + b for a, b in zip(self.regions[structure].start, part.inside, strict=True))
        return self.at((i, j, k))

    def unclaimed(self, structure: str, cavity: Part) -> Region:
        """What of a structure's cavity no other structure has; it may be empty."""
        region = self.regions[structure]
        free = cavity.mask(~region.array, connectivity=6)
        i, j, k = (
            slice(a + part.start, a + part.stop)
            for a, part in zip(region.start, cavity.box, strict=True)
        )
        for other in self.regions.values():
            box = common((i, j, k), other.box)
            if box is not None:
                free[within((i, j, k), box)] &= ~other.crop(box)
        return Region(np.asfortranarray(free), (i.start, j.start, k.start))

    def surface(self, structure: str) -> NDArray[np.int64]:
        """(n, 3) voxels of the scan on the structure's surface, about 20,000 of them at most."""
        if structure not in self._surfaces:
            region = self.regions[structure]
            found = edge_voxels(region.array)
            self._surfaces[structure] = found[:: max(1, len(found) // _POINTS)] + region.start
        return self._surfaces[structure]

    def points(self, structure: str) -> NDArray[np.float64]:
        """(n, 3) RAS+ mm of the same voxels."""
        if structure not in self._points:
            self._points[structure] = self.geometry.to_world(self.surface(structure))
        return self._points[structure]

    def edge_share(self, structure: str) -> float:
        """Share of a structure's voxels that lie on its surface; 0 of large ones, unasked."""
        region = self.regions[structure]
        if region.voxels > _POINTS:
            return 0.0
        return len(edge_voxels(region.array)) / region.voxels

    def gap(self, a: str, b: str) -> tuple[float, Voxel]:
        """Smallest distance in mm between two structures' voxels, 0 where they overlap or touch.

        Returns:
            The distance, and the voxel of `a` (in the file) that is nearest.
        """
        if (a, b) not in self._gaps:
            if self.overlap(a, b):
                at = self.overlap_at(a, b) or self.widest(a)
                self._gaps[a, b] = 0.0, at
            else:
                self._gaps[a, b] = self._nearest(a, b)
        return self._gaps[a, b]

    def _nearest(self, a: str, b: str) -> tuple[float, Voxel]:
        from scipy.spatial import cKDTree

        own, other = self.points(a), self.points(b)
        distances, _ = cKDTree(other).query(own)
        n = int(np.argmin(distances))
        i, j, k = np.rint(self.source.to_voxel(own[n])).astype(int).tolist()
        beyond = float(distances[n]) - 1.01 * max(self.geometry.spacing)
        return max(0.0, beyond), (i, j, k)

    def parts_away(self, a: str, b: str, most_mm: float) -> list[tuple[Part, float]]:
        """Parts of `a` further than that from `b`'s surface and not overlapping it."""
        from scipy.spatial import cKDTree

        tree = cKDTree(self.points(b))
        found = []
        for part in self.parts(a):
            here = self.regions[a].array[part.box]
            start = [x.start + y for x, y in zip(part.box, self.regions[a].start, strict=True)]
            own = edge_voxels(here) + np.array(start)
            if self.contains(b, own).any():
                continue
            distance = float(tree.query(self.geometry.to_world(own))[0].min())
            if distance > most_mm:
                found.append((part, distance))
        return found

    def share_away(self, a: str, b: str, most_mm: float) -> float:
        """Share of `a`'s voxels outside `b` and further than that from its surface."""
        from scipy.spatial import cKDTree

        own = np.argwhere(self.regions[a].array) + self.regions[a].start
        own = own[:: max(1, len(own) // _POINTS)]
        inside = self.contains(b, own)
        outside = own[~inside]
        if not len(outside):
            return 0.0
        reach = most_mm + max(self.geometry.spacing)
        far = cKDTree(self.points(b)).query(self.geometry.to_world(outside))[0] > reach
        return float(np.count_nonzero(far) / len(own))

    def contains(self, structure: str, voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) which of (n, 3) voxels of the scan are of a structure."""
        region = self.regions[structure]
        local = voxels - region.start
        there = np.asarray(((local >= 0) & (local < region.array.shape)).all(axis=1))
        there[there] = region.array[tuple(local[there].T)]
        return there

    def columns(self, structure: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """RAS+ mm toward the right (x) and slice k of every voxel of a structure."""
        region = self.regions[structure]
        voxels = np.argwhere(region.array) + region.start
        return self.geometry.to_world(voxels)[:, 0], voxels[:, 2]

    def union(self, structures: Iterable[str]) -> Region | None:
        """The structures that are there as one region."""
        some = [self.regions[s] for s in structures if s in self.regions]
        box = join(*(r.box for r in some))
        if box is None:
            return None
        array = np.zeros([part.stop - part.start for part in box], np.bool_, order="F")
        for region in some:
            array[within(box, region.box)] |= region.array
        return Region(array, (box[0].start, box[1].start, box[2].start))

    def count_inside(self, region: Region, structure: str) -> int:
        """Voxels that a region shares with a structure."""
        other = self.regions[structure]
        box = common(region.box, other.box)
        return 0 if box is None else int(np.count_nonzero(region.crop(box) & other.crop(box)))

    def count_under(self, structure: str, labels: NDArray[Any], value: int) -> int:
        """Voxels of a structure at which a label map on the file's grid holds a value."""
        if structure not in self.regions:
            return 0
        region = self.regions[structure]
        under = self._turn.turned(labels)[region.box]
        return int(np.count_nonzero((under == value) & region.array))

    def label_counts(self, structure: str, labels: NDArray[Any]) -> NDArray[np.int64]:
        """(256,) voxels of a structure by the value of a uint8 label map on the file's grid."""
        region = self.regions[structure]
        under = self._turn.turned(labels)[region.box].T[region.array.T]
        return np.bincount(under, minlength=256)

    def in_file(self, mask: Mask, structure: str) -> tuple[Mask, Box]:
        """A mask of a structure's region in the file's axes, and its box there."""
        region = self.regions[structure]
        undo = np.argsort(self._turn.axes)
        flips = tuple(slice(None, None, -1 if f else 1) for f in self._turn.flipped)
        array = mask[flips].transpose(undo)
        a, b, c = (part.stop - 1 for part in region.box)
        ends = (self._turn.back(region.start), self._turn.back((a, b, c)))
        i, j, k = (slice(min(a, b), max(a, b) + 1) for a, b in zip(*ends, strict=True))
        return array, (i, j, k)

    def paint(self, labels: NDArray[Any], structure: str, value: int) -> None:
        """Write a value where a structure is into a label map on the file's grid."""
        region = self.regions[structure]
        self._turn.turned(labels)[region.box][region.array] = value

    def at(self, voxel: Voxel) -> Voxel:
        """The index in the file's array of a voxel given along the body's axes."""
        return self._turn.back(voxel)

    def widest(self, structure: str) -> Voxel:
        """A voxel in the slice that shows most of a structure, as index in the file."""
        return self.at(self.regions[structure].widest)

    def fault(
        self,
        message: str,
        structure: str,
        value: float | None = None,
        *,
        at: Voxel | None = None,
        severity: Severity | None = None,
    ) -> Fault:
        """A fault of a structure, to be looked at where it is widest unless `at` says where."""
        if at is None and structure in self.regions:
            at = self.widest(structure)
        return Fault(message, structure, value, at, severity)
