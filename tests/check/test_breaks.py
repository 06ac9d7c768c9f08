"""Gaps between the pieces of a tube, by blocks of 4 mm voxels."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import block, scan

from pantskit.check.breaks import breaks_of, open_mm, section_mm2

TUBE = block((10, 40), (20, 22), (50, 52))


def without(*gaps):
    tube = TUBE.copy()
    for first, last in gaps:
        tube[first:last] = False
    return tube


def test_tube_of_one_piece_has_no_gap():
    assert breaks_of(scan({"veins": TUBE}), "veins") == []


def test_gaps_are_as_long_as_what_is_missing_the_widest_first():
    first, second = breaks_of(scan({"veins": without((14, 16), (25, 30))}), "veins")
    assert (first.mm, second.mm) == (pytest.approx(5 * 4), pytest.approx(2 * 4))
    # 4 slices before the narrow gap, 9 between, 10 behind the wide one.
    assert first.share == pytest.approx(10 / 23)
    assert second.share == pytest.approx(4 / 23)
    assert first.at[0] == 30
    assert second.at[0] == 13


def test_piece_in_the_middle_of_a_gap_makes_two_of_it():
    pieces = without((15, 35)) | block((24, 26), (20, 22), (50, 52))
    assert [b.mm for b in breaks_of(scan({"veins": pieces}), "veins")] == [pytest.approx(36)] * 2


def test_pieces_that_lie_one_above_the_other_are_apart_by_their_voxels_not_their_boxes():
    lower = block((10, 30), (20, 22), (50, 52))
    hook = block((28, 30), (20, 22), (52, 60)) | block((10, 30), (20, 22), (60, 62))
    far = block((10, 12), (20, 22), (55, 57))
    gap = breaks_of(scan({"veins": lower | hook | far}), "veins")
    assert [b.mm for b in gap] == [pytest.approx(3 * 4)]


def test_tumour_closes_what_it_covers():
    masks = {"veins": without((20, 30))}
    covering, half, away = (
        block((19, 31), (18, 24), (48, 54)),
        block((26, 31), (18, 24), (48, 54)),
        block((0, 4), (18, 24), (48, 54)),
    )
    for tumour, left in ((covering, 0), (half, 24), (away, 40)):
        case = scan(masks | {"pancreatic_lesion": tumour})
        (gap,) = breaks_of(case, "veins")
        assert open_mm(case, gap, 0) == pytest.approx(left, abs=3)


def test_section_is_that_of_the_thinner_side():
    tube = without((20, 30)) | block((10, 20), (20, 24), (50, 52))
    case = scan({"veins": tube})
    (gap,) = breaks_of(case, "veins")
    # 2 x 2 voxels of 4 mm are 64 mm2; some stretches of 6 mm hold two slices, some one.
    assert section_mm2(case, "veins", gap) == pytest.approx(64, rel=0.3)
    assert np.count_nonzero(tube[15]) == 8
