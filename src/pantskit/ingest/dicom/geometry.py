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

# A step longer than this many regular ones may hide a missing slice.
_GAP = 1.5

# Scanners tilt by up to 30 degrees; more is no gantry tilt.
MOST_TILT_DEGREES = 45.0

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

    @property
    def orientation(self) -> str:
        """Where rows, columns and the normal point, as nibabel codes."""
        return self.geometry.orientation


@dataclass(frozen=True, eq=False)
class IrregularStack:
    """Parallel slices in order that make no regular grid: where each is, and why.

    Attributes:
        order, duplicates: as in `Stack`.
        causes: of "missing", "spacing", "tilt", "shift"; the first two exclude each other, and
            so do the last two. "tilt" is a sideways shift in proportion to the way along the
            normal, "shift" any other.
        row, column, normal: unit vectors, LPS.
        origin: (3,) centre of the first slice's first pixel, LPS mm.
        along: (n,) mm from the first slice along the normal; on the regular grid where the
            steps make one.
        shifts: (n, 2) mm sideways from the first slice, along a row and down a column.
        step: mm, the smallest step that is regular.
        rows, columns: pixels.
        pixel_spacing: mm between rows, then between columns.
        deviation_mm: largest distance that a slice was moved by to make its step regular.
        messages: a sentence a cause, what was found and what to do.
    """

    order: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    causes: tuple[str, ...]
    row: Vectors
    column: Vectors
    normal: Vectors
    origin: Vectors
    along: Vectors
    shifts: Vectors
    step: float
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]
    deviation_mm: float
    messages: tuple[str, ...]

    @property
    def geometry(self) -> None:
        """There is no regular grid."""
        return

    @property
    def orientation(self) -> str:
        """Where rows, columns and the normal point, as nibabel codes."""
        affine = np.eye(4)
        affine[:3, :3] = _LPS_TO_RAS @ np.stack([self.row, self.column, self.normal], axis=1)
        return Geometry((1, 1, 1), affine).orientation

    @property
    def tilt_degrees(self) -> float:
        """Angle between the scan axis and the normal of the slices, by the positions."""
        return _tilt_degrees(self.along, self.shifts)

    @property
    def message(self) -> str:
        """Why there is no regular grid, and what to do."""
        return "; and ".join(self.messages)

    def require(self, *allowed: str) -> None:
        """Refuse the stack unless each of its causes is allowed.

        Raises:
            Quarantined: Naming the causes that are not.
        """
        pairs = zip(self.causes, self.messages, strict=True)
        refused = [message for cause, message in pairs if cause not in allowed]
        if refused:
            raise Quarantined("; and ".join(refused))


def stack_slices(
    positions: ArrayLike,
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    *,
    rows: int,
    columns: int,
) -> Stack:
    """`arrange_slices`, refusing what is irregular.

    Raises:
        GeometryError: One slice only, or directions that are no directions.
        Quarantined: Missing slices, variable spacing, or a gantry tilt.
    """
    found = arrange_slices(positions, orientation, pixel_spacing, rows=rows, columns=columns)
    if isinstance(found, IrregularStack):
        raise Quarantined(found.message)
    return found


