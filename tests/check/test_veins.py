"""The portal and splenic vein in pieces, in a trunk of blocks of 4 mm."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import block, faults, scan, trunk

VEINS = trunk()["veins"]  # from voxel 14 on the left to 37
NOTHING = block((0, 0), (0, 0), (0, 0))


def broken(first, last, **changed):
    veins = VEINS & ~block((first, last), (0, 40), (0, 100))
    return faults("veins-broken", scan(trunk(veins=veins, **changed)))


@pytest.mark.parametrize("voxels", [2, 5, 10])
def test_gap_is_told_with_its_length(voxels):
    (fault,) = broken(20, 20 + voxels)
    assert fault.value == pytest.approx(4 * voxels)
    assert fault.severity is None


def test_gap_is_told_however_little_of_the_vein_lies_beyond_it():
    (fault,) = broken(16, 20)  # 2 of 19 slices
    assert fault.at[0] in (15, 20)
    assert broken(14, 20) == []  # nothing beyond: veins-reach tells


def test_all_gaps_are_told_in_one_finding():
    veins = VEINS & ~block((18, 20), (0, 40), (0, 100)) & ~block((26, 30), (0, 40), (0, 100))
    (fault,) = faults("veins-broken", scan(trunk(veins=veins)))
    assert "gaps of 16 and 8 mm" in fault.message


def test_tumour_at_one_end_of_a_piece_does_not_explain_a_gap_at_the_other():
    # The tumour touches the vein on the left; the gap lies 32 mm to the right of it.
    tumour = block((13, 18), (12, 18), (58, 64))
    assert broken(26, 30, pancreatic_lesion=tumour)


def test_tumour_in_the_gap_closes_the_vein():
    assert broken(20, 26, pancreatic_lesion=block((19, 27), (12, 18), (58, 64))) == []


def test_vein_whose_middle_lies_below_the_scan_is_not_broken():
    left, right = block((14, 16), (14, 16), (0, 20)), block((30, 32), (14, 16), (0, 20))
    assert faults("veins-broken", scan({"veins": left | right})) == []
    above = [np.roll(m, 1, 2) for m in (left, right)]
    assert faults("veins-broken", scan({"veins": above[0] | above[1]})) != []


def test_gap_of_a_patient_whose_tumour_was_not_drawn_is_a_remark():
    veins = VEINS & ~block((20, 26), (0, 40), (0, 100))
    (fault,) = faults(
        "veins-broken", scan(trunk(veins=veins, pancreatic_lesion=NOTHING), lesions=1)
    )
    assert fault.severity == "info"


def test_bile_duct_that_does_not_reach_the_liver_says_nothing_of_the_veins():
    short = block((38, 40), (16, 18), (40, 46))
    assert faults("veins-reach", scan(trunk(common_bile_duct=short))) == []
