"""Labels of a case, in whatever form they are stored: masks, a label map, or both.

Separate masks are the truth; a combined map is a fast view of them. Structures come from the
map only where the case's record says that the map gives them back exactly and neither file
has changed since, so that no score depends on which of the two was read.
"""

from __future__ import annotations

import json
import os
import re
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
    PANTS_ALPHABETICAL,
    STRUCTURES,
    Annotation,
    LabelArray,
    LabelMap,
    LabelSpace,
    Mask,
    find_structure,
    innermost,
    label_counts,
    label_counts_inside,
    mask_of_ids,
)
from pantskit.core.records import RecordStore
from pantskit.core.volume import Volume, read_header, read_label_map, read_mask

COMBINED = "combined_labels.nii.gz"
COMBINED_NAMES = (COMBINED, "combined_labels.nii")
SEGMENTATIONS = "segmentations"
LABELS_STAGE = "labels"  # records of what a combined map reproduces
SPLIT_FOLDERS = {"train": ("ImageTr", "LabelTr"), "test": ("ImageTe", "LabelTe")}

# DSC above which a mask and an id of a combined map are taken for the same structure: masks
# of the release against the right ids give 0.89 and more, against wrong ids nearly 0.
_IDENTIFIED_DSC = 0.8


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


def open_label_source(
    path: Path,
    *,
    label_map: LabelMap | None = None,
    split: str | None = None,
    twice: dict[str, str] | None = None,
) -> dict[str, CaseLabels]:
    """Find the labels of all cases under a path.

    Args:
        path: a dataset; a predictions folder of `<case_id>/combined_labels.nii.gz` or
            `<case_id>/[segmentations/]<structure>.nii.gz`; a flat folder of
            `<case_id>.nii.gz` label maps; the folder of one case; or one label map.
        label_map: what the ids of label maps mean, in place of what files and folders declare.
        split: `"train"` or `"test"` of a dataset; both when None.
        twice: receives cases that are there twice, with what to say of them; such a case is
            then listed with the labels that come first.

    Returns:
        case_id to its labels, sorted by case_id.

    Raises:
        DatasetError: If there is no such path, no label in it, or one case twice and `twice` is
            not given.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    found: dict[str, CaseLabels] = {}
    for labels in _find_cases(path, label_map, split):
        if labels.case_id in found:
            first = found[labels.case_id].paths[0]
            message = (
                f"{path}: case {labels.case_id} is there twice: {first} and {labels.paths[0]}; "
                "remove one"
            )
            if twice is None:
                raise DatasetError(message)
            twice[labels.case_id] = message
        found.setdefault(labels.case_id, labels)
    if not found:
        where = f" in its {split} split" if split else ""
        raise DatasetError(
            f"{path}: no labels{where}; expected a dataset, <case_id>/combined_labels.nii.gz, "
            "<case_id>/<structure>.nii.gz or <case_id>.nii.gz"
        )
    return dict(sorted(found.items()))


def labels_in(
    folder: Path, *, label_map: LabelMap | None = None, dataset: Path | None = None
) -> CaseLabels | None:
    """The labels in one case's folder; None where there are none."""
    masks: dict[str, Path] = {}
    rivals: dict[str, tuple[Path, ...]] = {}
    # A later place wins: segmentations/ is the release's. .nii.gz wins over .npz.
    files = _files(folder)
    for place in (files, _files(folder / SEGMENTATIONS)):
        for suffix in (".npz", ".nii", ".nii.gz"):
            for structure, paths in _by_structure(place, suffix).items():
                exact = [p for p in paths if _bears(p.name, structure, suffix)]
                masks[structure] = (exact or paths)[0]
                rivals[structure] = () if len(exact or paths) == 1 else paths
    map_path = next((p for n in COMBINED_NAMES for p in files if p.name.lower() == n), None)
    if map_path is None and not masks:
        return None
    return CaseLabels(
        folder.name,
        map_path=map_path,
        mask_paths=masks,
        rivals={s: paths for s, paths in rivals.items() if paths},
        label_map=label_map,
        dataset=dataset,
    )


