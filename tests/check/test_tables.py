"""Metadata tables as files: rows that come twice, missing columns, tables that disagree."""

from __future__ import annotations

import pytest
from blocks import faults

from pantskit.check.cohort import Cohort, Measured
from pantskit.check.tables import table_faults
from pantskit.core.dataset import Dataset

ROWS = [
    {"case_id": "case_1", "sex": "M", "age_years": 60, "shape": "(512, 512, 90)", "kvp": 120.0},
    {"case_id": "case_2", "sex": "F", "regions": ["abdomen", "pelvis"], "head_in_view": False},
]


def told(root):
    return [(f.case_id, f.message) for f in table_faults(root)]


def test_tables_that_we_write_are_one_table(tmp_path):
    assert told(tmp_path) == []
    Dataset.create(tmp_path).write_metadata(ROWS)
    assert told(tmp_path) == []


def test_second_row_of_a_case_is_told_with_what_differs(tmp_path):
    (tmp_path / "metadata.csv").write_text("case_id,sex,age\na,M,60\na,F,60\nb,M,1\nb,M,1\n")
    faults = table_faults(tmp_path)
    assert [(f.case_id, str(f.severity)) for f in faults] == [("a", "error"), ("b", "None")]
    assert "2 rows of it that differ in sex" in faults[0].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number,sex\n1,M\n", "no column case_id (its first are number, sex)"),
        ("PanTS ID,sex\na,M\n,F\n", "1 of the 2 rows of metadata.csv have no case_id"),
        ("BDMAP ID,sex\na,M \n", "1 of sex; who does not strip"),
    ],
)
def test_table_that_others_read_otherwise_is_told(tmp_path, text, message):
    (tmp_path / "metadata.csv").write_text("\ufeff" + text)
    ((case_id, found),) = told(tmp_path)
    assert case_id == ""
    assert message in found


def test_table_that_was_changed_alone_is_told_as_it_is_not_read(tmp_path):
    Dataset.create(tmp_path).write_metadata(ROWS)
    path = tmp_path / "metadata.csv"
    path.write_text(path.read_text().replace(",M,60", ",F,60"))
    ((_, found),) = told(tmp_path)
    assert "metadata.csv is not the same table as metadata.parquet" in found
    assert "1 rows differ (case_1 in sex)" in found
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    assert "1 rows differ" in told(tmp_path)[0][1]
    path.write_text("case_id\ncase_1\n")
    assert "1 cases are in one of them only (case_2)" in told(tmp_path)[0][1]


def test_workbook_that_cannot_be_read_is_told_beside_a_table_that_can(tmp_path):
    (tmp_path / "metadata.csv").write_text("case_id,sex\na,M\n")
    (tmp_path / "metadata.xlsx").write_bytes(b"no workbook")
    ((_, found),) = told(tmp_path)
    assert "not an Excel workbook; metadata.csv is read" in found


def test_rows_that_do_not_tell_what_others_do_are_counted_by_column():
    cases = tuple(Measured(name, "train") for name in "abc")
    rows = {"a": {"sex": "F", "phase": "arterial"}, "b": {"sex": None}, "c": {"sex": "unknown"}}
    found = [f.message for f in faults("metadata-gaps", Cohort(cases, rows | {"gone": {}}))]
    assert found == ["no phase in 2 of 3 rows: b, c", "no sex in 2 of 3 rows: b, c"]
