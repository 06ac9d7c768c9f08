"""`pantskit check`: what is wrong or odd in a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pantskit.cli.progress import case_progress, report_cases


def command(
    dataset: Annotated[Path, typer.Argument(help="Dataset, ours or the public release's folders.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for findings.csv, .parquet and .json.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train or test; both by default.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check geometry, masks and metadata of every case; exit 1 when there are errors.

    The dataset is only read; nothing in it is repaired.

    Example:

      pantskit check data/PanTS --out checked
    """
    from pantskit.check.dataset import check_dataset
    from pantskit.core.dataset import Dataset

    opened = Dataset.open(dataset)
    with case_progress("check", quiet=as_json) as progress:
        result = check_dataset(opened, out, split=split, workers=workers, progress=progress)
    if as_json:
        import json

        from pantskit.core.files import jsonable

        rows = [f.row() for f in result.findings]
        typer.echo(json.dumps(jsonable({"counts": result.counts, "findings": rows}), indent=2))
    else:
        for finding in result.findings:
            message = finding.message.removeprefix(f"{finding.case_id}: ")
            typer.echo(f"{finding.severity}: {finding.case_id}: {message}")
        counts = ", ".join(f"{n} {name}" for name, n in result.counts.items())
        report_cases(result.run)
        typer.echo(f"findings: {counts}" + (f"; written to {out}" if out else ""), err=True)
    raise typer.Exit(result.exit_status)
