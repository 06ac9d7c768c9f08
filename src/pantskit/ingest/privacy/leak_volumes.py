"""Text in NIfTI files, packed or not, and in other gzip files: part of the leak scan.

Voxels are most of what is written. Where none of them can be a letter, that takes one look at
each; a file whose voxels are at hand is not unpacked for that, and neither is a packed mask.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from pantskit.core.gzipped import DAMAGED
from pantskit.ingest.privacy.deflate_literals import gzip_literals
from pantskit.ingest.privacy.leak_text import (
    CODED_SHORTEST,
    VOXEL_RUN,
    Piece,
    readings_of,
    texts_of,
)
from pantskit.ingest.privacy.voxel_text import WideText
from pantskit.measure.compiled import compiled

_NIFTI_HEADER = 352
_SMALLEST_HEADER = 348
_GZIP = b"\x1f\x8b"
_START = 1 << 12  # bytes of a packed file that unpack to its header, and more
_BLOCK_BYTES = 1 << 20  # looked at in one go: stays in the cache
_SEAM = 256  # bytes of a block that are looked at with the next: longer than a value


def is_packed_or_nifti(raw: bytes) -> bool:
    """Whether a file is for `volume_pieces`."""
    return raw[:2] == _GZIP or _is_nifti(raw)


def volume_pieces(raw: bytes, wide: WideText) -> Iterator[Piece]:
    """A NIfTI file, or any gzip file, whose header must hold no name, comment or other field.

    Args:
        raw: the file.
        wide: looks for values among voxels, as 16-bit letters.

    Raises:
        Exception: Of many kinds, where it is damaged.
    """
    stream = _Unpacked(raw)
    head = stream.read(_NIFTI_HEADER)
    if not _is_nifti(head):
        unpacked = head + stream.read(-1)
        yield from (Piece("", fault="gzip header") for _ in range(stream.named))
        yield Piece("", len(unpacked))
        yield from texts_of(unpacked)
        return
    offset, expected, itemsize = _extent(head)
    head += stream.read(offset - len(head))
    yield from texts_of(head)
    if itemsize != 1 or not _spells_no_text(raw, offset, expected):
        yield from _voxels(stream, expected, itemsize, wide)
        rest = stream.read(-1)
        yield from texts_of(rest)
        expected += len(rest)
    yield from (Piece("", fault="gzip header") for _ in range(stream.named))
    yield Piece("", offset + expected)


class PassingVoxels:
    """Text among an image's voxels on their way into a file, which is then not unpacked for it."""

    def __init__(self, wide: WideText) -> None:
        """Look for nothing but what `wide` looks for, and text of one byte a letter."""
        self._wide = wide
        self._found: list[Piece] = []
        self._before: NDArray[np.int16] = np.empty(0, np.int16)
        self._crc = self._size = 0

    def add(self, slab: NDArray[np.int16]) -> None:
        """Look at (i, j, n) voxels, the next ones of the file."""
        values: NDArray[np.int16] = np.asfortranarray(slab).reshape(-1, order="F")
        raw = values.data.cast("B")
        self._crc = isal_zlib.crc32(raw, self._crc)
        self._size += len(raw)
        # With the end of what went before: a value may lie across.
        seam = np.concatenate([self._before, values[:_SEAM]])
        for part in (seam, values):
            self._found += [Piece(t, shortest=CODED_SHORTEST) for t in self._wide.find(part)]
            if not never_text(part):
                self._found += _voxel_texts(part.tobytes())
        if values.size >= _SEAM:
            self._before = values[-_SEAM:].copy()
        else:
            self._before = np.concatenate([self._before, values])[-_SEAM:]

    def pieces(self, path: Path) -> list[Piece] | None:
        """All text of a packed NIfTI file, if these voxels are what it unpacks to; else None.

        The checksum and length at its end tell. Were anything added to it, another member or
        loose bytes, other numbers would stand there.
        """
        with path.open("rb") as file:
            start = file.read(_START)
            file.seek(-min(8, len(start)), io.SEEK_END)
            end = file.read()
        if start[:2] != _GZIP or start[3]:
            return None
        stream: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        try:
            head = bytes(stream.decompress(start, _NIFTI_HEADER))
        except DAMAGED:
            return None
        if not _is_nifti(head) or _extent(head) != (len(head), self._size, 2):
            return None
        crc = isal_zlib.crc32_combine(isal_zlib.crc32(head), self._crc, self._size)
        size = len(head) + self._size
        if end != struct.pack("<LL", crc, size & 0xFFFFFFFF):
            return None
        return [*texts_of(head), Piece("", size), *self._found]


