"""Bytes that a deflate stream spells out, read without unpacking it.

A mask of 40 MB is 50 kB on disk: runs of equal voxels as copies of what came before. Unpacking
28 of them to look for text costs more than packing them did. A byte can appear in the unpacked
data only if the stream spells it out once or an earlier part is copied, so walking through the
stream's symbols tells which bytes can appear, in the time of the packed size.

Deflate is RFC 1951, gzip RFC 1952.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled

_LENGTH_BASE = np.array(
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115,
     131, 163, 195, 227, 258], np.int64,
)  # fmt: skip
_LENGTH_EXTRA = np.array(
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0],
    np.int64,
)  # fmt: skip
_DISTANCE_EXTRA = np.array(
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12,
     13, 13], np.int64,
)  # fmt: skip
_CODE_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)
_BITS = 15  # of the longest code
_PADDING = 512  # zero bytes after the data, more than the head of a block can reach into


@dataclass(frozen=True)
class Literals:
    """What a gzip member holds.

    Attributes:
        size: bytes it unpacks to.
        stop: where the member ends in the file, its trailer included.
        spelt: (256,) bool; bytes that the stream spells out after the first `skip` ones.
    """

    size: int
    stop: int
    spelt: NDArray[np.bool_]


def gzip_literals(raw: bytes, *, skip: int = 0) -> Literals | None:
    """Walk through the first gzip member of a file.

    Args:
        raw: the file; its gzip header has no optional field.
        skip: unpacked bytes at the start whose literals do not count.

    Returns:
        What it holds, or None where the stream is damaged.
    """
    spelt = np.zeros(256, np.bool_)
    data = np.zeros(len(raw) + _PADDING, np.uint8)
    data[: len(raw)] = np.frombuffer(raw, np.uint8)
    size, stop = _walk(data, 10, skip, spelt)
    return None if size < 0 else Literals(int(size), int(stop) + 8, spelt)


@compiled
def _fill(lengths: Any, table: Any) -> Any:
    """Codes by their next 15 bits: symbol * 16 + length; the longest code, or -1."""
    counts = np.zeros(17, np.int64)
    for length in lengths:
        counts[length] += 1
    counts[0] = 0
    following = np.zeros(17, np.int64)
    code = 0
    for length in range(1, 16):
        code = (code + counts[length - 1]) << 1
        following[length] = code
    table[:] = -1
    for symbol in range(len(lengths)):
        length = lengths[symbol]
        if length == 0:
            continue
        code = following[length]
        following[length] += 1
        if code >> length:
            return -1
        backwards = 0
        for bit in range(length):
            backwards |= ((code >> bit) & 1) << (length - 1 - bit)
        for filler in range(backwards, 1 << _BITS, 1 << length):
            table[filler] = symbol * 16 + length
    return 0


@compiled
def _peek(data: Any, bit: Any) -> Any:
    """The next 25 bits or more from a bit position, which is not beyond the padding."""
    at = bit >> 3
    word = (
        np.int64(data[at])
        | np.int64(data[at + 1]) << 8
        | np.int64(data[at + 2]) << 16
        | np.int64(data[at + 3]) << 24
    )
    return word >> (bit & 7)


@compiled
def _code_lengths(data: Any, bit: Any, lengths: Any, table: Any, order: Any) -> Any:
    """Code lengths of a dynamic block: bit position after them, and how many are literals'."""
    head = _peek(data, bit)
    literals, distances, codes = (head & 31) + 257, ((head >> 5) & 31) + 1, ((head >> 10) & 15) + 4
    bit += 14
    short = np.zeros(19, np.int64)
    for n in range(codes):
        short[order[n]] = _peek(data, bit) & 7
        bit += 3
    if _fill(short, table) < 0:
        return -1, 0, 0
    done = 0
    while done < literals + distances:
        entry = table[_peek(data, bit) & 0x7FFF]
        if entry < 0:
            return -1, 0, 0
        bit += entry & 15
        symbol = entry >> 4
        value, times = symbol, 1
        if symbol == 16:
            if done == 0:
                return -1, 0, 0
            value, times = lengths[done - 1], 3 + (_peek(data, bit) & 3)
            bit += 2
        elif symbol == 17:
            value, times = 0, 3 + (_peek(data, bit) & 7)
            bit += 3
        elif symbol == 18:
            value, times = 0, 11 + (_peek(data, bit) & 127)
            bit += 7
        if done + times > literals + distances:
            return -1, 0, 0
        lengths[done : done + times] = value
        done += times
    return bit, literals, distances


