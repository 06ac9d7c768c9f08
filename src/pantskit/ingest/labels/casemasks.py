"""The masks of one case on one grid, with what is to be said of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.errors import LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES, Mask


@dataclass
class CaseMasks:
    """Masks of one case.

    Attributes:
        coded: the masks; annotated structures that are empty included.
        geometry: the grid of all of them; None where it is the CT's own slices, which make no
            regular grid.
        bounded: whether the format says that nothing is marked outside the grid, so that a part
            of the CT's grid is as good as all of it.
        sources: structure to the names that were united into it.
        unmapped: names of what has no place among the 28 structures.
        faults: what was odd and harmless.
    """

    coded: CodedMasks
    geometry: Geometry | None
    bounded: bool = False
    sources: dict[str, list[str]] = field(default_factory=dict)
    unmapped: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(
        self, name: str, structure: str, mask: Mask, start: tuple[int, int, int] | None = None
    ) -> None:
        """Unite a mask, or the part of it that begins at `start`, into its structure."""
        self.sources.setdefault(structure, []).append(name)
        self.coded.add(structure, mask, start)

    @property
    def empty(self) -> list[str]:
        """Annotated structures without a voxel, in the order of the 28."""
        return [s for s, count in self.coded.counts.items() if not count]

    def absorb(self, other: CaseMasks, *, case_id: str) -> None:
        """Take in the masks of a second annotation on the same grid.

        A structure that both have must be the same in both: two readings of one structure are
        not united, since the union is neither's.

        Raises:
            LabelError: If a structure differs between the two.
        """
        for structure in STRUCTURES:
            mask = other.coded.mask(structure)
            if mask is None:
                continue
            own = self.coded.mask(structure)
            if own is not None and not np.array_equal(own, mask):
                raise LabelError(
                    f"{case_id}: two annotations of this CT hold {structure} and differ; keep "
                    "the one to use"
                )
            names = other.sources.get(structure, [])
            if own is None:
                self.coded.add(structure, mask)
                self.sources[structure] = list(names)
            else:
                self.faults.append(f"{structure} is in two annotations and the same in both")
        self.unmapped += [name for name in other.unmapped if name not in self.unmapped]
        self.faults += other.faults
