"""`pantskit train`: a network from a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    dataset: Annotated[Path, typer.Argument(help="A dataset: CTs with labels.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    scheme: Annotated[
        str,
        typer.Option(
            help="Structures to learn: 28, pancreas-tumor, pancreas-regions, or a .toml file."
        ),
    ] = "28",
    recipe: Annotated[str, typer.Option(help="paper, cpu, or a .toml file.")] = "paper",
    architecture: Annotated[
        str | None,
        typer.Option(
            help="nnunet, resenc-m, resenc-l, swin-unetr, unetr, segresnet, mednext-s/-b/-m/-l, "
            "in place of the recipe's."
        ),
    ] = None,
    pretrained: Annotated[
        Path | None,
        typer.Option(help="Self-supervised weights for the encoder of swin-unetr or unetr."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    iterations: Annotated[
        int | None, typer.Option(help="An epoch, in place of the recipe's.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(help="Voxels along i,j,k as 64,64,48, in place of the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    split: Annotated[str, typer.Option(help="Cases to train on: train or test.")] = "train",
    cases: Annotated[
        Path | None, typer.Option(help="File of case IDs, one a line: only these.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that read and prepare cases; 0: none.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print model.json.")] = False,
) -> None:
    """Train a segmentation network with nnU-Net, planned and prepared from a dataset.

    Every case is read first: a bad one is named and left out. Ctrl-C ends the training early
    and leaves a model of what was reached.

    Example:

        pantskit train DATASET --out MODEL

        pantskit train DATASET --out MODEL --recipe cpu --scheme pancreas-tumor
    """
    from pantskit.cli.training_progress import training_progress
    from pantskit.core.dataset import Dataset
    from pantskit.core.selection import read_case_list
    from pantskit.train.recipe import Recipe, read_patch
    from pantskit.train.run import train_model

    settings = Recipe.read(recipe).changed(
        architecture=architecture,
        pretrained=pretrained and str(pretrained),
        epochs=epochs,
        iterations=iterations,
        patch_size=patch and read_patch(patch),
    )
    with training_progress() as listener:
        result = train_model(
            Dataset.open(dataset),
            out,
            recipe=settings,
            scheme=scheme,
            split=split,
            cases=read_case_list(cases) if cases else None,
            seed=seed,
            device=device,
            workers=workers,
            listener=listener,
        )
    for record in result.failed:
        typer.echo(f"left out: {record.message}", err=True)
    if as_json:
        typer.echo((out / "model.json").read_text("utf-8"), nl=False)
    typer.echo(f"{out}: {result.describe()}", err=True)
    raise typer.Exit(result.exit_status)
