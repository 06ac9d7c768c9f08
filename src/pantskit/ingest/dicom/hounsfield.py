"""Stored values to whole Hounsfield units in [-1000, 1000], rounded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError, Skipped
from pantskit.core.hounsfield import AIR_HU, HU_RANGE
from pantskit.core.volume import Volume
from pantskit.ingest.dicom.placing import StandardArray
from pantskit.measure.compiled import compiled

# Padding as dark as air is air outside the field of view; at or above this it is a marker.
_PADDING_MARKER_HU = 3072.0

_LONGEST_ROW = 0xFFFF  # whose voxels 16 bits count


@dataclass
class Clipped:
    """What the clip and the padding changed, and the range before it.

    Attributes:
        below, above: voxels under -1000 and over 1000 HU.
        padded: voxels that the header declares as padding; they became -1000.
        low, high: HU range before clipping, padding left out.
    """

    below: int = 0
    above: int = 0
    padded: int = 0
    low: float = np.inf
    high: float = -np.inf

    def add(self, other: Clipped) -> None:
        """Add what another part of the volume had."""
        self.below += other.below
        self.above += other.above
        self.padded += other.padded
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    def require_hounsfield(self) -> None:
        """Refuse what cannot be a CT: fat and air are below 0 HU in every patient.

        Raises:
            Skipped: If values are those of a label map.
            ImageError: If no voxel is below 0, or all are air or padding.
        """
        if self.high <= AIR_HU:
            raise ImageError("no voxel is denser than air: the image is empty")
        if self.low >= 0 and self.high < 256:
            raise Skipped(
                f"values run from {self.low:g} to {self.high:g}: a label map or a mask, no CT; "
                "give annotations with --labels"
            )
        if self.low >= 0:
            raise ImageError(
                f"values run from {self.low:g} to {self.high:g}: nothing is below 0, so they are "
                "not Hounsfield units (was an offset of 1024 left out?)"
            )

    def as_record(self) -> dict[str, Any]:
        """For the case's record."""
        return {
            "hu_low": float(self.low),
            "hu_high": float(self.high),
            "clipped_below": self.below,
            "clipped_above": self.above,
            "padded": self.padded,
        }


@dataclass(frozen=True)
class Converted:
    """What a conversion saw.

    Attributes:
        low, high: extremes of the stored values, padding included.
        clipped: what the clip and the padding changed.
    """

    low: float
    high: float
    clipped: Clipped


def to_hu(
    stored: NDArray[Any],
    slope: float,
    intercept: float,
    out: NDArray[np.int16],
    *,
    padding: tuple[float, float] | None = None,
) -> Converted:
    """Convert stored values to clipped HU, in one pass where they are 16-bit pixels.

    Args:
        stored: numbers of any type; (rows, columns), a slice or a part of one.
        slope, intercept: HU = stored * slope + intercept.
        out: receives the HU; same shape, any strides.
        padding: lowest and highest stored value that stand for "no measurement".

    Raises:
        ImageError: If a value is not finite.
    """
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        bad = int(stored.size - np.isfinite(stored).sum())
        raise ImageError(f"{bad} voxels are not finite (NaN or infinite); repair the source image")
    one_pass = stored.dtype.type in (np.int16, np.uint16, np.float32)
    if not (one_pass and stored.dtype.isnative):
        stored = stored.astype(np.float64)
    stored = np.ascontiguousarray(stored)
    padding = believed_padding(slope, intercept, padding)
    flat, start, steps = _flattened(out)
    shifted = padding is None and stored.shape[1] <= _LONGEST_ROW
    ends = _clip_ends(stored.dtype, slope, intercept) if shifted else None
    measured: list[Any]
    if ends is not None:
        low, high, below, above = _shift(stored, int(intercept), *ends, flat, start, *steps)
        padded, measured = 0, [low, high]
    else:
        first, last = padding or (1.0, 0.0)
        rescale = (float(slope), float(intercept), float(first), float(last))
        low, high, *measured, below, above, padded = _scale(
            stored, *rescale, *_type_ends(stored.dtype), flat, start, *steps
        )
    clipped = Clipped(int(below), int(above), int(padded))
    if padded < stored.size:
        hu = sorted(float(np.rint(float(v) * slope + intercept)) for v in measured)
        clipped.low, clipped.high = hu[0], hu[1]
    return Converted(float(low), float(high), clipped)


