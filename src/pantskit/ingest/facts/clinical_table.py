"""Cells of a spreadsheet, whatever program and country it comes from."""

from __future__ import annotations

import csv
import datetime
import io
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from pantskit.core.errors import ConfigError

_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx")
_MOST_BYTES = 200 << 20


def read_cells(path: Path) -> list[list[str]]:
    """Rows of text of a .csv, .tsv or .xlsx file, from the first that has any.

    Returns:
        Rows with the cells that they have; [] for a row without any.

    Raises:
        ConfigError: If it cannot be read. The message holds no cell.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"{path}: a clinical table is a .csv, .tsv or .xlsx file")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{path}: larger than a clinical table can be")
        if path.suffix.lower() == ".xlsx":
            rows = _read_workbook(path)
        else:
            rows = _read_text(_decoded(path.read_bytes()), path.suffix.lower())
    except OSError as error:
        raise ConfigError(f"{path}: the clinical table cannot be read: {error.strerror}") from None
    except (csv.Error, BadZipFile, KeyError, ValueError) as error:
        kind = type(error).__name__
        raise ConfigError(f"{path}: the clinical table cannot be read ({kind})") from None
    first = next((n for n, row in enumerate(rows) if any(row)), len(rows))
    return rows[first:]


def _decoded(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _read_text(text: str, suffix: str) -> list[list[str]]:
    first = re.sub(r'"[^"]*"', "", text.lstrip().split("\n", 1)[0])
    mark = "\t" if suffix == ".tsv" else max(";,\t", key=first.count)
    return [row if any(row) else [] for row in csv.reader(io.StringIO(text), delimiter=mark)]


def _read_workbook(path: Path) -> list[list[str]]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except InvalidFileException:
        raise ValueError("not a workbook") from None
    rows = [[_cell(v) for v in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    book.close()
    return rows


def _cell(value: Any) -> str:
    """A cell as text: numbers without a decimal point of their own, dates as ISO."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.strftime("%Y-%m-%d")
    return str(value)
