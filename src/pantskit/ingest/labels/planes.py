"""The slices of a CT as planes in the patient, which annotations are laid onto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import SAME_GRID_TOLERANCE_MM, Geometry
from pantskit.ingest.dicom.geometry import unit_directions
from pantskit.ingest.dicom.headers import ImageHeader

Points = NDArray[np.float64]

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Planes:
    """Parallel slices of one size, at any distances and shifted against each other or not.

    Attributes:
        shape: (columns, rows) pixels of each.
        steps: (2, 3) RAS mm from a pixel to the next along i (columns) and j (rows).
        origins: (n, 3) RAS mm of the first pixel's centre of each slice.
    """

    shape: tuple[int, int]
    steps: Points
    origins: Points

    @classmethod
    def at(
        cls,
        positions: Sequence[Sequence[float]],
        orientation: Sequence[float],
        pixel_spacing: Sequence[float],
        *,
        rows: int,
        columns: int,
    ) -> Planes:
        """From DICOM's numbers, which are LPS and name rows first.

        Raises:
            GeometryError: If the orientation is none.
        """
        row, column = unit_directions(orientation)
        steps = np.array([row * float(pixel_spacing[1]), column * float(pixel_spacing[0])])
        origins = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        return cls((columns, rows), steps * _LPS_TO_RAS, origins * _LPS_TO_RAS)

    @classmethod
    def of_geometry(cls, geometry: Geometry) -> Planes:
        """The slices along k of a grid."""
        affine = geometry.affine
        origins = affine[:3, 3] + np.outer(np.arange(geometry.shape[2]), affine[:3, 2])
        return cls(geometry.shape[:2], affine[:3, :2].T, origins)

    @property
    def normal(self) -> Points:
        """Unit vector across the slices."""
        across = np.cross(self.steps[0], self.steps[1])
        return np.asarray(across / np.linalg.norm(across))

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along (i, j, k)."""
        return (*self.shape, len(self.origins))

    def nearest(self, points: Points) -> tuple[NDArray[np.int64], Points]:
        """The slice that each point lies nearest to, and its distance from that slice's plane.

        Args:
            points: (m, 3) RAS mm.

        Returns:
            (m,) slice numbers and (m,) mm.
        """
        along = self.origins @ self.normal
        order = np.argsort(along, kind="stable")
        wanted = points @ self.normal
        after = np.clip(np.searchsorted(along[order], wanted), 1, max(len(order) - 1, 1))
        pair = np.stack([order[after - 1], order[np.minimum(after, len(order) - 1)]])
        distance = np.abs(along[pair] - wanted)
        closer = np.argmin(distance, axis=0)
        columns = np.arange(len(points))
        return pair[closer, columns], distance[closer, columns]

    def pixels(self, points: Points, k: int) -> Points:
        """(m, 3) RAS mm to (m, 2) fractional (i, j) in slice k; (0, 0) is a pixel's centre."""
        solved = np.linalg.lstsq(self.steps.T, (points - self.origins[k]).T, rcond=None)[0]
        return np.asarray(solved.T)

    def same_slices(self, other: Planes) -> NDArray[np.int64] | None:
        """The slice of these that each of the others is; None where one is none of them.

        Two slices are one when they have one size and no corner pixel is further than 0.01 mm
        from its counterpart.
        """
        if self.shape != other.shape:
            return None
        far = np.array(self.shape) - 1
        turned = [far * on @ (self.steps - other.steps) for on in ((1, 0), (0, 1), (1, 1))]
        found, _ = self.nearest(other.origins)
        apart = other.origins - self.origins[found]
        worst = max(
            float(np.linalg.norm(apart - turn, axis=1).max()) for turn in (np.zeros(3), *turned)
        )
        return found if worst <= SAME_GRID_TOLERANCE_MM else None


@dataclass(frozen=True, eq=False)
class Scan:
    """The CT that annotations are read for.

    Attributes:
        planes: its slices, in the order of the source's k.
        geometry: their grid; None where they make no regular one.
        series: its SeriesInstanceUID; empty for a volume file.
        instances: SOPInstanceUIDs of all its files, copies of slices included.
        frames: its FrameOfReferenceUID.
    """

    planes: Planes
    geometry: Geometry | None
    series: frozenset[str] = field(default_factory=frozenset)
    instances: frozenset[str] = field(default_factory=frozenset)
    frames: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of_series(
        cls, slices: Sequence[ImageHeader], order: Sequence[int], geometry: Geometry | None
    ) -> Scan:
        """A DICOM series whose headers are complete.

        Args:
            slices: all its headers.
            order: indices of the slices that make the volume, in the order of k.
            geometry: the grid of the slices; None where they make no regular one.
        """
        first = slices[order[0]]
        assert first.orientation and first.pixel_spacing
        planes = Planes.at(
            [slices[index].position or () for index in order],
            first.orientation,
            first.pixel_spacing,
            rows=first.rows,
            columns=first.columns,
        )
        return cls(
            planes,
            geometry,
            frozenset({s.series_uid for s in slices} - {""}),
            frozenset({s.sop_uid for s in slices} - {""}),
            frozenset({s.frame_of_reference for s in slices} - {""}),
        )

    @classmethod
    def of_volume(cls, geometry: Geometry) -> Scan:
        """A CT from a volume file, as it lies in the file."""
        return cls(Planes.of_geometry(geometry), geometry)
