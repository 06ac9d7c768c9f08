from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pantskit.core.errors import LabelError
from pantskit.core.labels import (
    LABEL_SPACES,
    LESION,
    PAINT_ORDER,
    PANCREAS,
    PANTS,
    PANTS_2CLASS,
    PANTS_ALPHABETICAL,
    STRUCTURES,
    Annotation,
    LabelMap,
    LabelSpace,
    containers,
    filled_slab,
    find_structure,
    known_label_maps,
    label_counts,
    label_counts_inside,
    mask_of_ids,
    require_structure,
)

Mask = NDArray[np.bool_]

# The class map of the release's README.
README = {
    1: "adrenal_gland_left",
    2: "adrenal_gland_right",
    3: "aorta",
    4: "bladder",
    5: "celiac_artery",
    6: "colon",
    7: "common_bile_duct",
    8: "duodenum",
    9: "femur_left",
    10: "femur_right",
    11: "gall_bladder",
    12: "kidney_left",
    13: "kidney_right",
    14: "liver",
    15: "lung_left",
    16: "lung_right",
    17: "pancreas",
    18: "pancreas_body",
    19: "pancreas_head",
    20: "pancreas_tail",
    21: "pancreatic_duct",
    22: "postcava",
    23: "prostate",
    24: "spleen",
    25: "stomach",
    26: "superior_mesenteric_artery",
    27: "veins",
    28: "pancreatic_lesion",
}
PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail", "pancreatic_duct", "pancreatic_lesion")


def mask(*where: slice | int, shape: tuple[int, int, int] = (6, 5, 4)) -> Mask:
    result = np.zeros(shape, np.bool_, order="F")
    if where:
        result[where] = True
    return result


def test_the_ids_are_those_of_the_releases_readme() -> None:
    assert dict(PANTS.ids) == README
    assert {s.id: s.name for s in STRUCTURES.values()} == README
    assert list(STRUCTURES) == list(README.values())


def test_circulating_combined_maps_are_numbered_alphabetically() -> None:
    assert PANTS_ALPHABETICAL.names == tuple(sorted(README.values()))
    assert PANTS_ALPHABETICAL.ids[22] == "pancreatic_lesion"
    assert PANTS_ALPHABETICAL.ids[28] == "veins"


def test_the_paper_s_two_classes_are_pancreas_and_lesion() -> None:
    assert dict(PANTS_2CLASS.ids) == {1: "pancreas", 2: "pancreatic_lesion"}


def test_label_spaces_are_found_by_name() -> None:
    assert set(LABEL_SPACES) == {"pants", "pants_alphabetical", "pants_2class"}
    assert LABEL_SPACES["pants_2class"] is PANTS_2CLASS


def test_every_structure_is_described_as_data() -> None:
    for structure in STRUCTURES.values():
        assert len(structure.standard) > 20, structure.name
        assert structure.title
        assert structure.group
        for low, high in (
            structure.volume_ml,
            structure.hu_non_contrast,
            structure.hu_portal_venous,
        ):
            assert low < high, structure.name
        assert structure.side == (
            "left"
            if structure.name.endswith("_left")
            else "right"
            if structure.name.endswith("_right")
            else None
        )
    assert len({s.color for s in STRUCTURES.values()}) == 28


def test_the_pancreas_contains_its_parts_the_duct_and_the_lesion() -> None:
    assert set(STRUCTURES[PANCREAS].members) == set(PARTS)
    assert containers(LESION) == (PANCREAS,)
    assert containers("liver") == ()


def test_the_lesion_is_painted_last_and_the_pancreas_before_its_parts() -> None:
    assert sorted(PAINT_ORDER) == sorted(STRUCTURES)
    assert PAINT_ORDER[-1] == LESION
    for part in PARTS:
        assert PAINT_ORDER.index(PANCREAS) < PAINT_ORDER.index(part)
    assert PANTS_2CLASS.paint_order == (PANCREAS, LESION)


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("liver", "liver"),
        ("Leber", "liver"),
        ("livertumor1", "liver"),
        ("Left Kidney", "kidney_left"),
        ("kidney-right.nii.gz", "kidney_right"),
        ("GB", "gall_bladder"),
        ("gallbladder.nii", "gall_bladder"),
        ("IVC.nii.gz", "postcava"),
        ("inferior_vena_cava", "postcava"),
        ("portal_vein_and_splenic_vein", "veins"),
        ("urinary_bladder", "bladder"),
        ("PANCREAS.NII.GZ", "pancreas"),
        ("pancreatic_lesion.npz", "pancreatic_lesion"),
        ("superior mesenteric artery", "superior_mesenteric_artery"),
        ("celiac_trunk", "celiac_artery"),
        ("right adrenal gland", "adrenal_gland_right"),
    ],
)
def test_names_in_use_mean_a_structure(name: str, structure: str) -> None:
    assert find_structure(name) == structure
    assert require_structure(name) == structure


