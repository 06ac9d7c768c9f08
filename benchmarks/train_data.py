"""Datasets for train.py, and their cases prepared as a training prepares them."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
ASSIGNMENT = "assignment.pickle"


def blob_patients(folder: Path) -> Any:
    """The tests' patients, of 36 x 32 x 28 voxels."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import blobs

    return blobs.write_dataset(folder, n_train=4, n_test=0)


def phantoms(folder: Path, number: int, size: str) -> Any:
    """Patients with 28 structures; `full` ones have 512 x 512 x 300 voxels."""
    from pantskit.core.dataset import Dataset
    from pantskit.phantom.cohort import make_cohort
    from pantskit.phantom.scans import CohortPlan

    plan = CohortPlan(number, seed=2, size=size, tumor_rate=1.0, test_fraction=0.0)
    make_cohort(plan, folder, refine=0, workers=0)
    return Dataset.open(folder)


def planned(dataset: Any, cases: list[Any], recipe: Any, folder: Path) -> Any:
    """Plans of some cases, and what a trainer is told; the cases still have to be prepared.

    Returns:
        An `Assignment`, and a job of `prepare_case` for each case.
    """
    from pantskit.core.files import write_json
    from pantskit.core.run import Job
    from pantskit.train.assignment import Assignment, nnunet_quiet
    from pantskit.train.cases import Preparation, TrainingCase, scan_case
    from pantskit.train.label_schemes import Scheme
    from pantskit.train.labels import choose_channels
    from pantskit.train.partial import starting_shares
    from pantskit.train.planning import dataset_json, fingerprint, make_plans, nnunet_folders

    work = folder / "work"
    work.mkdir(parents=True)
    known = {c.case_id: c.labels().structures() for c in cases}
    channels = choose_channels(known, Scheme.read("28"))
    structures = channels.structures
    todo = [TrainingCase(c, structures, work, 10_000, known[c.case_id]) for c in cases]
    facts = {t.case.case_id: scan_case(Job(t.case.case_id, t)) for t in todo}
    description = dataset_json(channels, len(cases))
    print_ = fingerprint(
        [SimpleNamespace(data=f) for f in facts.values()], [t.intensities_path for t in todo]
    )
    with nnunet_quiet(work):
        plans = make_plans(work, recipe, description, print_)
    with nnunet_folders(work) as preprocessed:
        write_json(preprocessed / "dataset_fingerprint.json", print_)
        names = list(facts)
        write_json(preprocessed / "splits_final.json", [{"train": names, "val": names}])
        files = preprocessed / "nnUNetPlans.json", preprocessed / "dataset.json"
    shares = starting_shares(
        channels,
        {c: f["voxels"] for c, f in facts.items()},
        {c: f["size"] for c, f in facts.items()},
    )
    task = Assignment(
        plans.plans, plans.dataset_json, recipe, channels, tuple(shares), 0, "benchmark",
        folder / "model", work,
    )  # fmt: skip
    return task, [Job(t.case.case_id, Preparation(t, *files)) for t in todo]


def keep(folder: Path, task: Any) -> None:
    """Write an assignment down for the engines' processes."""
    (folder / ASSIGNMENT).write_bytes(pickle.dumps(task))


def kept(folder: Path) -> Any:
    """What was written down."""
    return pickle.loads((folder / ASSIGNMENT).read_bytes())


def read_json(path: Path) -> Any:
    """A file's content."""
    return json.loads(path.read_text("utf-8"))