def to_float_hu(
    stored: NDArray[Any],
    slope: float,
    intercept: float,
    *,
    padding: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """HU neither rounded nor clipped, for interpolation; padding is -1000."""
    padding = believed_padding(slope, intercept, padding)
    hu = stored * np.float64(slope) + intercept
    if padding is not None:
        hu[(stored >= padding[0]) & (stored <= padding[1])] = HU_RANGE[0]
    return np.asarray(hu)


def volume_to_hu(source: Volume) -> tuple[Volume, Clipped]:
    """A volume whose values are HU: clipped, int16, in the standard orientation.

    Raises:
        ImageError: If a value is not finite, or the values cannot be a CT.
        Skipped: If they are those of a label map.
    """
    placed = StandardArray(source.geometry, np.int16)
    clipped = Clipped()
    for k in range(source.array.shape[2]):  # a slice at a time: wide types stay small
        clipped.add(to_hu(source.array[:, :, k].T, 1.0, 0.0, placed.plane(k)).clipped)
    clipped.require_hounsfield()
    return placed.volume, clipped


def believed_padding(
    slope: float, intercept: float, padding: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The stored values that are padding, or None.

    A padding value among tissue values is not believed: exporters write 0 there where 0 HU
    is water.
    """
    if padding is None:
        return None
    low, high = sorted(value * slope + intercept for value in padding)
    return padding if high <= AIR_HU or low >= _PADDING_MARKER_HU else None


@lru_cache(256)
def _clip_ends(dtype: np.dtype[Any], slope: float, intercept: float) -> tuple[Any, Any] | None:
    """Stored integers that are -1000 and 1000 HU, or None where HU is no whole shift of them."""
    if slope != 1 or intercept != int(intercept) or dtype.kind == "f":
        return None
    bounds = np.iinfo(dtype)
    least, most = HU_RANGE[0] - int(intercept), HU_RANGE[1] - int(intercept)
    if least > bounds.max or most < bounds.min:
        return None
    return dtype.type(max(least, bounds.min)), dtype.type(min(most, bounds.max))


def _type_ends(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if dtype.kind == "f":
        return dtype.type(-np.inf), dtype.type(np.inf)
    bounds = np.iinfo(dtype)
    return dtype.type(bounds.min), dtype.type(bounds.max)


def _flattened(out: NDArray[np.int16]) -> tuple[NDArray[np.int16], int, tuple[int, int]]:
    """The memory under a (rows, columns) view as one line, where the view begins, its steps."""
    steps = (out.strides[0] // out.itemsize, out.strides[1] // out.itemsize)
    reach = [(n - 1) * step for n, step in zip(out.shape, steps, strict=True)]
    corner = out[:: -1 if steps[0] < 0 else 1, :: -1 if steps[1] < 0 else 1]
    if corner.flags.c_contiguous:
        flat = corner.reshape(-1)
    else:
        size = sum(map(abs, reach)) + 1
        flat = np.lib.stride_tricks.as_strided(corner, (size,), (out.itemsize,))
    return flat, sum(-r for r in reach if r < 0), steps


@compiled
def _shift(
    stored: Any,
    intercept: int,
    least: Any,
    most: Any,
    out: Any,
    start: int,
    row_step: int,
    column_step: int,
) -> Any:
    """HU where the slope is 1; least and most are the stored values of the clip's ends.

    Rows are no longer than `_LONGEST_ROW`.
    """
    rows, columns = stored.shape
    line = np.empty(columns, np.int16)
    low = high = stored[0, 0]
    below = above = 0
    for r in range(rows):
        row, place = stored[r], start + r * row_step
        target = out[place : place + columns] if column_step == 1 else line
        # A row stays in the cache, and loops of one purpose compile to wide instructions.
        for c in range(columns):
            low = min(low, row[c])
            high = max(high, row[c])
        under: Any = np.uint16(0)
        over: Any = np.uint16(0)
        for c in range(columns):  # narrow counters, or fewer are counted at a time
            under = np.uint16(under + (row[c] < least))
            over = np.uint16(over + (row[c] > most))
        below += under
        above += over
        for c in range(columns):
            target[c] = min(max(row[c], least), most) + intercept
        if column_step != 1:
            _place(line, out, place, column_step)
    return low, high, below, above


@compiled
def _scale(
    stored: Any,
    slope: float,
    intercept: float,
    first_padding: float,
    last_padding: float,
    lowest: Any,
    highest: Any,
    out: Any,
    start: int,
    row_step: int,
    column_step: int,
) -> Any:
    """HU with any slope and padding; none where its first value is above its last.

    Written without branches, so that it compiles to wide instructions; lowest and highest are
    the ends of the stored type.
    """
    rows, columns = stored.shape
    line = np.empty(columns, np.int16)
    low = high = stored[0, 0]
    measured_low, measured_high = highest, lowest
    below = above = padded = 0
    for r in range(rows):
        under: Any = np.int32(0)
        over: Any = np.int32(0)
        paddings: Any = np.int32(0)
        for c in range(columns):
            value = stored[r, c]
            low = min(low, value)
            high = max(high, value)
            padding = (value >= first_padding) & (value <= last_padding)
            measured_low = min(measured_low, highest if padding else value)
            measured_high = max(measured_high, lowest if padding else value)
            hu = np.rint(value * slope + intercept)
            under += (hu < -1000.0) & (not padding)
            over += (hu > 1000.0) & (not padding)
            paddings += padding
            hu = -1000.0 if hu < -1000.0 else hu
            hu = 1000.0 if hu > 1000.0 else hu
            line[c] = np.int16(-1000.0 if padding else hu)
        below += under
        above += over
        padded += paddings
        _place(line, out, start + r * row_step, column_step)
    return low, high, measured_low, measured_high, below, above, padded


@compiled
def _place(line: Any, out: Any, start: int, step: int) -> None:
    if step == 1:
        out[start : start + len(line)] = line
        return
    for c in range(len(line)):
        out[start + c * step] = line[c]
