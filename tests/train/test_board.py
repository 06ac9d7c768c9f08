"""What TensorBoard shows of a training."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pantskit.train import board
from pantskit.train.board import FOLDER, open_board
from pantskit.train.curve import Epoch, LearningCurve

pytest.importorskip("tensorboard")


def row(number: int, loss: float) -> Epoch:
    return Epoch(number, 0.01, loss, None, None, 2.0 * number)


def test_tensorboard_reads_the_curve_and_forgets_what_a_resumed_run_does_again(
    tmp_path: Path,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = LearningCurve(tmp_path)
    for number, loss in ((1, 0.5), (2, 0.25), (3, 9.0)):
        killed.add(row(number, loss))
    resumed = LearningCurve(tmp_path)
    resumed.epochs = killed.epochs[:2]
    for number, loss in ((3, 0.125), (4, 0.0625)):
        resumed.add(row(number, loss))
    shown = EventAccumulator(str(tmp_path / FOLDER))
    shown.Reload()
    assert sorted(shown.Tags()["scalars"]) == ["learning_rate", "seconds", "train_loss"]
    losses = [(e.step, e.value) for e in shown.Scalars("train_loss")]
    assert losses == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)]


def test_event_files_do_not_name_the_machine(tmp_path: Path) -> None:
    LearningCurve(tmp_path).add(row(1, 0.5))
    (path,) = (tmp_path / FOLDER).iterdir()
    assert socket.gethostname() not in path.name
    assert socket.gethostname().encode() not in path.read_bytes()


def test_curve_is_written_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda _: None)
    assert open_board(tmp_path, 1) is None
    LearningCurve(tmp_path).add(row(1, 0.5))
    assert (tmp_path / "progress.csv").is_file()
    assert not (tmp_path / FOLDER).exists()
