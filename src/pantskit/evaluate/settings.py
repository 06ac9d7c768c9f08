"""What a scoring run is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.core.labels import STRUCTURES, require_structure
from pantskit.core.labelsets import SPLIT_FOLDERS
from pantskit.measure.surface import DEFINITIONS, Definition

# What each definition says, for the outputs; docs/metrics.md has the whole text.
NSD_WORDS = {
    "surfel": "surface points between voxels, weighted by area, distance <= tolerance "
    "(DeepMind surface-distance)",
    "counted": "boundary voxels, each counting one, distance < tolerance "
    "(PanTS paper, appendix B.4.2)",
    "counted-le": "boundary voxels, each counting one, distance <= tolerance (MONAI's default)",
}


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of a scoring run; written into summary.json.

    Attributes:
        tolerances_mm: NSD is given at each; a row each in the score table.
        definition: of NSD.
        structures: those to score; None: all that the reference has.
        label_map: what ids of predicted label maps mean, as for `--label-map`.
        reference_label_map: the same for the reference.
        split: `"train"` or `"test"` of a reference dataset; both when None.
        cases: case IDs to score; None: all of the reference.
        resample: bring predictions on other grids onto the reference's, to the nearest voxel.
        tumor_mm3: a case is called positive when more predicted tumour than this is found,
            0: any voxel. The operating point of sensitivity and specificity.
        bootstrap_samples: for the interval of the AUC.
        seed: of the bootstrap.
    """

    tolerances_mm: tuple[float, ...] = (2.0,)
    definition: Definition = "surfel"
    structures: tuple[str, ...] | None = None
    label_map: str | None = None
    reference_label_map: str | None = None
    split: str | None = None
    cases: tuple[str, ...] | None = None
    resample: bool = False
    tumor_mm3: float = 0.0
    bootstrap_samples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tolerances_mm or not all(0 <= t < 1000 for t in self.tolerances_mm):
            raise ConfigError(f"tolerances must be 0 mm or more, found {self.tolerances_mm}")
        if self.definition not in DEFINITIONS:
            raise ConfigError(
                f"NSD definition {self.definition!r} is unknown; it is one of "
                f"{', '.join(DEFINITIONS)}"
            )
        if not self.tumor_mm3 >= 0:
            raise ConfigError(f"tumour volume must be 0 mm3 or more, found {self.tumor_mm3}")
        if self.split not in (None, *SPLIT_FOLDERS):
            raise ConfigError(f"split {self.split!r} is unknown; it is train or test")
        tolerances = tuple(dict.fromkeys(sorted(self.tolerances_mm)))
        object.__setattr__(self, "tolerances_mm", tolerances)
        if self.structures is not None:
            names = {require_structure(name) for name in self.structures}
            object.__setattr__(self, "structures", tuple(s for s in STRUCTURES if s in names))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Structures to look at in every case."""
        return tuple(STRUCTURES) if self.structures is None else self.structures

    @property
    def of_a_case(self) -> dict[str, Any]:
        """The settings that a case's own scores depend on."""
        over_all = ("split", "cases", "tumor_mm3", "bootstrap_samples", "seed")
        return {k: v for k, v in asdict(self).items() if k not in over_all}
