"""Tilted or unevenly spaced slices resampled onto an orthogonal grid: the opt-ins.

One mapping serves both. The output's axes are a row, a column and the normal of the slices; its
planes follow each other by the smallest regular step of the source. A voxel between two slices
is interpolated linearly between them along the normal, and within each linearly along its rows
and columns, since tilted slices are shifted by fractions of a pixel. Nothing is extrapolated:
where one of the slices it needs has no pixel, a voxel is -1000 HU. No missing slice is made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import Quarantined
from pantskit.core.geometry import Geometry
from pantskit.core.hounsfield import HU_RANGE
from pantskit.core.volume import Volume
from pantskit.ingest.dicom.geometry import IrregularStack
from pantskit.ingest.dicom.placing import StandardArray
from pantskit.measure.compiled import compiled

RULE = (
    "orthogonal grid of row, column and slice normal; linear within the two nearest slices and "
    "between them; -1000 HU where either has no pixel; rounded once, then clipped"
)

# An output of more voxels than this for each voxel of the source is refused.
_MOST_GROWTH = 16

# A fraction of a pixel or step below this is rounding in the header.
_WHOLE = 1e-4

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def resample_stack(frames: Iterable[NDArray[np.float64]], irregular: IrregularStack) -> Volume:
    """Slices in HU on an orthogonal grid.

    Args:
        frames: (rows, columns) HU of each slice in the stack's order, neither rounded nor
            clipped; two of them are held at a time.
        irregular: where the slices are.

    Returns:
        int16 HU in [-1000, 1000], in the standard orientation.

    Raises:
        Quarantined: If the grid would be many times larger than the source.
    """
    placed = StandardArray(resampled_geometry(irregular), np.int16)
    starts = _first_pixels(irregular)
    for k, lower, upper, weight, pair in _planes(frames, irregular):
        (i, di), (j, dj) = (_split(starts[pair[0]][axis]) for axis in (0, 1))
        (ii, dii), (jj, djj) = (_split(starts[pair[1]][axis]) for axis in (0, 1))
        _blend(
            lower, (i, j), (di, dj), upper, (ii, jj), (dii, djj), weight, *HU_RANGE, placed.plane(k)
        )
    return placed.volume


def resample_labels(frames: Iterable[NDArray[Any]], irregular: IrregularStack) -> Volume:
    """Slices of labels or of a mask on the grid of `resample_stack`, by the nearest pixel.

    Args:
        frames: (rows, columns) labels of each slice in the stack's order, of one type.
        irregular: where the slices are; the same as the CT's for the same grid.

    Returns:
        The labels in the standard orientation; 0 where no slice has a pixel.

    Raises:
        Quarantined: As `resample_stack`.
    """
    geometry = resampled_geometry(irregular)
    starts = _first_pixels(irregular)
    placed: StandardArray | None = None
    for k, lower, upper, weight, pair in _planes(frames, irregular):
        placed = placed or StandardArray(geometry, lower.dtype)
        frame, number = (lower, pair[0]) if weight <= 0.5 else (upper, pair[1])
        first = np.floor(starts[number] + 0.5).astype(int)
        plane = placed.plane(k)
        plane[...] = 0
        columns, rows = (
            _overlap(int(start), source, target)
            for start, source, target in zip(
                first, frame.shape[::-1], plane.shape[::-1], strict=True
            )
        )
        plane[rows[1], columns[1]] = frame[rows[0], columns[0]]
    assert placed is not None  # a stack has two slices or more
    return placed.volume


def resampled_geometry(irregular: IrregularStack) -> Geometry:
    """The orthogonal grid that holds every slice, in the order of the source's axes.

    In a plane it goes on from the pixels of the first slice, over the pixels of all; along the
    normal it begins at the first slice and ends at or before the last, by less than a step.

    Raises:
        Quarantined: If it would be many times larger than the source.
    """
    low, high = _extent(irregular)
    columns, rows = (int(n) for n in np.array([irregular.columns, irregular.rows]) + high - low)
    count = int((irregular.along[-1] + _WHOLE) // irregular.step) + 1
    source = irregular.columns * irregular.rows * len(irregular.along)
    if columns * rows * count > _MOST_GROWTH * source:
        raise Quarantined(
            f"resampled, the series would have ({columns}, {rows}, {count}) voxels, more than "
            f"{_MOST_GROWTH} times as many as it has; reconstruct it at one spacing without tilt"
        )
    down, right = irregular.pixel_spacing
    affine = np.eye(4)
    affine[:3, 0] = _LPS_TO_RAS @ irregular.row * right
    affine[:3, 1] = _LPS_TO_RAS @ irregular.column * down
    affine[:3, 2] = _LPS_TO_RAS @ irregular.normal * irregular.step
    corner = irregular.origin + low[0] * right * irregular.row + low[1] * down * irregular.column
    affine[:3, 3] = _LPS_TO_RAS @ corner
    return Geometry((columns, rows, count), affine)


def resampling_record(irregular: IrregularStack, tag_degrees: float | None) -> dict[str, Any]:
    """What a case's record says of it.

    Args:
        irregular: the source.
        tag_degrees: GantryDetectorTilt, or None where the header lacks it.
    """
    geometry = resampled_geometry(irregular)
    tilted = "tilt" in irregular.causes
    steps = np.diff(irregular.along)
    end = float(irregular.along[-1] - (geometry.shape[2] - 1) * irregular.step)
    return {
        "causes": list(irregular.causes),
        "rule": RULE,
        "tilt_degrees": round(irregular.tilt_degrees, 3) if tilted else 0.0,
        "tilt_degrees_by_tag": tag_degrees,
        "source_shape": [irregular.columns, irregular.rows, len(irregular.along)],
        "source_positions_mm": np.round(irregular.along, 4).tolist(),
        "source_steps_mm": sorted({round(float(step), 3) for step in steps}),
        "source_shifts_mm": np.round(irregular.shifts, 4).tolist(),
        "shape": list(geometry.shape),
        "slice_spacing_mm": round(irregular.step, 6),
        "end_not_covered_mm": round(max(end, 0.0), 4),
    }


def _in_pixels(irregular: IrregularStack) -> NDArray[np.float64]:
    """(n, 2) shift of each slice from the first, in pixels along (i, j)."""
    down, right = irregular.pixel_spacing
    shifts = irregular.shifts / [right, down]
    whole = np.rint(shifts)
    return np.where(np.abs(shifts - whole) < _WHOLE, whole, shifts)


def _extent(irregular: IrregularStack) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole pixels by which the slices reach before and past those of the first, along (i, j)."""
    shifts = _in_pixels(irregular)
    low, high = np.floor(shifts.min(axis=0)), np.ceil(shifts.max(axis=0))
    return low.astype(np.int64), high.astype(np.int64)


