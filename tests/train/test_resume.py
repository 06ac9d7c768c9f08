"""A training that was stopped, however, goes on to the same weights."""

from __future__ import annotations

import csv
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import blobs
import numpy as np
import pytest
import torch

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.networks.folder import Model
from pantskit.train import resume
from pantskit.train.batches import NumberedBatches, draw_batches
from pantskit.train.begin import WORK
from pantskit.train.curve import Epoch
from pantskit.train.recipe import Recipe
from pantskit.train.resume import latest_path
from pantskit.train.run import Listener, TrainingResult, train_model

ONE_CYCLE = blobs.QUICK.changed(epochs=4, iterations=3, save_every=2)
# The paper's optimiser, schedule, augmentation, deep supervision and scored fold.
POLY = Recipe.read("paper").changed(
    epochs=3,
    iterations=2,
    validation_iterations=1,
    patch_size=(16, 16, 16),
    features=4,
    intensity_samples=1000,
    save_every=1,
)


class Killed(BaseException):
    """Ends a training as kill -9 does: nothing of ours is done after it."""


def train(dataset: Dataset, out: Path, recipe: Recipe, **options: object) -> TrainingResult:
    return train_model(dataset, out, recipe=recipe, device="cpu", workers=0, **options)


def weights(model: Path) -> dict[str, torch.Tensor]:
    return Model.load(model).weights


