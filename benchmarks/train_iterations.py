"""Training iterations with their batches, by pantskit and by nnU-Net's trainer; see train.py."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from predict_measured import Aims, apart
from train_data import blob_patients, keep, kept, phantoms, planned
from train_turns import TickFile, in_turns

SCRIPT = Path(__file__).with_name("train.py")
_WARM_UP = 5  # iterations that are not counted: kernels are chosen, processes started
_GPU_GB = 8.0  # of the default plan
_ROUNDS = 2  # of the GPU's engines
_ENDLESS = 100_000  # iterations: the engines are stopped
_PATIENTS = 2  # full-size ones
_PROCESSES = "nnUNet_n_proc_DA"


def iterations(rounds: int, seconds: float, scratch: Path) -> int:
    """A small plan on the CPU, the engines in turns; how many aims were missed."""
    folder = _prepared("cpu", "small", _ENDLESS, scratch)
    # nnU-Net's own choice of augmenting processes, and none, which suits a busy CPU better.
    found = in_turns(SCRIPT, ("pantskit", "nnunet", "nnunet-0"), folder, rounds, seconds)
    for engine, rows in found.items():
        turns = " ".join(f"{row['per_s']:.2f}" for row in rows)
        print(f"{engine:<12} iterations/s in turns: {turns}", flush=True)
        _show(engine, _medians(rows) | {"load": os.getloadavg()[0]})
    return _beside({engine: _medians(rows) for engine, rows in found.items()})


def gpu(number: int, device: str, size: str, scratch: Path) -> int:
    """The default plan; how many aims were missed.

    Args:
        number: of iterations.
        device: `"cuda"`; with `"cpu"` the part is only seen to run.
        size: `"full"`, or `"small"` to see it run.
        scratch: for files.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; this part is unmeasured here")
    folder = _prepared(device, size, number, scratch)
    rows: dict[str, list[dict[str, Any]]] = {"pantskit": [], "nnunet": []}
    for _ in range(_ROUNDS):
        for engine, found in rows.items():
            row = apart(
                "iterations-job", engine, str(folder), "--device", device, "--iterations",
                str(number), script=SCRIPT,
            )  # fmt: skip
            _show(engine, row)
            found += [] if row is None else [row]
    return _beside({engine: _medians(found) for engine, found in rows.items() if found})


def _prepared(device: str, size: str, number: int, scratch: Path) -> Path:
    """Folder of a training whose cases are prepared."""
    from pantskit.train.cases import prepare_case

    dataset = (
        blob_patients(scratch / "dataset")
        if size == "small"
        else phantoms(scratch / "dataset", _PATIENTS, "full")
    )
    folder = scratch / "training"
    task, jobs = planned(dataset, dataset.cases("train"), _recipe(size, number), folder)
    for job in jobs:
        prepare_case(job)
    keep(folder, task)
    plan = task.plans["configurations"]["3d_fullres"]
    print(f"patches of {plan['patch_size']}, batch {plan['batch_size']}, {device}", flush=True)
    return folder


def _beside(medians: dict[str, dict[str, float]]) -> int:
    """Print our figures beside the others'; how many aims were missed."""
    if "pantskit" not in medians:
        return 1
    ours, aims = medians.pop("pantskit"), Aims()
    for name, theirs in medians.items():
        aims.at_least(f"iterations a second, times {name}'s", ours["per_s"] / theirs["per_s"], 1.0)
        cpu = [row["step_cpu_s"] for row in (theirs, ours)]
        print(f"    CPU-s a step, times {name}'s: {cpu[1] / cpu[0]:.2f}")
    if "device_gb" in ours:
        aims.at_most("GiB of device memory", ours["device_gb"], _GPU_GB)
        aims.at_most("share of the time that the device waits for batches", ours["waited"], 0.05)
    return aims.missed


