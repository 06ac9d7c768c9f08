"""Overlapping masks of one case in one array: each voxel holds a code for its set of structures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import LabelError
from pantskit.core.gzipped import Piece, Zeros
from pantskit.core.labels import STRUCTURES, LabelArray, LabelMap, LabelSpace, Mask

Codes = NDArray[Any]

_BACKGROUND: frozenset[str] = frozenset()

# A pass that compares is so much faster than one that looks up that this many are.
_FEW = 12


@dataclass
class CodedMasks:
    """The masks of a case, one or two bytes a voxel however many overlap.

    28 masks of 512 x 512 x 300 are 2.2 GB; few hundred sets of structures occur among them, so
    their codes are 79 MB. What is asked of the masks is answered from the sets and from one
    histogram of the codes.

    Attributes:
        codes: (i, j, k) uint8, or uint16 beyond 256 sets; in Fortran memory order.
        sets: the structures of the voxels of each code; those of code 0 are none.
        annotated: structures that were looked for, those without a voxel included.
    """

    codes: Codes
    sets: list[frozenset[str]] = field(default_factory=lambda: [_BACKGROUND])
    annotated: set[str] = field(default_factory=set)
    _by_slice: NDArray[np.int64] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.codes.ndim != 3 or self.codes.dtype not in (np.uint8, np.uint16):
            raise LabelError(
                f"codes of masks are a 3D array of uint8 or uint16, not {self.codes.dtype} of "
                f"shape {self.codes.shape}"
            )
        self.codes = np.asfortranarray(self.codes)

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> CodedMasks:
        """No structure annotated, on a grid of this shape."""
        return cls(np.zeros(shape, np.uint8, order="F"))

    @classmethod
    def from_masks(cls, masks: Mapping[str, Mask]) -> CodedMasks:
        """Masks of one grid.

        Args:
            masks: structure to (i, j, k) bool.

        Raises:
            LabelError: If there is no mask, shapes differ, or a name is no structure's.
        """
        shapes = {mask.shape for mask in masks.values()}
        if len(shapes) != 1:
            raise LabelError(f"masks of one shape are needed to combine, found {sorted(shapes)}")
        coded = cls.empty(next(iter(masks.values())).shape)
        for structure, mask in masks.items():
            coded.add(structure, mask)
        return coded

    @classmethod
    def from_label_map(
        cls, array: NDArray[Any], label_map: LabelMap, *, name: str = "label map"
    ) -> CodedMasks:
        """A map of integer labels, whose labels become the codes.

        Args:
            array: (i, j, k) uint8 or uint16; taken over, so it may change with the masks.
            label_map: what the labels mean. Structures that it calls annotated, or that have a
                voxel, are annotated; labels without a place among the structures get no set.
            name: of the case and file, for the message.

        Raises:
            LabelError: If a label is unknown to the map.
        """
        coded = cls(array)
        present = coded.occurring
        label_map.require_known(present, name=name)
        found = {v: frozenset(label_map.ids.get(v, ())) if v else _BACKGROUND for v in present}
        coded.sets = [found.get(v, _BACKGROUND) for v in range(max([0, *present]) + 1)]
        coded.annotated = set(label_map.annotated).union(*found.values())
        return coded

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (i, j, k)."""
        i, j, k = self.codes.shape
        return i, j, k

    @property
    def structures(self) -> tuple[str, ...]:
        """Annotated structures in the order of the 28."""
        return tuple(s for s in STRUCTURES if s in self.annotated)

    @property
    def counts(self) -> dict[str, int]:
        """Voxels of each annotated structure, 0 for empty ones, in the order of the 28."""
        sizes = self._slice_counts().sum(axis=0)
        return {s: int(sizes[self._codes_of(s)].sum()) for s in self.structures}

    @property
    def occurring(self) -> list[int]:
        """Codes that some voxel holds: the labels of a label map, 0 included."""
        return [int(code) for code in np.flatnonzero(self._slice_counts().any(axis=0))]

    def add(self, structure: str, mask: Mask, start: tuple[int, int, int] | None = None) -> None:
        """Unite a mask into a structure, which is annotated from then on even if empty.

        Args:
            structure: one of the 28.
            mask: (i, j, k) bool; only its bounding box is looked at twice.
            start: (i, j, k) index of its first voxel, where it is a part beyond which nothing is
                inside.

        Raises:
            LabelError: If it is no structure, the shape differs, or more than 65,536 sets occur.
        """
        if structure not in STRUCTURES:
            raise LabelError(f"{structure}: none of the 28 structures")
        if start is None and mask.shape != self.codes.shape:
            raise LabelError(
                f"masks of one shape are needed to combine, found {mask.shape} for {structure} "
                f"beside {self.codes.shape}"
            )
        self.annotated.add(structure)
        box = bounding_box(mask)
        if box is None:
            return
        if not self.codes.flags.writeable:
            self.codes = self.codes.copy(order="F")
        first = start or (0, 0, 0)
        i, j = (slice(n + s.start, n + s.stop) for n, s in zip(first, box[:2], strict=False))
        after: dict[int, int] = {}
        for k in range(box[2].start, box[2].stop):
            self._add_slice(structure, mask[*box[:2], k], (i, j, first[2] + k), after)
        self._by_slice = None

    def _add_slice(
        self, structure: str, inside: Mask, box: tuple[slice, slice, int], after: dict[int, int]
    ) -> None:
        """Change the codes of a slice; `after` remembers what each becomes."""
        codes = self.codes[box]
        covered = np.multiply(codes, inside)
        # Most slices have nothing else where a mask is: there, arithmetic on whole rows will do.
        free = not covered.any()
        before = [0] if free else np.flatnonzero(np.bincount(codes[inside])).tolist()
        for code in before:
            if code not in after:
                after[code] = self._code_of(self.sets[code] | {structure})
                codes = self.codes[box]  # may have become two bytes wide
        if free:
            codes += np.multiply(inside, codes.dtype.type(after[0]))
        else:
            table = np.zeros(before[-1] + 1, codes.dtype)
            table[before] = [after[code] for code in before]
            codes[inside] = table[codes[inside]]

    def mask(self, structure: str) -> Mask | None:
        """(i, j, k) bool mask of a structure in Fortran order; None where it is not annotated."""
        if structure not in self.annotated:
            return None
        return self._painted({structure: 1}).view(np.bool_)

    def unite(self, structure: str, members: Iterable[str]) -> int:
        """Make a structure contain its members, without touching a voxel.

        Args:
            structure: annotated from then on.
            members: structures whose voxels become the structure's too.

        Returns:
            The number of voxels it grew by.
        """
        wanted = frozenset(members)
        sizes = self._slice_counts().sum(axis=0)
        grown = [c for c, s in enumerate(self.sets) if s & wanted and structure not in s]
        for code in grown:
            self.sets[code] |= {structure}
        self.annotated.add(structure)
        return int(sizes[grown].sum())

    def combined(self, space: LabelSpace) -> LabelArray:
        """The label map of a space, as `LabelSpace.combine` paints it from the masks.

        Returns:
            (i, j, k) uint8, Fortran order; structures outside the space are left out.
        """
        return self._painted(ids_of(space))

    def pieces(self, values: Mapping[str, int]) -> Iterator[Piece]:
        """A map with a value for each structure, in file order, a slice at a time.

        Args:
            values: 1 to 255 of each structure that is painted, the last one painted last:
                `{"liver": 1}` for a mask, `ids_of(space)` for a label map.

        Yields:
            uint8 voxels of the slices along k, all of them one after the other.
        """
        for found in self._slices(self.table(values)):
            yield Zeros(math.prod(self.shape[:2])) if found is None else found.data

    def exact(self, space: LabelSpace) -> list[str]:
        """Structures whose mask the combined map gives back voxel for voxel."""
        painted = self.table(ids_of(space))
        return [
            s
            for s in self.structures
            if s in space.names
            and all(
                (int(painted[c]) in space.evaluation_ids(s)) == (s in self.sets[c])
                for c in self.occurring
            )
        ]

    def mapped(self, move: Callable[[Codes], Codes]) -> CodedMasks:
        """The same masks with their voxels moved: flipped, permuted, taken from the nearest.

        Args:
            move: gives an array of the codes' type that holds nothing but codes, and 0 where
                no structure is.
        """
        return CodedMasks(move(self.codes), list(self.sets), set(self.annotated))

    def table(self, values: Mapping[str, int]) -> NDArray[np.uint8]:
        """A value for each code: that of its last structure in the order of `values`, or 0."""
        rank = {structure: n for n, structure in enumerate(values)}
        table: NDArray[np.uint8] = np.zeros(len(self.sets), np.uint8)
        for code, structures in enumerate(self.sets):
            known = [s for s in structures if s in rank]
            if known:
                table[code] = values[max(known, key=rank.__getitem__)]
        return table

    def slices(self, *structures: str) -> range:
        """From the first to the last k with a voxel of one of the structures; empty if none."""
        codes = sorted({c for s in structures for c in self._codes_of(s)})
        filled = np.flatnonzero(self._slice_counts()[:, codes].any(axis=1))
        return range(int(filled[0]), int(filled[-1]) + 1) if filled.size else range(0)

    def _codes_of(self, structure: str) -> list[int]:
        return [code for code, structures in enumerate(self.sets) if structure in structures]

    def _painted(self, values: Mapping[str, int]) -> LabelArray:
        """(i, j, k) uint8 map of `values`; memory of empty slices is never touched."""
        painted: LabelArray = np.zeros(self.codes.shape, np.uint8, order="F")
        for k, found in enumerate(self._slices(self.table(values))):
            if found is not None:
                painted[:, :, k] = found.reshape(self.codes.shape[:2], order="F")
        return painted

    def _slices(self, table: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8] | None]:
        """The table's value of each voxel of each slice, in file order; None where all are 0."""
        painted = np.flatnonzero(table)
        here = self._slice_counts()[:, painted] > 0
        for k, filled in enumerate(here):
            yield self._slice(k, table, painted[filled].tolist()) if filled.any() else None

    def _slice(self, k: int, table: NDArray[np.uint8], wanted: list[int]) -> NDArray[np.uint8]:
        codes = self.codes[:, :, k].ravel(order="F")
        if len(wanted) > _FEW:
            return table.take(codes, mode="clip")  # no code is beyond: spares the check
        first, *others = wanted
        found = _where(codes, first, table[first])
        for code in others:
            found |= _where(codes, code, table[code])
        return found

    def _slice_counts(self) -> NDArray[np.int64]:
        """(slices, codes) voxels of each code in each slice along k."""
        if self._by_slice is None:
            length = max(len(self.sets), int(self.codes.max(initial=0)) + 1)
            shape = (self.codes.shape[2], length)
            self._by_slice = counts = np.zeros(shape, np.int64)
            for k in range(shape[0]):
                codes = self.codes[:, :, k].ravel(order="F")
                filled = codes[codes != 0]
                counts[k] = np.bincount(filled, minlength=length)
                counts[k, 0] = codes.size - filled.size
        return self._by_slice

    def _code_of(self, structures: frozenset[str]) -> int:
        """The code of a set, a new one if need be; the array grows to two bytes with it."""
        if structures in self.sets:
            return self.sets.index(structures)
        if len(self.sets) == 1 << 16:
            raise LabelError(f"more than {1 << 16} sets of structures overlap; are these masks?")
        self.sets.append(structures)
        if len(self.sets) > 1 << 8:
            self.codes = self.codes.astype(np.uint16, copy=False)
        return len(self.sets) - 1


