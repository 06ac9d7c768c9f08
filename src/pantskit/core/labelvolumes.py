"""Images read as label maps and masks, and these on another grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pantskit.core.errors import LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import Mask
from pantskit.core.volume import Array, Volume, read_header, read_volume

# A label map that went through float32 or a slope reads 1.0002; a mistake reads 1.5.
LABEL_ROUNDING = 0.01


def read_label_map(path: Path) -> Volume:
    """Read a map of integer labels as the smallest unsigned type that holds them.

    Values that a float type or a slope moved by less than 0.01 (1.0002) are rounded, and
    `faults` says so.

    Raises:
        LabelError: If a value is negative, not finite, or no integer.
    """
    path = Path(path)
    return as_label_map(read_volume(path), str(path), lambda: _stored_as(path))


def as_label_map(
    volume: Volume, name: str, stored_as: Callable[[], str] = lambda: "numbers with a fraction"
) -> Volume:
    """An image read as a map of integer labels, as `read_label_map` does.

    Args:
        volume: the image.
        name: of the file, for messages.
        stored_as: says how it is stored, for `faults`; called where that is odd.

    Raises:
        LabelError: If a value is negative, not finite, or no integer.
    """
    array, faults = volume.array, list(volume.faults)
    if array.dtype.kind == "f":
        array, worst = _rounded(array, name)
        faults.append(
            f"label map stored as {stored_as()}; its values are up to {worst:.2g} "
            "away from integers and were rounded"
            if worst
            else f"label map stored as {stored_as()}"
        )
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0:
        raise LabelError(f"{name}: label {low} is negative; labels are 0 (background) and up")
    if high > np.iinfo(np.uint16).max:
        raise LabelError(f"{name}: label {high} is no structure's; is this an image?")
    array = array.astype(np.uint8 if high < 256 else np.uint16, copy=False)
    return replace(volume, array=array, faults=tuple(faults))


def read_mask(path: Path) -> Volume:
    """Read the mask of one structure as bool: every value above 0.5 is inside.

    A file with other values than 0 and 1 is reported in `faults`.

    Raises:
        LabelError: If a value is not finite, negative, or none of several is above 0.5.
    """
    return as_mask(read_volume(path), str(path))


def as_mask(volume: Volume, name: str) -> Volume:
    """An image read as the mask of one structure, as `read_mask` does.

    Args:
        volume: the image.
        name: of the file, for messages.

    Raises:
        LabelError: As `read_mask`.
    """
    mask, odd = inside_of(volume.array, name)
    require_mask(odd, name, anything=bool(mask.any()))
    return replace(volume, array=mask, faults=volume.faults + faults_of_mask(odd))


def inside_of(array: Array, name: str) -> tuple[Mask, set[float]]:
    """Which voxels of a mask's image are inside, and which values but 0 and 1 it holds.

    Raises:
        LabelError: If a value is not finite.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise LabelError(f"{name}: mask holds values that are not finite")
    if array.dtype == np.uint8 and array.max() <= 1:
        return array.view(np.bool_), set()
    mask = np.greater(array, 0.5)
    return mask, set(np.unique(array[array != mask]).tolist())


def require_mask(odd: set[float], name: str, *, anything: bool) -> None:
    """Refuse values by which it is open what is inside.

    Args:
        odd: from `inside_of`, of the whole image.
        name: of the file, for messages.
        anything: whether a voxel is inside.

    Raises:
        LabelError: If a value is negative, as 255 becomes in a signed byte, by more than an
            interpolation undershoots; or if nothing is inside and a value is not 0.
    """
    if odd and min(odd) <= -0.5:
        raise LabelError(
            f"{name}: mask holds {min(odd):g}; 0 is outside, values above 0.5 are inside: save it "
            "with 0 and 1"
        )
    if odd and not anything and max(odd) > 0:
        raise LabelError(
            f"{name}: mask holds values up to {max(odd):g} and none above 0.5, from which on a "
            "voxel is inside: save it with 0 and 1"
        )


def faults_of_mask(odd: set[float]) -> tuple[str, ...]:
    """What to say of a mask that holds other values than 0 and 1."""
    if not odd:
        return ()
    shown = ", ".join(f"{float(v):g}" for v in sorted(odd)[:6])
    more = ", ..." if len(odd) > 6 else ""
    return (f"mask is not binary: it holds {shown}{more}; all above 0.5 taken as inside",)


def resample_nearest(volume: Volume, geometry: Geometry) -> Volume:
    """Labels or a mask on another grid: each voxel takes the value nearest to its centre.

    Voxels outside the source are 0. Ties go to the higher index (round half up).
    """
    to_source = np.linalg.inv(volume.geometry.affine) @ geometry.affine
    out = np.zeros(geometry.shape, volume.array.dtype, order="F")
    i, j = np.meshgrid(np.arange(geometry.shape[0]), np.arange(geometry.shape[1]), indexing="ij")
    limits = np.array(volume.geometry.shape)
    for k in range(geometry.shape[2]):  # a slice at a time: index arrays stay small
        index = [
            np.floor(row[0] * i + row[1] * j + row[2] * k + row[3] + 0.5).astype(np.int64)
            for row in to_source[:3]
        ]
        inside = np.logical_and.reduce(
            [(n >= 0) & (n < limit) for n, limit in zip(index, limits, strict=True)]
        )
        out[:, :, k][inside] = volume.array[tuple(n[inside] for n in index)]
    return Volume(out, geometry, volume.faults, volume.label_space)


def _rounded(array: Array, name: str) -> tuple[Array, float]:
    """Nearest integers of a float array, and the largest distance to them."""
    flat = array.ravel(order="K")
    rounded = np.empty(array.shape, np.int32, order="F")
    result, worst = rounded.ravel(order="K"), 0.0
    for start in range(0, flat.size, 1 << 16):  # stays in the cache
        part = flat[start : start + (1 << 16)]
        if not np.isfinite(part).all():
            raise LabelError(f"{name}: label map holds values that are not finite")
        nearest = np.rint(part)
        distance = np.abs(part - nearest)
        worst = max(worst, float(distance.max()))
        if worst > LABEL_ROUNDING:
            raise LabelError(
                f"{name}: label map holds {part[distance.argmax()]:g}, no integer; it was "
                "interpolated: resample labels with nearest neighbour"
            )
        result[start : start + part.size] = nearest
    return rounded, worst


def _stored_as(path: Path) -> str:
    header = read_header(path)
    if header.scaled:
        return f"{header.dtype} with slope {header.slope:.4g}"
    return str(header.dtype)
