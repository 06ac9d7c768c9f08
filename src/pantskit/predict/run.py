"""Predict many CTs with one model: a folder of predictions, resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantskit.core.errors import ConfigError, ImageError, LabelError, PantskitError
from pantskit.core.files import write_json
from pantskit.core.labels import STRUCTURES, LabelMap
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import read_volume, write_volume
from pantskit.networks.folder import Model
from pantskit.networks.runtime import library_versions, start_torch
from pantskit.predict.case import TUMOR_PROBABILITY, Prediction, Shortcuts, predict_volume
from pantskit.predict.results import (
    FACTS,
    Output,
    claim_folder,
    output_files,
    remove_result,
    write_result,
)

if TYPE_CHECKING:
    import torch

STAGE = "predict"
ENTROPY = "entropy.nii.gz"


@dataclass(frozen=True)
class PredictSettings:
    """How to predict.

    Attributes:
        mirror: average over the flips that the model was trained with.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        masks: write a separate mask of each structure too.
        probabilities: structures whose probability is written too.
        entropy: write the answer's entropy too.
        label_map: of a model that was trained elsewhere: what its ids mean, as
            `LabelMap.parse` reads it; None goes by the names in its dataset.json.
        shortcuts: what may be computed otherwise than nnU-Net does.
        batch: windows computed at once; None takes 1 on a CPU and 4 on a GPU.
        format, postprocess, dicom: as in `results.Output`.
    """

    mirror: bool = True
    device: str = "auto"
    masks: bool = False
    probabilities: tuple[str, ...] = ()
    entropy: bool = False
    label_map: str | None = None
    shortcuts: Shortcuts = field(default_factory=Shortcuts)
    batch: int | None = None
    format: str = "pants"
    postprocess: tuple[str, ...] = ()
    dicom: Path | None = None

    @property
    def output(self) -> Output:
        """What becomes of an answer."""
        return Output(self.format, self.postprocess, self.masks, self.dicom)

    def __post_init__(self) -> None:
        for structure in self.probabilities:
            if structure not in STRUCTURES:
                raise LabelError(f"{structure!r} is none of the 28 structures")
        if not 0 < self.shortcuts.step <= 1:
            raise ConfigError(f"step {self.shortcuts.step:g}: windows are 0 to 1 patch apart")
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch {self.batch}: at least one window is computed at once")


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
    start_torch(settings.device)
    model = Model.load(model_folder, label_map=_label_map(settings))
    for structure in settings.probabilities:
        model.require_known(structure)
    output = settings.output
    claim_folder(out, model.heads.structures, model.checkpoint_hash, output)
    jobs = [
        Job(
            case_id,
            _Task(image, model_folder.absolute(), out.absolute(), settings),
            inputs=(image,),
            outputs=(*output_files(out, case_id, output), *_extras(out / case_id, settings)),
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
    settings, folder = task.settings, task.out / job.case_id
    _remove_prediction(task.out, job.case_id, settings.output)
    model, network = _loaded(task.model, settings.label_map, device)
    before = _state(task.image)
    image = read_volume(task.image)
    try:
        prediction = predict_volume(
            model,
            network,
            image,
            device=device,
            mirror=settings.mirror,
            threads=len(os.sched_getaffinity(0)),
            batch=settings.batch or (4 if device.type == "cuda" else 1),
            shortcuts=settings.shortcuts,
            probabilities=settings.probabilities,
            entropy=settings.entropy,
        )
    except PantskitError as error:
        raise type(error)(f"{job.case_id}: {error}") from None
    if _state(task.image) != before:
        raise ImageError(f"{job.case_id}: the CT changed while it was read; run again")
    result = write_result(
        task.out,
        job.case_id,
        image,
        prediction.labels,
        model.heads.structures,
        model=model.checkpoint_hash,
        output=settings.output,
    )
    _write_extras(folder, prediction)
    result |= {
        "tumor_probability": prediction.tumor_probability,
        "tumor_probability_is": TUMOR_PROBABILITY,
        "unmapped": list(model.heads.unmapped),
        "folds": len(model.folds),
        "mirrored": settings.mirror and bool(model.mirror_axes),
        "orientation": model.orientation or "as in the file: the model does not say",
        "shortcuts": asdict(settings.shortcuts),
        "windows": prediction.windows,
        "windows_skipped": prediction.skipped,
        "notes": list(prediction.notes),
        "device": device.type,
        "seconds": round(time.perf_counter() - started, 3),
        "versions": library_versions(),
    }
    write_json(folder / FACTS, result)
    return result


def _state(path: Path) -> tuple[int, int]:
    """What changes when somebody writes to a file."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def _write_extras(folder: Path, prediction: Prediction) -> None:
    for structure, volume in prediction.probabilities.items():
        write_volume(probability_path(folder, structure), volume)
    if prediction.entropy is not None:
        write_volume(folder / ENTROPY, prediction.entropy)


def probability_path(folder: Path, structure: str) -> Path:
    """Where a case's folder holds the probability of a structure, for `evaluate`."""
    return folder / "probabilities" / f"{structure}.nii.gz"


def _extras(folder: Path, settings: PredictSettings) -> tuple[Path, ...]:
    paths = tuple(probability_path(folder, structure) for structure in settings.probabilities)
    return (*paths, folder / ENTROPY) if settings.entropy else paths


def _remove_prediction(out: Path, case_id: str, output: Output) -> None:
    """Take an earlier prediction away with all that belongs to it."""
    remove_result(out, case_id, output)
    folder = out / case_id
    for path in (folder / ENTROPY, *(probability_path(folder, s) for s in STRUCTURES)):
        path.unlink(missing_ok=True)


def _label_map(settings: PredictSettings) -> LabelMap | None:
    return None if settings.label_map is None else LabelMap.parse(settings.label_map)


@lru_cache(maxsize=1)
def _loaded(
    folder: Path, label_map: str | None, device: torch.device
) -> tuple[Model, torch.nn.Module]:
    meaning = None if label_map is None else LabelMap.parse(label_map)
    model = Model.load(folder, label_map=meaning)
    return model, model.build(device)