def _medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of each figure, over the rounds."""
    figures = [k for k, value in rows[0].items() if isinstance(value, float)]
    return {k: float(np.median([row[k] for row in rows])) for k in figures}


def _recipe(size: str, number: int) -> Any:
    from pantskit.train.recipe import Recipe

    recipe = Recipe().changed(
        epochs=1, iterations=_WARM_UP + number, validation_iterations=1, intensity_samples=10_000
    )
    if size == "full":
        return recipe
    return recipe.changed(
        patch_size=(32, 32, 32), spacing=(4.0, 4.0, 4.0), features=8, max_features=32
    )


def iterations_job(engine: str, folder: Path, device: str, number: int, into: Path | None) -> None:
    """One engine, with the threads and the way of waiting that it has by itself."""
    if engine == "pantskit":
        from pantskit.networks.runtime import start_torch

        chosen = start_torch(device)
    else:
        import torch

        chosen = torch.device(device)
    task = kept(folder)
    # Each has its own, or it would go on from there.
    task = replace(task, model=folder / f"model-{engine}")
    shutil.rmtree(task.model, ignore_errors=True)
    ticks: Any = TickFile(into) if into else []
    if engine == "pantskit":
        _train_ours(task, chosen, ticks)
    else:
        _train_theirs(task, chosen, ticks, engine, folder)
    if into is None:
        print(json.dumps(_row(ticks, number, chosen)))


def _row(ticks: Ticks, number: int, device: Any) -> dict[str, Any]:
    """Pace of the last iterations, and CPU seconds of this process for each."""
    import torch

    ticks = ticks[-number:]
    begins, ends, cpu_begins, cpu_ends = (np.array(column) for column in zip(*ticks, strict=True))
    whole = begins[-1] - begins[0]
    row: dict[str, Any] = {
        "per_s": (len(ticks) - 1) / whole,
        "waited": (begins[1:] - ends[:-1]).sum() / whole,
        "step_cpu_s": (cpu_ends - cpu_begins).mean(),
        "batch_cpu_s": (cpu_begins[1:] - cpu_ends[:-1]).mean(),
        "load": os.getloadavg()[0],
    }
    if device.type == "cuda":
        row["device_gb"] = torch.cuda.max_memory_reserved() / 2**30
        row["name"] = torch.cuda.get_device_name()
    return row


# Of each step its begin and end, and this process' CPU seconds at both.
Ticks = list[tuple[float, float, float, float]]


def _ticking(base: Any, ticks: Ticks) -> Any:
    """A trainer's class that notes when each step begins and ends; the loss waits for a GPU."""

    class Ticking(base):  # type: ignore[misc]  # nnU-Net has no types
        def train_step(self, batch: Any) -> Any:
            begin, cpu_begin = time.perf_counter(), time.process_time()
            result = super().train_step(batch)
            ticks.append((begin, time.perf_counter(), cpu_begin, time.process_time()))
            return result

    return Ticking


def _train_ours(task: Any, device: Any, ticks: Ticks) -> None:
    from pantskit.train import assignment, trainer
    from pantskit.train.ranks import Ranks
    from pantskit.train.run import augmenters_for

    trainer.RecipeTrainer = _ticking(trainer.RecipeTrainer, ticks)
    augmenters = augmenters_for(device, None, Ranks())
    with assignment.trainer_for(task, device, augmenters=augmenters) as ours:
        ours.run_training()


def _train_theirs(task: Any, device: Any, ticks: Ticks, engine: str, folder: Path) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from pantskit.train.assignment import nnunet_quiet
    from pantskit.train.planning import CONFIGURATION, nnunet_folders

    recipe = task.recipe
    with nnunet_folders(task.work, augmentation_processes=0), nnunet_quiet(folder):
        if engine == "nnunet":
            os.environ.pop(_PROCESSES)  # it has its own mind
        plans = task.plans | {"continue_training": False}
        theirs = _ticking(nnUNetTrainer, ticks)(plans, CONFIGURATION, 0, task.dataset_json, device)
        theirs.num_epochs, theirs.num_iterations_per_epoch = 1, recipe.iterations
        theirs.num_val_iterations_per_epoch = 1
        theirs.run_training()


def _show(engine: str, row: dict[str, Any] | None) -> None:
    if row is None:
        print(f"{engine:<12} killed: not enough memory", flush=True)
        return
    memory = f"  {row['device_gb']:.2f} GiB of {row['name']}" if "device_gb" in row else ""
    print(
        f"{engine:<12} {row['per_s']:8.3f} iterations/s  {row['waited']:6.1%} of it for batches  "
        f"CPU-s of the process: {row['step_cpu_s']:.3f} a step, {row['batch_cpu_s']:.3f} a batch"
        f"{memory}  load {row['load']:.1f}",
        flush=True,
    )
