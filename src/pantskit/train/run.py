"""Train a network on a dataset: look cases over, plan, prepare, train, describe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import ConfigError
from pantskit.networks.folder import MODEL_FILE, read_info
from pantskit.networks.plans import Plans
from pantskit.train.assignment import Assignment, trainer_for
from pantskit.train.begin import (
    Start,
    alone_in,
    choose_cases,
    has_weights,
    hash_cases,
    require_own_folder,
    require_same,
    sides_of,
)
from pantskit.train.estimate import choose_preset
from pantskit.train.label_schemes import Scheme
from pantskit.train.outcome import Listener, TrainingResult, model_info
from pantskit.train.ranks import Ranks
from pantskit.train.recipe import Recipe
from pantskit.train.resume import latest_path
from pantskit.train.stages import Stages

if TYPE_CHECKING:
    import torch

    from pantskit.train.trainer import RecipeTrainer

# Below this many cases a worker's imports take longer than the work.
_CASES_PER_WORKER = 20
_AUGMENTERS = 12


def train_model(
    dataset: Dataset,
    out: Path,
    *,
    recipe: Recipe,
    scheme: str = "28",
    split: str = "train",
    cases: Sequence[str] | None = None,
    subset: int | None = None,
    skip_bad: bool = False,
    only_estimate: bool = False,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train a model on the cases of a dataset, or go on where an earlier call stopped.

    With one seed, one machine and one number of threads, two runs on the CPU give the same
    weights, stopped in between or not. Started by torchrun, the processes share each batch.

    Args:
        dataset: where the cases are.
        out: the model's folder; new, empty, or of this same training.
        recipe: settings.
        scheme: of labels, by name or a TOML file, as `Scheme.read` takes it.
        split: `"train"` or `"test"`.
        cases: only these.
        subset: of these so many, drawn from the seed.
        skip_bad: go on without the cases that cannot be used; else they end the run.
        only_estimate: stop before the training, with what it will take.
        seed: of all random numbers.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        workers: processes that read and prepare cases, and augment on a GPU; 0 for none.
        listener: is told how it goes.

    Raises:
        ConfigError, DatasetError: If settings or cases allow no training.
    """
    ranks = Ranks.of_environment()
    if not ranks.first:
        return _follow(ranks, out, device, workers)
    listener = listener or Listener()
    _require_settings(recipe, seed, workers)
    chosen, chosen_of = choose_cases(dataset, split, cases, subset, seed)
    sides, unit = sides_of(dataset, chosen, recipe, seed)
    labels = Scheme.read(scheme)
    before = require_own_folder(out)
    if before is not None and not has_weights(out):
        before = None  # an estimate, or a training that had come to nothing
    recipe = choose_preset(recipe, ranks.device_name(device), before, listener.say)
    start = Start(recipe, seed, split, labels.name, unit, chosen_of, sides)
    complete = _complete(out, before, start, chosen)
    if complete is not None:
        listener.say(f"{out}: this training is complete already; nothing to do")
        if ranks.count == 1:  # without importing torch
            return complete
    readers = min(len(os.sched_getaffinity(0)), len(chosen) // _CASES_PER_WORKER)
    readers = readers if workers is None else workers
    with ranks.joined(device) as own, ExitStack() as held:
        augmenters = augmenters_for(own, workers, ranks)
        stages = Stages(dataset, out, start, skip_bad, readers, augmenters, ranks, listener)

        def assign() -> Assignment | TrainingResult:
            if complete is not None:
                return complete
            held.enter_context(alone_in(out))
            stages.begin(chosen, labels, before)
            return _assign(stages, own, only_estimate=only_estimate)

        task = ranks.tell(assign)
        if isinstance(task, TrainingResult):
            return task
        trainer = _train(task, own, ranks, augmenters, listener)
        return ranks.tell(lambda: _finish(stages, task, trainer))


def _follow(ranks: Ranks, out: Path, device: str, workers: int | None) -> TrainingResult:
    """Train with the first process, by what it tells."""
    with ranks.joined(device) as own:
        said = ranks.hear()
        if isinstance(said, Assignment):
            _train(said, own, ranks, augmenters_for(own, workers, ranks), Listener())
            said = ranks.hear()
    return said or TrainingResult(out, None)  # None: the first failed, and says why


def _complete(
    out: Path, before: Start | None, start: Start, chosen: Sequence[Case]
) -> TrainingResult | None:
    """The training of a folder where it is this one and has come to its end.

    Raises:
        DatasetError: If the folder holds another one.
    """
    if before is None:
        return None
    require_same(out, before, start, with_data=False)
    if not (out / MODEL_FILE).is_file() or (info := read_info(out)).status != "complete":
        return None
    require_same(out, before, replace(start, hashes=hash_cases(chosen)), with_data=True)
    return TrainingResult(out, info, unchanged=True)


def _assign(
    stages: Stages, device: torch.device, *, only_estimate: bool
) -> Assignment | TrainingResult:
    """All that comes before the first iteration."""
    stages.scan()
    plans = stages.plan()
    stages.listener.say(f"{device}: {stages.recipe.describe_arithmetic(device.type)}")
    if not latest_path(stages.out).is_file():
        stages.estimate(plans, device)
    if only_estimate:
        return TrainingResult(stages.out, None, tuple(stages.failed), estimate=stages.estimated)
    stages.prepare()
    stages.choose_sides()
    return stages.assign(plans)


def _train(
    task: Assignment, device: torch.device, ranks: Ranks, augmenters: int, listener: Listener
) -> RecipeTrainer:
    """The training itself, in each process."""
    with trainer_for(
        task, device, ranks=ranks, augmenters=augmenters, listener=listener
    ) as trainer:
        trainer.run_training()
    ranks.wait()  # from here on nobody needs the prepared cases
    return trainer


def _finish(stages: Stages, task: Assignment, trainer: RecipeTrainer) -> TrainingResult:
    """Write what the model is; of a complete one only the model stays."""
    plans = Plans(task.plans, task.dataset_json)
    info = model_info(stages.start, stages.channels, plans, trainer, stages.found())
    info.write(stages.out)
    if not trainer.interrupted:
        latest_path(stages.out).unlink(missing_ok=True)
        shutil.rmtree(stages.work)
    return TrainingResult(stages.out, info, tuple(stages.failed), estimate=stages.estimated)


def augmenters_for(device: torch.device, workers: int | None, ranks: Ranks) -> int:
    """Processes that draw batches ahead.

    On a CPU one: it fills the moments in which the network's threads wait for each other.
    """
    cores = len(os.sched_getaffinity(0)) // ranks.local_count
    if device.type == "cpu":
        return min(max(0, cores - 1), 1 if workers is None else workers, 1)
    return min(max(1, cores), _AUGMENTERS if workers is None else workers)


def _require_settings(recipe: Recipe, seed: int, workers: int | None) -> None:
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be 0 to {2**32 - 1}, not {seed}")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers must be 0 or more, not {workers}")
    recipe.network.require_installed()
    if recipe.pretrained and not Path(recipe.pretrained).is_file():
        raise ConfigError(f"{recipe.pretrained}: no such file of pretrained weights")
