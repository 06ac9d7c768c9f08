"""A clean case of a dataset, opened to plant one fault in a copy of it, and what a fault is."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from planted_arrays import DOWN, Mask, box_of, edt, moved

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.dataset import Dataset, mask_path, write_case_labels
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES
from pantskit.core.labelsets import COMBINED, LABELS_STAGE
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume

EVERYTHING = ("*",)
PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail")


class DoesNotApplyError(Exception):
    """The case has not what the fault would be planted in."""


@dataclass(frozen=True)
class Clean:
    """A case without a fault, in memory.

    Attributes:
        dataset: where it lies.
        case_id: its name.
        split: its side.
        coded: its masks, in standard orientation.
        ct: its CT.
        row: its metadata.
    """

    dataset: Dataset
    case_id: str
    split: str
    coded: CodedMasks
    ct: Volume
    row: dict[str, Any]

    @classmethod
    def load(cls, dataset: Dataset, case_id: str) -> Clean:
        """Read a case."""
        case = dataset.case(case_id)
        labels = case.labels()
        assert labels is not None
        coded = CodedMasks.empty(labels.geometry.shape)
        for structure in labels.structures():
            mask = labels.mask(structure)
            assert mask is not None
            coded.add(structure, mask)
            labels.forget()
        ct = read_volume(case.image_path)
        return cls(dataset, case_id, case.split, coded, ct, dict(dataset.metadata[case_id]))


@dataclass
class Planting:
    """A copy of a case that a fault is planted in.

    Attributes:
        clean: the case.
        other: another patient's case.
        root: folder of the dataset that gets the copy.
        ct: (i, j, k) HU, to be changed or replaced.
        row: its metadata, to be changed; None: no row is written.
        more_rows: rows of further cases that are in the table.
        info: what dataset.json says.
        taken: slices of the scan that are written, in this order; None: all.
        companions: clean cases that lie beside it.
    """

    clean: Clean
    other: Clean
    root: Path
    ct: NDArray[Any] = field(init=False)
    row: dict[str, Any] | None = field(init=False)
    more_rows: list[dict[str, Any]] = field(default_factory=list)
    info: dict[str, Any] = field(init=False)
    taken: NDArray[np.int64] | None = None
    companions: set[str] = field(default_factory=set)
    _changed: dict[str, Mask] = field(default_factory=dict)
    _dropped: set[str] = field(default_factory=set)
    _continued: bool = False

    def __post_init__(self) -> None:
        self.ct = np.array(self.clean.ct.array)
        self.row = dict(self.clean.row)
        self.info = dict(self.clean.dataset.info)

    @property
    def geometry(self) -> Geometry:
        """The grid of the case."""
        return self.clean.ct.geometry

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres along (i, j, k)."""
        return self.geometry.spacing

    @property
    def fields(self) -> dict[str, Any]:
        """The metadata row, to be changed."""
        assert self.row is not None
        return self.row

    def has(self, structure: str) -> bool:
        """Whether the structure has a voxel."""
        return structure in self.clean.coded.annotated and bool(self.now(structure).any())

    def now(self, structure: str) -> Mask:
        """The mask as it stands, as a copy; all false where there is none."""
        if structure in self._changed:
            return self._changed[structure].copy()
        mask = self.clean.coded.mask(structure)
        return np.zeros(self.ct.shape, np.bool_) if mask is None else np.array(mask, np.bool_)

    def mask(self, structure: str) -> Mask:
        """The mask of a structure that must be there, as a copy.

        Raises:
            DoesNotApplyError: If it has no voxel.
        """
        mask = self.now(structure)
        if not mask.any():
            raise DoesNotApplyError(f"no {structure}")
        return mask

    def put(self, structure: str, mask: Mask) -> None:
        """Take a mask in place of the structure's.

        Raises:
            DoesNotApplyError: If it is the mask that was there.
        """
        if np.array_equal(mask, self.now(structure)):
            raise DoesNotApplyError(f"{structure} would stay as it was")
        self._changed[structure] = mask

    def drop(self, structure: str) -> None:
        """Leave a structure out: it has no mask any more, and no voxel in the map."""
        self.mask(structure)
        self._dropped.add(structure)

    def shift(self, structure: str, **mm: float) -> None:
        """Move a structure by a way in mm, as `voxels` takes it.

        Raises:
            DoesNotApplyError: If more than half of it would leave the scan.
        """
        mask = self.mask(structure)
        there = moved(mask, self.voxels(**mm))
        if there.sum() < mask.sum() / 2:
            raise DoesNotApplyError(f"{structure} would leave the scan")
        self.put(structure, there)

    def voxels(self, *, left: float = 0, front: float = 0, down: float = 0) -> tuple[int, ...]:
        """Whole voxels of a way in mm; a way that is not 0 is one voxel at least."""
        steps = []
        for mm, size in zip((left, front, down), self.spacing, strict=True):
            steps.append(int(np.sign(mm)) * max(1, round(abs(mm) / size)) if mm else 0)
        return tuple(steps)

    def ball(self, centre: NDArray[Any], radius_mm: float) -> Mask:
        """A ball around a voxel: that voxel at least."""
        axes = np.ogrid[tuple(slice(n) for n in self.ct.shape[::-1])]
        parts = zip(axes, centre[::-1], self.spacing[::-1], strict=True)
        squares = sum(((a - c) * s) ** 2 for a, c, s in parts)
        found: Mask = np.asarray(squares <= radius_mm**2).T
        found[tuple(round(float(c)) for c in centre)] = True
        return found

    def distance(
        self, mask: Mask, *, near: Mask | None = None, within_mm: float | None = None
    ) -> NDArray[np.float64]:
        """Millimetres from each voxel to the mask; 0 in it.

        Args:
            mask: the mask.
            near: where it is asked for; infinite far from both.
            within_mm: how far out it is asked for; infinite further away.
        """
        if near is None and within_mm is None:
            return edt(mask, self.spacing)
        box = box_of(mask if near is None else mask | near, self.spacing, within_mm or 0)
        far = np.full(mask.shape, np.inf, order="F")  # as masks are: mixed orders are slow
        far[box] = edt(mask[box], self.spacing)
        return far

    def depth(self, mask: Mask) -> NDArray[np.float64]:
        """Millimetres from each voxel of a mask to the nearest outside; 0 there."""
        box = box_of(mask, self.spacing, 1.01 * max(self.spacing))
        deep = np.zeros(mask.shape, order="F")
        deep[box] = edt(~mask[box], self.spacing)
        return deep

    def take_slices(self, taken: NDArray[np.int64]) -> None:
        """Of the scan and its masks, write these slices, the first where it lay; the row says so.

        Raises:
            DoesNotApplyError: If there is none.
        """
        if not len(taken):
            raise DoesNotApplyError("no slice would be left")
        self.taken = taken
        self.fields["shape"] = str((*self.ct.shape[:2], len(taken)))

    def keep_slices(self, start: int, stop: int) -> None:
        """Of the scan and its masks, keep the slices from one to before another."""
        self.take_slices(np.arange(max(0, start), min(stop, self.ct.shape[DOWN])))

    def go_on_below(self, slices: int) -> None:
        """The scan goes on for so many slices: its last again, with noise; no mask goes on.

        To be called before masks or the CT are changed.
        """
        assert not self._changed
        last = self.clean.ct.array[:, :, -1:]
        noise = np.random.default_rng(3).normal(0, 8, (*last.shape[:2], slices))
        more = np.where(last > -900, np.clip(last + noise, -1000, 1000), last)
        ct = np.concatenate([self.clean.ct.array, more.astype(last.dtype)], axis=DOWN)
        coded = CodedMasks.empty(ct.shape)
        for structure in self.clean.coded.structures:
            coded.add(structure, np.pad(self.now(structure), ((0, 0), (0, 0), (0, slices))))
        grid = replace(self.geometry, shape=ct.shape)
        self.clean = replace(self.clean, coded=coded, ct=Volume(ct, grid))
        self.ct, self._continued = ct.copy(), True
        self.fields["shape"] = str(ct.shape)

    def company(self, count: int) -> None:
        """So many further clean cases lie in the dataset, each of them once.

        Raises:
            DoesNotApplyError: If there are not as many.
        """
        source = self.clean.dataset
        others = [c for c in source.cases() if c.case_id != self.clean.case_id]
        if len(others) < count:
            raise DoesNotApplyError(f"{len(others)} further cases, not {count}")
        for case in others[:count]:
            link_case(source, case.case_id, case.split, self.root)
            self.companions.add(case.case_id)
            self.more_rows.append(dict(source.metadata[case.case_id]))

    # Where the copy lies

    @property
    def dataset(self) -> Dataset:
        """The dataset of the copy."""
        return Dataset(self.root, self.info)

    @property
    def ct_path(self) -> Path:
        """Its CT."""
        return self.dataset.image_path(self.clean.case_id, self.clean.split)

    @property
    def map_path(self) -> Path:
        """Its combined map."""
        return self.dataset.labels_path(self.clean.case_id, self.clean.split) / COMBINED

    def mask_path(self, structure: str) -> Path:
        """The mask file of a structure, or one of another name.

        Raises:
            DoesNotApplyError: If the case has none of that structure.
        """
        if structure in STRUCTURES and structure not in self.clean.coded.structures:
            raise DoesNotApplyError(f"no mask of {structure}")
        return mask_path(self.map_path.parent, structure)

    def label_paths(self) -> list[Path]:
        """All mask files and the combined map."""
        return [*sorted(self.map_path.parent.glob("*/*.nii.gz")), self.map_path]

    def write(self) -> None:
        """Write the copy as it stands; what did not change is copied as it is."""
        copy_case(self.clean, self.root)
        anew = self._continued or self.taken is not None
        if self._changed or self._dropped or anew:
            for structure in self._dropped:
                self.mask_path(structure).unlink()
            case_id, split = self.clean.case_id, self.clean.split
            geometry, coded = self._kept()
            write_case_labels(self.dataset, case_id, split, coded, geometry)
        if anew or not np.array_equal(self.ct, self.clean.ct.array):
            write_volume(self.ct_path, Volume(self.ct[:, :, self.slices], self._kept_grid()))
        self.write_rows()

    @property
    def slices(self) -> NDArray[np.int64]:
        """The slices that are written."""
        return np.arange(self.ct.shape[DOWN]) if self.taken is None else self.taken

    def _kept_grid(self) -> Geometry:
        affine = self.geometry.affine.copy()
        affine[:3, 3] = self.geometry.to_world([0, 0, int(self.slices[0])])
        shape = (*self.ct.shape[:2], len(self.slices))
        return replace(self.geometry, shape=shape, affine=affine)

    def _kept(self) -> tuple[Geometry, CodedMasks]:
        geometry = self._kept_grid()
        coded = CodedMasks.empty(geometry.shape)
        for structure in self.clean.coded.structures:
            if structure not in self._dropped:
                coded.add(structure, self.now(structure)[:, :, self.slices])
        return geometry, coded

    def write_rows(self) -> None:
        """Write the metadata and the dataset's description."""
        rows = [*([self.row] if self.row else []), *self.more_rows]
        self.dataset.write_metadata(rows)
        self.dataset.write_info()


def copy_case(clean: Clean, root: Path, *, name: str = "", split: str = "") -> None:
    """Copy the files of a case into another dataset, under another name and side if given."""
    source, target = clean.dataset, Dataset(root, clean.dataset.info)
    name, split = name or clean.case_id, split or clean.split
    for old, new in (
        (
            source.image_path(clean.case_id, clean.split).parent,
            target.image_path(name, split).parent,
        ),
        (source.labels_path(clean.case_id, clean.split), target.labels_path(name, split)),
    ):
        shutil.copytree(old, new)
    record = source.records.read(LABELS_STAGE, clean.case_id)
    if record is not None and name == clean.case_id:
        target.records.write(record)


def link_case(source: Dataset, case_id: str, split: str, root: Path) -> None:
    """A case's files in another dataset as hard links: they must not be written to there."""
    target = Dataset(root, source.info)
    for old, new in (
        (source.image_path(case_id, split).parent, target.image_path(case_id, split).parent),
        (source.labels_path(case_id, split), target.labels_path(case_id, split)),
    ):
        shutil.copytree(old, new, copy_function=os.link)
    record = source.records.read(LABELS_STAGE, case_id)
    if record is not None:
        target.records.write(record)
