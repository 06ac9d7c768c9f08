"""Head, body and tail are the pancreas divided: no gap, no overlap, nothing outside."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import block, faults, scan

NOTHING = block((0, 0), (0, 0), (0, 0))
HEAD = block((30, 40), (10, 16), (10, 16))
BODY = block((20, 30), (10, 16), (10, 16))
TAIL = block((10, 20), (10, 16), (10, 16))
GAP = block((28, 32), (10, 16), (10, 16))  # 4 of 30 slices


def parts(**changed):
    """The gland of 30 slices of 36 voxels in three parts, or something else in their place."""
    masks = {"pancreas": HEAD | BODY | TAIL, "pancreas_head": HEAD, "pancreas_body": BODY}
    return scan(masks | {"pancreas_tail": TAIL} | changed)


def told(rule, **changed):
    return [(f.structure, f.value) for f in faults(rule, parts(**changed))]


def test_divided_gland_is_no_fault():
    assert told("pancreas-parts") == []
    assert told("overlap") == []


@pytest.mark.parametrize("filled_by", ["pancreatic_lesion", "pancreatic_duct"])
def test_gap_counts_though_a_tumour_or_the_duct_lies_in_it_if_parts_have_the_rest_of_it(filled_by):
    wider = block((26, 34), (10, 16), (10, 16))
    gap = {"pancreas_head": HEAD & ~GAP, "pancreas_body": BODY & ~GAP}
    assert told("pancreas-parts", **gap) == [("pancreas", pytest.approx(4 / 30))]
    assert told("pancreas-parts", **gap, **{filled_by: wider}) == [
        ("pancreas", pytest.approx(4 / 30))
    ]


def test_parts_without_tumour_and_duct_are_whole_as_a_label_map_gives_them():
    map_like = {"pancreas_head": HEAD & ~GAP, "pancreas_body": BODY & ~GAP}
    assert told("pancreas-parts", **map_like, pancreatic_lesion=GAP) == []
    half, other = GAP & HEAD, GAP & BODY
    assert told("pancreas-parts", **map_like, pancreatic_lesion=half, pancreatic_duct=other) == []


def test_tumour_that_protrudes_is_a_fault_of_the_tumour_alone():
    tumour = block((28, 32), (10, 22), (10, 16))  # half of it
    assert told("pancreas-parts", pancreatic_lesion=tumour) == []
    assert told("lesion-outside", pancreatic_lesion=tumour) == [
        ("pancreatic_lesion", pytest.approx(0.5))
    ]


def test_parts_that_protrude_are_a_fault_of_the_pancreas():
    wide = block((30, 40), (10, 18), (10, 16))
    # 10 x 2 x 6 voxels beyond the 30 x 36 of the gland.
    assert told("pancreas-parts", pancreas_head=wide) == [
        ("pancreas", pytest.approx(120 / (1080 + 120)))
    ]


def test_one_voxel_in_two_parts_is_told_and_one_in_two_organs_is_not():
    body = BODY | block((30, 31), (10, 11), (10, 11))
    ((structure, shared),) = told("overlap", pancreas_body=body)
    assert structure in ("pancreas_head", "pancreas_body")
    assert shared == 1
    assert faults("overlap", scan({"liver": HEAD, "stomach": body})) == []


def test_parts_that_both_leave_the_view_may_meet_outside_of_it():
    head, body = block((30, 40), (10, 16), (0, 6)), block((10, 20), (10, 16), (0, 6))
    apart = {"pancreas_head": head, "pancreas_body": body}
    assert faults("parts-apart", scan(apart)) == []
    whole = {s: np.roll(m, 1, 2) for s, m in apart.items()}
    assert [f.value for f in faults("parts-apart", scan(whole))] == [pytest.approx(40, abs=1)]


def test_label_of_no_part_at_all_says_nothing():
    view = scan({"pancreas": HEAD, "pancreas_head": NOTHING})
    assert [f.value for f in faults("pancreas-parts", view)] == [pytest.approx(1)]
    assert faults("pancreas-parts", scan({"pancreas": HEAD})) == []
