"""What a trainer needs to know, worked out once; and a trainer that is told it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pantskit.train.curve import Epoch
from pantskit.train.labels import Channels
from pantskit.train.outcome import Listener
from pantskit.train.planning import CONFIGURATION, nnunet_folders
from pantskit.train.ranks import Ranks
from pantskit.train.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from pantskit.train.trainer import RecipeTrainer


@dataclass(frozen=True)
class Assignment:
    """A training whose cases are prepared, in plain data.

    Attributes:
        plans: nnU-Net's.
        dataset_json: nnU-Net's.
        recipe: settings.
        channels: what the network learns, and which cases tell of it.
        shares: of an image that the channels take up, see `starting_shares`.
        seed: of all random numbers.
        mark: of this training, in its checkpoints.
        model: the model's folder.
        work: folder of the prepared cases.
    """

    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    recipe: Recipe
    channels: Channels
    shares: tuple[float, ...]
    seed: int
    mark: str
    model: Path
    work: Path


@contextmanager
def trainer_for(
    task: Assignment,
    device: torch.device,
    *,
    ranks: Ranks | None = None,
    augmenters: int = 0,
    listener: Listener | None = None,
) -> Iterator[RecipeTrainer]:
    """A trainer of an assignment, in nnU-Net's folders.

    Args:
        task: the assignment.
        device: to train on.
        ranks: the processes that train together; None for this one alone.
        augmenters: processes that draw batches ahead; 0 for none.
        listener: is told how it goes.
    """
    from pantskit.train.trainer import RecipeTrainer, TrainerListener

    listener = listener or Listener()
    # The trainer's own processes draw the batches, nnU-Net's none.
    folders = nnunet_folders(task.work, augmentation_processes=0)
    with folders, nnunet_quiet(task.work) as stdout:
        # nnU-Net takes the entry out again, and fails where there is none.
        values = task.plans | {"continue_training": False}
        trainer = RecipeTrainer(values, CONFIGURATION, 0, task.dataset_json, device)

        def on_epoch(epoch: Epoch) -> None:
            with redirect_stdout(stdout):
                listener.epoch(epoch, task.recipe.epochs)

        def say(line: str) -> None:
            with redirect_stdout(stdout):
                listener.say(line)

        trainer.prepare(
            task, ranks or Ranks(), augmenters=augmenters, listener=TrainerListener(say, on_epoch)
        )
        yield trainer


@contextmanager
def nnunet_quiet(work: Path) -> Iterator[TextIO]:
    """nnU-Net prints as it goes, and standard output may be somebody's JSON.

    Returns:
        The standard output that was.
    """
    stdout = sys.stdout
    with (work / "nnunet.log").open("a") as log, redirect_stdout(log):
        yield stdout
