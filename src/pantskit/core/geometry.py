"""Where voxels are: one grid in space, compared and reoriented without touching a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pantskit.core.errors import GeometryError
from pantskit.core.imports import without_modules

# nibabel imports pydicom, and that a web client and a progress bar for downloads of test files.
with without_modules("requests", "tqdm"):
    from nibabel.orientations import (
        aff2axcodes,
        axcodes2ornt,
        inv_ornt_aff,
        io_orientation,
        ornt_transform,
    )

# The paper's "RPS" uses ITK's older letters, which name where an axis comes *from*: from
# Right, Posterior, Superior. In nibabel's letters, which name where it goes *to*, that is LAI.
STANDARD_ORIENTATION = "LAI"

# Two grids are one when no corner voxel centre moves further than this. float32 affines and
# quaternions round to about 1e-4 mm over a body; the finest CT voxels are 0.2 mm.
SAME_GRID_TOLERANCE_MM = 0.01

# Cosine of the angle between two axes above which a grid counts as sheared.
SHEAR_TOLERANCE = 1e-3

PLAUSIBLE_SPACING_MM = (0.01, 50.0)

AxisMap = NDArray[np.float64]  # (3, 2): nibabel's orientation array, target axis and flip


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in the world.

    Attributes:
        shape: voxels along (i, j, k).
        affine: (4, 4) float64, read-only; voxel index (i, j, k, 1) to RAS+ millimetres.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"affine must be a finite 4 x 4 matrix, found {affine.tolist()}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a volume needs three axes of one voxel or more: {self.shape}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise GeometryError("affine is singular: two axes coincide or a spacing is 0")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @classmethod
    def from_spacing(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        *,
        orientation: str = STANDARD_ORIENTATION,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Geometry:
        """An axis-aligned grid.

        Args:
            shape: voxels along (i, j, k).
            spacing: mm along (i, j, k).
            orientation: where each axis points, as nibabel codes.
            origin: RAS+ mm of voxel (0, 0, 0).
        """
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        for axis, code in enumerate(orientation):
            affine["RASLPI".index(code) % 3, axis] = spacing[axis] * (1 if code in "RAS" else -1)
        affine[:3, 3] = origin
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along (i, j, k)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @cached_property
    def orientation(self) -> str:
        """Where each axis points, as nibabel codes: `"LAI"` = toward left, anterior, inferior."""
        return "".join(aff2axcodes(self.affine))

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Millimetres that the voxels cover along (i, j, k), outer faces included."""
        i, j, k = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return i, j, k

    @cached_property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, the determinant of the affine: right for oblique grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def shear(self) -> float:
        """Largest cosine between two axes: 0 on an orthogonal grid."""
        unit = self.affine[:3, :3] / np.asarray(self.spacing)
        cosines = np.abs(unit.T @ unit - np.eye(3))
        return float(cosines.max())

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """(8, 3) RAS+ mm of the corner voxel centres."""
        return self.to_world(list(product(*((0, n - 1) for n in self.shape))))

    def to_world(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """(n, 3) or (3,) voxel indices to RAS+ mm."""
        points = np.asarray(ijk, dtype=np.float64)
        return points @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, xyz: ArrayLike) -> NDArray[np.float64]:
        """(n, 3) or (3,) RAS+ mm to fractional voxel indices."""
        points = np.asarray(xyz, dtype=np.float64)
        inverse = np.linalg.inv(self.affine)
        voxels: NDArray[np.float64] = points @ inverse[:3, :3].T + inverse[:3, 3]
        return voxels

    def same_grid(self, other: Geometry, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
        """Whether both grids have one shape and no corner voxel is further apart than that."""
        return self.shape == other.shape and self.distance_mm(other) <= tolerance_mm

    def same_voxels(self, other: Geometry) -> bool:
        """Whether both grids have the same voxel centres, in whatever order of axes and voxels."""
        # As they are first: near 45 degrees rounding decides how an axis is called.
        return self.same_grid(other) or self.same_grid(other.reoriented(self.orientation))

    def distance_mm(self, other: Geometry) -> float:
        """Largest distance in mm between corresponding corners of two grids of one shape."""
        return float(np.linalg.norm(self.corners - other.corners, axis=1).max())

    def describe(self) -> str:
        """For messages: `(512, 512, 80) at (0.8, 0.8, 2.5) mm, LAI`."""
        spacing = ", ".join(f"{s:.4g}" for s in self.spacing)
        return f"{self.shape} at ({spacing}) mm, {self.orientation}"

    def axis_map(self, orientation: str) -> AxisMap:
        """The flips and permutation that take this grid to `orientation` (nibabel ornt)."""
        if sorted(orientation.translate(str.maketrans("LPI", "RAS"))) != ["A", "R", "S"]:
            raise GeometryError(f"orientation {orientation!r} is not three codes such as 'LAI'")
        result: Any = ornt_transform(io_orientation(self.affine), axcodes2ornt(orientation))
        return np.asarray(result, dtype=np.float64)

    def reoriented(self, orientation: str = STANDARD_ORIENTATION) -> Geometry:
        """The same voxels in the same place, axes flipped and permuted to `orientation`."""
        axis_map = self.axis_map(orientation)
        shape = [0, 0, 0]
        for source, (target, _) in enumerate(axis_map):
            shape[int(target)] = self.shape[source]
        affine = self.affine @ inv_ornt_aff(axis_map, self.shape)
        return Geometry((shape[0], shape[1], shape[2]), affine)

    def require_plausible(self, name: str) -> None:
        """Refuse a grid whose place is in doubt.

        Raises:
            GeometryError: If axes are sheared or a spacing cannot be millimetres of a CT.
        """
        if self.shear > SHEAR_TOLERANCE:
            raise GeometryError(
                f"{name}: axes are not perpendicular (cosine {self.shear:.4f}, expected at most "
                f"{SHEAR_TOLERANCE}): a gantry tilt or a damaged affine; resample it first"
            )
        low, high = PLAUSIBLE_SPACING_MM
        if not all(low <= s <= high for s in self.spacing):
            raise GeometryError(
                f"{name}: spacing {tuple(round(s, 6) for s in self.spacing)} is outside "
                f"{low:g} to {high:g} mm; correct the header (is the unit millimetre?)"
            )


def require_same_grid(
    a: Geometry, b: Geometry, *, what: str, mend: str = "Resample one onto the other first."
) -> None:
    """Refuse to let two volumes on different grids meet.

    Args:
        a: first grid.
        b: second grid.
        what: the case and the two volumes, as `"PanTS_00000042: label and CT"`.
        mend: what to do about it.

    Raises:
        GeometryError: If the grids differ; the message shows both.
    """
    if a.same_grid(b):
        return
    if a.shape == b.shape:
        found = f"the same shape {a.shape}, but corners {a.distance_mm(b):.3f} mm apart"
        if a.orientation != b.orientation or not np.allclose(a.spacing, b.spacing, atol=1e-4):
            found = f"{a.describe()} and {b.describe()}"
    else:
        found = f"{a.describe()} and {b.describe()}"
    raise GeometryError(f"{what} are on different grids: {found}. {mend}")
