"""Whole datasets: files that are wrong, the release's own faults, exit statuses."""

from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from pantskit.check.dataset import check_dataset
from pantskit.check.settings import CheckSettings
from pantskit.cli.app import app
from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.errors import DatasetError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume

GEOMETRY = Geometry.from_spacing((40, 40, 30), (5.0, 4.0, 6.0))


@pytest.fixture
def dataset(tmp_path):
    """One case without a fault: a liver of 0.9 l at 100 HU."""
    made = Dataset.create(tmp_path / "data", annotated=["liver"])
    i, j, k = np.indices(GEOMETRY.shape)
    liver = ((i - 16) / 14) ** 2 + ((j - 18) / 14) ** 2 + ((k - 15) / 9) ** 2 <= 1
    ct = np.full(GEOMETRY.shape, -500, np.int16)
    ct[liver] = 100
    write_volume(made.image_path("case_1", "train"), Volume(ct, GEOMETRY))
    write_case_labels(made, "case_1", "train", {"liver": liver}, GEOMETRY)
    return made


def copy_case(dataset, name, split="train"):
    """The same files under another ID."""
    for folder in ("Image", "Label"):
        source = dataset.root / f"{folder}Tr" / "case_1"
        shutil.copytree(source, dataset.root / f"{folder}{split[:2].capitalize()}" / name)


def rules(result):
    return {(f.rule, str(f.severity)) for f in result.findings}


def test_sound_case_has_no_findings_and_exit_0(dataset):
    result = check_dataset(dataset, workers=0)
    assert result.findings == ()
    assert result.exit_status == 0


@pytest.mark.parametrize("exchanged", [False, True])
def test_structures_that_a_tumour_is_painted_over_are_not_wrong_ids(dataset, exchanged):
    """14 is the liver and 28 the tumour; only when they are exchanged are ids wrong."""
    folder = dataset.labels_path("case_1", "train")
    liver = read_volume(folder / "segmentations" / "liver.nii.gz").array.astype(bool)
    tumor = liver.copy()
    tumor[:12] = False  # most of the liver
    write_case_labels(
        dataset, "case_1", "train", {"liver": liver, "pancreatic_lesion": tumor}, GEOMETRY
    )
    path = folder / "combined_labels.nii.gz"
    combined = read_volume(path)
    if exchanged:
        values = np.select([combined.array == 14, combined.array == 28], [28, 14])
        combined = combined.with_array(np.asfortranarray(values.astype(np.uint8)))
    write_volume(path, combined, label_space="pants")
    found = {f.rule for f in check_dataset(dataset, workers=0).findings}
    assert ("combined-ids" in found) == exchanged


def test_label_on_another_grid_is_an_error(dataset):
    other = Geometry.from_spacing(GEOMETRY.shape, (5.0, 4.0, 5.9))
    ct = np.full(GEOMETRY.shape, 0, np.int16)
    ct[0] = 1
    write_volume(dataset.image_path("case_1", "train"), Volume(ct, other))
    result = check_dataset(dataset, workers=0)
    assert ("grid", "error") in rules(result)
    assert result.exit_status == 1


def test_ct_with_an_offset_is_an_error(dataset):
    path = dataset.image_path("case_1", "train")
    ct = read_volume(path)
    write_volume(path, ct.with_array((ct.array + 1024).astype(np.int16)))
    findings = check_dataset(dataset, workers=0).findings
    (message,) = (f.message for f in findings if f.rule == "image-values")
    assert "not Hounsfield units" in message


def test_combined_map_with_an_unknown_value_and_a_gap_is_told(dataset):
    path = dataset.labels_path("case_1", "train") / "combined_labels.nii.gz"
    combined = read_volume(path)
    values = combined.array.copy(order="F")
    liver = values == 14
    values[0, 0, 0] = 99
    values[:, :, :12][liver[:, :, :12]] = 0
    lost = np.count_nonzero(liver[:, :, :12])
    write_volume(path, combined.with_array(values), label_space="pants")
    messages = {f.rule: f.message for f in check_dataset(dataset, workers=0).findings}
    assert messages.pop("combined-values").startswith("the combined map holds 99 in 1 voxels")
    assert messages.pop("combined-complete").startswith(f"{lost} of the {liver.sum()} voxels")
    assert messages == {}  # a mask that holds other voxels than the map has no wrong ids


