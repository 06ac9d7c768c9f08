"""Datasets as they lie on real disks: nested, unpacked by macOS, without `.gz`, with test sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import Miniature, write_dicom

from pantskit.core.errors import DatasetError

KIDNEYS = ("kidney_left", "kidney_right")


def test_nested_folder_without_gz_and_with_what_macos_leaves(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "download" / "kits23-main" / "dataset" / "case_00001"
    mini.write_ct(folder / "imaging.nii")
    mini.write_labels(folder / "segmentation.nii", {1: mini.mask(*KIDNEYS)})
    left = tmp_path / "download" / "__MACOSX" / "dataset" / "case_00001" / "._imaging.nii.gz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left by macOS")
    (folder / ".DS_Store").write_bytes(b"left by macOS")

    made = run("kits23", tmp_path / "download")

    made.require_truth(mini, "KiTS23_00001", KIDNEYS)
    assert len(made.records) == 1
    assert made.exit_status == 0


def test_archive_that_is_not_unpacked_is_said_so(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "Task03_Liver.tar").write_bytes(b"an archive")
    with pytest.raises(DatasetError, match="an archive that is not unpacked yet"):
        run("msd", tmp_path / "src")


def test_test_sets_without_labels_are_skipped_or_left(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    raw = tmp_path / "btcv" / "Abdomen" / "RawData"
    mini.write_ct(raw / "Training" / "img" / "img0001.nii.gz")
    mini.write_labels(raw / "Training" / "label" / "label0001.nii.gz", {6: mini.mask("liver")})
    mini.write_ct(raw / "Testing" / "img" / "img0061.nii.gz")
    task = tmp_path / "msd" / "Task09_Spleen"
    mini.write_ct(task / "imagesTr" / "spleen_002.nii.gz")
    mini.write_labels(task / "labelsTr" / "spleen_002.nii.gz", {1: mini.mask("spleen")})
    mini.write_ct(task / "imagesTs" / "spleen_001.nii.gz")

    btcv = run("btcv", tmp_path / "btcv")
    msd = run("msd", tmp_path / "msd", out=tmp_path / "MSD")

    btcv.require_done("BTCV_0001")
    assert btcv.records["BTCV_0061"].status == "skipped"
    assert (btcv.exit_status, msd.exit_status) == (0, 0)
    assert set(msd.records) == {"MSD_spleen_002"}


def test_chaos_with_its_test_set_beside_it(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    from PIL import Image

    train = tmp_path / "Train_Sets" / "CT" / "1"
    write_dicom(train / "DICOM_anon", mini.ct)
    write_dicom(tmp_path / "Test_Sets" / "CT" / "3" / "DICOM_anon", mini.ct)
    (train / "Ground").mkdir()
    liver = mini.mask("liver")
    upward = liver if mini.geometry.affine[2, 2] > 0 else liver[:, :, ::-1]
    for k in range(liver.shape[2]):
        picture = Image.fromarray((upward[:, :, k].T * 255).astype(np.uint8))
        picture.save(train / "Ground" / f"liver_GT_{k:03d}.png")

    made = run("chaos", tmp_path)

    made.require_truth(mini, "CHAOS_1", ["liver"])
    assert made.records["CHAOS_3"].status == "skipped"


def test_pancreas_ct_as_the_archive_downloads_it(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    deep = "manifest-1/Pancreas-CT/PANCREAS_0004/11-24-2015-PANCREAS0004-Pancreas-00001"
    write_dicom(tmp_path / deep / "Pancreas-29332", mini.ct)
    (tmp_path / "manifest-1" / "LICENSE").write_text("terms")
    labels = tmp_path / "TCIA_pancreas_labels-02-05-2017-1" / "label0004.nii"
    mini.write_labels(labels, {1: mini.mask("pancreas")}, flip=(1,))

    made = run("tcia_pancreas_ct", tmp_path)

    made.require_truth(mini, "NIHPancreas_0004", ["pancreas"])
    assert made.only.data["labels"]["flip"] == "y"


def test_labels_of_scans_that_were_not_downloaded_are_named_one_by_one(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    labels = tmp_path / "panorama_labels" / "automatic_labels"
    for patient in ("100001", "100002"):
        mini.write_labels(labels / f"{patient}_00001.nii.gz", {4: mini.mask("pancreas")})
    mini.write_ct(tmp_path / "batch_1" / "100001_00001_0000.nii.gz")

    made = run("panorama", tmp_path / "batch_1", tmp_path / "panorama_labels")

    made.require_done("PANORAMA_100001_00001")
    assert "has no CT, though others have one" in made.records["PANORAMA_100002_00001"].message
    assert made.exit_status == 1
