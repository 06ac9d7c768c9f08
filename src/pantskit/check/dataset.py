"""Check every case of a dataset and write the findings as tables, pictures and a page."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pantskit.check.baseline import Accepted, mark_accepted, read_baseline
from pantskit.check.case import CaseTask, apply_rules, check_files
from pantskit.check.cohort import Cohort, Measured
from pantskit.check.findings import Finding, Severity, worst_first
from pantskit.check.read import beside, unknown_masks
from pantskit.check.registry import Scope
from pantskit.check.settings import DEFAULT, CheckSettings
from pantskit.check.tables import table_faults
from pantskit.core.dataset import Case, Dataset, metadata_tables
from pantskit.core.errors import DatasetError
from pantskit.core.files import write_json
from pantskit.core.labels import STRUCTURES
from pantskit.core.records import RecordStore, write_table
from pantskit.core.run import Job, Progress, RunSummary, run_cases

STAGE = "check"
COLUMNS = (
    "case_id", "severity", "rule", "structure", "message", "value", "voxel", "accepted",
)  # fmt: skip


@dataclass(frozen=True)
class CheckResult:
    """Findings of a dataset, worst first, and what became of each case.

    Attributes:
        findings: all of them, accepted ones included.
        run: what became of each case.
        outdated: lines of the baseline that no finding needs any more.
    """

    findings: tuple[Finding, ...]
    run: RunSummary
    outdated: tuple[Accepted, ...] = ()

    @property
    def open(self) -> tuple[Finding, ...]:
        """Findings that nobody has accepted."""
        return tuple(f for f in self.findings if not f.accepted)

    @property
    def counts(self) -> dict[str, int]:
        """Number of open findings by severity."""
        found = Counter(str(f.severity) for f in self.open)
        return {str(s): found.get(str(s), 0) for s in Severity}

    def only(
        self,
        *,
        rules: Sequence[str] | None = None,
        severities: Sequence[str] | None = None,
        structures: Sequence[str] | None = None,
    ) -> CheckResult:
        """The findings of some rules, severities and structures; None or none given: of all."""
        kept = tuple(
            f
            for f in self.findings
            if (not rules or f.rule in rules)
            and (not severities or f.severity in severities)
            and (not structures or f.structure in structures)
        )
        return replace(self, findings=kept)

    @property
    def exit_status(self) -> int:
        """1 when an open finding is an error or a case could not be checked."""
        return 1 if self.counts["error"] or self.run.exit_status else 0


def check_dataset(
    dataset: Dataset,
    out: Path | None = None,
    *,
    split: str | None = None,
    cases: Sequence[str] | None = None,
    settings: CheckSettings = DEFAULT,
    baseline: Path | None = None,
    pictures: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> CheckResult:
    """Apply every rule to every case; the dataset itself is never written to.

    Args:
        dataset: what to check.
        out: folder for findings.csv, .parquet, .json, index.html, pictures, and the records that
            let a second run check only what changed; nothing is kept when None.
        split: `"train"` or `"test"`; both when None.
        cases: case IDs to check; all when None.
        settings: which rules, and their limits.
        baseline: CSV of accepted findings.
        pictures: how many findings, worst first, get a picture in `out`.
        workers: processes.
        progress: called after each case.

    Raises:
        DatasetError: If there is no case to check, or `out` lies in the dataset.
        ConfigError: If a setting cannot be used.
    """
    if out is not None and lies_in(out, dataset.root):
        raise DatasetError(f"{out}: lies in the dataset, which is only read; take another folder")
    lines = read_baseline(baseline) if baseline else ()
    rules = settings.rules()
    settings.plausible()
    chosen = chosen_cases(dataset, split, cases)
    tables = tuple(table_faults(dataset.root))
    tabled = bool(metadata_tables(dataset.root)) and not any(
        fault.severity is Severity.ERROR and not fault.case_id for fault in tables
    )
    with tempfile.TemporaryDirectory() as scratch:
        store = RecordStore(out if out is not None else Path(scratch))
        summary = run_cases(
            check_case,
            [_job(case, dataset, settings, tabled) for case in chosen],
            stage=STAGE,
            store=store,
            settings=settings.fingerprint(),
            workers=workers,
            progress=progress,
        )
    found = [Finding.of_row(row) for r in summary.records for row in r.data.get("findings", ())]
    partial = split is not None or cases is not None
    measured = [Measured.of_row(r.data["measured"]) for r in summary.records if r.data]
    cohort = Cohort(tuple(measured), dataset.metadata, partial, _listed(dataset), tables)
    found += apply_rules(rules, (Scope.DATASET,), "", cohort, settings)
    checked = {case.case_id for case in chosen} if partial else None
    marked, outdated = mark_accepted(worst_first(found), lines, checked=checked)
    result = CheckResult(tuple(marked), summary, tuple(outdated))
    if out is not None:
        _write(result, dataset, chosen, settings, out, pictures)
    return result


def lies_in(folder: Path, root: Path) -> bool:
    """Whether a folder, there or not, is another one or inside of it."""
    return Path(folder).resolve().is_relative_to(Path(root).resolve())


def check_case(job: Job) -> dict[str, Any]:
    """Findings and numbers of one case; what cannot be read is a finding too."""
    findings, measured = check_files(job.payload)
    return {"findings": [f.row() for f in findings], "measured": measured.row()}


def chosen_cases(dataset: Dataset, split: str | None, cases: Sequence[str] | None) -> list[Case]:
    """Cases of a split, or of both, that are asked for.

    Raises:
        DatasetError: If one that is asked for is not there, or there is none at all.
    """
    found = dataset.cases(split)
    if cases is not None:
        missing = sorted(set(cases) - {c.case_id for c in found})
        if missing:
            raise DatasetError(f"{dataset.root}: no case {', '.join(missing[:5])}")
        found = [c for c in found if c.case_id in set(cases)]
    if not found:
        where = f"{dataset.root}, split {split}" if split else f"{dataset.root}"
        raise DatasetError(f"{where}: no cases to check")
    return found


def _listed(dataset: Dataset) -> tuple[str, ...]:
    """What dataset.json calls annotated, be it a structure or not."""
    told = dataset.info.get("annotated") or ()
    return tuple(str(name) for name in (told if isinstance(told, list | tuple) else (told,)))


def _job(case: Case, dataset: Dataset, settings: CheckSettings, tabled: bool) -> Job:
    labels = case.labels()
    row = dataset.metadata.get(case.case_id, {})
    expected = tuple(s for s in _listed(dataset) if s in STRUCTURES)
    task = CaseTask(case, row, tabled, expected, settings)
    second = [p for paths in beside(case, labels).values() for p in paths] if labels else []
    inputs = (case.image_path, *(labels.paths if labels else ()), *second)
    names = [path.name for path in unknown_masks(case, labels)]
    return Job(case.case_id, task, inputs, settings=[row, sorted(expected), tabled, names])


def _write(
    result: CheckResult,
    dataset: Dataset,
    cases: Sequence[Case],
    settings: CheckSettings,
    out: Path,
    pictures: int,
) -> None:
    rows = [f.row() for f in result.findings]
    write_table(out / "findings", rows, columns=COLUMNS)
    write_json(out / "findings.json", {"counts": result.counts, "findings": rows})
    from pantskit.check.page import write_page
    from pantskit.check.pictures import draw_findings

    drawn = draw_findings(result.open, cases, out, limit=pictures, changed=result.run.ran)
    write_page(out, result, dataset, settings, drawn)
