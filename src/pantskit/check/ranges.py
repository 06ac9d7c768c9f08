"""Plausible volumes and mean HU of the structures, by contrast phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pantskit.core.dataset import PHASES
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.labels import STRUCTURES
from pantskit.core.records import read_table

Interval = tuple[float, float]

# In the arterial phase arteries, renal cortex and spleen are brighter than in the portal venous
# one, for which structures.toml has ranges; veins and the liver are not filled yet.
_ARTERIAL: Mapping[str, Interval] = {
    "aorta": (150, 600),
    "celiac_artery": (90, 550),
    "superior_mesenteric_artery": (90, 550),
    "kidney_left": (50, 260),
    "kidney_right": (50, 260),
    "spleen": (50, 220),
    "liver": (10, 130),
    "veins": (30, 260),
    "postcava": (20, 250),
    "adrenal_gland_left": (-20, 130),
    "adrenal_gland_right": (-20, 130),
    "pancreas": (20, 160),
    "pancreas_head": (20, 160),
    "pancreas_body": (20, 160),
    "pancreas_tail": (20, 160),
}
# Later the vessels fade to 80 to 140 HU, and what the kidneys excrete may be very bright.
_DELAYED: Mapping[str, Interval] = {
    "aorta": (60, 200),
    "celiac_artery": (50, 200),
    "superior_mesenteric_artery": (50, 200),
    "kidney_left": (50, 500),
    "kidney_right": (50, 500),
    "spleen": (50, 150),
    "liver": (30, 140),
    "veins": (60, 200),
    "postcava": (50, 200),
    "bladder": (-10, 1500),
    "pancreas": (20, 140),
    "pancreas_head": (20, 140),
    "pancreas_body": (20, 140),
    "pancreas_tail": (20, 140),
}
# Without a phase any of them will do; a bladder may hold contrast medium of an earlier scan.
_ALWAYS_WIDE: Mapping[str, Interval] = {"bladder": (-20, 1500), "colon": (-950, 600)}


@dataclass(frozen=True)
class Ranges:
    """Plausible ranges; what a table of one's own leaves out is ours.

    Attributes:
        volumes: structure to ml.
        hu: (structure, phase) to mean HU.
    """

    volumes: Mapping[str, Interval] = field(default_factory=dict)
    hu: Mapping[tuple[str, str], Interval] = field(default_factory=dict)

    def volume_ml(self, structure: str) -> Interval:
        """Of a structure that is wholly in view."""
        return self.volumes.get(structure, STRUCTURES[structure].volume_ml)

    def mean_hu(self, structure: str, phase: str | None) -> Interval:
        """Of a structure in a phase; over all phases where it is not known."""
        if phase in PHASES:
            return self.hu.get((structure, phase)) or _ours(structure, phase)
        each = [self.mean_hu(structure, p) for p in PHASES]
        return min(low for low, _ in each), max(high for _, high in each)


BUILT_IN = Ranges()


def _ours(structure: str, phase: str) -> Interval:
    entry = STRUCTURES[structure]
    if structure in _ALWAYS_WIDE:
        return _ALWAYS_WIDE[structure]
    if phase == "non_contrast":
        return entry.hu_non_contrast
    own = {"arterial": _ARTERIAL, "delayed": _DELAYED}.get(phase, {})
    return own.get(structure, entry.hu_portal_venous)


def read_ranges(path: Path) -> Ranges:
    """Read a table of one's own: columns structure, quantity, phase, low, high.

    `quantity` is `volume_ml` (phase empty) or `hu` (phase one of the four, empty for all).

    Raises:
        ConfigError: If it cannot be read or a row makes no sense.
    """
    try:
        rows = read_table(path)
    except DatasetError as error:
        raise ConfigError(str(error)) from None
    volumes: dict[str, Interval] = {}
    hu: dict[tuple[str, str], Interval] = {}
    for number, row in enumerate(rows, 2):
        try:
            structure, quantity = str(row["structure"]), str(row["quantity"])
            low, high = float(row["low"]), float(row["high"])
            phase = str(row.get("phase") or "")
            usable = structure in STRUCTURES and low <= high and phase in ("", *PHASES)
            if not usable or quantity not in ("volume_ml", "hu"):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise ConfigError(
                f"{path}: row {number} is no range; expected a structure, volume_ml or hu, a phase "
                f"or nothing, low and high, found {row}"
            ) from None
        if quantity == "volume_ml":
            volumes[structure] = (low, high)
        else:
            hu |= {(structure, p): (low, high) for p in ([phase] if phase else PHASES)}
    return Ranges(volumes, hu)
