"""What a dataset on disk holds: cases, structures, tumours, and who they come from."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pantskit.core.dataset import SPLITS, Case, Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.labels import LESION, STRUCTURES, Annotation
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import read_header

STAGE = "count"

# Words that tables have where nothing is known.
_MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown", "?", "-"})
# A number of sites in place of their names, as the release has it.
_NUMBER_OF_SITES = re.compile(r"\d+ sites?", re.IGNORECASE)


@dataclass(frozen=True)
class Distinct:
    """Distinct values of a metadata column.

    Attributes:
        column: the column they were read from; "" where the table has none of those asked for.
        values: in alphabetical order, each as it is first written.
        missing: cases for which nothing is told.
    """

    column: str = ""
    values: tuple[str, ...] = ()
    missing: int = 0

    @property
    def number(self) -> int | None:
        """How many there are; None where nothing is told of any case."""
        return len(self.values) or None


@dataclass(frozen=True)
class Tumours:
    """In which cases there is a pancreatic tumour, and who says so.

    Attributes:
        drawn: cases whose tumour mask has a voxel.
        told: further cases without a tumour mask of which the metadata say that they have one.
        none_drawn: cases whose tumour mask is empty.
        told_none: further cases without a tumour mask of which the metadata say that there is none.
        unknown: cases of which nothing tells.
        only_told: cases with an empty mask though the metadata say tumour.
        only_drawn: cases with a drawn tumour though the metadata say none.
    """

    drawn: int = 0
    told: int = 0
    none_drawn: int = 0
    told_none: int = 0
    unknown: int = 0
    only_told: int = 0
    only_drawn: int = 0

    @property
    def positive(self) -> int | None:
        """Cases with a tumour; None where nothing tells of any case."""
        return self.drawn + self.told if self.known else None

    @property
    def known(self) -> int:
        """Cases of which it is known whether they have one."""
        return self.drawn + self.told + self.none_drawn + self.told_none


@dataclass(frozen=True)
class DatasetCounts:
    """A dataset, counted.

    Attributes:
        name: as its dataset.json or its folder is called.
        folder: where it is.
        case_ids: cases that could be read.
        unread: cases that could not, with the reason; they are counted nowhere else.
        by_split: cases by split.
        scans: cases with a CT.
        unlabelled: cases without any label.
        annotated: structure to the cases that have it annotated, empty ones included.
        tumours: see there.
        patients: of the metadata's `patient_id`.
        scans_as_patients: cases whose patient has the ID of the case: nobody told who it is.
        institutions, countries, manufacturers: likewise. Where an import did not know a site it
            wrote the name of the public dataset, which is no institution and counts as missing.
        without_metadata: cases without a row in the metadata.
        rows_without_files: rows of the metadata without a case.
    """

    name: str
    folder: Path
    case_ids: tuple[str, ...]
    unread: Mapping[str, str]
    by_split: Mapping[str, int]
    scans: int
    unlabelled: int
    annotated: Mapping[str, int]
    tumours: Tumours
    patients: Distinct
    scans_as_patients: int
    institutions: Distinct
    countries: Distinct
    manufacturers: Distinct
    without_metadata: int
    rows_without_files: int

    @property
    def cases(self) -> int:
        """Cases that could be read."""
        return len(self.case_ids)


def count_dataset(
    dataset: Dataset, *, workers: int = 1, progress: Progress | None = None
) -> tuple[DatasetCounts, RunSummary]:
    """Count what a dataset holds; it is only read.

    Headers of CTs, names of masks and the voxels of tumour masks are read, nothing else; a label
    map without masks is read whole.

    Args:
        dataset: ours, or the public release's folders.
        workers: processes; 0 counts in this one.
        progress: called after each case.

    Returns:
        The counts, and what became of each case.

    Raises:
        DatasetError: If it has no case, or its metadata cannot be read.
    """
    cases = dataset.cases()
    if not cases:
        raise DatasetError(f"{dataset.root}: is a dataset without any case")
    metadata = dataset.metadata
    with tempfile.TemporaryDirectory() as scratch:
        run = run_cases(
            count_case,
            [Job(case.case_id, payload=case) for case in cases],
            stage=STAGE,
            store=RecordStore(Path(scratch)),
            workers=workers,
            progress=progress,
        )
    found = {r.case_id: r.data for r in run.records if r.status == "done"}
    rows = {case_id: metadata.get(case_id, {}) for case_id in found}
    sources = _import_sources(dataset)
    return (
        DatasetCounts(
            name=_name(dataset),
            folder=dataset.root,
            case_ids=tuple(found),
            unread={r.case_id: r.message for r in run.records if r.status != "done"},
            by_split={
                s: sum(case.split == s and case.case_id in found for case in cases) for s in SPLITS
            },
            scans=sum(d["ct"] for d in found.values()),
            unlabelled=sum(not d["annotated"] for d in found.values()),
            annotated=_annotated(found.values()),
            tumours=_tumours(found, rows),
            patients=_distinct(rows.values(), ("patient_id",)),
            scans_as_patients=sum(str(row.get("patient_id")) == c for c, row in rows.items()),
            institutions=_distinct(
                rows.values(), ("site_detail", "site"), separators=";", none=sources
            ),
            countries=_distinct(rows.values(), ("nationality",), separators=";,/"),
            manufacturers=_distinct(rows.values(), ("manufacturer",)),
            without_metadata=sum(not row for row in rows.values()),
            rows_without_files=len(set(metadata) - {case.case_id for case in cases}),
        ),
        run,
    )


def count_case(job: Job) -> dict[str, Any]:
    """A task of `run_cases`: whether a case has a CT, what is annotated, and its tumour.

    Raises:
        ImageError, LabelError, GeometryError: If a file is not what it should be.
    """
    case: Case = job.payload
    has_ct = case.image_path.is_file()
    if has_ct:
        read_header(case.image_path)
    labels = case.labels()
    structures = labels.structures() if labels else ()
    lesion = labels.annotation(LESION) if labels and LESION in structures else Annotation.ABSENT
    return {"ct": has_ct, "annotated": list(structures), "lesion": lesion.value}


def shared_case_ids(counted: Sequence[DatasetCounts]) -> dict[tuple[str, str], int]:
    """Names of two datasets to the number of case IDs that both have; pairs with any."""
    found = {}
    for n, first in enumerate(counted):
        for second in counted[n + 1 :]:
            both = len(set(first.case_ids) & set(second.case_ids))
            if both:
                found[(first.name, second.name)] = both
    return found


def _name(dataset: Dataset) -> str:
    name = dataset.info.get("name")
    return name if isinstance(name, str) and name.strip() else dataset.root.resolve().name


def _import_sources(dataset: Dataset) -> frozenset[str]:
    """Names of the public datasets that cases were imported from."""
    told = (record.data.get("source") for record in dataset.records.all("import"))
    return frozenset(
        str(s["dataset"]).casefold() for s in told if isinstance(s, dict) and "dataset" in s
    )


def _annotated(found: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts = Counter(s for data in found for s in data["annotated"])
    return {s: counts[s] for s in STRUCTURES}


def _tumours(
    found: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]
) -> Tumours:
    counts: Counter[str] = Counter()
    for case_id, data in found.items():
        told = _number(rows[case_id].get("lesions"))
        if data["lesion"] == Annotation.PRESENT:
            counts["drawn"] += 1
            counts["only_drawn"] += told == 0
        elif data["lesion"] == Annotation.EMPTY:
            counts["none_drawn"] += 1
            counts["only_told"] += bool(told)
        elif told is None:
            counts["unknown"] += 1
        else:
            counts["told" if told else "told_none"] += 1
    return Tumours(**counts)


def _distinct(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    separators: str = "",
    none: frozenset[str] = frozenset(),
) -> Distinct:
    """Distinct values of the first of the columns that tells anything; those of `none` do not."""
    table = list(rows)
    for column in columns:
        told = [
            [v for v in _parts(row.get(column), separators) if v.casefold() not in none]
            for row in table
        ]
        first: dict[str, str] = {}
        for value in (v for values in told for v in values):
            first.setdefault(value.casefold(), value)
        if first:
            missing = sum(not values for values in told)
            return Distinct(column, tuple(sorted(first.values(), key=str.casefold)), missing)
    return Distinct(missing=len(table))


def _parts(value: Any, separators: str) -> list[str]:
    """The names in a cell of a table; none where it says that nothing is known."""
    texts = re.split(f"[{separators}]", str(value)) if separators else [str(value)]
    names = [" ".join(text.split()) for text in texts]
    return [
        name
        for name in names
        if name.casefold() not in _MISSING and not _NUMBER_OF_SITES.fullmatch(name)
    ]


def _number(value: Any) -> float | None:
    """A count of a table; None where there is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number >= 0 else None  # NaN is not
