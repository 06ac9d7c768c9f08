"""What a scoring run is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.core.labels import STRUCTURES, require_structure
from pantskit.core.labelsources import SPLIT_FOLDERS
from pantskit.measure.matching import DEFAULT_MINIMUM, RULES, Rule
from pantskit.measure.surface import DEFINITIONS, Definition

# What each definition says, for the outputs; docs/metrics.md has the whole text.
NSD_WORDS = {
    "surfel": "surface points between voxels, weighted by area, distance <= tolerance "
    "(DeepMind surface-distance)",
    "counted": "boundary voxels, each counting one, distance < tolerance "
    "(PanTS paper, appendix B.4.2)",
    "counted-le": "boundary voxels, each counting one, distance <= tolerance (MONAI's default)",
}

# What each matching rule says, likewise.
RULE_WORDS: dict[Rule, str] = {
    "touch": "a predicted tumour voxel lies in the lesion",
    "iou": "IoU of lesion and candidate {least}, one candidate a lesion",
    "dice": "DSC of lesion and candidate {least}, one candidate a lesion",
    "overlap": "share of the lesion that a candidate holds {least}, one candidate a lesion",
    "centre": "the centre of a candidate lies in the lesion, one candidate a lesion",
}


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of a scoring run; written into summary.json.

    Attributes:
        tolerances_mm: NSD is given at each; a row each in the score table.
        definition: of NSD.
        structures: those to score; None: all that the reference has.
        unions: name to structures that are scored as one mask too; see `unions.parse_unions`.
        label_map: what ids of predicted label maps mean, as for `--label-map`.
        reference_label_map: the same for the reference.
        split: `"train"` or `"test"` of a reference dataset; both when None.
        cases: case IDs to score; None: all of the reference.
        resample: bring predictions on other grids onto the reference's, to the nearest voxel.
        hit_rule: when a lesion counts as found; see `measure.matching`.
        hit_minimum: least overlap for that; None: the rule's own.
        tumor_mm3: a case is called positive when this much predicted tumour or more is found,
            0: any voxel. The operating point of sensitivity and specificity.
        probability: a case is called positive by its tumour probability from here on.
        case_scores: case_id to a score of the user's own, higher = more suspicious.
        case_score: a case is called positive by that score from here on; None: no such point.
        prevalence: shares of people with a tumour, for which predictive values are given.
        bootstrap_samples: of patients, for the intervals.
        seed: of the bootstrap.
    """

    tolerances_mm: tuple[float, ...] = (2.0,)
    definition: Definition = "surfel"
    structures: tuple[str, ...] | None = None
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label_map: str | None = None
    reference_label_map: str | None = None
    split: str | None = None
    cases: tuple[str, ...] | None = None
    resample: bool = False
    hit_rule: Rule = "touch"
    hit_minimum: float | None = None
    tumor_mm3: float = 0.0
    probability: float = 0.5
    case_scores: Mapping[str, float] | None = None
    case_score: float | None = None
    prevalence: tuple[float, ...] = ()
    bootstrap_samples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tolerances_mm or not all(0 <= t < 1000 for t in self.tolerances_mm):
            found = ", ".join(f"{t:g}" for t in self.tolerances_mm)
            raise ConfigError(f"tolerances must be 0 mm or more, and below 1000, found {found}")
        if self.definition not in DEFINITIONS:
            raise ConfigError(
                f"NSD definition {self.definition!r} is unknown; it is one of "
                f"{', '.join(DEFINITIONS)}"
            )
        if self.hit_rule not in RULES:
            raise ConfigError(f"rule {self.hit_rule!r} is unknown; it is one of {', '.join(RULES)}")
        if not all(0 <= p <= 1 for p in (self.least_overlap, self.probability, *self.prevalence)):
            raise ConfigError(
                "least overlap, probability and prevalence are from 0 to 1, found "
                f"{self.least_overlap:g}, {self.probability:g}, {list(self.prevalence)}"
            )
        if self.hit_minimum is not None and not DEFAULT_MINIMUM[self.hit_rule]:
            raise ConfigError(
                f"the rule {self.hit_rule!r} knows no least overlap; iou, dice and overlap do"
            )
        if not 0 <= self.tumor_mm3 < math.inf:
            raise ConfigError(f"tumour volume must be 0 mm3 or more, found {self.tumor_mm3}")
        self._check_case_score()
        if self.split not in (None, *SPLIT_FOLDERS):
            raise ConfigError(f"split {self.split!r} is unknown; it is train or test")
        tolerances = tuple(dict.fromkeys(sorted(self.tolerances_mm)))
        object.__setattr__(self, "tolerances_mm", tolerances)
        if self.structures is not None:
            names = {require_structure(name) for name in self.structures}
            object.__setattr__(self, "structures", tuple(s for s in STRUCTURES if s in names))

    def _check_case_score(self) -> None:
        if self.case_score is None:
            return
        if self.case_scores is None:
            raise ConfigError("a case score to call cases by needs --case-scores, their table")
        if not math.isfinite(self.case_score):
            raise ConfigError(f"the case score to call cases by is {self.case_score}, no number")

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """What to score in every case: a name and the structures that make it up."""
        structures = tuple(STRUCTURES) if self.structures is None else self.structures
        return {s: (s,) for s in structures} | dict(self.unions)

    @property
    def least_overlap(self) -> float:
        """Overlap from which on a lesion counts as found."""
        return DEFAULT_MINIMUM[self.hit_rule] if self.hit_minimum is None else self.hit_minimum

    @property
    def hit_rule_is(self) -> str:
        """The matching rule in words."""
        least = self.least_overlap
        words = f"of at least {least:g}" if least else "above 0"
        return RULE_WORDS[self.hit_rule].format(least=words)

    @property
    def of_a_case(self) -> dict[str, Any]:
        """The settings that a case's own scores depend on."""
        over_all = {"split", "cases", "tumor_mm3", "probability", "case_scores", "case_score"}
        over_all |= {"prevalence", "bootstrap_samples", "seed"}
        return {k: v for k, v in asdict(self).items() if k not in over_all}

    @property
    def as_written(self) -> dict[str, Any]:
        """For summary.json; scores of the user's own are in cases.csv, their number is here."""
        return {
            **asdict(self),
            "case_scores": None if self.case_scores is None else len(self.case_scores),
            "nsd_is": NSD_WORDS[self.definition],
            "hit_rule_is": self.hit_rule_is,
        }
