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
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume

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


def test_predictive_values_and_the_users_own_score_are_printed(
    folders: tuple[str, str, str], tmp_path: Path
) -> None:
    predictions, reference, out = folders
    own = tmp_path / "own.csv"
    own.write_text("case_id,score\ncase_1,7\ncase_2,3\n")
    result = evaluate(
        predictions, reference, "--out", out, "--case-scores", str(own), "--case-score", "2",
        "--prevalence", "0.01", "--hit-rule", "iou", "--hit-minimum", "0.5",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "Tumours found 1.00 (1/1): IoU of lesion and candidate of at least 0.5" in result.stdout
    at = lines.index(next(x for x in lines if x.startswith("Tumour cases, case score >= 2:")))
    assert "sensitivity 1.00 (1/1), specificity 0.00 (0/1), F1 0.667" in lines[at]
    assert lines[at + 1] == "  at a prevalence of 0.01: PPV 0.010, NPV -"
    assert "AUC 1.000" in result.stdout
    settings = summary_of(out)["settings"]
    assert (settings["case_scores"], settings["case_score"]) == (2, 2.0)


def write_map(folder: str, case_id: str, array: np.ndarray, grid: Geometry = GRID) -> None:
    write_volume(Path(folder) / f"{case_id}.nii.gz", Volume(array, grid), label_space="pants")


def of_case(out: str, case_id: str) -> list[dict[str, Any]]:
    return [r for r in read_table(Path(out) / "scores.parquet") if r["case_id"] == case_id]


def only_line_of(stderr: str, case_id: str) -> str:
    """The one line of the report that names a case; progress lines set apart."""
    lines = [x for x in stderr.splitlines() if case_id in x and not x.startswith("evaluate ")]
    assert len(lines) == 1, stderr
    return lines[0]


def require_worst(result: Result, out: str, case_id: str, said: str) -> None:
    """Exit 1, one line that says why, the same in the summary, and the worst score."""
    assert result.exit_code == 1
    assert said in only_line_of(result.stderr, case_id)
    cases = summary_of(out)["cases"]
    assert cases["failed"] == [case_id]
    assert said in cases["messages"][case_id]
    assert "\n" not in cases["messages"][case_id]
    assert {r["dsc"] for r in of_case(out, case_id)} == {0.0}


def test_a_missing_prediction_is_in_the_summary_and_scores_worst(
    folders: tuple[str, str, str],
) -> None:
    predictions, reference, out = folders
    (Path(predictions) / "case_1.nii.gz").unlink()
    result = evaluate(predictions, reference, "--out", out)
    assert result.exit_code == 1
    assert "counts as the worst score" in only_line_of(result.stderr, "case_1")
    assert summary_of(out)["cases"]["missing_prediction"] == ["case_1"]
    assert {r["dsc"] for r in of_case(out, "case_1")} == {0.0}


def test_another_grid_is_refused_with_both_and_resampled_when_asked(
    folders: tuple[str, str, str],
) -> None:
    predictions, reference, out = folders
    coarse = Geometry.from_spacing((8, 14, 12), (1.6, 0.8, 2.5), origin=(0.4, 0.0, 0.0))
    halved = np.zeros(coarse.shape, np.uint8, order="F")
    halved[1:4, 1:8, 1:8] = PANTS.id_of("liver")
    write_map(predictions, "case_2", halved, coarse)
    result = evaluate(predictions, reference, "--out", out)
    require_worst(result, out, "case_2", "different grids")
    line = only_line_of(result.stderr, "case_2")
    assert "(16, 14, 12)" in line
    assert "(8, 14, 12)" in line
    assert "--resample" in line
    result = evaluate(predictions, reference, "--out", out, "--resample")
    assert result.exit_code == 0, result.stderr
    assert summary_of(out)["cases"]["resampled"] == ["case_2"]


def test_labels_outside_the_map_fail_the_case(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    write_map(predictions, "case_2", np.full(GRID.shape, 99, np.uint8, order="F"))
    result = evaluate(predictions, reference, "--out", out)
    require_worst(result, out, "case_2", "[99]")


@pytest.mark.parametrize("value", [1.5, np.nan, -3.0])
def test_float_labels_that_are_no_labels_fail_the_case(
    folders: tuple[str, str, str], value: float
) -> None:
    predictions, reference, out = folders
    labels = np.zeros(GRID.shape, np.float32, order="F")
    labels[1:8, 1:8, 1:8] = value
    write_map(predictions, "case_2", labels)
    result = evaluate(predictions, reference, "--out", out)
    require_worst(result, out, "case_2", "case_2")


def test_float_labels_that_are_whole_score_as_integers(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    evaluate(predictions, reference, "--out", out)
    before = of_case(out, "case_2")
    labels = np.zeros(GRID.shape, np.float32, order="F")
    labels[2:9, 1:8, 1:8] = PANTS.id_of("liver")
    write_map(predictions, "case_2", labels)
    result = evaluate(predictions, reference, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert of_case(out, "case_2") == before


def test_both_empty_has_no_overlap_and_counts_in_specificity(
    folders: tuple[str, str, str],
) -> None:
    predictions, reference, out = folders
    result = evaluate(predictions, reference, "--out", out)
    assert result.exit_code == 0
    rows = {r["structure"]: r for r in of_case(out, "case_2")}
    assert rows["pancreatic_lesion"]["status"] == "both_empty"
    assert rows["pancreatic_lesion"]["dsc"] is None
    lesion = summary_of(out)["structures"]["pancreatic_lesion"]
    assert (lesion["dsc"]["n"], lesion["status"]["both_empty"]) == (1, 1)
    assert summary_of(out)["detection"]["specificity"]["count"] == 1


@pytest.mark.parametrize("value", ["NaN", "1.5", '"high"'])
def test_probabilities_that_are_none_fail_the_case(
    folders: tuple[str, str, str], value: str
) -> None:
    predictions, reference, out = folders
    (Path(predictions) / "case_2").mkdir()
    facts = Path(predictions) / "case_2" / "prediction.json"
    facts.write_text('{"tumor_probability": ' + value + "}")
    result = evaluate(predictions, reference, "--out", out)
    require_worst(result, out, "case_2", "prediction.json gives tumor_probability")


def test_a_probability_map_with_nan_fails_the_case(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    path = Path(predictions) / "case_2" / "probabilities" / "pancreatic_lesion.nii.gz"
    write_volume(path, Volume(np.full(GRID.shape, np.nan, np.float32, order="F"), GRID))
    result = evaluate(predictions, reference, "--out", out)
    require_worst(result, out, "case_2", "holds values outside 0 to 1, or NaN")


def test_a_prediction_that_is_there_twice_fails_the_case(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    labels = np.zeros(GRID.shape, np.uint8, order="F")
    volume = Volume(labels, GRID)
    write_volume(Path(predictions) / "case_2.nii", volume, label_space="pants")
    result = evaluate(predictions, reference, "--out", out)
    require_worst(result, out, "case_2", "case_2 is there twice")


def test_a_case_list_that_names_a_case_twice_says_so(
    folders: tuple[str, str, str], tmp_path: Path
) -> None:
    predictions, reference, out = folders
    listed = tmp_path / "cases.txt"
    listed.write_text("case_1\ncase_1\n")
    result = evaluate(predictions, reference, "--out", out, "--cases", str(listed))
    assert result.exit_code == 1
    assert "1 cases are listed more than once: case_1\n" in result.stderr
    assert summary_of(out)["cases"]["repeated_cases"] == ["case_1"]


def test_case_scores_that_disagree_with_the_cases_are_named(
    folders: tuple[str, str, str], tmp_path: Path
) -> None:
    predictions, reference, out = folders
    own = tmp_path / "own.csv"
    own.write_text("case_id,score\ncase_1,7\nnobody,3\n")
    result = evaluate(predictions, reference, "--out", out, "--case-scores", str(own))
    assert result.exit_code == 1
    assert "1 cases have no score in the table of case scores: case_2\n" in result.stderr
    said = "1 cases of the table of case scores are not in the reference: nobody\n"
    assert said in result.stderr
    cases = summary_of(out)["cases"]
    assert (cases["cases_without_score"], cases["scores_without_case"]) == (["case_2"], ["nobody"])
    assert summary_of(out)["detection"]["score"] == "tumor_volume_mm3_prediction"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hit-rule", "near"], "rule 'near' is unknown"),
        (["--hit-minimum", "0.3"], "'touch' knows no least overlap"),
        (["--prevalence", "1.2"], "from 0 to 1"),
        (["--case-score", "3"], "needs --case-scores"),
        (["--case-scores", "nowhere.csv"], "nowhere.csv: table cannot be read"),
        (["--tumor-mm3", "-5"], "tumour volume must be 0 mm3 or more"),
    ],
)
def test_detection_options_that_make_no_sense_end_with_2(
    folders: tuple[str, str, str], options: list[str], said: str
) -> None:
    predictions, reference, out = folders
    result = evaluate(predictions, reference, "--out", out, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_union_is_scored_as_one(folders: tuple[str, str, str]) -> None:
    predictions, reference, out = folders
    options = ("--union", "both=liver+pancreas", "--json")
    result = evaluate(predictions, reference, "--out", out, *options)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["structures"]["both"]["dsc"]["n"] > 0
    result = evaluate(predictions, reference, "--out", out, "--union", "both=liver+knee")
    assert result.exit_code == 2
