"""`pantskit train` and `pantskit predict` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import blobs
import pytest
import torch
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.networks.folder import Model


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    blobs.QUICK.write(tmp_path / "quick.toml")
    return tmp_path / "quick.toml"


def test_options_go_before_the_recipe_and_json_is_all_of_standard_output(
    trained: tuple[Dataset, Path], tmp_path: Path, recipe: Path
) -> None:
    cases = tmp_path / "cases.txt"
    cases.write_text("blob_0\nblob_2\n")
    model = tmp_path / "model"
    options = ("--epochs", 1, "--iterations", 2, "--patch", "16,16,24", "--workers", 0)
    exact = ("--full-precision", "--no-compile")  # which a CPU does anyway
    result = run(
        "train", trained[0].root, "--out", model, "--recipe", recipe, "--labels", 2, "--seed", 5,
        "--cases", cases, "--device", "cpu", *options, *exact, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    info = json.loads(result.stdout)
    assert info["channels"] == {"1": "pancreas", "2": "pancreatic_lesion"}
    assert info["training"]["patch_size"] == [16, 16, 24]
    assert (info["training"]["epochs"], info["training"]["seed"]) == (1, 5)
    settings = info["training"]["recipe"]
    assert (settings["mixed_precision"], settings["compile"]) == (False, False)
    assert sorted(info["training"]["cases"]) == ["blob_0", "blob_2"]
    assert "epoch 1/1" in result.stderr

    image = trained[0].cases("test")[0].image_path
    result = run("predict", model, image, "--out", tmp_path / "p", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    (prediction,) = json.loads(result.stdout)["cases"]
    assert prediction["case_id"] == "blob_4"
    assert prediction["structures"] == ["pancreas", "pancreatic_lesion"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--recipe", "gpu"), "cpu, paper"),
        (("--patch", "64"), "64,64,48"),
        (("--labels", "104"), "use 28, pancreas-"),
        (("--split", "validation"), "train or test"),
        (("--device", "tpu"), "auto, cpu, cuda"),
        (("--epochs", "0"), "above 0"),
        (("--fold", "5"), "fold 5 of 5"),
        (("--subset", "77"), "77 cases cannot be drawn from 4"),
    ],
)
def test_wrong_option_is_one_line_and_exit_status_2(
    trained: tuple[Dataset, Path], tmp_path: Path, options: tuple[str, str], named: str
) -> None:
    result = run("train", trained[0].root, "--out", tmp_path / "model", *options)
    assert result.exit_code == 2
    assert named in result.stderr
    assert result.stderr.count("error:") == 1
    assert not (tmp_path / "model" / "model.json").exists()


def test_estimate_is_json_and_nothing_is_trained(
    trained: tuple[Dataset, Path], tmp_path: Path, recipe: Path
) -> None:
    words = ("train", trained[0].root, "--out", tmp_path / "m", "--recipe", recipe)
    result = run(*words, "--device", "cpu", "--estimate", "--json", "--workers", 0)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["total_s"] > 0
    assert "estimated, not trained" in result.stderr
    assert "cpu: float32, not compiled: mixed precision and compiling are for GPUs" in result.stderr
    assert not (tmp_path / "m" / "model.json").exists()
    # Another training may take the folder, and is what it would have been elsewhere.
    other = ("--epochs", 1, "--iterations", 2, "--patch", "16,16,24", "--labels", 2, "--workers", 0)
    for name in ("m", "new"):
        result = run(*words[:3], tmp_path / name, *words[4:], "--device", "cpu", *other)
        assert result.exit_code == 0, result.stderr
    one, two = (Model.load(tmp_path / name).weights for name in ("m", "new"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_bad_case_ends_the_run_unless_it_may_be_skipped(tmp_path: Path, recipe: Path) -> None:
    dataset = blobs.write_dataset(tmp_path / "dataset", n_train=2, n_test=0)
    path = dataset.image_path("blob_1", "train")
    path.write_bytes(path.read_bytes()[:1000])
    words = ("train", dataset.root, "--out", tmp_path / "m", "--recipe", recipe)
    options = ("--epochs", 1, "--iterations", 1, "--device", "cpu", "--workers", 0)
    result = run(*words, *options)
    assert result.exit_code == 2
    assert "1 of 2 cases cannot be used: blob_1: " in result.stderr
    result = run(*words, *options, "--skip-bad")
    assert result.exit_code == 1
    assert "left out: blob_1: " in result.stderr


def test_missing_model_and_input_are_named(trained: tuple[Dataset, Path], tmp_path: Path) -> None:
    result = run("predict", tmp_path / "nowhere", trained[0].root, "--out", tmp_path / "p")
    assert (result.exit_code, "pantskit train" in result.stderr) == (2, True)
    result = run("predict", trained[1], tmp_path / "nothing", "--out", tmp_path / "p")
    assert (result.exit_code, "no such file" in result.stderr) == (2, True)


def test_what_a_memory_refusal_advises_works_in_the_same_folder(
    trained: tuple[Dataset, Path], tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pantskit.train import estimate

    monkeypatch.setattr(estimate, "PROCESS_MB", {"cpu": 0.0})
    free = [5.0]
    monkeypatch.setattr(estimate, "free_memory_mb", lambda _: free[0])
    words = ("train", trained[0].root, "--out", tmp_path / "m", "--recipe", recipe, "--workers", 0)
    short = ("--device", "cpu", "--epochs", 1, "--iterations", 1, "--labels", 2)
    result = run(*words, *short, "--patch", "64,64,64")
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)
    assert "GB are free" in result.stderr
    free[0] = 1e6
    assert run(*words, *short, "--patch", "24,24,24").exit_code == 0


def test_residual_encoder_is_chosen_by_the_memory_and_stays_chosen(
    trained: tuple[Dataset, Path], tmp_path: Path, recipe: Path
) -> None:
    model = tmp_path / "m"
    words = ("train", trained[0].root, "--out", model, "--recipe", recipe, "--labels", 2)
    short = ("--epochs", 1, "--iterations", 1, "--device", "cpu", "--workers", 0)
    result = run(*words, *short, "--architecture", "resenc")
    assert result.exit_code == 0, result.stderr
    assert "architecture resenc: resenc-m, as there is no GPU" in result.stderr
    assert 'architecture = "resenc-m"' in (model / "recipe.toml").read_text()
    info = json.loads((model / "model.json").read_text())
    assert info["training"]["recipe"]["architecture"] == "resenc-m"
    # On whichever GPU the same command is given again.
    result = run(*words, *short, "--architecture", "resenc")
    assert result.exit_code == 0, result.stderr
    assert "complete already" in result.stderr