def assert_equal_bits(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def rows(model: Path) -> list[dict[str, str]]:
    with (model / "progress.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def after_steps(monkeypatch: pytest.MonkeyPatch, number: int, do: object) -> None:
    """Let something happen before a training step; those of the estimate do not count."""
    from pantskit.train.trainer import RecipeTrainer

    done, step = [0], RecipeTrainer.train_step

    def counted(self: RecipeTrainer, batch: object) -> object:
        done[0] += self.model.name != "estimate"
        if done[0] == number:
            do()
        return step(self, batch)

    monkeypatch.setattr(RecipeTrainer, "train_step", counted)


@pytest.fixture(scope="module")
def whole(
    trained: tuple[Dataset, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Trainings that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    for name, recipe in (("one_cycle", ONE_CYCLE), ("poly", POLY)):
        train(trained[0], folder / name, recipe)
    return {name: folder / name for name in ("one_cycle", "poly")}


@pytest.mark.parametrize(
    ("name", "recipe", "step"),
    [
        ("one_cycle", ONE_CYCLE, 2),  # before there is a checkpoint
        ("one_cycle", ONE_CYCLE, 8),  # an epoch and more after the last one
        ("poly", POLY, 4),
        ("poly", POLY, 5),  # first of an epoch
    ],
)
def test_killed_training_started_again_gives_the_bits_of_an_uninterrupted_one(
    trained: tuple[Dataset, Path],
    whole: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    recipe: Recipe,
    step: int,
) -> None:
    def kill() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        after_steps(patch, step, kill)
        with pytest.raises(Killed):
            train(trained[0], tmp_path / "model", recipe)
    assert not (tmp_path / "model" / "model.json").exists()
    result = train(trained[0], tmp_path / "model", recipe)
    assert (result.info.status, result.info.training["epochs"]) == ("complete", recipe.epochs)
    assert_equal_bits(whole[name], tmp_path / "model")
    assert rows(whole[name]) == rows(tmp_path / "model")
    assert not latest_path(tmp_path / "model").exists()


def test_process_killed_by_signal_9_loses_nothing_that_counts(
    trained: tuple[Dataset, Path], whole: dict[str, Path], tmp_path: Path
) -> None:
    program = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pantskit.core.dataset import Dataset
from pantskit.train.recipe import Recipe
from pantskit.train.run import Listener, train_model

def kill(epoch, total):
    if epoch.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

root, out, recipe = sys.argv[1:]
train_model(Dataset.open(Path(root)), Path(out), recipe=Recipe.read(recipe), device="cpu",
            workers=0, listener=Listener(epoch=kill))
"""
    recipe = ONE_CYCLE.changed(save_every=1)
    recipe.write(tmp_path / "mine.toml")
    words = [sys.executable, "-c", program, trained[0].root, tmp_path / "model"]
    process = subprocess.run([*map(str, words), str(tmp_path / "mine.toml")], check=False)
    assert process.returncode == -signal.SIGKILL
    said: list[str] = []
    train(trained[0], tmp_path / "model", recipe, listener=Listener(say=said.append))
    assert any("goes on after 3 epochs" in line for line in said)
    assert_equal_bits(whole["one_cycle"], tmp_path / "model")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_leaves_a_model_and_goes_on_from_the_very_iteration(
    trained: tuple[Dataset, Path],
    whole: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    model, said = tmp_path / "model", []
    with monkeypatch.context() as patch:
        after_steps(patch, 5, lambda: os.kill(os.getpid(), number))
        result = train(trained[0], model, ONE_CYCLE, listener=Listener(say=said.append))
    assert (result.info.status, result.info.training["epochs"]) == ("interrupted", 1)
    assert result.exit_status == 130
    Model.load(model).build(torch.device("cpu"))
    again = train(trained[0], model, ONE_CYCLE, listener=Listener(say=said.append))
    assert any("goes on after 1 epochs and 2 iterations" in line for line in said)
    assert again.info.status == "complete"
    assert_equal_bits(whole["one_cycle"], model)
    assert not (model / WORK).exists()


def test_signal_handlers_are_as_before_after_a_training(trained: tuple[Dataset, Path]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with resume.heeding_signals(lambda _: None) as asked:
        assert signal.getsignal(signal.SIGINT) != before
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_state_is_written_between_iterations_when_the_last_is_old(
    trained: tuple[Dataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[dict[str, object]] = []

    def look(epoch: Epoch, total: int) -> None:
        states.append(torch.load(latest_path(tmp_path / "m"), weights_only=True)["pantskit"])

    monkeypatch.setattr(resume, "SAVE_EVERY_S", 0.0)
    recipe = ONE_CYCLE.changed(epochs=1, iterations=3, save_every=100)
    train(trained[0], tmp_path / "m", recipe, listener=Listener(epoch=look))
    assert [(s["epoch"], s["losses"]) for s in states] == [(1, [])]


def test_hostile_checkpoint_is_refused_and_its_code_never_run(
    trained: tuple[Dataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    model = tmp_path / "model"
    with monkeypatch.context() as patch:
        after_steps(patch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(trained[0], model, ONE_CYCLE)
    latest_path(model).write_bytes(pickle.dumps({"network_weights": Hostile()}, protocol=2))
    with pytest.raises(DatasetError, match="refused"):
        train(trained[0], model, ONE_CYCLE)
    assert not (tmp_path / "ran").exists()
    latest_path(model).write_bytes(b"half a checkpoint")
    with pytest.raises(DatasetError, match="damaged"):
        train(trained[0], model, ONE_CYCLE)


class Drawn:
    """A loader that draws from every kind of random numbers."""

    batch_size = 2

    def get_do_oversample(self, place: int) -> bool:
        return place > 0

    def generate_train_batch(self) -> dict[str, object]:
        import random

        n = np.random.uniform()  # noqa: NPY002  # as nnU-Net's loaders do
        data = torch.rand(self.batch_size, 3)
        return {"data": data, "target": torch.tensor([[n, random.random()]]), "keys": ["case"]}


def test_batches_are_the_same_from_any_number_of_processes_and_any_start() -> None:
    def of(seed: int, numbers: range, processes: int) -> list[list[float]]:
        batches = NumberedBatches(Drawn(), seed, "train")
        drawn = draw_batches(batches, numbers, processes=processes)
        return [b["data"].flatten().tolist() + b["target"].flatten().tolist() for b in drawn]

    alone = of(7, range(6), 0)
    assert of(7, range(6), 2) == alone
    assert of(7, range(4, 6), 1) == alone[4:]
    assert of(8, range(6), 0) != alone
    assert len({tuple(batch) for batch in alone}) == 6


def test_processes_that_draw_batches_outlive_signals_to_the_whole_group() -> None:
    # torchrun and batch systems send SIGTERM to every process, of which only the training may
    # decide what ends.
    batches = NumberedBatches(Drawn(), 7, "train")
    drawn = draw_batches(batches, range(40), processes=1)
    found = [next(drawn)]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGTERM)
        os.kill(worker.pid, signal.SIGINT)
    found += list(drawn)
    assert len(found) == 40
