"""Several processes train one network: the network that one process would train."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blobs
import pytest
import torch
from typer.testing import CliRunner

from pantskit.cli.app import app
from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError
from pantskit.networks.folder import Model
from pantskit.train.batches import NumberedBatches
from pantskit.train.ranks import Ranks
from pantskit.train.recipe import Recipe
from pantskit.train.resume import latest_path
from pantskit.train.run import train_model

pytestmark = pytest.mark.timeout(900)  # several processes, each with its imports

# The paper's optimiser, schedule, augmentation and deep supervision on batches of two.
RECIPE = Recipe.read("paper").changed(
    epochs=2,
    iterations=2,
    validation_iterations=1,
    folds=2,
    patch_size=(16, 16, 16),
    features=4,
    intensity_samples=1000,
    save_every=1,
)
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone")
# Runs the command, and keeps the weights of each process.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
from pantskit.cli import main
from pantskit.train.trainer import RecipeTrainer

folder, stop_at = Path(sys.argv[1]), int(sys.argv[2])
end, step, done = RecipeTrainer.on_train_end, RecipeTrainer.train_step, [0]

def keep(self):
    torch.save(self.plain_network.state_dict(), folder / f"rank_{self.ranks.rank}.pth")
    end(self)

def counted(self, batch):
    done[0] += self.is_ddp
    if done[0] == stop_at and self.ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, batch)

RecipeTrainer.on_train_end, RecipeTrainer.train_step = keep, counted
sys.argv[1:] = sys.argv[3:]
main()
"""


def write_dataset(root: Path) -> Dataset:
    """Patients who annotate the liver alone, the spleen alone, and both."""
    dataset = Dataset.create(root, annotated=("liver", "spleen"))
    known = (("liver",), ("spleen",), ("liver", "spleen"), ("spleen",))
    for n, structures in enumerate(known):
        blobs.write_case(dataset, f"blob_{n}", structures=structures, seed=n)
    return dataset


