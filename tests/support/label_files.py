"""Label maps and masks of a small case, written for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume

Mask = NDArray[np.bool_]
SHAPE = (8, 7, 6)
GRID = Geometry.from_spacing(SHAPE, (0.8, 0.9, 2.5), origin=(10, -20, 30))


def box(*where: slice | int) -> Mask:
    mask = np.zeros(SHAPE, np.bool_, order="F")
    if where:
        mask[where] = True
    return mask


def case_masks() -> dict[str, Mask]:
    """A lesion in the tail, an aorta that takes a corner of the liver, no left kidney."""
    return {
        "liver": box(slice(0, 3)),
        "aorta": box(2, 2, 2),
        "pancreas": box(slice(3, 7), slice(1, 5)),
        "pancreas_head": box(3, slice(1, 5)),
        "pancreas_tail": box(slice(5, 7), slice(1, 5)),
        "pancreatic_lesion": box(6, 2, slice(1, 3)),
        "kidney_left": box(),
    }


def save_map(
    path: Path, array: NDArray[np.uint8], *, space: str | None = None, grid: Geometry = GRID
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(array, grid), label_space=space)
    return path


def save_mask(path: Path, mask: Mask, grid: Geometry = GRID) -> Path:
    write_volume(path, Volume(mask, grid))
    return path
