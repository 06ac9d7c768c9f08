"""`pantskit ingest`: DICOM and NIfTI to a standard, de-identified dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


def command(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders, DICOM or NIfTI files, .zip archives of DICOM.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the dataset to add to.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Annotations: a label map, a folder of masks, DICOM mask series."),
    ] = None,
    label_map: Annotated[
        str | None,
        typer.Option(help="What ids mean: a known name, a file, or 1=pancreas,2=spleen."),
    ] = None,
    resample_labels: Annotated[
        bool, typer.Option("--resample-labels", help="Bring labels of another grid to the CT's.")
    ] = False,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    site: Annotated[
        str | None, typer.Option(help="Name of the site; else a pseudonym of the institution.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of a new dataset.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key of the pseudonyms, by default OUT.key beside OUT.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = 1,
    list_only: Annotated[
        bool, typer.Option("--list", help="Show what the sources hold and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add the CTs of SOURCES to the dataset OUT: Hounsfield units, one orientation, no names.

    Examples:

        pantskit ingest scans/ --out DATASET
        pantskit ingest case17.zip --labels case17.zip --out DATASET
        pantskit ingest ct.nii.gz --labels seg.nii.gz --label-map totalsegmentator --out DATASET
    """
    from pantskit.cli.progress import case_progress
    from pantskit.core.errors import ConfigError
    from pantskit.ingest import IngestSettings, ingest, report

    settings = IngestSettings(
        labels=labels,
        label_map=label_map,
        resample_labels=resample_labels,
        split=split,
        site=site,
        name=name,
        key=key,
        workers=workers,
    )
    if list_only:
        _list(report.listing(sources, settings), as_json=as_json)
    if out is None:
        raise ConfigError("give the dataset's folder with --out, or --list to only look")
    with case_progress("ingest", quiet=as_json) as progress:
        summary = ingest(sources, out, settings, progress=progress)
    if as_json:
        typer.echo(report.summary_json(summary, out))
    else:
        typer.echo("\n".join(report.summary_lines(summary, out)))
    raise typer.Exit(report.exit_status(summary))


def _list(rows: list[dict[str, Any]], *, as_json: bool) -> NoReturn:
    import json
    import sys

    from pantskit.ingest import listing

    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        if sys.stdout.isatty():
            from rich.console import Console

            Console().print(listing.listing_table(rows))
        else:
            typer.echo("\n".join(listing.listing_lines(rows)))
        typer.echo(listing.listing_end(rows))
    raise typer.Exit(1 if listing.takes_nothing(rows) else 0)