def one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def together(
    dataset: Dataset, model: Path, folder: Path, *, recipe: Recipe = RECIPE, stop_at: int = 0
) -> subprocess.CompletedProcess[str]:
    """Train by torchrun with two processes on the CPU."""
    folder.mkdir(exist_ok=True)
    recipe.write(folder / "mine.toml")
    (folder / "program.py").write_text(PROGRAM)
    words: Sequence[Any] = (
        *LAUNCH, "--nproc-per-node", 2, folder / "program.py",
        folder, stop_at, "train", dataset.root, "--out", model,
        "--recipe", folder / "mine.toml", "--device", "cpu", "--workers", 0, "--json",
    )  # fmt: skip
    return subprocess.run(
        [str(word) for word in words], check=False, capture_output=True, text=True, env=one_thread()
    )


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A training of one process."""
    folder = tmp_path_factory.mktemp("alone")
    dataset = write_dataset(folder / "dataset")
    torch.set_num_threads(1)
    train_model(dataset, folder / "model", recipe=RECIPE, device="cpu", workers=0)
    return dataset, folder / "model"


def test_two_processes_train_the_network_of_one(
    alone: tuple[Dataset, Path], tmp_path: Path
) -> None:
    dataset, single = alone
    model = tmp_path / "model"
    result = together(dataset, model, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    # The first alone reports.
    assert result.stderr.count("epoch 2/2") == 1
    assert result.stdout.count('"status": "complete"') == 1
    assert "2 processes, 1 of the batch each" in result.stderr
    ranks = [torch.load(tmp_path / "run" / f"rank_{n}.pth") for n in (0, 1)]
    assert largest_difference(*ranks) == 0
    assert largest_difference(ranks[0], Model.load(model).weights) == 0
    # Sums in another order, and deep supervision's lowest resolution, which weighs 1e-6 where
    # gradients are averaged, and nothing elsewhere.
    assert largest_difference(Model.load(single).weights, ranks[0]) < 1e-4
    untrained = Model.load(single).plans.build_network().state_dict()
    assert largest_difference(Model.load(single).weights, untrained) > 1e-2
    curves = [
        [line.split(",")[2:5] for line in (m / "progress.csv").read_text().splitlines()[1:]]
        for m in (single, model)
    ]
    for one, two in zip(*curves, strict=True):
        assert [float(v) for v in one] == pytest.approx([float(v) for v in two], abs=1e-3)
    assert {p.name for p in model.iterdir()} == {p.name for p in single.iterdir()}


@pytest.mark.slow
def test_stopped_processes_go_on_to_the_weights_of_an_uninterrupted_run(
    alone: tuple[Dataset, Path], tmp_path: Path
) -> None:
    model, run = tmp_path / "model", tmp_path / "run"
    result = together(alone[0], model, run, stop_at=3)
    assert result.returncode != 0
    assert result.stdout.count('"status": "interrupted"') == 1
    state = torch.load(latest_path(model), weights_only=True)["pantskit"]
    assert (state["epoch"], len(state["losses"])) == (1, 1)
    single = Path(shutil.copytree(model, tmp_path / "single"))
    again = together(alone[0], model, run)
    assert again.returncode == 0, again.stderr
    assert "goes on after 1 epochs and 1 iterations" in again.stderr
    whole = together(alone[0], tmp_path / "whole", run)
    assert whole.returncode == 0, whole.stderr
    weights = [Model.load(m).weights for m in (model, tmp_path / "whole")]
    assert largest_difference(*weights) == 0
    # One process can go on with what two began.
    train_model(alone[0], single, recipe=RECIPE, device="cpu", workers=0)
    assert largest_difference(Model.load(single).weights, weights[0]) < 1e-4


@pytest.mark.slow
def test_ctrl_c_at_torchrun_leaves_a_model(alone: tuple[Dataset, Path], tmp_path: Path) -> None:
    model, run = tmp_path / "model", tmp_path
    RECIPE.changed(epochs=500).write(run / "mine.toml")
    words: Sequence[Any] = (
        *LAUNCH, "--nproc-per-node", 2, "-m", "pantskit", "train", alone[0].root,
        "--out", model, "--recipe", run / "mine.toml", "--device", "cpu", "--workers", 0,
    )  # fmt: skip
    with (run / "stderr.txt").open("w") as errors:
        process = subprocess.Popen([*map(str, words)], stderr=errors, env=one_thread())
        while process.poll() is None and "epoch 2/500" not in (run / "stderr.txt").read_text():
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.wait()
    assert Model.load(model).info.status == "interrupted", (run / "stderr.txt").read_text()


@pytest.mark.slow
def test_batch_that_cannot_be_shared_is_refused_once(
    alone: tuple[Dataset, Path], tmp_path: Path
) -> None:
    recipe = RECIPE.changed(batch_size=3)
    result = together(alone[0], tmp_path / "model", tmp_path / "run", recipe=recipe)
    assert result.returncode != 0
    assert result.stderr.count("error: a batch of 3 cannot be shared evenly by 2 processes") == 1


# Logits and targets of four cases that annotate different structures; each of two processes takes
# two of them, and what it makes of them is compared with what one process makes of all.
LOSSES = """
import os, sys
from pathlib import Path
import torch
from torch import distributed
from pantskit.train.losses import MarginalLoss, RegionLoss
from pantskit.train.partial import allowed_channels

random = torch.Generator().manual_seed(3)
names = ("liver", "spleen")
known = [("liver",), ("liver", "spleen"), ("spleen",), ("spleen",)]
logits = {k: torch.randn(4, n, 3, 4, 5, generator=random) for k, n in (("m", 3), ("r", 2))}
labels = torch.randint(0, 3, (4, 1, 3, 4, 5), generator=random)
yes = torch.randint(0, 2, (4, 2, 3, 4, 5), generator=random)
allowed = torch.stack([torch.from_numpy(allowed_channels(names, k)) for k in known])
regions = torch.tensor([[n in k for n in names] for k in known])

