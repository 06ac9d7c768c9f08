"""Predict many CTs with a model of one's own: a folder of predictions, resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.files import write_json
from pantskit.core.records import RecordStore, versions
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import read_volume
from pantskit.networks.runtime import start_torch
from pantskit.predict.protocol import OwnModel, declared_in, identify, own_model_file
from pantskit.predict.results import (
    FACTS,
    Output,
    claim_folder,
    output_files,
    remove_result,
    write_result,
)

STAGE = "predict"

OWN_PROBABILITY = (
    "largest softmax probability of pancreatic_lesion over all voxels that the model was given"
)


@dataclass(frozen=True)
class _Task:
    image: Path
    file: Path
    weights: Path | None
    device: str
    out: Path
    output: Output
    model: str


def predict_own(
    path: Path,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    weights: Path | None = None,
    device: str = "auto",
    output: Output | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> RunSummary:
    """Predict CTs with a Python file of two functions (see `predict.protocol`).

    Args:
        path: the file, or a folder with a `model.py`; its code is run.
        inputs: case_id to its CT.
        out: the predictions' folder.
        weights: the folder that its `load` is given; the file's own when None.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        output: what is written.
        workers: as in `predict_cases`.
        progress: as in `run_cases`.

    Raises:
        ConfigError: If the file cannot be used.
        DatasetError: If the folder is another thing's.
    """
    output = output or Output()
    file = own_model_file(path)
    if file is None:
        raise ConfigError(f"{path}: no Python file, and no folder with a model.py")
    declared, model = declared_in(file), identify(file, weights)
    claim_folder(out, declared.structures, model, output)
    place, weights = out.absolute(), None if weights is None else weights.absolute()
    chosen = _device(device)
    jobs = [
        Job(
            case_id,
            _Task(image, file.absolute(), weights, chosen, place, output, model),
            inputs=(image,),
            outputs=output_files(out, case_id, output),
        )
        for case_id, image in inputs.items()
    ]
    settings = {"model": model, "device": device, "output": asdict(output), **versions()}
    return run_cases(
        predict_own_case,
        jobs,
        stage=STAGE,
        store=RecordStore(out),
        settings=settings,
        workers=workers,
        progress=progress,
    )


def predict_own_case(job: Job) -> dict[str, Any]:
    """Predict one CT and write its files; returns what prediction.json says."""
    started = time.perf_counter()
    task: _Task = job.payload
    remove_result(task.out, job.case_id, task.output)
    model = _loaded(task.file, task.weights, task.device, task.model)
    image = read_volume(task.image)
    try:
        answer = model.answer(image, threads=len(os.sched_getaffinity(0)))
    except PantskitError as error:
        raise type(error)(f"{job.case_id}: {error}") from error
    result = write_result(
        task.out,
        job.case_id,
        image,
        answer.labels,
        model.declared.structures,
        model=task.model,
        output=task.output,
    ) | {
        "tumor_probability": answer.tumor_probability,
        "tumor_probability_is": OWN_PROBABILITY,
        "device": task.device,
        "seconds": round(time.perf_counter() - started, 3),
        "versions": versions(),
    }
    write_json(task.out / job.case_id / FACTS, result)
    return result


@lru_cache(maxsize=1)
def _loaded(file: Path, weights: Path | None, device: str, model: str) -> OwnModel:
    """The model, loaded once a process; its hash is in the key, so that a change is seen."""
    return OwnModel.load(file, weights=weights, device=device)


def _device(name: str) -> str:
    """The device's name; models without torch run on the CPU where torch is not installed."""
    try:
        return start_torch(name).type
    except ImportError:
        if name == "cuda":
            raise ConfigError("device cuda: torch is not installed; use --device cpu") from None
        return "cpu"
