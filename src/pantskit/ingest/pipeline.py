"""From sources to a dataset: plan the cases, make them, and write the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pantskit.core.crew import Crew
from pantskit.core.dataset import SPLITS, Dataset
from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.files import content_hash
from pantskit.core.labels import LabelMap
from pantskit.core.labelsets import COMBINED
from pantskit.core.records import CaseRecord
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.core.workers import Workers
from pantskit.ingest.case import STAGE, ingest_case
from pantskit.ingest.facts.clinical import Clinical, ClinicalJoin, read_clinical
from pantskit.ingest.plan import (
    Planned,
    open_pseudonyms,
    plan_cases,
    require_whole_patients,
    with_labels,
)
from pantskit.ingest.quiet import keep_quiet
from pantskit.ingest.settings import IngestSettings
from pantskit.ingest.survey import survey
from pantskit.ingest.tables import fail_leaks, write_tables

# What workers need: to read headers and make cases, and to read headers alone.
_CASES = "pantskit.ingest.ready"
HEADERS = "pantskit.ingest.discovery.reading"

# Raised when the same input would give another case: earlier records then no longer count.
RECIPE = 3


@dataclass(frozen=True)
class IngestSummary:
    """What became of a run.

    Attributes:
        run: the records.
        planned: case_id to its plan.
        others: number of files that are neither DICOM nor volumes.
        unread: of these, images and archives of a format that is not read, by suffix.
        unused_labels: annotations that no case took, by their first name.
        copies: sources with the content of another one, which were left.
        clinical: how the clinical table fits the patients; None without one.
    """

    run: RunSummary
    planned: dict[str, Planned] = field(default_factory=dict)
    others: int = 0
    unread: dict[str, int] = field(default_factory=dict)
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
        found, labels = survey(sources, settings, out=out, workers=crew)
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
    run = fail_leaks(dataset, run, {c: item.plan for c, item in planned.items()}, clinical)
    told = None if clinical is None or joined is None else _told(clinical, joined)
    return IngestSummary(run, planned, found.others, found.unread, unused, copies, told)


def _make_case(job: Job) -> dict[str, Any]:
    keep_quiet()
    return ingest_case(job)


def _require_sense(settings: IngestSettings) -> None:
    if settings.split not in SPLITS:
        raise ConfigError(f"split {settings.split!r} is unknown; it is {' or '.join(SPLITS)}")
    if settings.label_map:
        LabelMap.parse(settings.label_map)
    if settings.export_dicom:
        try:
            settings.export_dicom.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{settings.export_dicom}: the folder for exported DICOM cannot be made: "
                f"{error.strerror}"
            ) from None


@contextmanager
def crew_of(settings: IngestSettings, *, needs: str = _CASES) -> Iterator[Crew]:
    """Workers for the whole run: they read headers first and make the cases then.

    Args:
        settings: how many, or which cluster.
        needs: the module of what they do.
    """
    if settings.cluster is None:
        with Workers(settings.workers, settings.memory_mb, preload=[needs]) as workers:
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