def of(kind, part, batch_dice, gathered):
    own = logits[kind][part].clone().requires_grad_()
    if kind == "m":
        loss = MarginalLoss(batch_dice=batch_dice, gathered=gathered)(own, labels[part],
                                                                      allowed[part])
    else:
        loss = RegionLoss(batch_dice=batch_dice, gathered=gathered)(own, yes[part], regions[part])
    loss.backward()
    return loss.detach(), own.grad

distributed.init_process_group("gloo")
rank = distributed.get_rank()
part = slice(2 * rank, 2 * rank + 2)
for kind in ("m", "r"):
    for batch_dice in (False, True):
        whole, slope = of(kind, slice(None), batch_dice, False)
        own, grad = of(kind, part, batch_dice, True)
        distributed.all_reduce(own)
        torch.testing.assert_close(own / 2, whole)
        # The gradients of the processes are averaged.
        torch.testing.assert_close(grad / 2, slope[part])
print("equal", flush=True)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_losses_of_two_processes_are_those_of_their_cases_in_one(tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text(LOSSES)
    words = (*LAUNCH, "--nproc-per-node", "2", str(tmp_path / "losses.py"))
    result = subprocess.run(words, check=False, capture_output=True, text=True, env=one_thread())
    assert result.stdout.count("equal") == 2, result.stderr


@pytest.mark.parametrize(
    "wrong", [["--patch", "9,9"], ["--recipe", "none.toml"], ["--device", "tpu"], ["--epochs", "0"]]
)
def test_wrong_setting_is_said_by_the_first_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str]
) -> None:
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "::"}.items():
        monkeypatch.setenv(name, value)
    dataset = blobs.write_dataset(tmp_path / "dataset", 2, 0)
    words = ["train", str(dataset.root), "--out", str(tmp_path / "model"), *wrong]
    for rank, lines in ((0, 1), (1, 0)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert result.output.count("\n") == result.output.count("error: ") == lines, result.output


def test_patches_are_shared_evenly_and_in_order() -> None:
    assert [Ranks(rank, 4).share(8) for rank in range(4)] == [
        range(2), range(2, 4), range(4, 6), range(6, 8),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="batch_size of 4 or a multiple"):
        Ranks(0, 4).share(6)


def test_processes_are_known_from_what_torchrun_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.of_environment() == Ranks()
    values = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Ranks.of_environment() == Ranks()  # set by something else
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert Ranks.of_environment() == Ranks(5, 8, 1, 4)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigError, match="RANK=first"):
        Ranks.of_environment()


class Numbers:
    """A loader of random numbers in batches of any size; the last third has foreground."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def get_do_oversample(self, place: int) -> bool:
        return not place < round(self.batch_size * (1 - 0.33))

    def generate_train_batch(self) -> dict[str, Any]:
        data = torch.rand(self.batch_size, 2)
        forced = [self.get_do_oversample(n) for n in range(self.batch_size)]
        return {"data": data, "target": [data, torch.tensor(forced)[:, None]], "keys": ["c"]}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_of_a_batch_are_the_patches_of_the_whole(count: int) -> None:
    whole = NumberedBatches(Numbers(6), 7, "train")[4]
    # nnU-Net's rule: of six, the last two.
    assert whole["target"][1].flatten().tolist() == [False] * 4 + [True] * 2
    parts = [
        NumberedBatches(Numbers(6), 7, "train", Ranks(rank, count).share)[4]
        for rank in range(count)
    ]
    assert torch.equal(torch.cat([p["data"] for p in parts]), whole["data"])
    for level in (0, 1):
        joined = torch.cat([p["target"][level] for p in parts])
        assert torch.equal(joined, whole["target"][level])
    assert len({tuple(row) for row in whole["data"].tolist()}) == 6
    assert re.fullmatch("c+", "".join(whole["keys"]))
