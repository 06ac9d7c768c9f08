"""A gzip stream read forward, with points from which another run can read on.

The meaning of a byte of deflate depends on the 32 kB before it, and blocks begin at any bit. zlib
tells where a block begins and takes both up again (`Z_BLOCK`, `inflateGetDictionary`,
`inflatePrime`), but neither Python's `zlib` nor ISA-L hands this on: the system's zlib is called.

Sources: zlib.h; RFC 1951; RFC 1952.
"""

from __future__ import annotations

import base64
import ctypes
import json
import struct
import zlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from isal import isal_zlib

from pantskit.core.files import write_text

SPACING_BYTES = 64 << 20  # of the archive, from one point to the next

_WINDOW_BYTES = 1 << 15
_OUT_BYTES = 1 << 20
_IN_BYTES = 1 << 18
_LONGEST_TEXT = 1 << 16  # of a name or comment in a header

# zlib.h
_RAW = -15
_NO_FLUSH, _BLOCK = 0, 5
_OK, _STREAM_END, _BUF_ERROR = 0, 1, -5
_BLOCK_BEGINS, _LAST_BLOCK, _UNUSED_BITS = 128, 64, 7
_LIBRARIES = ("libz.so.1", "libz.1.dylib")

# RFC 1952, 2.3.1
_MAGIC = b"\x1f\x8b\x08"
_HEADER_CRC, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes | None: ...


@dataclass(frozen=True)
class Point:
    """Where a gzip stream can be taken up: the beginning of a block or of a gzip member.

    Attributes:
        at: bytes that the stream has unpacked to up to here.
        packed_at: bytes of the file that were used up.
        bits: of the last of them, so many are still to come.
        length, crc: of what the current gzip member has unpacked to; 0, 0 where one begins.
        window: the last 32 kB of that, which what follows refers to.
    """

    at: int
    packed_at: int
    bits: int
    length: int
    crc: int
    window: bytes

    @property
    def first_byte(self) -> int:
        """The first byte of the file that is read from here on."""
        return self.packed_at - (self.bits > 0)


BEGINNING = Point(0, 0, 0, 0, 0, b"")


def write_point(point: Point, validator: str, path: Path) -> None:
    """Write a point of the file that has this validator; it appears when all of it is there."""
    window = base64.b64encode(point.window).decode()
    text = json.dumps({**asdict(point), "window": window, "validator": validator})
    write_text(path, f"{text}\n{zlib.crc32(text.encode())}\n", flush=False)


