"""Label maps and masks: what is rounded, what is refused, and other grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its users call it so)
from nifti_files import GRID, OBLIQUE, labels, ramp, save

from pantskit.core.crops import read_mask_crop
from pantskit.core.errors import LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labelvolumes import read_label_map, read_mask, resample_nearest
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume


def test_label_values_that_a_slope_moved_are_rounded_and_reported(tmp_path: Path) -> None:
    # As in the release: int16 with a slope, values read 1.0002.
    stored = (labels(1) * 32000).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", stored, scl_slope=1.0002 / 32000, scl_inter=0)
    assert read_volume(path).array.max() == pytest.approx(1.0002)
    volume = read_label_map(path)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array, labels(1))
    assert volume.faults == (
        "label map stored as int16 with slope 3.126e-05; its values are up to 0.0002 away from "
        "integers and were rounded",
    )


def test_a_float_label_map_of_integers_is_reported_too(tmp_path: Path) -> None:
    volume = read_label_map(save(tmp_path / "a.nii.gz", labels(28).astype(np.float32)))
    np.testing.assert_array_equal(volume.array, labels(28))
    assert volume.faults == ("label map stored as float32",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "holds 1.5, no integer; it was interpolated"),
        (np.nan, "not finite"),
        (-1, "label -1 is negative"),
        (70000, "label 70000 is no structure's"),
    ],
)
def test_label_maps_of_other_values_are_refused(value: float, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", labels(value).astype(np.float32))
    with pytest.raises(LabelError, match=message):
        read_label_map(path)


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_a_label_map_takes_the_smallest_type(value: int, dtype: Any, tmp_path: Path) -> None:
    volume = read_label_map(save(tmp_path / "a.nii.gz", labels(value).astype(np.int32)))
    assert volume.array.dtype == dtype
    assert volume.array.max() == value


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_mask_is_bool(dtype: Any, tmp_path: Path) -> None:
    volume = read_mask(save(tmp_path / "a.nii.gz", labels(1).astype(dtype)))
    assert volume.array.dtype == np.bool_
    np.testing.assert_array_equal(volume.array, labels(1) == 1)
    assert volume.faults == ()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_empty_mask_is_all_false(suffix: str, tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path / f"a{suffix}", labels(0).astype(np.uint8))).array
    assert mask.shape == GRID.shape
    assert not mask.any()


def test_what_is_not_binary_is_reported_and_above_half_is_inside(tmp_path: Path) -> None:
    array = labels(0).astype(np.float32)
    array[0, 0, :5] = [0.25, 0.5, 0.75, 2, -0.125]
    volume = read_mask(save(tmp_path / "a.nii.gz", array))
    assert np.argwhere(volume.array).tolist() == [[0, 0, 2], [0, 0, 3]]
    assert volume.faults == (
        "mask is not binary: it holds -0.125, 0.25, 0.5, 0.75, 2; all above 0.5 taken as inside",
    )


def test_a_mask_of_255_is_reported(tmp_path: Path) -> None:
    volume = read_mask(save(tmp_path / "a.nii", labels(255).astype(np.uint8)))
    np.testing.assert_array_equal(volume.array, labels(1) == 1)
    assert "it holds 255" in volume.faults[0]


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [(-1, np.int8, "holds -1; 0 is outside"), (0.25, np.float32, "up to 0.25 and none above 0.5")],
)
def test_a_mask_that_does_not_tell_what_is_inside_is_refused(
    tmp_path: Path, value: float, dtype: Any, said: str
) -> None:
    """255 in a signed byte is -1: such a mask must not read as empty."""
    path = save(tmp_path / "a.nii.gz", (labels(1) * value).astype(dtype))
    for read in (read_mask, read_mask_crop):
        with pytest.raises(LabelError, match=said):
            read(path)


def test_a_mask_with_values_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="not finite"):
        read_mask(save(tmp_path / "a.nii.gz", labels(np.inf).astype(np.float32)))


# Labels on another grid


def test_resampling_to_twice_the_slices_repeats_each() -> None:
    source = Geometry.from_spacing((2, 2, 3), (1, 1, 2), orientation="RAS")
    array = ramp(np.uint8, (2, 2, 3))
    # Slices of 1 mm whose centres lie a quarter of a slice to either side of the source's.
    fine = Geometry.from_spacing((2, 2, 6), (1, 1, 1), orientation="RAS", origin=(0, 0, -0.5))
    result = resample_nearest(Volume(array, source), fine)
    np.testing.assert_array_equal(result.array, np.repeat(array, 2, axis=2))
    assert result.geometry is fine


def test_resampling_outside_the_source_is_background() -> None:
    source = Geometry.from_spacing((2, 2, 2), (1, 1, 1), orientation="RAS")
    large = Geometry.from_spacing((4, 4, 4), (1, 1, 1), orientation="RAS", origin=(-1, -1, -1))
    result = resample_nearest(Volume(np.ones((2, 2, 2), np.bool_), source), large)
    assert result.array.dtype == np.bool_
    assert np.argwhere(result.array).min(axis=0).tolist() == [1, 1, 1]
    assert result.array.sum() == 8


def test_resampling_to_the_same_voxels_in_another_orientation_is_reorienting() -> None:
    volume = Volume(ramp(np.uint8), GRID)
    turned = volume.reoriented("PSR")
    np.testing.assert_array_equal(resample_nearest(volume, turned.geometry).array, turned.array)


def test_resampling_between_oblique_grids_agrees_with_itk(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    source = Geometry((12, 13, 14), OBLIQUE)
    array = rng.integers(0, 9, source.shape).astype(np.uint8)
    target = Geometry.from_spacing((20, 21, 30), (0.61, 0.57, 1.3), origin=(90, -200, 30))
    for name, volume in {
        "s": Volume(array, source),
        "t": Volume(np.zeros(target.shape, np.uint8), target),
    }.items():
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    images = [sitk.ReadImage(str(tmp_path / f"{n}.nii.gz")) for n in "st"]
    theirs = sitk.Resample(*images, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    ours = resample_nearest(Volume(array, source), target).array
    expected = sitk.GetArrayFromImage(theirs).T
    assert ours.any()
    # ITK also takes half a voxel outside as inside; elsewhere only ties at 1e-4 may differ.
    assert (ours != expected).mean() < 0.001
