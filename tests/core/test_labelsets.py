from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from label_files import GRID, SHAPE, Mask, box, case_masks, save_map, save_mask

from pantskit.core.dataset import Dataset, mask_path, write_case_labels
from pantskit.core.errors import GeometryError, ImageError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import (
    PANTS,
    PANTS_2CLASS,
    PANTS_ALPHABETICAL,
    STRUCTURES,
    Annotation,
    LabelMap,
)
from pantskit.core.labelsets import COMBINED, CaseLabels
from pantskit.core.labelsources import labels_in, open_label_source
from pantskit.core.labelspaces import identify_label_space
from pantskit.core.labelvolumes import read_label_map, read_mask
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume

MOVED = Geometry.from_spacing(SHAPE, (0.8, 0.9, 2.5), origin=(10, -20, 35))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    dataset = Dataset.create(tmp_path / "data")
    write_case_labels(dataset, "c1", "train", case_masks(), GRID)
    return dataset


# What a dataset of ours gives back


def test_masks_are_those_written_and_members_stay_in_the_pancreas(dataset: Dataset) -> None:
    labels = dataset.case("c1").labels()
    assert labels is not None
    assert labels.structures() == tuple(s for s in STRUCTURES if s in case_masks())
    assert labels.geometry.same_grid(GRID)
    found = labels.masks()
    assert list(found) == list(labels.structures())
    for structure, mask in case_masks().items():
        np.testing.assert_array_equal(found[structure], mask)
    assert labels.faults == ()


def test_masks_are_the_same_from_the_map_and_from_their_own_files(dataset: Dataset) -> None:
    folder = dataset.labels_path("c1", "train")
    with_record = labels_in(folder, dataset=dataset.root)
    without = labels_in(folder)
    assert with_record is not None
    assert without is not None
    assert with_record._exact_in_map() == {
        "aorta",
        "kidney_left",
        "pancreas",
        "pancreas_head",
        "pancreatic_lesion",
    }
    assert without._exact_in_map() == set()
    for structure in STRUCTURES:
        a, b = with_record.mask(structure), without.mask(structure)
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.dtype == b.dtype == np.bool_
            np.testing.assert_array_equal(a, b)


