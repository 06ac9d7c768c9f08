"""What a training learns: the channels of its network, and which cases speak of which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pantskit.core.errors import ConfigError
from pantskit.core.labels import PAINT_ORDER, STRUCTURES
from pantskit.train.label_schemes import Scheme


@dataclass(frozen=True)
class Channels:
    """What the network's outputs mean, and what each case's labels tell of them.

    Attributes:
        structures: annotated in some case; of channel 1, 2, ... of a softmax, whose channel 0 is
            the background, or of channel 0, 1, ... of regions.
        regions: whether channels overlap.
        annotated: case_id to those of `structures` that it annotates, empty ones included;
            cases that annotate none have no entry.
        absent: structures of the scheme that no case annotates.
    """

    structures: tuple[str, ...]
    regions: bool
    annotated: Mapping[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()

    @cached_property
    def partial(self) -> dict[str, int]:
        """Structure to the number of cases that annotate it, where that is not all."""
        counts = Counter(s for structures in self.annotated.values() for s in structures)
        n = len(self.annotated)
        return {s: counts[s] for s in self.structures if counts[s] < n}

    def describe(self) -> list[str]:
        """Lines for the user."""
        n = len(self.annotated)
        kind = "as overlapping regions" if self.regions else "in one softmax"
        lines = [f"{len(self.structures)} structures to learn {kind}, from {n} cases"]
        if self.partial:
            counts = ", ".join(f"{s} ({k})" for s, k in self.partial.items())
            lines.append(f"annotated in only some cases, and learned from these alone: {counts}")
        if self.absent:
            lines.append(f"left out, annotated in no case: {', '.join(self.absent)}")
        return lines


def choose_channels(annotated: Mapping[str, tuple[str, ...]], scheme: Scheme) -> Channels:
    """The channels of a network.

    Args:
        annotated: case_id to its annotated structures, empty ones included.
        scheme: what to learn.

    Raises:
        ConfigError: If no case annotates what the scheme requires, or anything to learn.
    """
    somewhere = {s for structures in annotated.values() for s in structures}
    found = tuple(s for s in scheme.structures if s in somewhere)
    missing = [s for s in scheme.required if s not in somewhere]
    if missing or not found:
        named = ", ".join(missing) or "any of its structures"
        raise ConfigError(
            f"label scheme {scheme.name}: none of the {len(annotated)} training cases annotates "
            f"{named}; choose other cases or another --scheme"
        )
    # Without an overlap regions say what a softmax says, and nnU-Net takes them for one.
    regions = scheme.heads == "regions" and any(overlapping(s, found) for s in found)
    if regions:  # the later channel is painted over the earlier one
        found = tuple(s for s in PAINT_ORDER if s in found)
    known = {c: tuple(s for s in found if s in annotated[c]) for c in annotated}
    absent = tuple(s for s in scheme.structures if s not in somewhere)
    return Channels(found, regions, {c: s for c, s in known.items() if s}, absent)


def overlapping(structure: str, structures: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `structures` whose voxels are the structure's too."""
    return tuple(s for s in structures if s in STRUCTURES[structure].members)