class _Unpacked:
    """The bytes of a gzip file, all its members; counts those whose header says more than it must.

    A file that is not packed is read in the same way.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = memoryview(raw)
        self._member: Any = None
        self._packed = raw[:2] == _GZIP
        self.named = 0

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end; all for -1."""
        parts, left = [], size if size >= 0 else 1 << 62
        while left > 0 and (part := self._some(min(left, _BLOCK_BYTES))):
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        if not self._packed:
            part, self._raw = bytes(self._raw[:size]), self._raw[size:]
            return part
        data: Any = b""
        while True:
            if self._member is None:
                if self._raw[:2] != _GZIP:
                    # What follows the last member is no part of it, and is looked at as it is.
                    self._packed = False
                    return self._some(size)
                self.named += self._raw[3] != 0
                self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
                data = self._raw
            part = bytes(self._member.decompress(data, size))
            if self._member.eof:
                self._raw = memoryview(self._member.unused_data)
                self._member = None
            elif not part:
                raise EOFError
            if part:
                return part


def _spells_no_text(raw: bytes, offset: int, expected: int) -> bool:
    """Whether no byte of a packed 8-bit image can be a letter."""
    if raw[:2] != _GZIP or raw[3]:
        return False
    walked = gzip_literals(raw, skip=offset)
    return (
        walked is not None
        and not walked.spelt[0x20:].any()
        and walked.stop == len(raw)
        and walked.size == offset + expected
    )


def _is_nifti(raw: bytes) -> bool:
    return len(raw) >= _SMALLEST_HEADER and raw[344:347] in (b"n+1", b"ni1")


def _extent(head: bytes) -> tuple[int, int, int]:
    """Where the voxels begin, how many bytes they are, and how many bytes each has."""
    dims = struct.unpack_from("<8h", head, 40)
    count = int(np.prod([max(d, 1) for d in dims[1 : 1 + max(0, min(dims[0], 7))]], dtype=np.int64))
    itemsize = struct.unpack_from("<h", head, 72)[0] // 8
    offset = max(int(struct.unpack_from("<f", head, 108)[0]), _NIFTI_HEADER)
    return offset, count * itemsize, itemsize


def _voxels(stream: _Unpacked, size: int, itemsize: int, wide: WideText) -> Iterator[Piece]:
    """Text among voxels; where none can be, that takes one look at each voxel.

    Voxels are looked at in blocks that stay in the cache, each with the end of the one before.
    """
    before = b""
    while size > 0 and (block := stream.read(min(size, _BLOCK_BYTES))):
        size -= len(block)
        whole = block[: len(block) - len(block) % 8]
        if itemsize == 2:
            values: NDArray[np.int16] = np.frombuffer(whole, np.int16)
            seam: NDArray[np.int16] = np.frombuffer(before[-_SEAM:] + whole[:_SEAM], np.int16)
            for part in (seam, values):
                for text in wide.find(part):
                    yield Piece(text, shortest=CODED_SHORTEST)
        blank = never_text(np.frombuffer(whole, np.int16)) if itemsize == 2 else False
        if itemsize == 1:
            blank = int(np.frombuffer(block, np.uint8).max()) < 0x20
        if not blank:
            yield from _voxel_texts(before[-_SEAM:] + block)
        before = whole


def _voxel_texts(raw: bytes) -> Iterator[Piece]:
    for match in VOXEL_RUN.finditer(raw):
        yield from (Piece(text, shortest=4) for text in readings_of(match[0]))


def never_text(values: NDArray[np.int16]) -> bool:
    """Whether every second byte is no letter: HU and stored values in -2048 to 8191.

    Their high bytes are 0x00 to 0x1f or 0xf8 to 0xff, which no run of text has.
    """
    return bool(_most_above(values, -2048) < 8192 + 2048)


@compiled
def _most_above(values: Any, lowest: int) -> Any:
    """How far any 16-bit number is above the lowest; one below it is 32768 above or more."""
    most = np.uint16(0)
    for n in range(len(values)):
        most = max(most, np.uint16(values[n] - lowest))
    return most
