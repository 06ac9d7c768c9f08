"""`pantskit predict`: label maps from CTs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[
        Path, typer.Argument(help="A trained model's folder, or a Python file: docs/predict.md.")
    ],
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
    mirror_axes: Annotated[
        str | None, typer.Option(help="Flip along these of the model's axes only, as 0,1.")
    ] = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Write a separate mask of each structure, too.")
    ] = False,
    output_format: Annotated[
        str, typer.Option("--format", help="pants, nnunet, msd07 or dicom-seg.")
    ] = "pants",
    dicom: Annotated[
        Path | None, typer.Option(help="For dicom-seg: folder with the DICOM of the CTs.")
    ] = None,
    steps: Annotated[
        str,
        typer.Option("--postprocess", help="islands, sides, stray-lesions; all or none."),
    ] = "none",
    probabilities: Annotated[
        str, typer.Option(help="Structures, comma-separated, whose probability is written too.")
    ] = "",
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Write how unsure the answer is, too.")
    ] = False,
    label_map: Annotated[
        str | None,
        typer.Option(help="Of a model trained elsewhere: what its ids mean, as 1=liver,2=spleen."),
    ] = None,
    step: Annotated[
        float, typer.Option(help="Distance of windows as a share of them; more is less exact.")
    ] = 0.5,
    skip_air: Annotated[
        bool, typer.Option("--skip-air", help="Leave out windows without tissue.")
    ] = False,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Compute in bfloat16; CPUs without it crawl.")
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Run the network through torch.compile.")
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Refuse shortcuts (--no-mirror, --mirror-axes, --step, --skip-air, --bf16, "
            "--compile), and compute in float32 where a GPU would take half precision.",
        ),
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Windows computed at once; falls with memory.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="For a Python file: the folder that its load() gets.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda; cuda:0,cuda:1 for processes fed from one queue.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="0: in this process, the default for one device; more: in processes that may "
            "die without harm.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print every prediction.json, and how busy the network was."),
    ] = False,
) -> None:
    """Segment CTs with a trained model or one of your own, each on its own grid.

    A rerun does only the cases that are missing or have changed. A Python file given as MODEL is
    run; a trained model's checkpoint never runs code. While a case is computed, the next one is
    read and the last one written; the end says how busy the network was.

    Without options the answer is nnU-Net's: every window, every flip. Options that change it are
    off until asked for; --exact makes sure of that.

    Example:

        pantskit predict MODEL DATASET --out PREDICTIONS

        pantskit predict MODEL scan.nii.gz --out PREDICTIONS --masks --postprocess islands

        pantskit predict mymodel.py DATASET --out PREDICTIONS --format dicom-seg --dicom DICOM
    """
    import json

    from pantskit.cli.progress import case_progress, report_cases
    from pantskit.core.errors import ConfigError
    from pantskit.core.selection import read_case_list
    from pantskit.predict.case import Shortcuts, parse_axes
    from pantskit.predict.inputs import find_inputs
    from pantskit.predict.own_run import predict_own
    from pantskit.predict.postprocess import parse_steps
    from pantskit.predict.protocol import own_model_file
    from pantskit.predict.run import PredictSettings, predict_cases
    from pantskit.predict.turns import notes, utilisation

    settings = PredictSettings(
        mirror=mirror,
        device=device,
        masks=masks,
        probabilities=tuple(s.strip() for s in probabilities.split(",") if s.strip()),
        entropy=entropy,
        label_map=label_map,
        shortcuts=Shortcuts(
            step, skip_air, bf16, compiled, None if mirror_axes is None else parse_axes(mirror_axes)
        ),
        exact=exact,
        batch=batch,
        format=output_format,
        postprocess=parse_steps(steps),
        dicom=dicom,
    )
    own = own_model_file(model) is not None
    if weights is not None and not own:
        raise ConfigError("--weights is for a Python file; a trained folder has its own")
    inputs = find_inputs(source, split=split, cases=read_case_list(cases) if cases else None)
    with case_progress("predict") as progress:
        if own:
            summary = predict_own(
                model, inputs, out, weights=weights, settings=settings, workers=workers,
                progress=progress,
            )  # fmt: skip
        else:
            summary = predict_cases(
                model, inputs, out, settings=settings, workers=workers, progress=progress
            )
    busy = utilisation(summary)
    if as_json:
        done = [r.data for r in summary.records if r.status == "done"]
        typer.echo(json.dumps({"cases": done, "utilisation": busy}, indent=2))
    for note, of in notes(summary).items():
        typer.echo(f"note: {note} ({', '.join(of[:5])}{', ...' if len(of) > 5 else ''})", err=True)
    if busy:
        typer.echo(
            f"predict: the network computed for {busy['network_s']:.1f} s and waited "
            f"{busy['waited_s']:.1f} s: busy {busy['share']:.0%} of the time",
            err=True,
        )
    report_cases(summary, where=f" in {out}")
    raise typer.Exit(summary.exit_status)
