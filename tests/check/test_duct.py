"""Rules on the pancreatic duct, in a gland that winds: what counts is the way through it."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import block, faults, scan

from pantskit.check.course import course_of_gland, without
from pantskit.check.depth import deeper_elsewhere

# A gland like a hook, 4 mm voxels: 28 voxels from the tail (left) to the right, then 20 down.
GLAND = block((10, 42), (18, 22), (50, 54)) | block((38, 42), (18, 22), (30, 54))
DUCT = block((12, 41), (19, 21), (51, 53)) | block((39, 41), (19, 21), (32, 53))
NOTHING = block((0, 0), (0, 0), (0, 0))


def found(rule, duct, lesion=NOTHING, **limits):
    masks = {"pancreas": GLAND, "pancreatic_duct": duct, "pancreatic_lesion": lesion}
    return [(f.value, f.severity) for f in faults(rule, scan(masks), **limits)]


def test_course_runs_from_the_tip_of_the_tail_around_the_bend():
    course = course_of_gland(scan({"pancreas": GLAND}))
    # 30 cells to the bend and 22 down, some of both at once around the corner.
    assert 150 < course.length_mm < 4 * 52
    assert course.places[0, 0, -1] < 16
    assert course.places[-1, 0, 0] > course.length_mm - 16
    assert np.isnan(course.places[0, 0, 0])


def test_gland_in_two_pieces_has_no_course():
    parts = block((10, 20), (18, 22), (50, 54)) | block((40, 50), (18, 22), (50, 54))
    assert course_of_gland(scan({"pancreas": parts})) is None


def test_duct_from_end_to_end_is_no_fault():
    assert found("duct-extent", DUCT) == []
    assert found("duct-broken", DUCT) == []


@pytest.mark.parametrize(
    ("kept", "end"),
    [
        (block((26, 60), (0, 40), (0, 100)), "tail"),
        (block((0, 60), (0, 40), (44, 100)), "head"),
    ],
)
def test_duct_that_stops_short_is_told_with_the_end_that_it_misses(kept, end):
    masks = {"pancreas": GLAND, "pancreatic_duct": DUCT & kept}
    (fault,) = faults("duct-extent", scan(masks))
    assert fault.severity is None
    assert end in fault.message
    assert fault.value == pytest.approx(14 * 4, abs=12)


def test_thin_duct_that_stops_short_is_a_remark():
    thin = block((26, 41), (19, 20), (51, 52))  # 16 mm2, and it lacks both ends
    assert [severity for _, severity in found("duct-extent", thin)] == ["info"] * 2


def test_gap_is_told_unless_a_tumour_lies_in_it():
    broken = DUCT & ~block((20, 32), (0, 40), (0, 100))
    # From voxel 19 to 32 are 13 steps of 4 mm, of which 12 voxels are missing.
    assert found("duct-broken", broken) == [(pytest.approx(48), None)]
    assert found("duct-broken", broken, block((19, 33), (17, 23), (49, 55))) == []


def test_tumour_in_one_gap_does_not_explain_another():
    broken = DUCT & ~block((14, 24), (0, 40), (0, 100)) & ~block((30, 36), (0, 40), (0, 100))
    tumour = block((13, 25), (17, 23), (49, 55))
    assert found("duct-broken", broken, tumour) == [(pytest.approx(24), None)]
    # What is left of the wider gap beside a smaller tumour: from the end at 13 to a voxel and
    # 3 mm before the tumour.
    half = block((20, 25), (17, 23), (49, 55))
    ((gap, _),) = found("duct-broken", broken, half, gap_mm=15, voxels=0)
    assert gap == pytest.approx((20 - 13) * 4 - 5, abs=4)


def test_gap_of_a_duct_that_is_a_voxel_wide_is_a_remark():
    thin = block((12, 41), (19, 20), (51, 52)) & ~block((20, 32), (0, 40), (0, 100))
    assert found("duct-broken", thin) == [(pytest.approx(48), "info")]


def test_gap_where_a_tumour_was_not_drawn_is_a_remark():
    masks = {
        "pancreas": GLAND,
        "pancreatic_duct": DUCT & ~block((20, 32), (0, 40), (0, 100)),
        "pancreatic_lesion": NOTHING,
    }
    (fault,) = faults("duct-broken", scan(masks, lesions=1))
    assert fault.severity == "info"
    assert "no mask" in fault.message
    (fault,) = faults("duct-broken", scan(masks, lesions=0))
    assert fault.severity is None


def test_duct_that_is_not_seen_below_a_tumour_is_a_remark():
    kept = DUCT & block((0, 34), (0, 40), (0, 100))
    assert [severity for _, severity in found("duct-extent", kept)] == [None]
    behind = block((33, 40), (17, 23), (49, 55))
    assert [severity for _, severity in found("duct-extent", kept, behind)] == ["info"]


def test_duct_that_reaches_the_duodenum_is_whole_however_far_the_head_goes_on():
    kept = DUCT & block((0, 60), (0, 40), (44, 100))
    masks = {"pancreas": GLAND, "pancreatic_duct": kept}
    assert faults("duct-extent", scan(masks))
    beside, far = block((43, 46), (18, 22), (40, 50)), block((50, 54), (18, 22), (30, 34))
    assert not faults("duct-extent", scan(masks | {"duodenum": beside}))
    assert faults("duct-extent", scan(masks | {"duodenum": far}))


def test_stretches():
    assert without(0, 10, None) == 10
    assert without(0, 10, (4, 20)) == 4
    assert without(0, 10, (-5, 30)) == 0
    assert without(0, 10, (12, 30)) == 10


@pytest.mark.parametrize(("beyond", "told"), [(4, False), (10, True)])
def test_quarter_of_a_duct_that_leaves_the_gland_is_told(beyond, told):
    # 22 slices lie in the gland; of those below it the first is within a voxel and 3 mm.
    duct = block((39, 41), (19, 21), (30 - beyond, 52))
    masks = {"pancreas": GLAND, "pancreatic_duct": duct}
    assert bool(faults("duct-outside", scan(masks))) == told


# A gland of 128 x 32 x 32 mm, and a duct of 8 mm in the middle of it.
THICK = block((10, 42), (16, 24), (48, 56))
MIDDLE = block((12, 40), (19, 21), (51, 53))


@pytest.mark.parametrize("move", [(0, 4, 0), (0, -4, 0), (0, 0, 4), (0, 0, -4)])
def test_duct_that_was_moved_to_the_border_of_the_gland_is_told(move):
    moved = np.roll(MIDDLE, move, axis=(0, 1, 2))  # half of it lies outside, by a voxel
    (fault,) = faults("duct-outside", scan({"pancreas": THICK, "pancreatic_duct": moved}))
    assert fault.value == pytest.approx(0.5)
    assert "out of place" in fault.message
    assert moved[fault.at]
    assert not THICK[fault.at]


def test_duct_that_leaves_the_gland_by_a_voxel_on_one_side_and_on_the_other_is_not_moved():
    front, back = block((12, 22), (23, 25), (51, 53)), block((30, 40), (15, 17), (51, 53))
    between = block((20, 32), (15, 25), (51, 53))
    masks = {"pancreas": THICK, "pancreatic_duct": front | between | back}
    assert faults("duct-outside", scan(masks)) == []


def test_duct_near_the_border_of_the_gland_is_not_moved():
    inside = np.roll(MIDDLE, 3, axis=1)
    assert faults("duct-outside", scan({"pancreas": THICK, "pancreatic_duct": inside})) == []


def test_short_piece_of_a_duct_at_the_border_may_be_all_that_is_seen():
    piece = block((20, 26), (23, 25), (51, 53))
    assert faults("duct-outside", scan({"pancreas": THICK, "pancreatic_duct": piece})) == []


def test_duct_that_the_mask_of_the_gland_leaves_out_is_not_moved():
    masks = {"pancreas": THICK & ~MIDDLE, "pancreatic_duct": MIDDLE}
    assert faults("duct-outside", scan(masks)) == []


@pytest.mark.parametrize(("mm", "within"), [(4, 0.01), (0.7, 1.4)])
def test_how_much_deeper_it_would_lie_elsewhere(mm, within):
    # 80 or 14 mm thick; fine voxels are thinned to 1.4 mm.
    view = scan({"pancreas": block((0, 60), (20, 40), (0, 100))}, spacing=(4, mm, 4))
    organ = view.regions["pancreas"]
    for away in (1, 2):  # a line of voxels behind it, the first half a voxel from the border
        line = np.array([[i, 20 - away, 50] for i in range(20, 40)])
        gain = deeper_elsewhere(view, line, organ, deep_mm=5)
        assert gain == pytest.approx(5 + (away - 0.5) * mm, abs=within)
    line[:, 1] = 30
    assert deeper_elsewhere(view, line, organ, deep_mm=5) == 0
