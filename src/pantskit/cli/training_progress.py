"""How a training is going: a bar on a terminal, a line an epoch elsewhere, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from pantskit.cli.progress import case_progress

if TYPE_CHECKING:
    from pantskit.train.curve import Epoch
    from pantskit.train.outcome import Listener


@contextmanager
def training_progress() -> Iterator[Listener]:
    """A listener for `train_model`."""
    from pantskit.train.outcome import Listener

    if not sys.stderr.isatty():
        yield Listener(say=_say, cases=case_progress, epoch=lambda e, n: _say(_line(e, n)))
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("[bold]epoch"),
        BarColumn(20),  # the numbers fit beside it in 80 columns
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    # Started by the first epoch: before it, each stage has a bar of its own.
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None)

    def say(line: str) -> None:
        bar.console.print(line, markup=False, highlight=False)

    def step(epoch: Epoch, total: int) -> None:
        text = f"loss {_number(epoch.train_loss)}, Dice {_number(epoch.validation_dice)}"
        bar.update(task, completed=epoch.epoch, total=total, description=text)
        bar.start()

    try:
        yield Listener(say=say, cases=case_progress, epoch=step)
    finally:
        bar.stop()


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _line(epoch: Epoch, total: int) -> str:
    return (
        f"epoch {epoch.epoch}/{total}: loss {_number(epoch.train_loss)}, "
        f"Dice {_number(epoch.validation_dice)}, {epoch.seconds:.0f} s"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
