"""`pantskit cohort`: datasets described in tables, beside those of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pantskit.describe import CompareResult


def command(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(help="Datasets of your own to set beside the published ones."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare datasets: the paper's Table 3.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables and pictures.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare datasets by tumours, scans, institutions, countries and annotated structures.

    Published numbers are shown as published, each with its source; where sources disagree both
    stand. Your own datasets are counted; what they do not say is missing, never 0.

    Examples:

        pantskit cohort --compare --out compared
        pantskit cohort --compare DATASET --out compared --json
    """
    from pantskit.core.errors import ConfigError

    if not compare:
        raise ConfigError("say what to do with the datasets: --compare is what there is")
    if out is None:
        raise ConfigError("give the folder to write to with --out")
    _compare(datasets or [], out, workers, as_json)


def _compare(datasets: list[Path], out: Path, workers: int, as_json: bool) -> None:
    import json

    from pantskit.cli.progress import case_progress, report_cases
    from pantskit.core.files import jsonable
    from pantskit.describe import compare_datasets
    from pantskit.describe.compare import comparison_record

    with case_progress("count", quiet=as_json) as progress:
        result = compare_datasets(datasets, out, workers=workers, progress=progress)
    if as_json:
        typer.echo(json.dumps(jsonable(comparison_record(result.comparison)), indent=2))
    else:
        typer.echo("\n".join(_lines(result)))
    for run in result.runs:
        report_cases(run)
    typer.echo(f"written to {out}", err=True)
    raise typer.Exit(result.exit_status)


def _lines(result: CompareResult) -> list[str]:
    """The numbers of every dataset, with how many of the structure columns it has."""
    from pantskit.core.published import DRAWN
    from pantskit.describe.comparison import NUMBERS, TITLES

    comparison = result.comparison
    of = f"of {len(comparison.columns)}"
    rows: list[tuple[str, ...]] = [("", *(title for _, title in NUMBERS), of)]
    for kind, title in TITLES.items():
        of_kind = comparison.of_kind(kind)
        rows += [(title, *[""] * (len(NUMBERS) + 1))] if of_kind else []
        for row in of_kind:
            whole = sum(cell.text == DRAWN for cell in row.marks)
            rows.append((f"  {row.full_label}", *(cell.text for cell in row.numbers), str(whole)))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join(
            f"{cell:<{w}}" if n == 0 else f"{cell:>{w}}"
            for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    told = len(comparison.notes) + len(comparison.remarks)
    return [*lines, "", f"{told} notes, with every disagreement of the sources: comparison.md"]
