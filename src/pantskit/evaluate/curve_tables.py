"""The points of the curves as tables, for those who draw their own."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pantskit.core.files import write_text
from pantskit.evaluate.detection import Curves
from pantskit.measure.curves import Froc

Columns = dict[str, NDArray[np.float64]]


def write_curves(out: Path, curves: Curves | None, froc: Froc | None) -> None:
    """Write roc.csv, precision_recall.csv and froc.csv.

    The thresholds of a case without a usable prediction are infinite, `inf` and `-inf`. Where
    there is no curve now, table and picture of an earlier run are taken away.
    """
    tables: dict[str, Columns] = {"roc": {}, "precision_recall": {}, "froc": {}}
    if curves is not None:
        tables["roc"] = {
            "threshold": curves.roc.thresholds,
            "sensitivity": curves.roc.sensitivity,
            "specificity": 1 - curves.roc.false_positive_rate,
            "false_positive_rate": curves.roc.false_positive_rate,
        }
        tables["precision_recall"] = {
            "threshold": curves.precision_recall.thresholds,
            "precision": curves.precision_recall.precision,
            "recall": curves.precision_recall.recall,
        }
    if froc is not None:
        tables["froc"] = {
            "threshold": froc.thresholds,
            "sensitivity": froc.sensitivity,
            "false_positives_per_scan": froc.false_positives,
        }
    for name, columns in tables.items():
        (out / f"{name}.png").unlink(missing_ok=True)
        (out / f"{name}.csv").unlink(missing_ok=True)
        if columns:
            _write(out / f"{name}.csv", columns)


def _write(path: Path, columns: Columns) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(c.tolist() for c in columns.values()), strict=True))
    write_text(path, text.getvalue())