def _first_pixels(irregular: IrregularStack) -> NDArray[np.float64]:
    """(n, 2) source pixel (i, j) of each slice that lies at the output's first one."""
    return _extent(irregular)[0] - _in_pixels(irregular)


def _planes(
    frames: Iterable[NDArray[Any]], irregular: IrregularStack
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any], float, tuple[int, int]]]:
    """Each output plane: its number, the slices below and above, the upper's weight, theirs."""
    along, step = irregular.along, irregular.step
    count = resampled_geometry(irregular).shape[2]
    k = 0
    for (lower, below), (upper, above) in pairwise(enumerate(frames)):
        width = along[upper] - along[lower]
        last = upper == len(along) - 1
        while k < count:
            weight = float((k * step - along[lower]) / width)
            weight = 0.0 if abs(weight) < _WHOLE else 1.0 if abs(weight - 1) < _WHOLE else weight
            if weight > 1.0 or (weight == 1.0 and not last):
                break
            yield k, below, above, weight, (lower, upper)
            k += 1


def _split(start: float) -> tuple[int, float]:
    """Whole and fractional part."""
    whole = int(np.floor(start))
    return whole, float(start - whole)


def _overlap(start: int, source: int, target: int) -> tuple[slice, slice]:
    """Where source pixels meet target pixels, the first of which lies at source pixel `start`."""
    first, last = max(start, 0), min(start + target, source)
    last = max(first, last)
    return slice(first, last), slice(first - start, last - start)


@compiled
def _blend(
    lower: Any,
    first: tuple[int, int],
    part: tuple[float, float],
    upper: Any,
    upper_first: tuple[int, int],
    upper_part: tuple[float, float],
    weight: float,
    least: int,
    most: int,
    out: Any,
) -> None:
    """One output plane from the two slices about it; what has no pixel in one stays `least`."""
    rows, columns = out.shape
    for r in range(rows):
        for c in range(columns):
            out[r, c] = least
            value = 0.0
            if weight < 1.0:
                found, below = _sample(lower, c + first[0], part[0], r + first[1], part[1])
                if not found:
                    continue
                value += (1.0 - weight) * below
            if weight > 0.0:
                found, above = _sample(
                    upper, c + upper_first[0], upper_part[0], r + upper_first[1], upper_part[1]
                )
                if not found:
                    continue
                value += weight * above
            out[r, c] = np.int16(min(max(np.rint(value), least), most))


@compiled
def _sample(frame: Any, column: int, right: float, row: int, down: float) -> tuple[bool, float]:
    """Bilinear value at (row + down, column + right), and whether all pixels it needs exist."""
    rows, columns = frame.shape
    next_column = column + (1 if right > 0.0 else 0)
    next_row = row + (1 if down > 0.0 else 0)
    if column < 0 or row < 0 or next_column >= columns or next_row >= rows:
        return False, 0.0
    top = (1.0 - right) * frame[row, column] + right * frame[row, next_column]
    bottom = (1.0 - right) * frame[next_row, column] + right * frame[next_row, next_column]
    return True, (1.0 - down) * top + down * bottom
