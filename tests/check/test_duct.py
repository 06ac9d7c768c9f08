"""Rules on the pancreatic duct, in a gland that winds: what counts is the way through it."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import block, faults, scan

from pantskit.check.course import course_of_gland, widest_gap, without

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
    assert [severity for _, severity in found("duct-extent", thin, wide_mm2=20)] == ["info"] * 2


def test_gap_is_told_unless_a_tumour_lies_in_it():
    broken = DUCT & ~block((20, 32), (0, 40), (0, 100))
    ((gap, severity),) = found("duct-broken", broken)
    assert gap == pytest.approx(13 * 4, abs=8)
    assert severity is None
    assert found("duct-broken", broken, block((19, 33), (17, 23), (49, 55))) == []


def test_duct_below_a_tumour_may_be_closed():
    kept = DUCT & block((0, 34), (0, 40), (0, 100))
    assert found("duct-extent", kept) != []
    assert found("duct-extent", kept, block((33, 40), (17, 23), (49, 55))) == []


def test_stretches():
    assert widest_gap(np.array([1, 2, 9, 10], np.float32)) == (2, 9)
    assert widest_gap(np.array([], np.float32)) == (0, 0)
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
