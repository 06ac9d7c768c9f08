"""`pantskit import`: a public dataset, or one in a common layout, as a standard dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[
        str | None,
        typer.Argument(help="Dataset (see --list), nnunet, monai, flat, or a .toml of your own."),
    ] = None,
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Where it was unpacked; several folders are one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the dataset to add to.")] = None,
    split: Annotated[
        str | None, typer.Option(help="train or test for all; by default as the source says.")
    ] = None,
    label_map: Annotated[
        str | None, typer.Option(help="What ids mean, where nnunet, monai or flat do not say.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take structures too that are drawn in part.")
    ] = False,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Take CTs too that have no label.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds after which a case is stopped.")
    ] = 1800.0,
    memory_mb: Annotated[
        float | None, typer.Option(min=1, help="Memory that all processes may take together.")
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Show the datasets that are known.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import the dataset NAME from SOURCES: one label space, and what nobody drew is left open.

    Examples:

        pantskit import --list
        pantskit import kits23 kits23/dataset --out DATASET
        pantskit import panorama images/ panorama_labels/ --out DATASET
        pantskit import nnunet Dataset001_Mine --out DATASET
        pantskit import mine.toml scans/ --out DATASET
    """
    import json

    if list_only:
        from pantskit.ingest.sources.catalogue import catalogue_lines, catalogue_rows

        typer.echo(
            json.dumps(catalogue_rows(), indent=2) if as_json else "\n".join(catalogue_lines())
        )
        raise typer.Exit(0)

    from pantskit.core.imports import without_collecting

    with without_collecting():
        from pantskit.cli.progress import case_progress
        from pantskit.core.errors import ConfigError
        from pantskit.ingest.sources import ImportSettings, import_dataset
        from pantskit.ingest.sources.told import summary_lines, summary_record

    if name is None or not sources:
        raise ConfigError("give a dataset's name and its folder, or --list to see the names")
    if out is None:
        raise ConfigError("give the folder of the dataset to make with --out")
    settings = ImportSettings(
        split=split,
        label_map=label_map,
        partial=partial,
        unlabelled=unlabelled,
        workers=workers,
        timeout_s=timeout,
        memory_mb=memory_mb,
    )
    with case_progress("import", quiet=as_json) as progress:
        summary = import_dataset(name, sources, out, settings, progress=progress)
    if as_json:
        typer.echo(json.dumps(summary_record(summary, out), indent=2))
    else:
        typer.echo("\n".join(summary_lines(summary, out)))
    raise typer.Exit(summary.exit_status)
