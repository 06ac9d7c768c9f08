"""Compressed frames without anything but the image: no comments, no bytes after the end.

The coded samples stay as they are. JPEG and JPEG-LS lose their application and comment segments
(ISO 10918-1 B.1.1.3); in JPEG 2000 the text of comments becomes zeros (ISO 15444-1 A.9.2), for
lengths are told elsewhere; of RLE segments (DICOM PS3.5 G) what follows the last row goes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from pantskit.core.errors import ImageError
from pantskit.measure.compiled import compiled

_JPEG = "1.2.840.10008.1.2.4."
RLE = "1.2.840.10008.1.2.5"
_JPEG_FAMILY = {_JPEG + n for n in ("50", "51", "57", "70", "80", "81")}
_JPEG2000_FAMILY = {_JPEG + n for n in ("90", "91", "201", "202", "203")}
KNOWN_SYNTAXES = {RLE, *_JPEG_FAMILY, *_JPEG2000_FAMILY}

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_COMMENT = 0xFE
_APPLICATION = range(0xE0, 0xF0)
_RESTART = range(0xD0, 0xD8)
_J2K_START, _J2K_TILE, _J2K_DATA, _J2K_END, _J2K_COMMENT = 0x4F, 0x90, 0x93, 0xD9, 0x64
_DAMAGED = "a compressed slice is not what its transfer syntax says and is not exported"


def image_only(data: bytes, syntax: str, row_bytes: int, rows: int) -> bytes:
    """A compressed frame with its image and nothing else.

    Args:
        data: the frame, fragments joined.
        syntax: TransferSyntaxUID.
        row_bytes: columns, each of which is one byte of an RLE segment.
        rows: of the image.

    Raises:
        ImageError: If the syntax is not known or the frame is damaged.
    """
    try:
        if syntax == RLE:
            return _rle(data, row_bytes * rows)
        if syntax in _JPEG_FAMILY:
            return _jpeg(data)
        if syntax in _JPEG2000_FAMILY:
            return _jpeg2000(data)
    except (IndexError, struct.error):
        raise ImageError(_DAMAGED) from None
    raise ImageError("slices compressed in this way are not exported as DICOM")


def _jpeg(data: bytes) -> bytes:
    if data[:2] != bytes((0xFF, _START)):
        raise ImageError(_DAMAGED)
    kept, at = [data[:2]], 2
    while True:
        if data[at] != 0xFF:
            raise ImageError(_DAMAGED)
        marker = data[at + 1]
        if marker == 0xFF:  # fill before a marker
            at += 1
            continue
        if marker == _END:
            return b"".join((*kept, data[at : at + 2]))
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SCAN:
            end = _scan_end(data, end)
        if marker != _COMMENT and marker not in _APPLICATION:
            kept.append(data[at:end])
        at = end


def _scan_end(data: bytes, at: int) -> int:
    """Where coded samples end: at a marker that is no restart.

    In JPEG a 0xff among them is followed by 0, in JPEG-LS by a byte below 0x80.
    """
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise ImageError(_DAMAGED)
        following = data[at + 1]
        if following >= 0x80 and following not in _RESTART and following != 0xFF:
            return at
        at += 1 if following == 0xFF else 2


def _jpeg2000(data: bytes) -> bytes:
    if data[:2] != bytes((0xFF, _J2K_START)):
        raise ImageError(_DAMAGED)
    cleaned, at, tile_end = bytearray(data), 2, 0
    while True:
        if data[at] != 0xFF:
            raise ImageError(_DAMAGED)
        marker = data[at + 1]
        if marker == _J2K_END:
            return bytes(cleaned[: at + 2])
        if marker == _J2K_DATA:
            # A last tile part may leave its length open: it then ends before the end marker.
            at = tile_end or data.rfind(b"\xff\xd9")
            if at < 0:
                raise ImageError(_DAMAGED)
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _J2K_TILE:
            length = struct.unpack_from(">L", data, at + 6)[0]
            tile_end = at + length if length else 0
        if marker == _J2K_COMMENT:
            cleaned[at + 6 : end] = bytes(end - at - 6)
        at = end


def _rle(data: bytes, size: int) -> bytes:
    """An RLE frame whose segments end with the last byte of the image."""
    count, *offsets = struct.unpack_from("<16L", data)
    if not 1 <= count <= 15 or offsets[0] != 64:
        raise ImageError(_DAMAGED)
    ends = [*offsets[1:count], len(data)]
    segments = []
    for start, end in zip(offsets[:count], ends, strict=True):
        raw = np.frombuffer(data, np.uint8)[start:end]
        used = _used(raw, size)
        if used < 0:
            raise ImageError(_DAMAGED)
        segment = raw[:used].tobytes()
        segments.append(segment + b"\0" * (len(segment) % 2))
    starts = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    head = struct.pack("<16L", count, *starts, *[0] * (15 - count))
    return head + b"".join(segments)


@compiled
def _used(data: Any, size: Any) -> Any:
    """Bytes of a PackBits segment that unpack to `size`; -1 where they do not."""
    at, done = np.int64(0), np.int64(0)
    while done < size:
        if at >= len(data):
            return -1
        head = np.int64(data[at])
        if head < 128:
            done += head + 1
            at += head + 2
        elif head > 128:
            done += 257 - head
            at += 2
        else:
            at += 1
    return at if done == size and at <= len(data) else -1
