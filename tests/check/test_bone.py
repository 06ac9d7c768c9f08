"""Bone in the aorta's mask: the spine behind it, and not its own plaques."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import SHAPE, block, faults, scan

AORTA = block((26, 31), (8, 13), (34, 90))
SPINE = block((20, 37), (0, 7), (0, 100))  # 4 mm behind the aorta


def painted(blood, *, marrow=170):
    """A CT of fat, a vessel and a spine of marrow with a voxel of cortical bone around it."""
    ct = np.full(SHAPE, -90, np.int16)
    ct[AORTA] = blood
    ct[SPINE] = 450
    ct[block((21, 36), (1, 6), (1, 99))] = marrow
    return ct


@pytest.mark.parametrize("blood", [40, 110, 160, 320, 420])
def test_vertebra_in_the_mask_is_told_in_every_phase(blood):
    ct = painted(blood)
    assert faults("bone", scan({"aorta": AORTA}, ct=ct)) == []
    # as wide as the aorta, 12 mm deep: 3 of 9 rows with the one between
    wide = AORTA | block((26, 31), (4, 8), (34, 90))
    (fault,) = faults("bone", scan({"aorta": wide}, ct=ct))
    assert fault.structure == "aorta"
    i, j, k = fault.at
    assert SPINE[i, j, k]
    assert wide[i, j, k]


def test_plaques_and_thrombus_of_a_wide_aorta_are_its_own():
    ct = painted(320)
    ct[block((26, 31), (12, 13), (34, 60))] = 900  # calcified in front
    ct[block((26, 31), (8, 9), (50, 90))] = 900  # and behind, a voxel from the spine
    ct[block((29, 31), (9, 12), (34, 80))] = 45  # thrombus: not as bright as marrow
    assert faults("bone", scan({"aorta": AORTA}, ct=ct)) == []


def test_plaque_that_touches_the_spine_in_one_place_is_no_bone():
    ct = painted(150)
    ct[block((26, 31), (8, 9), (40, 60))] = 900
    ct[block((27, 29), (7, 8), (50, 52))] = 500  # 64 mm2 of a spur of the spine
    assert faults("bone", scan({"aorta": AORTA}, ct=ct)) == []


def test_bone_of_another_structure_is_not_the_spine():
    wide = AORTA | block((26, 31), (4, 8), (34, 90))
    assert faults("bone", scan({"aorta": wide, "femur_left": SPINE & ~wide}, ct=painted(40))) == []
    assert faults("bone", scan({"aorta": wide})) == []
