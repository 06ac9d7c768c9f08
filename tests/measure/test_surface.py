"""Surface distances and NSD, on shapes whose answer can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pantskit.measure.overlap import confusion
from pantskit.measure.packed import pack
from pantskit.measure.surface import (
    DEFINITIONS,
    Definition,
    _percentile,
    nsd,
    surface_distances,
)

Mask = NDArray[np.bool_]
UNIT = (1.0, 1.0, 1.0)


def empty(*shape: int) -> Mask:
    return np.zeros(shape, np.bool_, order="F")


def voxels(shape: Sequence[int], *places: tuple[int, int, int]) -> Mask:
    mask = empty(*shape)
    for place in places:
        mask[place] = True
    return mask


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_a_mask_against_itself_is_1_at_any_tolerance(definition: Definition) -> None:
    mask = np.random.default_rng(0).random((9, 8, 7)) < 0.3
    scores = nsd(mask, mask, (0.8, 0.8, 2.5), [0.0, 1.0], definition=definition)
    # The paper's strict < leaves nothing at a tolerance of 0.
    assert scores == ([0.0, 1.0] if definition == "counted" else [1.0, 1.0])


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_one_empty_mask_scores_0_and_two_have_no_score(definition: Definition) -> None:
    full, none = np.ones((4, 4, 4), np.bool_), empty(4, 4, 4)
    assert nsd(full, none, UNIT, [2.0], definition=definition) == [0.0]
    assert nsd(none, full, UNIT, [2.0], definition=definition) == [0.0]
    assert math.isnan(nsd(none, none, UNIT, [2.0], definition=definition)[0])


def test_distances_to_an_empty_mask_are_infinite() -> None:
    distances = surface_distances(np.ones((2, 2, 2), np.bool_), empty(2, 2, 2), UNIT)
    assert np.isinf(distances.to_prediction).all()
    assert distances.to_reference.size == 0
    assert distances.hausdorff(95) == math.inf
    assert distances.averages()[0] == math.inf
    assert math.isnan(distances.averages()[1])
    assert math.isnan(surface_distances(empty(2, 2, 2), empty(2, 2, 2), UNIT).hausdorff())


def test_two_voxels_2_mm_apart_as_deepmind() -> None:
    """surface_distance_test.py, test_on_2_pixels_2mm_away, in 3D."""
    shape = (128, 128, 128)
    distances = surface_distances(
        voxels(shape, (50, 60, 70)), voxels(shape, (50, 60, 72)), (3.0, 2.0, 1.0)
    )
    assert distances.averages() == pytest.approx((1.5, 1.5))
    assert distances.hausdorff(100) == distances.hausdorff(95) == 2.0
    assert distances.nsd(1.0) == pytest.approx(0.5)
    # Each voxel has eight corners, four of which are 1 mm away and four 2 mm.
    assert sorted(distances.to_prediction) == [1, 1, 1, 1, 2, 2, 2, 2]
    assert distances.reference_weights == pytest.approx(
        math.sqrt((2 * 1) ** 2 + (3 * 1) ** 2 + (3 * 2) ** 2) / 8
    )


def test_two_blocks_at_the_border_as_deepmind() -> None:
    """surface_distance_test.py, test_two_cubes_shifted_by_one_pixel, in 3D."""
    reference, prediction = empty(100, 100, 100), empty(100, 100, 100)
    reference[:50] = prediction[:51] = True
    distances = surface_distances(reference, prediction, (2.0, 1.0, 1.0))
    assert distances.averages() == pytest.approx((0.322, 0.339), abs=5e-4)
    assert distances.hausdorff(100) == distances.hausdorff(95) == 2.0
    near = [
        weights[to <= 1].sum() / weights.sum()
        for weights, to in (
            (distances.reference_weights, distances.to_prediction),
            (distances.prediction_weights, distances.to_reference),
        )
    ]
    assert near == pytest.approx([0.842, 0.830], abs=5e-4)
    assert distances.nsd(1.0) == pytest.approx(0.836, abs=5e-4)
    assert confusion(reference, prediction).dsc == pytest.approx(0.990, abs=5e-4)


def test_two_slabs_10_apart_counted_as_monai() -> None:
    """MONAI, test_surface_dice.py, test_tolerance_euclidean_distance_3d."""
    reference, prediction = empty(200, 110, 80), empty(200, 110, 80)
    prediction[:, :, 20:] = reference[:, :, 30:] = True
    apart = 200 * 110 + 198 * 108 + 9 * 200 * 2 + 9 * 108 * 2
    points = 200 * 110 * 4 + (58 + 48) * 200 * 2 + (58 + 48) * 108 * 2
    scores = nsd(reference, prediction, UNIT, [0.0, 10.0, 11.0], definition="counted-le")
    assert scores == [pytest.approx(1 - apart / points), 1.0, 1.0]


def test_two_half_planes_10_apart_counted_as_monai() -> None:
    """MONAI, test_tolerance_euclidean_distance, whose 2D picture is a slice of ours.

    Stacked, every slice but the two at the ends has the picture's boundary; one slice more
    adds what the picture gives.
    """
    counts = []
    for depth in (3, 4):
        reference, prediction = empty(480, 640, depth), empty(480, 640, depth)
        prediction[:, 50:] = reference[:, 60:] = True
        distances = surface_distances(
            reference, prediction, UNIT, definition="counted-le", within_mm=0.0
        )
        both = np.concatenate([distances.to_prediction, distances.to_reference])
        counts.append(((both <= 0).sum(), both.size))
    near, points = (b - a for a, b in zip(*counts, strict=True))
    expected = 1 - (478 + 480 + 9 * 2) / (480 * 4 + 588 * 2 + 578 * 2)
    assert near / points == pytest.approx(expected)


def test_a_cube_grown_by_one_voxel_by_hand() -> None:
    """Cubes of 3^3 and 5^3 voxels: boundaries of 26 and 98, faces 1, edges root 2 apart."""
    small, big = empty(7, 7, 7), empty(7, 7, 7)
    small[2:5, 2:5, 2:5] = big[1:6, 1:6, 1:6] = True
    tolerances = [0.5, 1.0, 1.2, 1.5, 2.0]
    # Of the big one's, 6 * 9 are 1 away, 12 * 3 root 2 and 8 root 3; all small ones are 1.
    by_hand = [0, 26 + 54, 26 + 54, 26 + 54 + 36, 26 + 98]
    scores = nsd(small, big, UNIT, tolerances, definition="counted-le")
    assert scores == pytest.approx([n / 124 for n in by_hand])
    strict = nsd(small, big, UNIT, tolerances, definition="counted")
    assert strict == pytest.approx([n / 124 for n in (0, 0, 80, 116, 124)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_spacing_goes_with_its_axis(axis: int) -> None:
    shape = [9, 9, 9]
    first = voxels(shape, (4, 4, 4))
    second = np.roll(first, 2, axis)
    spacing = (0.7, 1.3, 3.1)
    for definition in ("counted", "counted-le"):
        distances = surface_distances(first, second, spacing, definition=definition)
        assert distances.to_prediction == pytest.approx([2 * spacing[axis]])
    assert surface_distances(first, second, spacing).hausdorff() == pytest.approx(2 * spacing[axis])


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_memory_order_and_cropping_change_nothing(definition: Definition) -> None:
    rng = np.random.default_rng(3)
    reference, prediction = rng.random((2, 13, 10, 7)) < 0.2
    padded = [np.pad(m, ((5, 2), (0, 3), (1, 1))) for m in (reference, prediction)]
    spacing = (0.9, 0.7, 2.5)
    tolerances = [1.0, 2.0]
    expected = nsd(reference, prediction, spacing, tolerances, definition=definition)
    mixed = nsd(np.asfortranarray(padded[0]), padded[1], spacing, tolerances, definition=definition)
    fortran = nsd(*map(np.asfortranarray, padded), spacing, tolerances, definition=definition)
    assert mixed == pytest.approx(expected, rel=1e-12)
    assert fortran == pytest.approx(expected, rel=1e-12)


def test_what_lies_far_is_found_too() -> None:
    shape = (60, 50, 40)
    distances = surface_distances(
        voxels(shape, (0, 0, 0)), voxels(shape, (59, 49, 39)), (1.0, 2.0, 3.0), definition="counted"
    )
    assert distances.to_prediction == pytest.approx([math.dist((0, 0, 0), (59, 98, 117))])


def test_distances_beyond_what_was_asked_may_be_infinite_but_scores_are_the_same() -> None:
    rng = np.random.default_rng(8)
    reference, prediction = rng.random((2, 30, 30, 30)) < 0.002
    near = surface_distances(reference, prediction, UNIT, within_mm=3.0)
    whole = surface_distances(reference, prediction, UNIT)
    assert np.isinf(near.to_prediction).any()
    assert np.isfinite(whole.to_prediction).all()
    for tolerance in (0.5, 1.0, 2.0, 3.0):
        assert near.nsd(tolerance) == whole.nsd(tolerance)


def test_points_at_a_tie_are_counted() -> None:
    # (4, 0, 0) steps of 0.6 mm and (0, 0, 3) of 0.8 mm are both 2.4 mm, but not in float64.
    assert 4 * 0.6 != 3 * 0.8
    shape = (9, 9, 9)
    near, tied = voxels(shape, (1, 1, 1)), voxels(shape, (5, 1, 1))
    for tolerance, expected in ((2.0, 0), (2.4, 2)):
        distances = surface_distances(
            near, tied, (0.6, 0.6, 0.8), definition="counted", tolerances_mm=[tolerance]
        )
        assert distances.ties == (expected,)


def test_a_tolerance_that_distances_meet_exactly_is_no_tie() -> None:
    shape = (9, 9, 9)
    distances = surface_distances(
        voxels(shape, (1, 1, 1)), voxels(shape, (4, 1, 1)), UNIT, tolerances_mm=[3.0]
    )
    assert distances.ties == (0,)
    assert distances.nsd(3.0) == 1.0


@pytest.mark.parametrize(
    ("spacing", "tolerance", "said"),
    [((1, 0, 1), 2.0, "spacing"), ((1, 1, 1), -1.0, "tolerance"), ((1, 1, 1), math.nan, "tol")],
)
def test_senseless_numbers_are_refused(
    spacing: tuple[float, float, float], tolerance: float, said: str
) -> None:
    mask = np.ones((2, 2, 2), np.bool_)
    with pytest.raises(ValueError, match=said):
        nsd(mask, mask, spacing, [tolerance])


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        nsd(empty(2, 2, 2), empty(2, 2, 3), UNIT, [1.0])


def test_an_unknown_definition_is_refused() -> None:
    with pytest.raises(ValueError, match="counted-le"):
        nsd(empty(2, 2, 2), empty(2, 2, 2), UNIT, [1.0], definition="median")


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_packed_masks_give_the_same_distances(definition: Definition) -> None:
    rng = np.random.default_rng(9)
    reference, prediction = rng.random((2, 21, 10, 7)) < 0.2
    expected = surface_distances(reference, prediction, UNIT, definition=definition)
    packed = surface_distances(pack(reference), pack(prediction), UNIT, definition=definition)
    np.testing.assert_array_equal(packed.to_prediction, expected.to_prediction)
    np.testing.assert_array_equal(packed.to_reference, expected.to_reference)


def test_a_share_that_is_met_exactly_is_met_as_in_surface_distance() -> None:
    """19 of 20 equal points are 95 %: the order of equal distances must not decide."""
    weights, distances = np.full(20, 0.1), np.arange(20.0)
    share = np.cumsum(weights) / weights.sum()
    expected = distances[np.searchsorted(share, 0.95)]
    for order in (slice(None), slice(None, None, -1)):
        assert _percentile(distances[order], weights, 95) == expected
