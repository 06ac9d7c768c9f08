"""What the CT shows under structures: means, medians, shares between HU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.check.region import Region, common
from pantskit.measure.boxes import within


class Brightness:
    """The HU of one case by structure; a `Scan` is one.

    Attributes:
        ct: (i, j, k) HU along the body's axes, or None.
        regions: annotated structures that are not empty.
    """

    def __init__(self, ct: NDArray[Any] | None) -> None:
        """Without structures yet."""
        self.ct = ct
        self.regions: dict[str, Region] = {}
        self._hu: dict[str, NDArray[np.int64]] = {}

    def values(self, structure: str) -> NDArray[np.int64]:
        """Histogram of the HU under a structure: (4096,) voxels from -1024 to 3071 HU.

        Raises:
            ValueError: If there is no CT; rules ask first.
        """
        if self.ct is None:
            raise ValueError("there is no CT")
        if structure not in self._hu:
            region = self.regions[structure]
            # Transposed: in the order of memory.
            under = self.ct[region.box].T[region.array.T]
            if under.dtype.kind == "f":
                under = np.rint(np.nan_to_num(under))
            levels = np.clip(under, -1024, 3071).astype(np.int16) + np.int16(1024)
            self._hu[structure] = np.bincount(levels, minlength=4096)
        return self._hu[structure]

    def mean_hu(self, structure: str) -> float:
        """Mean HU under a structure."""
        counts = self.values(structure)
        return float(counts @ np.arange(-1024, 3072) / counts.sum())

    def mean_hu_without(self, structure: str, others: Iterable[str]) -> tuple[float, int]:
        """Mean HU under a structure where it is none of the others, and over how many voxels."""
        region = self.regions[structure]
        own = region.array.copy(order="F")
        for other in (self.regions[s] for s in others if s in self.regions):
            box = common(region.box, other.box)
            if box is not None:
                own[within(region.box, box)] &= ~other.crop(box)
        if self.ct is None or not own.any():
            return float("nan"), 0
        under = self.ct[region.box].T[own.T]
        return float(under.mean()), int(under.size)

    def median_hu(self, structure: str) -> float:
        """Median HU under a structure."""
        return self.quantile_hu(structure, 0.5)

    def quantile_hu(self, structure: str, share: float) -> float:
        """HU that this share of a structure's voxels do not exceed."""
        sums = np.cumsum(self.values(structure))
        return float(np.searchsorted(sums, sums[-1] * share) - 1024)

    def share_between(self, structure: str, low: float, high: float) -> float:
        """Share of a structure's voxels with low <= HU < high."""
        counts = self.values(structure)
        ends = np.clip([low + 1024, high + 1024], 0, 4096).astype(int)
        return float(counts[ends[0] : ends[1]].sum() / counts.sum())
