"""Detection within groups of cases: by size and place of the tumour, phase, site, diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from pantskit.evaluate.case_scores import case_value
from pantskit.evaluate.operating import CONFIDENCE, OperatingPoint, proportion, tally_calls
from pantskit.measure.statistics import delong_auc

Row = dict[str, Any]

# By greatest dimension, as T1, T2 and T3 of PDAC are told apart (for other tumours these are
# sizes and no stages).
SIZES = (("<= 20 mm", 20.0), ("20-40 mm", 40.0), ("> 40 mm", float("inf")))

# Columns of cases.csv whose values make groups.
GROUPED_BY = ("phase", "site", "diagnosis", "sex", "manufacturer")
UNKNOWN = "unknown"


def size_group(longest_axis_mm: float | None) -> str | None:
    """The group of a tumour's greatest dimension; None where there is no tumour."""
    if longest_axis_mm is None:
        return None
    return next(name for name, limit in SIZES if longest_axis_mm <= limit)


def summarize_strata(
    cases: Sequence[Row], lesions: Sequence[Row], score: str | None, point: OperatingPoint | None
) -> dict[str, Any]:
    """Detection in each group.

    Size and place are the tumour's, so these groups have sensitivities, of patients by their
    largest tumour and of tumours by their own, and an AUC against all normal cases. Other
    groups have specificity too, and an AUC where they hold cases of both kinds. Cases of which
    a column says nothing are its group `unknown`, if it says something of others.

    Args:
        cases: rows of cases.csv.
        lesions: rows of lesions.csv.
        score: column that ranks the cases, or None.
        point: how cases are called positive, or None.
    """
    known = [c for c in cases if c["reference_tumor"] is not None]
    ill = [c for c in known if c["reference_tumor"]]
    well = [c for c in known if not c["reference_tumor"]]
    strata: dict[str, Any] = {}
    of_tumors: dict[str, tuple[Callable[[Row], Any], Callable[[Row], Any]]] = {
        "tumor_size": (
            lambda c: size_group(c["largest_lesion_mm"]),
            lambda r: size_group(r["longest_axis_mm"]),
        ),
        "tumor_location": (lambda c: c["location"], lambda r: r["location"]),
    }
    for name, (of_case, of_lesion) in of_tumors.items():
        groups, parts = _grouped(ill, of_case), _grouped(lesions, of_lesion)
        strata[name] = {
            group: _of_tumors(groups.get(group, []), well, parts.get(group, []), score, point)
            for group in _ordered({*groups, *parts})
        }
    for column in GROUPED_BY:
        groups = _grouped(known, itemgetter(column))
        value_of = {c["case_id"]: c[column] for c in known}
        parts = _grouped(lesions, _of_its_case(value_of))
        strata[column] = {
            group: _of_cases(groups[group], parts.get(group, []), score, point)
            for group in _ordered(groups)
        }
    return {name: groups for name, groups in strata.items() if groups}


def _grouped(rows: Sequence[Row], key: Callable[[Row], Any]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        value = key(row)
        groups.setdefault(UNKNOWN if value in (None, "") else str(value), []).append(row)
    return groups


def _of_its_case(values: Mapping[str, Any]) -> Callable[[Row], Any]:
    return lambda lesion: values[lesion["case_id"]]


def _ordered(groups: Iterable[str]) -> list[str]:
    """Sizes in their order, others by name, the unknown last; alone it makes no group."""
    names = set(groups)
    sizes = [name for name, _ in SIZES if name in names]
    named = sizes or sorted(names - {UNKNOWN})
    return [*named, *([UNKNOWN] if named and UNKNOWN in names else [])]


def _of_tumors(
    ill: Sequence[Row],
    well: Sequence[Row],
    lesions: Sequence[Row],
    score: str | None,
    point: OperatingPoint | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {"tumor_cases": len(ill), "sensitivity_tumor": _hits(lesions)}
    if point is not None:
        found["sensitivity_patient"] = tally_calls(ill, point)["sensitivity_patient"]
    return found | _auc([*ill, *well], score)


def _of_cases(
    cases: Sequence[Row], lesions: Sequence[Row], score: str | None, point: OperatingPoint | None
) -> dict[str, Any]:
    ill = sum(bool(c["reference_tumor"]) for c in cases)
    found: dict[str, Any] = {"tumor_cases": ill, "normal_cases": len(cases) - ill}
    found["sensitivity_tumor"] = _hits(lesions)
    if point is not None:
        tally = tally_calls(cases, point)
        found |= {name: tally[name] for name in ("sensitivity_patient", "specificity")}
    return found | _auc(cases, score)


def _hits(lesions: Sequence[Row]) -> dict[str, Any]:
    return proportion(sum(bool(r["hit"]) for r in lesions), len(lesions))


def _auc(cases: Sequence[Row], score: str | None) -> Row:
    """AUC with DeLong's interval; nothing without cases of both kinds."""
    truth = [bool(c["reference_tumor"]) for c in cases]
    if score is None or not 0 < sum(truth) < len(truth):
        return {}
    found = delong_auc(truth, [case_value(c, score) for c in cases], confidence=CONFIDENCE)
    return {"auc": {"value": found.value, "delong": [found.low, found.high]}}
