"""`pantskit models`: which models there are, whether they are whole, what they are."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Action(StrEnum):
    """What to do with the models of a folder."""

    LIST = "list"
    VERIFY = "verify"
    DESCRIBE = "describe"


def command(
    action: Annotated[Action, typer.Argument(help="list, verify or describe.")],
    folder: Annotated[Path, typer.Argument(help="A model, or a folder with models.")],
    scores: Annotated[
        Path | None, typer.Option(help="Scores of its predictions, for the card.")
    ] = None,
    label_map: Annotated[
        str | None,
        typer.Option(help="What the ids of a model made elsewhere mean, as 1=pancreas."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models of a folder, verify them, or write a model's card.

    `verify` reads weights as plain data (code in them is never run), compares their hash and
    builds the network. `describe` writes MODEL_CARD.md: data, intended use, limits, metrics,
    cautions.

    Examples:

        pantskit models list MODELS
        pantskit models verify MODEL
        pantskit models describe MODEL --scores SCORES
    """
    from pantskit.core.labels import LabelMap

    meaning = LabelMap.parse(label_map) if label_map else None
    if action is Action.DESCRIBE:
        from pantskit.networks.folder import Model
        from pantskit.train.card import write_card

        path = write_card(Model.load(folder, label_map=meaning), scores)
        typer.echo(json.dumps({"card": str(path)}) if as_json else str(path))
        return
    from pantskit.networks.inventory import list_models, verify_model

    models = list_models(folder)
    rows: list[dict[str, Any]] = []
    for model in models:
        row = {
            "folder": str(model.folder),
            "origin": model.origin,
            "status": model.status,
            "structures": list(model.structures),
            "cases": model.cases,
        }
        if action is Action.VERIFY:
            row["faults"] = verify_model(model.folder, label_map=meaning)
        rows.append(row)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            typer.echo(_line(row))
    if any(row.get("faults") for row in rows):
        raise typer.Exit(1)


def _line(row: dict[str, Any]) -> str:
    faults = row.get("faults")
    if faults is not None:
        return f"{row['folder']}: {'; '.join(faults) if faults else 'whole'}"
    structures = row["structures"]
    known = f", {len(structures)} structures" if structures else ""
    cases = "" if row["cases"] is None else f", {row['cases']} cases"
    return f"{row['folder']}: {row['origin']}, {row['status']}{known}{cases}"
