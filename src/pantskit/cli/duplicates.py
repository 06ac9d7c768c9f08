"""`pantskit duplicates`: scans that are in datasets more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    datasets: Annotated[
        list[Path], typer.Argument(help="Datasets, ours or the public release's folders.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for fingerprints and duplicates.csv.")],
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find scans that DATASETS hold twice, though resampled, mirrored, cropped or clipped.

    Exit 1 when a pair is on two sides of a split. The same body with other HU, as in another
    phase, is told apart as the same patient.

    Example:

        pantskit duplicates PanTS MSD --out compared
    """
    import json
    from dataclasses import asdict

    from pantskit.cli.progress import case_progress, report_cases
    from pantskit.core.dataset import Dataset
    from pantskit.ingest.sources.duplicates import find_duplicates

    opened = [Dataset.open(path) for path in datasets]
    with case_progress("fingerprint", quiet=as_json) as progress:
        summary = find_duplicates(opened, out, workers=workers, progress=progress)
    if as_json:
        rows = [{**asdict(p), "on_two_sides": p.on_two_sides} for p in summary.pairs]
        typer.echo(json.dumps({"counts": summary.run.counts, "pairs": rows}, indent=2))
    else:
        for pair in summary.pairs:
            sides = ", on two sides of a split" if pair.on_two_sides else ""
            typer.echo(
                f"{pair.kind}: {pair.first} and {pair.second} ({pair.places} places agree, "
                f"similarity {pair.similarity:g}{sides})"
            )
        report_cases(summary.run)
        typer.echo(f"{len(summary.pairs)} pairs; written to {out / 'duplicates.csv'}", err=True)
    raise typer.Exit(summary.exit_status)
