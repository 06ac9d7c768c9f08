"""Pictures of slices: CT in grey, structures in their colours, as a radiologist holds them.

Axial slices are seen from below (the patient's right on the picture's left), coronal ones
from the front, sagittal ones from the left; pixels are square in millimetres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError
from pantskit.core.files import atomic_path
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume

Plane = Literal["axial", "coronal", "sagittal"]
RGB = NDArray[np.uint8]  # (rows, columns, 3)

HU_WINDOW = (-160.0, 240.0)  # soft tissue of the abdomen

# Orientation of an array that is cut along its first axis: the other two are the picture's
# rows (down) and columns (to the right).
PLANE_CODES: Mapping[str, str] = {"axial": "SPL", "coronal": "AIL", "sagittal": "LIP"}


def slice_count(geometry: Geometry, plane: Plane = "axial") -> int:
    """Number of slices that a plane has."""
    return geometry.reoriented(_codes(plane)).shape[0]


def slice_of(array: NDArray[Any], geometry: Geometry, plane: Plane, index: int) -> NDArray[Any]:
    """One slice as (rows, columns), turned for viewing.

    Args:
        array: (i, j, k) on `geometry`.
        geometry: the grid.
        plane: axial, coronal or sagittal.
        index: 0 is the lowest, hindmost or rightmost slice.

    Raises:
        ConfigError: If the plane is unknown or has no such slice.
    """
    turned = Volume(array, geometry).reoriented(_codes(plane)).array
    if not 0 <= index < turned.shape[0]:
        raise ConfigError(f"{plane} slice {index} is not among the {turned.shape[0]} there are")
    result: NDArray[Any] = turned[index]
    return result


def widest_slice(mask: NDArray[np.bool_], geometry: Geometry, plane: Plane = "axial") -> int:
    """The slice that shows most of a mask; the middle one where the mask is empty."""
    turned = Volume(mask, geometry).reoriented(_codes(plane)).array
    areas = turned.sum(axis=(1, 2))
    return int(areas.argmax()) if areas.any() else turned.shape[0] // 2


def slice_picture(
    ct: NDArray[Any],
    geometry: Geometry,
    *,
    plane: Plane = "axial",
    index: int | None = None,
    labels: NDArray[Any] | None = None,
    colors: Mapping[int, tuple[int, int, int]] | None = None,
    window: tuple[float, float] = HU_WINDOW,
    height: int = 320,
    opacity: float = 0.35,
    outline: bool = True,
) -> RGB:
    """One slice with its labels painted over it.

    Args:
        ct: (i, j, k) HU.
        geometry: the grid of both.
        plane: axial, coronal or sagittal.
        index: slice; the middle one when None.
        labels: (i, j, k) integer map; 0 is background.
        colors: label to red, green, blue; labels without a colour are not painted.
        window: HU shown as black and as white.
        height: pixels; the width follows from the millimetres.
        opacity: of the labels' fill.
        outline: whether borders of labels are drawn at full strength.

    Returns:
        (height, width, 3) uint8.
    """
    if index is None:
        index = slice_count(geometry, plane) // 2
    spacing = geometry.reoriented(_codes(plane)).spacing
    grey = np.asarray(slice_of(ct, geometry, plane, index), dtype=np.float32)
    low, high = window
    grey = np.clip((grey - low) / (high - low), 0, 1) * 255
    width = max(1, round(height * grey.shape[1] * spacing[2] / (grey.shape[0] * spacing[1])))
    picture = np.repeat(_scaled(grey, height, width)[..., None], 3, axis=2)
    if labels is not None:
        label_slice = slice_of(labels, geometry, plane, index)
        rows = np.minimum((np.arange(height) + 0.5) * grey.shape[0] / height, grey.shape[0] - 1)
        columns = np.minimum((np.arange(width) + 0.5) * grey.shape[1] / width, grey.shape[1] - 1)
        shown = label_slice[np.ix_(rows.astype(int), columns.astype(int))]
        _paint(picture, shown, colors or {}, opacity, outline)
    return np.rint(picture).astype(np.uint8)


def montage(pictures: Sequence[RGB], columns: int, *, gap: int = 4) -> RGB:
    """Pictures side by side on black, row by row, each in a cell of the largest size."""
    if not pictures:
        raise ConfigError("a montage needs at least one picture")
    height = max(p.shape[0] for p in pictures)
    width = max(p.shape[1] for p in pictures)
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    for n, picture in enumerate(pictures):
        top, left = (n // columns) * (height + gap), (n % columns) * (width + gap)
        top += (height - picture.shape[0]) // 2
        left += (width - picture.shape[1]) // 2
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def write_png(path: Path, picture: RGB) -> None:
    """Write a picture atomically."""
    from PIL import Image

    with atomic_path(path) as part:
        Image.fromarray(picture).save(part, format="PNG")


def _codes(plane: str) -> str:
    if plane not in PLANE_CODES:
        raise ConfigError(f"plane {plane!r} is unknown; use {', '.join(PLANE_CODES)}")
    return PLANE_CODES[plane]


def _scaled(grey: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear in the picture plane; labels are never interpolated."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(grey))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def _paint(
    picture: NDArray[np.float32],
    labels: NDArray[Any],
    colors: Mapping[int, tuple[int, int, int]],
    opacity: float,
    outline: bool,
) -> None:
    border = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        before = labels.take(range(labels.shape[axis] - 1), axis)
        after = labels.take(range(1, labels.shape[axis]), axis)
        edge = np.moveaxis(before != after, axis, 0)
        np.moveaxis(border, axis, 0)[1:] |= edge
        np.moveaxis(border, axis, 0)[:-1] |= edge
    for label, color in colors.items():
        inside = labels == label
        picture[inside] += opacity * (np.array(color, np.float32) - picture[inside])
        if outline:
            picture[inside & border] = color
