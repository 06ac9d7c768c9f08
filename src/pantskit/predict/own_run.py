"""Predict many CTs with a model of one's own: a folder of predictions, resumable."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError, ImageError, PantskitError
from pantskit.core.files import write_json
from pantskit.core.records import RecordStore, versions
from pantskit.core.run import Job, Progress, RunSummary
from pantskit.core.volume import read_volume
from pantskit.networks.runtime import own_cores
from pantskit.predict.declaration import Declaration, as_declared
from pantskit.predict.devices import Devices, run_on_devices
from pantskit.predict.own_answer import told
from pantskit.predict.protocol import OwnModel, declared_in, identify, own_model_file
from pantskit.predict.results import (
    FACTS,
    Output,
    claim_folder,
    output_files,
    require_source,
    write_result,
)
from pantskit.predict.run import (
    STAGE,
    PredictSettings,
    all_or_nothing,
    extra_files,
    file_state,
    remove_prediction,
    room_mb,
    write_extras,
)
from pantskit.predict.turns import Turns

OWN_PROBABILITY = (
    "largest softmax probability of pancreatic_lesion over all voxels that the model was given"
)


@dataclass(frozen=True)
class _Task:
    image: Path
    file: Path
    weights: Path | None
    out: Path
    settings: PredictSettings
    model: str
    declared: Declaration


def predict_own(
    path: Path,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    weights: Path | None = None,
    device: str = "auto",
    output: Output | None = None,
    settings: PredictSettings | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Predict CTs with a Python file of two functions (see `predict.protocol`).

    Args:
        path: the file, or a folder with a `model.py`.
        inputs: case_id to its CT.
        out: the predictions' folder.
        weights: the folder that its `load` is given; the file's own when None.
        device, output: in place of those of `settings`, where there are none.
        settings: how; what is said of windows and of label maps is for trained folders.
        workers: as in `predict_cases`.
        progress: as in `run_cases`.

    Raises:
        ConfigError: If the file cannot be used, or not in this way.
        DatasetError: If the folder is another thing's, or a structure unknown to the model.
    """
    if settings is None:
        o = output or Output()
        settings = PredictSettings(
            device=device, masks=o.masks, format=o.format, postprocess=o.postprocess, dicom=o.dicom
        )
    file = own_model_file(path)
    if file is None:
        raise ConfigError(f"{path}: no Python file, and no folder with a model.py")
    _require_its_own(file, settings)
    declared, model = declared_in(file), identify(file, weights)
    declared.require_able(
        str(file),
        mirror=settings.mirror,
        probabilities=settings.probabilities,
        entropy=settings.entropy,
    )
    devices = Devices.parse(settings.device, workers)
    counted = f"files of {(weights or file.parent)}, which count as its weights"
    claim_folder(out, declared.structures, model, settings.output, parts=counted)
    place, weights = out.absolute(), None if weights is None else weights.absolute()
    jobs = [
        Job(
            case_id,
            _Task(image, file.absolute(), weights, place, settings, model, declared),
            inputs=(image,),
            outputs=(
                *output_files(out, case_id, settings.output),
                *extra_files(out / case_id, settings),
            ),
        )
        for case_id, image in inputs.items()
    ]
    kept = {
        "output": asdict(settings.output),
        "mirror": settings.mirror,
        "probabilities": settings.probabilities,
        "entropy": settings.entropy,
    }
    return run_on_devices(
        predict_own_case,
        jobs,
        devices,
        stage=STAGE,
        store=RecordStore(out),
        settings={"model": model, "device": devices.kind, **kept, **versions()},
        progress=progress,
    )


def _require_its_own(file: Path, settings: PredictSettings) -> None:
    """Refuse options that say how a trained folder's network is run."""
    given = {
        "--exact": settings.exact,
        "--label-map": settings.label_map is not None,
        "--batch": settings.batch is not None,
    }
    named = [*(o for o, is_given in given.items() if is_given), *settings.shortcuts.options]
    if named:
        raise ConfigError(
            f"{', '.join(named)}: for trained folders; {file.name} is a Python file, which "
            "computes as it likes"
        )


def predict_own_case(job: Job, turns: Turns, device: str) -> dict[str, Any]:
    """Predict one CT and write its files; returns what prediction.json says."""
    started = time.perf_counter()
    task: _Task = job.payload
    settings, folder = task.settings, task.out / job.case_id
    remove_prediction(task.out, job.case_id, settings.output)
    before = file_state(task.image)
    turns.await_memory(room_mb(task.image))
    image = read_volume(task.image)
    require_source(settings.output, image, job.case_id)
    try:
        given = as_declared(image, task.declared)
        turn = turns.compute(
            device,
            lambda: _loaded(task.file, task.weights, device, task.model),
            lambda model: model.compute(given, mirror=settings.mirror),
        )
        answer = told(
            turn.value,
            image,
            given,
            task.declared,
            str(task.file),
            threads=own_cores(),
            probabilities=settings.probabilities,
            entropy=settings.entropy,
        )
    except PantskitError as error:
        raise type(error)(f"{job.case_id}: {error}") from error
    turn = replace(turn, value=None)  # logits are large
    if file_state(task.image) != before:
        raise ImageError(f"{job.case_id}: the CT changed while it was read; run again")
    with all_or_nothing(task.out, job.case_id, settings.output):
        result = write_result(
            task.out,
            job.case_id,
            image,
            answer.labels,
            task.declared.structures,
            model=task.model,
            output=settings.output,
        )
        write_extras(folder, answer.probabilities, answer.entropy)
        result |= {
            "tumor_probability": answer.tumor_probability,
            "tumor_probability_is": OWN_PROBABILITY,
            "mirrored": settings.mirror and bool(task.declared.mirror_axes),
            "device": device,
            "seconds": round(time.perf_counter() - started, 3),
            "network_s": round(turn.network_s, 3),
            "waited_s": round(turn.waited_s, 3),
            "versions": versions(),
        }
        write_json(folder / FACTS, result)
    return result


@lru_cache(maxsize=1)
def _loaded(file: Path, weights: Path | None, device: str, model: str) -> OwnModel:
    """The model, loaded once a process; its hash is in the key, so that a change is seen."""
    return OwnModel.load(file, weights=weights, device=device)
