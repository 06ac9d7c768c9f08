"""`pantskit models`: listed, verified without running their code, described."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.networks.folder import CHECKPOINT, FOLD, Model
from pantskit.networks.inventory import list_models, verify_model
from pantskit.train.card import render_card


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def model(trained: tuple[Dataset, Path], tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(trained[1], tmp_path / "models" / "ours"))


def test_models_of_a_folder_are_listed_with_their_origin(model: Path) -> None:
    elsewhere = model.parent / "Dataset7" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    shutil.copytree(model, elsewhere)
    for name in ("model.json", "recipe.toml", "cases.json"):
        (elsewhere / name).unlink()
    (model.parent / "begun").mkdir()
    for name in ("recipe.toml", "plans.json", "dataset.json"):
        shutil.copy(model / name, model.parent / "begun" / name)
    found = {m.folder.name: (m.origin, m.status, m.cases) for m in list_models(model.parent)}
    assert found == {
        "ours": ("pantskit", "complete", 4),
        "begun": ("pantskit", "unfinished", None),
        elsewhere.name: ("nnU-Net", "1 folds", None),
    }
    result = run("models", "list", model.parent)
    assert result.exit_code == 0
    assert f"{model}: pantskit, complete, 4 structures, 4 cases" in result.stdout
    with pytest.raises(DatasetError, match="holds no model"):
        list_models(model / FOLD)


def test_whole_model_is_verified(model: Path) -> None:
    assert verify_model(model) == []
    result = run("models", "verify", model, "--json")
    assert result.exit_code == 0
    assert [row["faults"] for row in json.loads(result.stdout)] == [[]]


def test_other_weights_than_those_written_are_found(model: Path) -> None:
    path = model / FOLD / CHECKPOINT
    checkpoint = torch.load(path, weights_only=True)
    first = next(iter(checkpoint["network_weights"].values()))
    first.view(-1)[0] = float("nan")
    torch.save(checkpoint, path)
    changed, infinite = verify_model(model)
    assert "is not the file that model.json was written for" in changed
    assert "values that are not finite" in infinite
    assert run("models", "verify", model).exit_code == 1


def test_hostile_checkpoint_is_a_fault_and_its_code_never_run(model: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (model / FOLD / CHECKPOINT).write_bytes(pickle.dumps(Hostile(), protocol=2))
    (fault,) = verify_model(model)
    assert "refused" in fault
    assert not (tmp_path / "ran").exists()


def test_card_says_what_it_is_made_from_and_what_it_is_not(model: Path) -> None:
    result = run("models", "describe", model)
    assert result.exit_code == 0, result.stderr
    card = (model / "MODEL_CARD.md").read_text()
    assert card == render_card(Model.load(model))
    assert "4 cases of dataset (split train)" in card
    assert "| tumor: yes | 2 |" in card
    assert "no medical device" in card
    assert "Trained on only 4 cases: a trial, not for use." in card
    assert "Its quality is not measured here." in card
    for title in ("Intended use", "Training data", "Metrics", "Limits and cautions"):
        assert f"## {title}" in card


def test_card_has_the_scores_with_their_intervals(model: Path, tmp_path: Path) -> None:
    dsc = {"mean": 0.8124, "low": 0.75, "high": 0.86, "median": 0.8, "n": 12}
    alone = {"mean": 0.5, "low": None, "high": None, "median": 0.5, "n": 1}
    summary = {"structures": {"liver": {"dsc": dsc}, "spleen": {"dsc": alone}}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    card = render_card(Model.load(model), tmp_path)
    assert "| 0.812 (0.750 to 0.860) | 12 |" in card
    assert "| 0.500 | 1 |" in card
    assert "not measured" not in card
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(DatasetError, match="no summary"):
        render_card(Model.load(model), tmp_path)


def test_card_of_a_model_made_elsewhere_says_that_its_data_are_unknown(model: Path) -> None:
    for name in ("model.json", "recipe.toml", "cases.json"):
        (model / name).unlink()
    card = render_card(Model.load(model))
    assert "Not known: the model was trained elsewhere" in card
    assert "orientation it was trained is not known" in card
