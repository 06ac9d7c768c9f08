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
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Write who is one patient into the DATASETS, for folds and checks."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find scans that DATASETS hold twice, though resampled, mirrored, cropped or clipped.

    Exit 1 when a pair is on two sides of a split. The same body with other HU, as in another
    phase, is told apart as the same patient. With --write each of the DATASETS gets a
    same_patients.json: folds and subsets then keep such scans together, `check` knows them as one
    patient, and `train` leaves out what is tested in another one.

    Examples:

        pantskit duplicates PanTS MSD --out compared
        pantskit duplicates PanTS MSD --out compared --write
    """
    import json
    from dataclasses import asdict

    from pantskit.cli.progress import case_progress, report_cases
    from pantskit.core.dataset import Dataset
    from pantskit.ingest.sources.duplicates import find_duplicates
    from pantskit.ingest.sources.same_patients import write_same_patients

    opened = [Dataset.open(path) for path in datasets]
    with case_progress("fingerprint", quiet=as_json) as progress:
        summary = find_duplicates(opened, out, workers=workers, progress=progress)
    written = (
        write_same_patients(opened, [(p.first, p.second) for p in summary.pairs]) if write else {}
    )
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
        for name, copies in written.items():
            typer.echo(
                f"{name}: {len(copies.patients)} cases share a patient, "
                f"{len(copies.held_out)} of them are tested elsewhere and not trained on",
                err=True,
            )
        report_cases(summary.run)
        typer.echo(f"{len(summary.pairs)} pairs; written to {out / 'duplicates.csv'}", err=True)
    raise typer.Exit(summary.exit_status)
