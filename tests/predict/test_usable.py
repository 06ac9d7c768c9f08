"""Models that cannot be used, or not as they are asked: one line before anything is written."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.networks.folder import CHECKPOINT, FOLD, MODEL_FILE


def command(*words: object) -> Result:
    """Run `pantskit predict` on the CPU."""
    return CliRunner().invoke(cli.app, ["predict", *map(str, words), "--device", "cpu"])


@pytest.fixture
def foreign(trained: tuple[Dataset, Path], tmp_path: Path) -> Path:
    """The trained model as nnU-Net leaves one."""
    folder = Path(shutil.copytree(trained[1], tmp_path / "model"))
    (folder / MODEL_FILE).unlink()
    (folder / "recipe.toml").unlink()
    return folder


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text())
    how(values)
    path.write_text(json.dumps(values))


def refused(model: Path, dataset: Dataset, out: Path, *options: object) -> str:
    """What the command says; it has written nothing."""
    result = command(model, dataset.root, "--out", out, *options)
    assert result.exit_code == 2, result.output
    assert not out.exists()
    (line,) = [one for one in result.stderr.splitlines() if one.startswith("error:")]
    return line


def configured(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Change what plans say of 3d_fullres."""
    return lambda plans: plans["configurations"]["3d_fullres"].update(values)


ODD_PLANS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a preprocessor of somebody's own": (
        configured(preprocessor_name="TheirPreprocessor"),
        "the preprocessor 'TheirPreprocessor'; DefaultPreprocessor is known",
    ),
    "logits resampled by splines": (
        configured(resampling_fn_probabilities_kwargs={"order": 3, "is_seg": False}),
        "resample probabilities in a way that is not supported",
    ),
    "no patch size": (
        lambda plans: plans["configurations"]["3d_fullres"].pop("patch_size"),
        "patch_size",
    ),
    "a patch that the network cannot take": (
        configured(patch_size=[23, 23, 23]),
        "the network of plans.json cannot be built or run: RuntimeError",
    ),
    "axes named twice": (
        lambda plans: plans.update(transpose_forward=[0, 1, 1]),
        "transpose_forward (0, 1, 1) does not order three axes",
    ),
    "a normalisation of somebody's own": (
        configured(normalization_schemes=["TheirNormalization"]),
        "normalization_schemes ['TheirNormalization']; expected one of CTNormalization",
    ),
    "values resampled by somebody's own": (
        configured(resampling_fn_data="their_resampling"),
        "Unable to find resampling function named 'their_resampling'",
    ),
    "no spacing": (configured(spacing=[0.0, 1.0, 1.0]), "is not three lengths in mm"),
    "no intensities": (
        lambda plans: plans.pop("foreground_intensity_properties_per_channel"),
        "foreground_intensity_properties_per_channel",
    ),
}


@pytest.mark.parametrize("name", ODD_PLANS)
def test_plans_that_no_case_could_be_predicted_by_are_refused_at_once(
    trained: tuple[Dataset, Path], foreign: Path, tmp_path: Path, name: str
) -> None:
    how, message = ODD_PLANS[name]
    change(foreign / "plans.json", how)
    assert message in refused(foreign, trained[0], tmp_path / "out")


def test_weights_of_another_network_are_refused_at_once(
    trained: tuple[Dataset, Path], foreign: Path, tmp_path: Path
) -> None:
    shutil.copytree(foreign / FOLD, foreign / "fold_1")
    path = foreign / "fold_1" / CHECKPOINT
    checkpoint = torch.load(path, weights_only=True)
    name, weight = next(iter(checkpoint["network_weights"].items()))
    checkpoint["network_weights"][name] = weight[:-1].clone()
    torch.save(checkpoint, path)
    said = refused(foreign, trained[0], tmp_path / "out")
    assert "weights do not fit plans.json: size mismatch" in said


def test_checkpoint_whose_bytes_changed_is_damaged(
    trained: tuple[Dataset, Path], foreign: Path, tmp_path: Path
) -> None:
    """One bit of one weight, which torch itself reads without a word."""
    path = foreign / FOLD / CHECKPOINT
    weights = torch.load(path, weights_only=True)["network_weights"]
    largest = max(weights.values(), key=torch.Tensor.numel).numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(largest) + len(largest) // 2] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)
    said = refused(foreign, trained[0], tmp_path / "out")
    assert "damaged checkpoint (" in said
    assert "is not as it was written" in said


def test_weights_that_are_no_numbers_are_refused(
    trained: tuple[Dataset, Path], foreign: Path, tmp_path: Path
) -> None:
    path = foreign / FOLD / CHECKPOINT
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["network_weights"].values()))[0] = torch.nan
    torch.save(checkpoint, path)
    said = refused(foreign, trained[0], tmp_path / "out")
    assert "network 0 holds values that are not finite" in said


def test_folds_with_another_checkpoint_are_named(
    trained: tuple[Dataset, Path], foreign: Path, tmp_path: Path
) -> None:
    path = foreign / FOLD / CHECKPOINT
    path.rename(path.with_name("checkpoint_best.pth"))
    said = refused(foreign, trained[0], tmp_path / "out")
    assert f"no fold has a {CHECKPOINT}, only checkpoint_best.pth" in said


def test_label_map_that_would_not_be_heeded_is_refused(
    trained: tuple[Dataset, Path], foreign: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = refused(trained[1], trained[0], out, "--label-map", "1=liver")
    assert "says itself what its labels mean" in said
    said = refused(foreign, trained[0], out, "--label-map", "1=liver,9=spleen")
    assert "names the ids [9]" in said
    assert "its own are 1 to 4" in said


def test_predictions_from_before_labels_were_renamed_are_not_taken_for_new_ones(
    trained: tuple[Dataset, Path], foreign: Path, tmp_path: Path
) -> None:
    """The weights are the same, and the structures others: nothing of the old ones counts."""
    words = (foreign, trained[0].root, "--out", tmp_path / "out")
    assert command(*words).exit_code == 0
    assert command(*words).exit_code == 0
    labels = {"background": 0, "spleen": 1, "liver": 2, "pancreas": 3, "pancreatic_lesion": 4}
    before = copy.deepcopy(json.loads((foreign / "dataset.json").read_text())["labels"])
    assert labels != before
    change(foreign / "dataset.json", lambda values: values.update(labels=labels))
    result = command(*words)
    assert result.exit_code == 2
    assert "from before its plans.json, dataset.json or model.json changed" in result.stderr
