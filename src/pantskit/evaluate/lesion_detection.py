"""How many tumours were found, at what price in false positives, over all cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.evaluate.case_scores import worst_value
from pantskit.evaluate.lesions import PICAI_IOU
from pantskit.evaluate.operating import patients_of, proportion
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.bootstrap import Floats
from pantskit.measure.curve_samples import Scored, average_precisions, sensitivities_at
from pantskit.measure.curves import Froc, froc_curve, precision_recall
from pantskit.measure.statistics import auc

Row = dict[str, Any]

# False positives per scan at which the sensitivity is read off the curve: those of the usual
# FROC figure, and PANORAMA's low ones.
FALSE_POSITIVES = (1.0, 0.5, 0.25, 0.1, 0.01, 0.001, 0.0001)

# What candidates may be ranked by, columns of candidates.csv, the more telling first.
CONFIDENCES = {
    "probability": "the largest tumour probability in each",
    "volume_mm3": "their volume in mm3",
}


@dataclass(frozen=True)
class _Ranked:
    """All candidates by picai_eval's rule, beside the cases they belong to.

    Attributes:
        items: candidates that found a lesion, and false ones.
        lesions: (cases,) lesions of each.
        missed: (cases,) those that no candidate found.
        case_values: (cases,) largest confidence of each.
    """

    items: Scored
    lesions: NDArray[np.int64]
    missed: NDArray[np.int64]
    case_values: Floats


def summarize_lesions(
    cases: Sequence[Row],
    lesions: Sequence[Row],
    candidates: Sequence[Row],
    config: EvaluateConfig,
) -> tuple[dict[str, Any], Froc | None]:
    """Tumour sensitivity, FROC, and picai_eval's average precision, AUROC and score.

    A case without a usable prediction counts as the worst: its lesions are missed, and without
    lesions it counts as one false positive of the greatest confidence.

    Args:
        cases: rows of cases.csv.
        lesions: rows of lesions.csv, of annotated cases.
        candidates: rows of candidates.csv; of cases that are not annotated they do not count.
        config: the matching rule and the bootstrap.

    Returns:
        The summary's parts `sensitivity_tumor`, `false_positive_lesions`, `froc` and `picai`;
        and the FROC by picai_eval's rule, None without lesions or predicted tumours.
    """
    known = [c for c in cases if c["reference_tumor"] is not None]
    summary: dict[str, Any] = {
        "sensitivity_tumor": _sensitivity(known, lesions, config),
        "false_positive_lesions": _per_case(known, "false_positive_lesions"),
    }
    if not lesions or not any(_usable(c) for c in known):
        note = "needs annotated tumours and predicted tumour masks"
        return summary | {"froc": None, "picai": None, "froc_note": note}, None
    of_known = {c["case_id"] for c in known}
    counted = [row for row in candidates if row["case_id"] in of_known]
    complete = all(row["probability"] is not None for row in counted)
    by = "probability" if counted and complete else "volume_mm3"
    ranked = _rank(known, lesions, counted, by)
    curve = froc_curve(
        ranked.items.scores[ranked.items.positive],
        ranked.items.scores[~ranked.items.positive],
        lesions=len(lesions),
        scans=len(known),
    )
    rule = f"IoU >= {PICAI_IOU:g}, one candidate a lesion; candidates ranked by {CONFIDENCES[by]}"
    summary["froc"] = _froc(known, ranked, curve, config) | {"rule": rule}
    summary["picai"] = _picai(known, ranked, config) | {"rule": rule}
    return summary, curve


def _usable(case: Row) -> bool:
    """Whether a tumour mask, empty or not, is predicted for an annotated case."""
    return case["status"] == "scored" and case["lesions_prediction"] is not None


def _sensitivity(
    known: Sequence[Row], lesions: Sequence[Row], config: EvaluateConfig
) -> dict[str, Any]:
    """T-Sen; lesions of one patient are not independent, so that the bootstrap has its say."""
    place = {c["case_id"]: n for n, c in enumerate(known)}
    found, there = np.zeros((2, len(known), 1))
    for row in lesions:
        there[place[row["case_id"]]] += 1
        found[place[row["case_id"]]] += bool(row["hit"])
    boot = patients_of(known, config)
    ends = boot.interval(boot.ratios(found, there)[:, 0])
    return proportion(int(found.sum()), len(lesions)) | {
        "bootstrap": list(ends),
        "rule": config.hit_rule_is,
    }


def _rank(
    known: Sequence[Row], lesions: Sequence[Row], candidates: Sequence[Row], by: str
) -> _Ranked:
    place = {c["case_id"]: n for n, c in enumerate(known)}
    confidence = {(r["case_id"], r["candidate"]): float(r[by]) for r in candidates}
    there, missed = np.zeros((2, len(known)), dtype=np.int64)
    values = np.zeros(len(known))
    rows: list[tuple[bool, float, int]] = []
    for row in lesions:
        n = place[row["case_id"]]
        there[n] += 1
        if row["picai_found_by"]:
            rows.append((True, confidence[row["case_id"], row["picai_found_by"]], n))
        else:
            missed[n] += 1
    for row in candidates:
        n = place[row["case_id"]]
        own = confidence[row["case_id"], row["candidate"]]
        values[n] = max(values[n], own)
        if row["picai_false_positive"]:
            rows.append((False, own, n))
    for n, case in enumerate(known):
        if not _usable(case):
            values[n] = worst_value(case)
            if not case["reference_tumor"]:
                rows.append((False, math.inf, n))
    truth, scores, of_case = zip(*rows, strict=True) if rows else ((), (), ())
    return _Ranked(Scored.of(truth, scores, of_case), there, missed, values)


def _froc(
    known: Sequence[Row], ranked: _Ranked, curve: Froc, config: EvaluateConfig
) -> dict[str, Any]:
    boot = patients_of(known, config)
    samples = sensitivities_at(boot, ranked.items, ranked.lesions, FALSE_POSITIVES)
    ends = np.stack(boot.intervals(samples), axis=1).tolist()
    return {
        "lesions": int(ranked.lesions.sum()),
        "scans": len(known),
        "sensitivity_at_false_positives": {
            f"{rate:g}": {"value": curve.sensitivity_at(rate), "bootstrap": own}
            for rate, own in zip(FALSE_POSITIVES, ends, strict=True)
        },
    }


def _picai(known: Sequence[Row], ranked: _Ranked, config: EvaluateConfig) -> dict[str, Any]:
    """Average precision of lesions, AUROC of cases by their best candidate, and their mean."""
    boot = patients_of(known, config)
    ill = [bool(c["reference_tumor"]) for c in known]
    items, missed = ranked.items, ranked.missed
    ap = precision_recall(items.positive, items.scores, missed=int(missed.sum()))
    auroc = auc(ill, ranked.case_values)
    values: Mapping[str, tuple[float, Floats]] = {
        "average_precision": (ap.average_precision, average_precisions(boot, items, missed)),
        "auroc": (auroc, boot.auc(ill, ranked.case_values)),
    }
    both = [values["average_precision"], values["auroc"]]
    score = (sum(value for value, _ in both) / 2, sum(samples for _, samples in both) / 2)
    found: dict[str, Any] = {
        name: {"value": value, "bootstrap": list(boot.interval(np.asarray(samples)))}
        for name, (value, samples) in {**values, "score": score}.items()
    }
    return found | {"auroc_is": "cases ranked by their most confident candidate, 0 without any"}


def _per_case(cases: Sequence[Row], column: str) -> dict[str, Any]:
    counts = [c[column] for c in cases if c[column] is not None]
    return {
        "total": int(sum(counts)),
        "per_case": sum(counts) / len(counts) if counts else None,
        "cases": len(counts),
    }
