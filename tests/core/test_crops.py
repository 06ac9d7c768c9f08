"""Masks cut while they are read hold what whole ones do, and fail as they do."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from pantskit.core.crops import cut_mask, read_mask_crop
from pantskit.core.errors import ImageError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labelvolumes import read_mask
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume

SHAPE = (150, 140, 130)  # several slabs of a million bytes
GRID = Geometry.from_spacing(SHAPE, (0.8, 0.9, 2.5), origin=(10, -20, 30))


def save(path: Path, array: NDArray[Any], slope: float = 1.0) -> Path:
    image = nib.Nifti1Image(array, GRID.affine)
    image.header.set_slope_inter(slope, 0.0)
    nib.save(image, path)
    return path


def require_same(path: Path) -> None:
    whole, crop = read_mask(path), read_mask_crop(path)
    restored = np.zeros(SHAPE, np.bool_)
    restored[tuple(slice(a, a + n) for a, n in zip(crop.start, crop.array.shape, strict=True))] = (
        crop.array
    )
    np.testing.assert_array_equal(restored, whole.array)
    assert crop.faults == whole.faults
    assert crop.geometry.same_grid(whole.geometry)
    for axis in range(3):  # nothing empty is left around it
        sides = np.moveaxis(crop.array, axis, 0)
        assert not crop.array.size or (sides[0].any() and sides[-1].any())


def two_parts() -> NDArray[np.uint8]:
    array = np.zeros(SHAPE, np.uint8)
    array[20:31, 40:42, 3:9] = array[99, 7, 120] = 1
    return array


@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz", "MASK.NII.GZ"])
def test_parts_far_from_each_other_are_in_one_crop(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "mask.nii.gz", two_parts())
    if name == "mask.nii":
        path = save(tmp_path / name, two_parts())
    require_same(path.rename(tmp_path / name))
    crop = read_mask_crop(tmp_path / name)
    assert crop.start == (20, 7, 3)
    assert crop.array.shape == (80, 35, 118)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64, np.dtype(">i2"), np.uint8])
def test_odd_types_and_values_read_as_in_a_whole_mask(tmp_path: Path, dtype: Any) -> None:
    array = two_parts().astype(dtype) * 3
    array[1, 1, 60] = 7
    require_same(save(tmp_path / "mask.nii.gz", array))


def test_a_slope_is_applied(tmp_path: Path) -> None:
    require_same(save(tmp_path / "mask.nii.gz", two_parts().astype(np.int16) * 2, slope=0.3))


def test_an_empty_mask_is_an_empty_crop(tmp_path: Path) -> None:
    require_same(save(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8)))
    assert read_mask_crop(tmp_path / "mask.nii.gz").array.size == 0


def test_our_own_files_read_alike(tmp_path: Path) -> None:
    mask = two_parts().astype(np.bool_)
    write_volume(tmp_path / "mask.nii.gz", Volume(mask, GRID))
    require_same(tmp_path / "mask.nii.gz")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.nii.gz", two_parts())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match="copy it again"):
        read_mask_crop(path)
    path = save(tmp_path / "mask.nii", two_parts())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match="copy it again"):
        read_mask_crop(path)


def test_a_damaged_checksum_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.nii.gz", two_parts())
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged gzip"):
        read_mask_crop(path)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    array = two_parts().astype(np.float32)
    array[0, 0, 50] = np.nan
    with pytest.raises(LabelError, match="not finite"):
        read_mask_crop(save(tmp_path / "mask.nii.gz", array))


def test_a_mask_in_memory_is_cut_alike() -> None:
    crop = cut_mask(two_parts().astype(np.bool_), GRID)
    assert (crop.start, crop.array.shape) == ((20, 7, 3), (80, 35, 118))
    assert cut_mask(np.zeros(SHAPE, np.bool_), GRID).array.size == 0


@pytest.mark.parametrize("orientation", ["LAI", "RAS", "PSR", "IRP", "SLA"])
def test_a_crop_with_turned_axes_is_a_crop_of_the_turned_mask(orientation: str) -> None:
    mask = np.zeros((7, 5, 6), np.bool_)
    mask[1, 2:4, 0] = mask[3, 3, 4] = True
    geometry = Geometry.from_spacing(mask.shape, (0.8, 0.9, 2.5), origin=(10, -20, 30))
    turned = Volume(mask, geometry).reoriented(orientation)
    crop = cut_mask(mask, geometry).reoriented(orientation)
    expected = cut_mask(turned.array, turned.geometry)
    assert crop.start == expected.start
    np.testing.assert_array_equal(crop.array, expected.array)
    assert crop.geometry.same_grid(turned.geometry)
    assert crop.geometry.orientation == orientation


def test_an_empty_crop_can_be_turned() -> None:
    crop = cut_mask(np.zeros((7, 5, 6), np.bool_), Geometry.from_spacing((7, 5, 6), (1, 1, 2)))
    assert crop.reoriented().array.size == 0


def test_zeros_that_an_intercept_makes_ones_are_inside(tmp_path: Path) -> None:
    image = nib.Nifti1Image(two_parts(), GRID.affine)
    path = tmp_path / "mask.nii.gz"
    nib.save(image, path)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[112:120] = struct.pack("<2f", -1.0, 1.0)  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(raw))
    require_same(path)
    assert read_mask_crop(path).array.sum() == two_parts().size - two_parts().sum()