def _where(codes: Codes, code: int, value: np.uint8) -> NDArray[np.uint8]:
    """The value where a code is, else 0."""
    here: NDArray[np.uint8] = (codes == code).view(np.uint8)
    return here if value == 1 else np.multiply(here, value)


def ids_of(space: LabelSpace) -> dict[str, int]:
    """The id of each structure of a space, first painted first."""
    return {structure: space.id_of(structure) for structure in space.paint_order}


def bounding_box(mask: Mask) -> tuple[slice, slice, slice] | None:
    """The smallest box of slices that holds a mask; None where it is empty."""
    # Flipped and permuted axes are undone: runs of memory are passed over many times faster.
    flips = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in mask.strides)
    order = np.argsort(np.abs(mask.strides), kind="stable").tolist()
    part = mask[flips].transpose(order)
    ends: list[tuple[int, int]] = []
    for axis in (2, 1, 0):  # the slowest first: only what is filled is read again
        filled = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
        if not filled.size:
            return None
        ends.insert(0, (int(filled[0]), int(filled[-1]) + 1))
        part = part[(slice(None),) * axis + (slice(*ends[0]),)]
    box = [slice(0)] * 3
    for axis, (start, stop) in zip(order, ends, strict=True):
        length = mask.shape[axis]
        mirrored = mask.strides[axis] < 0
        box[axis] = slice(length - stop, length - start) if mirrored else slice(start, stop)
    return box[0], box[1], box[2]
