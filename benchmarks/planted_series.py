"""Faults of series of slices, of windows, of scales and of tables."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
from planted_arrays import DOWN
from planted_case import EVERYTHING, Planting
from planted_content import HOUNSFIELD, TABLE
from planted_files import respaced
from planted_kind import kind
from planted_masks import OF_THE_CT
from planted_scans import MILLIMETRES

EVERY_SLICE = "The CT has every slice once."


def middle_of_liver(case: Planting) -> int:
    """The slice in the middle of the liver."""
    return int(np.median(np.flatnonzero(case.mask("liver").any(axis=(0, 1)))))


# Slices


@kind("slices-filled-in", EVERY_SLICE, structures=EVERYTHING, levels=(5, 2, 1))
def slices_filled_in(case: Planting, count: int) -> None:
    """So many slices of the CT were lost, and are copies of the one above."""
    start = middle_of_liver(case)
    case.ct[:, :, start : start + count] = case.ct[:, :, start - 1 : start]


@kind(
    "slices-of-one-value",
    EVERY_SLICE,
    structures=EVERYTHING,
    levels=("three of 0 HU", "one of 0 HU", "half of one of -1000 HU"),
)
def slices_of_one_value(case: Planting, how: str) -> None:
    """Lost, and filled with a value."""
    start, rows = middle_of_liver(case), case.ct.shape[0]
    if how.startswith("half"):
        case.ct[: rows // 2, :, start] = -1000
    else:
        case.ct[:, :, start : start + (3 if how.startswith("three") else 1)] = 0


@kind(
    "slices-lost-from-scan-and-masks",
    EVERY_SLICE,
    structures=EVERYTHING,
    levels=(12, 6, 3, 1),
    below={1: "the step is as long as between any two slices, twice"},
)
def slices_lost(case: Planting, count: int) -> None:
    """So many slices in the middle of the liver are in neither; what is below moved up."""
    start = middle_of_liver(case)
    whole = np.arange(case.ct.shape[DOWN])
    case.take_slices(np.delete(whole, slice(start, start + count)))


# Values


@kind(
    "window-saved",
    HOUNSFIELD,
    structures=EVERYTHING,
    levels=("-160 to 240", "-250 to 500", "-800 to 800"),
)
def window_saved(case: Planting, window: str) -> None:
    """What a display shows, in HU still."""
    low, high = (int(word) for word in window.split(" to "))
    case.ct = np.clip(case.ct, low, high)


@kind(
    "scale-wrong",
    MILLIMETRES,
    severity="error",
    structures=EVERYTHING,
    levels=(0.1, 3.0, 1.8, 0.6),
    on_disk=True,
)
def scale_wrong(case: Planting, factor: float) -> None:
    """In all directions, in all files and in the metadata."""
    respaced(case, np.array(case.spacing) * factor)


# Files and tables


@kind(
    "mask-under-no-known-name",
    OF_THE_CT,
    severity="info",
    structures=("spleen",),
    levels=("a slip in its name", "of another structure"),
    words=("spleeen", "ureter_left"),
    on_disk=True,
)
def mask_under_no_known_name(case: Planting, how: str) -> None:
    path = case.mask_path("spleen")
    if how == "a slip in its name":
        path.rename(case.mask_path("spleeen"))
    else:
        case.mask_path("ureter_left").write_bytes(path.read_bytes())


@kind(
    "tables-disagree",
    TABLE,
    structures=(),
    levels=("two rows, two phases", "one table corrected", "two rows, two ages"),
    words=("row", "rows", "table", "tables", "metadata.csv", "phase", "age", "age_years"),
    on_disk=True,
)
def tables_disagree(case: Planting, how: str) -> None:
    """The table has the case twice, or only one of its forms was edited."""
    path = case.root / "metadata.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    other: dict[str, Any] = dict(rows[0])
    if how == "two rows, two ages":
        other["age_years"] = str(int(float(other["age_years"] or 50)) + 7)
    else:
        other["phase"] = "arterial" if other["phase"] != "arterial" else "portal_venous"
    rows = [other] if how == "one table corrected" else [*rows, other]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@kind(
    "fields-left-empty",
    TABLE,
    severity="info",
    structures=(),
    levels=("phase, sex, lesions", "sex"),
    words=("phase", "sex", "lesions"),
    company=True,
)
def fields_left_empty(case: Planting, names: str) -> None:
    """In the table five other cases have them."""
    case.company(5)
    for name in names.split(", "):
        case.fields[name] = None