def read_point(path: Path, validator: str) -> Point | None:
    """A point as it was written; None where there is none, or a damaged one, or another file's."""
    try:
        text, check = path.read_text("utf-8").splitlines()
        if int(check) != zlib.crc32(text.encode()):
            return None
        known = json.loads(text)
        if known.pop("validator") != validator:
            return None
        return Point(**{**known, "window": base64.b64decode(known["window"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


class _Stream(ctypes.Structure):
    """`z_stream` of zlib.h."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@cache
def system_zlib() -> ctypes.CDLL | None:
    """The system's zlib; None where there is none that does what is needed."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            stream, number = ctypes.POINTER(_Stream), ctypes.c_int
            text, some = ctypes.c_char_p, ctypes.c_uint
            library.zlibVersion.restype = text
            library.inflateInit2_.argtypes = (stream, number, text, number)
            library.inflate.argtypes = (stream, number)
            library.inflateReset.argtypes = library.inflateEnd.argtypes = (stream,)
            library.inflatePrime.argtypes = (stream, number, number)
            library.inflateSetDictionary.argtypes = (stream, text, some)
            library.inflateGetDictionary.argtypes = (
                stream,
                ctypes.c_void_p,
                ctypes.POINTER(some),
            )
        except (OSError, AttributeError):
            continue
        return library
    return None


class Inflated:
    """What a gzip file unpacks to, read forward; several gzip members are one after the other.

    Length and CRC-32 of each member are compared, also of one that was begun at a point.

    Args:
        source: the file from `start.first_byte` on.
        start: where to begin.

    Raises:
        zlib.error: By `read`, if it is damaged; EOFError: if it is cut short.
    """

    def __init__(self, source: _Readable, start: Point = BEGINNING) -> None:
        library = system_zlib()
        assert library is not None
        self._zlib = library
        self._source = source
        self._block = b""
        self._used = 0  # of `_block`
        self._block_at = start.first_byte
        self._at, self._length, self._crc = start.at, start.length, start.crc
        self._inside = start.length > 0
        self._out = ctypes.create_string_buffer(_OUT_BYTES)
        self._last_point_at = start.packed_at
        self._point: Point | None = None
        self._stream = _Stream()
        self._must(
            library.inflateInit2_(
                self._stream, _RAW, library.zlibVersion(), ctypes.sizeof(self._stream)
            )
        )
        if self._inside:
            if start.bits:
                last = self._take(1)[0] >> (8 - start.bits)
                self._must(library.inflatePrime(self._stream, start.bits, last))
            self._must(library.inflateSetDictionary(self._stream, start.window, len(start.window)))

    def close(self) -> None:
        """Free what zlib holds."""
        self._zlib.inflateEnd(self._stream)

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most so many (1 MB); b"" at the end."""
        size = min(size, _OUT_BYTES) if size >= 0 else _OUT_BYTES
        while size and (self._inside or self._begin_member()):
            if data := self._inflate(size):
                return data
        return b""

    def latest_point(self) -> Point | None:
        """The newest point, none of them ahead of what was read; None where it was told before."""
        point, self._point = self._point, None
        return point

    @property
    def _position(self) -> int:
        """Bytes of the file that were used up."""
        return self._block_at + self._used

    def _more(self) -> bool:
        """Whether there are further bytes of the file at hand."""
        if self._used == len(self._block):
            self._block_at += len(self._block)
            self._block, self._used = self._source.read(_IN_BYTES) or b"", 0
        return bool(self._block)

    def _take(self, count: int) -> bytes:
        """The next bytes of the file."""
        found = b""
        while len(found) < count:
            if not self._more():
                raise EOFError("it ends before its end-of-stream marker")
            part = self._block[self._used : self._used + count - len(found)]
            self._used += len(part)
            found += part
        return found

    def _begin_member(self) -> bool:
        """Read a header; False at the end of the file. Zeros may fill it up behind a member."""
        while self._at and self._more() and self._block[self._used] == 0:
            self._used = len(self._block) - len(self._block[self._used :].lstrip(b"\0"))
        if not self._more():
            return False
        self._length = self._crc = 0
        if self._point_is_due():
            self._keep_point(0, b"")
        header = self._take(10)
        flags = header[3]
        if not header.startswith(_MAGIC) or flags & _RESERVED:
            raise zlib.error(f"no gzip header at byte {self._position - 10:,}")
        if flags & _EXTRA:
            extra = self._take(2)
            header += extra + self._take(int.from_bytes(extra, "little"))
        for flag in (_NAME, _COMMENT):
            if flags & flag:
                header += self._take_text()
        check = zlib.crc32(header) & 0xFFFF
        if flags & _HEADER_CRC and int.from_bytes(self._take(2), "little") != check:
            raise zlib.error("the checksum of a gzip header is wrong")
        self._must(self._zlib.inflateReset(self._stream))
        self._inside = True
        return True

    def _take_text(self) -> bytes:
        """A text of a header with the zero at its end."""
        found = bytearray()
        while not found.endswith(b"\0"):
            found += self._take(1)
            if len(found) > _LONGEST_TEXT:
                raise zlib.error("a gzip header has too long a name")
        return bytes(found)

    def _inflate(self, size: int) -> bytes:
        """Unpack from the block at hand, and see whether a point is passed; may give nothing."""
        if not self._more():
            raise EOFError("it ends before its end-of-stream marker")
        stream, left = self._stream, len(self._block) - self._used
        due = self._point_is_due()
        address = ctypes.cast(ctypes.c_char_p(self._block), ctypes.c_void_p).value
        assert address is not None
        stream.next_in, stream.avail_in = address + self._used, left
        stream.next_out, stream.avail_out = ctypes.addressof(self._out), size
        status = self._zlib.inflate(stream, _BLOCK if due else _NO_FLUSH)
        self._used += left - stream.avail_in
        data = ctypes.string_at(self._out, size - stream.avail_out)
        self._crc = isal_zlib.crc32(data, self._crc)
        self._length += len(data)
        self._at += len(data)
        if status == _STREAM_END:
            self._end_member()
        elif status != _BUF_ERROR or stream.avail_in:  # else it wants more to read
            self._must(status)
            told = stream.data_type
            if due and told & _BLOCK_BEGINS and not told & _LAST_BLOCK and self._length:
                self._keep_point(told & _UNUSED_BITS, self._window())
        return data

    def _end_member(self) -> None:
        """Compare checksum and length with what stands behind them.

        Raises:
            zlib.error: If they differ.
        """
        crc, length = struct.unpack("<II", self._take(8))
        if crc != self._crc:
            raise zlib.error(f"its CRC-32 is {self._crc:08x}, and {crc:08x} stands in it")
        if length != self._length & 0xFFFFFFFF:
            raise zlib.error(f"it unpacks to {self._length:,} bytes, which is not what it says")
        self._inside = False

    def _point_is_due(self) -> bool:
        return self._position - self._last_point_at >= SPACING_BYTES

    def _keep_point(self, bits: int, window: bytes) -> None:
        self._last_point_at = self._position
        self._point = Point(self._at, self._position, bits, self._length, self._crc, window)

    def _window(self) -> bytes:
        found, count = ctypes.create_string_buffer(_WINDOW_BYTES), ctypes.c_uint()
        self._must(self._zlib.inflateGetDictionary(self._stream, found, ctypes.byref(count)))
        return found.raw[: count.value]

    def _must(self, status: Any) -> None:
        """Raise what zlib reports."""
        if status != _OK:
            said = self._stream.msg
            raise zlib.error(said.decode() if said else f"zlib reports {status}")
