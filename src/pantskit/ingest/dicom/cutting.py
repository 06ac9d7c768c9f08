"""A DICOM header cut into its elements, without looking at what they hold."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pantskit.core.errors import ImageError

PIXEL_DATA = 0x7FE00010
_PIXELS = 0x7FE00008  # FloatPixelData, the first of the three that hold pixels
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF

LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_PIXEL_VR = frozenset(b"OB OW OF OD UN".split())

_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHL").unpack_from
_length = struct.Struct("<L").unpack_from

Cut = list[tuple[int, int, int]]  # tag, start and end of each element


class OddHeader(Exception):
    """A header that is for pydicom to read."""


class MoreNeeded(Exception):
    """More bytes are needed."""


@dataclass(frozen=True)
class PixelElement:
    """The element that ends a header.

    Attributes:
        tag: which of the three that hold pixels.
        offset: byte at which its value begins; in a deflated object, after inflating.
        length: bytes of the value; None where it is in fragments, which tell their own.
    """

    tag: int
    offset: int
    length: int | None


def cut_elements(
    data: bytes,
    at: int,
    *,
    explicit: bool,
    last_group: int = 0xFFFF,
    nested: bool = False,
    complete: bool = False,
) -> tuple[Cut, int]:
    """Elements from `at` to the pixels (nested: to the item's end), and where that is.

    Raises:
        OddHeader: If tags do not rise, or a value representation is unknown.
        MoreNeeded: If the data end before the pixels, unless they are complete and end between
            two elements.
    """
    found: Cut = []
    size, last = len(data), -1
    while True:
        if at + 8 > size:
            if complete and at == size:
                return found, at
            raise MoreNeeded
        if explicit:
            group, element, vr, length = _explicit(data, at)
        else:
            group, element, length = _implicit(data, at)
        tag = group << 16 | element
        if group > last_group or (tag == _ITEM_END if nested else tag >= _PIXELS):
            return found, at
        if tag <= last or group == 0xFFFE:
            raise OddHeader
        value = at + 8
        if explicit and vr in LONG_VR:
            if value + 4 > size:
                raise MoreNeeded
            length = _length(data, value)[0]
            value += 4
            if length == _UNDEFINED and vr != b"SQ":
                raise OddHeader
        elif explicit and vr not in SHORT_VR:
            raise OddHeader
        end = _sequence_end(data, value, explicit) if length == _UNDEFINED else value + length
        if end > size:
            raise MoreNeeded
        found.append((tag, at, end))
        last, at = tag, end


def _sequence_end(data: bytes, at: int, explicit: bool) -> int:
    """Where a sequence ends that does not tell its length."""
    while True:
        if at + 8 > len(data):
            raise MoreNeeded
        group, element, length = _implicit(data, at)
        tag, at = group << 16 | element, at + 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise OddHeader
        at = (
            cut_elements(data, at, explicit=explicit, nested=True)[1] + 8
            if length == _UNDEFINED
            else (at + length)
        )


def pixel_element(
    data: bytes, at: int, *, explicit: bool, complete: bool = False
) -> PixelElement | None:
    """The element that begins at `at`, or None where it holds no pixels.

    Raises:
        ImageError: If its value representation is none for pixels.
        MoreNeeded: If the data end within its first bytes, unless they are complete.
    """
    if at + 12 > len(data):
        if complete and at == len(data):
            return None
        raise MoreNeeded
    group, element, length = _implicit(data, at)
    tag = group << 16 | element
    if not _PIXELS <= tag <= PIXEL_DATA:
        return None
    if explicit:
        if data[at + 4 : at + 6] not in _PIXEL_VR:
            raise ImageError("damaged DICOM header (pixels of a kind that none have)")
        length = _length(data, at + 8)[0]
    return PixelElement(tag, at + (12 if explicit else 8), None if length == _UNDEFINED else length)


def swapped(head: bytes) -> bytes:
    """The head of a big-endian explicit element, as little-endian."""
    group, element, vr, reserved, length = struct.unpack(">HH2sHL", head)
    return struct.pack("<HH2sHL", group, element, vr, reserved, length)
