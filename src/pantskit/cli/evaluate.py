"""`pantskit evaluate`: predictions scored against reference labels."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pantskit.cli.progress import case_progress, report_cases


def command(
    predictions: Annotated[
        Path, typer.Argument(help="Predictions folder, or any folder of label maps or masks.")
    ],
    reference: Annotated[Path, typer.Argument(help="Dataset, or any folder of labels.")],
    out: Annotated[Path, typer.Option(help="Folder for scores and summary.json.")],
    tolerance_mm: Annotated[
        list[float], typer.Option(help="NSD tolerance in mm; give it again for more.")
    ] = [2.0],  # noqa: B006  # typer copies it
    definition: Annotated[
        str, typer.Option(help="Of NSD: surfel (DeepMind's), counted (the paper's), counted-le.")
    ] = "surfel",
    structures: Annotated[
        str | None, typer.Option(help="Structures to score, as liver,pancreas; all by default.")
    ] = None,
    union: Annotated[
        list[str] | None,
        typer.Option(help="Score structures as one: kidneys, lungs, ... or NAME=a+b; repeatable."),
    ] = None,
    label_map: Annotated[
        str | None, typer.Option(help="What predicted ids mean: a name, a file, or 1=pancreas,...")
    ] = None,
    reference_label_map: Annotated[
        str | None, typer.Option(help="What the reference's ids mean, likewise.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train or test; both by default.")] = None,
    cases: Annotated[
        Path | None, typer.Option(help="File with the case IDs to score, one a line.")
    ] = None,
    hit_rule: Annotated[
        str, typer.Option(help="When a tumour is found: touch, iou, dice, overlap or centre.")
    ] = "touch",
    hit_minimum: Annotated[
        float | None, typer.Option(help="Least overlap for that, by iou, dice or overlap.")
    ] = None,
    tumor_mm3: Annotated[
        float, typer.Option(help="A case is called positive from this much predicted tumour on.")
    ] = 0.0,
    probability: Annotated[
        float, typer.Option(help="A case is called positive from this tumour probability on.")
    ] = 0.5,
    case_scores: Annotated[
        Path | None,
        typer.Option(help="Table with case_id and score (higher: more suspicious) to rank by."),
    ] = None,
    case_score: Annotated[
        float | None, typer.Option(help="A case is called positive from this score on.")
    ] = None,
    prevalence: Annotated[
        list[float] | None,
        typer.Option(help="Give predictive values for this share of tumours; repeatable."),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring predictions onto the reference's grid.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="Draw curves, distributions and the worst cases too.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Score predictions: DSC, NSD, HD95, sensitivity, specificity, tumour detection.

    A missing or unusable prediction is named and counts as the worst score. Whatever does not
    fit together is named too, and the exit status is then 1.

    Example:

      pantskit evaluate predictions data/PanTS --split test --out scores
    """
    from pantskit.core.selection import read_case_list
    from pantskit.evaluate.case_scores import open_case_scores
    from pantskit.evaluate.evaluation import evaluate
    from pantskit.evaluate.pairing import COMPLAINTS
    from pantskit.evaluate.settings import EvaluateConfig
    from pantskit.evaluate.unions import parse_unions

    config = EvaluateConfig(
        tolerances_mm=tuple(tolerance_mm),
        definition=definition,  # type: ignore[arg-type]  # checked by EvaluateConfig
        structures=tuple(structures.split(",")) if structures else None,
        unions=parse_unions(union or ()),
        label_map=label_map,
        reference_label_map=reference_label_map,
        split=split,
        cases=read_case_list(cases, repeats=True) if cases else None,
        resample=resample,
        hit_rule=hit_rule,  # type: ignore[arg-type]  # checked by EvaluateConfig
        hit_minimum=hit_minimum,
        tumor_mm3=tumor_mm3,
        probability=probability,
        case_scores=open_case_scores(case_scores) if case_scores else None,
        case_score=case_score,
        prevalence=tuple(prevalence or ()),
    )
    with case_progress("evaluate", quiet=as_json) as progress:
        result = evaluate(
            predictions, reference, out, config, figures=figures, workers=workers, progress=progress
        )
    for kind, names in result.complaints.items():
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            typer.echo(f"{len(names)} {COMPLAINTS[kind]}: {shown}", err=True)
    report_cases(result.run, where=f"; written to {out}")
    if as_json:
        import json

        from pantskit.core.files import jsonable

        typer.echo(json.dumps(jsonable(result.summary), indent=2))
    else:
        _print_tables(result.summary)
    raise typer.Exit(result.exit_status)


def _print_tables(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    tolerances = [f"{t:g}" for t in summary["settings"]["tolerances_mm"]]
    names = ("Structure", "DSC", *(f"NSD {t} mm" for t in tolerances), "Cases", "Empty", "Worst")
    table = Table(*names, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for structure, row in summary["structures"].items():
        nsds = [_number(row["nsd"][t]["mean"]) for t in tolerances]
        counts = (row["dsc"]["n"], row["status"].get("both_empty", 0), row["worst"])
        table.add_row(structure, _number(row["dsc"]["mean"]), *nsds, *(str(n) for n in counts))
    # Where nobody looks on, in a file or a pipe, names are never cut.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    for line in _detection_lines(summary["detection"]):
        typer.echo(line)


def _detection_lines(detection: dict[str, Any]) -> list[str]:
    """Tumour detection in a few lines; none where nothing is annotated or predicted."""
    if detection["score"] is None or not detection["cases"]:
        return []
    lines = [
        f"Tumours found {_of(detection['sensitivity_tumor'])}: "
        f"{detection['sensitivity_tumor']['rule']}"
    ]
    for point in detection["operating_points"]:
        lines.append(
            f"Tumour cases, {point['point']}: sensitivity {_of(point['sensitivity_patient'])}, "
            f"specificity {_of(point['specificity'])}, F1 {_number(point['f1']['value'])}"
        )
        lines += [
            f"  at a prevalence of {share}: PPV {_number(values['ppv']['value'])}, "
            f"NPV {_number(values['npv']['value'])}"
            for share, values in point.get("at_prevalence", {}).items()
        ]
    for scored in detection["by_score"].values():
        auc = scored["auc"]
        lines.append(
            f"AUC {auc['value']:.3f} (95 % {auc['low']:.3f} to {auc['high']:.3f}), average "
            f"precision {scored['average_precision']['value']:.3f}, by {scored['score_is']}"
        )
    if detection["picai"]:
        picai = detection["picai"]
        lines.append(
            f"Lesion AP {picai['average_precision']['value']:.3f}, picai score "
            f"{_number(picai['score']['value'])}: {picai['rule']}"
        )
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _of(proportion: dict[str, Any]) -> str:
    value = "-" if not proportion["of"] else f"{proportion['value']:.2f}"
    return f"{value} ({proportion['count']}/{proportion['of']})"
