"""`pantskit evaluate` from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.records import read_table
from pantskit.core.volume import Volume, write_volume

GRID = Geometry.from_spacing((16, 14, 12), (0.8, 0.8, 2.5))


def label_map(folder: Path, case_id: str, *, tumor: bool, shift: int = 0) -> None:
    liver, lesion = np.zeros((2, *GRID.shape), np.bool_)
    liver[1 + shift : 8 + shift, 1:8, 1:8] = True
    lesion[10:13, 10:13, 4:6] = tumor
    combined = PANTS.combine({"liver": liver, "pancreas": lesion, "pancreatic_lesion": lesion})
    write_volume(folder / f"{case_id}.nii.gz", Volume(combined, GRID), label_space="pants")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str, str]:
    """Two cases, predicted a voxel off, as flat folders of label maps."""
    for name, shift in (("predictions", 1), ("reference", 0)):
        (tmp_path / name).mkdir()
        annotated = ["liver", "pancreas", "pancreatic_lesion"]
        text = json.dumps({"label_space": "pants", "annotated": annotated})
        (tmp_path / name / "dataset.json").write_text(text)
        for case_id, tumor in (("case_1", True), ("case_2", False)):
            label_map(tmp_path / name, case_id, tumor=tumor, shift=shift)
    return str(tmp_path / "predictions"), str(tmp_path / "reference"), str(tmp_path / "scores")


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["evaluate", *arguments, "--workers", "0"])


def summary_of(out: str) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((Path(out) / "summary.json").read_text())
    return summary


def test_it_writes_every_table_and_prints_one(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    result = evaluate(
        predictions, reference, "--out", out, "--tolerance-mm", "1", "--tolerance-mm", "2",
        "--figures",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    written = {p.name for p in Path(out).iterdir() if not p.name.startswith(".")}
    tables = ("scores", "cases", "lesions", "candidates")
    curves = ("roc", "precision_recall", "froc")
    assert written == {
        *(f"{t}.{s}" for t in tables for s in ("csv", "parquet")),
        *(f"{t}.{s}" for t in curves for s in ("csv", "png")),
        *(f"{name}.png" for name in ("structures", "lesions_by_size", "failures")),
        "summary.json",
    }
    assert len(read_table(Path(out) / "scores.parquet")) == 2 * 3 * 2
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "Structure", "DSC", "NSD", "1", "mm", "NSD", "2", "mm", "Cases", "Empty", "Worst",
    ]  # fmt: skip
    # 6 of 7 slices overlap.
    assert next(line for line in lines if line.startswith("liver")).split()[1] == "0.857"
    assert "sensitivity 1.00 (1/1), specificity 1.00 (1/1)" in result.stdout
    assert "2 done" in result.stderr


def test_json_is_the_summary_file_and_nothing_else(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    result = evaluate(predictions, reference, "--out", out, "--json")
    assert json.loads(result.stdout) == json.loads((Path(out) / "summary.json").read_text())


def test_workers_give_the_same_scores(folders: tuple[str, str, str], tmp_path: Path) -> None:
    predictions, reference, out = folders
    evaluate(predictions, reference, "--out", out)
    other = str(tmp_path / "other")
    arguments = ["evaluate", predictions, reference, "--out", other, "--workers", "1"]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    tables = [(Path(o) / "scores.csv").read_text() for o in (out, other)]
    assert tables[0] == tables[1]


def test_a_missing_prediction_is_named_and_ends_with_1(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    (Path(predictions) / "case_2.nii.gz").unlink()
    result = evaluate(predictions, reference, "--out", out)
    assert result.exit_code == 1
    assert "failed: case_2: no prediction in" in result.stderr
    assert (Path(out) / "summary.json").exists()


def test_an_extra_prediction_is_named_and_ends_with_1(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    (Path(reference) / "case_2.nii.gz").unlink()
    result = evaluate(predictions, reference, "--out", out)
    assert result.exit_code == 1
    assert "1 predicted cases have no reference: case_2\n" in result.stderr
    assert summary_of(out)["cases"]["extra_predictions"] == ["case_2"]


def test_a_list_of_cases_is_followed(folders: tuple[str, str, str], tmp_path: Path) -> None:
    predictions, reference, out = folders
    listed = tmp_path / "cases.txt"
    listed.write_text("case_1\n")
    result = evaluate(predictions, reference, "--out", out, "--cases", str(listed), "--json")
    assert json.loads(result.stdout)["cases"]["reference"] == 1
    listed.write_text("case_1\ncase_7\n")
    result = evaluate(predictions, reference, "--out", out, "--cases", str(listed))
    assert result.exit_code == 1
    assert "1 cases asked for are not in the reference: case_7\n" in result.stderr
    assert summary_of(out)["cases"]["unknown_cases"] == ["case_7"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--definition", "median"], "NSD definition 'median' is unknown"),
        (["--tolerance-mm", "-1"], "tolerances must be 0 mm or more"),
        (["--structures", "heart"], "'heart' is none of the 28 structures"),
        (["--label-map", "nosuch"], "label map 'nosuch' is not known"),
        (["--split", "validation"], "split 'validation' is unknown"),
    ],
)
def test_options_that_make_no_sense_end_with_2_and_one_line(
    folders: tuple[str, str, str], options: list[str], said: str
) -> None:
    predictions, reference, out = folders
    result = evaluate(predictions, reference, "--out", out, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path(out).exists()


def test_a_folder_that_is_not_there_ends_with_2(folders: tuple[str, str, str]) -> None:
    _, reference, out = folders
    result = evaluate("nowhere", reference, "--out", out)
    assert result.exit_code == 2
    assert result.stderr == "error: nowhere: no such file or folder\n"
