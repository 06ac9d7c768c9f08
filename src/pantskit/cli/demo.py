"""`pantskit demo`: every stage once, and a page to look at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything, and its index.html.")],
    dicom: Annotated[
        Path | None, typer.Option(help="Real series to take through ingest and prediction too.")
    ] = None,
) -> None:
    """Synthetic DICOM of three sites through every stage, with a page of the result.

    Takes a few minutes on two cores. A second run does only what is missing.

    Example:

        pantskit demo --out demo-out
    """
    from pantskit.demo.path import DemoResult, run_demo
    from pantskit.demo.steps import Step

    terminal = sys.stderr.isatty()

    def on_step(step: Step, number: int, total: int) -> None:
        clear = "\r\x1b[K" if terminal else ""
        typer.echo(f"{clear}[{number}/{total}] {step.title}", err=True)

    def on_line(line: str) -> None:
        if terminal and line.strip():  # one line that is written over: logs keep them all
            typer.echo(f"\r\x1b[K  {line[:90]}", err=True, nl=False)

    result: DemoResult = run_demo(out, dicom=dicom, on_step=on_step, on_line=on_line)
    if terminal:
        typer.echo("\r\x1b[K", err=True, nl=False)
    _print_table(result)
    typer.echo(f"Open {result.page} in a browser.")
    raise typer.Exit(result.exit_status)


def _print_table(result: object) -> None:
    from rich.console import Console
    from rich.table import Table

    from pantskit.demo.path import DemoResult

    assert isinstance(result, DemoResult)
    table = Table("Step", "Seconds", "Outcome", box=None, header_style="bold", pad_edge=False)
    table.columns[1].justify = "right"
    for step in result.steps:
        outcome = "some cases not done" if step.exit_status else "done"
        table.add_row(step.step.title, f"{step.seconds:.1f}", outcome)
    Console().print(table)
