"""How a training is followed, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantskit.core.files import content_hash
from pantskit.core.geometry import STANDARD_ORIENTATION
from pantskit.core.records import CaseRecord
from pantskit.core.run import Progress
from pantskit.networks.folder import ModelInfo
from pantskit.networks.plans import Plans
from pantskit.networks.runtime import library_versions
from pantskit.train.begin import Start
from pantskit.train.curve import Epoch
from pantskit.train.estimate import Estimate
from pantskit.train.labels import Channels

if TYPE_CHECKING:
    from pantskit.train.trainer import RecipeTrainer

INTERRUPTED = 130  # as shells report a process ended by Ctrl-C


@dataclass(frozen=True)
class Listener:
    """Who is told how it goes; every call is optional to heed.

    Attributes:
        say: a line for the user.
        cases: a stage's name to a context that gives the progress of `run_cases`.
        epoch: after each epoch, with the number of epochs in all.
    """

    say: Callable[[str], None] = lambda _: None
    cases: Callable[[str], AbstractContextManager[Progress | None]] = lambda _: nullcontext()
    epoch: Callable[[Epoch, int], None] = lambda _epoch, _total: None


@dataclass(frozen=True)
class TrainingResult:
    """What became of a training.

    Attributes:
        model: the folder.
        info: its model.json; None where only an estimate was asked for.
        failed: records of cases that could not be used and were left out.
        unchanged: whether this very training was complete already.
        estimate: what it will take, or was to; None where it went on from a checkpoint.
    """

    model: Path
    info: ModelInfo | None
    failed: tuple[CaseRecord, ...] = ()
    unchanged: bool = False
    estimate: Estimate | None = None

    @property
    def exit_status(self) -> int:
        """0 when trained to the end on every case, 1 without some, 130 when interrupted."""
        if self.info is not None and self.info.status != "complete":
            return INTERRUPTED
        return int(bool(self.failed))

    def describe(self) -> str:
        """For the end of a run: `trained on 12 cases, 240 epochs, complete, 118 s`."""
        if self.info is None:
            return "estimated, not trained"
        training = self.info.training
        failed = f", {len(self.failed)} left out" if self.failed else ""
        line = (
            f"trained on {len(training['cases'])} cases{failed}, {training['epochs']:,} epochs, "
            f"{self.info.status}, {training['seconds']:.0f} s"
        )
        if self.info.status == "complete":
            return line
        return f"{line}; it can predict as it is, and the same command goes on with the training"


def model_info(
    start: Start,
    channels: Channels,
    plans: Plans,
    trainer: RecipeTrainer,
    found: Mapping[str, Any],
) -> ModelInfo:
    """The content of model.json.

    Args:
        start: what the training began from.
        channels: what it learned.
        plans: nnU-Net's.
        trainer: when it has ended.
        found: `dataset`, `cases`, `failed_cases` and `voxels`, as the run found them.
    """
    backward = plans.plans["transpose_backward"]
    k, j, i = (float(plans.configuration.spacing[axis]) for axis in backward)
    return ModelInfo(
        channels=channels.structures,
        orientation=STANDARD_ORIENTATION,
        spacing=(i, j, k),
        label_scheme=start.scheme,
        heads="regions" if channels.regions else "softmax",
        status="interrupted" if trainer.interrupted else "complete",
        fingerprint=start.mark,
        training={
            **found,
            "split": start.split,
            "partial_structures": dict(channels.partial),
            "absent_structures": list(channels.absent),
            "seed": start.seed,
            "recipe": start.recipe.values(),
            "patch_size": [plans.patch_size[axis] for axis in backward][::-1],
            "device": trainer.device.type,
            "epochs": trainer.current_epoch,
            "seconds": round(trainer.seconds, 1),
            "weights": content_hash(trainer.checkpoint_path),
        },
        versions=library_versions(),
    )
