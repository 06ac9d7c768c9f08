"""From the position of every slice to one regular grid, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pantskit.core.errors import GeometryError, Quarantined
from pantskit.core.geometry import Geometry

# How far a slice may be from its place on the regular grid, along the normal and across it.
# Some scanners print positions to 0.1 mm, which moves a slice by up to 0.05 mm.
POSITION_TOLERANCE_MM = 0.1

# The same as a fraction of the slice spacing: the smaller of the two counts.
POSITION_TOLERANCE_SPACING = 0.15

# Direction cosines of two slices differ by no more than this; headers print 6 digits or so.
DIRECTION_TOLERANCE = 1e-4

# Row and column directions are unit vectors and perpendicular up to this.
ORTHOGONAL_TOLERANCE = 1e-3

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """Slices put in order.

    Attributes:
        order: indices into the slices given, one for each k, from the first along the normal.
        duplicates: pairs of indices (kept, other) at one position; the caller compares their
            pixels, since two slices that differ cannot both be right.
        geometry: (columns, rows, slices) grid; i runs along a row of pixels, j down a column.
        deviation_mm: largest distance of a slice from its place on that grid.
    """

    order: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    geometry: Geometry
    deviation_mm: float


def stack_slices(
    positions: ArrayLike,
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    *,
    rows: int,
    columns: int,
) -> Stack:
    """Order parallel slices and find their grid, from their positions alone.

    SliceThickness, SpacingBetweenSlices and GantryDetectorTilt are not looked at: they may
    be absent, overlap or leave gaps (DICOM PS3.3 C.7.6.2.1.1).

    Args:
        positions: (n, 3) ImagePositionPatient, LPS millimetres, any order.
        orientation: ImageOrientationPatient: direction of a row, then of a column, LPS.
        pixel_spacing: PixelSpacing: mm between rows, then between columns.
        rows: pixels down a column.
        columns: pixels along a row.

    Returns:
        The order, the duplicates still to be compared, and the grid in RAS+ mm.

    Raises:
        GeometryError: One slice only, or directions that are no directions.
        Quarantined: Missing slices, variable spacing, or a gantry tilt.
    """
    row, column = unit_directions(orientation)
    normal = np.cross(row, column)
    points = np.asarray(positions, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise GeometryError("slice positions are not three finite numbers each")
    order, duplicates = _ordered(points, normal)
    if len(order) < 2:
        raise GeometryError(
            "the series has one slice; a volume needs two or more, at known positions"
        )
    sorted_points = points[list(order)]
    along = sorted_points @ normal
    spacing, start = _regular_grid(along)
    across = _across_deviation(sorted_points, along, normal)
    deviation = max(_off_grid(along, spacing, start), across)
    affine = np.eye(4)
    affine[:3, 0] = _LPS_TO_RAS @ row * float(pixel_spacing[1])
    affine[:3, 1] = _LPS_TO_RAS @ column * float(pixel_spacing[0])
    affine[:3, 2] = _LPS_TO_RAS @ normal * spacing
    affine[:3, 3] = _LPS_TO_RAS @ (sorted_points[0] + (start - along[0]) * normal)
    return Stack(order, duplicates, Geometry((columns, rows, len(order)), affine), deviation)


def unit_directions(orientation: Sequence[float]) -> tuple[Vectors, Vectors]:
    """Row and column direction as perpendicular unit vectors.

    Raises:
        GeometryError: If the six numbers are not two perpendicular directions.
    """
    cosines = np.asarray(orientation, dtype=np.float64)
    if cosines.shape != (6,) or not np.isfinite(cosines).all():
        raise GeometryError("ImageOrientationPatient is not six finite numbers")
    row, column = cosines[:3], cosines[3:]
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > ORTHOGONAL_TOLERANCE:
        raise GeometryError("ImageOrientationPatient does not hold two unit vectors")
    row, column = row / lengths[0], column / lengths[1]
    if abs(float(row @ column)) > ORTHOGONAL_TOLERANCE:
        raise GeometryError("rows and columns of the image are not perpendicular")
    # What rounding in the header left of a non-right angle goes to the column.
    column = column - (row @ column) * row
    return row, column / np.linalg.norm(column)


def _ordered(
    points: Vectors, normal: Vectors
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Indices from the first slice along the normal on; one of each position."""
    kept: list[int] = []
    duplicates: list[tuple[int, int]] = []
    for index in np.argsort(points @ normal, kind="stable"):
        if kept and np.linalg.norm(points[index] - points[kept[-1]]) < 1e-3:
            duplicates.append((kept[-1], int(index)))
        else:
            kept.append(int(index))
    return tuple(kept), tuple(duplicates)


def _regular_grid(along: Vectors) -> tuple[float, float]:
    """Spacing and start of the regular grid through slices sorted along the normal.

    Raises:
        Quarantined: If there is none that runs through all of them.
    """
    steps = np.diff(along)
    if steps.min() < 1e-3:
        raise Quarantined(
            "two slices lie in one plane at different places: these are several stacks in one "
            "series; separate them"
        )
    # The line of least squares: positions rounded in the header must not bend the grid.
    spacing, start = (float(v) for v in np.polyfit(np.arange(len(along)), along, 1))
    if _off_grid(along, spacing, start) <= _tolerance(spacing):
        return spacing, start
    base = float(np.median(steps[steps < 1.5 * steps.min()]))
    multiples = np.rint(steps / base)
    if np.abs(steps - multiples * base).max() <= _tolerance(base) and multiples.max() >= 2:
        gaps = ", ".join(
            f"{int(n) - 1} after slice {k + 1}" for k, n in enumerate(multiples) if n > 1
        )
        raise Quarantined(
            f"slices are missing: {int((multiples - 1).sum())} of "
            f"{int(multiples.sum()) + 1} at {base:.4g} mm ({gaps}, counted along the scan axis); "
            "send the series again"
        )
    raise Quarantined(
        f"slice spacing varies from {steps.min():.4g} to {steps.max():.4g} mm; "
        "reconstruct the series at one spacing"
    )


def _across_deviation(points: Vectors, along: Vectors, normal: Vectors) -> float:
    """Largest distance of a slice origin from the line along the normal through them all.

    Raises:
        Quarantined: If slices shift sideways from one to the next, as a tilted gantry does.
    """
    across = points - np.outer(along, normal)
    off = np.linalg.norm(across - across[0], axis=1)
    if off.max() <= POSITION_TOLERANCE_MM:
        return float(off.max())
    drift = across[-1] - across[0]
    angle = np.degrees(np.arctan2(np.linalg.norm(drift), along[-1] - along[0]))
    raise Quarantined(
        f"slices shift sideways by up to {off.max():.1f} mm: a gantry tilt of {angle:.1f} degrees "
        "by their positions; reconstruct the series without tilt"
    )


def _off_grid(along: Vectors, spacing: float, start: float) -> float:
    return float(np.abs(along - start - spacing * np.arange(len(along))).max())


def _tolerance(spacing: float) -> float:
    return min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SPACING * spacing)
