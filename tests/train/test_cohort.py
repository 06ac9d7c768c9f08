"""Phantoms and a real scan, through `train`, `predict` and `evaluate`, to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pantskit.cli import app as cli

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def run(*words: object) -> None:
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr


def scores(root: Path, dataset: Path, split: str, *options: object) -> dict[str, Any]:
    """Mean DSC of each structure, by name, after training, prediction and evaluation."""
    model, predictions, out = root / "model", root / "predictions", root / "scores"
    run("train", dataset, "--out", model, "--device", "cpu", "--workers", 0, *options)
    run("predict", model, dataset, "--split", split, "--out", predictions, "--device", "cpu")
    run("evaluate", predictions, dataset, "--split", split, "--out", out)
    summary = json.loads((out / "summary.json").read_text())
    return {name: found["dsc"]["mean"] for name, found in summary["structures"].items()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms of experiments/phantom_cohort: three sites, the last is the test split."""
    path = tmp_path_factory.mktemp("cohort") / "cohort"
    rare = ("--tumor-rate", 0.5, "--refine", 0, "--workers", 0)
    run("phantom", "--out", path, "--cases", 16, "--seed", 2, *rare)
    return path


@pytest.mark.parametrize("scheme", ["28", "2"])
def test_cohort_of_phantoms_is_learned_predicted_and_scored(
    cohort: Path, tmp_path: Path, scheme: str
) -> None:
    found = scores(tmp_path, cohort, "test", "--recipe", "cpu", "--labels", scheme)
    if scheme == "28":
        assert len([v for v in found.values() if v is not None]) > 20
        assert found["liver"] > 0.6, found
    assert found["pancreas"] > 0.5, found
    assert found["pancreatic_lesion"] is not None


def test_real_ct_is_learned_by_heart_through_the_commands(
    shared_data: Path, tmp_path: Path
) -> None:
    data = shared_data / "totalsegmentator"
    dataset = tmp_path / "one_ct"
    run(
        "ingest", data / "example_ct.nii.gz",
        "--labels", data / "example_seg_fast_force_split.nii.gz",
        "--label-map", "totalsegmentator", "--out", dataset,
    )  # fmt: skip
    recipe = CHECKOUT / "experiments" / "overfit_one_ct" / "recipe.toml"
    found = scores(tmp_path, dataset, "train", "--recipe", recipe, "--seed", 1)
    assert found["liver"] > 0.9, found
    assert found["spleen"] > 0.85, found
