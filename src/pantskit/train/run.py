"""Train a network on a dataset: look cases over, plan, prepare, train, describe."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import (
    contextmanager,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import ConfigError, DatasetError, PantskitError
from pantskit.core.files import content_hash, write_json
from pantskit.core.records import CaseRecord, RecordStore
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.networks.folder import MODEL_FILE, read_info
from pantskit.networks.plans import Plans
from pantskit.networks.runtime import library_versions, start_torch
from pantskit.train.begin import (
    WORK,
    Start,
    alone_in,
    choose_cases,
    choose_sides,
    hash_cases,
    meaning_of,
    require_own_folder,
    require_same,
    sides_of,
)
from pantskit.train.cases import Preparation, TrainingCase, prepare_case, scan_case
from pantskit.train.curve import Epoch
from pantskit.train.estimate import (
    TIMED_STEPS,
    Estimate,
    describe_patch,
    require_memory,
    time_steps,
)
from pantskit.train.label_schemes import Scheme
from pantskit.train.labels import Channels, choose_channels
from pantskit.train.outcome import Listener, TrainingResult, model_info
from pantskit.train.partial import starting_shares
from pantskit.train.planning import (
    CONFIGURATION,
    dataset_json,
    fingerprint,
    make_plans,
    nnunet_folders,
)
from pantskit.train.recipe import Recipe
from pantskit.train.resume import latest_path
from pantskit.train.scan import look_at_case, look_job

if TYPE_CHECKING:
    import torch

    from pantskit.train.trainer import RecipeTrainer

_NAMED = 5  # cases in a message
# Below this many cases a worker's imports take longer than the work.
_CASES_PER_WORKER = 20


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
    weights, stopped in between or not.

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
    listener = listener or Listener()
    _require_settings(recipe, seed, workers)
    chosen, chosen_of = choose_cases(dataset, split, cases, subset, seed)
    sides, unit = sides_of(dataset, chosen, recipe, seed)
    name = Scheme.read(scheme).name
    start = Start(recipe, seed, split, name, unit, chosen_of, sides)
    before = require_own_folder(out)
    if before is not None:
        require_same(out, before, start, with_data=False)
        if (out / MODEL_FILE).is_file() and (info := read_info(out)).status == "complete":
            require_same(out, before, replace(start, hashes=hash_cases(chosen)), with_data=True)
            listener.say(f"{out}: this training is complete already; nothing to do")
            return TrainingResult(out, info, unchanged=True)
    torch_device = start_torch(device)
    cores = len(os.sched_getaffinity(0))
    # On a CPU the network leaves no core for others to augment on.
    augmenters = 0 if torch_device.type == "cpu" else min(cores, 12 if workers is None else workers)
    if workers is None:
        workers = min(cores, len(chosen) // _CASES_PER_WORKER)
    with alone_in(out):
        run = _Run(dataset, out, start, skip_bad, workers, augmenters, listener)
        run.begin(chosen, Scheme.read(scheme), before)
        run.scan()
        plans = run.plan()
        estimate = None if latest_path(out).is_file() else run.estimate(plans, torch_device)
        if only_estimate:
            return TrainingResult(out, None, tuple(run.failed), estimate=estimate)
        run.prepare()
        trainer = run.train(plans, torch_device)
        info = model_info(run.start, run.channels, plans, trainer, run.found())
        info.write(out)
    if not trainer.interrupted:
        latest_path(out).unlink(missing_ok=True)
        shutil.rmtree(run.work)
    return TrainingResult(out, info, tuple(run.failed), estimate=estimate)


@dataclass
class _Run:
    """The steps of one training, in their order."""

    dataset: Dataset
    out: Path
    start: Start
    skip_bad: bool
    workers: int
    augmenters: int
    listener: Listener
    records: dict[str, CaseRecord] = field(default_factory=dict)
    failed: list[CaseRecord] = field(default_factory=list)
    cases: dict[str, TrainingCase] = field(default_factory=dict)
    channels: Channels = field(default_factory=lambda: Channels((), False, {}))

    @property
    def work(self) -> Path:
        return self.out / WORK

    @property
    def recipe(self) -> Recipe:
        return self.start.recipe

    @property
    def structures(self) -> tuple[str, ...]:
        return self.channels.structures

    @property
    def usable(self) -> list[str]:
        return sorted(self.records)

    def begin(self, chosen: Sequence[Case], scheme: Scheme, before: Start | None) -> None:
        """Look at every case, choose what to learn, and write down what all starts from."""
        self._keep_good(self._run(look_at_case, [look_job(c) for c in chosen], "look"))
        good = [c for c in chosen if c.case_id in self.records]
        self.channels = _choose_channels(good, scheme)
        recipe = self.recipe
        self.start = replace(
            self.start,
            hashes=hash_cases(chosen),
            meaning=meaning_of(self.channels),
            pretrained=content_hash(Path(recipe.pretrained)) if recipe.pretrained else "",
        )
        if before is not None:
            require_same(self.out, before, self.start, with_data=True)
        self.start.write(self.out)
        for line in self.channels.describe():
            self.listener.say(line)
        samples = max(1, recipe.intensity_samples // len(good))
        self.cases = {c.case_id: TrainingCase(c, self.structures, self.work, samples) for c in good}

    def scan(self) -> None:
        """Read every case whole; the good ones stay in `records`."""
        hashes = self.start.hashes
        jobs = [
            Job(c, t, outputs=(t.intensities_path,), settings=[hashes[c], t.samples])
            for c, t in self.cases.items()
        ]
        self._keep_good(self._run(scan_case, jobs, "scan"))
        empty = [s for s, n in self.voxels().items() if not n]
        if empty:
            self.listener.say(f"annotated, but in no case there: {', '.join(empty)}")

    def plan(self) -> Plans:
        """nnU-Net's fingerprint and plans, also copied into the model."""
        plans = self._make_plans(self.recipe, self.work)
        spacing = " x ".join(f"{s:.3g}" for s in plans.configuration.spacing[::-1])
        self.listener.say(
            f"planned: patches of {describe_patch(plans)} voxels at {spacing} mm, "
            f"batch {plans.configuration.batch_size}, {self.recipe.epochs:,} epochs of "
            f"{self.recipe.iterations} iterations"
        )
        return plans

    def _make_plans(self, recipe: Recipe, work: Path) -> Plans:
        description = dataset_json(self.channels, len(self.usable))
        files = [self.cases[c].intensities_path for c in self.usable]
        print_ = fingerprint([self.records[c] for c in self.usable], files)
        with self._nnunet_quiet():
            return make_plans(work, recipe, description, print_)

    def estimate(self, plans: Plans, device: torch.device) -> Estimate | None:
        """Memory counted, one case prepared, one iteration timed on it; None if that case fails.

        Raises:
            ConfigError: If memory is too little.
        """
        need, free = require_memory(
            plans,
            self.recipe,
            device,
            replan=lambda recipe: self._make_plans(recipe, self.work / "fitting"),
        )
        first, recipe = self.usable[0], self.recipe
        (record,) = self._run(prepare_case, [self._preparation(first)], "prepare").records
        if record.status != "done":  # which the preparation of all will say
            return None
        self._write_sides([first], [first])
        short = recipe.changed(epochs=1, iterations=TIMED_STEPS, validation_iterations=1)
        with self._trainer(plans, device, short, self.work / "estimate") as trainer:
            drawing, stepping = time_steps(trainer)
        alone = self.augmenters == 0
        pace = drawing + stepping if alone else max(stepping, drawing / self.augmenters)
        patches = recipe.iterations + recipe.validation_iterations / 3  # no backward pass
        preparing = record.seconds * (len(self.usable) - 1) / max(1, self.workers)
        total = preparing + pace * recipe.epochs * patches
        estimate = Estimate(need, free, pace, preparing, total)
        self.listener.say(f"{device}: {estimate.describe()}")
        return estimate

    def prepare(self) -> None:
        """Bring every case to the network's grid."""
        scanned = self.records
        jobs = [self._preparation(name) for name in self.usable]
        self._keep_good(self._run(prepare_case, jobs, "prepare"))
        self.records = {c: scanned[c] for c in self.records}

    def _preparation(self, name: str) -> Job:
        with nnunet_folders(self.work) as folder:
            paths = folder / "nnUNetPlans.json", folder / "dataset.json"
        case, content = self.cases[name], self.start.hashes[name]
        todo = Preparation(case, *paths)
        return Job(name, todo, paths, case.prepared_files, settings=content)

    def train(self, plans: Plans, device: torch.device) -> RecipeTrainer:
        """Train and write the model."""
        self._choose_sides()
        with self._trainer(plans, device, self.recipe, self.out) as trainer:
            trainer.run_training()
        return trainer

    @contextmanager
    def _trainer(
        self, plans: Plans, device: torch.device, recipe: Recipe, model: Path
    ) -> Iterator[RecipeTrainer]:
        """A trainer, in nnU-Net's folders."""
        from pantskit.train.trainer import RecipeTrainer, TrainerListener

        # The trainer's own processes draw the batches, nnU-Net's none.
        folders = nnunet_folders(self.work, augmentation_processes=0)
        with folders, self._nnunet_quiet() as stdout:
            # nnU-Net takes the entry out again, and fails where there is none.
            values = plans.plans | {"continue_training": False}
            trainer = RecipeTrainer(values, CONFIGURATION, 0, plans.dataset_json, device)

            def on_epoch(epoch: Epoch) -> None:
                with redirect_stdout(stdout):
                    self.listener.epoch(epoch, recipe.epochs)

            def say(line: str) -> None:
                with redirect_stdout(stdout):
                    self.listener.say(line)

            trainer.prepare(
                recipe,
                model,
                channels=self.channels,
                seed=self.start.seed,
                shares=self._shares(),
                mark=self.start.mark,
                augmenters=self.augmenters if recipe is self.recipe else 0,
                listener=TrainerListener(say, on_epoch),
            )
            yield trainer

    def found(self) -> dict[str, Any]:
        """What the cases turned out to be, for model.json."""
        return {
            "dataset": self.dataset.info.get("name", self.dataset.root.name),
            "cases": {c: self.start.hashes[c] for c in self.usable},
            "failed_cases": {r.case_id: r.message for r in self.failed},
            "voxels": self.voxels(),
        }

    def voxels(self) -> dict[str, int]:
        """Structure to its voxels in all cases."""
        counts = [self.records[c].data["voxels"] for c in self.usable]
        return {s: sum(c[s] for c in counts) for s in self.structures}

    @contextmanager
    def _nnunet_quiet(self) -> Iterator[TextIO]:
        """nnU-Net prints as it goes, and standard output may be somebody's JSON.

        Returns:
            The standard output that was.
        """
        stdout = sys.stdout
        with (self.work / "nnunet.log").open("a") as log, redirect_stdout(log):
            yield stdout

    def _shares(self) -> list[float]:
        """What part of an image each channel takes up."""
        facts = {c: r.data for c, r in self.records.items()}
        return starting_shares(
            self.channels,
            {c: data["voxels"] for c, data in facts.items()},
            {c: data["size"] for c, data in facts.items()},
        )

    def _run(self, task: Any, jobs: list[Job], stage: str) -> RunSummary:
        # What is read and prepared depends on the libraries, too.
        what = [self.structures, self.channels.regions, self.recipe.values()]
        settings = [library_versions(), *what]
        with self.listener.cases(stage) as progress:
            return run_cases(
                task, jobs, stage=stage, store=RecordStore(self.work), settings=settings,
                workers=self.workers, progress=progress,
            )  # fmt: skip

    def _keep_good(self, summary: RunSummary) -> None:
        """Go on with the cases that a stage has done.

        Raises:
            DatasetError: If a case failed and none may be skipped, or none is left.
        """
        self.failed += summary.not_done
        self.records = {r.case_id: r for r in summary.records if r.status == "done"}
        if self.records and (self.skip_bad or not summary.not_done):
            return
        named = "; ".join(r.message for r in summary.not_done[:_NAMED])
        more = f"; and {len(self.failed) - _NAMED} more" if len(self.failed) > _NAMED else ""
        if not self.records:
            raise DatasetError(f"{self.dataset.root}: no case can be trained on: {named}{more}")
        raise DatasetError(
            f"{self.dataset.root}: {len(self.failed)} of {len(summary.records)} cases cannot be "
            f"used: {named}{more}. Mend them, or train without them by --skip-bad; all are in "
            f"{RecordStore(self.work).folder / summary.stage}"
        )

    def _choose_sides(self) -> None:
        """Tell nnU-Net which cases train and which are scored after each epoch."""
        voxels = {c: r.data["voxels"] for c, r in self.records.items()}
        train, validation, lines = choose_sides(self.start, voxels)
        for line in lines:
            self.listener.say(line)
        self._write_sides(train, validation)

    def _write_sides(self, train: Sequence[str], validation: Sequence[str]) -> None:
        with nnunet_folders(self.work) as folder:
            write_json(folder / "splits_final.json", [{"train": [*train], "val": [*validation]}])


def _require_settings(recipe: Recipe, seed: int, workers: int | None) -> None:
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be 0 to {2**32 - 1}, not {seed}")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers must be 0 or more, not {workers}")
    recipe.network.require_installed()
    if recipe.pretrained and not Path(recipe.pretrained).is_file():
        raise ConfigError(f"{recipe.pretrained}: no such file of pretrained weights")


def _choose_channels(cases: Sequence[Case], scheme: Scheme) -> Channels:
    """The structures to learn, from the cases whose labels could be asked."""
    annotated: dict[str, tuple[str, ...]] = {}
    for case in cases:
        # A case whose labels cannot be opened has no say here; the scan names it.
        with suppress(PantskitError):
            labels = case.labels()
            if labels is not None and labels.structures():
                annotated[case.case_id] = labels.structures()
    if not annotated:
        raise DatasetError(f"{cases[0].root}: none of the {len(cases)} cases has labels to read")
    return choose_channels(annotated, scheme)
