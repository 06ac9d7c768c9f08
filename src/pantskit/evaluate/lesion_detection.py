"""How many tumours were found, at what price in false positives, over all cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pantskit.evaluate.detection import proportion
from pantskit.evaluate.lesions import PICAI_IOU
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.curves import Froc, froc_curve, precision_recall

Row = dict[str, Any]

# False positives per scan at which the sensitivity is read off the curve: those of the usual
# FROC figure, and PANORAMA's low ones.
FALSE_POSITIVES = (1.0, 0.5, 0.25, 0.1, 0.01, 0.001, 0.0001)


def summarize_lesions(
    cases: Sequence[Row],
    lesions: Sequence[Row],
    candidates: Sequence[Row],
    auroc: float | None,
    config: EvaluateConfig,
) -> tuple[dict[str, Any], Froc | None]:
    """Tumour sensitivity, FROC, and picai_eval's average precision and score.

    Args:
        cases: rows of cases.csv.
        lesions: rows of lesions.csv, of annotated cases; those of a case without a usable
            prediction are missed.
        candidates: rows of candidates.csv; of cases that are not annotated they do not count.
        auroc: AUC of the cases, for the score.
        config: the matching rule.

    Returns:
        The summary's parts `sensitivity_tumor`, `froc` and `picai`; and the FROC by
        picai_eval's rule, None without lesions or predicted tumours.
    """
    known = [c for c in cases if c["reference_tumor"] is not None]
    hits = sum(bool(row["hit"]) for row in lesions)
    summary: dict[str, Any] = {
        "sensitivity_tumor": proportion(hits, len(lesions)) | {"rule": config.hit_rule_is},
        "false_positive_lesions": _per_case(known, "false_positive_lesions"),
    }
    kinds = {row["confidence_is"] for row in candidates}
    predicted = [c for c in known if c["lesions_prediction"] is not None]
    if not lesions or not predicted or len(kinds) > 1:
        note = "needs tumours, predicted tumour masks, and one kind of confidence in all of them"
        return summary | {"froc": None, "picai": None, "froc_note": note}, None
    found = [row["picai_confidence"] for row in lesions if row["picai_hit"]]
    wrong = [row["confidence"] for row in candidates if row["picai_false_positive"]]
    curve = froc_curve(found, wrong, lesions=len(lesions), scans=len(known))
    truth = [True] * len(found) + [False] * len(wrong)
    ap = precision_recall(truth, found + wrong, missed=len(lesions) - len(found)).average_precision
    rule = f"IoU >= {PICAI_IOU:g}, one candidate a lesion; candidates ranked by "
    rule += next(iter(kinds), "their confidence")
    summary["froc"] = {
        "rule": rule,
        "lesions": len(lesions),
        "scans": len(known),
        "sensitivity_at_false_positives": {
            f"{n:g}": curve.sensitivity_at(n) for n in FALSE_POSITIVES
        },
    }
    summary["picai"] = {
        "rule": rule,
        "average_precision": ap,
        "auroc": auroc,
        "score": None if auroc is None or math.isnan(ap) else (auroc + ap) / 2,
    }
    return summary, curve


def _per_case(cases: Sequence[Row], column: str) -> dict[str, Any]:
    counts = [c[column] for c in cases if c[column] is not None]
    return {
        "total": int(sum(counts)),
        "per_case": sum(counts) / len(counts) if counts else None,
        "cases": len(counts),
    }