@pytest.mark.parametrize(("inside", "rule"), [(True, "complete"), (False, "content")])
def test_combined_map_that_differs_from_its_masks_in_one_voxel_is_told(dataset, inside, rule):
    path = dataset.labels_path("case_1", "train") / "combined_labels.nii.gz"
    combined = read_volume(path)
    values = combined.array.copy(order="F")
    at = tuple(np.argwhere((values == 14) == inside)[0])
    values[at] = 0 if inside else 14
    write_volume(path, combined.with_array(values), label_space="pants")
    (found,) = check_dataset(dataset, workers=0).findings
    assert (found.rule, found.severity, found.value) == (f"combined-{rule}", "warning", 1)


def test_mask_of_a_float_type_is_told_even_where_it_holds_0_and_1_only(dataset):
    path = dataset.labels_path("case_1", "train") / "segmentations" / "liver.nii.gz"
    mask = read_volume(path)
    write_volume(path, mask.with_array(mask.array.astype(np.float32)))
    (found,) = check_dataset(dataset, workers=0).findings
    assert (found.rule, found.severity) == ("label-file", "warning")
    assert "liver.nii.gz: mask is stored as float32" in found.message


@pytest.mark.parametrize("name", ["liver.nii", "Liver.nii.gz", "liver_1.nii.gz", "../liver.nii.gz"])
def test_second_file_of_a_structure_is_told_with_both_names(dataset, tmp_path, name):
    out = tmp_path / "out"
    assert check_dataset(dataset, out, workers=0).findings == ()
    path = dataset.labels_path("case_1", "train") / "segmentations" / "liver.nii.gz"
    write_volume(path.parent / name, read_volume(path))
    (found,) = check_dataset(dataset, out, workers=0).findings  # the record of before is outdated
    assert (found.rule, found.severity, found.structure) == ("mask-twice", "warning", "liver")
    assert "segmentations/liver.nii.gz is read" in found.message
    second = name.replace("../", "case_1/") if "/" in name else f"segmentations/{name}"
    assert f"; {second} may mean liver" in found.message


def test_nothing_to_check_is_an_error(dataset):
    with pytest.raises(DatasetError, match="split test: no cases to check"):
        check_dataset(dataset, split="test", workers=0)


def test_truncated_image_is_a_finding_and_the_run_goes_on(dataset):
    path = dataset.image_path("case_1", "train")
    path.write_bytes(path.read_bytes()[:-200])
    assert ("image", "error") in rules(check_dataset(dataset, workers=0))


def test_second_run_checks_only_what_changed(dataset, tmp_path):
    first = check_dataset(dataset, tmp_path / "out", workers=0)
    second = check_dataset(dataset, tmp_path / "out", workers=0)
    assert (first.run.ran, second.run.ran) == (("case_1",), ())
    mask = dataset.labels_path("case_1", "train") / "segmentations" / "liver.nii.gz"
    mask.write_bytes(gzip.compress(gzip.decompress(mask.read_bytes()), 9))
    assert check_dataset(dataset, tmp_path / "out", workers=0).run.ran == ("case_1",)


def test_command_prints_json_and_exits_1_on_errors(dataset):
    dataset.write_metadata([{"case_id": "case_1", "lesions": 1}])
    empty = np.zeros(GEOMETRY.shape, bool)
    write_case_labels(dataset, "case_1", "train", {"pancreatic_lesion": empty}, GEOMETRY)
    result = CliRunner().invoke(app, ["check", str(dataset.root), "--json", "--workers", "0"])
    assert result.exit_code == 1
    findings = json.loads(result.stdout)["findings"]
    assert [f["rule"] for f in findings if f["severity"] == "error"] == ["tumour-flag"]


def test_faults_of_two_released_cases_are_reported(shared_data, tmp_path):
    for name in ("PanTS_00000001", "PanTS_00000035"):
        shutil.copytree(shared_data / "pants_labels" / name, tmp_path / "LabelTr" / name)
    result = check_dataset(Dataset.open(tmp_path), workers=0)
    errors = {(f.case_id, f.rule) for f in result.findings if f.severity == "error"}
    assert errors == {
        ("PanTS_00000001", "combined-ids"),  # alphabetical, undeclared
        ("PanTS_00000001", "overlap"),  # a third of the right adrenal gland is liver, too
        ("PanTS_00000035", "combined-ids"),
        ("PanTS_00000035", "combined-grid"),  # origin 0 where the masks have one
    }
    texts = " ".join(f.message for f in result.findings)
    assert "slope" in texts
    assert "micron" in texts
    assert "float32" in texts
    assert "not binary" in texts
    empty = {f.structure for f in result.findings if f.rule == "empty" and "35" in f.case_id}
    assert empty == {"kidney_left"}


