"""The metadata tables as files: rows that come twice, rows of no case, copies that disagree."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from pantskit.check.findings import Fault, Severity
from pantskit.core.dataset import metadata_rows, metadata_tables
from pantskit.core.errors import DatasetError

Row = Mapping[str, Any]

# Tables are read by people, too: more than this many names are counted.
_NAMED = 3
# Columns that cases are found and counted by.
_CODED = {"case_id", "patient_id", "sex", "phase"}


def table_faults(root: Path) -> list[Fault]:
    """What is wrong with the metadata tables of a dataset.

    Args:
        root: of the dataset.

    Returns:
        Faults of cases and of tables as a whole; none where there is no table.
    """
    paths = metadata_tables(root)
    if not paths:
        return []
    rows = metadata_rows(paths[0])
    if rows and "case_id" not in rows[0]:
        names = ", ".join(list(rows[0])[:_NAMED])
        text = f"{paths[0].name} has no column case_id (its first are {names}): no row is used"
        return [Fault(text, severity=Severity.ERROR)]
    return [
        *_nameless(paths[0].name, rows),
        *_twice(paths[0].name, rows),
        *_spaces(paths[0]),
        *(fault for other in paths[1:] for fault in _unlike(paths[0].name, rows, other)),
    ]


def _nameless(name: str, rows: Sequence[Row]) -> Iterator[Fault]:
    lost = sum(not row.get("case_id") for row in rows)
    if lost:
        yield Fault(f"{lost} of the {len(rows)} rows of {name} have no case_id", value=lost)


def _twice(name: str, rows: Sequence[Row]) -> Iterator[Fault]:
    """Cases with more than one row; the last one is used."""
    by_case: dict[str, list[Row]] = defaultdict(list)
    for row in (r for r in rows if r.get("case_id")):
        by_case[str(row["case_id"])].append(row)
    for case_id, some in by_case.items():
        odd = sorted({c for row in some[1:] for c in _differing(some[0], row)})
        if len(some) > 1:
            text = f"{name} has {len(some)} rows of it"
            if odd:
                text = f"{text} that differ in {', '.join(odd[:_NAMED])}; the last one is used"
            severity = Severity.ERROR if odd else None
            yield Fault(text, value=len(some), severity=severity, case_id=case_id)


def _spaces(path: Path) -> Iterator[Fault]:
    """Cells that have spaces around their text: another program takes them for another word."""
    rows = metadata_rows(path, stripped=False)
    found = Counter(
        column
        for row in rows
        for column, value in row.items()
        if isinstance(value, str) and value != value.strip()
    )
    if found:
        cells = ", ".join(f"{n} of {column}" for column, n in found.most_common(_NAMED))
        text = f"cells of {path.name} with spaces around their text: {cells}"
        severity = None if _CODED & found.keys() else Severity.INFO
        yield Fault(f"{text}; who does not strip them counts another word", severity=severity)


def _unlike(name: str, rows: Sequence[Row], other: Path) -> Iterator[Fault]:
    """A second table that is not the one that is read."""
    try:
        second = metadata_rows(other)
    except DatasetError as error:
        yield Fault(f"{error}; {name} is read")
        return
    theirs = {str(row["case_id"]): row for row in second if row.get("case_id")}
    ours = {str(row["case_id"]): row for row in rows if row.get("case_id")}
    alone = sorted(ours.keys() ^ theirs.keys())
    odd = [c for c in ours if c in theirs and _differing(ours[c], theirs[c])]
    if not alone and not odd:
        return
    first = odd[0] if odd else alone[0]
    what = f"{len(odd)} rows differ" if odd else f"{len(alone)} cases are in one of them only"
    columns = f" in {', '.join(_differing(ours[first], theirs[first])[:_NAMED])}" if odd else ""
    yield Fault(
        f"{other.name} is not the same table as {name}, which is read: {what} ({first}{columns}); "
        "write both anew",
        value=len(odd) or len(alone),
    )


def _differing(a: Row, b: Row) -> list[str]:
    """Columns of both rows whose values are not the same."""
    return sorted(c for c in a.keys() & b.keys() if not _same(a[c], b[c]))


def _same(a: Any, b: Any) -> bool:
    """Whether two cells say one thing, as tables of different kinds write it."""
    a, b = _plain(a), _plain(b)
    if isinstance(a, float) and isinstance(b, float):
        return isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return bool(a == b)


def _plain(value: Any) -> Any:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        text = str(value).strip()
    # A list is one in a parquet file, JSON in a CSV, and Python's own text in a workbook.
    return re.findall(r"[\w.+-]+", text) if text[:1] in "[{(" else text.lower()
