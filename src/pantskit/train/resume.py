"""What a stopped training goes on from, and how it is asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pantskit.core.errors import DatasetError
from pantskit.networks.folder import FOLD, load_checkpoint
from pantskit.train.curve import Epoch

if TYPE_CHECKING:
    from pantskit.train.trainer import RecipeTrainer

LATEST = "checkpoint_latest.pth"
# What a crash may cost; a checkpoint of the default network takes a second to write.
SAVE_EVERY_S = 600.0


class Stopped(Exception):  # an outcome
    """The training ends here because it was asked to; its state is saved."""


def latest_path(model: Path) -> Path:
    """Where the state of a running or stopped training lies."""
    return model / FOLD / LATEST


def state_of(trainer: RecipeTrainer) -> dict[str, Any]:
    """Where a training is, in plain data: what its checkpoint has besides nnU-Net's entries."""
    return {
        "mark": trainer.mark,
        "epoch": trainer.current_epoch,
        "losses": list(trainer.losses),
        "scheduler": {
            k: v for k, v in trainer.lr_scheduler.state_dict().items() if k != "lr_lambdas"
        },
        "curve": [asdict(row) for row in trainer.curve.epochs],
        "seconds": trainer.seconds,
    }


def restore(trainer: RecipeTrainer) -> bool:
    """Bring an initialised trainer to where its model folder's latest checkpoint was.

    Returns:
        Whether there was one.

    Raises:
        DatasetError: If the checkpoint is damaged, holds code, or is another training's.
    """
    path = latest_path(trainer.model)
    if not path.is_file():
        return False
    checkpoint = load_checkpoint(path)
    try:
        state = checkpoint["pantskit"]
        if state["mark"] != trainer.mark:
            raise DatasetError(f"{path}: belongs to another training; give a new folder")
        trainer.plain_network.load_state_dict(checkpoint["network_weights"])
        trainer.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if trainer.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            trainer.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        trainer.lr_scheduler.load_state_dict(_with_lambdas(trainer, state["scheduler"]))
        trainer.logger.load_checkpoint(checkpoint["logging"])
        trainer.best_ema = checkpoint["_best_ema"]
        trainer.current_epoch, trainer.losses = state["epoch"], list(state["losses"])
        trainer.curve.epochs = [Epoch(**row) for row in state["curve"]]
        trainer.earlier_seconds = state["seconds"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DatasetError(
            f"{path}: is not a state that this training can go on from "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); remove it to start anew"
        ) from error
    return True


def _with_lambdas(trainer: RecipeTrainer, state: dict[str, Any]) -> dict[str, Any]:
    """LambdaLR wants an entry for functions, which are no plain data."""
    return state | {k: v for k, v in trainer.lr_scheduler.state_dict().items() if k == "lr_lambdas"}


@contextmanager
def heeding_signals(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM, which a batch system sends before it kills, as a question.

    Returns:
        Whether there was one. A second one is a KeyboardInterrupt at once. In a thread other
        than the first nothing changes.
    """
    asked = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        say("stopping after this iteration; once more ends at once, as of the last checkpoint")

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
