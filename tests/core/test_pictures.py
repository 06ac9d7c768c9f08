from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pantskit.core.errors import ConfigError
from pantskit.core.geometry import Geometry
from pantskit.core.pictures import (
    Plane,
    montage,
    slice_count,
    slice_of,
    slice_picture,
    widest_slice,
    write_png,
)
from pantskit.core.volume import Volume

# RAS voxels of 1 x 1 x 2 mm: 6 to the left-right, 8 to the front, 4 up.
GRID = Geometry.from_spacing((6, 8, 4), (1, 1, 2), orientation="RAS")
RED = (200, 0, 0)


def corner(i: int, j: int, k: int) -> NDArray[np.int16]:
    """Air with one voxel of bone."""
    array = np.full(GRID.shape, -1000, np.int16, order="F")
    array[i, j, k] = 1000
    return array


@pytest.mark.parametrize(
    ("plane", "index", "row", "column"),
    [
        # The patient's right front top voxel. Axial, from below: right is at the picture's left
        # and the front at its top. Coronal, from the front: top left. Sagittal: the front is left.
        ("axial", 3, 0, 0),
        ("coronal", 7, 0, 0),
        ("sagittal", 0, 0, 0),
    ],
)
def test_slices_lie_as_a_radiologist_holds_them(
    plane: Plane, index: int, row: int, column: int
) -> None:
    array = corner(5, 7, 3)
    shown = slice_of(array, GRID, plane, index)
    assert np.argwhere(shown == 1000).tolist() == [[row, column]]


def test_planes_have_their_slices() -> None:
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
    assert [slice_count(GRID, p) for p in planes] == [4, 8, 6]
    assert [slice_of(corner(0, 0, 0), GRID, p, 0).shape for p in planes] == [(8, 6), (4, 6), (4, 8)]


def test_a_picture_does_not_depend_on_the_order_of_axes() -> None:
    array = np.random.default_rng(0).integers(-200, 300, GRID.shape).astype(np.int16)
    expected = slice_picture(array, GRID, index=1)
    for codes in ("LAI", "PIR", "SLA"):
        turned = Volume(array, GRID).reoriented(codes)
        picture = slice_picture(turned.array, turned.geometry, index=1)
        np.testing.assert_array_equal(picture, expected)


def test_pixels_are_square_in_millimetres() -> None:
    array = corner(0, 0, 0)
    assert slice_picture(array, GRID, height=80).shape == (80, 60, 3)
    # Coronal: 4 slices of 2 mm high, 6 mm wide.
    assert slice_picture(array, GRID, plane="coronal", height=80).shape == (80, 60, 3)
    assert slice_picture(array, GRID, plane="sagittal", height=80).shape == (80, 80, 3)


def test_the_window_goes_from_black_to_white() -> None:
    values = np.array([-500, -160, 40, 240, 500], np.int16)
    array = np.repeat(values, 16).reshape(5, 4, 4)
    grid = Geometry.from_spacing((5, 4, 4), (1, 1, 1), orientation="LPS")
    picture = slice_picture(array, grid, height=4)
    # 127.5 is rounded to even.
    assert picture[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (picture == picture[..., :1]).all()


def test_labels_are_painted_with_an_outline_and_never_interpolated() -> None:
    array = np.full(GRID.shape, -160, np.int16)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[1:5, 1:7, :] = 1
    labels[0, 0, :] = 2  # no colour: not painted
    picture = slice_picture(
        array, GRID, labels=labels, colors={1: RED}, height=80, opacity=0.5, outline=True
    )
    colors, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    assert colors.tolist() == [[0, 0, 0], [100, 0, 0], [200, 0, 0]]
    assert counts[1:].sum() == 40 * 60
    assert counts[2] == 40 * 60 - 38 * 58  # a line of one pixel along the border
    plain = slice_picture(array, GRID, labels=labels, colors={1: RED}, height=80, outline=False)
    assert plain[40, 30].tolist() == [70, 0, 0]
    assert set(np.unique(plain)) == {0, 70}


def test_the_widest_slice_shows_most_of_a_mask() -> None:
    mask = np.zeros(GRID.shape, np.bool_)
    mask[2, 3, 1] = True
    mask[2:4, 3, 2] = True
    assert widest_slice(mask, GRID) == 2
    assert widest_slice(mask, GRID.reoriented("RAS"), "coronal") == 3
    turned = Volume(mask, GRID).reoriented("LAI")
    assert widest_slice(turned.array, turned.geometry) == 2
    assert widest_slice(np.zeros(GRID.shape, np.bool_), GRID) == 2


@pytest.mark.parametrize(("plane", "index"), [("axial", 4), ("axial", -1), ("sagittal", 6)])
def test_a_slice_that_is_not_there_is_refused(plane: Plane, index: int) -> None:
    with pytest.raises(ConfigError, match=f"{plane} slice {index} is not among the"):
        slice_picture(corner(0, 0, 0), GRID, plane=plane, index=index)


def test_an_unknown_plane_is_refused() -> None:
    wrong: Any = "frontal"
    with pytest.raises(ConfigError, match="plane 'frontal' is unknown; use axial, coronal, sagitt"):
        slice_picture(corner(0, 0, 0), GRID, plane=wrong)


def test_a_montage_keeps_every_picture_whole() -> None:
    pictures = [
        np.full((height, width, 3), value, np.uint8)
        for value, (height, width) in enumerate([(4, 6), (8, 2), (4, 6)], 1)
    ]
    sheet = montage(pictures, 2, gap=3)
    assert sheet.shape == (8 * 2 + 3, 6 * 2 + 3, 3)
    for value, picture in enumerate(pictures, 1):
        assert (sheet == value).sum() == picture.size
    assert montage(pictures[:1], 5).shape == (4, 6, 3)
    with pytest.raises(ConfigError, match="at least one picture"):
        montage([], 2)


def test_a_png_is_what_was_pictured(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    write_png(tmp_path / "deep" / "a.png", picture)
    with Image.open(tmp_path / "deep" / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_every_voxel_of_a_label_is_in_some_slice() -> None:
    labels = np.random.default_rng(1).integers(0, 3, GRID.shape).astype(np.uint8)
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
    for plane, label in itertools.product(planes, (1, 2)):
        shown = sum(
            int((slice_of(labels, GRID, plane, n) == label).sum())
            for n in range(slice_count(GRID, plane))
        )
        assert shown == (labels == label).sum()
