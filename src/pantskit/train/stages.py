"""The steps of a training up to its first iteration: look, scan, plan, estimate, prepare."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import DatasetError, PantskitError
from pantskit.core.files import content_hash, write_json
from pantskit.core.records import CaseRecord, RecordStore
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.networks.plans import Plans
from pantskit.networks.runtime import library_versions
from pantskit.train.assignment import Assignment, nnunet_quiet, trainer_for
from pantskit.train.begin import WORK, Start, choose_sides, hash_cases, meaning_of, require_same
from pantskit.train.cases import Preparation, TrainingCase, prepare_case, scan_case
from pantskit.train.estimate import (
    TIMED_STEPS,
    Estimate,
    describe_patch,
    require_memory,
    time_steps,
)
from pantskit.train.label_schemes import Scheme
from pantskit.train.labels import Channels, choose_channels
from pantskit.train.outcome import Listener
from pantskit.train.partial import starting_shares
from pantskit.train.planning import dataset_json, fingerprint, make_plans, nnunet_folders
from pantskit.train.preparing import left_to_nnunet
from pantskit.train.ranks import Ranks
from pantskit.train.recipe import Recipe
from pantskit.train.scan import look_at_case, look_job

if TYPE_CHECKING:
    import torch

_NAMED = 5  # cases in a message


@dataclass
class Stages:
    """The steps of one training, in their order.

    Attributes:
        dataset: where the cases are.
        out: the model's folder.
        start: what the weights depend on; `begin` completes it.
        skip_bad: go on without the cases that cannot be used.
        workers: processes that read and prepare cases; 0 for none.
        augmenters: processes that will draw batches; 0 for none.
        ranks: the processes that will train together.
        listener: is told how it goes.
        records: of the scan, of the cases that can be used.
        failed: records of the others.
        cases: what workers know of each case.
        channels: what the network learns.
        estimated: what it will take; None before `estimate`, or where it went on from a checkpoint.
    """

    dataset: Dataset
    out: Path
    start: Start
    skip_bad: bool
    workers: int
    augmenters: int
    ranks: Ranks
    listener: Listener
    records: dict[str, CaseRecord] = field(default_factory=dict)
    failed: list[CaseRecord] = field(default_factory=list)
    cases: dict[str, TrainingCase] = field(default_factory=dict)
    channels: Channels = field(default_factory=lambda: Channels((), False, {}))
    estimated: Estimate | None = None

    @property
    def work(self) -> Path:
        """Folder for what is not the model."""
        return self.out / WORK

    @property
    def recipe(self) -> Recipe:
        """Settings."""
        return self.start.recipe

    @property
    def structures(self) -> tuple[str, ...]:
        """Of the network's channels."""
        return self.channels.structures

    @property
    def usable(self) -> list[str]:
        """Cases that can be used."""
        return sorted(self.records)

    def begin(self, chosen: Sequence[Case], scheme: Scheme, before: Start | None) -> None:
        """Look at every case, choose what to learn, and write down what all starts from."""
        self._keep_good(self._run(look_at_case, [look_job(c) for c in chosen], "look"))
        annotated = _annotated([c for c in chosen if c.case_id in self.records])
        self.channels = choose_channels(annotated, scheme)
        self._leave_out_silent(sorted(set(annotated) - set(self.channels.annotated)), scheme)
        good = [c for c in chosen if c.case_id in self.records]
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
        known, regions = self.channels.annotated, self.channels.regions
        self.cases = {
            c.case_id: TrainingCase(
                c, self.structures, self.work, samples, known.get(c.case_id, ()), regions
            )
            for c in good
        }

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
        if reason := left_to_nnunet(plans):
            self.listener.say(f"cases are left to nnU-Net's own preprocessor: {reason}")
        share = self.ranks.share(int(plans.configuration.batch_size))
        if self.ranks.count > 1:
            self.listener.say(f"{self.ranks.count} processes, {len(share)} of the batch each")
        return plans

    def _make_plans(self, recipe: Recipe, work: Path) -> Plans:
        description = dataset_json(self.channels, len(self.usable))
        files = [self.cases[c].intensities_path for c in self.usable]
        print_ = fingerprint([self.records[c] for c in self.usable], files)
        with nnunet_quiet(self.work):
            return make_plans(work, recipe, description, print_)

    def estimate(self, plans: Plans, device: torch.device) -> None:
        """Memory counted, one case prepared, one iteration timed on it, if that case can be.

        Of several processes it is what one of them takes for its share of a batch.

        Raises:
            ConfigError: If memory is too little.
        """
        count = self.ranks.count

        def replan(recipe: Recipe) -> Plans:
            return self._make_plans(recipe, self.work / "fitting").shared_by(count)

        plans = plans.shared_by(count)
        need, free = require_memory(plans, self.recipe, device, replan=replan, processes=count)
        first, recipe = self.usable[0], self.recipe
        (record,) = self._run(prepare_case, [self._preparation(first)], "prepare").records
        if record.status != "done":  # which the preparation of all will say
            return
        self._write_sides([first], [first])
        # What a compiler of the network would gain is left out.
        short = recipe.changed(
            epochs=1, iterations=TIMED_STEPS, validation_iterations=1, compile=False
        )
        task = replace(self.assign(plans), recipe=short, model=self.work / "estimate")
        with trainer_for(task, device) as trainer:
            drawing, stepping = time_steps(trainer)
        alone = self.augmenters == 0
        pace = drawing + stepping if alone else max(stepping, drawing / self.augmenters)
        patches = recipe.iterations + recipe.validation_iterations / 3  # no backward pass
        preparing = record.seconds * (len(self.usable) - 1) / max(1, self.workers)
        total = preparing + pace * recipe.epochs * patches
        self.estimated = Estimate(need, free, pace, preparing, total)
        self.listener.say(f"{device}: {self.estimated.describe()}")

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

    def assign(self, plans: Plans) -> Assignment:
        """What the trainers need to know."""
        return Assignment(
            plans=plans.plans,
            dataset_json=plans.dataset_json,
            recipe=self.recipe,
            channels=self.channels,
            shares=tuple(self._shares()),
            seed=self.start.seed,
            mark=self.start.mark,
            model=self.out,
            work=self.work,
        )

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

    def _leave_out_silent(self, silent: Sequence[str], scheme: Scheme) -> None:
        """Name the cases that have labels, and none of what is to be learned."""
        why = f"annotates none of the structures of the label scheme {scheme.name}"
        failed = [CaseRecord(c, "labels", "failed", f"{c}: {why}") for c in silent]
        for record in failed:
            RecordStore(self.work).write(record)
        good = [r for c, r in self.records.items() if c not in set(silent)]
        self._keep_good(RunSummary("labels", (*good, *failed)))

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

    def choose_sides(self) -> None:
        """Tell nnU-Net which cases train and which are scored after each epoch."""
        voxels = {c: r.data["voxels"] for c, r in self.records.items()}
        train, validation, lines = choose_sides(self.start, voxels)
        for line in lines:
            self.listener.say(line)
        self._write_sides(train, validation)

    def _write_sides(self, train: Sequence[str], validation: Sequence[str]) -> None:
        with nnunet_folders(self.work) as folder:
            write_json(folder / "splits_final.json", [{"train": [*train], "val": [*validation]}])


def _annotated(cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
    """case_id to annotated structures, of the cases whose labels could be asked.

    Raises:
        DatasetError: If there is none.
    """
    annotated: dict[str, tuple[str, ...]] = {}
    for case in cases:
        # A case whose labels cannot be opened has no say here; the scan names it.
        with suppress(PantskitError):
            labels = case.labels()
            if labels is not None and labels.structures():
                annotated[case.case_id] = labels.structures()
    if not annotated:
        raise DatasetError(f"{cases[0].root}: none of the {len(cases)} cases has labels to read")
    return annotated