def test_an_exact_structure_is_read_from_the_map_alone(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(path: Path) -> Volume:
        read.append(path.name)
        return read_mask(path)

    monkeypatch.setattr("pantskit.core.labelsets.read_mask", counted)
    labels = dataset.case("c1").labels()
    assert labels is not None
    labels.masks()
    assert sorted(read) == ["liver.nii.gz", "pancreas_tail.nii.gz"]


def test_present_empty_and_absent(dataset: Dataset) -> None:
    labels = dataset.case("c1").labels()
    assert labels is not None
    assert labels.annotation("liver") is Annotation.PRESENT
    assert labels.annotation("kidney_left") is Annotation.EMPTY
    assert labels.annotation("spleen") is Annotation.ABSENT
    assert labels.mask("spleen") is None
    empty = labels.mask("kidney_left")
    assert empty is not None
    assert not empty.any()


def test_a_mask_edited_after_writing_is_read_from_its_own_file(dataset: Dataset) -> None:
    edited = box(0, 0, 0)
    save_mask(mask_path(dataset.labels_path("c1", "train"), "aorta"), edited)
    labels = dataset.case("c1").labels()
    assert labels is not None
    np.testing.assert_array_equal(labels.mask("aorta"), edited)
    assert "aorta" not in labels._exact_in_map()
    assert "pancreas" in labels._exact_in_map()


def test_a_map_edited_after_writing_is_not_trusted(dataset: Dataset) -> None:
    folder = dataset.labels_path("c1", "train")
    save_map(folder / COMBINED, np.zeros(SHAPE, np.uint8), space="pants")
    labels = dataset.case("c1").labels()
    assert labels is not None
    assert labels._exact_in_map() == set()
    np.testing.assert_array_equal(labels.mask("aorta"), case_masks()["aorta"])


def test_a_lesion_added_by_hand_is_found(dataset: Dataset) -> None:
    folder = dataset.labels_path("c1", "train")
    save_mask(mask_path(folder, "spleen"), box(7))
    labels = dataset.case("c1").labels()
    assert labels is not None
    assert "spleen" in labels.structures()
    np.testing.assert_array_equal(labels.mask("spleen"), box(7))


def test_masks_are_painted_in_the_paint_order(dataset: Dataset) -> None:
    labels = dataset.case("c1").labels()
    assert labels is not None
    np.testing.assert_array_equal(labels.label_map(PANTS), PANTS.combine(case_masks()))
    two = labels.label_map(PANTS_2CLASS)
    assert two[6, 2, 1] == 2
    assert (two > 0).sum() == case_masks()["pancreas"].sum()
    assert (two == 2).sum() == 2


def test_a_case_with_none_of_the_structures_paints_nothing(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d")
    write_case_labels(dataset, "c1", "train", {"liver": box(0)}, GRID)
    labels = dataset.case("c1").labels()
    assert labels is not None
    with pytest.raises(LabelError, match="c1: none of the structures of pants_2class is annotated"):
        labels.label_map(PANTS_2CLASS)


def test_masks_on_different_grids_are_refused_with_the_case(dataset: Dataset) -> None:
    folder = dataset.labels_path("c1", "train")
    save_mask(mask_path(folder, "spleen"), box(7), MOVED)
    labels = dataset.case("c1").labels()
    assert labels is not None
    with pytest.raises(GeometryError, match=r"c1: spleen\.nii\.gz and other labels .* 5\.000 mm"):
        labels.mask("spleen")


def test_a_map_on_another_grid_than_the_masks_is_refused_each_time(tmp_path: Path) -> None:
    save_mask(tmp_path / "c1" / "liver.nii.gz", box(0))
    save_map(tmp_path / "c1" / COMBINED, np.ones(SHAPE, np.uint8), space="pants", grid=MOVED)
    labels = labels_in(tmp_path / "c1")
    assert labels is not None
    for _ in range(2):
        with pytest.raises(GeometryError, match="c1: label map and masks are on different grids"):
            labels.combined()
    np.testing.assert_array_equal(labels.mask("liver"), box(0))


def test_a_damaged_mask_is_an_error_and_not_an_empty_one(dataset: Dataset) -> None:
    path = mask_path(dataset.labels_path("c1", "train"), "liver")
    path.write_bytes(path.read_bytes()[:60])
    labels = dataset.case("c1").labels()
    assert labels is not None
    with pytest.raises(ImageError, match=r"liver\.nii\.gz"):
        labels.mask("liver")


def test_structures_come_from_the_map_only_where_it_is_known_to_be_exact(
    dataset: Dataset,
) -> None:
    labels = dataset.case("c1").labels()
    assert labels.ids_in_map("pancreatic_lesion") == (PANTS.id_of("pancreatic_lesion"),)
    assert labels.ids_in_map("pancreas_tail") is None  # the lesion is painted over it
    crop = labels.mask_crop("pancreas_tail")
    assert crop.start == (5, 1, 0)
    assert crop.array.shape == (2, 4, 6)
    assert crop.array.all()
    with pytest.raises(LabelError, match="has no mask of spleen"):
        labels.mask_crop("spleen")


def test_a_forgotten_map_is_read_again(dataset: Dataset) -> None:
    labels = CaseLabels("c1", map_path=dataset.case("c1").labels().map_path)
    before = labels.mask("liver")
    labels.forget()
    np.testing.assert_array_equal(labels.mask("liver"), before)


def test_a_dataset_json_of_ours_says_what_is_annotated(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(
        json.dumps({"label_space": "pants", "annotated": ["liver", "spleen", "pancreatic_lesion"]})
    )
    array = np.zeros(SHAPE, np.uint8)
    array[1], array[2] = 14, 3
    save_map(tmp_path / "c1" / COMBINED, array, space="pants")
    labels = open_label_source(tmp_path)["c1"]
    # The aorta was found though it is not on the list; the spleen is on it and empty.
    assert labels.structures() == ("aorta", "liver", "spleen", "pancreatic_lesion")
    assert labels.annotation("spleen") is Annotation.EMPTY
    assert labels.mask("veins") is None


def known_in(folder: Path, annotated: tuple[str, ...], *values: int) -> CaseLabels:
    """A map of the space `pants` with some voxels of each value, and what its folder declares."""
    folder.mkdir()
    said = {"label_space": "pants", "annotated": list(annotated)}
    (folder / "dataset.json").write_text(json.dumps(said))
    array = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        array[place] = value
    save_map(folder / "c1" / COMBINED, array, space="pants")
    return open_label_source(folder)["c1"]


@pytest.mark.parametrize("values", [(28,), ()])
def test_a_lesion_does_not_show_that_the_pancreas_is_annotated(
    values: tuple[int, ...], tmp_path: Path
) -> None:
    labels = known_in(tmp_path / "only", ("pancreatic_lesion",), *values)
    assert labels.structures() == ("pancreatic_lesion",)
    assert labels.mask("pancreas") is None
    assert labels.annotation("pancreas") is Annotation.ABSENT


def test_head_body_and_tail_together_are_the_pancreas(tmp_path: Path) -> None:
    parts = ("pancreas_head", "pancreas_body", "pancreas_tail")
    labels = known_in(tmp_path / "all", parts, 18, 19)  # no voxel of the tail
    assert labels.structures() == ("pancreas", "pancreas_body", "pancreas_head", "pancreas_tail")
    mask = labels.mask("pancreas")
    assert mask is not None
    assert mask.sum() == 2 * mask[0].size
    some = known_in(tmp_path / "some", parts[:2], 18, 19)
    assert some.structures() == ("pancreas_body", "pancreas_head")


# What ids mean


def test_an_undeclared_map_is_refused_and_the_option_named(tmp_path: Path) -> None:
    save_map(tmp_path / "c1.nii.gz", np.ones(SHAPE, np.uint8))
    labels = open_label_source(tmp_path)["c1"]
    for read in (labels.structures, lambda: labels.mask("liver"), labels.label_map_used):
        with pytest.raises(LabelError, match=r"c1: c1\.nii\.gz declares no label space; .*--label"):
            read()


def test_an_undeclared_map_among_ours_is_not_assumed_to_be_ours(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"label_space": "pants"}))
    save_map(tmp_path / "c1.nii.gz", np.ones(SHAPE, np.uint8))
    with pytest.raises(LabelError, match="declares no label space"):
        open_label_source(tmp_path)["c1"].structures()


def test_the_option_comes_before_what_a_file_declares(tmp_path: Path) -> None:
    save_map(tmp_path / "c1.nii.gz", np.full(SHAPE, 3, np.uint8), space="pants")
    label_map = LabelMap.parse("3=spleen")
    assert open_label_source(tmp_path)["c1"].annotation("aorta") is Annotation.PRESENT
    found = open_label_source(tmp_path, label_map=label_map)["c1"]
    assert found.structures() == ("spleen",)


def test_values_outside_the_map_are_refused(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.uint16)
    array[0], array[1] = 1, 300
    write_volume(tmp_path / "c1.nii.gz", Volume(array, GRID))
    label_map = LabelMap.parse("1=liver,2=spleen")
    labels = open_label_source(tmp_path, label_map=label_map)["c1"]
    with pytest.raises(LabelError, match=r"c1: .*c1\.nii\.gz: labels \[300\] are not in the"):
        labels.mask("liver")


def test_a_foreign_map_is_read_in_our_structures(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[0], array[1], array[2], array[3] = 1, 2, 3, 4
    save_map(tmp_path / "c1.nii.gz", array)
    labels = open_label_source(tmp_path, label_map=LabelMap.parse("panorama"))["c1"]
    np.testing.assert_array_equal(labels.mask("pancreatic_lesion"), array == 1)
    np.testing.assert_array_equal(labels.mask("pancreas"), np.isin(array, (1, 4)))
    np.testing.assert_array_equal(labels.mask("veins"), array == 2)
    assert labels.annotation("pancreatic_duct") is Annotation.EMPTY
    assert labels.mask("celiac_artery") is None  # id 3 is arteries of all kinds


def test_weak_structures_are_absent_where_a_map_has_no_voxel_of_them(tmp_path: Path) -> None:
    save_map(tmp_path / "c1.nii.gz", np.full(SHAPE, 4, np.uint8))
    labels = open_label_source(tmp_path, label_map=LabelMap.parse("panorama"))["c1"]
    assert labels.mask("pancreatic_lesion") is None  # not drawn is not tumour-free
    assert labels.mask("veins") is None


# Masks of the first release, without geometry


def test_npz_masks_take_the_maps_grid_and_say_so(tmp_path: Path) -> None:
    save_map(tmp_path / "c1" / COMBINED, np.zeros(SHAPE, np.uint8))
    np.savez_compressed(tmp_path / "c1" / "liver.npz", data=box(2).astype(np.uint8))
    labels = labels_in(tmp_path / "c1")
    assert labels is not None
    assert labels.geometry.same_grid(GRID)
    np.testing.assert_array_equal(labels.mask("liver"), box(2))
    assert labels.faults == (
        "liver.npz: mask has no geometry of its own; the other labels' was taken",
    )


def test_npz_masks_alone_have_no_place(tmp_path: Path) -> None:
    (tmp_path / "c1").mkdir()
    np.savez(tmp_path / "c1" / "liver.npz", data=box(2))
    labels = labels_in(tmp_path / "c1")
    assert labels is not None
    with pytest.raises(LabelError, match=r"c1: \.npz masks need a combined map for their grid"):
        labels.mask("liver")


@pytest.mark.parametrize("damage", ["text", "cut", "no data", "array", "object", "shape"])
def test_npz_files_that_hold_no_mask_are_refused(damage: str, tmp_path: Path) -> None:
    save_map(tmp_path / "c1" / COMBINED, np.zeros(SHAPE, np.uint8))
    path = tmp_path / "c1" / "liver.npz"
    rng = np.random.default_rng(0)
    np.savez_compressed(path, data=rng.integers(0, 2, SHAPE).astype(np.uint8))
    if damage == "text":
        path.write_text("Not Found")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:150])
    elif damage == "no data":
        np.savez(path, mask=box())
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, box())
    elif damage == "object":
        np.savez(path, data=np.array([None, 1], dtype=object))
    else:
        np.savez(path, data=np.zeros((1, 2, 3)))
    labels = labels_in(tmp_path / "c1")
    assert labels is not None
    with pytest.raises((LabelError, GeometryError), match=r"c1: liver\.npz"):
        labels.mask("liver")


