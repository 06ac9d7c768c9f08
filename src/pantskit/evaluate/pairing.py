"""Which prediction goes with which reference, and what is left over on either side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.labels import LESION, LabelMap
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelsources import SPLIT_FOLDERS, is_one_case, open_label_source
from pantskit.evaluate.case import Pair
from pantskit.evaluate.settings import EvaluateConfig

COMPLAINTS = {
    "extra_predictions": "predicted cases have no reference",
    "unknown_cases": "cases asked for are not in the reference",
    "repeated_cases": "cases are listed more than once",
    "cases_without_score": "cases have no score in the table of case scores",
    "scores_without_case": "cases of the table of case scores are not in the reference",
}


@dataclass(frozen=True)
class Pairing:
    """The cases of a run.

    Attributes:
        pairs: case_id to what is scored.
        extra: predicted cases that the reference does not have.
        unknown: cases asked for that the reference does not have.
        repeated: cases that the list of cases names more than once.
        without_score: cases that the user's own scores leave out.
        without_case: cases of the user's own scores that the reference does not have.
    """

    pairs: dict[str, Pair]
    extra: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    without_score: tuple[str, ...] = ()
    without_case: tuple[str, ...] = ()

    @property
    def complaints(self) -> dict[str, list[str]]:
        """What does not fit together, for the summary; a run with any ends with status 1."""
        return {
            "extra_predictions": list(self.extra),
            "unknown_cases": list(self.unknown),
            "repeated_cases": list(self.repeated),
            "cases_without_score": list(self.without_score),
            "scores_without_case": list(self.without_case),
        }


def pair_up(predictions: Path, reference: Path, config: EvaluateConfig) -> Pairing:
    """Put predictions beside references.

    A case that is there twice on one side cannot be scored: its `Pair` says so and it becomes
    a failed case.

    Raises:
        DatasetError: If a folder cannot be used, or both share no case.
        ConfigError: If a split is asked of a reference that has none.
    """
    if config.split and not _has_splits(reference):
        raise ConfigError(
            f"{reference}: has no splits, so --split {config.split} chooses nothing; leave it out "
            "or list the cases with --cases"
        )
    reference_map = _label_map(config.reference_label_map)
    twice: dict[str, str] = {}
    truths = open_label_source(reference, label_map=reference_map, split=config.split, twice=twice)
    predicted_twice: dict[str, str] = {}
    found = open_label_source(
        predictions,
        label_map=_label_map(config.label_map),
        split=config.split,
        twice=predicted_twice,
    )
    if is_one_case(predictions) and is_one_case(reference):  # whatever the two are called
        found = dict(zip(truths, found.values(), strict=True))
    asked = Counter(list(truths) if config.cases is None else config.cases)
    wanted = [c for c in truths if c in asked]
    if not any(c in found for c in wanted):
        raise DatasetError(
            f"{predictions}: has no prediction of any of the {len(wanted)} cases of {reference}; "
            f"it has {', '.join(list(found)[:3])}, the reference {', '.join(list(truths)[:3])}"
        )
    known = truths if config.split is None else _all_cases(reference, reference_map)
    scores = config.case_scores
    return Pairing(
        pairs={
            c: Pair(
                reference=truths[c],
                prediction=found.get(c),
                facts=_beside(predictions, c) / "prediction.json",
                probability=_beside(predictions, c) / "probabilities" / f"{LESION}.nii.gz",
                where=predictions,
                config=config,
                reference_fault=twice.get(c, ""),
                prediction_fault=predicted_twice.get(c, ""),
            )
            for c in wanted
        },
        extra=tuple(c for c in found if c not in known),
        unknown=tuple(c for c in asked if c not in truths),
        repeated=tuple(c for c, times in asked.items() if times > 1),
        without_score=() if scores is None else tuple(c for c in wanted if c not in scores),
        without_case=tuple(c for c in scores or () if c not in known),
    )


def _beside(predictions: Path, case_id: str) -> Path:
    """The folder that holds what else is predicted of a case."""
    alone = predictions.is_dir() and is_one_case(predictions)
    return predictions if alone else predictions / case_id


def _all_cases(reference: Path, label_map: LabelMap | None) -> Mapping[str, CaseLabels]:
    """Cases of both splits: a prediction of the other one is not left over."""
    return open_label_source(reference, label_map=label_map, twice={})


def _has_splits(reference: Path) -> bool:
    return any((reference / name).is_dir() for pair in SPLIT_FOLDERS.values() for name in pair)


def _label_map(text: str | None) -> LabelMap | None:
    return None if text is None else LabelMap.parse(text)
