"""All cases in one page of numbers, each with how many cases it is over."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pantskit.core.labels import STRUCTURES
from pantskit.evaluate.operating import CONFIDENCE
from pantskit.evaluate.scores import ABSENT, WORST
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.bootstrap import Floats, PatientBootstrap

Row = dict[str, Any]

AVERAGED = (
    "dsc",
    "iou",
    "hd95_mm",
    "assd_mm",
    "sensitivity",
    "specificity",
    "precision",
    "volume_error_ml",
    "volume_error_relative",
)


def drop_unknown_structures(rows: Sequence[Row], config: EvaluateConfig) -> list[Row]:
    """Rows without structures that no reference annotates, unless they were asked for."""
    annotated = {r["structure"] for r in rows if r["status"] != ABSENT}
    kept = annotated if config.structures is None else {*config.structures}
    kept |= {*config.unions}
    return [r for r in rows if r["structure"] in kept]


def summarize_structures(
    rows: Sequence[Row], patients: Mapping[str, str], config: EvaluateConfig
) -> dict[str, Any]:
    """Per structure: mean and median of each score with the number of cases they are over.

    Args:
        rows: the score table.
        patients: case_id to patient.
        config: tolerances, bootstrap.

    Returns:
        structure to `status` (cases of each), `worst` (cases that count as the worst score),
        `dsc` and its like, and `nsd` by tolerance. A score that a case does not have (DSC of
        two empty masks) is left out of its mean, and `n` says so. `low` and `high` are the
        mean's interval over bootstrap samples of patients, null below two patients.
    """
    scored = _Scored.of(rows, patients, config)
    boot = PatientBootstrap.of(
        list(patients.values()),
        samples=config.bootstrap_samples,
        seed=config.seed,
        confidence=CONFIDENCE,
    )
    averages = dict(zip(scored.columns, _averages(scored.values, boot), strict=True))
    first = config.tolerances_mm[0]
    return {
        structure: {
            "status": dict(sorted(scored.statuses[structure].items())),
            "worst": sum(scored.statuses[structure][s] for s in WORST),
            **{name: averages[structure, name, first] for name in AVERAGED},
            "nsd": {f"{t:g}": averages[structure, "nsd", t] for t in config.tolerances_mm},
            "nsd_ties": scored.ties[structure],
        }
        for structure in [*STRUCTURES, *config.unions]
        if structure in scored.statuses
    }


@dataclass(frozen=True)
class _Scored:
    """The score table by case.

    Attributes:
        columns: structure, name of the score and tolerance of each column of `values`.
        values: (cases, columns); NaN is what a case does not have.
        statuses: structure to how many cases there are of each status.
        ties: structure to the sum of its `nsd_ties`.
    """

    columns: list[tuple[str, str, float]]
    values: Floats
    statuses: dict[str, Counter[str]]
    ties: Counter[str]

    @classmethod
    def of(
        cls, rows: Sequence[Row], patients: Mapping[str, str], config: EvaluateConfig
    ) -> _Scored:
        """In one pass over the rows."""
        first = config.tolerances_mm[0]
        names = [(name, first) for name in AVERAGED] + [("nsd", t) for t in config.tolerances_mm]
        columns = [
            (s, *name) for s in dict.fromkeys(r["structure"] for r in rows) for name in names
        ]
        column_of = {column: n for n, column in enumerate(columns)}
        row_of = {case_id: n for n, case_id in enumerate(patients)}
        values = np.full((len(patients), len(columns)), np.nan)
        statuses: dict[str, Counter[str]] = {}
        ties: Counter[str] = Counter()
        for row in rows:
            structure, tolerance = row["structure"], row["tolerance_mm"]
            counts = statuses.setdefault(structure, Counter())
            counts[row["status"]] += tolerance == first
            ties[structure] += row["nsd_ties"] or 0
            for name in AVERAGED if tolerance == first else ():
                if row[name] is not None:
                    at = column_of[structure, name, tolerance]
                    values[row_of[row["case_id"]], at] = row[name]
            if row["nsd"] is not None:
                at = column_of[structure, "nsd", tolerance]
                values[row_of[row["case_id"]], at] = row["nsd"]
        return cls(columns, values, statuses, ties)


def _averages(values: Floats, boot: PatientBootstrap) -> list[dict[str, Any]]:
    """Mean, its interval, median and number of each column; NaN is what a case does not have."""
    there = ~np.isnan(values)
    means = boot.ratios(np.where(there, values, 0.0), there)
    lows, highs = boot.intervals(means)
    found = []
    for column, known, low, high in zip(values.T, there.T, lows, highs, strict=True):
        if not known.any():
            found.append(dict.fromkeys(("mean", "low", "high", "median")) | {"n": 0})
            continue
        enough = np.unique(boot.whose[known]).size > 1
        own = column[known]
        found.append(
            {
                "mean": math.fsum(own) / own.size,
                "low": float(low) if enough else None,
                "high": float(high) if enough else None,
                "median": float(np.median(own)),
                "n": int(own.size),
            }
        )
    return found
