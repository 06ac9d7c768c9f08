"""The learning curve: a row an epoch, and its picture."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pantskit.core.files import atomic_path, write_text
from pantskit.train.board import Board, open_board

# A picture takes about a second; a long training draws one this often.
_PICTURE_EVERY_S = 120.0


@dataclass(frozen=True)
class Epoch:
    """One row of progress.csv.

    Attributes:
        epoch: number, from 1.
        learning_rate: at its start.
        train_loss: mean of the epoch's iterations (Dice and cross-entropy; below 0 is good).
        validation_loss: the same of validation patches.
        validation_dice: mean over structures of the Dice of all validation patches of the
            epoch together: no DSC of cases.
        seconds: since the training began.
    """

    epoch: int
    learning_rate: float | None
    train_loss: float | None
    validation_loss: float | None
    validation_dice: float | None
    seconds: float


class LearningCurve:
    """Writes progress.csv and to TensorBoard after every epoch, and progress.png now and then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs: list[Epoch] = []
        self._drawn = time.monotonic()
        self._board: Board | None = None

    def add(self, epoch: Epoch) -> None:
        """Keep an epoch."""
        if self._board is None:
            self._board = open_board(self.folder, epoch.epoch)
        if self._board is not None:
            self._board.add(epoch)
        self.epochs.append(epoch)
        self.write()
        if time.monotonic() - self._drawn > _PICTURE_EVERY_S:
            self.draw()

    def write(self) -> None:
        """Write progress.csv."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rounded(e) for e in self.epochs)
        write_text(self.folder / "progress.csv", text.getvalue())

    def draw(self) -> None:
        """Write progress.png."""
        draw_curve(self.epochs, self.folder / "progress.png")
        self._drawn = time.monotonic()


def draw_curve(epochs: Sequence[Epoch], path: Path) -> None:
    """Draw losses and Dice over epochs as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    loss_axis = figure.add_subplot(xlabel="epoch", ylabel="loss")
    loss_axis.locator_params(axis="x", integer=True, min_n_ticks=1)
    style = {"marker": "o" if len(epochs) < 30 else "", "ms": 3}

    def line(axis: Any, values: Iterable[float | None], color: str, label: str) -> None:
        numbers = [math.nan if v is None else v for v in values]
        axis.plot([e.epoch for e in epochs], numbers, color=color, label=label, **style)

    line(loss_axis, (e.train_loss for e in epochs), "tab:blue", "loss of training patches")
    if any(e.validation_dice is not None for e in epochs):
        line(loss_axis, (e.validation_loss for e in epochs), "tab:red", "loss of scored patches")
        dice_axis = loss_axis.twinx()
        dice_axis.set(ylabel="Dice", ylim=(0, 1))
        scored = (e.validation_dice for e in epochs)
        line(dice_axis, scored, "tab:green", "mean Dice of scored patches")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    loss_axis.grid(alpha=0.3)
    with atomic_path(path) as part:
        figure.savefig(part)


def _rounded(epoch: Epoch) -> dict[str, float | int | str | None]:
    row = asdict(epoch)
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}
