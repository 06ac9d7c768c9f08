"""Which structures a training can learn: those that every case has annotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pantskit.core.errors import ConfigError
from pantskit.core.labels import LESION, PANCREAS, STRUCTURES

SCHEMES: Mapping[str, tuple[str, ...]] = {
    "28": tuple(STRUCTURES),
    "2": (PANCREAS, LESION),
}


@dataclass(frozen=True)
class Channels:
    """What the network's outputs mean, and what was left out.

    Attributes:
        structures: of channel 1, 2, ..., annotated in every case.
        partial: structure to the number of cases that annotate it, where that is not all:
            left out, since a case without the annotation would teach that it is background.
        absent: structures that no case annotates.
    """

    structures: tuple[str, ...]
    partial: Mapping[str, int]
    absent: tuple[str, ...]

    def describe(self, n_cases: int) -> list[str]:
        """Lines for the user."""
        lines = [f"{len(self.structures)} structures annotated in all {n_cases} cases"]
        if self.partial:
            counts = ", ".join(f"{s} ({n})" for s, n in self.partial.items())
            lines.append(f"left out, annotated in only some of the {n_cases} cases: {counts}")
        if self.absent:
            lines.append(f"left out, annotated in no case: {', '.join(self.absent)}")
        return lines


def choose_channels(annotated: Mapping[str, tuple[str, ...]], scheme: str) -> Channels:
    """The structures to train on.

    Args:
        annotated: case_id to its annotated structures, empty ones included.
        scheme: `"28"` (all structures) or `"2"` (the pancreas with its tumour, and the tumour).

    Raises:
        ConfigError: If the scheme is unknown or leaves nothing to learn.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"label scheme {scheme!r} is unknown; use {' or '.join(SCHEMES)}")
    counts = Counter(s for structures in annotated.values() for s in structures)
    wanted, n = SCHEMES[scheme], len(annotated)
    everywhere = tuple(s for s in wanted if n and counts[s] == n)
    if scheme == "2" and PANCREAS not in everywhere:
        raise ConfigError(
            f"scheme 2 needs {PANCREAS} annotated in every training case, and it is in "
            f"{counts[PANCREAS]} of {n}; choose cases with --cases"
        )
    if not everywhere:
        raise ConfigError(
            f"no structure is annotated in all {n} training cases; choose cases with --cases"
        )
    partial = {s: counts[s] for s in wanted if 0 < counts[s] < n}
    return Channels(everywhere, partial, tuple(s for s in wanted if not counts[s]))
