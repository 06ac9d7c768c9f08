"""`pantskit predict`: label maps from CTs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[Path, typer.Argument(help="A model's folder, made by `pantskit train`.")],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A dataset, a NIfTI CT, or a folder of them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the predictions.")],
    split: Annotated[
        str | None, typer.Option(help="Of a dataset: train or test (the default).")
    ] = None,
    cases: Annotated[
        Path | None, typer.Option(help="File of case IDs, one a line: only these.")
    ] = None,
    mirror: Annotated[
        bool, typer.Option(help="Average over the flips that the model was trained with.")
    ] = True,
    masks: Annotated[
        bool, typer.Option("--masks", help="Write a separate mask of each structure, too.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="0: in this process; 1: in one that may die without harm.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print every prediction.json.")] = False,
) -> None:
    """Segment CTs with a trained model, each on its own grid.

    A rerun does only the cases that are missing or have changed.

    Example:

        pantskit predict MODEL DATASET --out PREDICTIONS

        pantskit predict MODEL scan.nii.gz --out PREDICTIONS --masks
    """
    import json

    from pantskit.cli.progress import case_progress, report_cases
    from pantskit.core.selection import read_case_list
    from pantskit.predict.inputs import find_inputs
    from pantskit.predict.run import PredictSettings, predict_cases

    inputs = find_inputs(source, split=split, cases=read_case_list(cases) if cases else None)
    with case_progress("predict") as progress:
        summary = predict_cases(
            model,
            inputs,
            out,
            settings=PredictSettings(mirror=mirror, device=device, masks=masks),
            workers=workers,
            progress=progress,
        )
    if as_json:
        done = [r.data for r in summary.records if r.status == "done"]
        typer.echo(json.dumps(done, indent=2))
    report_cases(summary, where=f" in {out}")
    raise typer.Exit(summary.exit_status)
