"""Which ids a combined map uses, by its masks."""

from __future__ import annotations

import numpy as np
import pytest
from label_files import SHAPE, box

from pantskit.core.labels import (
    PANTS,
    PANTS_ALPHABETICAL,
    STRUCTURES,
)
from pantskit.core.labelspaces import identify_label_space


@pytest.mark.parametrize("space", [PANTS, PANTS_ALPHABETICAL])
def test_a_combined_map_is_identified_against_masks(space: object) -> None:
    masks = {s: box(n // 6, n % 6) for n, s in enumerate(STRUCTURES)}
    masks["pancreas"] = np.logical_or.reduce(
        [masks[s] for s in ("pancreas", *STRUCTURES["pancreas"].members)]
    )
    assert isinstance(space, type(PANTS))
    assert identify_label_space(space.combine(masks), masks) is space


def test_masks_that_fit_no_ids_identify_nothing() -> None:
    masks = {"liver": box(0), "veins": box(1), "postcava": box(2)}
    assert identify_label_space(np.full(SHAPE, 9, np.uint8), masks) is None
    assert identify_label_space(np.zeros(SHAPE, np.uint8), {}) is None
