"""`pantskit cohort`: what it prints, and what it says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pantskit.cli.app import app
from pantskit.core.dataset import Dataset

pytestmark = pytest.mark.usefixtures("without_pictures")


def run(*args: object) -> Result:
    return CliRunner().invoke(app, ["cohort", *map(str, args)])


def test_compare_prints_every_dataset_and_says_where_the_rest_is(
    three_cases: Dataset, tmp_path: Path
) -> None:
    result = run("--compare", three_cases.root, "--out", tmp_path / "out", "--workers", 0)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["PANORAMA", "[2024]", "578", "2,238", "7", "1", "1"] in lines
    assert ["ours", "1", "2", "2", "1", "1"] in lines
    assert "comparison.md" in result.stdout
    assert (tmp_path / "out" / "comparison.md").is_file()


def test_json_on_standard_output_is_the_written_one(tmp_path: Path) -> None:
    result = run("--compare", "--out", tmp_path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads((tmp_path / "comparison.json").read_text())


def test_a_case_that_cannot_be_read_makes_exit_status_1_and_is_named(
    three_cases: Dataset, tmp_path: Path
) -> None:
    three_cases.image_path("c1", "train").write_bytes(b"nonsense")
    result = run("--compare", three_cases.root, "--out", tmp_path / "out", "--workers", 0)
    assert result.exit_code == 1
    assert "failed: " in result.stderr
    assert "c1" in result.stderr
    assert "count: 1 failed, 2 done" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["."], "--compare is what there is"),
        ([], "--compare is what there is"),
        (["--compare"], "with --out"),
        (["--compare", "nowhere", "--out", "x"], "nowhere: no such folder"),
    ],
)
def test_what_is_missing_is_said_in_one_line(args: list[str], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_out_that_is_a_file_is_said_before_the_counting(
    three_cases: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = run("--compare", three_cases.root, "--out", tmp_path / "file", "--workers", 0)
    assert result.exit_code == 2
    assert "a file is in the way of the folder" in result.stderr
    assert "count" not in result.stderr


def test_help_names_only_what_is_there() -> None:
    text = run("--help").stdout
    assert "--compare" in text
    assert "--published" not in text
