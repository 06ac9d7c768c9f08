"""Check every case of a dataset and write the findings as tables."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pantskit.check.findings import Finding, Severity
from pantskit.check.rules import RULES, Labelled
from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import DatasetError, PantskitError
from pantskit.core.files import write_json
from pantskit.core.geometry import STANDARD_ORIENTATION, require_same_grid
from pantskit.core.hounsfield import HU_RANGE, require_hounsfield
from pantskit.core.labels import LABEL_SPACES, PANTS
from pantskit.core.labelsets import CaseLabels, identify_label_space
from pantskit.core.records import RecordStore, write_table
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import Volume, read_label_map, read_volume

STAGE = "check"
COLUMNS = ("case_id", "severity", "rule", "structure", "message", "value")


@dataclass(frozen=True)
class CheckResult:
    """Findings of a dataset, worst first, and what became of each case."""

    findings: tuple[Finding, ...]
    run: RunSummary

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by severity."""
        found = Counter(str(f.severity) for f in self.findings)
        return {str(s): found.get(str(s), 0) for s in Severity}

    @property
    def exit_status(self) -> int:
        """1 when a finding is an error or a case could not be checked."""
        return 1 if self.counts["error"] or self.run.exit_status else 0


def check_dataset(
    dataset: Dataset,
    out: Path | None = None,
    *,
    split: str | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> CheckResult:
    """Apply every rule to every case; the dataset itself is never written to.

    Args:
        dataset: what to check.
        out: folder for findings.csv, findings.parquet, findings.json and the records that
            let a second run check only what changed; nothing is kept when None.
        split: `"train"` or `"test"`; both when None.
        workers: processes.
        progress: called after each case.

    Raises:
        DatasetError: If there is no case to check.
    """
    cases = dataset.cases(split)
    if not cases:
        where = f"{dataset.root}, split {split}" if split else f"{dataset.root}"
        raise DatasetError(f"{where}: no cases to check")
    with tempfile.TemporaryDirectory() as scratch:
        store = RecordStore(out if out is not None else Path(scratch))
        summary = run_cases(
            check_case,
            [_job(case, dataset) for case in cases],
            stage=STAGE,
            store=store,
            workers=workers,
            progress=progress,
        )
    found = [
        Finding(**row | {"severity": Severity(row["severity"])})
        for record in summary.records
        for row in record.data.get("findings", ())
    ]
    order = list(Severity)
    found.sort(key=lambda f: (order.index(f.severity), f.case_id, f.rule, f.structure))
    result = CheckResult(tuple(found), summary)
    if out is not None:
        rows = [f.row() for f in found]
        write_table(out / "findings", rows, columns=COLUMNS)
        write_json(out / "findings.json", {"counts": result.counts, "findings": rows})
    return result


def check_case(job: Job) -> dict[str, Any]:
    """Findings of one case; what cannot be read is a finding too."""
    case, metadata = job.payload
    return {"findings": [f.row() for f in _findings(case, metadata)]}


def _job(case: Case, dataset: Dataset) -> Job:
    labels = case.labels()
    inputs = (case.image_path, *(labels.paths if labels else ()))
    return Job(case.case_id, (case, dataset.metadata.get(case.case_id, {})), inputs)


def _findings(case: Case, metadata: dict[str, Any]) -> Iterator[Finding]:
    ct = None
    if not case.image_path.is_file():
        text = f"no {case.image_path.name}; content cannot be checked"
        yield Finding(case.case_id, "image-missing", Severity.WARNING, text)
    else:
        try:
            ct = read_volume(case.image_path)
        except PantskitError as error:
            yield Finding(case.case_id, "image", Severity.ERROR, str(error))
        else:
            yield from _image_findings(case, ct)
    labels = case.labels()
    if labels is None:
        yield Finding(case.case_id, "labels-missing", Severity.INFO, "nothing is annotated")
        return
    yield from _label_findings(case, labels, ct, metadata)


def _image_findings(case: Case, ct: Volume) -> Iterator[Finding]:
    for fault in ct.faults:
        yield Finding(case.case_id, "image-file", Severity.WARNING, fault)
    try:
        require_hounsfield(ct)
    except PantskitError as error:
        yield Finding(case.case_id, "image-values", Severity.ERROR, str(error))
        return
    low, high = float(ct.array.min()), float(ct.array.max())
    if low < HU_RANGE[0] or high > HU_RANGE[1]:
        text = f"HU from {low:g} to {high:g}; the standard clips to -1000 to 1000"
        yield Finding(case.case_id, "hu-range", Severity.WARNING, text, value=high)
    if low == high:
        text = f"every voxel of the CT is {low:g}"
        yield Finding(case.case_id, "image-values", Severity.ERROR, text, value=low)
    if ct.geometry.orientation != STANDARD_ORIENTATION:
        text = f"orientation {ct.geometry.orientation}; the standard is {STANDARD_ORIENTATION}"
        yield Finding(case.case_id, "orientation", Severity.INFO, text)


def _label_findings(
    case: Case, labels: CaseLabels, ct: Volume | None, metadata: dict[str, Any]
) -> Iterator[Finding]:
    try:
        masks = labels.masks()
        geometry = labels.geometry
    except PantskitError as error:
        yield Finding(case.case_id, "labels", Severity.ERROR, str(error))
        return
    yield from _file_findings(case, labels)
    yield from _combined_findings(case, labels, masks)
    array = None
    if ct is not None:
        try:
            require_same_grid(geometry, ct.geometry, what=f"{case.case_id}: labels and CT")
            array = ct.array
        except PantskitError as error:
            yield Finding(case.case_id, "grid", Severity.ERROR, str(error))
    labelled = Labelled(case.case_id, geometry, masks, array, metadata)
    for rule in RULES:
        yield from rule(labelled)


def _file_findings(case: Case, labels: CaseLabels) -> Iterator[Finding]:
    """What was odd in label files, once for all files with the same fault."""
    files: dict[str, list[str]] = {}
    for fault in labels.faults:
        name, _, text = fault.partition(": ")
        files.setdefault(text, []).append(name)
    for text, names in files.items():
        where = names[0] if len(names) == 1 else f"{len(names)} files ({names[0]}, ...)"
        yield Finding(case.case_id, "label-file", Severity.WARNING, f"{where}: {text}")


def _combined_findings(case: Case, labels: CaseLabels, masks: dict[str, Any]) -> Iterator[Finding]:
    """The combined map: on the masks' grid, with declared ids, telling what the masks tell."""
    if labels.map_path is None or not labels.mask_paths:
        return
    try:
        combined = read_label_map(labels.map_path)
    except PantskitError as error:
        yield Finding(case.case_id, "combined-map", Severity.ERROR, str(error))
        return
    for fault in combined.faults:
        yield Finding(case.case_id, "combined-file", Severity.WARNING, f"combined map: {fault}")
    what = f"{case.case_id}: combined map and masks"
    try:
        require_same_grid(combined.geometry, labels.geometry, what=what)
    except PantskitError as error:
        yield Finding(case.case_id, "combined-grid", Severity.ERROR, str(error))
        if combined.geometry.shape != labels.geometry.shape:
            return
    if not any(mask.any() for mask in masks.values()):
        return  # nothing to tell one numbering from another by
    declared = LABEL_SPACES.get(combined.label_space or "")
    found = identify_label_space(combined.array, masks)
    if found is None:
        text = "the combined map's ids match the masks under no known label space"
        yield Finding(case.case_id, "combined-ids", Severity.ERROR, text)
    elif declared is None and found is not PANTS:
        text = (
            f"the combined map declares no label space; by the masks its ids are {found.name}, "
            f"not the release README's ({found.id_of('pancreatic_lesion')} is the tumour)"
        )
        yield Finding(case.case_id, "combined-ids", Severity.ERROR, text)
    elif declared is not None and declared is not found:
        text = f"the combined map declares {declared.name}, its ids are {found.name}"
        yield Finding(case.case_id, "combined-ids", Severity.ERROR, text)
