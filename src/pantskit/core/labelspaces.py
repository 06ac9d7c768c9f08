"""Which ids a combined map uses, found by comparing it with separate masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pantskit.core.labels import (
    PANTS,
    PANTS_ALPHABETICAL,
    LabelArray,
    LabelSpace,
    Mask,
    label_counts,
    label_counts_inside,
)

# DSC above which a mask and an id of a combined map are taken for the same structure: masks
# of the release against the right ids give 0.89 and more, against wrong ids nearly 0.
_IDENTIFIED_DSC = 0.8


def identify_label_space(combined: LabelArray, masks: Mapping[str, Mask]) -> LabelSpace | None:
    """Which ids a combined map uses, found by comparing it with separate masks.

    Args:
        combined: (i, j, k) label map.
        masks: structure to mask on the same grid.

    Returns:
        The label space under which at least nine in ten masks agree with the map, or None.
    """
    inside = {s: label_counts_inside(combined, m) for s, m in masks.items() if m.any()}
    return label_space_of_counts(label_counts(combined), inside)


def label_space_of_counts(
    sizes: NDArray[np.int64], inside: Mapping[str, NDArray[np.int64]]
) -> LabelSpace | None:
    """The same from counts.

    Args:
        sizes: (n,) voxels of each value of the combined map.
        inside: structure to (n,) voxels of each value within its mask; no empty masks.
    """
    best: tuple[float, LabelSpace] | None = None
    for space in (PANTS, PANTS_ALPHABETICAL):
        agreeing = 0
        for structure, counts in inside.items():
            ids = list(space.evaluation_ids(structure))
            dsc = 2 * counts[ids].sum() / (counts.sum() + sizes[ids].sum())
            agreeing += bool(dsc > _IDENTIFIED_DSC)
        share = agreeing / max(len(inside), 1)
        if best is None or share > best[0]:
            best = (share, space)
    return best[1] if best and best[0] >= 0.9 else None
