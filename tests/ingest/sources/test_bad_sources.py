"""What is wrong with a download is said with its name, and nothing half of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniatures import Miniature, write_nifti

from pantskit.core.errors import ConfigError, DatasetError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.ingest.sources import ImportSettings, import_dataset
from pantskit.ingest.sources.declaration import parse_declaration
from pantskit.ingest.sources.same_scans import voxel_hash
from pantskit.ingest.sources.told import summary_lines

KIDNEYS = ("kidney_left", "kidney_right")


def _kits(mini: Miniature, root: Path, number: int = 1, **label: object) -> Path:
    folder = root / f"case_{number:05d}"
    mini.write_ct(folder / "imaging.nii.gz")
    mini.write_labels(folder / "segmentation.nii.gz", {1: mini.mask(*KIDNEYS)}, **label)
    return folder


def test_unknown_value_is_named_with_file_and_count(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = _kits(mini, tmp_path / "src")
    painted = {1: mini.mask(*KIDNEYS), 9: mini.nowhere()}
    mini.write_labels(folder / "segmentation.nii.gz", painted)

    made = run("kits23", tmp_path / "src")

    assert made.only.status == "failed"
    assert "segmentation.nii.gz" in made.only.message
    assert "9 (8 voxels)" in made.only.message
    assert str(tmp_path) not in made.only.message
    assert not (made.root / "ImageTr").exists() or not any((made.root / "ImageTr").iterdir())
    assert made.exit_status == 1


def test_ct_without_label_and_label_without_ct_are_named(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    _kits(mini, tmp_path / "src", 1)
    mini.write_ct(tmp_path / "src" / "case_00002" / "imaging.nii.gz")
    labels = tmp_path / "src" / "case_00003" / "segmentation.nii.gz"
    mini.write_labels(labels, {1: mini.mask(*KIDNEYS)})

    made = run("kits23", tmp_path / "src")

    assert made.records["KiTS23_00001"].status == "done"
    assert "has no label" in made.records["KiTS23_00002"].message
    assert "has no CT" in made.records["KiTS23_00003"].message


def test_ct_without_label_is_taken_when_asked_for(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "src" / "case_00002" / "imaging.nii.gz")

    made = run("kits23", tmp_path / "src", unlabelled=True)

    made.require_truth(mini, "KiTS23_00002", [])


def test_labels_alone_come_where_there_is_no_ct_at_all(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    labels = tmp_path / "src" / "case_00003" / "segmentation.nii.gz"
    mini.write_labels(labels, {1: mini.mask(*KIDNEYS)}, orientation="RAS")

    made = run("kits23", tmp_path / "src")

    made.require_truth(mini, "KiTS23_00003", KIDNEYS)
    assert not made.dataset.case("KiTS23_00003").image_path.exists()


def test_file_that_was_cut_short_fails_its_case_alone(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    _kits(mini, tmp_path / "src", 1)
    cut = _kits(mini, tmp_path / "src", 2) / "imaging.nii.gz"
    cut.write_bytes(cut.read_bytes()[:5000])

    made = run("kits23", tmp_path / "src")

    assert made.records["KiTS23_00001"].status == "done"
    assert made.records["KiTS23_00002"].status == "failed"
    assert "imaging.nii.gz" in made.records["KiTS23_00002"].message


def test_grid_off_by_a_rounding_is_accepted_and_recorded(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    lps = mini.ct.reoriented("LPS").geometry.affine.copy()
    lps[:3, 3] += (0.2, -0.1, 0.1)
    _kits(mini, tmp_path / "src", affine=lps)

    made = run("kits23", tmp_path / "src")

    made.require_truth(mini, "KiTS23_00001", KIDNEYS)
    assert made.only.data["labels"]["off_mm"] == pytest.approx(0.245, abs=0.01)
    assert any("taken for rounding" in f for f in made.only.data["labels"]["faults"])


@pytest.mark.parametrize(("axis", "name"), [(1, "y"), (2, "z")])
def test_label_mirrored_against_its_ct_is_refused_with_the_axis(
    mini: Miniature, run: Callable, tmp_path: Path, axis: int, name: str
) -> None:
    _kits(mini, tmp_path / "src", flip=(axis,))

    made = run("kits23", tmp_path / "src")

    assert made.only.status == "quarantined"
    assert f"mirrored along {name} (" in made.only.message


def test_liver_mirrored_from_left_to_right_is_refused(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "src" / "volume-1.nii")
    painted = {1: mini.mask("liver")}
    mini.write_labels(tmp_path / "src" / "segmentation-1.nii", painted, flip=(0,))

    made = run("lits", tmp_path / "src")

    assert made.only.status == "quarantined"
    assert "mirrored along x (left to right)" in made.only.message


def test_ct_and_label_mirrored_together_are_told_by_the_side_of_the_liver(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "src" / "volume-1.nii", flip=(0,))
    painted = {1: mini.mask("liver")}
    mini.write_labels(tmp_path / "src" / "segmentation-1.nii", painted, flip=(0,))

    made = run("lits", tmp_path / "src")

    assert made.only.status == "quarantined"
    assert "the liver lies" in made.only.message
    assert "mirrored along x" in made.only.message


def test_mirrored_scan_without_a_labelled_liver_is_told_by_its_solid_tissue(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = _kits(mini, tmp_path / "src", flip=(0,))
    mini.write_ct(folder / "imaging.nii.gz", flip=(0,))

    made = run("kits23", tmp_path / "src")

    assert made.only.status == "quarantined"
    assert "the liver seems to lie on the left" in made.only.message


def test_names_of_sides_that_are_exchanged_are_refused(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "src" / "imagesTr" / "Organ12_0001_0000.nii.gz")
    painted = {1: mini.mask("liver"), 10: mini.mask("adrenal_gland_left")}
    painted |= {11: mini.mask("adrenal_gland_right")}
    mini.write_labels(tmp_path / "src" / "labelsTr" / "Organ12_0001.nii.gz", painted)

    made = run("abdomenct_12organ", tmp_path / "src")

    assert made.only.status == "quarantined"
    assert "left and right are exchanged in the names of adrenal_gland" in made.only.message


def test_half_a_body_with_the_liver_left_of_its_middle_is_no_mirrored_one(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    standard, liver = mini.ct.reoriented(), mini.truth("liver")
    columns = np.flatnonzero(liver.any(axis=(1, 2)))
    keep = slice(0, int(columns[len(columns) // 2]))  # i runs to the left: the right half of it
    assert columns[0] < keep.stop
    half = np.ascontiguousarray(standard.array[keep])
    grid = Geometry(half.shape, standard.geometry.affine)
    write_nifti(tmp_path / "src" / "volume-1.nii", half, grid)
    write_nifti(tmp_path / "src" / "segmentation-1.nii", liver[keep], grid)

    made = run("lits", tmp_path / "src")

    assert made.only.status == "done", made.only.message


def test_ct_whose_place_is_in_doubt_is_quarantined(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    import nibabel as nib

    path = _kits(mini, tmp_path / "src") / "imaging.nii.gz"
    image = nib.load(path)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, path)

    made = run("kits23", tmp_path / "src")

    assert made.only.status == "quarantined"
    assert "neither sform nor qform" in made.only.message


def test_a_case_that_changes_its_split_is_not_left_in_both(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    _kits(mini, tmp_path / "src")
    run("kits23", tmp_path / "src")
    made = run("kits23", tmp_path / "src", split="test")

    made.require_truth(mini, "KiTS23_00001", KIDNEYS)
    assert made.dataset.case("KiTS23_00001").split == "test"


def test_affine_that_is_wrong_is_refused_and_the_flip_that_fits_is_named(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    _kits(mini, tmp_path / "src", affine=np.diag([-1.0, -1.0, 2.0, 1.0]), flip=(1,))

    made = run("kits23", tmp_path / "src")

    assert made.only.status == "failed"
    assert "different grids" in made.only.message
    assert "mirrored along y: its affine is likely wrong" in made.only.message


def test_label_of_another_scan_is_refused(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    folder = _kits(mini, tmp_path / "src")
    elsewhere = np.roll(mini.mask(*KIDNEYS), mini.geometry.shape[1] // 2, axis=1)
    write_nifti(folder / "segmentation.nii.gz", elsewhere, mini.geometry)
    air = Volume(np.where(elsewhere, -950, mini.ct.array), mini.geometry)
    write_nifti(folder / "imaging.nii.gz", air.array, mini.geometry)

    made = run("kits23", tmp_path / "src")

    assert made.only.status == "quarantined"
    assert not made.only.data.get("labels")


def test_mask_that_is_not_binary_is_taken_and_reported(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "src" / "PanTS_00000007"
    mini.write_ct(folder / "ct.nii.gz")
    values = mini.mask("pancreas").astype(np.int16) * 3
    write_nifti(folder / "segmentations" / "pancreas.nii.gz", values, mini.geometry)

    made = run("pants", tmp_path / "src")

    made.require_truth(mini, "PanTS_00000007", ["pancreas"])
    assert any("not binary: it holds 3" in f for f in made.only.data["labels"]["faults"])


def test_two_labels_of_one_case_are_refused(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    _kits(mini, tmp_path / "src" / "a")
    copy = tmp_path / "src" / "b" / "case_00001" / "segmentation.nii.gz"
    mini.write_labels(copy, {1: mini.mask("kidney_left")})

    made = run("kits23", tmp_path / "src")

    assert made.only.status == "failed"
    assert "has 2 labels" in made.only.message


def test_folder_of_another_dataset_says_what_was_expected(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    _kits(mini, tmp_path / "src")
    with pytest.raises(DatasetError, match=r"volume-\{id#\}\.nii with segmentation-\{id#\}\.nii"):
        run("lits", tmp_path / "src")


def test_folder_of_another_dataset_is_named(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    mini.write_ct(tmp_path / "src" / "volume-21.nii.gz")
    mini.write_labels(tmp_path / "src" / "labels-21.nii.gz", {1: mini.mask("liver")})

    with pytest.raises(DatasetError, match="lie as in ct_org: is it that dataset"):
        run("kits23", tmp_path / "src")
    # The CTs of LiTS have the same names, so its cases are found and lack labels.
    half = import_dataset("lits", [tmp_path / "src"], tmp_path / "out", ImportSettings(workers=0))

    assert [record.status for record in half.run.records] == ["failed"]
    assert any("files lie as in ct_org" in line for line in summary_lines(half, tmp_path / "out"))


def test_bare_cancer_in_a_dataset_json_is_refused(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    root = tmp_path / "Task07_Pancreas"
    mini.write_ct(root / "imagesTr" / "pancreas_001.nii.gz")
    mini.write_labels(root / "labelsTr" / "pancreas_001.nii.gz", {1: mini.mask("pancreas")})
    text = '{"modality": {"0": "CT"}, "labels": {"1": "pancreas", "2": "cancer"}}'
    (root / "dataset.json").write_text(text)
    with pytest.raises(LabelError, match="does not name"):
        run("nnunet", root)


def test_patient_in_both_splits_is_refused(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    def scan(study: int, root: Path) -> Path:
        mini.write_ct(root / f"100001_{study:05d}_0000.nii.gz")
        label = root / "manual_labels" / f"100001_{study:05d}.nii.gz"
        mini.write_labels(label, {4: mini.mask("pancreas")})
        return root

    made = run("panorama", scan(1, tmp_path / "a"))
    assert made.exit_status == 0
    with pytest.raises(ConfigError, match="both splits"):
        run("panorama", scan(2, tmp_path / "b"), split="test")


def _same_scan_twice(mini: Miniature, root: Path) -> None:
    _kits(mini, root / "kits")
    task = root / "msd" / "Task09_Spleen"
    # Another orientation, another type, another place: the same voxels.
    affine = mini.ct.reoriented("RAS").geometry.affine.copy()
    affine[:3, 3] += 50
    how = {"orientation": "RAS", "affine": affine}
    mini.write_ct(task / "imagesTr" / "spleen_002.nii.gz", dtype=np.float32, **how)
    mini.write_labels(task / "labelsTr" / "spleen_002.nii.gz", {1: mini.mask("spleen")}, **how)


def test_one_scan_of_two_datasets_is_one_patient(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    _same_scan_twice(mini, tmp_path)
    run("kits23", tmp_path / "kits")

    made = run("msd", tmp_path / "msd")

    assert made.exit_status == 0
    rows = made.dataset.metadata
    assert rows["MSD_spleen_002"]["patient_id"] == rows["KiTS23_00001"]["patient_id"]
    assert made.dataset.info["same_scans"] == [["KiTS23_00001", "MSD_spleen_002"]]


def test_one_scan_in_both_splits_is_named(mini: Miniature, tmp_path: Path) -> None:
    _same_scan_twice(mini, tmp_path)
    out, settings = tmp_path / "D", ImportSettings(workers=0)
    import_dataset("kits23", [tmp_path / "kits"], out, replace(settings, split="test"))

    summary = import_dataset("msd", [tmp_path / "msd"], out, settings)

    assert summary.on_two_sides == (("KiTS23_00001", "MSD_spleen_002"),)
    told = "\n".join(summary_lines(summary, out))
    assert "one scan in both splits: KiTS23_00001, MSD_spleen_002" in told


def test_mirrored_scans_have_one_hash_and_others_their_own(mini: Miniature) -> None:
    ct = mini.ct.reoriented()
    mirrored = ct.with_array(ct.array[::-1, :, ::-1])
    other = ct.array.copy()
    other[1, 2, 3] += 1
    assert voxel_hash(mirrored) == voxel_hash(ct)
    assert voxel_hash(ct.with_array(other)) != voxel_hash(ct)


def test_a_rerun_does_nothing_and_a_changed_label_does_its_case(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = _kits(mini, tmp_path / "src")
    first = run("kits23", tmp_path / "src").only
    again = run("kits23", tmp_path / "src").only
    mini.write_labels(folder / "segmentation.nii.gz", {1: mini.mask("kidney_left")})
    changed = run("kits23", tmp_path / "src").only

    assert (again.fingerprint, again.seconds) == (first.fingerprint, first.seconds)
    assert changed.fingerprint != first.fingerprint
    assert changed.data["labels"]["empty"] == ["kidney_right"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ids": {"1": "spline"}}, "'spline' is none of the 28"),
        ({"ids": {"0": "liver"}}, "no integer above 0"),
        ({"ids": {"1": "split_lr:liver"}}, "'liver' is unknown"),
        ({"layouts": [{"name": "a"}]}, "needs a name and an image"),
        ({"colour": "red"}, "unknown entry colour"),
        ({"title": ""}, "title is missing"),
        ({"origin": "somebody"}, "origin 'somebody' is unknown"),
    ],
)
def test_declaration_that_cannot_be_used_says_where(change: dict, said: str) -> None:
    whole = {"title": "T", "case": "C_{id}", "layouts": [{"name": "a", "image": "{id}.nii"}]}
    with pytest.raises(ConfigError, match=said):
        parse_declaration("mine", {**whole, **change})
