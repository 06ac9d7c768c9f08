"""Rules of anatomy on a trunk of blocks: silent on the sound one, loud on one thing moved."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import TRUNK, ball, block, faults, painted, scan, trunk

from pantskit.check.case import check_arrays
from pantskit.check.registry import built_in_rules
from pantskit.core.geometry import Geometry

NOTHING = block((0, 0), (0, 0), (0, 0))
# Blocks have straight ends, and slices that are copies of one another.
_OF_BLOCKS = {"straight-cut", "step-slices"}


def moved(structure, i=0, j=0, k=0):
    """One structure elsewhere, in voxels."""
    return {structure: np.roll(trunk()[structure], (i, j, k), (0, 1, 2))}


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "LPS"])
def test_sound_trunk_has_no_errors_or_warnings(orientation):
    masks = trunk()
    view = scan(masks, orientation=orientation, ct=painted(masks), phase="portal_venous", sex="M")
    found = {
        (rule.name, fault.message)
        for rule in built_in_rules()
        if rule.scope in ("labels", "anatomy", "content") and rule.name not in _OF_BLOCKS
        for fault in rule(view)
        if (fault.severity or rule.severity) != "info"
    }
    assert found == set()


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("wrong-side", moved("spleen", i=40) | {"liver": None, "stomach": None}),
        ("place", moved("bladder", k=50)),
        ("neighbours", moved("gall_bladder", k=-24)),
        ("adrenal-height", moved("adrenal_gland_left", k=-16)),
        ("parts-borders", {"pancreas_head": block((16, 40), (14, 20), (46, 58))}),
        ("parts-apart", {"pancreas_tail": block((10, 20), (16, 21), (54, 60))}),
        ("parts-missing", {"pancreas_head": NOTHING}),
        ("lesion-outside", {"pancreatic_lesion": block((6, 9), (30, 33), (30, 33))}),
        ("duct-outside", {"pancreatic_duct": block((14, 40), (26, 27), (56, 57))}),
        ("bile-duct-extent", {"common_bile_duct": block((38, 40), (16, 18), (50, 54))}),
        ("bile-duct-extent", moved("common_bile_duct", k=10)),
        ("artery-origin", moved("celiac_artery", j=4)),
        ("artery-order", moved("celiac_artery", k=-24)),
        ("aorta-extent", {"aorta": block((26, 31), (8, 13), (34, 55))}),
        ("aorta-extent", {"aorta": block((26, 31), (8, 13), (56, 90))}),
        ("postcava-extent", {"postcava": block((34, 38), (9, 12), (34, 60))}),
        ("postcava-side", moved("postcava", i=-14)),
        ("veins-reach", {"veins": block((24, 32), (14, 16), (60, 62))}),
        ("veins-broken", {"veins": trunk()["veins"] & ~block((20, 30), (0, 40), (0, 100))}),
        ("femur-length", {"femur_left": block((8, 14), (14, 20), (20, 34))}),
        ("femur-heights", {"femur_left": block((8, 14), (14, 20), (0, 20))}),
        ("prostate-place", moved("prostate", i=12)),
        ("bladder-place", moved("bladder", i=20)),
    ],
)
def test_one_thing_moved_is_told_by_its_rule(rule, changed):
    assert faults(rule, scan(trunk())) == []
    assert faults(rule, scan(trunk(**changed))) != []


def test_liver_and_spleen_exchanged_are_an_error_and_one_of_them_astray_a_warning():
    masks = trunk()
    swapped = masks | {"liver": masks["spleen"], "spleen": masks["liver"]}
    found = faults("wrong-side", scan(swapped))
    assert {(f.structure, f.severity) for f in found} == {("liver", "error"), ("spleen", "error")}
    (fault,) = faults("wrong-side", scan(masks | moved("spleen", i=40)))
    assert fault.severity is None


def test_vena_cava_left_of_the_aorta_is_an_error_where_a_left_sided_one_has_crossed():
    masks = trunk()
    swapped = masks | {"aorta": masks["postcava"], "postcava": masks["aorta"]}
    (fault,) = faults("postcava-side", scan(swapped))
    assert fault.severity == "error"
    swapped["liver"] = None
    (fault,) = faults("postcava-side", scan({s: m for s, m in swapped.items() if m is not None}))
    assert fault.severity is None


def test_femurs_that_end_at_unlike_heights_are_both_named():
    assert faults("femur-ends", scan(trunk())) == []
    longer = trunk(femur_right=block((46, 52), (14, 20), (10, 34)))
    found = faults("femur-ends", scan(longer))
    assert [(f.structure, f.value) for f in found] == [("femur_left", 32), ("femur_right", 32)]


def femurs(*, head=True, highest=100):
    """A shaft of 24 mm on each side with a ball of 48 mm above it, 32 mm nearer to the middle."""
    i, j, k = np.indices((60, 40, 100))
    made = {}
    for name, shaft, middle in (("femur_left", (8, 14), 19), ("femur_right", (46, 52), 40)):
        ball = (i - middle) ** 2 + (j - 17) ** 2 + (k - 30) ** 2 <= 6**2
        neck = block((min(shaft[0], middle), max(shaft[1], middle)), (14, 20), (26, 30))
        made[name] = block(shaft, (14, 20), (2, 30)) | (head & (ball | neck))
        made[name] &= k < highest
    return made


def test_femur_with_its_head_or_cut_by_the_view_is_no_fault():
    assert faults("femur-head", scan(femurs())) == []
    up_to_its_end = {s: np.roll(mask, 71, 2) for s, mask in femurs(highest=29).items()}
    assert faults("femur-head", scan(up_to_its_end)) == []


def test_femur_whose_head_is_cut_or_left_out_is_told():
    cut = faults("femur-head", scan(femurs(highest=32)))
    assert {f.structure for f in cut} == {"femur_left", "femur_right"}
    assert all("a head is round" in f.message for f in cut)
    lost = faults("femur-head", scan(femurs() | {"femur_left": femurs(head=False)["femur_left"]}))
    assert [(f.structure, f.value) for f in lost] == [("femur_left", 0)]
    alone = {"femur_left": femurs(head=False)["femur_left"]}
    (fault,) = faults("femur-head", scan(alone))  # nobody knows where the middle is
    assert "flat above" in fault.message


def lumen(k):
    """A CT of fat with a vessel of 5 x 5 voxels where the trunk's aorta is, over slices k."""
    ct = np.full((60, 40, 100), -90, np.int16)
    ct[26:31, 8:13, slice(*k)] = 160
    return ct


