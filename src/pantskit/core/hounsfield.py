"""Hounsfield units: what the values of a CT can be."""

from __future__ import annotations

import numpy as np

from pantskit.core.errors import ImageError
from pantskit.core.volume import Volume

HU_RANGE = (-1000, 1000)  # the release's own; -1000 is air
AIR_HU = -900.0  # lung is denser than this, so a CT without a higher value shows no patient


def require_hounsfield(ct: Volume) -> None:
    """Refuse what cannot be a CT in HU: fat and air are below 0 HU in every patient.

    Raises:
        ImageError: If a voxel is not finite, none is below 0, or all are air.
    """
    array = ct.array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ImageError("the CT holds values that are not finite; ingest it first")
    low, high = float(array.min()), float(array.max())
    if high <= AIR_HU:
        raise ImageError(f"no voxel of the CT is above {high:g} HU: it shows nothing but air")
    if low >= 0:
        raise ImageError(
            f"values of the CT run from {low:g} to {high:g}: nothing is below 0, so they are not "
            "Hounsfield units (a label map? an offset of 1024 left out?)"
        )