def arrange_slices(
    positions: ArrayLike,
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    *,
    rows: int,
    columns: int,
    instances: Sequence[int | None] = (),
) -> Stack | IrregularStack:
    """Order parallel slices and find their grid, from their positions alone.

    SliceThickness, SpacingBetweenSlices and GantryDetectorTilt are not looked at: they may
    be absent, overlap or leave gaps (DICOM PS3.3 C.7.6.2.1.1).

    Args:
        positions: (n, 3) ImagePositionPatient, LPS millimetres, any order.
        orientation: ImageOrientationPatient: direction of a row, then of a column, LPS.
        pixel_spacing: PixelSpacing: mm between rows, then between columns.
        rows: pixels down a column.
        columns: pixels along a row.
        instances: InstanceNumber of each slice: longer steps count as variable spacing only
            where the numbers go on and two such steps follow each other; else as gaps.

    Returns:
        The order, the duplicates still to be compared, and the grid in RAS+ mm; or what is
        irregular.

    Raises:
        GeometryError: One slice only, or directions that are no directions.
        Quarantined: Several stacks side by side.
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
    from_first = points[list(order)] - points[order[0]]
    along = from_first @ normal
    shifts = from_first @ np.stack([row, column], axis=1)
    numbers = [instances[index] for index in order] if len(instances) else []
    step, start, deviation, spacing_cause = _steps(along, numbers)
    across = np.linalg.norm(shifts, axis=1)
    sideways = _sideways(along, shifts) if across.max() > POSITION_TOLERANCE_MM else None
    causes = [cause for cause in (spacing_cause, sideways) if cause]
    regular: Vectors = np.asarray(step * np.arange(len(along)), dtype=np.float64)
    if causes:
        return IrregularStack(
            order=order,
            duplicates=duplicates,
            causes=tuple(cause for cause, _ in causes),
            row=row,
            column=column,
            normal=normal,
            origin=points[order[0]] + (0.0 if spacing_cause else start) * normal,
            along=along if spacing_cause else regular,
            shifts=shifts,
            step=step,
            rows=rows,
            columns=columns,
            pixel_spacing=(float(pixel_spacing[0]), float(pixel_spacing[1])),
            deviation_mm=deviation,
            messages=tuple(message for _, message in causes),
        )
    affine = np.eye(4)
    affine[:3, 0] = _LPS_TO_RAS @ row * float(pixel_spacing[1])
    affine[:3, 1] = _LPS_TO_RAS @ column * float(pixel_spacing[0])
    affine[:3, 2] = _LPS_TO_RAS @ normal * step
    affine[:3, 3] = _LPS_TO_RAS @ (points[order[0]] + start * normal)
    geometry = Geometry((columns, rows, len(order)), affine)
    return Stack(order, duplicates, geometry, max(deviation, float(across.max())))


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


_Cause = tuple[str, str]  # what it is called, and a sentence that says what was found


def _steps(
    along: Vectors, instances: Sequence[int | None]
) -> tuple[float, float, float, _Cause | None]:
    """Regular step, start and deviation of slices sorted along the normal, or why there is none.

    Raises:
        Quarantined: If two of them lie in one plane.
    """
    steps = np.diff(along)
    if steps.min() < 1e-3:
        raise Quarantined(
            "two slices lie in one plane at different places: these are several stacks in one "
            "series; separate them"
        )
    # The line of least squares: positions rounded in the header must not bend the grid.
    spacing, start = (float(v) for v in np.polyfit(np.arange(len(along)), along, 1))
    deviation = float(np.abs(along - start - spacing * np.arange(len(along))).max())
    if deviation <= _tolerance(spacing):
        return spacing, start, deviation, None
    base = float(np.median(steps[steps < _GAP * steps.min()]))
    multiples = np.rint(steps / base)
    gaps = steps >= _GAP * base - 1e-9
    whole = np.abs(steps - multiples * base).max() <= _tolerance(base)
    complete = not gaps.any() or (_in_runs(steps, gaps) and _consecutive(instances))
    if whole and not complete:
        listed = ", ".join(
            f"{int(n) - 1} after slice {k + 1}" for k, n in enumerate(multiples) if n > 1
        )
        message = (
            f"slices are missing: {int((multiples - 1).sum())} of "
            f"{int(multiples.sum()) + 1} at {base:.4g} mm ({listed}, counted along the scan axis); "
            "send the series again"
        )
        return base, 0.0, 0.0, ("missing", message)
    message = f"slice spacing varies from {steps.min():.4g} to {steps.max():.4g} mm"
    if not complete:
        return base, 0.0, 0.0, ("missing", f"{message}: slices may be missing; send them again")
    mend = "reconstruct the series at one spacing, or allow it to be resampled"
    least = float(steps.min())
    base = float(np.median(steps[steps <= least + 2 * _tolerance(least)]))
    return base, 0.0, 0.0, ("spacing", f"{message}; {mend} (--resample-spacing)")


def _in_runs(steps: Vectors, gaps: NDArray[np.bool_]) -> bool:
    """Whether every longer step has one of its own length before or after it."""
    tolerance = POSITION_TOLERANCE_MM
    equal = gaps[1:] & gaps[:-1] & (np.abs(np.diff(steps)) <= tolerance)
    in_run = np.concatenate(([False], equal)) | np.concatenate((equal, [False]))
    return bool(in_run[gaps].all())


def _consecutive(instances: Sequence[int | None]) -> bool:
    """Whether instance numbers go up, or down, by one from slice to slice."""
    numbers = [number for number in instances if number is not None]
    if not numbers or len(numbers) < len(instances):
        return False
    return set(np.diff(numbers).tolist()) in ({1}, {-1})


def _sideways(along: Vectors, shifts: Vectors) -> _Cause:
    """What slices do that shift sideways from one to the next: a tilted gantry's, or something."""
    most = float(np.linalg.norm(shifts, axis=1).max())
    found = f"slices shift sideways by up to {most:.1f} mm"
    angle = _tilt_degrees(along, shifts)
    off = np.linalg.norm(shifts - np.outer(along, _per_mm(along, shifts)), axis=1)
    if off.max() > 2 * POSITION_TOLERANCE_MM or angle > MOST_TILT_DEGREES:
        why = (
            f"they leave its line by up to {off.max():.1f} mm"
            if off.max() > 2 * POSITION_TOLERANCE_MM
            else f"it would be tilted by {angle:.1f} degrees"
        )
        return "shift", (
            f"{found}, and not as those of a tilted gantry do ({why}); these are several scans in "
            "one series, or damaged positions"
        )
    return "tilt", (
        f"{found}: a gantry tilt of {angle:.1f} degrees by their positions; reconstruct the series "
        "without tilt, or allow it to be resampled (--resample-tilt)"
    )


def _per_mm(along: Vectors, shifts: Vectors) -> Vectors:
    """(2,) sideways mm for each mm along the normal, by least squares through the first slice."""
    return np.asarray(along @ shifts / float(along @ along))


def _tilt_degrees(along: Vectors, shifts: Vectors) -> float:
    return float(np.degrees(np.arctan(np.linalg.norm(_per_mm(along, shifts)))))


def _tolerance(spacing: float) -> float:
    return min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SPACING * spacing)
