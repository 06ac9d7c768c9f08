"""What a training may meet, through the command: one clear line each."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import blobs
import pytest
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.core.volume import read_volume

SHORT = blobs.QUICK.changed(epochs=1, iterations=1)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def train(dataset: Dataset, tmp_path: Path, *options: object) -> Result:
    if not (tmp_path / "quick.toml").exists():
        SHORT.write(tmp_path / "quick.toml")
    return run(
        "train", dataset.root, "--out", tmp_path / "model", "--recipe", tmp_path / "quick.toml",
        "--device", "cpu", "--workers", 0, *options,
    )  # fmt: skip


class Hostile:
    """Unpickled without care, this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_single_case_without_a_lesion_trains_and_is_told(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", annotated=blobs.STRUCTURES)
    blobs.write_case(dataset, "only", lesion=False)
    result = train(dataset, tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "annotated, but in no case there: pancreatic_lesion" in result.stderr
    assert "left out, annotated in no case: adrenal_gland_left" in result.stderr
    card = run("models", "describe", tmp_path / "model")
    assert card.exit_code == 0
    text = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "In no training case there, so never found: pancreatic_lesion." in text


def test_structure_that_one_side_of_the_fold_lost_is_told(tmp_path: Path) -> None:
    dataset = blobs.write_dataset(tmp_path / "d", n_train=2, n_test=0)
    SHORT.changed(validation="fold", folds=2).write(tmp_path / "quick.toml")
    result = train(dataset, tmp_path)
    assert result.exit_code == 0, result.stderr
    (line,) = [s for s in result.stderr.splitlines() if s.startswith("in none of the cases")]
    assert line.endswith("pancreatic_lesion")


@pytest.mark.parametrize("damage", ["cut short", "no image", "other grid"])
def test_damaged_image_is_named_before_anything_is_read_whole(tmp_path: Path, damage: str) -> None:
    dataset = blobs.write_dataset(tmp_path / "d", n_train=2, n_test=0)
    path = dataset.image_path("blob_1", "train")
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "no image":
        path.write_text("no image")
    else:
        image = read_volume(path)
        from pantskit.core.writing import write_volume

        write_volume(path, image.reoriented("RAS"))
    result = train(dataset, tmp_path)
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)
    assert "1 of 2 cases cannot be used: blob_1: " in result.stderr
    assert not (tmp_path / "model" / ".work" / "intensities").exists()


def test_hostile_files_are_refused_and_their_code_never_run(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    weights = tmp_path / "weights.pt"
    weights.write_bytes(pickle.dumps({"state_dict": Hostile(ran)}, protocol=2))
    words = ("--architecture", "unetr", "--pretrained", weights, "--patch", "32,32,32")
    result = train(trained[0], tmp_path, *words)
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)
    assert "refused" in result.stderr

    (tmp_path / "model" / "fold_0").mkdir(parents=True, exist_ok=True)
    latest = tmp_path / "model" / "fold_0" / "checkpoint_latest.pth"
    latest.write_bytes(pickle.dumps({"network_weights": Hostile(ran)}, protocol=2))
    result = train(trained[0], tmp_path, *words[:2], *words[4:])
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)
    assert not ran.exists()


def test_model_whose_labels_mean_nothing_here_is_refused_by_predict(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    (folder / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "fold_0/checkpoint_final.pth"):
        (folder / name).write_bytes((trained[1] / name).read_bytes())
    description = json.loads((trained[1] / "dataset.json").read_text())
    description["labels"] = {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    (folder / "dataset.json").write_text(json.dumps(description))
    image = trained[0].cases("test")[0].image_path
    words = ("predict", folder, image, "--out", tmp_path / "p", "--device", "cpu")
    result = run(*words)
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)
    assert "none of its labels is one of the 28 structures (a, b, c, d)" in result.stderr
    assert "--label-map" in result.stderr
