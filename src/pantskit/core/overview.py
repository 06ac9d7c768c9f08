"""What a folder of ours holds and what became of its cases, from its records."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pantskit.core.dataset import SPLITS, Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.records import RecordStore


def overview(folder: Path) -> dict[str, Any]:
    """Counts of a dataset and of the records of every stage that wrote here.

    Args:
        folder: a dataset (ours or the public release's), a model, predictions, scores, or the
            folder of a check.

    Returns:
        `folder`; `dataset` (name, label_space, annotated, cases by split, patients), None where
        it is none; `model` (structures, status, cases, epochs, spacing), likewise; `stages`:
        stage to `counts` by status and `not_done` (case_id, status, message).

    Raises:
        DatasetError: If there is no such folder, or nothing of ours in it.
    """
    store = RecordStore(folder)
    stages = {stage: _stage(store, stage) for stage in store.stages()}
    model, dataset = _model(folder), None
    try:
        dataset = _dataset(Dataset.open(folder))
    except DatasetError:
        if not stages and model is None:
            raise
    return {"folder": str(folder), "dataset": dataset, "model": model, "stages": stages}


def write_record_tables(folder: Path, out: Path) -> list[str]:
    """Write the records of every stage as `out/<stage>.parquet` and `out/<stage>.csv`.

    Returns:
        The stages.

    Raises:
        DatasetError: If the folder has no records.
    """
    store = RecordStore(folder)
    stages = list(store.stages())
    if not stages:
        raise DatasetError(f"{folder}: has no records; it was not written by a stage of pantskit")
    for stage in stages:
        store.compact(stage, out / stage)
    return stages


def _stage(store: RecordStore, stage: str) -> dict[str, Any]:
    records = list(store.all(stage))
    return {
        "counts": dict(Counter(r.status for r in records)),
        "not_done": [
            {"case_id": r.case_id, "status": r.status, "message": r.message}
            for r in records
            if r.status in ("failed", "quarantined")
        ],
    }


def _model(folder: Path) -> dict[str, Any] | None:
    try:
        info = json.loads((folder / "model.json").read_text("utf-8"))
        training = info["training"]
        return {
            "structures": list(info["channels"].values()),
            "status": info["status"],
            "cases": len(training["cases"]),
            "epochs": training["epochs"],
            "spacing": info["spacing"],
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{folder}: model.json cannot be read: {error}") from None


def _dataset(dataset: Dataset) -> dict[str, Any]:
    patients = {row.get("patient_id") for row in dataset.metadata.values()} - {None}
    return {
        "name": dataset.info.get("name", dataset.root.name),
        "label_space": dataset.info.get("label_space"),
        "annotated": dataset.info.get("annotated"),
        "cases": {split: len(dataset.cases(split)) for split in SPLITS},
        "patients": len(patients) or None,
    }
