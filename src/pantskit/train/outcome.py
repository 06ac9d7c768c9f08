"""How a training is followed, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pantskit.core.records import CaseRecord
from pantskit.core.run import Progress
from pantskit.networks.folder import ModelInfo
from pantskit.train.curve import Epoch
from pantskit.train.estimate import Estimate

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
