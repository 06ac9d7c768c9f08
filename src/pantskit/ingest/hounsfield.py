"""Stored values to whole Hounsfield units in [-1000, 1000], rounded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError, Skipped
from pantskit.core.hounsfield import AIR_HU, HU_RANGE

# Padding as dark as air is air outside the field of view; at or above this it is a marker.
_PADDING_MARKER_HU = 3072.0


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


def to_hu(
    stored: NDArray[Any],
    slope: float,
    intercept: float,
    out: NDArray[np.int16],
    clipped: Clipped,
    *,
    padding: tuple[float, float] | None = None,
) -> None:
    """Convert stored values to clipped HU.

    Args:
        stored: numbers of any type; a part of a volume.
        slope, intercept: HU = stored * slope + intercept.
        out: receives the HU; same shape.
        clipped: counts are added to it.
        padding: lowest and highest stored value that stand for "no measurement".

    Raises:
        ImageError: If a value is not finite.
    """
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        bad = int(stored.size - np.isfinite(stored).sum())
        raise ImageError(f"{bad} voxels are not finite (NaN or infinite); repair the source image")
    padded = _padding(stored, slope, intercept, padding)
    if slope == 1 and intercept == int(intercept) and stored.dtype.kind in "iu":
        wide: NDArray[Any] = stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32)
        wide += int(intercept)
    else:
        wide = stored.astype(np.float64)
        wide *= slope
        wide += intercept
        np.rint(wide, out=wide)
    low, high = HU_RANGE
    if padded is not None:
        clipped.padded += int(padded.sum())
        wide[padded] = low
        if padded.all():
            out[...] = low
            return
        measured = wide[~padded]
    else:
        measured = wide
    clipped.low = min(clipped.low, float(measured.min()))
    clipped.high = max(clipped.high, float(measured.max()))
    clipped.below += int((measured < low).sum())
    clipped.above += int((measured > high).sum())
    np.clip(wide, low, high, out=wide)
    np.copyto(out, wide, casting="unsafe")


def _padding(
    stored: NDArray[Any], slope: float, intercept: float, padding: tuple[float, float] | None
) -> NDArray[np.bool_] | None:
    """Voxels that are padding, or None.

    A padding value among tissue values is not believed: exporters write 0 there where 0 HU
    is water.
    """
    if padding is None:
        return None
    low, high = sorted(value * slope + intercept for value in padding)
    if not (high <= AIR_HU or low >= _PADDING_MARKER_HU):
        return None
    mask: NDArray[np.bool_] = (stored >= padding[0]) & (stored <= padding[1])
    return mask if mask.any() else None