def _by_structure(files: list[Path], suffix: str) -> dict[str, tuple[Path, ...]]:
    """Files whose names mean a structure, by structure."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in files:
        structure = find_structure(path.name) if path.name.lower().endswith(suffix) else None
        if structure:
            found[structure] = (*found.get(structure, ()), path)
    return found


def _bears(name: str, structure: str, suffix: str) -> bool:
    """Whether a file is called exactly as the structure; capitals in the suffix do not matter."""
    return name.startswith(structure) and name.lower() == structure + suffix


def _files(folder: Path) -> list[Path]:
    """The files of a folder but hidden ones, sorted; none where there is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if e.is_file() and e.name[0] != ".")


def identify_label_space(combined: LabelArray, masks: Mapping[str, Mask]) -> LabelSpace | None:
    """Which ids a combined map uses, found by comparing it with separate masks.

    Args:
        combined: (i, j, k) label map.
        masks: structure to mask on the same grid.

    Returns:
        The label space under which at least nine in ten masks agree with the map, or None.
    """
    inside = {s: label_counts_inside(combined, m) for s, m in masks.items() if m.any()}
    return label_space_of_counts(label_counts(combined), inside)


def label_space_of_counts(
    sizes: NDArray[np.int64], inside: Mapping[str, NDArray[np.int64]]
) -> LabelSpace | None:
    """The same from counts.

    Args:
        sizes: (n,) voxels of each value of the combined map.
        inside: structure to (n,) voxels of each value within its mask; no empty masks.
    """
    best: tuple[float, LabelSpace] | None = None
    for space in (PANTS, PANTS_ALPHABETICAL):
        agreeing = 0
        for structure, counts in inside.items():
            ids = list(space.evaluation_ids(structure))
            dsc = 2 * counts[ids].sum() / (counts.sum() + sizes[ids].sum())
            agreeing += bool(dsc > _IDENTIFIED_DSC)
        share = agreeing / max(len(inside), 1)
        if best is None or share > best[0]:
            best = (share, space)
    return best[1] if best and best[0] >= 0.9 else None


def declared_structures(folder: Path) -> tuple[str, ...] | None:
    """The `annotated` list of the nearest dataset.json of ours in a folder or its parents."""
    data = _nearest_dataset_json(folder)
    annotated = data.get("annotated") if data else None
    return None if annotated is None else tuple(annotated)


def _find_cases(path: Path, label_map: LabelMap | None, split: str | None) -> Iterator[CaseLabels]:
    if path.is_file():
        yield CaseLabels(_stem(path), map_path=path, label_map=label_map)
        return
    if is_one_case(path):
        one = labels_in(path.absolute(), label_map=label_map)
        if one is not None:
            yield one
        return
    splits = [split] if split else list(SPLIT_FOLDERS)
    folders = [path / SPLIT_FOLDERS[s][1] for s in splits]
    is_dataset = any((path / name).is_dir() for pair in SPLIT_FOLDERS.values() for name in pair)
    for folder in folders if is_dataset else [path]:
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                labels = labels_in(entry, label_map=label_map, dataset=path)
                if labels is not None:
                    yield labels
            elif entry.name.lower().endswith((".nii", ".nii.gz")):
                yield CaseLabels(_stem(entry), map_path=entry, label_map=label_map)


def is_one_case(path: Path) -> bool:
    """Whether a path is one case's label map or folder, and no collection of cases."""
    if path.is_file():
        return True
    return (path / SEGMENTATIONS).is_dir() or _holds_combined(path) or _holds_masks_alone(path)


def _holds_combined(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(e.name.lower() in COMBINED_NAMES and e.is_file() for e in entries)


def _holds_masks_alone(folder: Path) -> bool:
    """Whether a folder is one case's: all its volumes bear the very names of structures."""
    stems = [_stem(p) for p in _files(folder) if _stem(p) != p.name]
    return bool(stems) and all(stem in STRUCTURES for stem in stems)


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


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
