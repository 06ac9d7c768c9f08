"""`pantskit info`: the installation, for reports of problems; or a folder and its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

LIBRARIES = ("numpy", "numba", "nibabel", "pydicom", "polars", "torch", "nnunetv2")


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A dataset, model, predictions or scores to describe."),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(help="Write the folder's records here, a .parquet and a .csv a stage."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print versions and the machine, or what a folder holds and what became of its cases.

    Examples:

        pantskit info --json
        pantskit info DATASET --tables records
    """
    import json

    if folder is None:
        if tables is not None:
            from pantskit.core.errors import ConfigError

            raise ConfigError("--tables needs the folder whose records to write")
        facts = describe_installation()
        lines = [f"{k:<10}  {'not installed' if v is None else v}" for k, v in facts.items()]
    else:
        from pantskit.core.overview import overview, write_record_tables

        facts = overview(folder)
        lines = _folder_lines(facts)
        if tables is not None:
            stages = write_record_tables(folder, tables)
            typer.echo(f"records of {', '.join(stages)} written to {tables}", err=True)
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines))


def _folder_lines(facts: dict[str, Any]) -> list[str]:
    lines = []
    if facts["dataset"]:
        known = facts["dataset"]
        cases = ", ".join(f"{n:,} {split}" for split, n in known["cases"].items())
        patients = "" if known["patients"] is None else f" of {known['patients']:,} patients"
        lines.append(f"{known['name']}: {cases} cases{patients}")
    if facts["model"]:
        model = facts["model"]
        spacing = " x ".join(f"{s:.3g}" for s in model["spacing"])
        lines.append(
            f"model of {len(model['structures'])} structures at {spacing} mm: {model['status']}, "
            f"{model['epochs']:,} epochs on {model['cases']:,} cases"
        )
        lines.append(f"structures: {', '.join(model['structures'])}")
    for stage, found in facts["stages"].items():
        counts = ", ".join(f"{n:,} {status}" for status, n in found["counts"].items())
        lines.append(f"{stage}: {counts}")
        for case in found["not_done"]:
            message = case["message"].removeprefix(f"{case['case_id']}: ")
            lines.append(f"  {case['status']}: {case['case_id']}: {message}")
    return lines


def describe_installation() -> dict[str, Any]:
    """Versions by package (None: not installed), and what this process may use of the machine.

    Versions come from the packages' metadata: importing torch to ask it takes over a second.
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import psutil

    from pantskit import __version__

    facts: dict[str, Any] = {
        "pantskit": __version__,
        "python": platform.python_version(),
    }
    for library in LIBRARIES:
        try:
            facts[library] = version(library)
        except PackageNotFoundError:
            facts[library] = None
    facts["platform"] = platform.platform()
    facts["cores"] = len(psutil.Process().cpu_affinity())
    facts["memory_gib"] = round(psutil.virtual_memory().total / 2**30, 1)
    return facts
