"""Text of two bytes a letter among voxels: letters have the numbers of soft tissue in HU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled

_GRAM = 4  # letters that are compared first, at every fourth voxel
_BLOCK = 1 << 20  # voxels, a multiple of four
_SHORTEST = 2 * _GRAM - 1  # long enough to have four letters from a fourth voxel on


def wide_text_at(values: NDArray[np.int16], needles: Sequence[str]) -> Iterator[str]:
    """Values that are written among 16-bit numbers, a letter each, in either case.

    Args:
        values: flat; a voxel each.
        needles: lower-case values. Those of less than seven letters are not looked for: an
            organ of a few million voxels holds them by chance.

    Yields:
        Each needle that is there, once for each place.
    """
    grams: dict[tuple[int, ...], list[tuple[str, int]]] = defaultdict(list)
    for needle in needles:
        if len(needle) >= _SHORTEST and needle.isascii():
            for start in range(_GRAM):
                gram = tuple(needle[start : start + _GRAM].encode("ascii"))
                grams[gram].append((needle, start))
    if not grams or not values.size:
        return
    wanted = np.zeros(1 << 16, np.bool_)
    for gram in grams:
        a, b, c, d = gram
        wanted[((a << 21 | b << 14 | c << 7 | d) * 2654435761) >> 14 & 0xFFFF] = True
    places = np.concatenate(
        [
            _candidates(values[start : start + _BLOCK + _GRAM - 1], wanted) + start
            for start in range(0, values.size, _BLOCK)
        ]
    )
    for place in places.tolist():
        gram = tuple(map(_lower, values[place : place + _GRAM].tolist()))
        for needle, start in grams.get(gram, ()):
            begin = place - start
            letters = values[max(begin, 0) : max(begin, 0) + len(needle)].tolist()
            if begin >= 0 and list(map(_lower, letters)) == list(needle.encode("ascii")):
                yield needle


def _lower(value: int) -> int:
    return value + 32 if 65 <= value <= 90 else value


@compiled
def _candidates(values: Any, wanted: Any) -> Any:
    """Every fourth place where four values, as lower-case letters, have a wanted hash."""
    found = np.empty(len(values) // 4 + 1, np.int64)
    count = 0
    for n in range(0, len(values) - 3, 4):
        a, b, c, d = values[n], values[n + 1], values[n + 2], values[n + 3]
        # Of signed values with a bit outside 0 to 127, one by one: most of an image is air.
        if (a | b | c | d) & ~0x7F:
            continue
        code = np.int64(0)
        for m in range(4):
            value = np.int64(values[n + m])
            code = code << 7 | (value + 32 * (0x41 <= value <= 0x5A))
        if wanted[(code * 2654435761) >> 14 & 0xFFFF]:
            found[count] = n
            count += 1
    return found[:count]
