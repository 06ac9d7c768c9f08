"""From a downloaded dataset to the standard one: find its cases, make them, write the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pantskit.core.dataset import SPLITS, Dataset
from pantskit.core.errors import ConfigError
from pantskit.core.labels import STRUCTURES, LabelMap
from pantskit.core.labelsets import COMBINED
from pantskit.core.records import CaseRecord
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.ingest.quiet import keep_quiet
from pantskit.ingest.sources.catalogue import read_source
from pantskit.ingest.sources.common_formats import (
    COMMON_FORMATS,
    Exported,
    common_format,
    read_common,
)
from pantskit.ingest.sources.declaration import Source
from pantskit.ingest.sources.facttable import read_facts
from pantskit.ingest.sources.layouts import Fitting, FoundCase, fit, list_files
from pantskit.ingest.sources.making import STAGE, ImportPlan, import_case
from pantskit.ingest.sources.same_scans import as_one_patient, on_two_sides, same_scans

# Raised when the same input would give another case.
RECIPE = 1

# Python with its libraries; a compressed CT unpacked, its labels, and the comparison of the two.
_BASE_MB, _UNPACKED = 300.0, 20


@dataclass(frozen=True)
class ImportSettings:
    """How a dataset is imported.

    Attributes:
        split: `"train"` or `"test"` for all cases; None as the source says.
        label_map: what ids mean, for common formats and combined maps of the release that do not
            say it, as `--label-map` takes it.
        partial: take structures too that the source draws in part.
        unlabelled: take CTs without labels.
        workers: processes; 0 runs in this one.
        timeout_s: a case that takes longer is failed.
        memory_mb: memory that all workers together may take; None for most of what is free.
    """

    split: str | None = None
    label_map: str | None = None
    partial: bool = False
    unlabelled: bool = False
    workers: int = 1
    timeout_s: float | None = 1800.0
    memory_mb: float | None = None


@dataclass(frozen=True)
class ImportSummary:
    """What became of an import.

    Attributes:
        source: the dataset.
        run: the records.
        tried: for each layout its name and the numbers of CTs and labels that fit.
        others: number of files that fit no layout.
        labels_alone: whether there was no CT at all, so that labels were taken without.
        same: groups of cases in the dataset that hold one scan.
        on_two_sides: those of them that are in both splits.
        like: datasets that the files lie as, where no case of this one is complete.
    """

    source: Source
    run: RunSummary
    tried: tuple[tuple[str, int, int], ...] = ()
    others: int = 0
    labels_alone: bool = False
    same: tuple[tuple[str, ...], ...] = ()
    on_two_sides: tuple[tuple[str, ...], ...] = ()
    like: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 when cases were made and none failed, else 1."""
        done = any(r.status == "done" for r in self.run.records)
        return self.run.exit_status if done else 1


def import_dataset(
    name: str,
    folders: Sequence[Path],
    out: Path,
    settings: ImportSettings,
    *,
    progress: Callable[[CaseRecord, int, int], None] | None = None,
) -> ImportSummary:
    """Import a public dataset, or a folder in a common layout.

    Args:
        name: of the dataset, of a common format, or a declaration of one's own (.toml).
        folders: where it was unpacked; several where images and labels are two downloads.
        out: folder of the standard dataset; made where it is not there yet.
        settings: how.
        progress: called after each case.

    Raises:
        ConfigError, DatasetError, LabelError: If there is nothing to do or nowhere to put it. What
            is wrong with one case becomes its record instead.
    """
    keep_quiet()
    if settings.split not in (None, *SPLITS):
        raise ConfigError(f"split {settings.split!r} is unknown; it is {' or '.join(SPLITS)}")
    source, fitting, exported = _find(name, folders, settings)
    cases = [
        replace(case, split=settings.split) if settings.split else case for case in fitting.cases
    ]
    facts = read_facts(source.table, list_files(folders), cases) if source.table else {}
    dataset = Dataset.create(out, annotated=())
    _require_whole_patients(dataset, cases)
    plans = [
        ImportPlan(
            source,
            case,
            out,
            exported.rows.get(case.case_id, facts.get(case.case_id, {})),
            partial=settings.partial,
            labels_alone=fitting.without_ct,
            unlabelled=settings.unlabelled or case.case_id in exported.unlabelled,
            label_map=LabelMap.parse(settings.label_map) if settings.label_map else None,
            exact=exported.annotated.get(case.case_id),
            extra=exported.masks.get(case.case_id, {}),
        )
        for case in cases
    ]
    run = run_cases(
        _import_case,
        [_job(plan) for plan in plans],
        stage=STAGE,
        store=dataset.records,
        settings={"recipe": RECIPE},
        workers=settings.workers,
        timeout_s=settings.timeout_s,
        memory_mb=settings.memory_mb,
        progress=progress,
    )
    same = write_tables(dataset, source)
    return ImportSummary(
        source,
        run,
        tried=tuple((layout.name, n, labels) for layout, n, labels in fitting.tried),
        others=fitting.others,
        labels_alone=fitting.without_ct,
        same=tuple(same),
        on_two_sides=tuple(on_two_sides(same, dataset.metadata)),
        like=fitting.like,
    )


