"""Where labels come from: folders and files as they occur."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from label_files import GRID, SHAPE, box, case_masks, save_map, save_mask

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.errors import DatasetError, LabelError
from pantskit.core.labels import (
    PANTS,
    STRUCTURES,
    Annotation,
    LabelMap,
)
from pantskit.core.labelsets import COMBINED
from pantskit.core.labelsources import is_one_case, labels_in, open_label_source


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    dataset = Dataset.create(tmp_path / "data")
    write_case_labels(dataset, "c1", "train", case_masks(), GRID)
    return dataset


def test_a_dataset_is_a_source_by_split(dataset: Dataset) -> None:
    write_case_labels(dataset, "c2", "test", {"liver": box(0)}, GRID)
    assert list(open_label_source(dataset.root)) == ["c1", "c2"]
    assert list(open_label_source(dataset.root, split="test")) == ["c2"]
    found = open_label_source(dataset.root)["c1"]
    assert "aorta" in found._exact_in_map()


def test_an_empty_split_is_named(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="no labels in its test split"):
        open_label_source(dataset.root, split="test")


def test_a_flat_folder_of_nnunets_predictions_is_a_source(tmp_path: Path) -> None:
    labels = {"background": 0, "pancreas": 1, "pancreatic_lesion": 2, "thing": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    array = np.zeros(SHAPE, np.uint8)
    array[1], array[2], array[3] = 1, 2, 3
    save_map(tmp_path / "case_b.nii.gz", array)
    save_map(tmp_path / "case_a.nii", np.zeros(SHAPE, np.uint8))
    (tmp_path / "plans.json").write_text("{}")
    found = open_label_source(tmp_path)
    assert list(found) == ["case_a", "case_b"]
    assert found["case_b"].structures() == ("pancreas", "pancreatic_lesion")
    np.testing.assert_array_equal(found["case_b"].mask("pancreas"), (array == 1) | (array == 2))
    np.testing.assert_array_equal(found["case_b"].mask("pancreatic_lesion"), array == 2)
    assert found["case_a"].annotation("pancreas") is Annotation.EMPTY
    assert found["case_a"].mask("liver") is None


def test_capitals_in_a_suffix_do_not_hide_a_file(tmp_path: Path) -> None:
    full = np.ones(SHAPE, np.uint8)
    flat, masks, maps = (tmp_path / name for name in ("flat", "masks", "maps"))
    save_map(tmp_path / "x.nii.gz", full, space="pants")
    for path in (
        flat / "case_a.NII.GZ",
        masks / "c" / "segmentations" / "liver.NII.GZ",
        maps / "c" / "COMBINED_labels.Nii.gz",
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes((tmp_path / "x.nii.gz").read_bytes())
    assert list(open_label_source(flat)) == ["case_a"]
    assert open_label_source(masks)["c"].structures() == ("liver",)
    np.testing.assert_array_equal(open_label_source(masks)["c"].mask("liver"), full == 1)
    assert open_label_source(maps)["c"].map_path == maps / "c" / "COMBINED_labels.Nii.gz"
    assert list(open_label_source(maps / "c")) == ["c"]


def test_two_spellings_of_one_suffix_are_two_masks_of_a_structure(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    path = save_mask(tmp_path / "c" / "liver.nii.gz", box(0))
    path.with_name("liver.NII.GZ").write_bytes(path.read_bytes())
    labels = open_label_source(tmp_path)["c"]
    with pytest.raises(LabelError, match=r"liver.NII.GZ and liver.nii.gz all mean liver"):
        labels.mask("liver")
    with pytest.raises(LabelError, match="all mean liver"):
        labels.mask_crop("liver")


def test_the_msds_folder_is_a_source(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "pancreas", "2": "cancer"}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    save_map(tmp_path / "labelsTr" / "pancreas_001.nii.gz", np.ones(SHAPE, np.uint8))
    found = open_label_source(tmp_path / "labelsTr")
    assert list(found) == ["pancreas_001"]
    with pytest.raises(LabelError, match=r"'cancer'.*--label-map, as msd_pancreas"):
        found["pancreas_001"].annotation("pancreas")
    msd = LabelMap.parse("msd_pancreas")
    found = open_label_source(tmp_path / "labelsTr", label_map=msd)
    assert found["pancreas_001"].annotation("pancreas") is Annotation.PRESENT


def test_a_folder_of_combined_maps_is_a_source(tmp_path: Path) -> None:
    array = PANTS.combine(case_masks())
    save_map(tmp_path / "c1" / COMBINED, array, space="pants")
    (tmp_path / "c1" / "prediction.json").write_text("{}")
    (tmp_path / ".pantskit").mkdir()
    found = open_label_source(tmp_path)
    assert list(found) == ["c1"]
    for structure in ("pancreas", "aorta", "pancreatic_lesion", "kidney_left"):
        np.testing.assert_array_equal(found["c1"].mask(structure), case_masks()[structure])
    # Nothing says what was annotated, so it is all of the space.
    assert found["c1"].structures() == tuple(STRUCTURES)


@pytest.mark.parametrize("inner", ["", "segmentations"])
def test_a_folder_of_masks_a_case_is_a_source(inner: str, tmp_path: Path) -> None:
    save_mask(tmp_path / "c1" / inner / "liver.nii.gz", box(0))
    save_mask(tmp_path / "c1" / inner / "gallbladder.nii", box(1))
    labels = open_label_source(tmp_path)["c1"]
    assert labels.structures() == ("gall_bladder", "liver")
    np.testing.assert_array_equal(labels.mask("gall_bladder"), box(1))
    assert labels.mask("pancreas") is None


def test_one_file_and_one_cases_folder_are_sources(dataset: Dataset) -> None:
    folder = dataset.labels_path("c1", "train")
    one = open_label_source(folder)
    assert list(one) == ["c1"]
    np.testing.assert_array_equal(one["c1"].mask("liver"), case_masks()["liver"])
    single = open_label_source(folder / COMBINED)
    np.testing.assert_array_equal(single["combined_labels"].mask("aorta"), case_masks()["aorta"])


def test_no_labels_and_no_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone: no such file or folder"):
        open_label_source(tmp_path / "gone")
    save_map(tmp_path / "c1" / "ct.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(DatasetError, match="no labels; expected a dataset"):
        open_label_source(tmp_path)


def test_one_case_in_two_places_is_refused(dataset: Dataset) -> None:
    write_case_labels(dataset, "c1", "test", {"liver": box(0)}, GRID)
    with pytest.raises(DatasetError, match="case c1 is there twice"):
        open_label_source(dataset.root)


def test_one_case_under_two_names_is_refused(tmp_path: Path) -> None:
    for name in ("c1.nii", "c1.nii.gz"):
        save_map(tmp_path / name, np.zeros(SHAPE, np.uint8))
    with pytest.raises(DatasetError, match="case c1 is there twice"):
        open_label_source(tmp_path, label_map=LabelMap.parse("1=liver"))


def test_two_files_that_mean_one_structure_are_refused(tmp_path: Path) -> None:
    for name in ("livertumor1", "livertumor2", "spleen"):
        save_mask(tmp_path / "c1" / f"{name}.nii.gz", box(0))
    labels = open_label_source(tmp_path)["c1"]
    with pytest.raises(LabelError) as error:
        labels.mask("liver")
    assert str(error.value) == (
        "c1: livertumor1.nii.gz and livertumor2.nii.gz all mean liver; keep one, or unite them "
        "as liver.nii.gz"
    )
    np.testing.assert_array_equal(labels.mask("spleen"), box(0))


def test_the_very_name_of_a_structure_comes_before_its_synonyms(tmp_path: Path) -> None:
    save_mask(tmp_path / "c1" / "livertumor1.nii.gz", box(0))
    save_mask(tmp_path / "c1" / "liver.nii.gz", box(slice(0, 2)))
    labels = open_label_source(tmp_path)["c1"]
    np.testing.assert_array_equal(labels.mask("liver"), box(slice(0, 2)))


def test_the_releases_folder_and_format_come_first(tmp_path: Path) -> None:
    save_mask(tmp_path / "c1" / "liver.nii.gz", box(0))
    save_mask(tmp_path / "c1" / "segmentations" / "liver.nii.gz", box(1))
    np.savez(tmp_path / "c1" / "segmentations" / "liver.npz", data=box(2))
    save_mask(tmp_path / "c1" / "segmentations" / ".liver.nii.gz", box(3))
    labels = labels_in(tmp_path / "c1")
    assert labels is not None
    np.testing.assert_array_equal(labels.mask("liver"), box(1))


def test_no_labels_in_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "c1").mkdir()
    assert labels_in(tmp_path / "c1") is None
    assert labels_in(tmp_path / "gone") is None


def test_a_folder_of_masks_called_as_structures_is_one_case(tmp_path: Path) -> None:
    for structure, mask in case_masks().items():
        save_mask(tmp_path / "case" / f"{structure}.nii.gz", mask)
    assert is_one_case(tmp_path / "case")
    (labels,) = open_label_source(tmp_path / "case").values()
    assert labels.case_id == "case"
    assert set(labels.structures()) == set(case_masks())
    # A file more that is none makes it a folder of label maps.
    save_mask(tmp_path / "case" / "021.nii.gz", np.zeros(GRID.shape, np.bool_))
    assert not is_one_case(tmp_path / "case")
