"""Compressed pixels: where the fragments of a frame are in an object."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import IO

from pantskit.core.errors import ImageError

_ITEM, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_head = struct.Struct("<HHL")

_MOST_ITEMS = 1 << 20  # a frame has a few fragments; an object of more items was forged

Fragment = tuple[int, int]  # byte of the object at which it begins, and its length


def frame_fragments(stream: IO[bytes], offset: int, frames: int) -> list[list[Fragment]]:
    """The fragments of each frame.

    Args:
        stream: the object.
        offset: where the value of PixelData begins.
        frames: how many images it holds.

    Raises:
        ImageError: If the object ends too early, or which fragment belongs to which frame is
            not told.
    """
    size = stream.seek(0, 2)
    items, complete = _items(stream, offset, size)
    if not items:
        raise ImageError("a slice has no compressed pixels")
    (table_at, table_bytes), fragments = items[0], items[1:]
    if not complete:
        raise ImageError("a slice is truncated: its compressed pixels end early; send it again")
    if frames == 1:
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    stream.seek(table_at)
    starts = struct.unpack(f"<{table_bytes // 4}L", stream.read(table_bytes // 4 * 4))
    return _by_table(fragments, starts, frames)


def _items(stream: IO[bytes], at: int, size: int) -> tuple[list[Fragment], bool]:
    """All items, the offset table first, and whether the sequence ends as it should."""
    items: list[Fragment] = []
    while True:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return items, False
        group, element, length = _head.unpack(head)
        at += 8
        if (group, element) == _SEQUENCE_END:
            return items, True
        if (group, element) != _ITEM or length > size - at:
            return items, False
        items.append((at, length))
        at += length
        if len(items) > _MOST_ITEMS:
            raise ImageError(f"compressed pixels in more than {_MOST_ITEMS} pieces are not read")


def _by_table(
    fragments: Sequence[Fragment], starts: Sequence[int], frames: int
) -> list[list[Fragment]]:
    """Fragments by the offset table: bytes from the first fragment's item to each frame's."""
    first = fragments[0][0] if fragments else 0
    places = {at - first: n for n, (at, _) in enumerate(fragments)}
    numbers = [places.get(start, -1) for start in starts]
    if (
        len(numbers) != frames
        or numbers[:1] != [0]
        or -1 in numbers
        or numbers != sorted(set(numbers))
    ):
        raise ImageError(
            f"{len(fragments)} compressed fragments for {frames} frames, and no table tells "
            "which is whose; export the series again as single images"
        )
    ends = [*numbers[1:], len(fragments)]
    return [list(fragments[a:b]) for a, b in zip(numbers, ends, strict=True)]
