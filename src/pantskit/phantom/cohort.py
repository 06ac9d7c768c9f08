"""A cohort of synthetic patients as a standard dataset, and as hospitals would deliver it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.files import write_json
from pantskit.core.labelsets import COMBINED
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.writing import write_volume
from pantskit.phantom.case import PhantomCase, make_case, metadata_row, truth_of
from pantskit.phantom.delivery import deliver, delivered_paths, write_manifest
from pantskit.phantom.scans import CohortPlan, plan_scan
from pantskit.phantom.tissues import coded_masks

STAGE = "phantom"
TRUTH = "truth.json"


@dataclass(frozen=True)
class _Task:
    root: Path
    plan: CohortPlan
    number: int
    dicom: Path | None
    refine: int


def make_cohort(
    plan: CohortPlan,
    out: Path,
    *,
    dicom: Path | None = None,
    refine: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> RunSummary:
    """Write a cohort as a standard dataset, and its raw deliveries where asked for.

    Writes `out/truth.json` (case_id to what is known) and the metadata table; with `dicom`
    also that folder and its `manifest.json`.

    Args:
        plan: which cases.
        out: folder of the dataset.
        dicom: folder of the deliveries, DICOM and masks, as `delivery.deliver` writes them.
        refine: see `truth_of`; None: 2 for small grids, 1 for full ones.
        workers: processes; 0: this one.
        progress: called after each case.

    Raises:
        ConfigError: If a setting makes no sense.
        DatasetError: If `out` holds something else.
    """
    plan.require_usable()
    if refine is None:
        refine = 1 if plan.size == "full" else 2
    dataset = Dataset.create(out, name=f"phantom-{plan.seed}")
    jobs = []
    for number in range(plan.cases):
        scan = plan_scan(plan, number)
        outputs = [
            dataset.image_path(scan.case_id, scan.split),
            dataset.labels_path(scan.case_id, scan.split) / COMBINED,
        ]
        if dicom is not None:
            outputs += delivered_paths(scan, dicom)
        task = _Task(out, plan, number, dicom, refine)
        jobs.append(Job(scan.case_id, task, outputs=tuple(outputs)))
    settings = {k: v for k, v in asdict(plan).items() if k != "cases"} | {
        "refine": refine,
        "dicom": str(dicom),
    }
    summary = run_cases(
        _make_and_write,
        jobs,
        stage=STAGE,
        store=dataset.records,
        settings=settings,
        workers=workers,
        progress=progress,
    )
    done = [record for record in summary.records if record.status == "done"]
    dataset.write_metadata(record.data["metadata"] for record in done)
    dataset.write_info()
    write_json(out / TRUTH, {r.case_id: r.data["truth"] for r in done})
    if dicom is not None:
        write_manifest(dicom, [record.data["delivery"] for record in done])
    return summary


def _make_and_write(job: Job) -> dict[str, Any]:
    task: _Task = job.payload
    case = make_case(task.plan, task.number)
    data = write_case(Dataset(task.root, {}), case)
    data["truth"] = truth_of(case, task.refine)
    if task.dicom is not None:
        data["delivery"] = deliver(case, task.dicom)
    return data


def write_case(dataset: Dataset, case: PhantomCase) -> dict[str, Any]:
    """Write CT and labels in the dataset's standard orientation.

    Returns:
        The labels' record data and the case's metadata row.
    """
    scan = case.scan
    ct = case.ct.reoriented()
    clipped = ct.with_array(np.clip(ct.array, -1000, 1000))
    write_volume(dataset.image_path(scan.case_id, scan.split), clipped)
    tissues = case.ct.with_array(case.tissues).reoriented()
    masks = coded_masks(tissues.array)
    data = write_case_labels(dataset, scan.case_id, scan.split, masks, ct.geometry)
    return {"labels": data, "metadata": metadata_row(case, ct.geometry)}