def _find(
    name: str, folders: Sequence[Path], settings: ImportSettings
) -> tuple[Source, Fitting, Exported]:
    """The dataset, its cases, and what an export of ours says beside them."""
    if common := common_format(name):
        return read_common(common, folders, settings.label_map)
    source = read_source(name)
    if settings.label_map and not any(layout.folder for layout in source.layouts):
        raise ConfigError(
            f"--label-map is for {', '.join(COMMON_FORMATS)} and combined maps of the release; "
            f"what labels of {name} mean is declared (a declaration of your own may say otherwise)"
        )
    return source, fit(source, folders), Exported()


def _import_case(job: Job) -> dict[str, Any]:
    keep_quiet()
    return import_case(job)


def _job(plan: ImportPlan) -> Job:
    outputs = []
    if plan.case.images:
        outputs.append(plan.ct_path)
    if plan.case.labels and plan.labelset.structures:
        outputs.append(plan.labels_path / COMBINED)
    # By what decides how a case is read; citations and notes may change.
    source = {k: v for k, v in asdict(plan.source).items() if k in _DECIDING}
    said = {
        "source": source,
        "layout": asdict(plan.case.layout),
        "split": plan.case.split,
        "facts": dict(plan.facts),
        "exact": plan.exact,
        "label_map": plan.label_map and asdict(plan.label_map),
        "alone": [plan.partial, plan.labels_alone, plan.unlabelled, plan.case.fault],
    }
    inputs = (*plan.case.files, *plan.extra.values())
    return Job(plan.case_id, plan, inputs, tuple(outputs), said, _memory_mb(plan.case))


_DECIDING = ("name", "labelsets", "flips", "origin", "origins", "lesion_negative", "unlabelled")


def _memory_mb(case: FoundCase) -> float:
    size = 0
    for path in case.images:
        size += path.stat().st_size if path.exists() else 0
    packed = case.images and case.images[0].name.endswith(".gz")
    return _BASE_MB + size / 2**20 * (_UNPACKED if packed else 6)


def _require_whole_patients(dataset: Dataset, cases: Sequence[FoundCase]) -> None:
    """Refuse to put a patient on both sides: a model would be tested on what it has seen.

    Raises:
        ConfigError: If a patient would be in both splits.
    """
    splits = {(case.patient_id, case.split) for case in cases}
    mine, patients = {case.case_id for case in cases}, {case.patient_id for case in cases}
    for case_id, row in dataset.metadata.items():
        if case_id not in mine and row.get("patient_id") in patients:
            splits.add((str(row.get("patient_id")), str(row.get("split"))))
    twice = sorted(p for p, n in Counter(patient for patient, _ in splits).items() if n > 1)
    if twice:
        raise ConfigError(
            f"{len(twice)} patients would be in both splits ({', '.join(twice[:3])}); give one "
            "split to all with --split"
        )


def write_tables(dataset: Dataset, source: Source) -> list[tuple[str, ...]]:
    """Write metadata and dataset.json from the records of all cases imported so far.

    Returns:
        Groups of cases that hold one scan.
    """
    done = [r for r in dataset.records.all(STAGE) if r.status == "done"]
    rows = dict(dataset.metadata)
    for record in dataset.records.all(STAGE):
        rows.pop(record.case_id, None)
    rows |= {r.case_id: r.data["metadata"] for r in done}
    same = same_scans(done)
    dataset.write_metadata(as_one_patient(same, rows).values())
    labelled = [set(r.data["labels"]["voxels"]) for r in done if r.data.get("labels")]
    ingested = (r for r in dataset.records.all("ingest") if r.status == "done")
    labelled += [set(r.data["labels"]["voxels"]) for r in ingested if r.data.get("labels")]
    dataset.info["annotated"] = [
        s for s in STRUCTURES if labelled and all(s in v for v in labelled)
    ]
    sources = dict(dataset.info.get("sources", {}))
    about = ("title", "url", "license", "terms", "citation")
    sources[source.name] = {k: getattr(source, k) for k in about}
    dataset.info["sources"], dataset.info["same_scans"] = sources, same
    dataset.write_info()
    return same