def test_same_scan_under_two_ids_is_found_whatever_its_file_looks_like(dataset):
    copy_case(dataset, "case_2", "test")
    path = dataset.image_path("case_2", "test")
    ct = read_volume(path)
    turned = ct.with_array(ct.array.astype(np.float32)).reoriented("RPS")
    write_volume(path, turned)
    every = check_dataset(dataset, workers=0).findings
    (found,) = (f for f in every if f.rule == "duplicate-scan")
    assert (found.case_id, found.severity) == ("case_2", "error")
    assert "in both splits" in found.message


@pytest.mark.parametrize("part", [slice(0, 28), slice(2, 30), slice(12, 30)])
def test_scan_that_comes_again_with_slices_less_is_found(dataset, part):
    copy_case(dataset, "case_2", "test")
    noise = np.random.default_rng(5).integers(-30, 30, GEOMETRY.shape, dtype=np.int16)
    ct = read_volume(dataset.image_path("case_1", "train")).array + noise
    write_volume(dataset.image_path("case_1", "train"), Volume(ct, GEOMETRY))
    shorter = Geometry(ct[:, :, part].shape, GEOMETRY.affine)
    write_volume(dataset.image_path("case_2", "test"), Volume(ct[:, :, part], shorter))
    found = [f for f in check_dataset(dataset, workers=0).findings if f.rule == "duplicate-scan"]
    assert [(f.case_id, f.severity) for f in found] == [("case_2", "error")]
    assert "of case_1 are the same, in both splits" in found[0].message


def test_labels_of_another_case_are_found(dataset):
    copy_case(dataset, "case_2")
    path = dataset.image_path("case_2", "train")
    ct = read_volume(path)
    write_volume(path, ct.with_array(ct.array - np.int16(3)))
    settings = CheckSettings(limits={"duplicate-labels": {"least_structures": 1}})
    assert ("duplicate-labels", "error") in rules(
        check_dataset(dataset, settings=settings, workers=0)
    )


def test_patient_in_both_splits_is_an_error(dataset):
    copy_case(dataset, "case_2", "test")
    rows = [{"case_id": f"case_{n}", "patient_id": "P1"} for n in (1, 2)]
    dataset.write_metadata(rows)
    assert ("patient-in-both-splits", "error") in rules(check_dataset(dataset, workers=0))


def test_mask_that_dataset_json_promises_is_missed(dataset):
    dataset.info["annotated"] = ["liver", "spleen"]
    found = check_dataset(dataset, workers=0).findings
    assert [(f.rule, f.structure) for f in found] == [("mask-missing", "spleen")]


def test_mask_that_dataset_json_does_not_list_is_told(dataset):
    dataset.info["annotated"] = ["spleen"]
    found = check_dataset(dataset, workers=0).findings
    assert ("description", "liver") in {(f.rule, f.structure) for f in found}
    dataset.info["annotated"] = []
    assert check_dataset(dataset, workers=0).findings == ()


def test_mask_that_only_some_cases_have_need_not_be_listed(dataset):
    ct = np.full(GEOMETRY.shape, -100, np.int16)
    ct[0] = 0
    write_volume(dataset.image_path("case_2", "train"), Volume(ct, GEOMETRY))
    spleen = {"spleen": np.zeros(GEOMETRY.shape, bool)}
    write_case_labels(dataset, "case_2", "train", spleen, GEOMETRY)
    dataset.info["annotated"] = ["stomach"]
    assert "description" not in {f.rule for f in check_dataset(dataset, workers=0).findings}


def test_many_missing_masks_are_one_finding(dataset):
    dataset.info["annotated"] = ["liver", *list(STRUCTURES)[:8]]
    found = [f for f in check_dataset(dataset, workers=0).findings if f.rule == "mask-missing"]
    assert [(f.structure, f.value) for f in found] == [("", 8)]
    assert "8 of the 9 structures" in found[0].message


