"""The tables of a dataset, and the last look for identifying values in them and in records."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pantskit.core.dataset import SPLITS, Dataset
from pantskit.core.errors import PantskitError
from pantskit.core.labels import STRUCTURES
from pantskit.core.records import CaseRecord
from pantskit.core.run import RunSummary
from pantskit.ingest.case import STAGE, leak_scan, remove_outputs
from pantskit.ingest.facts.clinical import Clinical
from pantskit.ingest.plan import CasePlan
from pantskit.ingest.privacy.audit import dataset_statement
from pantskit.ingest.privacy.deidentify import days_since_first
from pantskit.ingest.privacy.leaks import Leak, LeakScan, explain, identifiers_of_run

DAYS = "days_since_first_study"


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


def fail_leaks(
    dataset: Dataset,
    run: RunSummary,
    plans: Mapping[str, CasePlan],
    clinical: Clinical | None = None,
) -> RunSummary:
    """Scan records, rows and tables as they were written; a leak takes its case away.

    A case was scanned for its own patient's values when it was made; here each row is scanned for
    those of all patients of the run.

    Args:
        dataset: its tables have been written.
        run: the records.
        plans: of its cases.
        clinical: the table whose values must not come out either.

    Returns:
        The run with the records of the cases that leaked failed; earlier cases whose rows hold
        a value of this run are added to it.

    Raises:
        PantskitError: If a table leaks though no row does; it is removed.
    """
    records = {record.case_id: record for record in run.records}
    withdraw = _Withdrawal(dataset, plans, records)
    for record in run.records:
        scan = leak_scan(plans[record.case_id])
        leaks = scan.value(asdict(record), "record") if record.case_id in run.ran else []
        leaks += scan.value(dataset.metadata.get(record.case_id, {}), "metadata")
        if leaks:
            withdraw.case(record.case_id, leaks)
    if withdraw.count:
        write_tables(dataset)
    while True:
        scan = _scan_of_run(dataset, plans, clinical)
        leaking = {path: leaks for path in _tables(dataset) if (leaks := scan.file(path))}
        if not leaking:
            return replace(run, records=tuple(records.values()))
        before = withdraw.count
        for case_id, row in dataset.metadata.items():
            if leaks := scan.value(row, "metadata"):
                withdraw.case(case_id, leaks)
        if withdraw.count == before:
            break
        write_tables(dataset)
    for path in leaking:
        path.unlink()
    every = [leak for leaks in leaking.values() for leak in leaks]
    raise PantskitError(f"{explain(every)}; the table was removed")


@dataclass
class _Withdrawal:
    """Takes cases back that leaked.

    Attributes:
        dataset: that they are in.
        plans: of the cases of this run.
        records: of the run; those of the cases become failed.
        count: cases so far.
    """

    dataset: Dataset
    plans: Mapping[str, CasePlan]
    records: dict[str, CaseRecord]
    count: int = 0

    def case(self, case_id: str, leaks: list[Leak]) -> None:
        """Fail a case and take its files away; what has no record of ours stays as it is."""
        record = self.records.get(case_id) or self.dataset.records.read(STAGE, case_id)
        if record is None:
            return
        if case_id in self.plans:
            remove_outputs(self.plans[case_id])
        else:
            self._remove_earlier(case_id)
        message = f"{case_id}: {explain(leaks)}; nothing of the case was kept"
        record = replace(record, status="failed", message=message, data={}, outputs=())
        self.dataset.records.write(record)
        self.records[case_id] = record
        self.count += 1

    def _remove_earlier(self, case_id: str) -> None:
        """The files of a case of an earlier run."""
        for split in SPLITS:
            shutil.rmtree(self.dataset.image_path(case_id, split).parent, ignore_errors=True)
            shutil.rmtree(self.dataset.labels_path(case_id, split), ignore_errors=True)
        self.dataset.records.path("labels", case_id).unlink(missing_ok=True)


def _scan_of_run(
    dataset: Dataset, plans: Mapping[str, CasePlan], clinical: Clinical | None
) -> LeakScan:
    """A scan for the values of all patients of a run."""
    identifiers = identifiers_of_run(plan.identifiers for plan in plans.values())
    if clinical is not None:
        identifiers = {**clinical.identifiers, **identifiers}
    rows = [value for row in dataset.metadata.values() for value in row.values()]
    given = [str(dataset.info[key]) for key in ("name", "label_space")]
    words = [*given, *{plan.site for plan in plans.values()}, *STRUCTURES]
    return LeakScan(identifiers, own_words=words, facts=map(str, rows))


def _tables(dataset: Dataset) -> Iterator[Path]:
    return (path for path in sorted(dataset.root.glob("*.*")) if path.is_file())
