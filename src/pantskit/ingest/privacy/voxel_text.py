"""Text of two bytes a letter among voxels: letters have the numbers of soft tissue in HU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled

_GRAM = 4  # letters that are compared first, at every fourth voxel
_SHORTEST = 2 * _GRAM - 1  # long enough to have four letters from a fourth voxel on
_WORD = 0xFFFFFFFFFFFFFFFF
_LOWER = 0x0020002000200020  # makes letters lower-case and leaves digits and points
_NOT_LETTERS = 0xFF80FF80FF80FF80
_FACTOR = 0x9E3779B97F4A7C15


class WideText:
    """Looks for values among 16-bit numbers, a letter each, in either case."""

    def __init__(self, needles: Sequence[str]) -> None:
        """Prepare to look.

        Args:
            needles: lower-case values. Those of less than seven letters are not looked for: an
                organ of a few million voxels holds them by chance.
        """
        self._needles = [n for n in needles if len(n) >= _SHORTEST and n.isascii()]

    @cached_property
    def _grams(self) -> dict[int, list[tuple[bytes, int]]]:
        """Four letters as a number, to the needles that have them, and at which letter."""
        grams: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        for needle in self._needles:
            letters = bytes(c | 0x20 for c in needle.encode("ascii"))
            wide = letters.decode("ascii").encode("utf-16-le")
            for start in range(_GRAM):
                gram = wide[2 * start : 2 * (start + _GRAM)]
                grams[int.from_bytes(gram, "little")].append((letters, start))
        return grams

    @cached_property
    def _tables(self) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """What `_candidates` needs to know of the grams."""
        wanted = np.zeros(1 << 16, np.bool_)
        for number in self._grams:
            wanted[(number * _FACTOR & _WORD) >> 48] = True
        return wanted, np.array(sorted(self._grams), np.uint64)

    def find(self, values: NDArray[np.int16]) -> Iterator[str]:
        """Values that are there.

        Args:
            values: flat, contiguous and little-endian; a voxel each.

        Yields:
            For each place, the needle (its bytes 0x40 to 0x5f moved to 0x60 on).
        """
        if not self._needles or values.size < _SHORTEST:
            return
        quads = values[: values.size // _GRAM * _GRAM].view(np.uint64)
        for place in _candidates(quads, *self._tables).tolist():
            for letters, start in self._grams[int(quads[place]) | _LOWER]:
                begin = _GRAM * place - start
                found = values[max(begin, 0) : max(begin, 0) + len(letters)].tolist()
                if begin >= 0 and [v | 0x20 for v in found] == list(letters):
                    yield letters.decode("ascii")


@compiled
def _candidates(quads: Any, wanted: Any, numbers: Any) -> Any:
    """Groups of four voxels that, as lower-case letters, are among the numbers.

    Args:
        quads: the groups, as a number each.
        wanted: by a hash, whether one of the numbers may have it.
        numbers: sorted.
    """
    found = np.empty(len(quads) + 1, np.int64)
    count = 0
    for n in range(len(quads)):
        quad = quads[n]
        letters = (quad & np.uint64(_NOT_LETTERS)) == 0
        place = ((quad | np.uint64(_LOWER)) * np.uint64(_FACTOR)) >> np.uint64(48)
        # No branch: in an organ it would be guessed wrong at every other voxel.
        found[count] = n
        count += letters & wanted[place]
    kept = 0
    for n in found[:count]:
        quad = quads[n] | np.uint64(_LOWER)
        place = np.searchsorted(numbers, quad)
        if place < len(numbers) and numbers[place] == quad:
            found[kept] = n
            kept += 1
    return found[:kept]
