"""Predict many CTs with one model: a folder of predictions, resumable."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pantskit.core.dataset import mask_path
from pantskit.core.errors import DatasetError, PantskitError
from pantskit.core.files import write_json
from pantskit.core.labels import LESION, PANTS, STRUCTURES
from pantskit.core.labelsets import COMBINED
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import Volume, read_volume, write_volume
from pantskit.networks.folder import Model, ModelInfo
from pantskit.networks.runtime import library_versions, start_torch
from pantskit.predict.case import TUMOR_PROBABILITY, predict_volume

if TYPE_CHECKING:
    import torch

STAGE = "predict"


@dataclass(frozen=True)
class PredictSettings:
    """How to predict.

    Attributes:
        mirror: average over the flips that the model was trained with.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        masks: write a separate mask of each structure too.
    """

    mirror: bool = True
    device: str = "auto"
    masks: bool = False


@dataclass(frozen=True)
class _Task:
    """What a worker needs to know of a case."""

    image: Path
    model: Path
    out: Path
    settings: PredictSettings


def predict_cases(
    model_folder: Path,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    settings: PredictSettings | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> RunSummary:
    """Predict CTs into a folder that `evaluate` reads.

    Writes `dataset.json` (label space and the structures the model knows) and for each case
    `combined_labels.nii.gz` and `prediction.json`. A rerun does only what is missing or
    changed; a CT that cannot be read is a failed case.

    Args:
        model_folder: made by `train_model`.
        inputs: case_id to its CT.
        out: the predictions' folder.
        settings: how.
        workers: 0 predicts in this process; 1 in another one, which may die without harm.
            Several share one device.
        progress: as in `run_cases`.

    Raises:
        DatasetError: If the model cannot be used, or the folder is another thing's.
    """
    settings = settings or PredictSettings()
    model = Model.load(model_folder)
    start_torch(settings.device)
    _claim_folder(out, model)
    jobs = [
        Job(
            case_id,
            _Task(image, model_folder.absolute(), out.absolute(), settings),
            inputs=(image,),
            outputs=(out / case_id / COMBINED, out / case_id / "prediction.json"),
        )
        for case_id, image in inputs.items()
    ]
    return run_cases(
        predict_case,
        jobs,
        stage=STAGE,
        store=RecordStore(out),
        settings={"model": model.checkpoint_hash, **asdict(settings), **library_versions()},
        workers=workers,
        progress=progress,
    )


def predict_case(job: Job) -> dict[str, Any]:
    """Predict one CT and write its files; returns what prediction.json says."""
    started = time.perf_counter()
    task: _Task = job.payload
    device = start_torch(task.settings.device)
    folder = task.out / job.case_id
    _remove_prediction(folder)
    model, network = _loaded(task.model, device)
    image = read_volume(task.image)
    try:
        prediction = predict_volume(
            model,
            network,
            image,
            device=device,
            mirror=task.settings.mirror,
            threads=len(os.sched_getaffinity(0)),
        )
    except PantskitError as error:
        raise type(error)(f"{job.case_id}: {error}") from None
    labels = prediction.labels
    write_volume(folder / COMBINED, labels, label_space=PANTS.name)
    if task.settings.masks:
        for structure in known_structures(model.info):
            mask = np.isin(labels.array, PANTS.evaluation_ids(structure))
            write_volume(mask_path(folder, structure), Volume(mask, labels.geometry))
    counts = np.bincount(labels.array.ravel(order="K"), minlength=len(STRUCTURES) + 1)
    lesion = None
    if LESION in model.info.channels:
        lesion = float(counts[PANTS.id_of(LESION)] * labels.geometry.voxel_volume_mm3)
    result = {
        "case_id": job.case_id,
        "tumor_probability": prediction.tumor_probability,
        "tumor_probability_is": TUMOR_PROBABILITY,
        "tumor_volume_mm3": lesion,
        "model": model.checkpoint_hash,
        "label_space": PANTS.name,
        "structures": list(known_structures(model.info)),
        "voxels": {s: int(counts[PANTS.id_of(s)]) for s in model.info.channels},
        "mirrored": task.settings.mirror and bool(model.mirror_axes),
        "device": device.type,
        "seconds": round(time.perf_counter() - started, 3),
        "versions": library_versions(),
    }
    write_json(folder / "prediction.json", result)
    return result


def _remove_prediction(folder: Path) -> None:
    """Take an earlier prediction away: what stayed of it would be scored as the new one."""
    masks = (mask_path(folder, structure) for structure in STRUCTURES)
    for path in (folder / COMBINED, folder / "prediction.json", *masks):
        path.unlink(missing_ok=True)


def known_structures(info: ModelInfo) -> tuple[str, ...]:
    """Structures that a prediction speaks of, in the order of the 28."""
    return tuple(s for s in STRUCTURES if s in info.channels)


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: torch.device) -> tuple[Model, torch.nn.Module]:
    model = Model.load(folder)
    return model, model.build(device)


def _claim_folder(out: Path, model: Model) -> None:
    """Make the predictions' folder and say in its dataset.json what its maps mean.

    Raises:
        DatasetError: If it holds another model's predictions, or something else.
    """
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out}: is a file; give a folder for the predictions")
    path = out / "dataset.json"
    earlier = _read(path)
    if earlier is None and out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise DatasetError(f"{out}: is not empty and no predictions; give a new folder")
    if earlier is not None and earlier.get("model") != model.checkpoint_hash:
        raise DatasetError(
            f"{out}: holds {'predictions of another model' if 'model' in earlier else 'a dataset'}"
            "; give a new folder"
        )
    write_json(
        path,
        {
            "name": out.name,
            "kind": "predictions",
            "label_space": PANTS.name,
            "annotated": known_structures(model.info),
            "model": model.checkpoint_hash,
        },
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else {}
