"""What there is to predict: cases of a dataset, NIfTI files, or folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pantskit.core.dataset import IMAGE_NAME, Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.labelsets import SPLIT_FOLDERS
from pantskit.core.selection import require_cases

_SUFFIXES = (".nii.gz", ".nii")
_CHANNEL = "_0000"  # nnU-Net numbers its input channels


def find_inputs(
    path: Path, *, split: str | None = None, cases: Sequence[str] | None = None
) -> dict[str, Path]:
    """The CTs under a path.

    Args:
        path: a dataset, one NIfTI file, or a folder of `<case_id>.nii.gz`,
            `<case_id>_0000.nii.gz` or `<case_id>/ct.nii.gz`.
        split: of a dataset; `"test"` when None.
        cases: only these.

    Returns:
        case_id to its CT, by case_id; the file of a dataset's case may be missing.

    Raises:
        DatasetError: If there is no CT, one case twice, or a wanted case is not there.
    """
    path = Path(path)
    if path.is_file():
        found = {_case_id(path): path}
    elif any((path / folder).is_dir() for pair in SPLIT_FOLDERS.values() for folder in pair):
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
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and (entry / IMAGE_NAME).is_file():
            case_id, image = entry.name, entry / IMAGE_NAME
        elif entry.is_file() and entry.name.endswith(_SUFFIXES):
            case_id, image = _case_id(entry), entry
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


def _case_id(path: Path) -> str:
    if path.name == IMAGE_NAME:
        return path.absolute().parent.name  # <case_id>/ct.nii.gz
    name = path.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removesuffix(_CHANNEL)