# The two real label sets


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, CaseLabels]:
    return open_label_source(shared_data / "pants_labels")


def real_masks(labels: CaseLabels) -> dict[str, Mask]:
    """A few structures that tell the two numberings apart."""
    names = ("aorta", "postcava", "veins", "pancreatic_lesion")
    return labels.masks(names)


def test_real_masks_are_all_there(real: dict[str, CaseLabels]) -> None:
    assert list(real) == ["PanTS_00000001", "PanTS_00000035"]
    for labels in real.values():
        assert labels.structures() == tuple(STRUCTURES)


def test_the_tumour_free_real_case(real: dict[str, CaseLabels], shared_data: Path) -> None:
    labels = real["PanTS_00000001"]
    assert labels.geometry.orientation == "LPS"
    assert labels.geometry.shape == (512, 333, 200)
    combined = labels.combined()
    assert combined is not None
    assert combined.array.dtype == np.uint8
    assert combined.label_space is None
    assert any("int16 with slope" in f and "were rounded" in f for f in combined.faults)
    masks = real_masks(labels)
    assert identify_label_space(combined.array, masks) is PANTS_ALPHABETICAL
    # By the README's ids the veins of this tumour-free case would be a tumour.
    assert labels.annotation("pancreatic_lesion") is Annotation.EMPTY
    assert (combined.array == 28).sum() == 13537
    stray = read_mask(shared_data / "pants_labels" / "PanTS_00000001" / "pancreas.nii.gz")
    assert any("not binary" in fault for fault in stray.faults)


def test_the_real_case_whose_map_lies_elsewhere(real: dict[str, CaseLabels]) -> None:
    labels = real["PanTS_00000035"]
    with pytest.raises(GeometryError, match=r"PanTS_00000035: label map and masks .* mm apart"):
        labels.combined()
    masks = real_masks(labels)
    assert masks["pancreatic_lesion"].sum() == 937
    assert labels.geometry.orientation == "RAS"
    assert labels.geometry.spacing[2] == pytest.approx(5)
    assert labels.annotation("kidney_left") is Annotation.EMPTY
    assert any("no geometry of its own" in fault for fault in labels.faults)
    assert labels.map_path is not None
    combined = read_label_map(labels.map_path)
    assert combined.geometry.shape == labels.geometry.shape
    assert combined.geometry.distance_mm(labels.geometry) == pytest.approx(861, abs=1)
    assert combined.faults == (
        "header says its unit is micron; spacing was read as millimetres",
        "label map stored as float32",
    )
    assert identify_label_space(combined.array, masks) is PANTS_ALPHABETICAL
