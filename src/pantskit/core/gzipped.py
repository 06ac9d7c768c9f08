"""Gzip files made of pieces, in which long runs of zero bytes cost nothing."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from isal import igzip, isal_zlib
from zlib_ng import zlib_ng

Buffer = bytes | bytearray | memoryview

# Measured against zlib at level 6, the one of gzip and dcm2niix. Noisy CT: ISA-L level 1 takes a
# fifteenth of the time for files 5 % larger, its largest buffer a tenth less than smaller ones.
# Smooth CT changes along a slice, which small buffers suit better: level 2 takes a sixteenth for 4
# to 6 %, level 3 an eighth for 1 % less, where level 1 makes files 8 to 12 % larger. CT of heads:
# ISA-L makes files 11 to 15 % larger, zlib-ng level 3 4 to 5 % in a fifth of the time. Masks and
# label maps: ISA-L makes them up to 60 % larger, zlib-ng level 6 no larger in a sixth of the time.
_FASTEST, _FAST, _FAIRLY_FAST = (
    partial(isal_zlib.compressobj, level, memLevel=memory)
    for level, memory in ((1, 9), (2, 3), (3, 3))
)
_SMALL = partial(zlib_ng.compressobj, 3)
_COMPRESSORS: dict[str, Callable[..., Any]] = {
    "ct": _FASTEST,  # until a sample says otherwise
    "image": _FAST,
    "labels": partial(zlib_ng.compressobj, 6),
}
_BARE = {"wbits": -15}  # deflate without a header

# A CT is written in the fastest way that makes it no more than some 6 % larger. Samples tell: they
# are so short that there is less to find again, and 4 % there are up to 6 % on the whole (20
# volumes: abdomens as scanned, smoothed, thickened, with noise added; phantoms; heads). What one
# part of the file leaves of that, up to 1 %, the next may take.
_LARGER_BY, _MOST_SPARED = 1.04, 0.01
_SAMPLE, _SAMPLED_FROM, _SAMPLED_EVERY = 1 << 17, 4, 1 << 25

# Method deflate, no name, no time: RFC 1952. A reader finds nothing in it but the format.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

# Shorter runs are left to the compressor: changing over costs some twenty bytes.
_ZERO_BLOCKS = (1 << 20, 1 << 16)

_PART = 1 << 20  # compressed in one go: larger parts take no less time, and more memory
_CHUNK = 1 << 20

DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    igzip.BadGzipFile,
    cast("type[Exception]", isal_zlib.error),  # its stubs call it an instance
    zlib.error,
)


@dataclass(frozen=True)
class Zeros:
    """A run of zero bytes."""

    count: int


Piece = Buffer | Zeros


def gzip_member(pieces: Iterable[Piece], kind: str) -> Iterator[bytes]:
    """One gzip member, as every reader takes it, of the pieces one after the other.

    Runs of zeros take blocks that were compressed beforehand: the compressor starts afresh
    after each, so that nothing behind refers to what lies before.

    Args:
        pieces: the bytes.
        kind: `"ct"` for HU, `"labels"` for masks and label maps, `"image"` for anything else. A
            CT is no more than some 6 % larger than zlib makes it at level 6.

    Yields:
        The file's bytes, in parts.
    """
    stream = _Deflate(kind)
    yield _HEADER
    zeros = 0
    for piece in pieces:
        if isinstance(piece, Zeros):
            zeros += piece.count
            continue
        yield from stream.zeros(zeros)
        zeros = 0
        yield from stream.packed(piece)
    yield from stream.zeros(zeros)
    yield stream.end()


class _Deflate:
    """A deflate stream with the checksum and size of what went in."""

    def __init__(self, kind: str) -> None:
        self._make = _COMPRESSORS[kind]
        self._compressor: Any = self._make(**_BARE)
        self._sample_at: float = 0 if kind == "ct" else math.inf
        self._spared = 0.0
        self._crc = self._size = 0
        self._open = False  # whether the compressor holds back bytes

    def packed(self, piece: Buffer) -> Iterator[bytes]:
        if self._size >= self._sample_at and len(piece) >= _SAMPLE:
            self._sample_at = self._size + _SAMPLED_EVERY
            allowed = _LARGER_BY + self._spared
            make, larger_by = _fitting(piece, allowed)
            self._spared = min(allowed - larger_by, _MOST_SPARED)
            yield from self._change_to(make)
        self._crc = isal_zlib.crc32(piece, self._crc)
        self._size += len(piece)
        self._open = True
        for start in range(0, len(piece), _PART):
            yield self._compressor.compress(memoryview(piece)[start : start + _PART])

    def _change_to(self, make: Callable[..., Any]) -> Iterator[bytes]:
        if make is self._make:
            return
        yield from self._aligned()
        self._make, self._compressor = make, make(**_BARE)

    def _aligned(self) -> Iterator[bytes]:
        """What the compressor holds back, up to the end of a byte; it starts afresh then."""
        if self._open:
            self._open = False
            yield self._compressor.flush(zlib.Z_FULL_FLUSH)

    def zeros(self, count: int) -> Iterator[bytes]:
        for size in _ZERO_BLOCKS:
            number, count = divmod(count, size)
            if not number:
                continue
            yield from self._aligned()
            block, crc = _zero_block(size)
            for _ in range(number):
                self._crc = isal_zlib.crc32_combine(self._crc, crc, size)
                self._size += size
                yield block
        if count:
            yield from self.packed(bytes(count))

    def end(self) -> bytes:
        last: bytes = self._compressor.flush(zlib.Z_FINISH)
        return last + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)


def _fitting(piece: Buffer, allowed: float) -> tuple[Callable[..., Any], float]:
    """The fastest compressor that does well enough on parts from all over a piece.

    Returns:
        It, and how many times as large as by the slowest it makes them: no more than allowed.
    """
    size, step = _SAMPLE // _SAMPLED_FROM, len(piece) // _SAMPLED_FROM
    starts = range(0, _SAMPLED_FROM * step, step)
    sample = b"".join(memoryview(piece)[start : start + size] for start in starts)
    least = _packed_size(_SMALL, sample)
    for make in (_FASTEST, _FAST, _FAIRLY_FAST):
        if (larger_by := _packed_size(make, sample) / least) <= allowed:
            return make, larger_by
    return _SMALL, 1.0


def _packed_size(make: Callable[..., Any], data: Buffer) -> int:
    compressor = make(**_BARE)
    return len(compressor.compress(data)) + len(compressor.flush())


@cache
def _zero_block(size: int) -> tuple[bytes, int]:
    """Compressed zeros that end on a byte and leave the stream open, and their checksum."""
    zeros = bytes(size)
    stream = zlib.compressobj(9, wbits=-15)
    return stream.compress(zeros) + stream.flush(zlib.Z_FULL_FLUSH), zlib.crc32(zeros)


def decompressed_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, decompressed when its first two say gzip, a few at a time.

    Raises:
        EOFError, gzip.BadGzipFile, isal_zlib.error, zlib.error: `DAMAGED`, if it is no whole
            gzip file.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: Any = igzip.GzipFile(fileobj=file) if zipped else file
        while chunk := stream.read(_CHUNK):
            yield chunk
