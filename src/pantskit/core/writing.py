"""Volumes, masks and label maps written: the only NIfTI writer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np

from pantskit.core.errors import GeometryError, ImageError, LabelError
from pantskit.core.files import write_chunks, write_hashed
from pantskit.core.geometry import Geometry
from pantskit.core.gzipped import Buffer, Piece, Zeros, gzip_member
from pantskit.core.volume import LABEL_INTENT, SLAB_BYTES, Array, Volume

_LABEL_SPACE_LENGTH = 15  # intent_name has 16 bytes and ends with a zero


def write_volume(path: Path, volume: Volume, *, label_space: str | None = None) -> None:
    """Write .nii or .nii.gz atomically: sform = qform with code 1, slope 1, millimetres.

    Nothing but geometry, type and the label space's name enters the header. The voxels are
    never copied whole, whatever their order in memory.

    Args:
        path: the file; a suffix .gz compresses.
        volume: the image; bool becomes uint8, float64 and integers of 64 bits are refused.
        label_space: name of the label space of a label map (at most 15 characters).

    Raises:
        ImageError: If the type has no place in a standard dataset.
        LabelError: If the label space's name does not fit into the header.
        GeometryError: If the grid is sheared.
    """
    array = volume.array.view(np.uint8) if volume.array.dtype == np.bool_ else volume.array
    head = _head(path, volume.geometry, array.dtype, label_space)
    slabs = (_piece(slab) for slab in slabs_of(array))
    write_chunks(path, _file_bytes(path, array.dtype, chain([head], slabs)))


def write_slabs(
    path: Path, geometry: Geometry, dtype: np.dtype[Any], slabs: Iterable[Array]
) -> None:
    """Write an image that is never in memory as a whole, as `write_volume` writes it.

    Args:
        path: the file; a suffix .gz compresses.
        geometry: the grid.
        dtype: of the voxels.
        slabs: (i, j, n) voxels, one after the other the slices of the grid; each is done with
            when the next is taken. What they raise leaves no file.

    Raises:
        GeometryError: If they are more or fewer than the grid's, or as `write_volume`.
        ImageError: As `write_volume`.
    """
    head = _head(path, geometry, dtype, None)
    pieces = map(_piece, _require_all(path, geometry, dtype, slabs))
    write_chunks(path, _file_bytes(path, dtype, chain([head], pieces)))


def write_labels(
    path: Path, geometry: Geometry, pieces: Iterable[Piece], *, label_space: str | None = None
) -> str:
    """Write a mask or label map whose voxels come in pieces, as `write_volume` writes them.

    Args:
        path: the file; a suffix .gz compresses.
        geometry: the grid.
        pieces: all voxels, a byte each, in file order: i fastest.
        label_space: name of the label space of a label map.

    Returns:
        `content_hash` of the file.
    """
    dtype = np.dtype(np.uint8)
    head = _head(path, geometry, dtype, label_space)
    return write_hashed(path, _file_bytes(path, dtype, chain([head], pieces)))


def _file_bytes(path: Path, dtype: np.dtype[Any], pieces: Iterable[Piece]) -> Iterator[Buffer]:
    if path.suffix == ".gz":
        # One byte a voxel is a mask or a label map, two are HU.
        kind = {1: "labels", 2: "ct"}.get(dtype.itemsize, "image")
        yield from gzip_member(pieces, kind)
    else:
        yield from (bytes(p.count) if isinstance(p, Zeros) else p for p in pieces)


def _head(path: Path, geometry: Geometry, dtype: np.dtype[Any], label_space: str | None) -> bytes:
    if dtype not in _WRITTEN_TYPES:
        raise ImageError(f"{path}: {dtype} is not written; use int16, uint8 or float32")
    geometry.require_plausible(str(path))
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(geometry.shape)
    header.set_sform(geometry.affine, code=1)
    header.set_qform(geometry.affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0, 0.0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    if label_space is not None:
        header["intent_code"] = LABEL_INTENT
        header["intent_name"] = _intent_name(label_space)
    return cast(bytes, header.binaryblock) + b"\0\0\0\0"


def slabs_of(array: Array) -> Iterator[Array]:
    """(i, j, n) parts of an array in Fortran order, some slices at a time, about a MiB each."""
    slices = max(1, SLAB_BYTES * array.shape[2] // max(1, array.nbytes))
    for k in range(0, array.shape[2], slices):
        yield np.asfortranarray(array[:, :, k : k + slices])


def _piece(slab: Array) -> Piece:
    """A slab's bytes in file order."""
    if slab.dtype.itemsize == 1 and not slab.view(np.bool_).any():
        return Zeros(slab.nbytes)
    return np.asfortranarray(slab).T.data.cast("B")


def _require_all(
    path: Path, geometry: Geometry, dtype: np.dtype[Any], slabs: Iterable[Array]
) -> Iterator[Array]:
    depth = 0
    for slab in slabs:
        depth += slab.shape[2]
        if slab.shape[:2] != geometry.shape[:2] or slab.dtype != dtype:
            raise GeometryError(
                f"{path}: a slab of {slab.shape} {slab.dtype} voxels does not fit a grid of "
                f"{geometry.shape} and {dtype}"
            )
        yield slab
    if depth != geometry.shape[2]:
        raise GeometryError(f"{path}: {depth} slices were given, expected {geometry.shape[2]}")


def _intent_name(label_space: str) -> bytes:
    if not label_space.isascii() or not 0 < len(label_space) <= _LABEL_SPACE_LENGTH:
        raise LabelError(
            f"label space {label_space!r}: a NIfTI header takes names of 1 to "
            f"{_LABEL_SPACE_LENGTH} ASCII characters; give it a shorter one"
        )
    return label_space.encode("ascii")


_WRITTEN_TYPES = tuple(
    np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32)
)
