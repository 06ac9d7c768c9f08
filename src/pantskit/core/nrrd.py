"""NRRD images, read with bounded memory."""

from __future__ import annotations

import bz2
import io
import math
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from pantskit.core.errors import GeometryError, ImageError, PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Array, Volume

NRRD_SUFFIXES = (".nrrd", ".nhdr")

# Slicer's headers of a hundred segments take some 100 kB; more is no header.
_MAX_HEADER_BYTES = 4 * 1024**2
# 2000 slices of 512 x 512 as int32 are 2 GB; beyond this a header is forged or no CT's.
_MAX_VOXEL_BYTES = 8 * 1024**3
# deflate cannot expand more than 1032 : 1; bzip2 packs 900 kB of zeros into some 45 bytes.
_MAX_RATIO = {"raw": 1, "gzip": 1040, "bzip2": 25_000}

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: np.dtype(code) for code, names in _TYPES.items() for name in names}
_ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
# Signs that take a space's axes to RAS+.
_SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
# Kinds of an axis that is a place in space; an axis without a kind counts as one.
_SPATIAL_KINDS = ("domain", "space", "???", "none")


@dataclass(frozen=True)
class NrrdHeader:
    """What a NRRD file says of itself.

    Attributes:
        sizes: samples along each axis, the fastest first.
        list_axis: the axis that is none of space, or None.
        dtype: type on disk, byte order included.
        encoding: `"raw"`, `"gzip"` or `"bzip2"`.
        data: the file with the voxels, which is the header's own unless it is detached.
        offset: byte at which the encoded voxels begin.
        skip: bytes left out before the voxels, after decompression; -1: they end the file.
        geometry: the grid of the three axes in space.
        keys: the key/value pairs, as text.
        faults: what is odd and harmless.
    """

    sizes: tuple[int, ...]
    list_axis: int | None
    dtype: np.dtype[Any]
    encoding: str
    data: Path
    offset: int
    skip: int
    geometry: Geometry
    keys: Mapping[str, str]
    faults: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        """Size of the voxels, uncompressed."""
        return math.prod(self.sizes) * self.dtype.itemsize


def read_nrrd(path: Path) -> Volume:
    """Read an image; integers stay the type they have on disk, float64 becomes float32.

    A raw file is mapped into memory, read-only. Of a detached header, the file with the voxels
    must lie in the same folder.

    Raises:
        ImageError: If the file is not a whole 3D NRRD image of numbers.
        GeometryError: If its place in space is in doubt.
    """
    header = read_nrrd_header(path)
    if header.list_axis is not None:
        raise ImageError(
            f"{path}: {len(header.sizes)}D image of shape {header.sizes}; one 3D volume is expected"
        )
    array, faults = read_voxels(header, str(path))
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as callers check for
            array = array.astype(np.float32)
    return Volume(array, header.geometry, header.faults + faults)


def files_of_volume(path: Path) -> tuple[Path, ...]:
    """The files that a volume is in: itself, and with a detached NRRD header its voxels' file.

    Args:
        path: a volume file of any format; of a damaged one it is named alone.
    """
    path = Path(path)
    if path.suffix.lower() not in NRRD_SUFFIXES:
        return (path,)
    try:
        data, _ = _data_file(path, read_fields(path)[0], 0)
    except PantskitError:
        return (path,)
    return tuple(dict.fromkeys((path, data)))


def read_nrrd_header(path: Path) -> NrrdHeader:
    """Read what stands before the voxels.

    Raises:
        ImageError: If the file is missing, not NRRD, or not one volume of numbers.
        GeometryError: If its place in space is in doubt.
    """
    path = Path(path)
    fields, keys, offset = read_fields(path)
    try:
        return _header(path, fields, keys, offset)
    except PantskitError:
        raise
    except (KeyError, ValueError, OverflowError) as error:
        raise ImageError(f"{path}: damaged NRRD header ({type(error).__name__})") from None


