"""Whether a CT is in HU, and what a crop too small to show fat or air leaves open.

Fat and air are below 0 HU in every patient, but a crop from inside an organ has neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import PantskitError
from pantskit.core.hounsfield import require_hounsfield
from pantskit.core.volume import Volume

# Sizes are across a crop: the second of its three extents, so that neither a rod along the
# aorta nor a thin slab is taken for a wide one. No organ without fat or air is wider.
_WIDEST_ORGAN_MM = 150.0
# The pancreas and the vessels beside it are thinner: a wider crop around them has fat.
_WIDE_MM = 30.0
# Cortical bone is thinner than this, so that it fills little of a wider crop. In a scan whose
# offset of 1024 was left out fat has 920 and flesh 1070.
_BONE_MM = 20.0
_DENSE_HU, _DENSE_PERCENT = 800.0, 25.0
# Noise makes neighbouring voxels differ; in a label map they are mostly the same.
_EQUAL_SHARE = 0.5
_LEAST_PAIRS = 20


def value_problem(ct: Volume) -> str:
    """Why the values of a CT are no HU, or "" where nothing shows it."""
    array = ct.array
    low, high = float(array.min()), float(array.max())
    if low >= 0 and not (_across_mm(ct) > _WIDEST_ORGAN_MM or _dense(ct) or _flat(array)):
        return ""
    try:
        require_hounsfield(ct)
    except PantskitError as error:
        return str(error)
    return f"every voxel of the CT is {low:g}" if low == high and _flat(array) else ""


def value_doubt(ct: Volume) -> str:
    """Why the values of a CT that has no problem may be no HU, or ""."""
    if _across_mm(ct) < _WIDE_MM or (low := float(ct.array.min())) < 0:
        return ""
    return (
        f"values of the CT run from {low:g} to {ct.array.max():g}: nothing is below 0 in a volume "
        f"of {ct.geometry.describe()}; cut from inside one organ, or no Hounsfield units?"
    )


def _across_mm(ct: Volume) -> float:
    return float(sorted(ct.geometry.extent_mm)[1])


def _dense(ct: Volume) -> bool:
    """Whether more of a crop is as dense as bone than bone fills."""
    if _across_mm(ct) < _BONE_MM:
        return False
    return bool(np.percentile(ct.array, 100 - _DENSE_PERCENT) >= _DENSE_HU)


def _flat(array: NDArray[Any]) -> bool:
    """Whether neighbours are mostly the same, as in a label map; not told of a few voxels."""
    pairs = [np.diff(array, axis=axis) == 0 for axis in range(3)]
    number = sum(p.size for p in pairs)
    same = sum(int(np.count_nonzero(p)) for p in pairs)
    return bool(number >= _LEAST_PAIRS and same > _EQUAL_SHARE * number)
