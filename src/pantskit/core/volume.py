"""Volumes in memory, and the only NIfTI reader."""

from __future__ import annotations

import gzip
import io
import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray

from pantskit.core.errors import GeometryError, ImageError
from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry
from pantskit.core.gzipped import DAMAGED

Array = NDArray[Any]

# Voxels are read and written, and brought into the file's order, this many bytes at a time.
SLAB_BYTES = 1 << 20

# sform and qform may differ by the rounding of a quaternion, not by more.
FORM_TOLERANCE_MM = 0.1

LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL: intent_name then holds the label space
_NIFTI1_SIZE, _NIFTI2_SIZE = 348, 540

# deflate cannot expand more than this; a header that promises more was cut or forged.
_MAX_GZIP_RATIO = 1040


@dataclass(frozen=True, eq=False)
class Volume:
    """An image in its place.

    Attributes:
        array: (i, j, k), in Fortran memory order when read from disk.
        geometry: where its voxels are.
        faults: what was odd in the file and harmless to the values read.
        label_space: name of the label space that the file declares for its values.
    """

    array: Array
    geometry: Geometry
    faults: tuple[str, ...] = ()
    label_space: str | None = None

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise GeometryError(
                f"array of shape {self.array.shape} does not fit its grid {self.geometry.shape}"
            )

    def reoriented(self, orientation: str = STANDARD_ORIENTATION) -> Volume:
        """The same voxels with axes flipped and permuted: a view, no value changes."""
        axis_map = self.geometry.axis_map(orientation)
        array = apply_orientation(self.array, axis_map)
        return replace(self, array=array, geometry=self.geometry.reoriented(orientation))

    def with_array(self, array: Array) -> Volume:
        """Another array, of any type, on the same grid."""
        return Volume(array, self.geometry)


@dataclass(frozen=True)
class Header:
    """What a NIfTI file says of itself before its voxels are read.

    Attributes:
        shape: voxels along (i, j, k).
        dtype: type on disk.
        slope: factor of the stored values; 1 when none is set.
        intercept: added after the factor.
        offset: byte at which voxels begin.
        label_space: label space declared by the file, or None.
        faults: what is odd and harmless.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    offset: int
    label_space: str | None
    faults: tuple[str, ...]
    raw: Any

    @property
    def scaled(self) -> bool:
        """Whether stored values need slope and intercept."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def n_bytes(self) -> int:
        """Size of the voxels, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def geometry(self) -> Geometry:
        """The grid, from the sform, or the qform where that is the only one.

        Raises:
            GeometryError: If there is neither, if they disagree, if axes are sheared or a
                spacing is implausible.
        """
        return _geometry(self.raw, self.shape, str(self.path))


def read_header(path: Path) -> Header:
    """Read the first few hundred bytes of a .nii or .nii.gz file.

    Raises:
        ImageError: If the file is missing, not NIfTI, or not one 3D volume of numbers.
    """
    path = Path(path)
    with _opened(path) as file:
        return _parse_header(path, file)


def read_volume(path: Path) -> Volume:
    """Read an image; integers stay the type they have on disk.

    A slope or intercept is applied once and gives float32; float64 becomes float32. An
    uncompressed file without slope is mapped into memory, read-only.

    Raises:
        ImageError: If the file is not a whole 3D NIfTI image.
        GeometryError: If its place in space is in doubt.
    """
    path = Path(path)
    with _opened(path) as file:
        header = _parse_header(path, file)
        geometry = header.geometry
        flat, faults = _read_voxels(path, file, header)
    array = _decoded(flat.reshape(header.shape, order="F"), header)
    return Volume(array, geometry, header.faults + faults, header.label_space)


def read_filled_slabs(path: Path, faults: list[str]) -> Iterator[tuple[int, Array]]:
    """The slices of an image that hold anything but zeros, some at a time.

    Args:
        path: the file.
        faults: receives what was odd about it, at the end.

    Yields:
        Index of the first slice; (i, j, n) voxels as `read_volume` gives them. In between
        lie slices whose every voxel is 0.

    Raises:
        ImageError: If the file is not a whole 3D NIfTI image.
    """
    path = Path(path)
    with _opened(path) as file:
        header = _parse_header(path, file)
        short = _require_room(path, file, header)
        depth = header.shape[2]
        slice_bytes = header.n_bytes // depth
        slices = max(1, SLAB_BYTES // slice_bytes)
        try:
            file.seek(header.offset)
            for k in range(0, depth, slices):
                size = slice_bytes * min(slices, depth - k)
                chunk = file.read(size)
                if len(chunk) < size:
                    raise short
                if header.intercept or np.frombuffer(chunk, np.bool_).any():
                    stored = np.frombuffer(chunk, header.dtype)
                    slab = stored.reshape((*header.shape[:2], -1), order="F")
                    yield k, _decoded(slab, header)
            faults += header.faults + _trailing(len(file.read(1)))
        except EOFError:
            raise short from None
        except DAMAGED as error:
            raise ImageError(f"{path}: damaged gzip ({error}); copy it again") from None


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """The file's bytes, decompressed when its first two say gzip, whatever its name says."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            yield file
            return
        with igzip.GzipFile(fileobj=file) as stream:
            yield stream


