"""Rules of masks: each on blocks whose answer can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import block, faults, painted, scan, trunk

NOTHING = block((0, 0), (0, 0), (0, 0))


def structures(name, view, **limits):
    return [f.structure for f in faults(name, view, **limits)]


def test_empty_organ_is_reported_and_empty_tumour_is_not():
    view = scan({"spleen": NOTHING, "pancreatic_lesion": NOTHING})
    assert structures("empty", view) == ["spleen"]


@pytest.mark.parametrize(
    ("sex", "there", "empty", "wrong"),
    [("F", False, 0, 0), ("F", True, 0, 1), ("M", False, 1, 0), (None, False, 1, 0)],
)
def test_prostate_is_expected_in_men_only(sex, there, empty, wrong):
    masks = trunk() if there else trunk(prostate=NOTHING)
    view = scan(masks, sex=sex)
    assert len(faults("empty", view)) == empty
    assert len(faults("sex", view)) == wrong


def test_vital_organ_that_is_empty_amid_its_neighbours_was_forgotten():
    assert structures("empty-in-view", scan(trunk(aorta=NOTHING))) == ["aorta"]
    assert structures("empty-in-view", scan(trunk(gall_bladder=NOTHING))) == []
    # without the neighbours nobody knows
    assert structures("empty-in-view", scan({"aorta": NOTHING})) == []


def test_adrenal_gland_that_is_empty_above_a_kidney_in_view_was_forgotten():
    masks = trunk(adrenal_gland_right=NOTHING)
    assert structures("empty-in-view", scan(masks)) == ["adrenal_gland_right"]
    kidney = {"kidney_right": block((42, 50), (4, 12), (42, 92))}  # 32 mm under the view's end
    assert structures("empty-in-view", scan(masks | kidney)) == []


@pytest.mark.parametrize(
    ("flag", "there", "expected"),
    [(1, False, 1), (0, True, 1), (1, True, 0), (0, False, 0), (None, True, 0), ("x", True, 0)],
)
def test_tumour_flag_and_mask_must_agree(flag, there, expected):
    lesion = block((20, 24), (17, 20), (55, 58)) if there else NOTHING
    view = scan(trunk(pancreatic_lesion=lesion), lesions=flag)
    assert len(faults("tumour-flag", view)) == expected


def test_lesion_of_four_voxels_is_a_slip_where_voxels_are_small():
    four = block((20, 24), (17, 18), (55, 56))
    (fault,) = faults("lesion-small", scan({"pancreatic_lesion": four}, spacing=(1, 1, 1)))
    assert fault.value == 4
    # 4 voxels of 4 mm are 0.26 ml, a tumour of 8 mm
    assert faults("lesion-small", scan({"pancreatic_lesion": four})) == []


def test_overlap_counts_shared_voxels_and_points_into_them():
    masks = {
        "liver": block((30, 40), (0, 10), (0, 10)),
        "stomach": block((38, 58), (0, 10), (0, 10)),
    }
    (fault,) = faults("overlap", scan(masks))
    assert (fault.value, fault.severity) == (200, None)
    assert 38 <= fault.at[0] < 40


def test_overlap_of_left_and_right_is_an_error():
    masks = {
        "kidney_left": block((0, 12), (5, 15), (5, 15)),
        "kidney_right": block((10, 20), (5, 15), (5, 15)),
    }
    (fault,) = faults("overlap", scan(masks))
    assert fault.severity == "error"


def test_parts_of_the_pancreas_may_overlap_it_but_not_one_another():
    head, body = block((10, 20), (0, 5), (0, 5)), block((5, 10), (0, 5), (0, 5))
    duct = block((8, 12), (2, 3), (2, 3))
    masks = {"pancreas_head": head, "pancreas_body": body, "pancreas": head | body}
    assert faults("overlap", scan(masks | {"pancreatic_duct": duct})) == []
    wide = block((5, 13), (0, 5), (0, 5))
    (fault,) = faults("overlap", scan(masks | {"pancreas_body": wide}))
    assert {fault.structure, fault.value} == {"pancreas_body", 75}


def test_liver_and_left_kidney_share_nothing():
    masks = {
        "liver": block((10, 40), (0, 20), (0, 20)),
        "kidney_left": block((0, 11), (0, 4), (0, 3)),
    }
    assert structures("overlap-far", scan(masks)) == ["kidney_left"]


def test_one_mask_under_two_names_is_an_error():
    veins = block((14, 36), (14, 16), (60, 62))
    assert structures("identical", scan({"veins": veins, "celiac_artery": veins})) == [
        "celiac_artery"
    ]
    # a tumour may have taken the whole gland, and a gland may not have been divided
    whole = {"pancreas": veins, "pancreatic_lesion": veins, "pancreas_head": veins}
    assert faults("identical", scan({k: whole[k] for k in ("pancreas", "pancreas_head")})) == []
    assert faults("identical", scan({k: whole[k] for k in ("pancreas", "pancreatic_lesion")})) == []


def test_stray_piece_is_counted_with_its_distance():
    spleen = block((6, 14), (8, 16), (62, 78)) | block((40, 42), (8, 9), (62, 63))
    (fault,) = faults("stray", scan({"spleen": spleen}))
    assert fault.value == 2
    assert "108 mm" in fault.message  # from voxel 13 to voxel 40, 27 steps of 4 mm
    assert fault.at[0] in (40, 41)


def test_stomach_that_a_tumour_divides_has_no_strays_and_is_not_in_pieces():
    body, pylorus = block((12, 22), (22, 34), (62, 72)), block((28, 32), (22, 28), (62, 72))
    masks = {"stomach": body | block((28, 31), (22, 25), (62, 65))}
    assert structures("stray", scan(masks)) == ["stomach"]
    masks |= {"pancreatic_lesion": block((22, 28), (22, 28), (62, 72))}
    assert structures("stray", scan(masks)) == []
    assert structures("pieces", scan(masks | {"stomach": body | pylorus})) == []
    assert structures("pieces", scan({"stomach": body | pylorus})) == ["stomach"]


def test_pieces_that_lead_on_from_one_another_are_no_strays():
    vein = np.zeros((60, 40, 100), bool)
    for i in range(5, 50, 4):
        vein[i : i + 2, 10, 50] = True
    assert faults("stray", scan({"veins": vein})) == []


def test_organ_in_two_large_pieces_is_reported():
    liver = block((34, 44), (12, 32), (60, 80)) | block((46, 54), (12, 32), (60, 80))
    (fault,) = faults("pieces", scan({"liver": liver}))
    assert fault.value == 2


def test_hole_is_what_a_mask_encloses_on_all_sides():
    liver, inner = block((34, 54), (12, 32), (60, 80)), block((40, 44), (20, 24), (66, 70))
    (fault,) = faults("hole", scan({"liver": liver & ~inner}))
    assert fault.value == 64
    assert inner[fault.at]
    # another structure may fill it, as a vein in the liver
    assert faults("hole", scan({"liver": liver & ~inner, "veins": inner})) == []
    groove = block((40, 44), (20, 24), (66, 80))
    assert faults("hole", scan({"liver": liver & ~groove})) == []


def test_gap_between_two_structures_that_is_blurred_is_no_hole_but_a_lesion_is():
    liver, vein = block((34, 54), (12, 32), (60, 80)), block((40, 44), (20, 24), (66, 70))
    gap = block((44, 45), (20, 22), (66, 67))  # two voxels of 0.13 ml beside the vein
    masks = {"liver": liver & ~vein & ~gap, "veins": vein}
    ct = painted(masks)
    ct[gap] = 20
    assert faults("hole", scan(masks, ct=ct)) == []
    ct[gap] = 100  # as the liver: left out
    assert len(faults("hole", scan(masks, ct=ct))) == 1
    ct[gap] = 20  # as dark, but no structure touches it
    assert len(faults("hole", scan({"liver": liver & ~gap}, ct=ct))) == 1


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "LPS", "PIR"])
def test_missed_slice_is_found_in_any_orientation(orientation):
    spleen = block((6, 14), (8, 16), (62, 78))
    spleen[:, :, 70] = False
    view = scan({"spleen": spleen}, orientation=orientation)
    (fault,) = faults("missed-slice", view)
    assert fault.value == 1
    # the voxel lies in a neighbour of the missed slice, along the file's own axis
    axis = next(n for n, code in enumerate(orientation) if code in "SI")
    place = fault.at[axis] if orientation[axis] == "S" else 99 - fault.at[axis]
    assert abs(place - 70) == 1
    assert len(faults("gap", view)) == 1


def test_mask_drawn_on_every_fourth_slice_is_a_staircase():
    liver = np.zeros((60, 40, 100), bool)
    for n, k in enumerate(range(60, 80, 4)):
        liver[30 : 50 + n, 10:30, k : k + 4] = True
    (fault,) = faults("step-slices", scan({"liver": liver}))
    assert fault.value == pytest.approx(15 / 19)


def test_organ_that_ends_in_a_plane_was_annotated_in_part():
    i, j, k = np.indices((60, 40, 100))
    ball = ((i - 30) ** 2 + (j - 20) ** 2 + (k - 60) ** 2) <= 14**2
    assert faults("straight-cut", scan({"liver": ball})) == []
    (fault,) = faults("straight-cut", scan({"liver": ball & (k < 62)}))
    assert "upper side" in fault.message
    # the scan's own end is no fault
    assert faults("straight-cut", scan({"liver": np.roll(ball, 39, 2) & (k > 50)})) == []


def test_share_of_the_pancreas_that_is_in_no_part_is_told():
    masks = {
        "pancreas": block((0, 20), (0, 5), (0, 5)),
        "pancreas_head": block((0, 10), (0, 5), (0, 5)),
    }
    (fault,) = faults("pancreas-parts", scan(masks))
    assert fault.value == pytest.approx(0.5)
    masks = {"pancreas": masks["pancreas_head"], "pancreas_head": masks["pancreas"]}
    (fault,) = faults("pancreas-parts", scan(masks))
    assert "outside" in fault.message


def test_chest_alone_is_told_and_no_masks_at_all_too():
    view = scan({s: m for s, m in trunk().items() if "lung" in s})
    assert "chest alone" in faults("view", view)[0].message
    assert faults("all-empty", scan({"liver": NOTHING, "spleen": NOTHING}))[0].value == 0


def test_slab_that_is_displaced_is_a_jump():
    spleen = block((6, 14), (8, 16), (62, 78))
    assert faults("jump", scan({"spleen": spleen})) == []
    spleen[:, :, 68:72] = np.roll(spleen[:, :, 68:72], 7, 0)
    (fault,) = faults("jump", scan({"spleen": spleen}))
    assert fault.value == pytest.approx(1 / 8)
    assert fault.at[2] in (67, 71)


@pytest.mark.parametrize("low", [34, 50, 76])  # its lower, a middle and its upper quarter
def test_wall_without_its_lumen_is_a_ring_be_it_over_a_quarter_of_the_length(low):
    aorta = block((26, 31), (8, 13), (34, 90))
    assert faults("ring", scan({"aorta": aorta})) == []
    (fault,) = faults("ring", scan({"aorta": aorta & ~block((27, 30), (9, 12), (low, low + 14))}))
    assert fault.value == 14 * 4
    assert "14 of its 56 slices (56 mm), around 126 voxels" in fault.message


def test_two_slices_that_enclose_something_make_no_ring():
    femur = block((8, 14), (14, 20), (2, 34)) & ~block((10, 12), (16, 18), (20, 22))
    assert faults("ring", scan({"femur_left": femur})) == []


def test_organs_out_of_a_small_view_are_not_called_removed():
    empty = block((0, 0), (0, 0), (0, 0))
    chest = {"lung_left": block((6, 26), (6, 32), (82, 100)), "duodenum": empty, "spleen": empty}
    assert all("out of view" in f.message for f in faults("empty", scan(chest)))
    few = trunk(duodenum=empty)
    (fault,) = faults("empty", scan(few))
    assert "Whipple" in fault.message


def test_many_empty_masks_of_a_small_view_are_one_line():
    few = dict.fromkeys(trunk(), NOTHING) | {"colon": block((6, 26), (6, 32), (40, 42))}
    (fault,) = faults("empty", scan(few))
    assert (fault.structure, fault.value) == ("", len(trunk()))  # all but the colon
    assert "out of view" in fault.message
    nothing = dict.fromkeys(few, NOTHING)
    assert faults("empty", scan(nothing)) == []
    assert len(faults("all-empty", scan(nothing))) == 1


def test_cause_of_an_empty_mask_goes_by_what_else_is_in_view():
    (fault,) = faults("empty", scan(trunk(bladder=NOTHING)))
    assert "removed?" in fault.message  # prostate and femurs are there
    low = trunk(gall_bladder=NOTHING)
    low["kidney_left"] = block((10, 18), (4, 12), (0, 40))
    (fault,) = faults("empty", scan(low))
    assert "or out of view?" in fault.message


def test_sinus_that_thick_slices_blur_is_no_hole_of_a_kidney():
    kidney = block((10, 20), (10, 20), (30, 50))
    inside = block((13, 17), (13, 17), (36, 44))
    for hu, told in ((60, False), (100, True)):
        ct = np.where(kidney, 180, -100).astype(np.int16)
        ct[inside] = hu
        view = scan({"kidney_left": kidney & ~inside}, ct=ct)
        assert bool(faults("hole", view)) == told


def test_large_share_of_what_the_view_leaves_of_an_organ_is_no_error():
    spleen = block((10, 20), (10, 20), (20, 40))
    for low, severity in ((30, "error"), (0, None)):
        liver = block((10, 40), (10, 30), (20, 40) if low else (0, 40))
        part = (
            spleen & block((0, 60), (0, 40), (20, 30)) if low else block((10, 20), (10, 20), (0, 5))
        )
        (fault,) = faults("overlap", scan({"liver": liver, "spleen": part}))
        assert fault.severity == severity


def test_liver_above_a_view_of_two_slices_is_not_called_forgotten():
    masks = trunk(liver=block((0, 0), (0, 0), (0, 0)))
    assert faults("empty-in-view", scan(masks)) != []
    masks["kidney_right"] = block((42, 50), (4, 12), (42, 100))
    assert faults("empty-in-view", scan(masks)) == []
