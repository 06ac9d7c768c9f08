"""Volumes and the only NIfTI reader and writer."""

from __future__ import annotations

import gzip
import io
import math
import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray

from pantskit.core.errors import GeometryError, ImageError, LabelError
from pantskit.core.files import write_chunks, write_hashed
from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry
from pantskit.core.gzipped import DAMAGED, Buffer, Piece, Zeros, gzip_member

Array = NDArray[Any]
Mask = NDArray[np.bool_]

# Voxels are read and written, and brought into the file's order, this many bytes at a time.
_SLAB_BYTES = 1 << 20

# sform and qform may differ by the rounding of a quaternion, not by more.
FORM_TOLERANCE_MM = 0.1

# A label map that went through float32 or a slope reads 1.0002; a mistake reads 1.5.
LABEL_ROUNDING = 0.01

_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL: intent_name then holds the label space
_LABEL_SPACE_LENGTH = 15  # intent_name has 16 bytes and ends with a zero
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
        slices = max(1, _SLAB_BYTES // slice_bytes)
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
        header["intent_code"] = _LABEL_INTENT
        header["intent_name"] = _intent_name(label_space)
    return cast(bytes, header.binaryblock) + b"\0\0\0\0"


def slabs_of(array: Array) -> Iterator[Array]:
    """(i, j, n) parts of an array in Fortran order, some slices at a time, about a MiB each."""
    slices = max(1, _SLAB_BYTES * array.shape[2] // max(1, array.nbytes))
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


_WRITTEN_TYPES = tuple(
    np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32)
)


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
    if int(raw["intent_code"]) == _LABEL_INTENT:
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
    while chunk := file.read(min(_SLAB_BYTES, len(view) - done)):
        if np.frombuffer(chunk, np.bool_).any():
            view[done : done + len(chunk)] = chunk
        done += len(chunk)
    return done


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
