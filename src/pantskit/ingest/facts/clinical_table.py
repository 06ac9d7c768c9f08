"""Cells of a spreadsheet, whatever program and country it comes from."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from pantskit.core.errors import ConfigError

_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx")
_MOST_BYTES = 200 << 20
_LOOKED_AT = 1 << 16  # characters by which the mark between cells is told


Rows = list[list[str]]


def read_sheets(path: Path) -> list[Rows]:
    """Rows of text of a .csv or .tsv file, or of each sheet of a .xlsx file that has any.

    Returns:
        For each sheet its rows with the cells that they have; [] for a row without any.

    Raises:
        ConfigError: If it cannot be read. The message holds no cell.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"{path}: a clinical table is a .csv, .tsv or .xlsx file")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{path}: larger than a clinical table can be")
        if path.suffix.lower() == ".xlsx":
            sheets = _read_workbook(path)
        else:
            sheets = [_read_text(_decoded(path.read_bytes()), path.suffix.lower())]
    except OSError as error:
        raise ConfigError(f"{path}: the clinical table cannot be read: {error.strerror}") from None
    except (csv.Error, BadZipFile, KeyError, ValueError) as error:
        kind = type(error).__name__
        raise ConfigError(f"{path}: the clinical table cannot be read ({kind})") from None
    return [rows for rows in sheets if any(map(any, rows))]


def _decoded(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    if 0 in raw[:2]:  # without its mark: the first letter is a column's
        return raw.decode("utf-16-be" if raw[0] == 0 else "utf-16-le")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _read_text(text: str, suffix: str) -> Rows:
    told = re.match(r"sep=(.)\s*[\r\n]+", text)  # Excel's own first line
    body = text[told.end() :] if told else text
    mark = "\t" if suffix == ".tsv" else _mark(body)
    lines = io.StringIO(body, newline=None)  # old programs end a line with a carriage return
    rows = csv.reader(lines, delimiter=told[1] if told else mark)
    return [[]] * bool(told) + [row if any(row) else [] for row in rows]


def _mark(text: str) -> str:
    """What separates cells: as often in most lines; titles and remarks hold it now and then."""
    lines = re.sub(r'"[^"]*"', "", text[:_LOOKED_AT]).splitlines()[:100]

    def regular(mark: str) -> tuple[int, int]:
        counts = Counter(line.count(mark) for line in lines if mark in line)
        return max(((many, count) for count, many in counts.items()), default=(0, 0))

    return max(";,\t|", key=regular)


def _read_workbook(path: Path) -> list[Rows]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except InvalidFileException:
        raise ValueError("not a workbook") from None
    sheets = [
        [[_cell(v) for v in row] for row in sheet.iter_rows(values_only=True)]
        for sheet in book.worksheets
    ]
    book.close()
    return sheets


def _cell(value: Any) -> str:
    """A cell as text: numbers without a decimal point of their own, dates as ISO."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.strftime("%Y-%m-%d")
    return str(value)