@pytest.mark.parametrize(
    "name",
    ["", "tumor", "ct", "ct.nii.gz", "combined_labels.nii.gz", "esophagus", "kidney", "2", "é"],
)
def test_other_names_mean_none(name: str) -> None:
    assert find_structure(name) is None
    with pytest.raises(LabelError, match="none of the 28 structures; they are: adrenal_gland_left"):
        require_structure(name)


def test_no_synonym_means_two_structures() -> None:
    seen: dict[str, str] = {}
    for structure in STRUCTURES.values():
        for name in (structure.name, structure.title, *structure.synonyms):
            assert find_structure(name) == structure.name, name
            assert seen.setdefault(name, structure.name) == structure.name


# Painting


def test_where_masks_overlap_the_lesion_stays() -> None:
    masks = {
        "pancreatic_lesion": mask(3),
        "pancreas": mask(slice(1, 5)),
        "pancreas_tail": mask(slice(2, 5)),
        "aorta": mask(0),
    }
    combined = PANTS.combine(masks)
    assert combined.dtype == np.uint8
    assert combined.flags.f_contiguous
    assert combined[:, 0, 0].tolist() == [3, 17, 20, 28, 20, 0]
    assert (combined == combined[:, :1, :1]).all()


def test_two_classes_are_painted_from_the_same_masks() -> None:
    masks = {"pancreas": mask(slice(1, 5)), "pancreatic_lesion": mask(3), "liver": mask(0)}
    assert PANTS_2CLASS.combine(masks)[:, 0, 0].tolist() == [0, 1, 1, 2, 1, 0]


def test_an_empty_mask_paints_nothing() -> None:
    assert not PANTS.combine({"liver": mask()}).any()


def test_combining_nothing_or_different_shapes_is_refused() -> None:
    with pytest.raises(LabelError, match="masks of one shape are needed"):
        PANTS.combine({})
    with pytest.raises(LabelError, match=r"\[\(1, 2, 3\), \(6, 5, 4\)\]"):
        PANTS.combine({"liver": mask(), "spleen": mask(shape=(1, 2, 3))})


def test_a_structure_is_exact_when_the_map_gives_its_mask_back() -> None:
    masks = {
        "pancreas": mask(slice(1, 5)),  # whole: its members lie inside
        "pancreas_tail": mask(slice(2, 5)),  # not: the lesion took a part
        "pancreatic_lesion": mask(3),
        "liver": mask(slice(0, 2)),  # not: the pancreas took a part
        "spleen": mask(),  # empty and nowhere
    }
    combined = PANTS.combine(masks)
    assert PANTS.exact(combined, masks) == ("pancreas", "pancreatic_lesion", "spleen")


def test_a_container_is_not_exact_when_a_member_lies_outside_it() -> None:
    masks = {"pancreas": mask(slice(1, 3)), "pancreatic_lesion": mask(slice(2, 5))}
    assert PANTS.exact(PANTS.combine(masks), masks) == ("pancreatic_lesion",)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["F", "C"]))
