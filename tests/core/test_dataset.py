from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from numpy.typing import NDArray

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.dataset import (
    METADATA_COLUMNS,
    Dataset,
    mask_path,
    write_case_labels,
)
from pantskit.core.errors import DatasetError, GeometryError, LabelError
from pantskit.core.files import content_hash
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, STRUCTURES
from pantskit.core.labelsets import COMBINED, LABELS_STAGE
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import Volume, read_header
from pantskit.core.writing import write_volume

SHAPE = (6, 5, 4)
GRID = Geometry.from_spacing(SHAPE, (0.8, 0.8, 2.5))
Mask = NDArray[np.bool_]


def box(*where: slice | int) -> Mask:
    mask = np.zeros(SHAPE, np.bool_, order="F")
    if where:
        mask[where] = True
    return mask


def write_image(dataset: Dataset, case_id: str, split: str = "train") -> None:
    write_volume(dataset.image_path(case_id, split), Volume(np.zeros(SHAPE, np.int16), GRID))


def test_a_new_dataset_declares_what_it_is(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "a" / "mine", annotated=("liver",))
    info = json.loads((dataset.root / "dataset.json").read_text())
    assert info == {
        "name": "mine",
        "version": "0",
        "label_space": "pants",
        "annotated": ["liver"],
        "orientation": "LAI",
        "counts": {"train": 0, "test": 0},
    }


def test_a_dataset_is_gone_on_with(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path, name="first")
    write_image(dataset, "c1")
    again = Dataset.create(tmp_path)
    assert again.info["name"] == "first"
    assert again.info["counts"] == {"train": 1, "test": 0}
    assert set(again.info["annotated"]) == set(STRUCTURES)


def test_a_place_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "ImagesOfMyCat").mkdir()
    with pytest.raises(DatasetError, match=r"not empty and no dataset \(it holds ImagesOfMyCat\)"):
        Dataset.create(tmp_path)
    with pytest.raises(DatasetError, match="is a file"):
        Dataset.create(tmp_path / "thesis.txt")
    with pytest.raises(DatasetError, match="cannot be made: Not a directory"):
        Dataset.create(tmp_path / "thesis.txt" / "x")
    assert not (tmp_path / "dataset.json").exists()


def test_a_folder_that_holds_only_hidden_files_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("")
    Dataset.create(tmp_path)


def test_what_is_no_dataset_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone: no such folder"):
        Dataset.open(tmp_path / "gone")
    with pytest.raises(DatasetError, match="not a dataset; expected folders ImageTr, LabelTr, Im"):
        Dataset.open(tmp_path)
    (tmp_path / "ImageTr").mkdir()
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"dataset\.json: expected an object"):
        Dataset.open(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json: not JSON"):
        Dataset.open(tmp_path)


def test_cases_have_an_image_or_labels(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path)
    write_image(dataset, "c2")
    write_image(dataset, "c3", "test")
    write_case_labels(dataset, "c1", "train", {"liver": box(0)}, GRID)
    (tmp_path / "ImageTr" / ".cache").mkdir()
    (tmp_path / "ImageTr" / "notes.txt").write_text("")
    assert [(c.case_id, c.split) for c in dataset.cases()] == [
        ("c1", "train"),
        ("c2", "train"),
        ("c3", "test"),
    ]
    assert [c.case_id for c in dataset.cases("test")] == ["c3"]
    assert dataset.case("c2").labels() is None
    assert dataset.case("c2").image_path.is_file()
    assert not dataset.case("c1").image_path.exists()
    with pytest.raises(DatasetError, match="no case c9"):
        dataset.case("c9")
    with pytest.raises(DatasetError, match="split 'validation' is unknown; it is train or test"):
        dataset.cases("validation")


def test_a_case_in_both_splits_is_refused(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path)
    write_image(dataset, "c1")
    write_image(dataset, "c1", "test")
    with pytest.raises(DatasetError, match="c1 is in both splits"):
        dataset.cases()


# The public release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The folders of the public release: two cases, one table, nothing of ours."""
    for folder, case_id in (("Tr", "PanTS_00000001"), ("Te", "PanTS_00009001")):
        image = tmp_path / f"Image{folder}" / case_id / "ct.nii.gz"
        write_volume(image, Volume(np.zeros(SHAPE, np.int16), GRID))
        mask = mask_path(tmp_path / f"Label{folder}" / case_id, "pancreas")
        write_volume(mask, Volume(box(2), GRID))
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["PanTS ID", "ct phase", "sex", "age", "manufacturer model", "site nationality"])
    sheet.append(["PanTS_00000001", "Venous", "M ", 66, "Sensation 16", "US"])
    sheet.append(["PanTS_00009001", "Non-contrast", None, None, None, None])
    book.save(tmp_path / "metadata.xlsx")
    return tmp_path


