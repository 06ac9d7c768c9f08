"""From sources to a dataset: plan the cases, make them, and write the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pantskit.core.crew import Crew
from pantskit.core.dataset import SPLITS, Dataset
from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.files import content_hash
from pantskit.core.labels import STRUCTURES, LabelMap
from pantskit.core.labelsets import COMBINED
from pantskit.core.records import CaseRecord
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.core.workers import Workers
from pantskit.ingest.case import STAGE, ingest_case, leak_scan, remove_outputs
from pantskit.ingest.facts.clinical import Clinical, ClinicalJoin, read_clinical
from pantskit.ingest.plan import (
    Planned,
    open_pseudonyms,
    plan_cases,
    require_whole_patients,
    with_labels,
)
from pantskit.ingest.privacy.audit import dataset_statement
from pantskit.ingest.privacy.deidentify import days_since_first
from pantskit.ingest.privacy.leaks import LeakScan, explain, identifiers_of_run
from pantskit.ingest.quiet import keep_quiet
from pantskit.ingest.settings import IngestSettings
from pantskit.ingest.survey import survey

DAYS = "days_since_first_study"

_READY = "pantskit.ingest.ready"

# Raised when the same input would give another case: earlier records then no longer count.
RECIPE = 2


@dataclass(frozen=True)
class IngestSummary:
    """What became of a run.

    Attributes:
        run: the records.
        planned: case_id to its plan.
        others: number of files that are neither DICOM nor NIfTI.
        unused_labels: annotations that no case took, by their first name.
        copies: sources with the content of another one, which were left.
        clinical: how the clinical table fits the patients; None without one.
    """

    run: RunSummary
    planned: dict[str, Planned] = field(default_factory=dict)
    others: int = 0
    unused_labels: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    clinical: dict[str, Any] | None = None


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
    keep_quiet()
    _require_sense(settings)
    clinical = read_clinical(settings.clinical) if settings.clinical else None
    with crew_of(settings) as crew:
        found, labels = survey(sources, settings, workers=crew)
        patients = [s.first.description.get("PatientID", "") for s in found.series]
        joined = clinical.join(patients) if clinical else None
        existed = out.exists()
        dataset = Dataset.create(out, name=settings.name, annotated=())
        try:
            pseudonyms = open_pseudonyms(dataset, settings)
            planned, copies = plan_cases(found, out, pseudonyms, settings, joined)
            planned, unused = with_labels(planned, labels)
            require_whole_patients(dataset, planned, settings.split)
        except PantskitError:
            if not existed:
                (out / "dataset.json").unlink(missing_ok=True)
                out.rmdir()
            raise
        run = run_cases(
            _make_case,
            [_job(p) for p in planned.values()],
            stage=STAGE,
            store=dataset.records,
            settings=_fingerprinted(settings),
            workers=crew,
            timeout_s=settings.timeout_s,
            progress=progress,
        )
    write_tables(dataset)
    run = _fail_leaks(dataset, run, planned, clinical)
    told = None if clinical is None or joined is None else _told(clinical, joined)
    return IngestSummary(run, planned, found.others, unused, copies, told)


def _make_case(job: Job) -> dict[str, Any]:
    keep_quiet()
    return ingest_case(job)


def _require_sense(settings: IngestSettings) -> None:
    if settings.split not in SPLITS:
        raise ConfigError(f"split {settings.split!r} is unknown; it is {' or '.join(SPLITS)}")
    if settings.label_map:
        LabelMap.parse(settings.label_map)


@contextmanager
def crew_of(settings: IngestSettings) -> Iterator[Crew]:
    """Workers for the whole run: they read headers first and make the cases then."""
    if settings.cluster is None:
        with Workers(settings.workers, settings.memory_mb, preload=[_READY]) as workers:
            yield workers
        return
    from pantskit.core.cluster import ClusterWorkers

    with ClusterWorkers(settings.cluster) as cluster:
        yield cluster


def _told(clinical: Clinical, joined: ClinicalJoin) -> dict[str, Any]:
    """What the terminal says of the clinical table: counts and row numbers, no value."""
    return {
        "joined": len(joined.rows),
        "rows_without_ct": list(joined.rows_without_ct),
        "patients_without_row": len(joined.patients_without_row),
        "unknown_values": dict(clinical.unknown),
    }


def _job(item: Planned) -> Job:
    plan = item.plan
    outputs = [plan.ct_path]
    if plan.labels:
        outputs.append(plan.labels_path / COMBINED)
    if plan.export_path:
        outputs.append(plan.export_path)
    # What is said of a source may change by what lies beside it, though it stays the same.
    said = [plan.skip, plan.fault, plan.doubt]
    return Job(plan.case_id, plan, item.inputs, tuple(outputs), said, plan.memory_mb)


def _fingerprinted(settings: IngestSettings) -> dict[str, Any]:
    """The settings that change what a case becomes."""
    names = ("resample_labels", "resample_tilt", "resample_spacing")
    label_map = asdict(LabelMap.parse(settings.label_map)) if settings.label_map else None
    return {n: getattr(settings, n) for n in (*names, "split", "site")} | {
        "label_map": label_map,
        "clinical": content_hash(settings.clinical) if settings.clinical else None,
        "recipe": RECIPE,
    }


def write_tables(dataset: Dataset) -> None:
    """Write metadata and dataset.json from the records of all cases made so far."""
    done = [r for r in dataset.records.all(STAGE) if r.status == "done"]
    rows = dict(dataset.metadata)
    for record in dataset.records.all(STAGE):
        rows.pop(record.case_id, None)
    rows |= {r.case_id: r.data["metadata"] for r in done}
    days = days_since_first(
        (r.case_id, r.data["metadata"]["patient_id"], r.data.get("moved_date")) for r in done
    )
    rows |= {case_id: rows[case_id] | {DAYS: days[case_id]} for case_id in days}
    dataset.write_metadata(rows.values())
    labelled = [r.data["labels"]["voxels"] for r in done if r.data.get("labels")]
    # A structure counts as annotated in the dataset when it is in every labelled case.
    annotated = [s for s in STRUCTURES if labelled and all(s in voxels for voxels in labelled)]
    dataset.info["annotated"] = annotated
    audits = [r.data["deidentification"] for r in done if "deidentification" in r.data]
    dataset.info["deidentification"] = dataset_statement(audits)
    dataset.write_info()


def _fail_leaks(
    dataset: Dataset, run: RunSummary, planned: dict[str, Planned], clinical: Clinical | None
) -> RunSummary:
    """Scan records, rows and tables as they were written; a leak takes its case away.

    Raises:
        PantskitError: If a table of the dataset leaks though no record or row does; it is
            removed.
    """
    records = []
    for record in run.records:
        plan = planned[record.case_id].plan
        scan = leak_scan(plan)
        leaks = scan.value(asdict(record), "record") if record.case_id in run.ran else []
        leaks += scan.value(dataset.metadata.get(record.case_id, {}), "metadata")
        if leaks:
            remove_outputs(plan)
            message = f"{record.case_id}: {explain(leaks)}; nothing of the case was kept"
            record = replace(record, status="failed", message=message, data={}, outputs=())
            dataset.records.write(record)
        records.append(record)
    if tuple(records) != run.records:
        write_tables(dataset)
    _scan_tables(dataset, planned, clinical)
    return replace(run, records=tuple(records))


def _scan_tables(dataset: Dataset, planned: dict[str, Planned], clinical: Clinical | None) -> None:
    plans = [item.plan for item in planned.values()]
    identifiers = identifiers_of_run(plan.identifiers for plan in plans)
    if clinical is not None:
        identifiers = {**clinical.identifiers, **identifiers}
    rows = [value for row in dataset.metadata.values() for value in row.values()]
    given = [str(dataset.info[key]) for key in ("name", "label_space")]
    words = [*given, *{plan.site for plan in plans}, *STRUCTURES]
    scan = LeakScan(identifiers, own_words=words, facts=map(str, rows))
    for path in sorted(dataset.root.glob("*.*")):
        if path.is_file() and (leaks := scan.file(path)):
            path.unlink()
            raise PantskitError(f"{explain(leaks)}; the table was removed")
