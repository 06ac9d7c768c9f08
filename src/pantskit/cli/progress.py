"""Progress of a run: a bar on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pantskit.core.records import CaseRecord
from pantskit.core.run import Progress, RunSummary


@contextmanager
def case_progress(stage: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """A callback for `run_cases`; None when quiet.

    Cases that fail are named at once in either form.
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield lambda record, n, total: typer.echo(_line(stage, record, n, total), err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("[bold]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(stage, total=None)

        def step(record: CaseRecord, n: int, total: int) -> None:
            bar.update(task, completed=n, total=total)
            if record.status in ("failed", "quarantined"):
                console.print(_line(stage, record, n, total), markup=False, highlight=False)

        yield step


def report_cases(summary: RunSummary, *, where: str = "") -> None:
    """The end of a run, on standard error: counts, and each case that was not done.

    Cases that failed for one reason share a line.
    """
    alike: dict[tuple[str, str], list[CaseRecord]] = {}
    for record in summary.not_done:
        reason = re.sub(rf"\b{re.escape(record.case_id)}\b", "", record.message)
        alike.setdefault((record.status, reason), []).append(record)
    for (status, _), (first, *others) in alike.items():
        more = f" (so are {', '.join(r.case_id for r in others)})" if others else ""
        typer.echo(f"{status}: {_named(first)}{more}", err=True)
    typer.echo(f"{summary.stage}: {summary.describe()}{where}", err=True)


def _line(stage: str, record: CaseRecord, n: int, total: int) -> str:
    message = record.message.removeprefix(f"{record.case_id}: ")
    reason = f": {message}" if message else ""
    return f"{stage} {n}/{total} {record.case_id}: {record.status}{reason}"


def _named(record: CaseRecord) -> str:
    named = record.case_id in record.message
    return record.message if named else f"{record.case_id}: {record.message}"
