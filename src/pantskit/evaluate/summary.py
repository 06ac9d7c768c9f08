"""All cases in one page of numbers, each with how many cases it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from pantskit.core.labels import STRUCTURES
from pantskit.evaluate.scores import ABSENT, WORST
from pantskit.evaluate.settings import EvaluateConfig

Row = dict[str, Any]

AVERAGED = ("dsc", "iou", "hd95_mm", "assd_mm", "sensitivity", "specificity", "precision")


def drop_unknown_structures(rows: Sequence[Row], config: EvaluateConfig) -> list[Row]:
    """Rows without structures that no reference annotates, unless they were asked for."""
    annotated = {r["structure"] for r in rows if r["status"] != ABSENT}
    kept = annotated if config.structures is None else {*config.structures}
    return [r for r in rows if r["structure"] in kept]


def summarize_structures(rows: Sequence[Row], config: EvaluateConfig) -> dict[str, Any]:
    """Per structure: mean and median of each score with the number of cases they are over.

    Args:
        rows: the score table.
        config: tolerances.

    Returns:
        structure to `status` (cases of each), `worst` (cases that count as the worst score),
        `dsc` and its like, and `nsd` by tolerance. A score that a case does not have (DSC of
        two empty masks) is left out of its mean, and `n` says so.
    """
    summary: dict[str, Any] = {}
    for structure in STRUCTURES:
        of_structure = [r for r in rows if r["structure"] == structure]
        if not of_structure:
            continue
        first = [r for r in of_structure if r["tolerance_mm"] == config.tolerances_mm[0]]
        statuses = Counter(r["status"] for r in first)
        summary[structure] = {
            "status": dict(sorted(statuses.items())),
            "worst": sum(statuses[s] for s in WORST),
            **{name: _average([r[name] for r in first]) for name in AVERAGED},
            "nsd": {
                f"{tolerance:g}": _average(
                    [r["nsd"] for r in of_structure if r["tolerance_mm"] == tolerance]
                )
                for tolerance in config.tolerances_mm
            },
            "nsd_ties": sum(r["nsd_ties"] or 0 for r in of_structure),
        }
    return summary


def _average(values: Sequence[float | None]) -> dict[str, Any]:
    known = [v for v in values if v is not None]
    if not known:
        return {"mean": None, "median": None, "n": 0}
    return {"mean": fmean(known), "median": median(known), "n": len(known)}
