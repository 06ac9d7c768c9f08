"""`pantskit ingest`: DICOM and NIfTI to a standard, de-identified dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


def command(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders, DICOM, NIfTI or NRRD files, archives, DICOMDIR.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the dataset to add to.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Annotations: label maps, folders of masks, DICOM SEG or RTSTRUCT."),
    ] = None,
    label_map: Annotated[
        str | None,
        typer.Option(help="What ids mean: a known name, a file, or 1=pancreas,2=spleen."),
    ] = None,
    resample_labels: Annotated[
        bool, typer.Option("--resample-labels", help="Bring labels of another grid to the CT's.")
    ] = False,
    resample_tilt: Annotated[
        bool, typer.Option("--resample-tilt", help="Resample slices of a tilted gantry.")
    ] = False,
    resample_spacing: Annotated[
        bool, typer.Option("--resample-spacing", help="Resample slices at varying distances.")
    ] = False,
    series: Annotated[
        str, typer.Option(help="Of each acquisition the best, the best of a study, or all.")
    ] = "best",
    prefer: Annotated[
        str | None, typer.Option(help="What makes a series the best: axial,original,soft,thin.")
    ] = None,
    clinical: Annotated[
        Path | None, typer.Option(help="Table of age, sex and diagnosis by patient ID.")
    ] = None,
    export_dicom: Annotated[
        Path | None, typer.Option(help="Folder for de-identified DICOM of every case too.")
    ] = None,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    site: Annotated[
        str | None, typer.Option(help="Name of the site; else a pseudonym of the institution.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of a new dataset.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key of the pseudonyms, by default OUT.key beside OUT.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers do the cases.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds after which a case is stopped.")
    ] = 1800.0,
    memory_mb: Annotated[
        float | None, typer.Option(min=1, help="Memory that all processes may take together.")
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Show what the sources hold and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add the CTs of SOURCES to the dataset OUT: Hounsfield units, one orientation, no names.

    Examples:

        pantskit ingest scans/ --list
        pantskit ingest scans/ --out DATASET
        pantskit ingest case17.zip --labels case17.zip --out DATASET
        pantskit ingest ct.nii.gz --labels seg.nii.gz --label-map totalsegmentator --out DATASET
    """
    from pantskit.core.imports import without_collecting

    with without_collecting():
        from pantskit.cli.progress import case_progress
        from pantskit.core.errors import ConfigError
        from pantskit.ingest import IngestSettings, ingest, report

    settings = IngestSettings(
        labels=labels,
        label_map=label_map,
        resample_labels=resample_labels,
        resample_tilt=resample_tilt,
        resample_spacing=resample_spacing,
        series=series,
        prefer=tuple(p.strip() for p in prefer.split(",")) if prefer else (),
        clinical=clinical,
        export_dicom=export_dicom,
        split=split,
        site=site,
        name=name,
        key=key,
        workers=workers,
        cluster=cluster,
        timeout_s=timeout,
        memory_mb=memory_mb,
    )
    if list_only:
        _list(report.listing(sources, settings, out=out), as_json=as_json)
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

            listing.print_listing(rows, Console())
        else:
            typer.echo("\n".join(listing.listing_lines(rows)))
        typer.echo(listing.listing_end(rows))
    raise typer.Exit(1 if listing.takes_nothing(rows) else 0)
