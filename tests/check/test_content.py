"""Rules of content: what lies under the masks."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import block, faults, painted, scan, trunk

from pantskit.check.scan import Scan
from pantskit.core.geometry import Geometry


def test_volume_uses_the_spacing():
    # 10 x 10 x 10 voxels of 2 x 2 x 3 mm are 12 ml: less than any spleen
    view = scan({"spleen": block((5, 15), (5, 15), (5, 15))}, spacing=(2, 2, 3))
    (fault,) = faults("volume", view)
    assert fault.value == pytest.approx(12.0)


def test_small_organ_cut_by_the_view_is_not_reported():
    assert faults("volume", scan({"spleen": block((0, 5), (5, 8), (5, 8))})) == []


def test_view_ends_where_the_padding_begins():
    masks = {"spleen": block((5, 8), (5, 8), (20, 24))}
    ct = np.full((60, 40, 100), -1000, np.int16)
    ct[:, :, 20:60] = 40
    assert faults("volume", scan(masks))
    assert faults("volume", scan(masks, ct=ct)) == []


def test_labels_of_another_slab_are_found_by_their_content():
    masks = trunk()
    shifted = np.roll(painted(masks), 40, 2)
    (fault,) = faults("other-ct", scan(masks, ct=shifted))
    assert fault.severity is None
    assert "another CT" in fault.message
    assert faults("other-ct", scan(masks, ct=painted(masks))) == []


def test_one_organ_in_the_wrong_place_is_a_warning():
    masks = trunk()
    ct = painted(masks)
    masks["spleen"] = np.roll(masks["spleen"], -16, 2)
    (fault,) = faults("other-ct", scan(masks, ct=ct))
    assert (fault.structure, fault.severity) == ("spleen", "warning")


def test_mask_drawn_too_wide_holds_fat():
    masks = trunk()
    ct = painted(masks)
    masks["spleen"] = block((6, 14), (8, 18), (62, 78))  # 2 of 10 rows in fat
    (fault,) = faults("fat", scan(masks, ct=ct))
    assert fault.value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("phase", "hu", "wrong"),
    [
        ("portal_venous", 100, False),
        ("portal_venous", 20, True),
        ("non_contrast", 20, False),
        ("non_contrast", 100, True),
        (None, 20, False),
        (None, 180, True),
    ],
)
def test_hu_are_judged_by_phase(phase, hu, wrong):
    masks = {"liver": block((34, 54), (12, 32), (60, 80))}
    ct = np.full((60, 40, 100), hu, np.int16)
    assert bool(faults("hu", scan(masks, ct=ct, phase=phase))) is wrong


@pytest.mark.parametrize(
    ("told", "aorta", "vein", "kidney", "wrong"),
    [
        ("non_contrast", 45, 45, 35, False),
        ("non_contrast", 160, 170, 180, True),
        ("arterial", 320, 90, 120, False),
        ("arterial", 45, 45, 35, True),
        ("arterial", 130, 150, 160, True),
        ("portal_venous", 160, 170, 180, False),
        ("portal_venous", 330, 90, 120, True),
        ("portal_venous", 40, 40, 30, True),
        ("delayed", 110, 115, 150, False),
        ("delayed", 330, 90, 120, True),
        ("unheard of", 160, 170, 180, False),
        (None, 160, 170, 180, False),
    ],
)
def test_phase_of_the_metadata_against_the_vessels(told, aorta, vein, kidney, wrong):
    masks = {s: trunk()[s] for s in ("aorta", "veins", "kidney_left")}
    ct = np.full((60, 40, 100), -90, np.int16)
    for name, value in (("aorta", aorta), ("veins", vein), ("kidney_left", kidney)):
        ct[masks[name]] = value
    assert bool(faults("phase", scan(masks, ct=ct, phase=told))) is wrong


def test_fluid_in_a_lung_is_an_effusion():
    masks = {"lung_left": block((6, 26), (6, 32), (82, 100))}
    ct = np.full((60, 40, 100), -850, np.int16)
    assert faults("effusion", scan(masks, ct=ct)) == []
    ct[:, 6:16] = 10
    (fault,) = faults("effusion", scan(masks, ct=ct))
    assert fault.value == pytest.approx(10 / 26)


def test_tumour_in_a_gland_does_not_make_it_too_large():
    tail = block((4, 26), (10, 24), (50, 56))  # 118 ml
    assert faults("volume", scan({"pancreas_tail": tail}))
    masks = {
        "pancreas_tail": tail,
        "pancreatic_lesion": block((8, 20), (12, 22), (50, 56)),
    }  # 46 ml
    assert faults("volume", scan(masks)) == []


def test_excreted_contrast_in_a_kidney_is_its_pelvis():
    masks = {"kidney_left": trunk()["kidney_left"]}
    ct = np.full((60, 40, 100), 150, np.int16)
    assert faults("renal-pelvis", scan(masks, ct=ct, phase="delayed")) == []
    ct[12:14, 6:9, 51:54] = 500  # 18 voxels of 0.064 ml
    (fault,) = faults("renal-pelvis", scan(masks, ct=ct, phase="delayed"))
    assert fault.value == pytest.approx(18 * 0.064)
    assert ct[fault.at] == 500
    ct[:] = 150
    ct[10:18:3, 4:12:3, 44:62:3] = 500  # 54 voxels that do not touch
    assert faults("renal-pelvis", scan(masks, ct=ct, phase="delayed")) == []


def test_cortex_in_the_arterial_phase_is_as_bright_as_the_blood_and_a_pelvis_is_brighter():
    masks = {"kidney_left": trunk()["kidney_left"], "aorta": trunk()["aorta"]}
    ct = np.full((60, 40, 100), 120, np.int16)
    ct[masks["aorta"]] = 320
    ct[12:14, 6:9, 51:54] = 340  # 1.15 ml as bright as blood: it may be an artery
    assert faults("renal-pelvis", scan(masks, ct=ct, phase="arterial")) == []
    ct[12:14, 6:9, 51:54] = 420
    assert len(faults("renal-pelvis", scan(masks, ct=ct, phase="arterial"))) == 1
    # Without the aorta nobody knows how bright the blood is.
    del masks["aorta"]
    assert faults("renal-pelvis", scan(masks, ct=ct, phase="arterial")) == []


def test_pelvis_as_bright_as_the_blood_is_told_in_the_arterial_phase_when_it_is_no_artery():
    masks = {"kidney_left": trunk()["kidney_left"], "aorta": trunk()["aorta"]}
    ct = np.full((60, 40, 100), 120, np.int16)
    ct[masks["aorta"]] = 340
    ct[12:14, 6:9, 50:54] = 350  # 24 voxels of 0.064 ml
    (fault,) = faults("renal-pelvis", scan(masks, ct=ct, phase="arterial"))
    assert fault.value == pytest.approx(24 * 0.064)
    assert ct[fault.at] == 350
    # An artery through the whole kidney, a voxel wide: 18 of them.
    ct[10:18, 4:12, 44:62] = 120
    ct[13, 8, 44:62] = 350
    assert faults("renal-pelvis", scan(masks, ct=ct, phase="arterial")) == []


def test_pelvis_that_is_a_third_of_the_mask_is_told_in_the_arterial_phase():
    masks = {"kidney_left": trunk()["kidney_left"], "aorta": trunk()["aorta"]}
    ct = np.full((60, 40, 100), 180, np.int16)
    ct[12:17, 5:11, 46:59] = 600
    ct[masks["aorta"]] = 340
    assert len(faults("renal-pelvis", scan(masks, ct=ct, phase="arterial"))) == 1


def test_bright_cortex_of_the_arterial_phase_is_no_pelvis():
    masks = {"kidney_left": trunk()["kidney_left"], "aorta": trunk()["aorta"]}
    ct = np.full((60, 40, 100), 290, np.int16)  # the cortex, two thirds of the mask
    ct[12:16, 5:11, 46:60] = 110
    ct[masks["aorta"]] = 380
    assert faults("renal-pelvis", scan(masks, ct=ct, phase="arterial")) == []


def test_water_around_a_lung_is_told_earlier_than_flesh():
    masks = {"lung_left": block((6, 26), (6, 32), (82, 100))}
    ct = np.full((60, 40, 100), -850, np.int16)
    ct[:, 6:8] = 80  # 2 of 26 rows: collapsed lung belongs to the mask
    assert faults("effusion", scan(masks, ct=ct)) == []
    ct[:, 6:8] = 10
    assert faults("effusion", scan(masks, ct=ct))


def test_fat_deep_in_a_kidney_is_its_sinus_and_fat_at_its_border_is_not():
    masks = {"kidney_left": block((10, 18), (4, 12), (44, 62))}
    ct = np.full((60, 40, 100), -90, np.int16)
    ct[11:17, 5:11, 45:61] = 150
    assert faults("renal-sinus", scan(masks, ct=ct)) == []
    ct[12:15, 6:9, 50:52] = -90
    (fault,) = faults("renal-sinus", scan(masks, ct=ct))
    assert fault.value == pytest.approx(18 * 0.064)


def mixed(*shape):
    """Flesh whose lower half is fat mixed into it by any share: HU between, in no peak."""
    rng = np.random.default_rng(2)
    values = rng.normal(60, 15, shape)
    values[: shape[0] // 2] -= 160 * rng.random((shape[0] // 2, *shape[1:]))
    return values.round().astype(np.int16)


def offset_in(ct):
    masks = {"liver": np.ones(ct.shape, np.bool_)}
    return faults("hu-offset", Scan.from_masks("case", grid(ct.shape), masks, ct=ct))


def grid(shape):
    return Geometry.from_spacing(shape, (2.0, 2.0, 2.0), orientation="RAS")


def test_borders_of_fat_and_flesh_are_no_fat_of_another_hu():
    for shape in ((6, 6, 6), (20, 20, 10), (30, 30, 30)):
        assert offset_in(mixed(*shape)) == []


def test_offset_of_a_crop_is_a_warning():
    fat = np.random.default_rng(4).normal(-100, 15, (40, 40, 40)).round().astype(np.int16)
    fat[20:] += 160
    assert offset_in(fat) == []
    (fault,) = offset_in(fat + 50)
    assert fault.severity == "warning"
    assert abs(fault.value + 50) <= 5


@pytest.mark.parametrize(("offset", "told"), [(0, False), (20, False), (50, True), (-50, True)])
def test_offset_of_all_hu_is_told_by_fat(offset, told):
    ct = painted(trunk()) + np.int16(offset - 10)
    assert bool(faults("hu-offset", scan(trunk(), ct=ct))) is told


def test_mask_that_was_eroded_is_told_by_its_rim():
    whole = block((10, 26), (10, 26), (30, 46))
    ct = np.full((60, 40, 100), -90, np.int16)
    ct[whole] = 110
    assert faults("rim", scan({"liver": whole}, ct=ct)) == []
    small = {"liver": block((11, 25), (11, 25), (31, 45))}
    (fault,) = faults("rim", scan(small, ct=ct))
    assert fault.value == pytest.approx(1.0)
    # What another structure has is no part of it.
    around = whole & ~small["liver"]
    assert faults("rim", scan(small | {"stomach": around}, ct=ct)) == []


def test_end_of_a_liver_behind_which_the_ct_shows_liver_is_told_where_it_leans_on_the_wall():
    i, j, k = np.indices((60, 40, 100))
    ball = (i - 30) ** 2 + (j - 20) ** 2 + (k - 50) ** 2 < 15**2
    ct = np.full((60, 40, 100), -90, np.int16)
    ct[ball] = 110
    assert faults("straight-cut", scan({"liver": ball}, ct=ct)) == []
    assert faults("straight-cut", scan({"liver": ball & (i > 17)}, ct=ct)) == []  # may be muscle
    cut = ball & (i > 20)
    (fault,) = faults("straight-cut", scan({"liver": cut}, ct=ct))
    assert "though it goes on" in fault.message
    ct[~cut] = -90
    assert faults("straight-cut", scan({"liver": cut}, ct=ct)) == []


def test_an_organ_that_lies_flat_on_gas_was_not_cut():
    i, j, k = np.indices((60, 40, 100))
    ball = (i - 30) ** 2 + (j - 20) ** 2 + (k - 50) ** 2 < 14**2
    half = ball & (k > 48)
    ct = np.full((60, 40, 100), -90, np.int16)
    ct[ball] = 15
    (fault,) = faults("straight-cut", scan({"gall_bladder": half}, ct=ct))
    assert "lower side" in fault.message
    ct[:, :, :49] = -850  # a loop of bowel
    assert faults("straight-cut", scan({"gall_bladder": half}, ct=ct)) == []


def test_cyst_in_the_gland_is_no_fault_of_its_hu():
    masks = {"pancreas": block((10, 20), (10, 20), (10, 20))}
    ct = np.full((60, 40, 100), 100, np.int16)
    ct[10:19, 10:20, 10:20] = 5
    assert faults("hu", scan(masks, ct=ct, phase="portal_venous"))
    masks["pancreatic_lesion"] = block((10, 19), (10, 20), (10, 20))
    found = faults("hu", scan(masks, ct=ct, phase="portal_venous"))
    assert [f.structure for f in found] == []


@pytest.mark.parametrize(("hu", "told"), [(-900, False), (0, True)])
def test_lung_at_the_border_of_a_small_spleen_is_not_the_spleen(hu, told):
    # One of 16 slices is lung: 15 x 45 and -900 have a mean of -14. Border voxels are half of all.
    masks = {"spleen": trunk()["spleen"]}
    ct = np.full((60, 40, 100), 45 if hu < 0 else hu, np.int16)
    ct[:, :, 77] = hu
    assert bool(faults("hu", scan(masks, ct=ct, phase="non_contrast"))) == told
