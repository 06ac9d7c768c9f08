"""Distances are the exact ones whichever way they are found: near by, pair by pair, by slices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pantskit.measure import nearest
from pantskit.measure.nearest import Spacing
from pantskit.measure.surface import surface_distances

Mask = NDArray[np.bool_]


def boundary(mask: Mask) -> Mask:
    """Voxels with one of six neighbours outside, by numpy alone."""
    padded = np.pad(mask, 1)
    enclosed = padded.copy()
    for axis in range(3):
        for step in (-1, 1):
            enclosed &= np.roll(padded, step, axis)
    return mask & ~enclosed[1:-1, 1:-1, 1:-1]


def expected(here: Mask, there: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """scipy's distances, in the order of points: i fastest."""
    distances = distance_transform_edt(~boundary(there), sampling=spacing)
    return distances.T[boundary(here).T]


@pytest.fixture(params=["near by", "pair by pair", "by slices"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Force one way of looking: the others are left for what it does not find."""
    nearest.neighbourhood.cache_clear()
    if request.param != "near by":
        monkeypatch.setattr(nearest, "NEIGHBOURS", 1)
    monkeypatch.setattr(nearest, "ALL_PAIRS", 0 if request.param == "by slices" else 1 << 40)
    yield request.param
    nearest.neighbourhood.cache_clear()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.8, 5.0), (3.0, 0.4, 1.1)])
def test_distances_are_scipys(way: str, spacing: Spacing) -> None:
    rng = np.random.default_rng(len(way))
    for density in (0.002, 0.02, 0.4):
        shape = rng.integers(2, [90, 30, 20])
        one, other = rng.random((2, *shape)) < density
        one.flat[rng.integers(one.size)] = other.flat[rng.integers(one.size)] = True
        found = surface_distances(one, other, spacing, definition="counted")
        np.testing.assert_allclose(found.to_prediction, expected(one, other, spacing), rtol=1e-14)
        np.testing.assert_allclose(found.to_reference, expected(other, one, spacing), rtol=1e-14)


def test_two_voxels_at_opposite_ends_of_a_scan(way: str) -> None:
    one, other = np.zeros((2, 200, 40, 30), np.bool_)
    one[0, 0, 0] = other[199, 39, 29] = True
    found = surface_distances(one, other, (0.5, 2.0, 3.0), definition="counted")
    assert found.to_prediction == pytest.approx([np.hypot(np.hypot(199 / 2, 78), 87)])


def test_all_distances_of_swapped_organs_are_scipys() -> None:
    """Many points far away, where slices are looked at without being forced."""
    one, other = np.zeros((2, 110, 70, 40), np.bool_)
    one[3:50, 5:60, 4:36] = other[66:107, 10:66, 2:33] = True
    spacing = (0.8, 0.8, 2.0)
    assert boundary(one).sum() * boundary(other).sum() > nearest.ALL_PAIRS
    found = surface_distances(one, other, spacing, definition="counted")
    np.testing.assert_allclose(found.to_prediction, expected(one, other, spacing), rtol=1e-14)
