"""Time and memory of jobs in processes of their own, beside what they aim for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("predict.py")


class Peak:
    """Highest resident memory of this process inside the block, in MiB, less that before."""

    def __enter__(self) -> Peak:
        import psutil

        self._process, self._done = psutil.Process(), False
        self.before = self._process.memory_info().rss
        self.highest = self.before
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done:
            self.highest = max(self.highest, self._process.memory_info().rss)
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._thread.join()

    @property
    def mb(self) -> float:
        """How much more it was."""
        return (self.highest - self.before) / 2**20


def measured(job: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Run a job; its wall and CPU seconds and its memory, and what it gave."""
    cpu, start = time.process_time(), time.perf_counter()
    with Peak() as peak:
        result = job()
    took = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    return {**took, "extra_mb": peak.mb, "load": os.getloadavg()[0]}, result


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def apart(*arguments: str, script: Path = SCRIPT) -> dict[str, Any] | None:
    """Run a script in another process; the JSON of its last line, None where it was killed."""
    command = [sys.executable, str(script), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode < 0:  # by the system, where memory ended
        return None
    if result.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def show(name: str, row: dict[str, Any] | None) -> None:
    """Print what a job took."""
    if row is None:
        print(f"{name:<28} killed: not enough memory", flush=True)
        return
    device = f"  {row['device_gb']:.2f} GiB of device memory" if "device_gb" in row else ""
    print(
        f"{name:<28} {row['s']:8.2f} s  {row['cpu_s']:8.2f} CPU-s  {row['extra_mb']:8.0f} MiB"
        f"{device}  load {row['load']:.1f}",
        flush=True,
    )


class Aims:
    """Figures beside what they are to be, and whether one was missed."""

    def __init__(self) -> None:
        self.missed = 0

    def at_least(self, what: str, value: float, aim: float) -> None:
        """A figure that is to be large."""
        self._say(what, value, f"at least {aim:g}", value >= aim)

    def at_most(self, what: str, value: float, aim: float) -> None:
        """A figure that is to be small."""
        self._say(what, value, f"at most {aim:g}", value <= aim)

    def ratios(
        self, ours: dict[str, Any], peer: dict[str, Any] | None, name: str,
        *, times: float, memory: float | None = None,
    ) -> None:  # fmt: skip
        """Speed and memory beside a peer's."""
        if peer is None:
            print(f"    {name}: nothing to compare with")
            return
        self.at_least(f"speed, times {name}'s", peer["s"] / ours["s"], times)
        if memory is not None:
            share = ours["extra_mb"] / max(peer["extra_mb"], 1)
            self.at_most(f"extra memory, share of {name}'s", share, memory)

    def _say(self, what: str, value: float, aim: str, met: bool) -> None:
        self.missed += not met
        print(f"    {what}: {value:.3g} (aim: {aim}) {'met' if met else 'MISSED'}", flush=True)