def _parse_header(path: Path, file: io.BufferedIOBase) -> Header:
    try:
        block = file.read(_NIFTI2_SIZE)
    except DAMAGED as error:
        raise ImageError(f"{path}: damaged gzip: {error}") from None
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    if _NIFTI1_SIZE in sizes and len(block) >= _NIFTI1_SIZE:
        raw: Any = nib.Nifti1Header(block[:_NIFTI1_SIZE], check=False)
    elif _NIFTI2_SIZE in sizes and len(block) >= _NIFTI2_SIZE:
        raw = nib.Nifti2Header(block, check=False)
    else:
        what = "whatever its name says" if block else "the file is empty"
        raise ImageError(f"{path}: not a NIfTI image, {what}")
    if bytes(raw["magic"].tobytes())[:3] not in (b"n+1", b"n+2"):
        raise ImageError(f"{path}: not a single-file NIfTI image; convert .hdr/.img to .nii first")
    if raw["pixdim"][0] == 0:
        raw["pixdim"][0] = 1  # NIfTI-1: a qfac of 0 means 1
    return _header_from(path, raw)


def _header_from(path: Path, raw: Any) -> Header:
    n_axes, *extent = (int(n) for n in raw["dim"])
    if not 0 < n_axes < 8 or min(extent[:n_axes]) < 1:
        raise ImageError(f"{path}: header gives impossible dimensions {[n_axes, *extent]}")
    shape = extent[:n_axes]
    if n_axes < 3 or max([1, *shape[3:]]) > 1:
        raise ImageError(
            f"{path}: {n_axes}D image of shape {tuple(shape)}; one 3D volume is expected"
        )
    try:
        dtype = np.dtype(raw.get_data_dtype())
    except (nib.spatialimages.HeaderDataError, KeyError):
        raise ImageError(f"{path}: unknown voxel type code {int(raw['datatype'])}") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ImageError(f"{path}: voxels are {dtype}, not plain numbers (a colour image?)")
    slope, intercept = (float(raw[k]) for k in ("scl_slope", "scl_inter"))
    if slope == 0 or not np.isfinite(slope):
        slope, intercept = 1.0, 0.0  # NIfTI-1: a slope of 0 (or none) means unscaled
    if not np.isfinite(intercept):
        raise ImageError(
            f"{path}: slope {slope:g} has the intercept {intercept}; correct the header"
        )
    faults = []
    unit = int(raw["xyzt_units"]) & 7
    if unit not in (0, 2):
        # Seen in the release: micron beside 0.75 mm. Plausible spacings decide, not the unit.
        name = {1: "metre", 3: "micron"}.get(unit, f"code {unit}")
        faults.append(f"header says its unit is {name}; spacing was read as millimetres")
    label_space = None
    if int(raw["intent_code"]) == LABEL_INTENT:
        label_space = bytes(raw["intent_name"].tobytes()).rstrip(b"\0").decode("latin-1") or None
    offset = float(raw["vox_offset"])
    if not np.isfinite(offset):
        raise ImageError(f"{path}: header says that voxels begin at byte {offset}")
    return Header(
        path,
        (shape[0], shape[1], shape[2]),
        dtype,
        slope,
        intercept,
        # NIfTI-1: in a single file a smaller offset means the first byte after the header.
        max(int(offset), raw.single_vox_offset),
        label_space,
        tuple(faults),
        raw,
    )


