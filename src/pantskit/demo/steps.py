"""Run commands one after the other, keep what each printed, and say how it went."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pantskit.core.errors import PantskitError
from pantskit.core.files import write_text

COULD_NOT_RUN = 2


@dataclass(frozen=True)
class Step:
    """One command of the path.

    Attributes:
        name: short, unique; names the log.
        title: what it does, for people.
        arguments: after `pantskit`.
        result: file or folder that it makes, relative to the demo's folder.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    result: str

    def command(self, root: Path) -> str:
        """The command as one would type it inside the demo's folder."""
        inside = f"{root}{os.sep}"
        shown = (a.removeprefix(inside) for a in self.arguments)
        return shlex.join(("pantskit", *shown))


@dataclass(frozen=True)
class StepResult:
    """How a step went.

    Attributes:
        step: the step.
        seconds: wall time.
        exit_status: 0 all done, 1 some cases were not.
        summary: the last line that it printed.
        log: its output, relative to the demo's folder.
    """

    step: Step
    seconds: float
    exit_status: int
    summary: str
    log: str


def run_step(step: Step, root: Path, *, on_line: Callable[[str], None]) -> StepResult:
    """Run one command in a process of its own.

    Args:
        step: what to run.
        root: the demo's folder; logs go to `logs/` in it.
        on_line: called with each line that the command prints.

    Raises:
        PantskitError: If the command could not run; the message is its own.
    """
    started = time.perf_counter()
    printed, status = _run((sys.executable, "-m", "pantskit", *step.arguments), on_line)
    log = root / "logs" / f"{step.name}.txt"
    write_text(log, f"$ {step.command(root)}\n" + "".join(f"{line}\n" for line in printed))
    if status not in (0, 1):
        reason = next((p for p in reversed(printed) if p.startswith("error: ")), "")
        reason = reason.removeprefix("error: ") or f"exit status {status}"
        raise PantskitError(f"demo stopped at `{step.command(root)}`: {reason} (see {log})")
    summary = next((line for line in reversed(printed) if line.strip()), "")
    seconds = time.perf_counter() - started
    return StepResult(step, seconds, status, summary, str(log.relative_to(root)))


def _run(command: Sequence[str], on_line: Callable[[str], None]) -> tuple[list[str], int]:
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"COLUMNS": "100"},  # tables in logs keep one width
    ) as process:
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                line = raw.rstrip("\n")
                lines.append(line)
                on_line(line)
        except KeyboardInterrupt:
            # Ctrl-C reaches the whole group: let the command end its own way first.
            process.wait()
            raise
    return lines, process.returncode
