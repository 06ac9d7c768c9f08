"""Is a file DICOM? By its mark, or by its first elements where an old export left the mark out.

Files written before DICOM's part 10 was common start with the data set itself (group 0008) or
with the file meta information (group 0002). They are given the preamble, mark and transfer
syntax that they lack as they are read, so that everything after sees one kind of file.
"""

from __future__ import annotations

import io
import struct
from typing import IO, Literal

from pydicom.datadict import dictionary_VR

Kind = Literal["dicom", "bare", "damaged", "other"]

_MARK = b"DICM"
_PREAMBLE = b"\0" * 128 + _MARK
_HEAD = 2048  # bytes in which the first elements lie

# So many elements in order, each with the VR of its tag: chance does not write that.
_ENOUGH = 3

_LONG_VRS = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UN", b"UR", b"UT"))
_TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"})

_IMPLICIT, _EXPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"


def kind_of(stream: IO[bytes]) -> Kind:
    """What a stream holds; it is left at its start.

    Returns:
        `"dicom"`: the mark is there. `"bare"`: DICOM elements, or the mark, from the first byte on.
        `"damaged"`: empty, DICOM's blank preamble without the mark, or the mark at another
        place. `"other"`: none of these.
    """
    return _kind(_head(stream))


def completed(stream: IO[bytes]) -> IO[bytes]:
    """The stream, with preamble, mark and transfer syntax before it where it is bare DICOM."""
    head = _head(stream)
    if _kind(head) != "bare":
        return stream
    if head.startswith(_MARK):
        return io.BufferedReader(_Prefixed(_PREAMBLE[: -len(_MARK)], stream))
    syntax = _syntax(head)
    return io.BufferedReader(_Prefixed(_PREAMBLE + (_meta(syntax) if syntax else b""), stream))


def _head(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    head = stream.read(_HEAD)
    stream.seek(0)
    return head


def _kind(head: bytes) -> Kind:
    if head[128:132] == _MARK:
        return "dicom"
    if head.startswith(_MARK) and _syntax(head[len(_MARK) :]) == "":  # the preamble alone is gone
        return "bare"
    if not head[:128].strip(b"\0") or _MARK + b"\2\0" in head:  # the mark, then group 0002
        return "damaged"
    return "other" if _syntax(head) is None else "bare"


def _syntax(head: bytes) -> str | None:
    """Transfer syntax of elements without a mark, "" where they tell it, None for no DICOM."""
    group = head[:2]
    if group == b"\2\0" and _elements(head, "<", explicit=True):
        return ""
    if group == b"\x08\0":
        if _elements(head, "<", explicit=True):
            return _EXPLICIT
        return _IMPLICIT if _elements(head, "<", explicit=False) else None
    return _BIG if group == b"\0\x08" and _elements(head, ">", explicit=True) else None


def _elements(head: bytes, order: str, *, explicit: bool) -> bool:
    """Whether the bytes start with DICOM elements in ascending order."""
    offset, count, last = 0, 0, -1
    while count < _ENOUGH and offset + 12 <= len(head):
        group, element = struct.unpack_from(f"{order}HH", head, offset)
        tag = group << 16 | element
        vr = _vr(tag)
        if tag <= last or vr is None:
            return False
        if not explicit:
            (length,) = struct.unpack_from(f"{order}L", head, offset + 4)
            start = offset + 8
        elif head[offset + 4 : offset + 6].decode("latin-1") not in vr.split(" or "):
            return False
        elif head[offset + 4 : offset + 6] in _LONG_VRS:
            (length,) = struct.unpack_from(f"{order}L", head, offset + 8)
            start = offset + 12
        else:
            (length,) = struct.unpack_from(f"{order}H", head, offset + 6)
            start = offset + 8
        if vr in _TEXT_VRS and not _is_text(head[start : start + length]):
            return False
        offset, count, last = start + length, count + 1, tag
    return count >= _ENOUGH


def _vr(tag: int) -> str | None:
    """VR of a tag of the standard, None for others; a group's length counts as one of it."""
    if tag & 0xFFFF == 0:
        return "UL"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


def _is_text(value: bytes) -> bool:
    return all(byte >= 0x20 or byte in b"\0\x1b" for byte in value)


def _meta(syntax: str) -> bytes:
    """File meta information that says the transfer syntax and no more."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    return struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(element)) + element


class _Prefixed(io.RawIOBase):
    """A stream with bytes before it."""

    name = ""  # pydicom asks buffered streams for it

    def __init__(self, prefix: bytes, stream: IO[bytes]) -> None:
        super().__init__()
        self._prefix, self._stream, self._at = prefix, stream, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset += len(self._prefix) + self._stream.seek(0, io.SEEK_END)
        self._at = max(offset, 0)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # io wants any buffer
        inside = self._at - len(self._prefix)
        if inside < 0:
            data = self._prefix[self._at :][: len(buffer)]
        else:
            self._stream.seek(inside)
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