@settings(max_examples=40, deadline=None)
def test_exact_is_what_a_look_up_says(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    names = rng.choice(list(STRUCTURES), 6, replace=False)
    masks = {}
    for name in names:
        low, high = np.sort(rng.integers(0, 6, (2, 3)), axis=0)
        masks[str(name)] = np.array(mask(*map(slice, low, high)), order=order)
    combined = PANTS.combine(masks)
    painted = np.zeros((6, 5, 4), np.uint8)
    for name in PAINT_ORDER:
        if name in masks:
            painted[masks[name]] = STRUCTURES[name].id
    np.testing.assert_array_equal(combined, painted)
    expected = tuple(
        name
        for name in masks
        if np.array_equal(np.isin(painted, PANTS.evaluation_ids(name)), masks[name])
    )
    assert PANTS.exact(combined, masks) == expected


def test_the_ids_of_a_structure_are_its_own_and_its_members() -> None:
    assert PANTS.evaluation_ids("pancreas") == (17, 18, 19, 20, 21, 28)
    assert PANTS_ALPHABETICAL.evaluation_ids("pancreas") == (17, 18, 19, 20, 21, 22)
    assert PANTS_2CLASS.evaluation_ids("pancreas") == (1, 2)
    assert PANTS.evaluation_ids("veins") == (27,)
    assert PANTS.id_of("veins") == 27
    with pytest.raises(LabelError, match="pants_2class has no liver"):
        PANTS_2CLASS.id_of("liver")


def test_a_label_space_has_ids_from_one_to_n() -> None:
    with pytest.raises(LabelError, match=r"ids \[0, 1\] are not 1 to n"):
        LabelSpace("x", {0: "liver", 1: "spleen"})
    with pytest.raises(LabelError, match="not 1 to n"):
        LabelSpace("x", {1: "liver", 3: "spleen"})


# Passes over whole maps


@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["F", "C"]), st.sampled_from([np.uint8, np.uint16])
)
@settings(max_examples=30, deadline=None)
def test_counts_and_masks_of_labels_are_numpys(seed: int, order: str, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    array = np.array(rng.integers(0, 30, (50, 40, 43)), dtype, order=order)
    counts = label_counts(array)
    assert counts[:30].tolist() == [int((array == i).sum()) for i in range(30)]
    assert counts.sum() == array.size
    inside = rng.random(array.shape) > 0.5
    np.testing.assert_array_equal(
        label_counts_inside(array, inside)[:30], np.bincount(array[inside], minlength=30)
    )
    np.testing.assert_array_equal(mask_of_ids(array, (3, 5, 300)), np.isin(array, (3, 5, 300)))


def test_the_filled_slab_of_a_mask() -> None:
    box = mask(2, 3, slice(1, 3))
    assert filled_slab(box)[2] == slice(1, 3)
    assert box[filled_slab(box)].sum() == box.sum() == 2
    assert mask()[filled_slab(mask())].size == 0


# Foreign label maps


def test_the_known_maps_are_read() -> None:
    assert known_label_maps() == (
        "pants",
        "amos",
        "msd_pancreas",
        "panorama",
        "pants_2class",
        "pants_alphabetical",
        "totalsegmentator",
    )
    for name in known_label_maps():
        label_map = LabelMap.parse(name)
        assert label_map.name == name
        assert set(label_map.annotated) <= set(STRUCTURES)
        assert all(s in STRUCTURES for group in label_map.ids.values() for s in group)


@pytest.mark.parametrize(
    ("name", "number", "structures"),
    [
        ("pants", 28, ("pancreatic_lesion", "pancreas")),
        ("pants_alphabetical", 28, ("veins",)),
        ("amos", 10, ("pancreas",)),
        ("amos", 6, ("liver",)),
        ("msd_pancreas", 2, ("pancreas", "pancreatic_lesion")),
        ("panorama", 1, ("pancreas", "pancreatic_lesion")),
        ("panorama", 4, ("pancreas",)),
        ("totalsegmentator", 7, ("pancreas",)),
        ("totalsegmentator", 23, ("kidney_left",)),
        ("totalsegmentator", 12, ("lung_right",)),
    ],
)
def test_ids_of_known_maps_mean_what_their_datasets_say(
    name: str, number: int, structures: tuple[str, ...]
) -> None:
    assert sorted(LabelMap.parse(name).ids[number]) == sorted(structures)


def test_only_what_a_dataset_annotates_is_empty_when_it_is_missing() -> None:
    panorama = LabelMap.parse("panorama")
    assert set(panorama.annotated) == {"pancreas", "pancreatic_duct", "common_bile_duct"}
    assert "pancreatic_lesion" in panorama.structures
    assert 3 in panorama.unmapped


def test_an_inline_map_unites_and_contains() -> None:
    found = LabelMap.parse("1=pancreas, 2=pancreatic_lesion,3=Leber,4=liver")
    assert found.name == "inline"
    assert found.ids[2] == ("pancreatic_lesion", "pancreas")
    assert found.ids_of("pancreas") == (1, 2)
    assert found.ids_of("liver") == (3, 4)
    assert set(found.annotated) == {"pancreas", "pancreatic_lesion", "liver"}
    assert LabelMap.parse("5=liver+spleen").ids[5] == ("liver", "spleen")


def test_a_lesion_alone_does_not_annotate_the_pancreas() -> None:
    found = LabelMap.parse("1=pancreatic_lesion")
    assert found.annotated == ("pancreatic_lesion",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("total", "label map 'total' is not known; use one of pants, amos"),
        ("1=", "'1=' is not ID=STRUCTURE"),
        ("x=liver", "'x=liver' is not ID=STRUCTURE"),
        ("1=liver,", "'' is not ID=STRUCTURE"),
        ("1=esophagus", "'esophagus' is none of the 28 structures"),
        ("1=liver,1=spleen", "id 1 is there twice"),
        ("0=liver", "0 is the background; ids begin with 1"),
        ("gone.json", "gone.json: cannot be read"),
    ],
)
def test_a_map_that_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        LabelMap.parse(text)


