"""Whether values are HU, asked of crops: from inside organs, with fat, and of what is no CT."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import faults

from pantskit.check.case import check_arrays
from pantskit.check.read import CaseFiles
from pantskit.check.values import value_doubt, value_problem
from pantskit.core.dataset import Case
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume, read_volume


def ct(array, mm=(1.0, 1.0, 1.0)):
    return Volume(np.asfortranarray(array), Geometry.from_spacing(array.shape, mm))


def liver(*shape, mean=100):
    """Flesh with the noise of a scan, none of it below 0 HU."""
    return np.random.default_rng(7).normal(mean, 10, shape).clip(20, None).round().astype(np.int16)


def half_fat(*shape):
    array = liver(*shape)
    array[shape[0] // 2 :] -= 200
    return array


def severities(volume):
    files = CaseFiles(Case("case", "train", None, None, None), ct=volume)
    files.value_problem = value_problem(volume)
    files.value_doubt = value_doubt(volume)
    return [str(f.severity or "error") for f in faults("image-values", files)]


@pytest.mark.parametrize("shape", [(3, 3, 2), (1, 1, 1), (2, 1, 30), (20, 20, 20), (29, 29, 60)])
def test_crop_from_inside_an_organ_is_not_told_of(shape):
    assert severities(ct(liver(*shape))) == []


def test_wider_crop_without_fat_is_in_doubt_and_one_wider_than_organs_is_wrong():
    assert severities(ct(liver(31, 31, 3))) == ["warning"]
    assert severities(ct(liver(16, 16, 3), (10.0, 10.0, 3.0))) == ["error"]
    assert severities(ct(half_fat(31, 31, 3))) == []


def test_rod_along_a_vessel_is_not_wide():
    assert severities(ct(liver(8, 8, 200, mean=300))) == []


def test_offset_left_out_is_told_of_crops_that_bone_does_not_fill():
    assert severities(ct(half_fat(20, 20, 5) + 1024)) == ["error"]
    assert severities(ct(liver(20, 20, 5) + 1024)) == ["error"]
    assert severities(ct(liver(5, 5, 60, mean=1200))) == []  # along the wall of a thighbone
    rib = liver(20, 20, 20)
    rib[:4] = 1100
    assert severities(ct(rib)) == []


def test_label_map_and_a_single_value_are_told_at_any_size_but_a_few_voxels():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[2:] = 7
    assert severities(ct(labels)) == ["error"]
    for value in (60, -100):
        assert severities(ct(np.full((4, 4, 4), value, np.int16))) == ["error"]
        assert severities(ct(np.full((2, 1, 1), value, np.int16))) == []


def test_nothing_but_air_and_what_is_no_number_are_told_at_any_size():
    assert severities(ct(liver(3, 3, 3, mean=100) - 1100)) == ["error"]
    assert "not finite" in value_problem(ct(np.full((1, 1, 1), np.nan, np.float32)))


def test_offset_that_no_crop_shows_is_told_by_what_is_under_a_mask_that_is_whole():
    crop = ct(liver(3, 3, 2) + 1024)
    assert severities(crop) == []
    masks = {"liver": np.ones((3, 3, 2), np.bool_), "spleen": np.zeros((3, 3, 2), np.bool_)}
    found = check_arrays(masks, crop.geometry, ct=crop.array)
    assert "hu" not in {f.rule for f in found}  # of a sliver of an organ nobody knows
    inside = np.zeros((40, 40, 40), np.bool_)
    inside[1:-1, 1:-1, 1:-1] = True
    wider = ct(liver(40, 40, 40) + 1024)
    found = check_arrays({"veins": inside}, wider.geometry, ct=wider.array)
    assert "hu" in {f.rule for f in found}


def crops(array, n):
    """All cubes of n voxels without a voxel below 0, by their corners; and any others."""
    below = np.zeros([s + 1 for s in array.shape], np.int32)
    below[1:, 1:, 1:] = (array < 0).cumsum(0).cumsum(1).cumsum(2)
    for axis in range(3):
        below = below.take(range(n, below.shape[axis]), axis) - below.take(
            range(below.shape[axis] - n), axis
        )
    return np.argwhere(below == 0), np.argwhere(below > 0)


@pytest.mark.parametrize("name", ["example_ct", "example_ct_sm"])
@pytest.mark.parametrize("n", [2, 3, 5, 7, 9])
def test_real_crops_without_fat_are_never_told_and_with_an_offset_the_larger_ones(
    shared_data, name, n
):
    """At 3 mm: cubes of 6 to 27 mm, from flesh, contrast medium and bone."""
    array = read_volume(shared_data / "totalsegmentator" / f"{name}.nii.gz").array
    inside, others = crops(array, n)
    pick = np.random.default_rng(1)
    told = {}
    for kind, corners in (("inside", inside), ("others", others)):
        some = corners[pick.permutation(len(corners))[:100]]
        assert len(some) == 100
        cubes = [array[i : i + n, j : j + n, k : k + n] for i, j, k in some]
        assert not any(value_problem(ct(c, (3.0,) * 3)) for c in cubes if c.max() > -900)
        flesh = [c for c in cubes if ((c > -200) & (c < 300)).mean() > 0.5 and c.min() >= -1024]
        told[kind] = np.mean([bool(value_problem(ct(c + 1024, (3.0,) * 3))) for c in flesh])
    if n * 3 > 20:
        assert told["inside"] == 1
        assert told["others"] > 0.98
