"""`pantskit export`: a standard dataset for nnU-Net, MONAI, or as flat label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    dataset: Annotated[Path, typer.Argument(help="Dataset, ours or the public release's folders.")],
    out: Annotated[Path, typer.Option(help="Folder to write; new, or of an earlier export.")],
    format: Annotated[str, typer.Option(help="nnunet, monai or flat.")] = "nnunet",
    structures: Annotated[
        str | None,
        typer.Option(help="Of the label map: names with commas; by default what all cases have."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train or test; both by default.")] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Link to the CTs instead of copying them.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write DATASET in another layout; `pantskit import` of it gives the same masks and CTs.

    Examples:

        pantskit export DATASET --format nnunet --out nnUNet_raw/Dataset001_PanTS
        pantskit export DATASET --format monai --structures pancreas,pancreatic_lesion --out DIR
        pantskit import nnunet nnUNet_raw/Dataset001_PanTS --out AGAIN
    """
    import json

    from pantskit.cli.progress import case_progress, report_cases
    from pantskit.core.dataset import Dataset
    from pantskit.ingest.sources.exporting import ExportSettings, export_dataset

    wanted = tuple(s.strip() for s in structures.split(",")) if structures else None
    settings = ExportSettings(format, wanted, split, link=link, workers=workers)
    with case_progress("export", quiet=as_json) as progress:
        summary = export_dataset(Dataset.open(dataset), out, settings, progress=progress)
    if as_json:
        record = {
            "out": str(out),
            "format": format,
            "labels": summary.labels,
            "counts": summary.run.counts,
            "failed": {r.case_id: r.message for r in summary.run.not_done},
        }
        typer.echo(json.dumps(record, indent=2))
    else:
        typer.echo(f"labels: {', '.join(f'{i} {s}' for i, s in summary.labels.items())}")
        report_cases(summary.run, where=f" in {out}")
    raise typer.Exit(summary.run.exit_status)
