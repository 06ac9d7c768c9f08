"""The command on bad input: one clear line, the right exit status, nothing half-written."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from pantskit.cli.app import app


def command(*arguments: object):
    return CliRunner().invoke(app, ["ingest", *map(str, arguments), "--workers", "0"])


def image(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1]) if affine is None else affine), path)
    return path


def hu(shape=(6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(1).integers(-900, 900, shape).astype(np.int16)


def leftovers(out: Path) -> list[Path]:
    """What of cases lies in a dataset, temporary files included."""
    if not out.exists():
        return []
    inside = [p for p in out.rglob("*") if p.is_file()]
    return [
        p
        for p in inside
        if p.relative_to(out).parts[0].startswith(("Image", "Label", ".pantskit-"))
    ]


def test_missing_source_is_an_error_that_names_it(tmp_path):
    result = command(tmp_path / "nowhere", "--out", tmp_path / "d")
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {tmp_path / 'nowhere'}: no such file or folder"
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "d.key").exists()


def test_missing_labels_are_an_error(tmp_path):
    source = image(tmp_path / "ct.nii.gz", hu())
    result = command(source, "--labels", tmp_path / "none", "--out", tmp_path / "d")
    assert result.exit_code == 2
    assert f"{tmp_path / 'none'}: no such file or folder" in result.stderr
    assert not (tmp_path / "d").exists()


def nan(path: Path) -> Path:
    array = hu().astype(np.float32)
    array[2, 2, 2] = np.nan
    return image(path, array)


def truncated(path: Path) -> Path:
    image(path, np.random.default_rng(0).integers(-900, 900, (40, 40, 20)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:9000])
    return path


def text(path: Path) -> Path:
    path.write_text("patient list\n1;2;3\n")
    return path


def gzipped_text(path: Path) -> Path:
    path.write_bytes(gzip.compress(b"patient list"))
    return path


def two_forms(path: Path) -> Path:
    made = nib.Nifti1Image(hu(), np.eye(4))
    made.set_sform(np.diag([1.0, 1, 2, 1]), 1)
    made.set_qform(np.diag([-1.0, -1, 2, 1]), 1)
    nib.save(made, path)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text, "not a NIfTI image"),
        (gzipped_text, "not a NIfTI image"),
        (truncated, "cut short"),
        (lambda p: image(p, hu((6, 5))), "one 3D volume is expected"),
        (lambda p: image(p, hu((6, 5, 4, 3))), "one 3D volume is expected"),
        (nan, "1 voxels are not finite"),
        (two_forms, "disagree"),
        (lambda p: image(p, hu() + 2000), "not Hounsfield units"),
        (lambda p: image(p, hu(), np.array(
            [[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])), "not perpendicular"),
    ],
)  # fmt: skip
def test_bad_image_is_refused_alone_with_one_clear_line(tmp_path, make, reason):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "bad.nii.gz")
    image(tmp_path / "in" / "good.nii.gz", hu())
    result = command(tmp_path / "in", "--out", tmp_path / "d")
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if reason in line]
    assert len(lines) == 1, result.output
    assert re.search(
        r"1 done, 1 (failed|quarantined)|1 (failed|quarantined), 1 done", result.stdout
    )
    assert [p.name for p in leftovers(tmp_path / "d")] == ["ct.nii.gz"]
    assert "Traceback" not in result.output


def test_float_image_with_a_slope_is_rounded_once(tmp_path):
    made = nib.Nifti1Image(hu(), np.diag([1.0, 1, 2, 1]))
    made.header.set_slope_inter(0.5, -3.25)
    nib.save(made, tmp_path / "ct.nii.gz")
    assert command(tmp_path / "ct.nii.gz", "--out", tmp_path / "d").exit_code == 0
    written = nib.load(next((tmp_path / "d").rglob("ct.nii.gz")))
    read = nib.load(tmp_path / "ct.nii.gz").get_fdata()
    expected = np.clip(np.rint(read), -1000, 1000)[::-1, :, ::-1]  # RAS to LAI
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
    assert written.header.get_data_dtype() == np.int16


def test_mask_beside_a_ct_is_skipped_and_not_made_a_case(tmp_path):
    (tmp_path / "in").mkdir()
    image(tmp_path / "in" / "ct.nii.gz", hu())
    image(tmp_path / "in" / "seg.nii.gz", (hu() > 0).astype(np.uint8))
    result = command(tmp_path / "in", "--out", tmp_path / "d")
    assert result.exit_code == 0
    assert "a label map or a mask" in result.stdout


def test_file_in_the_place_of_the_dataset_is_an_error(tmp_path):
    source = image(tmp_path / "ct.nii.gz", hu())
    (tmp_path / "d").write_text("mine")
    result = command(source, "--out", tmp_path / "d")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "d").read_text() == "mine"
    assert not (tmp_path / "d.key").exists()


def test_place_where_nothing_can_be_made_is_an_error(tmp_path):
    source = image(tmp_path / "ct.nii.gz", hu())
    result = command(source, "--out", "/proc/pantskit-dataset")
    assert result.exit_code == 2
    assert "/proc/pantskit-dataset: cannot be made" in result.stderr


def test_file_in_the_way_of_a_case_fails_the_case_and_keeps_the_file(tmp_path):
    source = image(tmp_path / "ct.nii.gz", hu())
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "ImageTr").write_text("in the way")
    result = command(source, "--out", tmp_path / "d")
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert (tmp_path / "d" / "ImageTr").read_text() == "in the way"


def test_full_disk_fails_the_case_and_leaves_nothing_of_it(tmp_path, monkeypatch):
    source = image(tmp_path / "ct.nii.gz", hu())

    def full(path, *_):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(".pantskit-part-x").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pantskit.ingest.case.write_slabs", full)
    result = command(source, "--out", tmp_path / "d")
    assert result.exit_code == 1
    assert "No space left on device" in result.stdout
    assert leftovers(tmp_path / "d") == []


def test_list_shows_what_is_there_and_writes_nothing(series, tmp_path):
    series(attributes={"SeriesDescription": "ART 35s"}).write(tmp_path / "in" / "ct")
    series(attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(
        tmp_path / "in" / "l"
    )
    before = sorted(tmp_path.rglob("*"))
    result = command(tmp_path / "in", "--list", "--json")
    assert result.exit_code == 0
    rows = {row["kind"]: row for row in json.loads(result.stdout)}
    assert "(8, 6, 5) at (0.5, 0.75, 2.5) mm, LPS, phase arterial" in rows["CT"]["note"]
    assert "localizer" in rows["skipped"]["note"]
    assert sorted(tmp_path.rglob("*")) == before


def test_json_names_every_case_with_its_status(tmp_path):
    source = image(tmp_path / "ct.nii.gz", hu())
    result = command(source, "--out", tmp_path / "d", "--json")
    report = json.loads(result.stdout)
    assert report["counts"] == {"done": 1}
    assert report["cases"][0]["source"] == str(source)


def test_split_that_is_none_is_an_error(tmp_path):
    source = image(tmp_path / "ct.nii.gz", hu())
    result = command(source, "--out", tmp_path / "d", "--split", "validation")
    assert (result.exit_code, "train or test" in result.stderr) == (2, True)


def test_impossible_workers_are_refused_before_anything_is_written(tmp_path):
    source = image(tmp_path / "ct.nii.gz", hu())
    wrong = ["ingest", str(source), "--out", str(tmp_path / "d"), "--workers", "-1"]
    result = CliRunner().invoke(app, wrong)
    assert (result.exit_code, "'--workers'" in result.stderr) == (2, True)
    assert not (tmp_path / "d").exists()


def test_test_split_and_a_second_run_add_to_the_dataset(tmp_path):
    first, second = image(tmp_path / "a.nii.gz", hu()), image(tmp_path / "b.nii.gz", hu() - 7)
    assert command(first, "--out", tmp_path / "d").exit_code == 0
    assert command(second, "--out", tmp_path / "d", "--split", "test").exit_code == 0
    info = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert info["counts"] == {"train": 1, "test": 1}
    assert len((tmp_path / "d" / "metadata.csv").read_text().splitlines()) == 3