@compiled
def _stored(data: Any, bit: Any, size: Any, skip: Any, spelt: Any) -> Any:
    """A block that is not packed: bit position after it, and the unpacked size so far."""
    byte = (bit + 7) >> 3
    if byte + 4 > len(data) - _PADDING:
        return -1, 0
    count = np.int64(data[byte]) | np.int64(data[byte + 1]) << 8
    byte += 4
    if byte + count > len(data) - _PADDING:
        return -1, 0
    for n in range(count):
        if size + n >= skip:
            spelt[data[byte + n]] = True
    return (byte + count) * 8, size + count


@compiled
def _symbols(
    data: Any, bit: Any, size: Any, skip: Any, spelt: Any, literals: Any, distances: Any
) -> Any:
    """A packed block by its tables: bit position after it, and the unpacked size so far."""
    limit = (len(data) - _PADDING) * 8
    while bit <= limit:
        word = _peek(data, bit)
        entry = literals[word & 0x7FFF]
        bit += entry & 15
        symbol = entry >> 4
        if entry < 0 or symbol > 285:
            return -1, 0
        if symbol == 256:
            return bit, size
        if symbol < 256:
            if size >= skip:
                spelt[symbol] = True
            size += 1
            continue
        extra = _LENGTH_EXTRA[symbol - 257]
        size += _LENGTH_BASE[symbol - 257] + (word >> (entry & 15) & ((1 << extra) - 1))
        bit += extra
        entry = distances[_peek(data, bit) & 0x7FFF]
        if entry < 0 or entry >> 4 > 29:
            return -1, 0
        bit += (entry & 15) + _DISTANCE_EXTRA[entry >> 4]
    return -1, 0


@compiled
def _walk(data: Any, start: Any, skip: Any, spelt: Any) -> Any:
    """Unpacked size and the byte after the last block; (-1, 0) for a damaged stream."""
    literal_table = np.empty(1 << _BITS, np.int32)
    distance_table = np.empty(1 << _BITS, np.int32)
    lengths = np.zeros(320, np.int64)
    bit, size, last = start * 8, 0, False
    while not last:
        if bit > (len(data) - _PADDING) * 8:
            return -1, 0
        head = _peek(data, bit)
        last, kind = (head & 1) == 1, (head >> 1) & 3
        bit += 3
        literals, distances = 288, 30
        if kind == 0:
            bit, size = _stored(data, bit, size, skip, spelt)
        elif kind == 1:
            lengths[:144], lengths[144:256], lengths[256:280], lengths[280:288] = 8, 9, 7, 8
            lengths[288:318] = 5
        elif kind == 2:
            bit, literals, distances = _code_lengths(data, bit, lengths, literal_table, _CODE_ORDER)
        if kind == 3 or bit < 0:
            return -1, 0
        if kind == 0:
            continue
        bad = _fill(lengths[:literals], literal_table)
        bad |= _fill(lengths[literals : literals + distances], distance_table)
        if bad:
            return -1, 0
        bit, size = _symbols(data, bit, size, skip, spelt, literal_table, distance_table)
        if bit < 0:
            return -1, 0
    stop = (bit + 7) >> 3
    return (size, stop) if stop + 8 <= len(data) - _PADDING else (-1, 0)
