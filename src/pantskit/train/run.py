"""Train a network on a dataset: look cases over, plan, prepare, train, describe."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    contextmanager,
    nullcontext,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from blake3 import blake3

from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import ConfigError, DatasetError, PantskitError
from pantskit.core.files import content_hash, jsonable, write_json
from pantskit.core.geometry import STANDARD_ORIENTATION
from pantskit.core.records import CaseRecord, RecordStore
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.selection import require_cases
from pantskit.networks.folder import MODEL_FILE, ModelInfo, read_info
from pantskit.networks.plans import Plans
from pantskit.networks.runtime import library_versions, start_torch
from pantskit.train.cases import Preparation, TrainingCase, prepare_case, scan_case
from pantskit.train.curve import Epoch
from pantskit.train.label_schemes import Scheme
from pantskit.train.labels import Channels, choose_channels
from pantskit.train.planning import (
    CONFIGURATION,
    dataset_json,
    fingerprint,
    make_plans,
    nnunet_folders,
)
from pantskit.train.recipe import Recipe
from pantskit.train.resume import latest_path

if TYPE_CHECKING:
    import torch

    from pantskit.train.trainer import RecipeTrainer

N_FOLDS = 5  # nnU-Net's
INTERRUPTED = 130  # as shells report a process ended by Ctrl-C
WORK = ".work"  # in the model's folder, removed when the training is complete
# Below this many cases a worker's imports take longer than the work.
_CASES_PER_WORKER = 20


@dataclass(frozen=True)
class Listener:
    """Who is told how it goes; every call is optional to heed.

    Attributes:
        say: a line for the user.
        cases: a stage's name to a context that gives the progress of `run_cases`.
        epoch: after each epoch, with the number of epochs in all.
    """

    say: Callable[[str], None] = lambda _: None
    cases: Callable[[str], AbstractContextManager[Progress | None]] = lambda _: nullcontext()
    epoch: Callable[[Epoch, int], None] = lambda _epoch, _total: None


@dataclass(frozen=True)
class TrainingResult:
    """What became of a training.

    Attributes:
        model: the folder.
        info: its model.json.
        failed: records of cases that could not be used and were left out.
        unchanged: whether this very training was complete already.
    """

    model: Path
    info: ModelInfo
    failed: tuple[CaseRecord, ...] = ()
    unchanged: bool = False

    @property
    def exit_status(self) -> int:
        """0 when trained to the end on every case, 1 without some, 130 when interrupted."""
        return INTERRUPTED if self.info.status != "complete" else int(bool(self.failed))

    def describe(self) -> str:
        """For the end of a run: `trained on 12 cases, 240 epochs, complete, 118 s`."""
        training = self.info.training
        failed = f", {len(self.failed)} left out" if self.failed else ""
        return (
            f"trained on {len(training['cases'])} cases{failed}, {training['epochs']:,} epochs, "
            f"{self.info.status}, {training['seconds']:.0f} s"
        )


def train_model(
    dataset: Dataset,
    out: Path,
    *,
    recipe: Recipe,
    scheme: str = "28",
    split: str = "train",
    cases: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train a model on the cases of a dataset.

    Every case is read before anything else happens; one that cannot be used is named and
    left out. With one seed, one machine and one number of threads, two runs on the CPU give
    the same weights.

    Args:
        dataset: where the cases are.
        out: the model's folder; new, empty, or of this same training.
        recipe: settings.
        scheme: of labels, by name or a TOML file, as `Scheme.read` takes it.
        split: `"train"` or `"test"`.
        cases: only these.
        seed: of all random numbers.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        workers: processes that read and prepare cases, and augment on a GPU; 0 for none.
        listener: is told how it goes.

    Raises:
        ConfigError, DatasetError: If settings or cases allow no training.
    """
    listener = listener or Listener()
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be 0 to {2**32 - 1}, not {seed}")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers must be 0 or more, not {workers}")
    recipe.network.require_installed()
    if recipe.pretrained and not Path(recipe.pretrained).is_file():
        raise ConfigError(f"{recipe.pretrained}: no such file of pretrained weights")
    chosen = _choose_cases(dataset, split, cases)
    channels = _choose_channels(chosen, Scheme.read(scheme))
    hashes = _hash_cases(chosen)
    mark = _fingerprint(hashes, channels, recipe, seed)
    finished = _finished(out, mark)
    if finished is not None:
        listener.say(f"{out}: this training is complete already; nothing to do")
        return TrainingResult(out, finished, unchanged=True)
    for line in channels.describe():
        listener.say(line)
    torch_device = start_torch(device)
    cores = len(os.sched_getaffinity(0))
    # On a CPU the network leaves no core for others to augment on.
    augmenters = 0 if torch_device.type == "cpu" else min(cores, 12 if workers is None else workers)
    if workers is None:
        workers = min(cores, len(chosen) // _CASES_PER_WORKER)
    run = _Run(dataset, out, recipe, channels, mark, workers, augmenters, listener)
    run.work.mkdir(parents=True, exist_ok=True)
    recipe.write(out / "recipe.toml")
    run.scan(chosen)
    plans = run.plan()
    run.prepare()
    trainer = run.train(plans, seed, torch_device)
    backward = plans.plans["transpose_backward"]
    k, j, i = (float(plans.configuration.spacing[axis]) for axis in backward)
    info = ModelInfo(
        channels=channels.structures,
        orientation=STANDARD_ORIENTATION,
        spacing=(i, j, k),
        label_scheme=Path(scheme).stem,
        heads="regions" if channels.regions else "softmax",
        status="interrupted" if trainer.interrupted else "complete",
        fingerprint=mark,
        training={
            "dataset": dataset.info.get("name", dataset.root.name),
            "split": split,
            "cases": {c: hashes[c] for c in run.usable},
            "failed_cases": {r.case_id: r.message for r in run.failed},
            "partial_structures": dict(channels.partial),
            "absent_structures": list(channels.absent),
            "voxels": run.voxels(),
            "seed": seed,
            "recipe": recipe.values(),
            "patch_size": [plans.patch_size[axis] for axis in backward][::-1],
            "device": torch_device.type,
            "epochs": trainer.current_epoch,
            "seconds": round(trainer.seconds, 1),
        },
        versions=library_versions(),
    )
    info.write(out)
    if not trainer.interrupted:
        latest_path(out).unlink(missing_ok=True)
        shutil.rmtree(run.work)
    return TrainingResult(out, info, tuple(run.failed))


@dataclass
class _Run:
    """The steps of one training, in their order."""

    dataset: Dataset
    out: Path
    recipe: Recipe
    channels: Channels
    mark: str
    workers: int
    augmenters: int
    listener: Listener
    records: dict[str, CaseRecord] = field(default_factory=dict)
    failed: list[CaseRecord] = field(default_factory=list)
    cases: dict[str, TrainingCase] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.out / WORK

    @property
    def structures(self) -> tuple[str, ...]:
        return self.channels.structures

    @property
    def usable(self) -> list[str]:
        return sorted(self.records)

    def scan(self, chosen: Sequence[Case]) -> None:
        """Read every case; the good ones stay in `records`."""
        samples = max(1, self.recipe.intensity_samples // len(chosen))
        self.cases = {
            c.case_id: TrainingCase(
                c,
                self.structures,
                self.work,
                samples,
                annotated=self.channels.annotated.get(c.case_id, ()),
                regions=self.channels.regions,
            )
            for c in chosen
        }
        jobs = [Job(c, t, outputs=(t.intensities_path,)) for c, t in self.cases.items()]
        summary = self._run(scan_case, jobs, "scan", {"training": self.mark})
        self.records = {r.case_id: r for r in summary.records if r.status == "done"}
        self._require_cases()
        empty = [s for s, n in self.voxels().items() if not n]
        if empty:
            self.listener.say(f"annotated, but in no case there: {', '.join(empty)}")

    def plan(self) -> Plans:
        """nnU-Net's fingerprint and plans, also copied into the model."""
        description = dataset_json(self.channels, len(self.usable))
        files = [self.cases[c].intensities_path for c in self.usable]
        print_ = fingerprint(list(self.records.values()), files)
        with self._nnunet_quiet():
            plans = make_plans(self.work, self.recipe, description, print_)
        shape = " x ".join(str(n) for n in plans.patch_size[::-1])
        spacing = " x ".join(f"{s:.3g}" for s in plans.configuration.spacing[::-1])
        self.listener.say(
            f"planned: patches of {shape} voxels at {spacing} mm, "
            f"batch {plans.configuration.batch_size}, {self.recipe.epochs:,} epochs of "
            f"{self.recipe.iterations} iterations"
        )
        return plans

    def prepare(self) -> None:
        """Bring every case to the network's grid."""
        jobs = []
        with nnunet_folders(self.work) as folder:
            paths = folder / "nnUNetPlans.json", folder / "dataset.json"
        for name in self.usable:
            case = self.cases[name]
            jobs.append(Job(name, Preparation(case, *paths), paths, case.prepared_files))
        summary = self._run(prepare_case, jobs, "prepare", {"training": self.mark})
        for record in summary.not_done:
            del self.records[record.case_id]
        self._require_cases()

    def train(self, plans: Plans, seed: int, device: torch.device) -> RecipeTrainer:
        """Train and write the model."""
        from pantskit.train.trainer import RecipeTrainer, TrainerListener

        self._write_splits()
        # The trainer's own processes draw the batches, nnU-Net's none.
        folders = nnunet_folders(self.work, augmentation_processes=0)
        with folders, self._nnunet_quiet() as stdout:
            # nnU-Net takes the entry out again, and fails where there is none.
            values = plans.plans | {"continue_training": False}
            trainer = RecipeTrainer(values, CONFIGURATION, 0, plans.dataset_json, device)

            def on_epoch(epoch: Epoch) -> None:
                with redirect_stdout(stdout):
                    self.listener.epoch(epoch, self.recipe.epochs)

            def say(line: str) -> None:
                with redirect_stdout(stdout):
                    self.listener.say(line)

            trainer.prepare(
                self.recipe,
                self.out,
                channels=self.channels,
                seed=seed,
                shares=self._shares(),
                mark=self.mark,
                augmenters=self.augmenters,
                listener=TrainerListener(say, on_epoch),
            )
            trainer.run_training()
        return trainer

    def voxels(self) -> dict[str, int]:
        """Structure to its voxels in all cases."""
        counts = [r.data["voxels"] for r in self.records.values()]
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
        """Of all training voxels: background's, then each structure's."""
        total = sum(r.data["size"] for r in self.records.values())
        shares = [n / total for n in self.voxels().values()]
        return [1 - sum(shares), *shares]

    def _run(self, task: Any, jobs: list[Job], stage: str, settings: Any) -> RunSummary:
        with self.listener.cases(stage) as progress:
            summary = run_cases(
                task, jobs, stage=stage, store=RecordStore(self.work), settings=settings,
                workers=self.workers, progress=progress,
            )  # fmt: skip
        self.failed += summary.not_done
        return summary

    def _require_cases(self) -> None:
        if not self.records:
            reasons = "; ".join(r.message for r in self.failed[:3])
            raise DatasetError(f"{self.dataset.root}: no case can be trained on: {reasons}")

    def _write_splits(self) -> None:
        """Tell nnU-Net which cases train and which are scored after each epoch."""
        rows = self.dataset.metadata
        patients = {c: str(rows.get(c, {}).get("patient_id") or c) for c in self.usable}
        train, validation = self.usable, self.usable
        if self.recipe.validation == "fold" and len(set(patients.values())) >= N_FOLDS:
            train, validation = first_fold(patients)
        elif self.recipe.validation == "fold":
            self.listener.say(
                f"fewer than {N_FOLDS} patients: none are kept out, and the learning curve's Dice "
                "is that of training cases"
            )
        with nnunet_folders(self.work) as folder:
            write_json(folder / "splits_final.json", [{"train": train, "val": validation}])


def first_fold(patients: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """nnU-Net's fold 0 of 5, drawn over patients: nobody's scans are on both sides.

    Args:
        patients: case_id to patient_id, of five patients or more.

    Returns:
        Cases to train on, and cases to score.
    """
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    fold = generate_crossval_split(sorted(set(patients.values())), n_splits=N_FOLDS)[0]
    held_out = set(fold["val"])
    train = [c for c, patient in patients.items() if patient not in held_out]
    return train, [c for c, patient in patients.items() if patient in held_out]


def _choose_cases(dataset: Dataset, split: str, wanted: Sequence[str] | None) -> list[Case]:
    found = dataset.cases(split)
    where = f"{dataset.root}, split {split}"
    if wanted is not None:
        require_cases(wanted, (c.case_id for c in found), where=where)
        found = [c for c in found if c.case_id in set(wanted)]
    if not found:
        raise DatasetError(f"{where}: no cases to train on")
    return found


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


def _hash_cases(cases: Sequence[Case]) -> dict[str, dict[str, str]]:
    """Hashes of each case's image and, as one, of its label files."""

    def hashed(path: Path) -> str:
        return content_hash(path) if path.is_file() else "missing"

    def of_case(case: Case) -> dict[str, str]:
        labels = case.labels()
        files = sorted(labels.paths) if labels else []
        together = blake3("".join(f"{p.name} {hashed(p)}\n" for p in files).encode())
        return {"image": hashed(case.image_path), "labels": together.hexdigest(length=16)}

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip((c.case_id for c in cases), pool.map(of_case, cases), strict=True))


def _fingerprint(hashes: Any, channels: Channels, recipe: Recipe, seed: int) -> str:
    """Hash of all that the weights depend on but the machine."""
    meaning = [channels.structures, channels.regions, channels.annotated]
    pretrained = content_hash(Path(recipe.pretrained)) if recipe.pretrained else ""
    settings = recipe.values() | {"pretrained": pretrained}
    parts = [hashes, meaning, settings, seed, library_versions()]
    return blake3(json.dumps(jsonable(parts), sort_keys=True).encode()).hexdigest(length=16)


def _finished(out: Path, mark: str) -> ModelInfo | None:
    """The model in the folder, if it is this training's; None where there is none yet.

    Raises:
        DatasetError: If the folder holds another model, or something else.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise DatasetError(f"{out}: is a file; give a folder for the model")
    if (out / MODEL_FILE).is_file():
        info = read_info(out)
        if info.fingerprint != mark:
            raise DatasetError(
                f"{out}: holds a model of other cases or settings; give a new folder"
            )
        return info if info.status == "complete" else None
    if any(out.iterdir()) and not (out / WORK).is_dir():
        raise DatasetError(f"{out}: is not empty and no model; give a new folder")
    return None
