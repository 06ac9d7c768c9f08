from pathlib import Path

import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.selection import read_case_list
from pantskit.predict.inputs import find_inputs


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_folder_may_mix_three_habits_of_naming(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii.gz")
    touch(tmp_path / "a_0000.nii.gz")
    touch(tmp_path / "c" / "ct.nii.gz")
    touch(tmp_path / "notes.txt")
    found = find_inputs(tmp_path)
    assert list(found) == ["a", "b", "c"]
    assert found["c"] == tmp_path / "c" / "ct.nii.gz"


def test_scans_that_are_numbered_keep_their_numbers(tmp_path: Path) -> None:
    """`_0000` is nnU-Net's first channel, unless `_0001` lies beside it: it takes one CT only."""
    for name in ("scan_0000", "scan_0001", "scan_0007", "other_0000", "b_12345"):
        touch(tmp_path / f"{name}.nii.gz")
    found = find_inputs(tmp_path)
    assert list(found) == ["b_12345", "other", "scan_0000", "scan_0001", "scan_0007"]
    assert list(find_inputs(tmp_path / "scan_0000.nii.gz")) == ["scan_0000"]
    assert list(find_inputs(tmp_path / "other_0000.nii.gz")) == ["other"]


def test_split_of_what_has_none_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz")
    for path in (tmp_path, tmp_path / "a.nii.gz"):
        with pytest.raises(ConfigError, match=r"--split train: .* is no dataset"):
            find_inputs(path, split="train")


def test_one_file_is_one_case(tmp_path: Path) -> None:
    assert list(find_inputs(touch(tmp_path / "scan_7.nii"))) == ["scan_7"]
    assert list(find_inputs(touch(tmp_path / "PanTS_1" / "ct.nii.gz"))) == ["PanTS_1"]


def test_test_split_of_a_dataset_is_the_default(trained: tuple[Dataset, Path]) -> None:
    root = trained[0].root
    assert list(find_inputs(root)) == ["blob_4", "blob_5"]
    assert list(find_inputs(root, split="train", cases=["blob_3", "blob_1"])) == [
        "blob_1",
        "blob_3",
    ]


def test_case_that_is_not_there_is_named(trained: tuple[Dataset, Path]) -> None:
    with pytest.raises(DatasetError, match="no case blob_9"):
        find_inputs(trained[0].root, cases=["blob_4", "blob_9"])


def test_one_case_in_two_files_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz")
    touch(tmp_path / "a_0000.nii.gz")
    with pytest.raises(DatasetError, match="twice"):
        find_inputs(tmp_path)


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no CT"):
        find_inputs(tmp_path)
    with pytest.raises(DatasetError, match="no such"):
        find_inputs(tmp_path / "nowhere")


def test_case_list_takes_lines_tables_and_remarks(tmp_path: Path) -> None:
    path = tmp_path / "cases.txt"
    path.write_text("case_id,split\na,test\n\n# all of site 3\nb\n")
    assert read_case_list(path) == ("a", "b")
    path.write_text("a\na\n")
    with pytest.raises(ConfigError, match="twice"):
        read_case_list(path)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="no case"):
        read_case_list(path)