def test_vessel_that_the_ct_shows_below_its_mask_is_cut_short():
    aorta = {"aorta": block((26, 31), (8, 13), (34, 90))}
    assert faults("aorta-extent", scan(aorta, ct=lumen((34, 90)))) == []
    (fault,) = faults("aorta-extent", scan(aorta, ct=lumen((20, 90))))
    assert fault.value == 14 * 4
    both = lumen((34, 90))
    both[24:27, 8:13, 20:34] = both[30:33, 8:13, 20:34] = 160  # it divides where the mask ends
    assert faults("aorta-extent", scan(aorta, ct=both)) == []


@pytest.mark.parametrize(("slices", "told"), [(2, False), (3, True)])
def test_two_slices_below_a_vessel_may_be_where_it_divides(slices, told):
    view = scan(
        {"aorta": block((26, 31), (8, 13), (34, 90))},
        ct=lumen((34 - slices, 90)),
        spacing=(4, 4, 6),
    )
    assert bool(faults("aorta-extent", view)) == told


def test_mesenteric_artery_that_begins_far_below_the_coeliac_one_lacks_its_origin():
    short = trunk(superior_mesenteric_artery=block((28, 30), (13, 18), (40, 52)))
    (fault,) = faults("artery-origin", scan(short))
    assert fault.value == 11 * 4


