"""Detection within groups of cases: by size and place of the tumour, phase, site, diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pantskit.evaluate.detection import OperatingPoint, case_value, proportion, tally_calls
from pantskit.measure.statistics import auc

Row = dict[str, Any]

# By greatest dimension, as T1, T2 and T3 of PDAC are told apart (for other tumours these are
# sizes and no stages).
SIZES = (("<= 20 mm", 20.0), ("20-40 mm", 40.0), ("> 40 mm", float("inf")))

# Columns of cases.csv whose values make groups.
GROUPED_BY = ("phase", "site", "diagnosis", "sex", "manufacturer")


def size_group(longest_axis_mm: float | None) -> str | None:
    """The group of a tumour's greatest dimension; None where there is no tumour."""
    if longest_axis_mm is None:
        return None
    return next(name for name, limit in SIZES if longest_axis_mm <= limit)


def summarize_strata(
    cases: Sequence[Row], lesions: Sequence[Row], score: str | None, point: OperatingPoint | None
) -> dict[str, Any]:
    """Detection in each group.

    Size and place are the tumour's, so these groups have sensitivities only, of patients by
    their largest tumour and of tumours by their own. Other groups have specificity and AUC
    too, where they hold cases of both kinds.

    Args:
        cases: rows of cases.csv.
        lesions: rows of lesions.csv.
        score: column that ranks the cases, or None.
        point: how cases are called positive, or None.
    """
    known = [c for c in cases if c["reference_tumor"] is not None]
    ill = [c for c in known if c["reference_tumor"]]
    by_tumor: tuple[tuple[str, Callable[[Row], Any], Callable[[Row], Any]], ...] = (
        (
            "tumor_size",
            lambda c: size_group(c["largest_lesion_mm"]),
            lambda r: size_group(r["longest_axis_mm"]),
        ),
        ("tumor_location", lambda c: c["location"], lambda r: r["location"]),
    )
    strata: dict[str, Any] = {}
    for name, of_case, of_lesion in by_tumor:
        groups = _ordered({of_case(c) for c in ill} | {of_lesion(r) for r in lesions})
        strata[name] = {
            group: _of_tumors(
                [c for c in ill if of_case(c) == group],
                [r for r in lesions if of_lesion(r) == group],
                point,
            )
            for group in groups
        }
    for column in GROUPED_BY:
        groups = _ordered({c.get(column) for c in known})
        strata[column] = {
            group: _of_cases([c for c in known if c.get(column) == group], score, point)
            for group in groups
        }
    return {name: groups for name, groups in strata.items() if groups}


def _ordered(groups: set[Any]) -> list[Any]:
    """Sizes in their order, others by name; what is not known makes no group."""
    sizes = [name for name, _ in SIZES if name in groups]
    return sizes or sorted((g for g in groups if g not in (None, "")), key=str)


def _of_tumors(
    cases: Sequence[Row], lesions: Sequence[Row], point: OperatingPoint | None
) -> dict[str, Any]:
    hits = sum(bool(r["hit"]) for r in lesions)
    found: dict[str, Any] = {"sensitivity_tumor": proportion(hits, len(lesions))}
    if point is not None:
        called = sum(point.calls(case_value(c, point.score)) for c in cases)
        found["sensitivity_patient"] = proportion(called, len(cases))
    return found


def _of_cases(
    cases: Sequence[Row], score: str | None, point: OperatingPoint | None
) -> dict[str, Any]:
    truth = [bool(c["reference_tumor"]) for c in cases]
    found: dict[str, Any] = {"tumor_cases": sum(truth), "normal_cases": len(truth) - sum(truth)}
    if point is not None:
        tally = tally_calls(cases, lambda case: point.calls(case_value(case, point.score)))
        found |= {name: tally[name] for name in ("sensitivity_patient", "specificity")}
    if score is not None and 0 < sum(truth) < len(truth):
        found["auc"] = auc(truth, [case_value(c, score) for c in cases])
    return found
