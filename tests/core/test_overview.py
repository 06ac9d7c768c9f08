"""What a folder says of itself, from its records."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.files import write_json
from pantskit.core.overview import overview, write_record_tables
from pantskit.core.records import CaseRecord, RecordStore, read_table


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    made = Dataset.create(tmp_path / "data", name="ours")
    for case_id, split in (("a", "train"), ("b", "train"), ("c", "test")):
        made.image_path(case_id, split).parent.mkdir(parents=True)
    made.write_metadata({"case_id": c, "patient_id": p} for c, p in ("a1", "b1", "c2"))
    made.records.write(CaseRecord("a", "ingest", "done"))
    made.records.write(CaseRecord("b", "ingest", "done"))
    made.records.write(CaseRecord("x", "ingest", "quarantined", "x: a gap after slice 7"))
    return made.root


def test_cases_patients_and_stages_are_counted(dataset: Path) -> None:
    facts = overview(dataset)
    assert facts["dataset"]["cases"] == {"train": 2, "test": 1}
    assert facts["dataset"]["patients"] == 2
    assert facts["stages"]["ingest"]["counts"] == {"done": 2, "quarantined": 1}
    (case,) = facts["stages"]["ingest"]["not_done"]
    assert case == {"case_id": "x", "status": "quarantined", "message": "x: a gap after slice 7"}


def test_folder_with_records_alone_needs_no_dataset(tmp_path: Path) -> None:
    RecordStore(tmp_path).write(CaseRecord("a", "evaluate", "done"))
    facts = overview(tmp_path)
    assert facts["dataset"] is None
    assert facts["stages"] == {"evaluate": {"counts": {"done": 1}, "not_done": []}}


def test_folder_of_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a dataset"):
        overview(tmp_path)
    with pytest.raises(DatasetError, match="has no records"):
        write_record_tables(tmp_path, tmp_path / "out")


def test_records_become_a_table_a_stage(dataset: Path, tmp_path: Path) -> None:
    assert write_record_tables(dataset, tmp_path / "out") == ["ingest"]
    for suffix in ("parquet", "csv"):
        rows = read_table(tmp_path / "out" / f"ingest.{suffix}")
        assert [(r["case_id"], r["status"]) for r in rows] == [
            ("a", "done"),
            ("b", "done"),
            ("x", "quarantined"),
        ]


def test_model_says_what_it_knows_and_how_it_was_trained(tmp_path: Path) -> None:
    training = {"cases": {"a": {}, "b": {}}, "epochs": 12}
    info = {"channels": {"1": "liver"}, "status": "complete", "spacing": [7.5, 7.5, 7.5]}
    write_json(tmp_path / "model.json", info | {"training": training})
    assert overview(tmp_path)["model"] == {
        "structures": ["liver"],
        "status": "complete",
        "cases": 2,
        "epochs": 12,
        "spacing": [7.5, 7.5, 7.5],
    }
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(DatasetError, match=r"model\.json cannot be read"):
        overview(tmp_path)
