from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openpyxl
import polars as pl
import pytest

from pantskit import __version__
from pantskit.core.errors import DatasetError
from pantskit.core.records import CaseRecord, RecordStore, flat_record, read_table, write_table


def record(case_id: str = "c1", **values: object) -> CaseRecord:
    return CaseRecord(case_id, "score", "done", **values)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    written = record(
        fingerprint="ab", outputs=("a.nii.gz",), seconds=1.5, data={"dsc": 0.5, "names": ["liver"]}
    )
    store.write(written)
    assert store.read("score", "c1") == written
    assert store.path("score", "c1") == tmp_path / ".pantskit" / "records" / "score" / "c1.json"
    assert written.versions["pantskit"] == __version__


def test_no_number_is_null_in_a_record(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.write(record(data={"dsc": float("nan"), "n": np.int64(3)}))
    again = store.read("score", "c1")
    assert again is not None
    assert again.data == {"dsc": None, "n": 3}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '"x"', "null", '{"case_id": "c1"}', '{"outputs": 3}', "\xff\xfe"],
)
def test_a_record_that_cannot_be_read_is_none_and_the_case_runs_again(
    text: str, tmp_path: Path
) -> None:
    store = RecordStore(tmp_path)
    store.write(record())
    store.path("score", "c1").write_text(text, "latin-1")
    assert store.read("score", "c1") is None
    assert list(store.all("score")) == []


def test_a_record_with_fields_of_a_later_version_is_none(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.write(record())
    values = json.loads(store.path("score", "c1").read_text())
    store.path("score", "c1").write_text(json.dumps(values | {"later": 1}))
    assert store.read("score", "c1") is None


def test_records_come_by_case_id_without_temporary_files(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for case_id in ("c2", "c10", "c1", "with.dot"):
        store.write(record(case_id))
    (store.folder / "score" / ".pantskit-part-x-c3.json").write_text("{}")
    assert [r.case_id for r in store.all("score")] == ["c1", "c10", "c2", "with.dot"]
    assert list(store.all("other")) == []
    assert store.stages() == ("score",)


def test_clearing_a_stage_forgets_it(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.write(record())
    store.clear("score")
    assert store.read("score", "c1") is None
    store.clear("score")


def test_records_compact_to_a_table(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.write(record("c1", data={"dsc": 0.5, "spacing": [1, 2]}))
    store.write(CaseRecord("c2", "score", "failed", "c2: bad, very"))
    store.compact("score", tmp_path / "out" / "table.v1")
    for suffix in ("parquet", "csv"):
        rows = read_table(tmp_path / "out" / f"table.v1.{suffix}")
        assert [r["case_id"] for r in rows] == ["c1", "c2"]
        assert [r["status"] for r in rows] == ["done", "failed"]
        assert [r["dsc"] for r in rows] == [0.5, None]
        assert rows[1]["message"] == "c2: bad, very"
        assert rows[0]["spacing"] == "[1, 2]"
        assert rows[0]["version"] == __version__


def test_data_never_hides_a_records_own_fields() -> None:
    row = flat_record(record(data={"status": "wrong", "dsc": 1.0}))
    assert row["status"] == "done"
    assert row["dsc"] == 1.0


def test_a_table_of_no_rows_has_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [], columns=("case_id", "dsc"))
    assert pl.read_parquet(tmp_path / "t.parquet").columns == ["case_id", "dsc"]
    assert (tmp_path / "t.csv").read_text() == "case_id,dsc\n"


def test_tables_hold_what_rows_hold(tmp_path: Path) -> None:
    rows = [
        {"case_id": "a", "x": np.float32(0.5), "n": float("nan"), "list": (1, 2), "mixed": 1},
        {"case_id": "b", "x": 2, "list": None, "mixed": "two", "more": True},
    ]
    write_table(tmp_path / "t", rows, columns=("case_id", "first"))
    found = read_table(tmp_path / "t.parquet")
    assert list(found[0]) == ["case_id", "first", "x", "n", "list", "mixed", "more"]
    assert found[0] == {
        "case_id": "a",
        "first": None,
        "x": 0.5,
        "n": None,
        "list": [1, 2],
        "mixed": "1",
        "more": None,
    }
    assert found[1]["mixed"] == "two"
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[1] == 'a,,0.5,,"[1, 2]",1,'


def test_ids_keep_their_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("case_id,Patient ID,age\n007,0012,61\n")
    assert read_table(tmp_path / "t.csv") == [{"case_id": "007", "Patient ID": "0012", "age": 61}]


def test_an_excel_table_is_read_without_the_empty_cells_beside_it(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["PanTS ID ", "age", None, None])
    sheet.append(["PanTS_00000001", 66, None, None])
    sheet.append(["PanTS_00000002", None, None, None])
    book.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx") == [
        {"PanTS ID": "PanTS_00000001", "age": 66},
        {"PanTS ID": "PanTS_00000002", "age": None},
    ]


@pytest.mark.parametrize("name", ["t.parquet", "t.xlsx", "t.csv"])
@pytest.mark.parametrize("text", ["", 'a,b\n1,2,3\n"'])
def test_a_table_that_is_none_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=rf"{name}: table cannot be read: ."):
        read_table(tmp_path / name)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    for name in ("t.parquet", "t.csv", "t.xlsx"):
        with pytest.raises(DatasetError, match="table cannot be read"):
            read_table(tmp_path / name)
