"""Cases over the devices that were asked for: in this process, or a queue for several."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.networks.runtime import claim_number, device_kind, parse_devices, start_torch
from pantskit.predict.turns import Line, SharedTurns, Turns

Task = Callable[[Job, Turns, str], dict[str, Any]]


@dataclass(frozen=True)
class Devices:
    """Where cases are computed.

    Attributes:
        names: as torch knows them, one for each process; of one process also `auto` or `cuda`.
        kind: `"cpu"`, `"cuda"`, or both: what answers may differ by, in their last digits.
        workers: processes; 0 for this one.
    """

    names: tuple[str, ...]
    kind: str
    workers: int

    @classmethod
    def parse(cls, text: str, workers: int | None) -> Devices:
        """Read `--device` and `--workers`.

        Args:
            text: as `parse_devices` reads it.
            workers: 0 for this process, where one case is read and one written while the
                network computes; others may die without harm. None takes this one for one
                device, and of several one for each CPU and two for each GPU, which take turns:
                one computes while the other reads and writes.

        Raises:
            ConfigError: If a device is not there, or has no process.
        """
        named = parse_devices(text)
        kind = "+".join(sorted({_kind(name) for name in named}))
        if len(named) == 1:
            return cls(named, kind, workers or 0)
        if workers is None:
            named += tuple(name for name in named if name != "cpu")
            workers = len(named)
        if workers < len(named):
            raise ConfigError(
                f"{len(named)} devices and {workers} workers; a device needs a process of its own"
            )
        return cls(named, kind, workers)


def run_on_devices(
    task: Task,
    jobs: Sequence[Job],
    devices: Devices,
    *,
    stage: str,
    store: RecordStore,
    settings: Any,
    progress: Progress | None,
) -> RunSummary:
    """`run_cases` of a task that computes by turns; settings and the others are its own."""
    if not devices.workers:
        line = Line()
        placed = _Placed(task, line, devices.names)
        return run_cases(
            placed, jobs, stage=stage, store=store, settings=settings, workers=line,
            progress=progress,
        )  # fmt: skip
    with TemporaryDirectory(prefix="pantskit-turns-") as folder:
        turns = SharedTurns(Path(folder), time.monotonic())
        return run_cases(
            _Placed(task, turns, devices.names), jobs, stage=stage, store=store,
            settings=settings, workers=devices.workers, progress=progress,
        )  # fmt: skip


@dataclass(frozen=True)
class _Placed:
    """A task with its device: of several, each process takes one for good."""

    task: Task
    turns: Line | SharedTurns
    names: tuple[str, ...]

    def __call__(self, job: Job) -> dict[str, Any]:
        name = self.names[0]
        if len(self.names) > 1 and isinstance(self.turns, SharedTurns):
            name = self.names[_own_place(self.turns.folder, len(self.names))]
        return self.task(job, self.turns, _device(name))


@lru_cache(maxsize=1)
def _own_place(folder: Path, count: int) -> int:
    return claim_number(count, folder)[0]


@lru_cache(maxsize=1)
def _device(name: str) -> str:
    return "cpu" if _kind(name) == "cpu" else str(start_torch(name))


def _kind(name: str) -> str:
    """What a device is; a model of one's own may do without torch, on the CPU."""
    try:
        return device_kind(name)
    except ImportError:
        if name.startswith("cuda"):
            raise ConfigError(f"device {name}: torch is not installed; use cpu") from None
        return "cpu"
