"""Areas of the surface at a corner, from geometry, against hand-worked ones and the peer's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pantskit.measure.surfels import VERTICES, surfel_areas, triangle_normals

SPACINGS = [(1.0, 1.0, 1.0), (0.8, 0.8, 2.5), (3.0, 2.0, 1.0), (0.7, 5.0, 0.3)]


def code_of(*inside: tuple[int, int, int]) -> int:
    return sum(1 << VERTICES.index(v) for v in inside)


def test_nothing_and_everything_inside_have_no_surface() -> None:
    areas = surfel_areas((1.0, 2.0, 3.0))
    assert areas[0] == areas[255] == 0
    assert (areas[1:255] > 0).all()


def test_one_corner_cuts_off_a_triangle() -> None:
    # Half-way points of three edges of lengths 1, 2, 3 from the corner: half of |a x b|.
    a, b = np.array([-0.5, 1.0, 0.0]), np.array([-0.5, 0.0, 1.5])
    expected = np.linalg.norm(np.cross(a, b)) / 2
    assert surfel_areas((1.0, 2.0, 3.0))[code_of((0, 0, 0))] == pytest.approx(expected)


def test_half_the_cube_has_a_flat_face_between() -> None:
    areas = surfel_areas((1.0, 2.0, 3.0))
    low_i = [v for v in VERTICES if v[0] == 0]
    low_k = [v for v in VERTICES if v[2] == 0]
    assert areas[code_of(*low_i)] == pytest.approx(2 * 3)
    assert areas[code_of(*low_k)] == pytest.approx(1 * 2)


def test_an_edge_has_a_slanted_rectangle() -> None:
    # Along k (3 mm); across, half-way on edges of 1 and 2 mm.
    area = surfel_areas((1.0, 2.0, 3.0))[code_of((0, 0, 0), (0, 0, 1))]
    assert area == pytest.approx(3 * math.hypot(0.5, 1.0))


def test_diagonal_neighbours_are_cut_off_apart() -> None:
    areas = surfel_areas((1.0, 2.0, 3.0))
    pair = areas[code_of((0, 0, 0), (1, 1, 0))]
    assert pair == pytest.approx(2 * areas[code_of((0, 0, 0))])


def test_three_around_a_corner_and_it_make_a_hexagon() -> None:
    # Regular, with sides of half a face diagonal, on the unit cube.
    area = surfel_areas((1.0, 1.0, 1.0))[code_of((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert area == pytest.approx(1.5 * math.sqrt(3) / 2)


def test_an_l_is_half_a_face_and_a_slope() -> None:
    area = surfel_areas((1.0, 1.0, 1.0))[code_of((0, 0, 0), (1, 0, 0), (0, 1, 0))]
    # Half of the face is cut off flat, by a triangle of area 1/2; from its long side (root 2)
    # to the short one (half of that) on the next faces, the slope is 3/8 root 3.
    assert area == pytest.approx(0.5 + 3 * math.sqrt(3) / 8)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_inside_and_outside_share_their_surface(spacing: tuple[float, float, float]) -> None:
    areas = surfel_areas(spacing)
    np.testing.assert_allclose(areas, areas[::-1], rtol=1e-14)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_all_256_areas_are_surface_distances(spacing: tuple[float, float, float]) -> None:
    tables = pytest.importorskip("surface_distance.lookup_tables")
    theirs = tables.create_table_neighbour_code_to_surface_area(np.array(spacing))
    kernel = tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    code = [sum(int(kernel[v]) for n, v in enumerate(VERTICES) if c >> n & 1) for c in range(256)]
    np.testing.assert_allclose(surfel_areas(spacing), theirs[code], rtol=1e-14, atol=0)


def test_a_polygon_of_n_corners_has_n_minus_2_triangles() -> None:
    corners = {
        code_of((0, 0, 0)): 3,
        code_of((0, 0, 0), (0, 0, 1)): 4,
        code_of((0, 0, 0), (0, 0, 1), (0, 1, 0)): 5,
        code_of((0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)): 6,
    }
    for code, n in corners.items():
        assert len(triangle_normals(code)) == n - 2
