"""NIfTI files with any header, made for tests."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry

OBLIQUE = np.array(
    [[-0.7, 0.02, 0.1, 90.5], [0.02, 0.69, -0.3, -200.25], [0.1, 0.3, -2.4, 33.0], [0, 0, 0, 1]]
)
Array = NDArray[Any]


def orthonormal(affine: Array) -> Array:
    """The nearest affine whose axes are perpendicular, with the same spacings."""
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    result = affine.copy()
    result[:3, :3] = u @ vt * np.linalg.norm(affine[:3, :3], axis=0)
    return result


OBLIQUE = orthonormal(OBLIQUE)
GRID = Geometry((5, 6, 7), OBLIQUE)


def ramp(dtype: Any = np.int16, shape: tuple[int, ...] = GRID.shape) -> Array:
    return np.arange(np.prod(shape)).reshape(shape, order="F").astype(dtype)


def save(
    path: Path,
    array: Array,
    affine: Array = OBLIQUE,
    *,
    kind: Any = nib.Nifti1Image,
    change: Callable[[Any], None] = lambda header: None,
    **fields: Any,
) -> Path:
    """A file as nibabel writes it, with header fields set afterwards."""
    image = kind(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return patch(path, kind.header_class, change, **fields)


def patch(
    path: Path, header_class: Any, change: Callable[[Any], None] = lambda h: None, **fields: Any
) -> Path:
    """Set fields in a header on disk without any of nibabel's checks."""
    zipped = path.name.endswith(".gz")
    data = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    size = header_class.sizeof_hdr
    header = header_class(data[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    change(header)
    data = header.binaryblock + data[size:]
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


def labels(value: float = 3) -> Array:
    """A block of one value on the grid, 0 around it."""
    array = np.zeros(GRID.shape)
    array[1:3, 2:4, 3:5] = value
    return array
