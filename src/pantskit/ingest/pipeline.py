"""From sources to a dataset: plan the cases, make them, and write the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pantskit.core.dataset import SPLITS, Dataset
from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.labels import STRUCTURES, LabelMap
from pantskit.core.records import CaseRecord
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.ingest.case import ingest_case, leak_scan, remove_outputs
from pantskit.ingest.plan import (
    Planned,
    open_pseudonyms,
    plan_cases,
    require_whole_patients,
    with_labels,
)
from pantskit.ingest.settings import IngestSettings
from pantskit.ingest.survey import survey

STAGE = "ingest"

# Raised when the same input would give another case: earlier records then no longer count.
RECIPE = 1


@dataclass(frozen=True)
class IngestSummary:
    """What became of a run.

    Attributes:
        run: the records.
        planned: case_id to its plan.
        others: number of files that are neither DICOM nor NIfTI.
        unused_labels: annotations that no case took, by their first name.
        copies: sources with the content of another one, which were left.
    """

    run: RunSummary
    planned: dict[str, Planned] = field(default_factory=dict)
    others: int = 0
    unused_labels: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


def ingest(
    sources: Sequence[Path],
    out: Path,
    settings: IngestSettings,
    *,
    progress: Callable[[CaseRecord, int, int], None] | None = None,
) -> IngestSummary:
    """Add the CTs of some sources to a dataset.

    Args:
        sources: folders, DICOM or NIfTI files, zip archives of DICOM.
        out: folder of the dataset; made where it is not there yet.
        settings: how.
        progress: called after each case.

    Raises:
        ConfigError, LabelError, DatasetError: If there is nothing to do or nowhere to put it;
            nothing is written then. What is wrong with one case becomes its record instead.
    """
    if settings.split not in SPLITS:
        raise ConfigError(f"split {settings.split!r} is unknown; it is {' or '.join(SPLITS)}")
    if settings.label_map:
        LabelMap.parse(settings.label_map)
    found, labels = survey(sources, settings)
    existed = out.exists()
    dataset = Dataset.create(out, name=settings.name, annotated=())
    try:
        pseudonyms = open_pseudonyms(dataset, settings)
        planned, copies = plan_cases(found, out, pseudonyms, settings)
        planned, unused = with_labels(planned, labels)
        require_whole_patients(dataset, planned, settings.split)
    except PantskitError:
        if not existed:
            (out / "dataset.json").unlink(missing_ok=True)
            out.rmdir()
        raise
    summary = run_cases(
        ingest_case,
        [_job(p, dataset) for p in planned.values()],
        stage=STAGE,
        store=dataset.records,
        settings=_fingerprinted(settings),
        workers=settings.workers,
        timeout_s=settings.timeout_s,
        progress=progress,
    )
    write_tables(dataset)
    summary = _fail_leaks(dataset, summary, planned)
    return IngestSummary(summary, planned, found.others, unused, copies)


def _job(item: Planned, dataset: Dataset) -> Job:
    plan = item.plan
    outputs = [dataset.image_path(plan.case_id, plan.split)]
    if plan.labels:
        outputs.append(dataset.labels_path(plan.case_id, plan.split) / "combined_labels.nii.gz")
    return Job(plan.case_id, plan, item.inputs, tuple(outputs))


def _fingerprinted(settings: IngestSettings) -> dict[str, Any]:
    """The settings that change what a case becomes."""
    names = ("resample_labels", "split", "site")
    label_map = asdict(LabelMap.parse(settings.label_map)) if settings.label_map else None
    return {n: getattr(settings, n) for n in names} | {"label_map": label_map, "recipe": RECIPE}


def write_tables(dataset: Dataset) -> None:
    """Write metadata and dataset.json from the records of all cases made so far."""
    done = [r for r in dataset.records.all(STAGE) if r.status == "done"]
    rows = dict(dataset.metadata)
    for record in dataset.records.all(STAGE):
        rows.pop(record.case_id, None)
    rows |= {r.case_id: r.data["metadata"] for r in done}
    dataset.write_metadata(rows.values())
    labelled = [r.data["labels"]["voxels"] for r in done if r.data.get("labels")]
    # A structure counts as annotated in the dataset when it is in every labelled case.
    annotated = [s for s in STRUCTURES if labelled and all(s in voxels for voxels in labelled)]
    dataset.info["annotated"] = annotated
    dataset.write_info()


def _fail_leaks(dataset: Dataset, summary: RunSummary, planned: dict[str, Planned]) -> RunSummary:
    """Scan records and table rows as they were written; a leak takes its case away."""
    records = []
    for record in summary.records:
        plan = planned[record.case_id].plan
        scan = leak_scan(plan)
        leaks = scan.value(asdict(record), "record") if record.case_id in summary.ran else []
        leaks += scan.value(dataset.metadata.get(record.case_id, {}), "metadata")
        if leaks:
            remove_outputs(plan)
            found = f"{leaks[0].attribute} in {leaks[0].place}"
            message = f"{record.case_id}: the leak scan found {found}; nothing of it was kept"
            record = replace(record, status="failed", message=message, data={}, outputs=())
            dataset.records.write(record)
        records.append(record)
    if tuple(records) != summary.records:
        write_tables(dataset)
    return replace(summary, records=tuple(records))