def test_bile_duct_that_stops_in_the_upper_part_of_the_head_does_not_reach_the_papilla():
    # The head goes from 46 to 58; the duct touches the duodenum at every height.
    assert faults("bile-duct-extent", scan(trunk(common_bile_duct=duct(54)))) == []
    (fault,) = faults("bile-duct-extent", scan(trunk(common_bile_duct=duct(55))))
    assert fault.value == 9 * 4
    assert fault.at[2] == 55
    tumour = {"pancreatic_lesion": block((36, 40), (15, 19), (51, 54))}
    assert faults("bile-duct-extent", scan(trunk(common_bile_duct=duct(55), **tumour))) == []


def test_bile_duct_that_ends_at_the_top_of_the_head_does_not_go_on_to_the_liver():
    # The head's last slice is 57, of 4 mm each: 58 is 4 mm above it.
    ends = {60: [], 59: [-4], 58: [0], 57: [4]}
    for stop, found in ends.items():
        mask = block((38, 40), (16, 18), (48, stop))
        faulty = faults("bile-duct-extent", scan(trunk(common_bile_duct=mask)))
        assert [f.value for f in faulty if "top of the head" in f.message] == found, stop


def duct(low):
    """The trunk's bile duct from a slice on."""
    return block((38, 40), (16, 18), (low, 60))


@pytest.mark.parametrize(("slices", "told"), [(7, False), (8, True)])
def test_bile_duct_that_ends_far_below_the_portal_vein_beside_it_is_short(slices, told):
    """32 mm and 28 mm of the vein go on above the duct; its splenic end, far away, may do so."""
    masks = {
        "common_bile_duct": block((38, 40), (16, 18), (50, 60)),
        "veins": block((34, 37), (14, 16), (55, 60 + slices)) | block((2, 6), (14, 16), (60, 80)),
    }
    assert bool(faults("bile-duct-extent", scan(masks))) == told


def test_portal_vein_that_ends_before_the_bile_duct_does_is_short():
    masks = trunk(veins=block((14, 28), (14, 16), (60, 62)), liver=None)
    (fault,) = faults("veins-reach", scan(masks | {"liver": block((28, 54), (12, 32), (60, 82))}))
    assert "bile duct" in fault.message


def test_femur_to_the_knee_is_too_long():
    masks = {"femur_left": block((8, 14), (14, 20), (2, 60))}
    (fault,) = faults("femur-length", scan(masks))
    assert fault.value == pytest.approx(58 * 4)


@pytest.mark.parametrize(("radius", "told"), [(5, True), (6, False)])
def test_femur_of_a_small_head_is_shorter(radius, told):
    # 163 mm: at most 152 with a head of 40 mm across, 165 with one of 48 mm
    femur = block((8, 14), (14, 20), (2, 40)) | ball((17.5, 16.5, 44 - radius), radius)
    found = faults("femur-length", scan({"femur_left": femur}, spacing=(4, 4, 3.8)))
    assert bool(found) == told


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 6])
def test_head_that_is_cut_flat_is_told_by_the_ball_through_its_sections(slices):
    whole = {"femur_left": femurs()["femur_left"]}
    low = scan(whole).regions["femur_left"].box[2].stop
    cut = {"femur_left": whole["femur_left"] & (np.arange(100) < low - slices)}
    assert faults("femur-head", scan(whole)) == []
    assert bool(faults("femur-head", scan(cut))) == (slices > 1)


def test_femur_whose_upper_end_is_soft_tissue_is_too_high_from_10_mm_on():
    masks = trunk()
    ct = painted(masks)
    raised = masks | {"femur_left": np.roll(masks["femur_left"], 3, 2)}
    assert [f.structure for f in faults("femur-heights", scan(raised, ct=ct))] == ["femur_left"]
    assert faults("femur-heights", scan(raised, ct=painted(raised))) == []  # a tilted pelvis
    raised["femur_left"] = np.roll(masks["femur_left"], 6, 2)
    both = {f.structure for f in faults("femur-heights", scan(raised))}
    assert both == {"femur_left", "femur_right"}


