"""Flat sides of masks at any angle, and what the CT shows behind them."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import SHAPE, ball, faults, scan

from pantskit.check.planes import flat_sides

MIDDLE = np.array([30.0, 20.0, 50.0])
# Unit vectors: 3-4-5 and 2-3-6 triples.
NORMALS = [(0.6, 0.8, 0), (0, -0.6, 0.8), (3 / 7, 6 / 7, -2 / 7), (-2 / 7, 3 / 7, 6 / 7)]


def half(normal, *, of, beyond=0.0):
    """What of a mask lies behind a plane through the middle, or up to some voxels beyond it."""
    distance = sum((n - m) * u for n, m, u in zip(np.indices(SHAPE), MIDDLE, normal, strict=True))
    return of & (distance <= beyond)


@pytest.mark.parametrize("normal", NORMALS)
def test_half_a_ball_has_one_flat_side_and_it_is_the_cut(normal):
    mask = half(normal, of=ball(MIDDLE, 14))
    flattest = max(flat_sides(scan({"liver": mask}), "liver"), key=lambda side: side.share)
    assert flattest.share > 0.9
    assert flattest.normal @ normal > 0.998  # within 4 degrees


def test_ball_has_no_flatter_side_than_a_ball():
    sides = list(flat_sides(scan({"liver": ball(MIDDLE, 14)}), "liver"))
    assert max(side.share - side.of_ball for side in sides) < 0.1


@pytest.mark.parametrize("structure", ["liver", "kidney_left", "spleen"])
@pytest.mark.parametrize("normal", NORMALS)
def test_organ_cut_at_an_angle_is_told_where_the_ct_shows_it_going_on(structure, normal):
    whole = ball(MIDDLE, 14)
    cut = {structure: half(normal, of=whole)}
    ct = np.where(whole, 100, -90).astype(np.int16)
    assert faults("straight-cut", scan({structure: whole}, ct=ct)) == []
    (fault,) = faults("straight-cut", scan(cut, ct=ct))
    assert fault.structure == structure
    # fat behind it: it is half a ball
    ends = np.where(cut[structure], 100, -90).astype(np.int16)
    assert faults("straight-cut", scan(cut, ct=ends)) == []
    assert faults("straight-cut", scan(cut)) == []


def test_wall_that_a_flat_liver_leans_on_is_not_the_liver():
    normal = NORMALS[0]
    whole = ball(MIDDLE, 14)
    cut = {"liver": half(normal, of=whole)}
    wall = half(normal, of=whole, beyond=2)
    ct = np.where(wall, 100, -90).astype(np.int16)
    assert faults("straight-cut", scan(cut, ct=ct)) == []


def test_flat_side_at_the_edge_of_the_view_is_no_cut():
    normal = np.array([0.0, 0.0, 1.0])
    mask = half(normal, of=ball(MIDDLE, 14))
    ct = np.where(ball(MIDDLE, 14), 100, -90).astype(np.int16)
    ct[:, :, 52:] = -1000  # padding: the view ends there
    assert faults("straight-cut", scan({"kidney_left": mask}, ct=ct)) == []
