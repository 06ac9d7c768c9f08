"""`pantskit import` and `pantskit export` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

from miniatures import Miniature
from typer.testing import CliRunner

from pantskit.cli.app import app

KIDNEYS = ("kidney_left", "kidney_right")


def _call(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, result.output


def test_import_says_what_came_and_names_what_failed(mini: Miniature, tmp_path: Path) -> None:
    for number, value in ((1, 1), (2, 9)):
        folder = tmp_path / "src" / f"case_{number:05d}"
        mini.write_ct(folder / "imaging.nii.gz")
        mini.write_labels(folder / "segmentation.nii.gz", {value: mini.mask(*KIDNEYS)})
    out = tmp_path / "D"

    code, text = _call("import", "kits23", tmp_path / "src", "--out", out, "--workers", "0")

    assert code == 1
    assert "failed: KiTS23_00002: segmentation.nii.gz holds values" in text
    assert "annotated in cases: kidney_left 1, kidney_right 1" in text
    assert "licence: CC BY-NC-SA 4.0" in text
    about = json.loads((out / "dataset.json").read_text())
    assert about["sources"]["kits23"]["license"] == "CC BY-NC-SA 4.0"
    assert about["annotated"] == list(KIDNEYS)

    code, text = _call("export", out, "--out", tmp_path / "X", "--workers", "0", "--json")
    assert code == 0
    assert json.loads(text)["labels"] == {"1": "kidney_left", "2": "kidney_right"}


def test_import_as_json_is_for_programs(mini: Miniature, tmp_path: Path) -> None:
    folder = tmp_path / "src" / "case_00001"
    mini.write_ct(folder / "imaging.nii.gz")
    mini.write_labels(folder / "segmentation.nii.gz", {1: mini.mask(*KIDNEYS)})

    code, text = _call(
        "import", "kits23", tmp_path / "src", "--out", tmp_path / "D", "--workers", "0", "--json"
    )

    told = json.loads(text)
    assert code == 0
    assert told["counts"] == {"done": 1}
    assert told["structures"] == {"kidney_left": 1, "kidney_right": 1}
    assert told["layouts"] == [{"name": "as cloned", "images": 1, "labels": 1}]


def test_list_needs_no_dataset() -> None:
    code, text = _call("import", "--list")
    assert code == 0
    assert "panorama" in text
    assert "nnunet" in text
    code, text = _call("import", "--list", "--json")
    assert code == 0
    assert {"name", "scans", "structures", "tumours", "terms", "url", "label_values"} <= set(
        json.loads(text)[0]
    )


def test_what_is_missing_on_the_command_line_is_said(tmp_path: Path) -> None:
    for words, said in (
        (("import",), "--list"),
        (("import", "kits23", str(tmp_path)), "--out"),
        (("import", "kitts", str(tmp_path), "--out", str(tmp_path / "D")), "is not known"),
        (
            ("import", "kits23", str(tmp_path / "no"), "--out", str(tmp_path / "D")),
            "no such folder",
        ),
        (("import", "kits23", str(tmp_path), "--out", str(tmp_path / "D")), "there are no files"),
    ):
        code, text = _call(*words)
        assert code == 2
        assert said in text