def _geometry(raw: Any, shape: tuple[int, int, int], name: str) -> Geometry:
    has_sform, has_qform = int(raw["sform_code"]) > 0, int(raw["qform_code"]) > 0
    if not has_sform and not has_qform:
        raise GeometryError(
            f"{name}: neither sform nor qform has a code, so the position is unknown; "
            "set one from the original series"
        )
    try:
        qform = Geometry(shape, raw.get_qform()) if has_qform else None
        sform = Geometry(shape, raw.get_sform()) if has_sform else None
    except (GeometryError, nib.spatialimages.HeaderDataError, ValueError) as error:
        raise GeometryError(f"{name}: {error}") from None
    geometry = sform or qform
    assert geometry is not None
    if sform and qform and sform.distance_mm(qform) > FORM_TOLERANCE_MM:
        raise GeometryError(
            f"{name}: sform ({sform.orientation}) and qform ({qform.orientation}) disagree by "
            f"{sform.distance_mm(qform):.1f} mm; one of them is wrong: correct the header"
        )
    geometry.require_plausible(name)
    return geometry


def _read_voxels(
    path: Path, file: io.BufferedIOBase, header: Header
) -> tuple[Array, tuple[str, ...]]:
    """All voxels as one flat array in file order, and what was odd about the file's end."""
    short = _require_room(path, file, header)
    if not isinstance(file, gzip.GzipFile) and not header.scaled:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        count = header.n_bytes // header.dtype.itemsize
        flat: Array = np.frombuffer(mapped, header.dtype, count, header.offset)
        more = path.stat().st_size - header.offset - header.n_bytes
        return flat, _trailing(more)
    flat = np.zeros(header.n_bytes // header.dtype.itemsize, header.dtype)
    view = flat.data.cast("B")
    try:
        file.seek(header.offset)
        if _read_into(file, view) < header.n_bytes:
            raise short
        more = len(file.read(1))
    except EOFError:
        raise short from None
    except DAMAGED as error:
        raise ImageError(f"{path}: damaged gzip ({error}); copy it again") from None
    return flat, _trailing(more)


def _require_room(path: Path, file: io.BufferedIOBase, header: Header) -> ImageError:
    """Refuse a file too small for its voxels; returns the error for one that turns out so."""
    size = path.stat().st_size
    short = ImageError(
        f"{path}: file ends before its {header.n_bytes} bytes of voxels; it was cut short, "
        "copy it again"
    )
    zipped = isinstance(file, gzip.GzipFile)
    if header.offset + header.n_bytes > (size * _MAX_GZIP_RATIO if zipped else size):
        raise short
    return short


def _decoded(array: Array, header: Header) -> Array:
    """Stored voxels in this machine's byte order, scaled, and never float64."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if header.scaled:
        scaled = array.astype(np.float32)
        scaled *= np.float32(header.slope)
        scaled += np.float32(header.intercept)
        return scaled
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as callers check for
            return array.astype(np.float32)
    return array


def _trailing(n_bytes: int) -> tuple[str, ...]:
    return ("data follows the end of the image and was not read",) if n_bytes > 0 else ()


def _read_into(file: io.BufferedIOBase, view: memoryview) -> int:
    """Fill zeroed memory; where the file holds zeros, most of a mask, it is never touched."""
    done = 0
    while chunk := file.read(min(SLAB_BYTES, len(view) - done)):
        if np.frombuffer(chunk, np.bool_).any():
            view[done : done + len(chunk)] = chunk
        done += len(chunk)
    return done