def test_femur_is_at_most_as_long_as_115_mm_and_5_cm_with_some_slack():
    assert faults("femur-length", scan({"femur_left": block((8, 14), (14, 20), (2, 46))})) == []
    (fault,) = faults("femur-length", scan({"femur_left": block((8, 14), (14, 20), (2, 48))}))
    assert fault.value == pytest.approx(46 * 4)


@pytest.mark.parametrize(("mm", "told"), [(4, False), (5, False), (6.5, True), (2, True)])
def test_kidneys_that_are_stretched_tell_of_a_wrong_distance_of_slices(mm, told):
    # 32 mm wide; 72 and 64 mm high at 4 mm
    kidneys = {s: trunk()[s] for s in ("kidney_left", "kidney_right")}
    found = faults("stretched", scan(kidneys, spacing=(4, 4, mm)))
    assert bool(found) == told
    one = {"kidney_left": kidneys["kidney_left"]}
    assert faults("stretched", scan(one, spacing=(4, 4, mm))) == []


def test_kidney_of_half_the_others_size_is_told():
    other = block((42, 50), (4, 12), (42, 58))
    like = {"kidney_left": block((10, 18), (4, 12), (44, 54)), "kidney_right": other}
    assert faults("kidney-sizes", scan(like)) == []
    half = {"kidney_left": block((10, 18), (4, 12), (44, 52)), "kidney_right": other}
    (fault,) = faults("kidney-sizes", scan(half))
    assert (fault.structure, fault.value) == ("kidney_left", 2)


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "LPS", "RPI"])
def test_sides_are_judged_in_the_world_and_not_by_index(orientation):
    masks = trunk()
    assert faults("sides", scan(masks, orientation=orientation)) == []
    swapped = masks | {
        "kidney_left": masks["kidney_right"],
        "kidney_right": masks["kidney_left"],
    }
    (fault,) = faults("sides", scan(swapped, orientation=orientation))
    assert (fault.structure, fault.severity) == ("kidney_left", None)


def test_scan_that_is_mirrored_is_one_warning_with_its_likely_causes():
    view = scan({name: mask[::-1] for name, mask in trunk().items()})
    (fault,) = faults("mirrored", view)
    assert "situs inversus" in fault.message
    assert faults("sides", view) == []
    assert faults("wrong-side", view) == []


def test_situs_inversus_whose_paired_organs_are_named_by_side_is_one_warning():
    masks = {name: mask[::-1] for name, mask in trunk().items()}
    for left in [name for name in masks if name.endswith("_left")]:
        right = left.removesuffix("left") + "right"
        masks[left], masks[right] = masks[right], masks[left]
    view = scan(masks)
    (fault,) = faults("mirrored", view)
    assert "the patient has situs inversus" in fault.message
    for rule in ("sides", "wrong-side", "postcava-side", "parts-order", "veins-reach"):
        assert faults(rule, view) == []


def test_one_organ_that_is_astray_turns_no_scan_upside_down():
    # a few voxels of the bladder in a lung, in a scan that ends above the pelvis
    names = ("lung_left", "lung_right", "liver", "spleen", "bladder", "stomach")
    masks = {name: mask for name, mask in trunk().items() if name in names}
    masks["bladder"] = block((10, 12), (20, 22), (97, 99))
    assert faults("upside-down", scan(masks)) == []
    assert {f.structure for f in faults("place", scan(masks))} <= {*names}
    assert faults("place", scan(masks)) != []


