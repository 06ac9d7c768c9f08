"""Depths of closed forms against what geometry says by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pantskit.core.geometry import Geometry
from pantskit.phantom import kernels
from pantskit.phantom.fields import Placement
from pantskit.phantom.shapes import Capsule, Ellipsoid, Frame, HalfSpace, tube


def frame(points: list[tuple[float, float, float]]) -> Frame:
    x, y, z = (
        np.asfortranarray(np.array(axis, dtype=np.float32).reshape(-1, 1, 1))
        for axis in zip(*points, strict=True)
    )
    depth = np.full(x.shape, -1e3, dtype=np.float32, order="F")
    return Frame(x, y, z, depth, np.zeros(3, dtype=np.int64))


def depth_of(shape: Ellipsoid | HalfSpace, points: list[tuple[float, float, float]]) -> list[float]:
    where = frame(points)
    shape.carve(where, (0, len(points), 0, 1, 0, 1), kernels.UNION)
    return [float(v) for v in where.depth[:, 0, 0]]


def rod_depth(rods: tuple[Capsule, ...], points: list[tuple[float, float, float]]) -> list[float]:
    where = frame(points)
    ends = np.array([(*r.a, *r.b, r.radius_a, r.radius_b) for r in rods], dtype=np.float32)
    boxes = np.array([(0, len(points), 0, 1, 0, 1)] * len(rods))
    kernels.rods(*where.arrays, ends, boxes)
    return [float(v) for v in where.depth[:, 0, 0]]


def test_depth_in_a_ball_is_radius_less_distance() -> None:
    ball = Ellipsoid((10.0, 0.0, -5.0), (8.0, 8.0, 8.0))
    points = [(10.0, 0.0, -5.0), (15.0, 0.0, -5.0), (10.0, 0.0, 5.0)]
    assert depth_of(ball, points) == pytest.approx([8.0, 3.0, -2.0], abs=1e-4)


def test_turned_ellipsoid_ends_where_its_long_axis_ends() -> None:
    diagonal = 1 / np.sqrt(2)
    rows = ((diagonal, diagonal, 0.0), (-diagonal, diagonal, 0.0), (0.0, 0.0, 1.0))
    shape = Ellipsoid((0, 0, 0), (20.0, 5.0, 5.0), rows)
    tip = 20 * diagonal
    inside, outside = depth_of(shape, [(0.98 * tip, 0.98 * tip, 0), (tip, -tip, 0)])
    assert inside == pytest.approx(0.4, abs=0.05)
    assert outside < -10
    (low, high) = shape.bounds()
    reach = np.sqrt((20 * diagonal) ** 2 + (5 * diagonal) ** 2)
    assert (low[0], high[1], high[2]) == pytest.approx((-reach, reach, 5.0))


def test_depth_in_a_rod_is_radius_less_distance_from_its_axis() -> None:
    rod = Capsule((0, 0, 0), (0, 0, 10), 2.0, 4.0)
    points = [(0.0, 0.0, 5.0), (1.0, 0.0, 10.0), (0.0, 0.0, -3.0), (0.0, 6.0, 5.0)]
    assert rod_depth((rod,), points) == pytest.approx([3.0, 3.0, -1.0, -3.0], abs=1e-5)


def test_tube_passes_through_its_points_with_its_radii() -> None:
    points = [(0.0, 0.0, 0.0), (10.0, 5.0, 0.0), (25.0, 5.0, 8.0)]
    depths = rod_depth(tube(points, [3.0, 4.0, 5.0], step_mm=0.5), points)
    assert depths == pytest.approx([3.0, 4.0, 5.0], abs=0.05)


def test_half_space_is_measured_along_its_normal() -> None:
    plane = HalfSpace((0, 0, 3), (0, 0, -2))
    assert depth_of(plane, [(5.0, 5.0, 1.0), (0.0, 0.0, 4.0)]) == pytest.approx([2.0, -1.0])


def oblique_grid() -> Geometry:
    turn = np.deg2rad(12)
    affine = np.eye(4)
    affine[:3, 0] = (-2 * np.cos(turn), -2 * np.sin(turn), 0)
    affine[:3, 1] = (3 * np.sin(turn), -3 * np.cos(turn), 0)
    affine[:3, 2] = (0, 0, -4)
    affine[:3, 3] = (40, 210, -900)
    return Geometry((9, 11, 7), affine)


def test_grid_coordinates_equal_the_point_by_point_placement() -> None:
    rng = np.random.default_rng(0)
    placement = Placement.random(rng, np.array([0.95, 1.05, 1.1]), rms_mm=3.0)
    placement = placement.moved_to(np.array([3.0, 140.0, -880.0]))
    grid = oblique_grid()
    x, y, z = placement.on_grid(grid.affine, grid.shape, slice(2, 6))
    assert x.flags.f_contiguous
    i, j, k = np.indices((9, 11, 4))
    world = grid.to_world(np.stack([i, j, k + 2], axis=-1).reshape(-1, 3))
    expected = placement.to_atlas(world)
    found = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    assert np.abs(found - expected).max() < 1e-3


def test_placement_there_and_back() -> None:
    placement = Placement.random(np.random.default_rng(4), np.array([0.9, 1.0, 1.1]), rms_mm=3.0)
    atlas = np.random.default_rng(1).uniform(-150, 150, (50, 3))
    assert np.abs(placement.to_atlas(placement.to_world(atlas)) - atlas).max() < 1e-6


def test_moving_a_patient_moves_every_point_alike() -> None:
    placement = Placement.random(np.random.default_rng(2), np.array([1.0, 1.1, 0.9]), rms_mm=3.0)
    moved = placement.moved_to(np.array([10.0, -20.0, 500.0]))
    atlas = np.random.default_rng(3).uniform(-100, 100, (20, 3))
    shift = moved.to_world(atlas) - placement.to_world(atlas)
    assert np.allclose(shift, [10.0, -20.0, 500.0], atol=1e-6)
