"""What there is to predict: cases of a dataset, NIfTI files, or folders of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from pantskit.core.dataset import IMAGE_NAME, Dataset
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.labelsources import SPLIT_FOLDERS
from pantskit.core.selection import require_cases

_SUFFIXES = (".nii.gz", ".nii")
_CHANNEL = "_0000"  # nnU-Net numbers its input channels
_NUMBERED = re.compile(r"(.+)_\d{4}")


def find_inputs(
    path: Path, *, split: str | None = None, cases: Sequence[str] | None = None
) -> dict[str, Path]:
    """The CTs under a path.

    Args:
        path: a dataset, one NIfTI file, or a folder of `<case_id>.nii.gz`,
            `<case_id>_0000.nii.gz` or `<case_id>/ct.nii.gz`. Where `scan_0001` lies beside
            `scan_0000`, the numbers are the scans' own, and part of their IDs.
        split: of a dataset; `"test"` when None.
        cases: only these.

    Returns:
        case_id to its CT, by case_id; the file of a dataset's case may be missing.

    Raises:
        ConfigError: If a split is named and there is no dataset.
        DatasetError: If there is no CT, one case twice, or a wanted case is not there.
    """
    path = Path(path)
    dataset = any((path / folder).is_dir() for pair in SPLIT_FOLDERS.values() for folder in pair)
    if split is not None and path.exists() and not dataset:
        raise ConfigError(f"--split {split}: {path} is no dataset, which alone has splits")
    if path.is_file():
        found = {_case_id(path, _numbers_in(path.parent.glob("*.nii*"))): path}
    elif dataset:
        chosen = split or "test"
        found = {c.case_id: c.image_path for c in Dataset.open(path).cases(chosen)}
        if not found:
            raise DatasetError(f"{path}: no cases in its {chosen} split; name another with --split")
    elif path.is_dir():
        found = _in_folder(path)
    else:
        raise DatasetError(f"{path}: no such file or folder")
    if cases is not None:
        require_cases(cases, found, where=str(path))
        found = {case_id: found[case_id] for case_id in cases}
    return dict(sorted(found.items()))


def _in_folder(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    numbers = _numbers_in(folder.glob("*.nii*"))
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and (entry / IMAGE_NAME).is_file():
            case_id, image = entry.name, entry / IMAGE_NAME
        elif entry.is_file() and entry.name.endswith(_SUFFIXES):
            case_id, image = _case_id(entry, numbers), entry
        else:
            continue
        if case_id in found:
            raise DatasetError(
                f"{folder}: case {case_id} is there twice: {found[case_id].name} and "
                f"{image.name}; remove one"
            )
        found[case_id] = image
    if not found and _holds_dicom(folder):
        raise DatasetError(
            f"{folder}: DICOM; make a dataset of it with `pantskit ingest`, and predict that"
        )
    if not found:
        raise DatasetError(
            f"{folder}: no CT; expected a dataset, <case_id>.nii.gz, <case_id>_0000.nii.gz or "
            f"<case_id>/{IMAGE_NAME}"
        )
    return found


def _holds_dicom(folder: Path) -> bool:
    """Whether one of the first files below a folder is DICOM."""
    for path in islice((p for p in folder.rglob("*") if p.is_file()), 20):
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                return True
    return False


def _case_id(path: Path, numbers: Counter[str]) -> str:
    if path.name == IMAGE_NAME:
        return path.absolute().parent.name  # <case_id>/ct.nii.gz
    name = _stem(path)
    channel = name.removesuffix(_CHANNEL)
    return name if numbers[channel] > 1 else channel


def _stem(path: Path) -> str:
    name = path.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _numbers_in(paths: Iterable[Path]) -> Counter[str]:
    """How many files are numbered `<name>_0000`, `<name>_0001`, ...: by name."""
    found = (_NUMBERED.fullmatch(stem) for stem in {_stem(path) for path in paths})
    return Counter(match[1] for match in found if match)
