import numpy as np
import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.volume import Volume
from pantskit.predict.changes import Change
from pantskit.predict.islands import remove_islands
from pantskit.predict.postprocess import STEPS, parse_steps, postprocess
from pantskit.predict.sides import repair_sides
from pantskit.predict.strays import remove_stray_lesions

# 4 mm voxels; i runs to the patient's left, so a low i is on the right.
GRID = Geometry.from_spacing((60, 40, 40), (4, 4, 4), orientation="LAI")
ID = {s: PANTS.id_of(s) for s in PANTS.names}


def body() -> np.ndarray:
    """A trunk of boxes: liver right, spleen left, great vessels in the middle, kidneys."""
    labels = np.zeros(GRID.shape, np.uint8, order="F")
    labels[5:22, 10:30, 2:18] = ID["liver"]
    labels[46:54, 8:16, 4:16] = ID["spleen"]
    labels[30:33, 8:11, :] = ID["aorta"]
    labels[26:29, 8:11, :] = ID["postcava"]
    labels[12:20, 6:10, 22:36] = ID["kidney_right"]
    labels[40:48, 6:10, 20:34] = ID["kidney_left"]
    labels[24:30, 14:20, 20:26] = ID["pancreas_head"]
    labels[30:38, 14:18, 20:24] = ID["pancreas_body"]
    labels[38:46, 14:18, 20:24] = ID["pancreas_tail"]
    return labels


def test_a_body_without_faults_is_left_as_it_is() -> None:
    labels = body()
    labels[26:28, 15:18, 22:24] = ID["pancreatic_lesion"]
    for step in STEPS.values():
        found = step(labels, GRID)
        assert found.labels is labels
        assert found.changes == found.doubts == ()


def test_islands_become_what_surrounds_them() -> None:
    labels = body()
    labels[10:12, 15:17, 5:7] = ID["spleen"]  # in the liver: 8 of 768 voxels
    labels[55:57, 35:37, 35:37] = ID["liver"]  # in the air
    labels[40:42, 15:17, 21:23] = ID["pancreas_head"]  # in the tail
    found = remove_islands(labels, GRID)
    np.testing.assert_array_equal(found.labels, body())
    assert set(found.changes) == {
        Change("spleen", "liver", 8),
        Change("liver", None, 8),
        Change("pancreas_head", "pancreas_tail", 8),
    }
    assert (labels[10:12, 15:17, 5:7] == ID["spleen"]).all()  # what was given is not changed


def test_island_of_the_gland_goes_with_all_that_is_in_it() -> None:
    labels = body()
    labels[50:53, 30:32, 30:32] = ID["pancreas_tail"]
    labels[51, 30, 30] = ID["pancreatic_lesion"]
    found = remove_islands(labels, GRID)
    np.testing.assert_array_equal(found.labels, body())


def test_lesion_that_grew_out_of_the_gland_is_no_island() -> None:
    labels = body()
    labels[30:34, 21:23, 20:24] = ID["pancreatic_lesion"]  # 12 mm from the gland, 2 ml
    assert remove_islands(labels, GRID).labels is labels


def test_organ_in_two_large_pieces_keeps_both() -> None:
    labels = body()
    labels[33:36, 14:18, 20:24] = 0  # cuts the body, and the gland with it, in two
    assert remove_islands(labels, GRID).labels is labels


def test_vessels_keep_pieces_that_a_whole_organ_would_lose() -> None:
    labels = body()
    labels[26:29, 8:11, 37:38] = 0
    labels[10:13, 34:37, 10:12] = ID["liver"]  # 18 voxels, 1152 mm3, of 5440
    found = remove_islands(labels, GRID)
    assert found.changes == (Change("liver", None, 18),)  # the vena cava's 18 voxels stay


def test_small_lesions_stay_and_specks_go() -> None:
    fine = Geometry.from_spacing((40, 40, 40), (1, 1, 1))
    labels = np.zeros(fine.shape, np.uint8, order="F")
    labels[5:35, 10:20, 10:20] = ID["pancreas"]
    labels[8:18, 12:18, 12:18] = ID["pancreatic_lesion"]
    labels[25:28, 12:14, 12:14] = ID["pancreatic_lesion"]  # 12 mm3
    labels[30:32, 15:17, 15:17] = ID["pancreatic_lesion"]  # 8 mm3
    found = remove_islands(labels, fine)
    assert found.changes == (Change("pancreatic_lesion", "pancreas", 8),)


