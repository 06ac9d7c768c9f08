"""Labels of a case, in whatever form they are stored: masks, a label map, or both.

Separate masks are the truth; a combined map is a fast view of them. Structures come from the
map only where the case's record says that the map gives them back exactly and neither file
has changed since, so that no score depends on which of the two was read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pantskit.core.crops import MaskCrop, cut_mask, read_mask_crop
from pantskit.core.errors import DatasetError, GeometryError, LabelError
from pantskit.core.files import content_hash
from pantskit.core.geometry import Geometry, require_same_grid
from pantskit.core.labels import (
    LABEL_SPACES,
    PANCREAS,
    PANCREAS_PARTS,
    PANTS,
    STRUCTURES,
    Annotation,
    LabelArray,
    LabelMap,
    LabelSpace,
    Mask,
    innermost,
    label_counts,
    mask_of_ids,
)
from pantskit.core.labelvolumes import read_label_map, read_mask
from pantskit.core.records import RecordStore
from pantskit.core.volume import Volume, read_header

COMBINED = "combined_labels.nii.gz"
COMBINED_NAMES = (COMBINED, "combined_labels.nii")
SEGMENTATIONS = "segmentations"
LABELS_STAGE = "labels"  # records of what a combined map reproduces


class CaseLabels:
    """The labels of one case, read when asked for.

    Attributes:
        case_id: the case.
        map_path: its label map, if there is one.
        mask_paths: structure to mask file (.nii.gz, or .npz of the first release).
        rivals: structure to files that all mean it, where none bears its very name; reading
            the structure is refused.
    """

    def __init__(
        self,
        case_id: str,
        *,
        map_path: Path | None = None,
        mask_paths: Mapping[str, Path] | None = None,
        rivals: Mapping[str, tuple[Path, ...]] | None = None,
        label_map: LabelMap | None = None,
        dataset: Path | None = None,
    ) -> None:
        self.case_id = case_id
        self.map_path = map_path
        self.mask_paths = dict(mask_paths or {})
        self.rivals = dict(rivals or {})
        self._label_map = label_map
        self._dataset = dataset
        self._map: Volume | None = None
        self._values: tuple[int, ...] | None = None
        self._exact: frozenset[str] | None = None
        self._geometry: Geometry | None = None
        self._faults: dict[str, None] = {}

    @property
    def paths(self) -> tuple[Path, ...]:
        """All label files of the case."""
        return tuple(p for p in (self.map_path, *self.mask_paths.values()) if p)

    @property
    def faults(self) -> tuple[str, ...]:
        """What was odd in the files read so far."""
        return tuple(self._faults)

    @property
    def geometry(self) -> Geometry:
        """The one grid of all label files: the masks', else the label map's.

        Each file is checked against it as it is read.

        Raises:
            LabelError: If the case has only masks without geometry (.npz).
        """
        if self._geometry is None:
            masks = (p for p in self.mask_paths.values() if p.suffix.lower() != ".npz")
            path = next(masks, self.map_path)
            if path is None:
                raise LabelError(f"{self.case_id}: .npz masks need a combined map for their grid")
            self._geometry = read_header(path).geometry
        return self._geometry

    def structures(self) -> tuple[str, ...]:
        """Annotated structures, empty ones included, in the order of the 28."""
        if self.mask_paths:
            return tuple(s for s in STRUCTURES if s in self.mask_paths)
        label_map = self.label_map_used()
        annotated = set(label_map.annotated)
        if not annotated.issuperset(label_map.structures):  # of the others, those that are there
            annotated.update(*(innermost(label_map.ids.get(v, ())) for v in self._map_values()))
        if annotated.issuperset(PANCREAS_PARTS):
            annotated.add(PANCREAS)
        return tuple(s for s in STRUCTURES if s in annotated)

    def annotation(self, structure: str) -> Annotation:
        """Present, empty or absent; reads the structure."""
        mask = self.mask(structure)
        if mask is None:
            return Annotation.ABSENT
        return Annotation.PRESENT if mask.any() else Annotation.EMPTY

    def mask(self, structure: str) -> Mask | None:
        """(i, j, k) bool mask of a structure, None where it is absent.

        It is what the structure's own file says; from a label map, all ids that belong to it:
        the pancreas with its head, body, tail, duct and lesion.

        Raises:
            ImageError, GeometryError, LabelError: If a file cannot be read as what it should
                be, or lies on another grid than the case's other labels.
        """
        self._require_one_file(structure)
        if structure in self.mask_paths:
            if structure in self._exact_in_map():
                return self._mask_from_map(PANTS.label_map(), structure)
            return self._read_mask(self.mask_paths[structure])
        if self.mask_paths or structure not in self.structures():
            return None
        return self._mask_from_map(self.label_map_used(), structure)

    def ids_in_map(self, structure: str) -> tuple[int, ...] | None:
        """The label map's ids that make up an annotated structure, exactly.

        None where the structure has to be read from its own file: it has one, and the map is
        not known to give it back.
        """
        if not self.mask_paths:
            return self.label_map_used().ids_of(structure)
        if structure in self._exact_in_map() and structure not in self.rivals:
            return PANTS.label_map().ids_of(structure)
        return None

    def mask_crop(self, structure: str) -> MaskCrop:
        """A structure from its own file, with no more than the box around it in memory.

        Raises:
            ImageError, GeometryError, LabelError: As `mask`; also if it has no file.
        """
        self._require_one_file(structure)
        path = self.mask_paths.get(structure)
        if path is None:
            raise LabelError(f"{self.case_id}: has no mask of {structure}")
        if path.suffix.lower() == ".npz":
            return cut_mask(self._read_npz(path), self.geometry)
        crop = read_mask_crop(path)
        self._check(path, crop.geometry, crop.faults)
        return crop

    def forget(self) -> None:
        """Give back the memory of the label map; it is read again when asked for."""
        self._map = None

    def masks(self, structures: Iterator[str] | tuple[str, ...] | None = None) -> dict[str, Mask]:
        """Masks of the annotated ones among `structures` (default: all 28)."""
        wanted = self.structures() if structures is None else structures
        found = ((s, self.mask(s)) for s in wanted)
        return {s: mask for s, mask in found if mask is not None}

    def label_map(self, space: LabelSpace) -> LabelArray:
        """(i, j, k) uint8 map of the annotated structures, painted in the paint order.

        Raises:
            LabelError: If the case has none of the space's structures.
        """
        structures = [s for s in space.paint_order if s in self.structures()]
        if not structures:
            raise LabelError(f"{self.case_id}: none of the structures of {space.name} is annotated")
        combined: LabelArray = np.zeros(self.geometry.shape, np.uint8, order="F")
        for structure in structures:  # one mask in memory at a time
            mask = self.mask(structure)
            if mask is not None:
                space.paint(combined, structure, mask)
        return combined

    def combined(self) -> Volume | None:
        """The label map file as it is, ids and all; None where there is none."""
        return self._load_map() if self.map_path else None

    def label_map_used(self) -> LabelMap:
        """What the ids of the case's label map mean.

        Raises:
            LabelError: If neither an option, nor the file, nor its folder says so.
        """
        if self.map_path is None:
            raise LabelError(f"{self.case_id}: has no label map")
        if self._label_map is None:
            declared = read_header(self.map_path).label_space
            space = LABEL_SPACES.get(declared or "")
            self._label_map = (
                space.label_map(declared_structures(self.map_path.parent))
                if space
                else _folder_label_map(self.map_path.parent)
            )
        if self._label_map is None:
            raise LabelError(
                f"{self.case_id}: {self.map_path.name} declares no label space; say what its ids "
                "mean with --label-map (a known name, a file, or 1=pancreas,2=pancreatic_lesion) "
                "or in a dataset.json beside it"
            )
        return self._label_map

    def _require_one_file(self, structure: str) -> None:
        if structure in self.rivals:
            names = " and ".join(p.name for p in self.rivals[structure])
            raise LabelError(
                f"{self.case_id}: {names} all mean {structure}; keep one, or unite them as "
                f"{structure}.nii.gz"
            )

    def _map_values(self) -> tuple[int, ...]:
        if self._values is None:
            counts = label_counts(self._load_map().array)
            self._values = tuple(int(v) for v in np.flatnonzero(counts) if v)
        return self._values

    def _load_map(self) -> Volume:
        assert self.map_path is not None
        if self._map is None:
            volume = read_label_map(self.map_path)
            self._note(self.map_path, volume.faults)
            require_same_grid(
                volume.geometry, self.geometry, what=f"{self.case_id}: label map and masks"
            )
            self._map = volume
        return self._map

    def _mask_from_map(self, label_map: LabelMap, structure: str) -> Mask:
        volume = self._load_map()
        label_map.require_known(list(self._map_values()), name=f"{self.case_id}: {self.map_path}")
        return mask_of_ids(volume.array, label_map.ids_of(structure))

    def _read_mask(self, path: Path) -> Mask:
        if path.suffix.lower() == ".npz":
            return self._read_npz(path)
        volume = read_mask(path)
        self._check(path, volume.geometry, volume.faults)
        mask: Mask = volume.array
        return mask

    def _check(self, path: Path, geometry: Geometry, faults: tuple[str, ...]) -> None:
        self._note(path, faults)
        require_same_grid(
            geometry, self.geometry, what=f"{self.case_id}: {path.name} and other labels"
        )

    def _read_npz(self, path: Path) -> Mask:
        try:
            with np.load(path, allow_pickle=False) as file:
                array: NDArray[Any] = file["data"]
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            TypeError,
            BadZipFile,
            zlib.error,
        ) as error:
            raise LabelError(f"{self.case_id}: {path.name}: no mask can be read: {error}") from None
        if array.shape != self.geometry.shape:
            raise GeometryError(
                f"{self.case_id}: {path.name} has shape {array.shape}, the case's other labels "
                f"{self.geometry.shape}"
            )
        self._note(path, ("mask has no geometry of its own; the other labels' was taken",))
        return np.asfortranarray(array > 0)

    def _note(self, path: Path, faults: tuple[str, ...]) -> None:
        for fault in faults:
            self._faults[f"{path.name}: {fault}"] = None

    def _exact_in_map(self) -> frozenset[str]:
        if self._exact is None:
            self._exact = self._find_exact()
        return self._exact

    def _find_exact(self) -> frozenset[str]:
        """Structures recorded as exact in the map whose files are still those recorded."""
        if self._dataset is None or self.map_path is None:
            return frozenset()
        record = RecordStore(self._dataset).read(LABELS_STAGE, self.case_id)
        hashes = record.data.get("hashes", {}) if record else {}
        if not record or hashes.get(COMBINED) != content_hash(self.map_path):
            return frozenset()
        return frozenset(
            s
            for s in record.data.get("exact_in_combined", ())
            if s in self.mask_paths and hashes.get(s) == content_hash(self.mask_paths[s])
        )


def declared_structures(folder: Path) -> tuple[str, ...] | None:
    """The `annotated` list of the nearest dataset.json of ours in a folder or its parents."""
    data = _nearest_dataset_json(folder)
    annotated = data.get("annotated") if data else None
    return None if annotated is None else tuple(annotated)


def places_of_dataset_json(folder: Path) -> tuple[Path, ...]:
    """Where the dataset.json that speaks of a label map may lie, the nearest first.

    Args:
        folder: of the label map; it is at most two folders below.
    """
    return (folder, *list(folder.absolute().parents)[:2])


def _nearest_dataset_json(folder: Path) -> dict[str, Any] | None:
    for place in places_of_dataset_json(folder):
        path = place / "dataset.json"
        if path.is_file():
            try:
                data = json.loads(path.read_text("utf-8"))
            except ValueError as error:
                raise DatasetError(f"{path}: not JSON: {error}") from None
            return data if isinstance(data, dict) else None
    return None


def _folder_label_map(folder: Path) -> LabelMap | None:
    """The label map that a folder's dataset.json declares: ours, nnU-Net's or the MSD's."""
    data = _nearest_dataset_json(folder)
    if data is None:
        return None
    if data.get("label_space") in LABEL_SPACES:
        # A map in a dataset of ours that does not declare itself came from elsewhere.
        return None
    if "labels" not in data:
        return None
    place = next(p for p in places_of_dataset_json(folder) if (p / "dataset.json").is_file())
    return LabelMap.parse(str(place / "dataset.json"))
