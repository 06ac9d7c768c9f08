"""Datasets on disk: the layout of the public PanTS release, read as it is and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pantskit.core.codedmasks import CodedMasks, ids_of
from pantskit.core.copies import read_copies
from pantskit.core.errors import DatasetError, GeometryError, LabelError
from pantskit.core.files import write_json
from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry
from pantskit.core.labels import PANTS, STRUCTURES, Mask, find_structure
from pantskit.core.labelsets import COMBINED, LABELS_STAGE, SEGMENTATIONS, CaseLabels
from pantskit.core.labelsources import SPLIT_FOLDERS, labels_in
from pantskit.core.records import CaseRecord, RecordStore, read_table, write_table
from pantskit.core.workbook import write_workbook
from pantskit.core.writing import write_labels

SPLITS = tuple(SPLIT_FOLDERS)
IMAGE_NAME = "ct.nii.gz"
_FOLDERS = tuple(name for pair in SPLIT_FOLDERS.values() for name in pair)

METADATA_COLUMNS = (
    "case_id",
    "patient_id",
    "split",
    "shape",
    "spacing",
    "slice_thickness_mm",
    "phase",
    "phase_source",
    "sex",
    "age_years",
    "manufacturer",
    "model",
    "kvp",
    "study_type",
    "body_part",
    "regions",
    "head_in_view",
    "body_truncated",
    "site",
    "nationality",
    "study_year",
    "days_since_first_study",
    "diagnosis",
    "diagnosis_basis",
    "lesions",
)
PHASES = ("non_contrast", "arterial", "portal_venous", "delayed")

# The release's column names and words, in ours.
_RELEASE_COLUMNS = {
    "pants id": "case_id",
    "bdmap id": "case_id",
    "id": "case_id",
    "ct phase": "phase",
    "age": "age_years",
    "manufacturer model": "model",
    "study type": "study_type",
    "site detail": "site_detail",
    "site nationality": "nationality",
    "study year": "study_year",
    "number of pancreatic lesion instances": "lesions",
}
_RELEASE_PHASES = {
    "non-contrast": "non_contrast",
    "venous": "portal_venous",
    "portal venous": "portal_venous",
    "delay": "delayed",
}


@dataclass(frozen=True)
class Case:
    """One CT with its masks.

    Attributes:
        case_id: as in file names.
        split: `"train"` or `"test"`.
        image_path: the CT; the file may be missing where only labels were downloaded.
        labels_path: folder of its labels; may be missing.
        root: folder of the dataset.
    """

    case_id: str
    split: str
    image_path: Path
    labels_path: Path
    root: Path

    def labels(self) -> CaseLabels | None:
        """Its labels, or None where nothing is annotated."""
        if not self.labels_path.is_dir():
            return None
        return labels_in(self.labels_path, dataset=self.root)


class Dataset:
    """A folder of cases in the release's layout."""

    def __init__(self, root: Path, info: Mapping[str, Any]) -> None:
        self.root = Path(root)
        self.info = dict(info)
        self.records = RecordStore(self.root)
        self._metadata: dict[str, dict[str, Any]] | None = None

    @classmethod
    def open(cls, root: Path) -> Dataset:
        """Open a dataset of ours or the public release's folders.

        Raises:
            DatasetError: If the folder is missing or has no case folders.
        """
        root = Path(root)
        if not root.is_dir():
            raise DatasetError(f"{root}: no such folder")
        if not any((root / name).is_dir() for name in _FOLDERS):
            raise DatasetError(
                f"{root}: not a dataset; expected folders {', '.join(_FOLDERS)} "
                "(make one with `pantskit ingest` or `pantskit phantom`)"
            )
        return cls(root, _read_info(root))

    @classmethod
    def create(
        cls, root: Path, *, name: str | None = None, annotated: Iterable[str] | None = None
    ) -> Dataset:
        """Open a dataset to write to, made where it is not there yet.

        Raises:
            DatasetError: If the place holds something else.
        """
        root = Path(root)
        if root.exists() and not root.is_dir():
            raise DatasetError(f"{root}: is a file; give a folder for the dataset")
        names = {p.name for p in root.iterdir()} if root.is_dir() else set()
        foreign = sorted(n for n in names if not n.startswith("."))
        if foreign and not names & {"dataset.json", ".pantskit", *_FOLDERS}:
            raise DatasetError(
                f"{root}: is not empty and no dataset (it holds {foreign[0]}); give a new folder"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{root}: cannot be made: {error.strerror}") from None
        info = {
            "name": name or root.name,
            "version": "0",
            "label_space": PANTS.name,
            "annotated": list(STRUCTURES if annotated is None else annotated),
            "orientation": STANDARD_ORIENTATION,
            **_read_info(root),
        }
        dataset = cls(root, info)
        dataset.write_info()
        return dataset

    def write_info(self) -> None:
        """Write dataset.json with the counts of now."""
        counts = {split: len(self.cases(split)) for split in SPLITS}
        self.info["counts"] = counts
        write_json(self.root / "dataset.json", self.info)

    def image_path(self, case_id: str, split: str) -> Path:
        """Where a case's CT lies."""
        return self.root / _folders(split)[0] / case_id / IMAGE_NAME

    def labels_path(self, case_id: str, split: str) -> Path:
        """The folder of a case's labels."""
        return self.root / _folders(split)[1] / case_id

    def cases(self, split: str | None = None) -> list[Case]:
        """Cases with an image or labels, by ID; of both splits when None.

        Raises:
            DatasetError: If the split is unknown or a case lies in both.
        """
        found: dict[str, Case] = {}
        for one in SPLITS if split is None else (split,):
            names = {
                entry.name
                for folder in _folders(one)
                if (self.root / folder).is_dir()
                for entry in (self.root / folder).iterdir()
                if entry.is_dir() and not entry.name.startswith(".")
            }
            for case_id in sorted(names):
                if case_id in found:
                    raise DatasetError(f"{self.root}: {case_id} is in both splits; remove one")
                found[case_id] = Case(
                    case_id,
                    one,
                    self.image_path(case_id, one),
                    self.labels_path(case_id, one),
                    self.root,
                )
        return [found[c] for c in sorted(found)]

    def case(self, case_id: str) -> Case:
        """One case.

        Raises:
            DatasetError: If it is not there.
        """
        for case in self.cases():
            if case.case_id == case_id:
                return case
        raise DatasetError(f"{self.root}: no case {case_id}")

    @property
    def metadata(self) -> dict[str, dict[str, Any]]:
        """case_id to its metadata row in our column names; empty where there is no table.

        Patients are those of `core/copies.py`, where it knows more than the table.
        """
        if self._metadata is None:
            self._metadata = {}
            for path in metadata_tables(self.root)[:1]:
                rows = metadata_rows(path)
                self._metadata = {str(r["case_id"]): r for r in rows if r.get("case_id")}
            for case_id, patient in read_copies(self.root).patients.items():
                self._metadata.setdefault(case_id, {"case_id": case_id})["patient_id"] = patient
        return self._metadata

    def write_metadata(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write metadata.parquet, .csv and .xlsx, one row a case, sorted by case_id."""
        table = sorted((dict(r) for r in rows), key=lambda r: str(r["case_id"]))
        write_table(self.root / "metadata", table, columns=METADATA_COLUMNS)
        columns = list(dict.fromkeys([*METADATA_COLUMNS, *(name for row in table for name in row)]))
        cells = ([row.get(name) for name in columns] for row in table)
        write_workbook(self.root / "metadata.xlsx", columns, cells)
        self._metadata = None


def metadata_tables(root: Path) -> list[Path]:
    """The metadata tables of a dataset; the first one is read."""
    paths = (root / f"metadata{suffix}" for suffix in (".parquet", ".csv", ".xlsx"))
    return [path for path in paths if path.is_file()]


def metadata_rows(path: Path, *, stripped: bool = True) -> list[dict[str, Any]]:
    """The rows of a metadata table, in our column names and words.

    Args:
        path: of the table.
        stripped: without spaces around texts.

    Raises:
        DatasetError: If it cannot be read.
    """
    return [_in_our_words(row, stripped=stripped) for row in read_table(path)]


def write_case_labels(
    dataset: Dataset,
    case_id: str,
    split: str,
    masks: Mapping[str, Mask] | CodedMasks,
    geometry: Geometry,
) -> dict[str, Any]:
    """Write a case's masks and combined map, and the record of what the map reproduces.

    No mask is ever in memory whole: each is looked up in the codes a slice at a time.

    Args:
        dataset: where to.
        case_id: the case.
        split: `"train"` or `"test"`.
        masks: every annotated structure, empty ones included; (i, j, k) bool, or their codes.
            A mask on disk of a structure that is not among them is removed.
        geometry: the grid of the masks, the CT's.

    Returns:
        For the stage's own record: label_space, exact_in_combined, voxels per structure.

    Raises:
        LabelError: If there is no mask, or one of no structure.
        GeometryError: If a mask does not fit the grid.
    """
    # Whatever is wrong with the masks shows before a file is touched.
    coded = masks if isinstance(masks, CodedMasks) else _coded(masks, case_id)
    if not coded.annotated:
        raise LabelError(f"{case_id}: no structure is annotated")
    if coded.shape != geometry.shape:
        raise GeometryError(
            f"{case_id}: masks of shape {coded.shape} do not fit their grid {geometry.shape}"
        )
    folder = dataset.labels_path(case_id, split)
    for path in (folder / SEGMENTATIONS).glob("[!.]*.nii.gz"):
        if path.name.removesuffix(".nii.gz") not in coded.annotated and find_structure(path.name):
            path.unlink()  # left by an earlier run whose labels had more structures
    hashes = {
        s: write_labels(mask_path(folder, s), geometry, coded.pieces({s: 1}))
        for s in coded.structures
    }
    hashes[COMBINED] = write_labels(
        folder / COMBINED, geometry, coded.pieces(ids_of(PANTS)), label_space=PANTS.name
    )
    data = {
        "label_space": PANTS.name,
        "exact_in_combined": coded.exact(PANTS),
        "voxels": coded.counts,
    }
    record = CaseRecord(case_id, LABELS_STAGE, "done", data=data | {"hashes": hashes})
    dataset.records.write(record)
    return data


def _coded(masks: Mapping[str, Mask], case_id: str) -> CodedMasks:
    try:
        return CodedMasks.from_masks(masks)
    except LabelError as error:
        raise LabelError(f"{case_id}: {error}") from None


def mask_path(labels_path: Path, structure: str) -> Path:
    """Where the mask of a structure lies in a case's labels folder."""
    return labels_path / SEGMENTATIONS / f"{structure}.nii.gz"


def _folders(split: str) -> tuple[str, str]:
    if split not in SPLIT_FOLDERS:
        raise DatasetError(f"split {split!r} is unknown; it is train or test")
    return SPLIT_FOLDERS[split]


def _read_info(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON: {error}") from None
    if not isinstance(info, dict):
        raise DatasetError(f"{path}: expected an object with name and label_space")
    return info


def _in_our_words(row: Mapping[str, Any], *, stripped: bool) -> dict[str, Any]:
    """A metadata row with the release's column names and phases in ours."""
    renamed: dict[str, Any] = {}
    for key, value in row.items():
        name = key.strip().lstrip("\ufeff")
        name = _RELEASE_COLUMNS.get(name.lower(), name)
        renamed[name] = value.strip() if stripped and isinstance(value, str) else value
    phase = renamed.get("phase")
    if isinstance(phase, str):
        renamed["phase"] = _RELEASE_PHASES.get(phase.lower(), phase.lower())
    return renamed