def test_the_public_release_opens_as_it_is(release: Path) -> None:
    dataset = Dataset.open(release)
    assert [(c.case_id, c.split) for c in dataset.cases()] == [
        ("PanTS_00000001", "train"),
        ("PanTS_00009001", "test"),
    ]
    labels = dataset.case("PanTS_00000001").labels()
    assert labels is not None
    assert labels.structures() == ("pancreas",)
    np.testing.assert_array_equal(labels.mask("pancreas"), box(2))


def test_the_releases_table_is_read_in_our_words(release: Path) -> None:
    metadata = Dataset.open(release).metadata
    assert metadata["PanTS_00000001"] == {
        "case_id": "PanTS_00000001",
        "phase": "portal_venous",
        "sex": "M",
        "age_years": 66,
        "model": "Sensation 16",
        "nationality": "US",
    }
    assert metadata["PanTS_00009001"]["phase"] == "non_contrast"
    assert metadata["PanTS_00009001"]["sex"] is None


def test_the_real_metadata_of_the_release(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "cohort" / "metadata_pants.csv"
    (tmp_path / "ImageTr").mkdir()
    (tmp_path / "metadata.csv").write_bytes(source.read_bytes())
    metadata = Dataset.open(tmp_path).metadata
    assert len(metadata) == 9901
    first = metadata["PanTS_00000001"]
    assert (first["phase"], first["sex"], first["age_years"]) == ("non_contrast", "F", 66)
    assert (first["manufacturer"], first["model"]) == ("SIEMENS", "Sensation 16")
    assert {row["phase"] for row in metadata.values()} == {
        "non_contrast",
        "arterial",
        "portal_venous",
        "delayed",
        None,
    }
    assert sum(row["lesions"] for row in metadata.values()) == 1077
    assert {row["sex"] for row in metadata.values()} == {"F", "M", None}


def test_a_dataset_without_a_table_has_no_metadata(tmp_path: Path) -> None:
    assert Dataset.create(tmp_path).metadata == {}


def test_metadata_is_written_and_read_sorted(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path)
    dataset.write_metadata(
        [
            {"case_id": "c2", "spacing": [0.8, 0.8, 2.5], "lesions": 0},
            {"case_id": "c1", "phase": "arterial", "lesions": 1},
        ]
    )
    assert list(dataset.metadata) == ["c1", "c2"]
    assert dataset.metadata["c2"]["spacing"] == [0.8, 0.8, 2.5]
    assert dataset.metadata["c1"]["phase"] == "arterial"
    header = (tmp_path / "metadata.csv").read_text().splitlines()[0]
    assert header == ",".join(METADATA_COLUMNS)
    dataset.write_metadata([{"case_id": "c3"}])
    assert list(dataset.metadata) == ["c3"]


# Labels of a case


def test_labels_are_written_as_masks_a_declared_map_and_a_record(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path)
    masks = {"liver": box(slice(0, 3)), "aorta": box(2), "spleen": box()}
    data = write_case_labels(dataset, "c1", "train", masks, GRID)
    assert data == {
        "label_space": "pants",
        "exact_in_combined": ["aorta", "spleen"],
        "voxels": {"liver": 60, "aorta": 20, "spleen": 0},
    }
    folder = tmp_path / "LabelTr" / "c1"
    assert sorted(p.name for p in (folder / "segmentations").iterdir()) == [
        "aorta.nii.gz",
        "liver.nii.gz",
        "spleen.nii.gz",
    ]
    combined = read_label_map(folder / COMBINED)
    assert combined.label_space == "pants"
    np.testing.assert_array_equal(combined.array, PANTS.combine(masks))
    assert read_header(mask_path(folder, "liver")).dtype == np.uint8
    record = dataset.records.read(LABELS_STAGE, "c1")
    assert record is not None
    assert record.data["exact_in_combined"] == ["aorta", "spleen"]
    assert record.data["hashes"][COMBINED] == content_hash(folder / COMBINED)
    assert record.data["hashes"]["liver"] == content_hash(mask_path(folder, "liver"))


def test_masks_and_their_codes_give_the_same_files(tmp_path: Path) -> None:
    masks = {"liver": box(slice(0, 3)), "aorta": box(2), "spleen": box()}
    given = {"masks": masks, "codes": CodedMasks.from_masks(masks)}
    found = {}
    for name, labels in given.items():
        dataset = Dataset.create(tmp_path / name)
        data = write_case_labels(dataset, "c1", "train", labels, GRID)
        folder = dataset.labels_path("c1", "train")
        files = {p.name: p.read_bytes() for p in folder.rglob("*.nii.gz")}
        found[name] = data, files
    assert found["masks"] == found["codes"]
    assert len(found["masks"][1]) == 4


def test_no_mask_is_in_memory_whole_while_labels_are_written(tmp_path: Path) -> None:
    shape = (256, 256, 160)  # 10 MB a mask
    coded = CodedMasks.empty(shape)
    mask = np.zeros(shape, np.bool_, order="F")
    for n, structure in enumerate(STRUCTURES):
        mask[:] = False
        mask[20:200, 20:200, 5 * n : 5 * n + 20] = True
        coded.add(structure, mask)
    grid = Geometry.from_spacing(shape, (1, 1, 1))
    tracemalloc.start()
    try:
        write_case_labels(Dataset.create(tmp_path), "c1", "train", coded, grid)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_rewritten_labels_keep_no_mask_of_before(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path)
    write_case_labels(dataset, "c1", "train", {"liver": box(0), "spleen": box(1)}, GRID)
    folder = tmp_path / "LabelTr" / "c1" / "segmentations"
    (folder / "esophagus.nii.gz").write_bytes(b"not ours")
    write_case_labels(dataset, "c1", "train", {"liver": box(3)}, GRID)
    assert sorted(p.name for p in folder.iterdir()) == ["esophagus.nii.gz", "liver.nii.gz"]
    labels = dataset.case("c1").labels()
    assert labels is not None
    assert labels.structures() == ("liver",)
    np.testing.assert_array_equal(labels.mask("liver"), box(3))


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        ({}, LabelError, "masks of one shape are needed"),
        ({"gut": box(0)}, LabelError, "c1: gut: none of the 28 structures"),
        ({"liver": np.zeros((2, 2, 2), np.bool_)}, GeometryError, "do not fit their grid"),
    ],
)
def test_labels_that_cannot_be_written_leave_what_was_there(
    masks: dict[str, Mask], error: type[Exception], message: str, tmp_path: Path
) -> None:
    dataset = Dataset.create(tmp_path)
    with pytest.raises(error, match=message):
        write_case_labels(dataset, "c1", "train", masks, GRID)
    assert dataset.cases() == []
    write_case_labels(dataset, "c1", "train", {"spleen": box(1)}, GRID)
    with pytest.raises(error, match=message):
        write_case_labels(dataset, "c1", "train", masks, GRID)
    labels = dataset.case("c1").labels()
    assert labels is not None
    assert labels.structures() == ("spleen",)
