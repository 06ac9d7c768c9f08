"""Stored values to HU, and slices to their place, against plain numpy."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from pantskit.core.errors import ImageError
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.ingest.dicom.hounsfield import Clipped, to_float_hu, to_hu, volume_to_hu
from pantskit.ingest.dicom.placing import StandardArray, standard_slabs

RNG = np.random.default_rng(12)
STORED = {
    "uint16": RNG.integers(0, 65536, (31, 45)).astype(np.uint16),
    "int16": RNG.integers(-32768, 32768, (31, 45)).astype(np.int16),
    "int32": RNG.integers(-3000, 70000, (31, 45)).astype(np.int32),
    "float32": RNG.uniform(-1500, 1500, (31, 45)).astype(np.float32),
}
RESCALES = [(1, -1024), (1, 0), (1, -40000), (1, 0.5), (0.25, -1000.3), (-1, 500), (1.7, 31000)]


def views(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Arrays of the shape that lie in memory in every direction."""
    rows, columns = shape
    return {
        "plain": np.zeros(shape, np.int16),
        "rows from the last": np.zeros(shape, np.int16)[::-1],
        "columns from the last": np.zeros(shape, np.int16)[:, ::-1],
        "both": np.zeros(shape, np.int16)[::-1, ::-1],
        "across": np.zeros((columns, rows), np.int16)[::-1].T,
        "every third": np.zeros((rows, columns, 3), np.int16)[::-1, :, 1],
    }


@pytest.mark.parametrize("rescale", RESCALES)
@pytest.mark.parametrize("kind", STORED)
def test_hu_is_rounded_once_and_clipped(kind, rescale):
    stored, (slope, intercept) = STORED[kind], rescale
    hu = np.rint(stored.astype(np.float64) * slope + intercept)
    out = np.zeros(stored.shape, np.int16)
    found = to_hu(stored, slope, intercept, out)
    np.testing.assert_array_equal(out, np.clip(hu, -1000, 1000))
    clipped = found.clipped
    assert (clipped.below, clipped.above) == ((hu < -1000).sum(), (hu > 1000).sum())
    assert (clipped.low, clipped.high, clipped.padded) == (hu.min(), hu.max(), 0)
    assert (found.low, found.high) == (stored.min(), stored.max())


@pytest.mark.parametrize("kind", STORED)
def test_padding_becomes_air_and_counts_for_nothing_else(kind):
    stored = STORED[kind].copy()
    stored[5:9] = -2000 if kind != "uint16" else 63536
    padding = (float(stored[5, 0]), float(stored[5, 0]) + 10)
    measured = (stored < padding[0]) | (stored > padding[1])
    hu = np.rint(stored.astype(np.float64) - 24)
    out = np.zeros(stored.shape, np.int16)
    clipped = to_hu(stored, 1, -24, out, padding=padding).clipped
    np.testing.assert_array_equal(out, np.where(measured, np.clip(hu, -1000, 1000), -1000))
    assert clipped.padded == (~measured).sum()
    assert clipped.below == (hu[measured] < -1000).sum()
    assert (clipped.low, clipped.high) == (hu[measured].min(), hu[measured].max())


@pytest.mark.parametrize("columns", [0xFFFF, 0x10000])
def test_every_clipped_voxel_of_a_long_row_is_counted(columns):
    stored = np.full((2, columns), -2000, np.int16)
    out = np.zeros(stored.shape, np.int16)
    clipped = to_hu(stored, 1, 0, out).clipped
    assert (clipped.below, clipped.above) == (2 * columns, 0)
    assert (out == -1000).all()


@pytest.mark.parametrize("view", views((1, 1)))
def test_hu_is_written_into_any_view_and_nothing_beside_it(view):
    stored = STORED["uint16"] % np.uint16(3000)
    out = views(stored.shape)[view]
    to_hu(stored, 1, -1024, out)
    np.testing.assert_array_equal(out, np.clip(stored.astype(int) - 1024, -1000, 1000))
    if view == "every third":
        assert not out.base[:, :, 0].any()
        assert not out.base[:, :, 2].any()


def test_slice_of_nothing_but_padding_leaves_the_range_open():
    out = np.zeros((4, 4), np.int16)
    clipped = to_hu(np.full((4, 4), -2000, np.int16), 1, 0, out, padding=(-2000, -2000)).clipped
    assert clipped == Clipped(padded=16)
    assert (out == -1000).all()


def test_values_that_are_not_finite_are_refused():
    stored = np.zeros((3, 3), np.float32)
    stored[1, 2] = np.nan
    with pytest.raises(ImageError, match="1 voxels are not finite"):
        to_hu(stored, 1, 0, np.zeros((3, 3), np.int16))


def test_hu_for_interpolation_is_neither_rounded_nor_clipped():
    stored = np.array([[0, 3, 4000, -2000]], np.int16)
    found = to_float_hu(stored, 0.5, -1024.25, padding=(-2000, -2000))
    np.testing.assert_array_equal(found, [[-1024.25, -1022.75, 975.75, -1000.0]])


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_slices_land_where_reorienting_the_volume_would_put_them(axes, signs):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, axis] = sign * (0.5 + axis)
    source = Geometry((3, 4, 5), affine)
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    placed = StandardArray(source, np.int16)
    for k in range(5):
        to_hu(array[:, :, k].T, 1, 0, placed.plane(k))
    expected = Volume(array, source).reoriented()
    np.testing.assert_array_equal(placed.volume.array, expected.array)
    np.testing.assert_array_equal(placed.geometry.affine, expected.geometry.affine)
    assert placed.array.flags.f_contiguous
    assert placed.volume.reoriented().array.flags.f_contiguous


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("slices", [1, 2, 9])
def test_slabs_follow_each_other_as_in_the_reoriented_volume(axes, signs, slices):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, axis] = sign * (0.5 + axis)
    source = Geometry((3, 4, 5), affine)
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    found = []
    for placed, numbers in standard_slabs(source, np.int16, slices * 24):
        for n, k in enumerate(numbers):
            to_hu(array[:, :, k].T, 1, 0, placed.plane(n))
        found.append(placed.array.copy())
    expected = Volume(array, source).reoriented()
    np.testing.assert_array_equal(np.concatenate(found, axis=2), expected.array)
    axial = axes[2] == 2
    assert len(found) == (-(-5 // slices) if axial else 1)


def test_volume_of_hu_is_clipped_and_turned():
    source = Geometry.from_spacing((3, 4, 5), (1, 2, 3), orientation="RAS")
    array = np.asfortranarray(RNG.uniform(-1500, 1500, (3, 4, 5)).astype(np.float32))
    volume, clipped = volume_to_hu(Volume(array, source))
    expected = Volume(np.clip(np.rint(array), -1000, 1000), source).reoriented()
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.geometry.orientation == "LAI"
    assert clipped.above == (np.rint(array) > 1000).sum()