def read_fields(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields by lower-case name, key/value pairs, and the byte after the header.

    Raises:
        ImageError: If the file is missing, or no NRRD file.
    """
    try:
        with path.open("rb") as file:
            block = file.read(_MAX_HEADER_BYTES)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    if not re.match(rb"NRRD000[1-5]\r?\n", block):
        raise ImageError(f"{path}: not a NRRD image, whatever its name says")
    end = re.search(rb"\r?\n\r?\n", block)
    if end is None and len(block) == _MAX_HEADER_BYTES:
        raise ImageError(f"{path}: NRRD header without an end in {_MAX_HEADER_BYTES} bytes")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    text = block[: end.start() if end else None].decode("utf-8", "replace")
    # Not at what else ends a line in Unicode: a key's text may hold it.
    for line in (line.rstrip("\r") for line in text.split("\n")[1:]):
        if line.startswith("#") or not line:
            continue
        key, pair, value = line.partition(":=")
        if pair and ": " not in key:
            keys[key] = value
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower().replace(" ", "")
        if not colon or name in fields:
            raise ImageError(f"{path}: damaged NRRD header (a line twice, or without a colon)")
        fields[name] = value.strip()
    return fields, keys, end.end() if end else len(block)


def _header(path: Path, fields: dict[str, str], keys: dict[str, str], offset: int) -> NrrdHeader:
    sizes = tuple(int(n) for n in fields["sizes"].split())
    if int(fields["dimension"]) != len(sizes) or not sizes or min(sizes) < 1:
        raise ImageError(f"{path}: header gives impossible dimensions {list(sizes)}")
    if fields["type"].lower() not in _DTYPES:
        raise ImageError(f"{path}: voxels are not plain numbers")
    dtype = _DTYPES[fields["type"].lower()]
    if dtype.itemsize > 1:
        dtype = np.dtype({"little": "<", "big": ">"}[fields["endian"].lower()] + dtype.str[1:])
    if fields["encoding"].lower() not in _ENCODINGS:
        raise ImageError(f"{path}: encoding is not raw, gzip or bzip2; save it as one of them")
    if int(fields.get("lineskip", "0")):
        raise ImageError(f"{path}: a header that skips lines is not read; save the image again")
    axes = _spatial_axes(path, fields, sizes)
    rest = [n for n in range(len(sizes)) if n not in axes]
    data, offset = _data_file(path, fields, offset)
    geometry, faults = _geometry(path, fields, sizes, axes)
    return NrrdHeader(
        sizes,
        rest[0] if rest else None,
        dtype,
        _ENCODINGS[fields["encoding"].lower()],
        data,
        offset,
        int(fields.get("byteskip", "0")),
        geometry,
        keys,
        faults,
    )


def _data_file(path: Path, fields: dict[str, str], offset: int) -> tuple[Path, int]:
    """The file that holds the voxels, and where in it they begin."""
    name = fields.get("datafile")
    if name is None:
        return path, offset
    plain = name not in ("", ".", "..") and "/" not in name and "\\" not in name
    if not plain or name.upper().startswith("LIST") or "%" in name:
        raise ImageError(
            f"{path}: its voxels must be in one file in the same folder; save it as one .nrrd"
        )
    data = path.parent / name
    if data.resolve().parent != path.resolve().parent or not data.is_file():
        raise ImageError(f"{path}: the file with its voxels is not in the same folder")
    return data, 0


def _spatial_axes(path: Path, fields: dict[str, str], sizes: Sequence[int]) -> tuple[int, ...]:
    """The three axes in space; at most one other is let through.

    Raises:
        ImageError: If there are not three, or more than one other.
    """
    directions = _vectors(fields.get("spacedirections", ""))
    if directions:
        axes = tuple(n for n, vector in enumerate(directions) if vector is not None)
    else:
        kinds = fields.get("kinds", "").lower().split() or ["domain"] * len(sizes)
        axes = tuple(n for n, kind in enumerate(kinds) if kind in _SPATIAL_KINDS)
    if len(axes) != 3 or not 3 <= len(sizes) <= 4 or len(directions) not in (0, len(sizes)):
        raise ImageError(
            f"{path}: {len(sizes)}D image of shape {tuple(sizes)} with {len(axes)} axes in space; "
            "one 3D volume is expected"
        )
    return axes


def _geometry(
    path: Path, fields: dict[str, str], sizes: Sequence[int], axes: Sequence[int]
) -> tuple[Geometry, tuple[str, ...]]:
    """The grid of the axes in space, in RAS+ mm.

    Raises:
        GeometryError: If the header does not say where the voxels are in the patient.
    """
    space = fields.get("space", "").lower()
    directions, origin = (
        _vectors(fields.get("spacedirections", "")),
        _vectors(fields.get("spaceorigin", "")),
    )
    if space not in _SPACES or not directions or not origin or origin[0] is None:
        raise GeometryError(
            f"{path}: its place in the patient is unknown: expected a space such as "
            "left-posterior-superior, space directions and a space origin"
        )
    affine = np.eye(4)
    signs = np.array(_SPACES[space])
    for column, axis in enumerate(axes):
        affine[:3, column] = signs * np.array(directions[axis])
    affine[:3, 3] = signs * np.array(origin[0])
    shape = tuple(sizes[axis] for axis in axes)
    try:
        geometry = Geometry((shape[0], shape[1], shape[2]), affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None
    geometry.require_plausible(str(path))
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "")))
    if units - {"mm", ""}:
        return geometry, ("header says its unit is not mm; spacing was read as millimetres",)
    return geometry, ()


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """Vectors of three numbers, `none` as None.

    Raises:
        ValueError: If a vector is not three finite numbers.
    """
    found: list[tuple[float, ...] | None] = []
    for part in re.findall(r"none|\([^)]*\)", text, flags=re.IGNORECASE):
        if part.lower() == "none":
            found.append(None)
            continue
        numbers = tuple(float(n) for n in part[1:-1].split(","))
        if len(numbers) != 3:
            raise ValueError("not three numbers")
        # An axis of no direction is written (nan,nan,nan) by some.
        found.append(None if all(map(math.isnan, numbers)) else numbers)
    return found


def read_voxels(header: NrrdHeader, name: str) -> tuple[Array, tuple[str, ...]]:
    """All voxels, in the axes of the file, and what was odd about the file's end.

    Args:
        header: of the file.
        name: of the file, for messages.

    Raises:
        ImageError: If the file holds less than its header says, or is damaged.
    """
    size = header.data.stat().st_size - header.offset
    if header.skip < -1 or (header.skip == -1 and header.encoding != "raw"):
        raise ImageError(f"{name}: damaged NRRD header (a byte skip of {header.skip})")
    needed = header.n_bytes + max(header.skip, 0)
    if needed > min(size * _MAX_RATIO[header.encoding], _MAX_VOXEL_BYTES):
        raise ImageError(
            f"{name}: {size} bytes of data cannot hold the {header.n_bytes} bytes of voxels that "
            "the header promises; it was cut short or forged"
        )
    if header.encoding == "raw":
        flat, more = _mapped(header)
    else:
        flat, more = _unpacked(header, name)
    array = flat.reshape(header.sizes, order="F")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    trailing = "data follows the end of the image and was not read"
    return array, (trailing,) if more else ()


def _mapped(header: NrrdHeader) -> tuple[Array, bool]:
    count = math.prod(header.sizes)
    with header.data.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = len(mapped) - header.n_bytes if header.skip < 0 else header.offset + header.skip
    flat: NDArray[Any] = np.frombuffer(mapped, header.dtype, count, start)
    return flat, start + header.n_bytes < len(mapped)


def _unpacked(header: NrrdHeader, name: str) -> tuple[Array, bool]:
    flat: NDArray[Any] = np.empty(math.prod(header.sizes), header.dtype)
    view = flat.data.cast("B")
    done = 0
    try:
        with _decompressed(header) as stream:
            stream.read(header.skip)
            while done < len(view):
                n = stream.readinto(view[done : done + (1 << 20)])
                if not n:
                    raise EOFError
                done += n
            more = bool(stream.read(1))
    except EOFError:
        raise ImageError(
            f"{name}: file ends before its {header.n_bytes} bytes of voxels; it was cut short, "
            "copy it again"
        ) from None
    # Each decompressor has errors of its own for damaged bytes.
    except Exception as error:
        raise ImageError(
            f"{name}: damaged {header.encoding} data ({type(error).__name__}); copy it again"
        ) from None
    return flat, more


@contextmanager
def _decompressed(header: NrrdHeader) -> Iterator[io.BufferedIOBase]:
    with header.data.open("rb") as file:
        file.seek(header.offset)
        stream: io.BufferedIOBase = (
            igzip.GzipFile(fileobj=file) if header.encoding == "gzip" else bz2.BZ2File(file)
        )
        with stream:
            yield stream
