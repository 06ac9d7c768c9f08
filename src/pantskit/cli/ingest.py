"""`pantskit ingest`: DICOM and NIfTI to a standard, de-identified dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    import json

    from pantskit.cli.progress import case_progress
    from pantskit.core.errors import ConfigError
    from pantskit.ingest import IngestSettings, ingest, report

    settings = IngestSettings(
        labels, label_map, resample_labels, split, site, name, key, workers=workers
    )
    if list_only:
        rows = report.listing(sources, settings)
        for line in [json.dumps(rows, indent=2)] if as_json else map(report.listing_line, rows):
            typer.echo(line)
        return
    if out is None:
        raise ConfigError("give the dataset's folder with --out, or --list to only look")
    with case_progress("ingest", quiet=as_json) as progress:
        summary = ingest(sources, out, settings, progress=progress)
    if as_json:
        typer.echo(report.summary_json(summary, out))
    else:
        typer.echo("\n".join(report.summary_lines(summary, out)))
    raise typer.Exit(summary.run.exit_status)
