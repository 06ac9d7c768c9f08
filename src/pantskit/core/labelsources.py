"""Where labels lie: the cases of a dataset, a predictions folder, label maps, one case's masks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pantskit.core.errors import DatasetError
from pantskit.core.labels import STRUCTURES, LabelMap, find_structure
from pantskit.core.labelsets import COMBINED_NAMES, SEGMENTATIONS, CaseLabels

SPLIT_FOLDERS = {"train": ("ImageTr", "LabelTr"), "test": ("ImageTe", "LabelTe")}


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