def test_list_of_dataset_json_that_is_none_is_told_and_breaks_nothing(dataset):
    dataset.info["annotated"] = ["liver", "livr", 7]
    found = check_dataset(dataset, workers=0).findings
    assert [f.rule for f in found] == ["description", "description"]
    assert "'livr'" in " ".join(f.message for f in found)
    dataset.info["annotated"] = "liver"
    assert check_dataset(dataset, workers=0).findings == ()


def test_mask_of_no_structure_is_told_and_one_nearly_called_so_is_a_slip(dataset, tmp_path):
    folder = dataset.labels_path("case_1", "train") / "segmentations"
    shutil.copy(folder / "liver.nii.gz", folder / "sternum.nii.gz")
    check_dataset(dataset, tmp_path / "out", workers=0)
    shutil.copy(folder / "liver.nii.gz", folder / "splen.nii.gz")
    found = check_dataset(dataset, tmp_path / "out", workers=0).findings
    assert {(f.rule, str(f.severity), f.structure) for f in found} == {
        ("mask-unknown", "info", ""),
        ("mask-unknown", "warning", "spleen"),
    }


def test_mask_that_cannot_be_read_was_not_forgotten_as_well(dataset):
    for n in range(2, 12):
        copy_case(dataset, f"case_{n}")
    labels = dataset.labels_path("case_1", "train") / "segmentations" / "liver.nii.gz"
    labels.write_bytes(b"no image")
    found = check_dataset(dataset, workers=0).findings
    mine = {f.rule for f in found if f.case_id == "case_1"} - {"duplicate-scan"}
    assert mine == {"labels"}


@pytest.mark.parametrize("value", [50, np.nan])
def test_masks_are_not_judged_by_a_ct_that_is_not_in_hu(dataset, value):
    path = dataset.image_path("case_1", "train")
    values = np.full(GEOMETRY.shape, value, np.float32)
    write_volume(path, Volume(values, GEOMETRY))
    assert rules(check_dataset(dataset, workers=0)) == {("image-values", "error")}


def test_phase_that_nobody_knows_contradicts_no_ct(dataset):
    labels = dataset.case("case_1").labels()
    aorta = labels.mask("liver")
    write_case_labels(dataset, "case_1", "train", {"aorta": aorta}, GEOMETRY)
    dataset.info["annotated"] = ["aorta"]
    for phase, told in (("venousish", False), ("non_contrast", True)):
        dataset.write_metadata([{"case_id": "case_1", "phase": phase}])
        assert ("phase", "error") in rules(check_dataset(dataset, workers=0)) or not told
        assert told or ("phase", "error") not in rules(check_dataset(dataset, workers=0))


def test_case_without_a_row_and_row_without_a_case(dataset):
    dataset.write_metadata([{"case_id": "case_9"}])
    assert rules(check_dataset(dataset, workers=0)) == {
        ("metadata-row", "warning"),
        ("metadata-orphan", "info"),
    }


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"spacing": "(5.0, 4.0, 6.0)", "shape": "(40, 40, 30)"}, None),
        ({"spacing": "(6.0, 4.0, 5.0)", "shape": "(30, 40, 40)"}, None),  # slices first
        ({"spacing": "(5.0, 6.0, 4.0)"}, "metadata-grid"),
        ({"spacing": "(5.0, 4.0, 6.0)", "shape": "(40, 30, 40)"}, "metadata-grid"),
        ({"spacing": "(5.0, 4.0, 6.0)", "shape": "(30, 40, 40)"}, "metadata-grid"),
        ({"spacing": "(1.0, 1.0, 1.0)"}, "metadata-grid"),
        ({"shape": "(40, 40, 31)"}, "metadata-grid"),
        ({"shape": "unknown"}, None),
        ({"age_years": 7}, "age"),
        ({"age_years": 400}, "age"),
        ({"age_years": "old"}, "age"),
        ({"sex": "Q"}, "metadata-words"),
        ({"phase": "late"}, "metadata-words"),
        ({"lesions": "many"}, "metadata-words"),
        ({"lesions": -1}, "metadata-words"),
        ({"shape": "(40, 40)"}, "metadata-words"),
        ({"spacing": "thin"}, "metadata-words"),
    ],
)
def test_metadata_row_is_checked_against_file_and_sense(dataset, row, expected):
    dataset.write_metadata([{"case_id": "case_1"} | row])
    found = {rule for rule, _ in rules(check_dataset(dataset, workers=0))}
    assert found == ({expected} if expected else set())
