"""`pantskit train`: a network from a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pantskit.train.outcome import TrainingResult


def command(
    dataset: Annotated[Path, typer.Argument(help="A dataset: CTs with labels.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    scheme: Annotated[
        str,
        typer.Option(
            "--labels",
            "--scheme",
            help="Structures to learn: 28; 2 (pancreas-tumor): the pancreas with its tumour, the "
            "tumour; pancreas-regions; or a .toml file.",
        ),
    ] = "28",
    recipe: Annotated[str, typer.Option(help="paper, cpu, or a .toml file.")] = "paper",
    architecture: Annotated[
        str | None,
        typer.Option(
            help="nnunet, resenc (by the GPU's memory), resenc-m/-l/-xl, swin-unetr, unetr, "
            "segresnet, mednext-s/-b/-m/-l, in place of the recipe's."
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
    fold: Annotated[
        int | None, typer.Option(help="Which fold of patients is kept out, from 0.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(help="GB that the planner fills with a patch; chooses the size of resenc."),
    ] = None,
    mixed_precision: Annotated[
        bool | None,
        typer.Option(
            "--mixed-precision/--full-precision", help="On a GPU, in place of the recipe's (mixed)."
        ),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="On a GPU, in place of the recipe's (compiled)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    split: Annotated[str, typer.Option(help="Cases to train on: train or test.")] = "train",
    cases: Annotated[
        Path | None, typer.Option(help="File of case IDs, one a line: only these.")
    ] = None,
    subset: Annotated[
        int | None, typer.Option(help="So many of the cases, drawn from the seed.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without cases that cannot be used.")
    ] = False,
    only_estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it will take, and stop.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that read and prepare cases; 0: none.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print model.json, or the estimate.")
    ] = False,
) -> None:
    """Train a segmentation network with nnU-Net, planned and prepared from a dataset.

    Every case is looked at first; bad ones are named and end the run, unless --skip-bad. The
    same command goes on with a training that was killed or stopped. Ctrl-C ends it after the
    iteration, with a model of what was reached. Several GPUs share each batch when torchrun
    starts the command.

    Example:

        pantskit train DATASET --out MODEL

        pantskit train DATASET --out MODEL --recipe cpu --labels 2

        pantskit train DATASET --out MODEL --subset 281 --seed 1 --estimate

        torchrun --nproc-per-node 2 -m pantskit train DATASET --out MODEL
    """
    from contextlib import nullcontext

    from pantskit.cli.training_progress import training_progress
    from pantskit.core.dataset import Dataset
    from pantskit.core.selection import read_case_list
    from pantskit.networks.runtime import device_kind
    from pantskit.train.outcome import Listener
    from pantskit.train.ranks import Ranks
    from pantskit.train.recipe import Recipe, read_patch
    from pantskit.train.run import train_model

    first = Ranks.of_environment().first  # of the processes of torchrun, the one that reports
    with nullcontext() if first else _left_to_the_first():
        settings = Recipe.read(recipe).changed(
            architecture=architecture,
            pretrained=pretrained and str(pretrained),
            epochs=epochs,
            iterations=iterations,
            patch_size=patch and read_patch(patch),
            fold=fold,
            gpu_memory_gb=gpu_memory,
            mixed_precision=mixed_precision,
            compile=compiled,
        )
        opened = Dataset.open(dataset)
        chosen = read_case_list(cases) if cases else None
        if not first:
            device_kind(device)
    with training_progress() if first else nullcontext(Listener()) as listener:
        result = train_model(
            opened,
            out,
            recipe=settings,
            scheme=scheme,
            split=split,
            cases=chosen,
            subset=subset,
            skip_bad=skip_bad,
            only_estimate=only_estimate,
            seed=seed,
            device=device,
            workers=workers,
            listener=listener,
        )
    if first:
        _report(result, as_json=as_json)
    raise typer.Exit(result.exit_status)


@contextmanager
def _left_to_the_first() -> Iterator[None]:
    """Say nothing of what the first process meets and says as well."""
    from pantskit.cli.app import COULD_NOT_RUN
    from pantskit.core.errors import PantskitError

    try:
        yield
    except (PantskitError, OSError):
        raise typer.Exit(COULD_NOT_RUN) from None


def _report(result: TrainingResult, *, as_json: bool) -> None:
    for record in result.failed:
        typer.echo(f"left out: {record.message}", err=True)
    if as_json and result.info is None:
        typer.echo(json.dumps(asdict(result.estimate) if result.estimate else {}, indent=2))
    elif as_json:
        typer.echo((result.model / "model.json").read_text("utf-8"), nl=False)
    typer.echo(f"{result.model}: {result.describe()}", err=True)
