"""Which models lie in a folder, and whether each is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pantskit.core.errors import DatasetError, PantskitError
from pantskit.core.files import content_hash
from pantskit.core.labels import LabelMap
from pantskit.networks.folder import CHECKPOINT, FOLD, MODEL_FILE, Model, read_info

_DEPTH = 3  # nnU-Net's results lie two folders deep


@dataclass(frozen=True)
class Listed:
    """One model of a folder, without its weights.

    Attributes:
        folder: where it lies.
        origin: `"pantskit"` or `"nnU-Net"`.
        status: `"complete"`, `"interrupted"`, `"unfinished"` (no weights yet), or of nnU-Net's
            the number of its folds.
        structures: that it knows, where its model.json says so.
        cases: that it was trained on, where that is known.
    """

    folder: Path
    origin: str
    status: str
    structures: tuple[str, ...] = ()
    cases: int | None = None


def list_models(folder: Path) -> list[Listed]:
    """Models in a folder and up to three levels below it, by path.

    Raises:
        DatasetError: If there is no such folder, or no model in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    found = [_listed(path) for path in _model_folders(folder)]
    if not found:
        raise DatasetError(f"{folder}: holds no model; one is made by `pantskit train`")
    return found


def verify_model(folder: Path, *, label_map: LabelMap | None = None) -> list[str]:
    """Check that a model can be used: weights read as plain data, as written, fit the network.

    Code in a checkpoint is never run.

    Args:
        folder: of the model.
        label_map: what the ids of a model made elsewhere mean.

    Returns:
        What is wrong; empty when nothing is.
    """
    try:
        model = Model.load(folder, label_map=label_map)
        faults = _wrong_hash(model)
        for n, weights in enumerate(model.folds):
            bad = [
                k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()
            ]
            if bad:
                faults.append(f"network {n}: values that are not finite in {bad[0]}")
        import torch

        model.build(torch.device("cpu"))
    except PantskitError as error:
        return [str(error)]
    return faults


def _wrong_hash(model: Model) -> list[str]:
    """Whether a model of ours has the weights that its model.json was written with."""
    written = model.info.training.get("weights") if model.info else None
    path = model.folder / FOLD / CHECKPOINT
    if written is None or content_hash(path) == written:
        return []
    return [f"{path}: is not the file that {MODEL_FILE} was written for; copy both again"]


def _model_folders(folder: Path) -> Iterator[Path]:
    for where, names, files in os.walk(folder):
        names.sort()
        depth = len(Path(where).relative_to(folder).parts)
        if MODEL_FILE in files or {"plans.json", "dataset.json"} <= {*files}:
            names.clear()
            yield Path(where)
        elif depth >= _DEPTH:
            names.clear()
        else:
            names[:] = [n for n in names if not n.startswith(".")]


def _listed(folder: Path) -> Listed:
    if (folder / MODEL_FILE).is_file():
        try:
            info = read_info(folder)
        except DatasetError as error:
            return Listed(folder, "pantskit", f"damaged: {error}")
        cases = len(info.training.get("cases", ()))
        return Listed(folder, "pantskit", info.status, info.channels, cases)
    folds = len(list(folder.glob(f"fold_*/{CHECKPOINT}")))
    if (folder / "recipe.toml").is_file():
        return Listed(folder, "pantskit", "unfinished")
    return Listed(folder, "nnU-Net", f"{folds} folds" if folds else "unfinished")
