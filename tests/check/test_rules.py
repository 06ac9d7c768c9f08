"""Each rule on two-block anatomy whose answer can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pantskit.check.findings import Severity
from pantskit.check.rules import (
    Labelled,
    attenuation,
    empty_structures,
    lesion_place,
    overlaps,
    parts_of_pancreas,
    sides,
    tumour_flag,
    volumes,
)
from pantskit.core.geometry import Geometry

SHAPE = (40, 30, 20)


def block(i=(0, 0), j=(5, 15), k=(5, 15)):
    mask = np.zeros(SHAPE, bool)
    mask[slice(*i), slice(*j), slice(*k)] = True
    return mask


def labelled(masks, *, spacing=(2.0, 2.0, 3.0), orientation="LAI", ct=None, **metadata):
    geometry = Geometry.from_spacing(SHAPE, spacing, orientation=orientation)
    return Labelled("case", geometry, masks, ct, metadata)


def found(rule, case):
    return [(f.rule, f.severity, f.structure) for f in rule(case)]


def test_empty_organ_is_reported_and_empty_tumour_is_not():
    case = labelled({"spleen": block(), "pancreatic_lesion": block(), "liver": block((0, 9))})
    assert found(empty_structures, case) == [("empty", Severity.INFO, "spleen")]


@pytest.mark.parametrize(
    ("sex", "voxels", "expected"),
    [("F", 0, []), ("F", 9, ["sex"]), ("M", 0, ["empty"]), ("M", 9, []), (None, 0, ["empty"])],
)
def test_prostate_is_expected_in_men_only(sex, voxels, expected):
    case = labelled({"prostate": block((0, voxels))}, sex=sex)
    assert [rule for rule, _, _ in found(empty_structures, case)] == expected


@pytest.mark.parametrize(
    ("flag", "voxels", "expected"), [(1, 0, 1), (0, 5, 1), (1, 5, 0), (0, 0, 0), (None, 5, 0)]
)
def test_tumour_flag_and_mask_must_agree(flag, voxels, expected):
    case = labelled({"pancreatic_lesion": block((0, voxels))}, lesions=flag)
    assert len(found(tumour_flag, case)) == expected


def test_lesion_of_four_voxels_is_a_slip():
    case = labelled({"pancreatic_lesion": block((0, 4), (0, 1), (0, 1))})
    (finding,) = lesion_place(case)
    assert (finding.rule, finding.value) == ("lesion-small", 4)


def test_lesion_away_from_the_pancreas_is_an_error():
    masks = {"pancreas": block((0, 10)), "pancreatic_lesion": block((20, 25))}
    assert found(lesion_place, labelled(masks)) == [
        ("lesion-outside", Severity.ERROR, "pancreatic_lesion")
    ]


def test_lesion_inside_the_pancreas_is_fine():
    masks = {"pancreas": block((0, 10)), "pancreatic_lesion": block((2, 5))}
    assert found(lesion_place, labelled(masks)) == []


def test_overlap_counts_shared_voxels():
    # 3 x 10 x 10 voxels in both
    case = labelled({"liver": block((0, 10)), "stomach": block((7, 20))})
    (finding,) = overlaps(case)
    assert (finding.rule, finding.severity, finding.value) == ("overlap", Severity.WARNING, 300)


def test_overlap_of_left_and_right_is_an_error():
    case = labelled({"kidney_left": block((0, 10)), "kidney_right": block((5, 20))})
    assert found(overlaps, case) == [("overlap", Severity.ERROR, "kidney_left")]


def test_parts_of_the_pancreas_may_overlap_it():
    masks = {
        "pancreas": block((0, 20)),
        "pancreas_head": block((0, 10)),
        "pancreatic_duct": block((5, 15)),
        "pancreatic_lesion": block((8, 12)),
    }
    assert found(overlaps, labelled(masks)) == []


@pytest.mark.parametrize("orientation", ["LAI", "RAS", "RPI", "LPS"])
def test_sides_are_judged_in_the_world_and_not_by_index(orientation):
    low, high = block((2, 8)), block((30, 36))
    left, right = (low, high) if orientation[0] == "R" else (high, low)
    case = labelled({"kidney_left": left, "kidney_right": right}, orientation=orientation)
    assert found(sides, case) == []
    swapped = labelled({"kidney_left": right, "kidney_right": left}, orientation=orientation)
    assert found(sides, swapped) == [("sides", Severity.ERROR, "kidney_left")]


def test_pancreas_that_is_not_its_parts_is_reported_with_their_dsc():
    masks = {"pancreas": block((0, 20)), "pancreas_head": block((0, 10))}
    (finding,) = parts_of_pancreas(labelled(masks))
    assert finding.value == pytest.approx(2 * 10 / 30)


def test_volume_uses_the_spacing():
    # 10 x 10 x 10 voxels of 2 x 2 x 3 mm are 12 ml: less than any spleen
    (finding,) = volumes(labelled({"spleen": block((5, 15))}))
    assert finding.value == pytest.approx(12.0)


def test_small_organ_cut_by_the_view_is_not_reported():
    assert found(volumes, labelled({"spleen": block((0, 10))})) == []


def test_labels_of_another_ct_are_found_by_their_hu():
    ct = np.full(SHAPE, -69, np.int16)
    assert found(attenuation, labelled({"liver": block((5, 15))}, ct=ct)) == [
        ("hu", Severity.ERROR, "liver")
    ]


def test_right_hu_is_no_finding():
    ct = np.full(SHAPE, 100, np.int16)
    assert found(attenuation, labelled({"liver": block((5, 15))}, ct=ct)) == []
