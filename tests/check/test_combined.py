"""Which ids a combined map has, beside masks that were changed since it was painted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blocks import SHAPE, SPACING, block, scan, trunk

from pantskit.check.read import CaseFiles
from pantskit.check.registry import built_in_rules
from pantskit.core.dataset import Case
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, PANTS_ALPHABETICAL
from pantskit.core.volume import Volume

GRID = Geometry.from_spacing(SHAPE, SPACING, orientation="RAS")
WHOLE = trunk()  # of the 28 structures, 25
(RULE,) = (r for r in built_in_rules() if r.name == "combined-ids")


def told(masks, *, space=PANTS, declared="pants", painted=WHOLE, exchange=None):
    """Messages on a map of `painted` in a space, beside masks."""
    labels = space.combine(painted)
    if exchange is not None:
        a, b = (space.id_of(s) for s in exchange)
        labels[labels == a], labels[labels == b] = np.uint8(255), np.uint8(a)
        labels[labels == 255] = b
    files = CaseFiles(Case("case", "train", Path(), Path(), Path()))
    files.combined = Volume(np.asfortranarray(labels), GRID, label_space=declared)
    files.geometry, files.scan = GRID, scan(masks)
    return [fault.message for fault in RULE(files)]


def test_map_of_its_masks_is_no_fault():
    assert told(WHOLE) == []
    assert told(WHOLE, declared=None) == []


@pytest.mark.parametrize("declared", ["pants", None])
def test_alphabetical_map_is_told(declared):
    (message,) = told(WHOLE, space=PANTS_ALPHABETICAL, declared=declared)
    assert "its ids are pants_alphabetical" in message


@pytest.mark.parametrize("declared", ["pants", None])
def test_masks_that_were_eroded_or_moved_are_no_wrong_ids(declared):
    changed = dict(WHOLE)
    for organ in ("liver", "spleen", "stomach", "kidney_left", "kidney_right", "colon", "bladder"):
        if organ in changed:
            lower = changed[organ].copy()
            lower[:, :, : np.argwhere(lower)[:, 2].max() - 2] = False  # three slices of it
            changed[organ] = lower
    changed["duodenum"] = block((0, 4), (0, 10), (0, 20))
    assert told(changed, declared=declared) == []


def test_alphabetical_map_is_told_even_where_masks_were_eroded():
    changed = {s: m.copy() for s, m in WHOLE.items()}
    for organ in ("liver", "lung_left", "lung_right", "kidney_left"):
        changed[organ][:, :, : np.argwhere(changed[organ])[:, 2].max() - 2] = False
    (message,) = told(changed, space=PANTS_ALPHABETICAL)
    assert message == "the combined map declares pants, its ids are pants_alphabetical"


def test_ids_of_no_space_are_told():
    (message,) = told(WHOLE, painted=_rotated())
    assert "no known label space" in message


def _rotated():
    """Each structure called by the name of the next one."""
    names = list(WHOLE)
    return {a: WHOLE[b] for a, b in zip(names, [*names[1:], names[0]], strict=True)}


def test_of_few_structures_two_that_are_exchanged_are_told():
    three = {s: WHOLE[s] for s in ("liver", "spleen", "stomach")}
    assert told(three, painted=three) == []
    (message,) = told(three, painted=three, exchange=("liver", "spleen"))
    assert "no known label space" in message
