"""A model card: what a model was made from, what it is for, and what it is not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pantskit.core.errors import DatasetError
from pantskit.core.files import write_text
from pantskit.core.labels import LESION, STRUCTURES
from pantskit.networks.folder import Model
from pantskit.train.begin import CASES_FILE
from pantskit.train.estimate import describe_patch, duration

CARD_FILE = "MODEL_CARD.md"
_MANY_CASES = 100  # a model of fewer is called a trial


def write_card(model: Model, scores: Path | None = None) -> Path:
    """Write MODEL_CARD.md into a model's folder.

    Args:
        model: the model.
        scores: a folder that `evaluate` wrote of its predictions.

    Raises:
        DatasetError: If the scores cannot be read.
    """
    path = model.folder / CARD_FILE
    write_text(path, render_card(model, scores))
    return path


def render_card(model: Model, scores: Path | None = None) -> str:
    """The card as Markdown.

    Raises:
        DatasetError: If the scores cannot be read.
    """
    parts = [
        f"# {model.folder.resolve().name}",
        _what(model),
        "## Intended use",
        "Research on abdominal CT. It outlines structures on whole CT volumes in Hounsfield "
        "units, for `pantskit predict`. It is no medical device, and no finding of it is a "
        "diagnosis: a reader has to look at the CT.",
        "## Training data",
        *_data(model),
        "## Training",
        *_training(model),
        "## Metrics",
        *_metrics(scores),
        "## Limits and cautions",
        "\n".join(f"- {line}" for line in _cautions(model, scores is not None)),
    ]
    return "\n\n".join(parts) + "\n"


def _what(model: Model) -> str:
    titles = ", ".join(STRUCTURES[s].title for s in model.heads.structures)
    kind = "overlapping regions" if model.heads.regions else "one softmax"
    network = model.plans.configuration.configuration["architecture"]["network_class_name"]
    spacing = " x ".join(f"{s:.3g}" for s in model.plans.configuration.spacing[::-1])
    return (
        f"`{network.rpartition('.')[2]}` of nnU-Net's recipe, {len(model.folds)} network(s), "
        f"patches of {describe_patch(model.plans)} voxels at {spacing} mm, {kind}. Weights "
        f"`{model.checkpoint_hash}`.\n\n"
        f"It knows {len(model.heads.structures)} structures: {titles}."
    )


def _data(model: Model) -> list[str]:
    if model.info is None:
        return ["Not known: the model was trained elsewhere, and its folder does not say."]
    training = model.info.training
    lines = [
        f"{len(training['cases']):,} cases of {training['dataset']} (split {training['split']}); "
        f"IDs and hashes of their files are in `model.json`."
    ]
    cases = _cases(model.folder)
    if cases:
        patients = len({c["patient"] for c in cases.values()})
        lines[0] += f" {patients:,} patients."
        rows = ["| | cases |", "|---|---|"]
        for name in ("tumor", "phase", "site"):
            counts = Counter(str(c[name]) for c in cases.values())
            rows += [f"| {name}: {value} | {n:,} |" for value, n in sorted(counts.items())]
        lines.append("\n".join(rows))
    if training["partial_structures"]:
        partial = ", ".join(f"{s} ({n})" for s, n in training["partial_structures"].items())
        lines.append(f"Annotated in only some cases, and learned from these: {partial}.")
    if training["failed_cases"]:
        lines.append(f"{len(training['failed_cases'])} cases could not be used and were left out.")
    return lines


def _training(model: Model) -> list[str]:
    info = model.info
    if info is None:
        return ["Not known."]
    training, recipe = info.training, info.training["recipe"]
    line = (
        f"{training['epochs']:,} of {recipe['epochs']:,} epochs of {recipe['iterations']} "
        f"iterations, {recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, "
        f"augmentation {recipe['augmentation']}, seed {training['seed']}, on "
        f"{training['device']} in {duration(training['seconds'])}. All settings: `recipe.toml`."
    )
    versions = ", ".join(f"{k} {v}" for k, v in info.versions.items())
    return [line, f"Versions: {versions}."]


def _metrics(scores: Path | None) -> list[str]:
    if scores is None:
        return [
            "None here. Predict a test set, score it with `pantskit evaluate`, and write this card "
            "again with `pantskit models describe MODEL --scores SCORES`. The Dice in "
            "`progress.csv` is of patches, not of cases."
        ]
    path = scores / "summary.json"
    try:
        summary = json.loads(path.read_text("utf-8"))
        rows = [
            f"| {STRUCTURES[s].title if s in STRUCTURES else s} | {_interval(v['dsc'])} "
            f"| {v['dsc']['n']} |"
            for s, v in summary["structures"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: no summary of `pantskit evaluate`: {error}") from None
    table = "\n".join(["| structure | mean DSC (95 % interval) | cases |", "|---|---|---|", *rows])
    return [
        f"From `{scores.name}/summary.json`, which has the other scores and their rules.",
        table,
    ]


def _interval(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "-"
    if score["low"] is None:
        return f"{score['mean']:.3f}"
    return f"{score['mean']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def _cautions(model: Model, scored: bool) -> list[str]:
    lines = []
    info = model.info
    if info is not None:
        training = info.training
        if info.status != "complete":
            lines.append("The training was interrupted: it is trained less than its recipe says.")
        if len(training["cases"]) < _MANY_CASES:
            lines.append(f"Trained on only {len(training['cases'])} cases: a trial, not for use.")
        silent = [s for s, n in training["voxels"].items() if not n]
        if silent:
            lines.append(f"In no training case there, so never found: {', '.join(silent)}.")
        if LESION in model.heads.structures and LESION not in silent:
            lines.append("A tumour that it does not outline may be there all the same.")
        if "i" in training["recipe"]["mirror_axes"]:
            lines.append("Trained with left-right mirroring: paired organs may change sides.")
    if model.orientation is None:
        lines.append("In which orientation it was trained is not known: CTs are given as they lie.")
    if not scored:
        lines.append("Its quality is not measured here.")
    lines.append(
        "Scanners, contrast phases, patients and diseases unlike those of its training data are "
        "untested; so is every use on children."
    )
    return lines


def _cases(folder: Path) -> dict[str, Any]:
    try:
        cases: dict[str, Any] = json.loads((folder / CASES_FILE).read_text("utf-8"))["cases"]
    except (OSError, ValueError, KeyError):
        return {}
    return cases
