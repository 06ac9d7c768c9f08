"""Slice positions to a grid, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pantskit.core.errors import GeometryError, Quarantined
from pantskit.ingest.dicom.geometry import IrregularStack, arrange_slices, stack_slices

AXIAL = (1, 0, 0, 0, 1, 0)


def line(*z: float) -> list[tuple[float, float, float]]:
    return [(-100.0, -120.0, value) for value in z]


def stack(positions, orientation=AXIAL, spacing=(0.75, 0.5)):
    return stack_slices(positions, orientation, spacing, rows=6, columns=8)


def test_axial_slices_in_any_order_give_the_grid_worked_out_by_hand():
    found = stack(line(55.0, 50.0, 52.5))
    assert found.order == (1, 2, 0)
    assert found.geometry.shape == (8, 6, 3)
    # LPS (-100, -120, 50) is RAS (100, 120, 50); a row runs to the patient's left, -R.
    expected = [[-0.5, 0, 0, 100], [0, -0.75, 0, 120], [0, 0, 2.5, 50], [0, 0, 0, 1]]
    np.testing.assert_allclose(found.geometry.affine, expected, atol=1e-12)
    assert found.geometry.orientation == "LPS"


def test_pixel_spacing_is_row_distance_first():
    found = stack(line(0.0, 3.0), spacing=(0.9, 0.4))
    assert found.geometry.spacing == pytest.approx((0.4, 0.9, 3.0))


def test_feet_first_order_of_a_coronal_stack_follows_its_normal():
    # Row to the left, column to the feet: the normal is row x column = (0, 1, 0), posterior.
    found = stack([(0, 8, 0), (0, 0, 0), (0, 4, 0)], (1, 0, 0, 0, 0, -1))
    assert found.order == (1, 2, 0)
    assert found.geometry.orientation == "LIP"
    assert found.geometry.spacing[2] == pytest.approx(4.0)


def test_oblique_stack_keeps_every_slice_origin_in_place():
    angle = np.radians(20)
    row, column = (1, 0, 0), (0, np.cos(angle), np.sin(angle))
    normal = np.cross(row, column)
    positions = [np.array([-90, -110, 30]) + 1.25 * k * normal for k in range(4)]
    found = stack(positions, (*row, *column))
    for k, position in enumerate(positions):
        expected = position * [-1, -1, 1]
        np.testing.assert_allclose(found.geometry.to_world([0, 0, k]), expected, atol=1e-9)
    last = positions[0] + 7 * 0.5 * np.array(row) + 5 * 0.75 * np.array(column)
    np.testing.assert_allclose(found.geometry.to_world([7, 5, 0]), last * [-1, -1, 1], atol=1e-9)


def test_missing_slice_is_quarantined_and_the_gap_named():
    with pytest.raises(Quarantined, match=r"missing: 1 of 5 at 5 mm \(1 after slice 3"):
        stack(line(0, 5, 10, 20))


def test_two_gaps_are_both_named():
    with pytest.raises(Quarantined, match=r"missing: 3 of 7 at 2 mm \(1 after slice 1, 2 after"):
        stack(line(0, 4, 6, 12))


def test_variable_spacing_is_quarantined():
    with pytest.raises(Quarantined, match=r"varies from 2 to 3\.1 mm"):
        stack(line(0, 2, 4, 7.1))


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_a_regular_grid():
    z = [round(0.625 * k, 1) for k in range(40)]
    found = stack(line(*z))
    assert found.geometry.spacing[2] == pytest.approx(0.625, abs=0.003)
    assert 0.02 < found.deviation_mm < 0.1


def test_gantry_tilt_is_seen_in_the_positions():
    # Slices stay axial while the table moves the next origin sideways: tan(20 deg) = 0.364.
    positions = [(0.0, 0.364 * 5 * k, 5.0 * k) for k in range(6)]
    with pytest.raises(Quarantined, match=r"gantry tilt of 20\.0 degrees"):
        stack(positions)


def test_same_position_twice_is_left_to_the_pixels():
    found = stack(line(0, 2, 2, 4))
    assert found.order == (0, 1, 3)
    assert found.duplicates == ((1, 2),)


def test_two_stacks_side_by_side_in_one_plane_are_quarantined():
    with pytest.raises(Quarantined, match="several stacks"):
        stack([(0, 0, 0), (50, 0, 0), (0, 0, 2), (50, 0, 2)])


def test_one_slice_is_refused_in_words():
    with pytest.raises(GeometryError, match="one slice"):
        stack(line(12.0))


@pytest.mark.parametrize(
    ("orientation", "reason"),
    [
        ((1, 0, 0, 0, 2, 0), "unit vectors"),
        ((1, 0, 0, 0.6, 0.8, 0), "not perpendicular"),
        ((1, 0, 0, 0, np.nan, 0), "six finite numbers"),
    ],
)
def test_directions_that_are_none_are_refused(orientation, reason):
    with pytest.raises(GeometryError, match=reason):
        stack(line(0, 1, 2), orientation)


def irregular(z, numbers=(), across=None):
    positions = [(-100.0, -120.0 + (across[k] if across else 0.0), v) for k, v in enumerate(z)]
    found = arrange_slices(positions, AXIAL, (1, 1), rows=6, columns=8, instances=numbers)
    assert isinstance(found, IrregularStack)
    return found


@pytest.mark.parametrize(
    ("z", "numbers", "cause"),
    [
        # A longer step that stands alone is a gap, even where numbers were made anew.
        ((0, 5, 10, 20), (1, 2, 3, 4), "missing"),
        ((0, 5, 10, 18.1), (1, 2, 3, 4), "missing"),
        ((0, 2, 4, 8, 12), (1, 2, 3, 4, 5), "spacing"),
        ((0, 2, 4, 8, 12), (5, 4, 3, 2, 1), "spacing"),
        ((0, 4, 8, 10, 12), (1, 2, 3, 4, 5), "spacing"),
        # Every second slice of the second half was lost, and the numbers say so.
        ((0, 2, 4, 8, 12), (1, 2, 3, 5, 7), "missing"),
        ((0, 2, 4, 8, 12), (1, 2, 3, None, 5), "missing"),
        ((0, 2, 4, 8, 12), (), "missing"),
        # One longer step in a run of its like, and another alone.
        ((0, 4, 8, 10, 12, 16), (1, 2, 3, 4, 5, 6), "missing"),
        # No step is long enough to hide a slice.
        ((0, 2, 4.4, 6.5, 9.2), (), "spacing"),
    ],
)
def test_longer_steps_are_gaps_unless_it_is_evident_that_no_slice_is_missing(z, numbers, cause):
    assert irregular(z, numbers).causes == (cause,)


def test_gap_in_a_tilted_stack_is_a_gap_and_a_tilt():
    z = (0, 5, 10, 20)
    found = irregular(z, across=[0.3 * v for v in z])
    assert found.causes == ("missing", "tilt")
    assert "slices are missing: 1 of 5" in found.message
    assert f"tilt of {np.degrees(np.arctan(0.3)):.1f} degrees" in found.message


def test_permission_for_one_cause_leaves_the_other_refused():
    z = (0, 2, 4, 8, 12)
    found = irregular(z, (1, 2, 3, 4, 5), across=[0.3 * v for v in z])
    found.require("tilt", "spacing")
    with pytest.raises(Quarantined, match=r"^slices shift sideways"):
        found.require("spacing")


@pytest.mark.parametrize("across", [(0, 1.5, 1.6, 4.5), (0, 5.5, 11, 16.5)])
def test_sideways_shift_that_is_no_gantry_tilt_is_never_resampled(across):
    found = irregular((0, 5, 10, 15), (1, 2, 3, 4), across)
    assert found.causes == ("shift",)
    with pytest.raises(Quarantined, match="not as those of a tilted gantry"):
        found.require("tilt", "spacing")


def test_orientation_of_an_irregular_stack_is_told():
    assert irregular((0, 2, 4, 8, 12)).orientation == "LPS"
