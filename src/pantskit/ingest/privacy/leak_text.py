"""Text in bytes, whatever its character set: what the leak scan looks through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Runs of bytes that could be text: printable, the escape of ISO 2022, and whatever a character
# set may have above ASCII; among voxels not 0xf8 and above, the high bytes of small numbers.
_RUN = re.compile(rb"[\t\x1b\x20-\x7e\x80-\xff]{3,}")
VOXEL_RUN = re.compile(rb"[\x20-\x7e\x80-\xf7]{4,}")
_WIDE_RUN = re.compile(r"[^\x00-\x1f\ufffd]{2,}")
_NEAR_RUN = re.compile(r"[\x20-\u052f]{3,}")  # Latin, Greek, Cyrillic
# The numbers 1 to 4 in a row, as dimensions are, read in the wrong order: letters with accents.
_SMALL_NUMBERS = re.compile(r"[\u0100\u0200\u0300\u0400]{2,}")
_CODECS = (
    "utf-8", "latin-1", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_9", "cp1252", "gb18030",
    "shift_jis", "euc_jp", "euc_kr", "iso2022_jp", "iso2022_jp_2", "iso2022_kr",
)  # fmt: skip
# Two bytes a letter are looked for in files up to this size; ours that are larger are images.
WIDE_LIMIT = 1 << 24
CODED_SHORTEST = 7  # bytes of coded pixels are random: shorter values turn up by chance


@dataclass(frozen=True)
class Piece:
    """A piece of a file.

    Attributes:
        text: what to look through.
        size: decompressed bytes that it, and what held no text before it, stand for.
        is_number: a number of a table or a numeric element.
        shortest: values shorter than this are not looked for in it.
        fault: what is wrong with the file itself, as an attribute of a leak.
    """

    text: str
    size: int = 0
    is_number: bool = False
    shortest: int = 0
    fault: str = ""


def texts_of(raw: bytes) -> Iterator[Piece]:
    """Text in bytes of no known structure."""
    for match in _RUN.finditer(raw):
        run = match[0]
        if run.isascii() and b"\x1b" not in run:
            yield Piece(run.decode("ascii"))
        else:
            yield from map(Piece, readings_of(run))
    if len(raw) <= WIDE_LIMIT and not _is_plain(raw):
        for codec in ("utf-16-le", "utf-16-be"):
            for start in (0, 1):
                text = _SMALL_NUMBERS.sub("\0", raw[start:].decode(codec, "replace"))
                yield from map(Piece, _WIDE_RUN.findall(text))
                # Numbers beside a word come out as letters of far scripts, which are no part of it.
                yield from map(Piece, _NEAR_RUN.findall(text))
        for codec in ("utf-32-le", "utf-32-be"):
            for start in range(4):
                text = raw[start:].decode(codec, "replace")
                yield from map(Piece, _WIDE_RUN.findall(text))


def _is_plain(raw: bytes) -> bool:
    if b"\0" in raw:
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def readings_of(run: bytes) -> Iterator[str]:
    """A run of bytes in every character set that can read it."""
    seen = set()
    for codec in _CODECS:
        text = run.decode(codec, "replace")
        if text not in seen:
            seen.add(text)
            yield text
