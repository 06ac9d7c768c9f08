"""Facts of patients from the tables that come with a dataset.

A declaration's `[table]` names the file (a pattern), the column with the ID, which group of the
file names that ID is, and which column of ours each column fills.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.records import read_table
from pantskit.ingest.facts.describe import capped_age, sex_of
from pantskit.ingest.sources.layouts import FoundCase, compile_pattern

_OURS = ("sex", "age_years", "manufacturer", "model", "kvp", "study_type", "diagnosis", "site")


def read_facts(
    table: Mapping[str, Any], files: Iterable[Path], cases: Iterable[FoundCase]
) -> dict[str, dict[str, Any]]:
    """Case ID to its facts; those of which the tables say nothing are missing.

    Args:
        table: the declaration's entry; `{}` for a dataset without one.
        files: all files of the dataset.
        cases: its cases.

    Raises:
        DatasetError: If the table is there and cannot be read.
    """
    if not table:
        return {}
    pattern = compile_pattern(str(table["file"]))
    path = next((f for f in files if pattern.search(f.as_posix())), None)
    if path is None:
        return {}
    if table.get("release"):
        rows = Dataset(path.parent, {}).metadata
        return {c.case_id: dict(rows[c.case_id]) for c in cases if c.case_id in rows}
    by_id = {_key(row.get(str(table["id"]))): row for row in _rows(path)}
    columns = {str(ours): str(theirs) for ours, theirs in table.get("columns", {}).items()}
    group = str(table.get("group", "id"))
    found = {c.case_id: by_id.get(_key(c.groups.get(group))) for c in cases}
    return {c: _facts(row, columns) for c, row in found.items() if row}


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() != ".csv":
        return read_table(path)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: table cannot be read: {error}") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def _key(value: Any) -> str:
    """An ID for comparison: without zeros in front, which spreadsheets take away."""
    return str("" if value is None else value).strip().lower().lstrip("0")


def _facts(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for ours, theirs in columns.items():
        value = row.get(theirs)
        if ours not in _OURS or value in (None, ""):
            continue
        if ours == "sex":
            facts[ours] = sex_of(str(value))
        elif ours == "age_years":
            facts[ours] = _age(value)
        else:
            facts[ours] = value
    return {name: value for name, value in facts.items() if value is not None}


def _age(value: Any) -> int | None:
    digits = str(value).strip().rstrip("Yy")
    try:
        return capped_age(float(digits))
    except ValueError:
        return None