def write(path: Path, value: object) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_nnunets_dataset_json_is_read(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "pancreas": 2, "esophagus": 3}
    path = write(tmp_path / "dataset.json", {"labels": labels, "file_ending": ".nii.gz"})
    found = LabelMap.parse(path)
    assert found.ids == {1: ("liver",), 2: ("pancreas",)}
    assert found.unmapped == {3: "esophagus"}
    assert found.annotated == ("liver", "pancreas")


def test_the_msds_dataset_json_is_read(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "pancreas", "2": "pancreas tumour", "3": "oesophagus"}
    path = write(tmp_path / "dataset.json", {"name": "PANCREAS", "labels": labels})
    found = LabelMap.parse(path)
    assert found.ids == {1: ("pancreas",), 2: ("pancreatic_lesion", "pancreas")}
    assert found.unmapped == {3: "oesophagus"}


@pytest.mark.parametrize("name", ["cancer", "Tumor", "lesions"])
def test_a_tumour_of_no_named_organ_is_refused(name: str, tmp_path: Path) -> None:
    """The MSD's own word for id 2: taken for nothing, it would be missing from the pancreas."""
    path = write(tmp_path / "dataset.json", {"labels": {"1": "pancreas", "2": name}})
    with pytest.raises(LabelError, match=f"id 2 is '{name}'.*2=pancreatic_lesion"):
        LabelMap.parse(path)


def test_a_toml_file_of_ours_is_read(tmp_path: Path) -> None:
    text = 'annotated = ["liver"]\n[ids]\n1 = "liver"\n2 = ["pancreas", "pancreatic_lesion"]\n'
    found = LabelMap.parse(write(tmp_path / "mine.toml", text))
    assert found.name == "mine.toml"
    assert found.ids_of("pancreas") == (2,)
    assert found.annotated == ("liver",)


def test_a_path_with_an_equals_sign_is_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert LabelMap.parse(write(folder / "m.json", {"ids": {"1": "liver"}})).ids == {1: ("liver",)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("not json", "cannot be read"),
        ({"labels": {"whole": [1, 2]}}, "'whole' is a region of several ids"),
        ({"labels": {"liver": "spleen"}}, "has no integer id"),
        ([1, 2], 'expected {"1": "liver", ...}'),
        ({"labels": [1, 2]}, 'expected {"1": "liver", ...}'),
        ({"labels": {"liver": 1, "spleen": 1}}, "id 1 is there twice"),
        ({"ids": {"1": 7}}, "'1': 7 is no structure's name"),
        ({"ids": {"1": "liver"}, "annotated": ["gut"]}, "'gut' is none of the 28"),
    ],
)
def test_a_file_that_is_no_label_map_says_why(value: object, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", value)
    with pytest.raises(LabelError) as error:
        LabelMap.parse(path)
    assert message in str(error.value)


def test_labels_that_a_map_does_not_speak_of_are_refused() -> None:
    label_map = LabelMap.build(
        "m", {1: ("liver",), 3: ("spleen",)}, unmapped={4: "esophagus"}, max_id=2
    )
    label_map.require_known([0, 1, 2, 3, 4], name="case")
    with pytest.raises(LabelError) as error:
        label_map.require_known(np.array([0, 1, 9, 7]), name="case 5: map.nii.gz")
    assert str(error.value) == (
        "case 5: map.nii.gz: labels [7, 9] are not in the label map 'm' (ids 1, 3, 4); give the "
        "right one with --label-map"
    )


def test_present_empty_and_absent_are_three_things() -> None:
    assert {a.value for a in Annotation} == {"present", "empty", "absent"}


def test_voxels_that_nnunet_is_told_to_ignore_are_never_background(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "liver": 1, "ignore": 2}}))
    label_map = LabelMap.parse(str(path))
    label_map.require_known([0, 1], name="case")
    with pytest.raises(LabelError, match="case 5: label 2 is 'ignore'"):
        label_map.require_known([0, 1, 2], name="case 5")
