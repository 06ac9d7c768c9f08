"""Workbooks that a spreadsheet program, here openpyxl, reads as they were meant."""

from __future__ import annotations

import math

import openpyxl

from pantskit.core.dataset import METADATA_COLUMNS, Dataset
from pantskit.core.records import read_table
from pantskit.core.workbook import write_workbook


def test_cells_come_back_with_their_types(tmp_path):
    columns = ["text", "number", "flag", "nothing"]
    rows = [
        ['a < b & "c"', 1.5, True, None],
        ["  ends in space ", 42, False, math.nan],
        ["=1+1", -3, None, "平扫\x07ł"],
        ["007", 1e-7, True, (1, 2)],
    ]
    write_workbook(tmp_path / "t.xlsx", columns, rows)
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    assert [c.value for c in sheet[1]] == columns
    assert [c.value for c in sheet[2]] == ['a < b & "c"', 1.5, True, None]
    assert [c.value for c in sheet[3]] == ["  ends in space ", 42, False, None]
    assert [c.value for c in sheet[4]] == ["=1+1", -3, None, "平扫ł"]
    assert sheet["A4"].data_type == "s"  # text, not a formula
    assert [c.value for c in sheet[5]] == ["007", 1e-7, True, "(1, 2)"]


def test_same_table_gives_the_same_bytes(tmp_path):
    for name in ("a.xlsx", "b.xlsx"):
        write_workbook(tmp_path / name, ["x"], [[1], ["y"]])
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()


def test_metadata_is_written_as_a_workbook_too(tmp_path):
    dataset = Dataset.create(tmp_path / "D")
    dataset.write_metadata([{"case_id": "b", "sex": "F"}, {"case_id": "a", "head_in_view": True}])
    rows = read_table(tmp_path / "D" / "metadata.xlsx")
    assert [row["case_id"] for row in rows] == ["a", "b"]
    assert tuple(rows[0]) == METADATA_COLUMNS
    assert rows[0]["head_in_view"] is True
    assert read_table(tmp_path / "D" / "metadata.parquet") == rows