def test_lesion_away_from_the_pancreas_is_given_to_its_surroundings() -> None:
    labels = body()
    labels[30:33, 18:20, 20:24] = ID["pancreatic_lesion"]  # at the gland
    expected = labels.copy(order="F")
    labels[8:11, 20:23, 8:11] = ID["pancreatic_lesion"]  # in the liver
    labels[50:52, 35:37, 35:37] = ID["pancreatic_lesion"]  # in fat
    found = remove_stray_lesions(labels, GRID)
    np.testing.assert_array_equal(found.labels, expected)
    assert set(found.changes) == {
        Change("pancreatic_lesion", "liver", 27),
        Change("pancreatic_lesion", None, 8),
    }


def test_lesion_within_reach_of_one_at_the_gland_stays() -> None:
    labels = body()
    labels[30:33, 18:20, 20:24] = ID["pancreatic_lesion"]
    labels[30:33, 21:23, 20:24] = ID["pancreatic_lesion"]  # 8 mm further, 12 from the gland
    assert remove_stray_lesions(labels, GRID).labels is labels


def test_lesion_without_a_gland_is_left_alone_and_doubted() -> None:
    labels = np.zeros(GRID.shape, np.uint8, order="F")
    labels[8:11, 20:23, 8:11] = ID["pancreatic_lesion"]
    found = remove_stray_lesions(labels, GRID)
    assert found.labels is labels
    assert "0.0 ml" in found.doubts[0]


@pytest.mark.parametrize("orientation", ["LAI", "RAS", "PIR", "SLA"])
def test_swapped_kidneys_get_their_names_back_in_any_orientation(orientation: str) -> None:
    labels = body()
    left, right = labels == ID["kidney_left"], labels == ID["kidney_right"]
    labels[left], labels[right] = ID["kidney_right"], ID["kidney_left"]
    turned = Volume(labels, GRID).reoriented(orientation)
    found = repair_sides(turned.array, turned.geometry)
    mended = Volume(found.labels, turned.geometry).reoriented("LAI").array
    np.testing.assert_array_equal(mended, body())


def test_half_a_kidney_of_the_other_side_is_renamed() -> None:
    labels = body()
    labels[12:20, 6:10, 30:36] = ID["kidney_left"]
    found = repair_sides(labels, GRID)
    np.testing.assert_array_equal(found.labels, body())
    assert found.changes == (Change("kidney_left", "kidney_right", 8 * 4 * 6),)


def test_mirrored_patient_is_doubted() -> None:
    labels = np.asfortranarray(body()[::-1])
    found = repair_sides(labels, GRID)
    assert found.labels is labels
    assert "mirrored" in found.doubts[0]


def test_horseshoe_kidney_is_left_alone() -> None:
    labels = body()
    labels[20:40, 6:8, 30:32] = ID["kidney_left"]
    found = repair_sides(labels, GRID)
    assert found.labels is labels
    assert found.doubts == ("kidney: a part lies across the midline",)


def test_two_kidneys_on_one_side_are_left_alone() -> None:
    labels = body()
    labels[labels == ID["kidney_left"]] = 0
    labels[40:48, 20:24, 20:34] = ID["kidney_right"]
    labels[12:20, 6:10, 22:36] = 0
    labels[40:48, 6:10, 20:34] = ID["kidney_left"]
    found = repair_sides(labels, GRID)
    assert found.labels is labels
    assert "one side" in found.doubts[0]


def test_sides_are_not_told_without_landmarks() -> None:
    labels = body()
    labels[labels == ID["aorta"]] = 0
    assert "midline" in repair_sides(labels, GRID).doubts[0]
    labels = body()
    labels[np.isin(labels, [ID["liver"], ID["spleen"]])] = 0
    labels[12:20, 6:10, 30:36] = ID["kidney_left"]
    assert "neither liver nor spleen" in repair_sides(labels, GRID).doubts[0]


def test_steps_run_in_their_order_and_are_recorded() -> None:
    labels = body()
    labels[55:57, 35:37, 35:37] = ID["liver"]
    mended = postprocess(Volume(labels, GRID), parse_steps("sides, islands"))
    np.testing.assert_array_equal(mended.labels.array, body())
    assert list(mended.record) == ["islands", "sides"]
    assert mended.record["islands"] == {
        "changed": [{"structure": "liver", "became": None, "voxels": 8}],
        "doubts": [],
    }
    assert parse_steps("none") == ()
    assert parse_steps("all") == tuple(STEPS)
    with pytest.raises(ConfigError, match="'sharpen' is unknown"):
        parse_steps("islands,sharpen")
