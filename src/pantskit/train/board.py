"""The learning curve for TensorBoard, where that is installed."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pantskit.train.curve import Epoch

FOLDER = "tensorboard"


def open_board(model: Path, first: int) -> Board | None:
    """A board in a model's folder; None without TensorBoard (`pantskit[tensorboard]`).

    Args:
        model: the folder.
        first: number of the first epoch to come; what earlier runs wrote of it and later ones
            is hidden.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return None
    return Board(model / FOLDER, first)


class Board:
    """Writes one event file; torch's own writer would put the machine's name into the file's."""

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{first:06d}.pantskit"
        self._event: Any = Event
        self._file = (folder / name).open("wb")
        self._writer = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        self._write(step=first, session_log=SessionLog(status=SessionLog.START))

    def add(self, epoch: Epoch) -> None:
        """Write an epoch's row; what it does not have is left out."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        row = asdict(epoch)
        step = row.pop("epoch")
        values = [Summary.Value(tag=k, simple_value=v) for k, v in row.items() if v is not None]
        self._write(step=step, summary=Summary(value=values))

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())
        self._file.flush()