@pytest.mark.parametrize("vessel", ["aorta", "postcava"])
def test_a_vessel_reaches_both_ends_of_a_scan_that_ends_in_a_kidney_and_in_the_liver(vessel):
    # both kidneys and the liver go on outside of these slices
    masks = {name: mask[:, :, 50:75] for name, mask in trunk().items()}
    geometry = Geometry.from_spacing((60, 40, 25), (4, 4, 4), orientation="RAS")
    whole = masks[vessel]
    for part, end in ((slice(None), None), (slice(0, 20), "upper"), (slice(6, None), "lower")):
        masks[vessel] = np.zeros_like(whole)
        masks[vessel][:, :, part] = whole[:, :, part]
        told = [f for f in check_arrays(masks, geometry) if f.rule == f"{vessel}-extent"]
        assert len(told) == (end is not None)
        assert all(f"the scan's {end} end, where" in f.message for f in told)


def test_a_gall_bladder_that_the_view_cuts_may_lie_behind_the_duodenum():
    names = ("liver", "duodenum", "gall_bladder")
    masks = {name: mask for name, mask in trunk().items() if name in names}
    k = np.flatnonzero(masks["duodenum"].any((0, 1)))
    masks["gall_bladder"] = block((40, 44), (4, 8), (int(k[0]), int(k[-1])))
    assert [f.structure for f in faults("place", scan(masks))] == ["gall_bladder"]
    ends_in_it = {name: mask[:, :, int(k[0]) + 1 :] for name, mask in masks.items()}
    assert faults("place", scan(ends_in_it)) == []


def test_situs_inversus_has_its_liver_at_the_left_organs():
    masks = {name: mask[::-1] for name, mask in trunk().items()}
    named = {
        n.replace("_left", "_R").replace("_right", "_left").replace("_R", "_right"): m
        for n, m in masks.items()
    }
    assert [f.message for f in faults("neighbours", scan(named))] == []


def test_array_upside_down_is_an_error():
    view = scan({name: mask[:, :, ::-1] for name, mask in trunk().items()})
    assert faults("upside-down", view)
    assert faults("artery-order", view) == []  # no names are exchanged
    assert faults("adrenal-height", view) == []
    assert faults("upside-down", scan(trunk())) == []


def test_head_and_tail_exchanged_are_an_error():
    masks = trunk()
    masks |= {"pancreas_head": masks["pancreas_tail"], "pancreas_tail": masks["pancreas_head"]}
    (fault,) = faults("parts-order", scan(masks))
    assert fault.severity is None


def test_lesion_without_contact_is_an_error_and_an_exophytic_one_a_warning():
    lesion = block((20, 24), (17, 20), (55, 58))
    assert faults("lesion-outside", scan(trunk(pancreatic_lesion=lesion))) == []
    away = block((20, 24), (30, 34), (90, 94))
    (fault,) = faults("lesion-outside", scan(trunk(pancreatic_lesion=away)))
    assert fault.severity == "error"
    bulging = block((20, 24), (20, 28), (55, 58))
    (fault,) = faults("lesion-outside", scan(trunk(pancreatic_lesion=bulging)))
    assert fault.severity is None


def test_scan_that_ends_early_is_no_fault_of_the_aorta():
    """Cut above the kidneys' lower ends: the aorta goes on outside the view."""
    masks = {name: mask[:, :, 50:] for name, mask in trunk().items()}
    geometry = Geometry.from_spacing((60, 40, 50), (4, 4, 4), orientation="RAS")
    found = {f.rule for f in check_arrays(masks, geometry) if f.severity != "info"}
    assert not found & {"aorta-extent", "postcava-extent", "femur-length", "volume", "gap"}


def test_nothing_at_all_and_one_slice_are_checked_without_a_crash():
    flat = Geometry.from_spacing((20, 20, 1), (1, 1, 5), orientation="LPS")
    masks = {name: np.ones((20, 20, 1), bool) for name in TRUNK}
    ct = np.full((20, 20, 1), 30, np.int16)
    assert not any("could not be applied" in f.message for f in check_arrays(masks, flat, ct=ct))
    assert check_arrays({}, flat) == []
