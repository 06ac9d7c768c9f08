"""Engines that train side by side, one at a time, for some seconds each; see train.py.

On a machine whose speed changes by the minute, one engine after the other is a comparison of
minutes. Here all are started, each with its processes in a group of its own, and all groups but
one are stopped at any time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_WARM_UP = 5  # iterations that are not counted: kernels are chosen, processes started
_PATIENCE_S = 120.0  # for these


@dataclass
class Engine:
    """A training in a process group of its own.

    Attributes:
        name: of the engine.
        command: that trains, and writes a line for each step into `ticks`.
        ticks: its file; a line is `[begin, end, CPU seconds at begin, at end]` of a step.
        slices: begins and ends of when it ran.
    """

    name: str
    command: Sequence[str]
    ticks: Path
    slices: list[tuple[float, float]] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and stop it after the warm-up."""
        with self.ticks.with_suffix(".err").open("w") as errors:
            self._process = subprocess.Popen(
                self.command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        until = time.monotonic() + _PATIENCE_S
        while not self.ticks.is_file() or len(self._lines()) < _WARM_UP:
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(
                    f"{self.name}: {self.ticks.with_suffix('.err').read_text()[-2000:]}"
                )
            time.sleep(0.1)
        self._signal(signal.SIGSTOP)

    def run(self, seconds: float) -> None:
        """Let it go on for so long."""
        begin = time.perf_counter()
        self._signal(signal.SIGCONT)
        time.sleep(seconds)
        self._signal(signal.SIGSTOP)
        self.slices.append((begin, time.perf_counter()))

    def end(self) -> None:
        """Kill it, stopped or not."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def paces(self) -> list[dict[str, float]]:
        """Of each slice its figures; steps that a stop cut in two are left out."""
        ticks = np.array([json.loads(line) for line in self._lines()])
        return [_pace(ticks[(ticks[:, 0] >= a) & (ticks[:, 1] <= b)]) for a, b in self.slices]

    def _lines(self) -> list[str]:
        return [line for line in self.ticks.read_text().splitlines(True) if line.endswith("]\n")]

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


def _pace(ticks: Any) -> dict[str, float]:
    begins, ends, cpu_begins, cpu_ends = ticks.T
    whole = begins[-1] - begins[0]
    return {
        "per_s": (len(ticks) - 1) / whole,
        "waited": (begins[1:] - ends[:-1]).sum() / whole,
        "step_cpu_s": (cpu_ends - cpu_begins).mean(),
        "batch_cpu_s": (cpu_begins[1:] - cpu_ends[:-1]).mean(),
    }


def in_turns(script: Path, names: Sequence[str], folder: Path, rounds: int, seconds: float) -> Any:
    """Run engines in turns; per engine the figures of each of its turns.

    Args:
        script: with a job `iterations-job`.
        names: of the engines.
        folder: of the prepared training.
        rounds: turns of each.
        seconds: of a turn.
    """
    engines = []
    try:
        for name in names:
            ticks = folder / f"{name}.ticks"
            command = [sys.executable, str(script), "iterations-job", name, str(folder)]
            engines.append(Engine(name, [*command, "--ticks", str(ticks)], ticks))
            engines[-1].start()
        for turn in range(rounds):
            for engine in engines[:: -1 if turn % 2 else 1]:
                engine.run(seconds)
        return {engine.name: engine.paces() for engine in engines}
    finally:
        for engine in engines:
            engine.end()


class TickFile:
    """A list of ticks that is a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def append(self, tick: Sequence[float]) -> None:
        """Write one, at once."""
        self._file.write(json.dumps(list(tick)) + "\n")
        self._file.flush()
