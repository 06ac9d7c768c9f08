from __future__ import annotations

import gzip
import mmap
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its users call it so)
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import GRID, OBLIQUE, Array, patch, ramp, save

from pantskit.core.errors import GeometryError, ImageError
from pantskit.core.labelvolumes import read_label_map, read_mask
from pantskit.core.volume import Volume, read_header, read_volume

# What others write, read by us


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_integers_keep_their_type_and_place(dtype: Any, suffix: str, tmp_path: Path) -> None:
    array = (ramp(np.int64) - (100 if np.iinfo(dtype).min < 0 else 0)).astype(dtype)
    volume = read_volume(save(tmp_path / f"a{suffix}", array))
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.geometry.affine, OBLIQUE, atol=1e-5)
    assert volume.array.flags.f_contiguous
    assert volume.faults == ()
    assert volume.label_space is None


def test_float64_is_read_as_float32(tmp_path: Path) -> None:
    array = np.full(GRID.shape, 0.1)
    volume = read_volume(save(tmp_path / "a.nii.gz", array))
    assert volume.array.dtype == np.float32
    assert volume.array[0, 0, 0] == np.float32(0.1)


def test_a_float64_beyond_float32_becomes_infinite_without_a_warning(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii", np.full(GRID.shape, 1e300)))
    assert np.isinf(volume.array).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_slope_is_applied_once(suffix: str, tmp_path: Path) -> None:
    stored = ramp()
    path = save(tmp_path / f"a{suffix}", stored, scl_slope=0.5, scl_inter=-1024)
    volume = read_volume(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, stored * 0.5 - 1024)
    np.testing.assert_allclose(volume.array, nib.load(path).get_fdata())
    header = read_header(path)
    assert (header.slope, header.intercept, header.dtype) == (0.5, -1024.0, np.int16)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_slope_of_zero_or_none_leaves_values_as_they_are(slope: float, tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), scl_slope=slope, scl_inter=5)
    volume = read_volume(path)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, ramp())


def test_a_slope_with_an_intercept_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp(), scl_slope=2, scl_inter=np.nan)
    with pytest.raises(ImageError, match="intercept nan"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_big_endian_files_read_the_same(suffix: str, slope: float, tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(ramp(), OBLIQUE, header)
    image.set_sform(OBLIQUE, 1)
    path = tmp_path / f"a{suffix}"
    nib.save(image, path)
    patch(path, nib.Nifti1Header, scl_slope=slope, scl_inter=0)
    volume = read_volume(path)
    assert volume.array.dtype == (np.int16 if slope == 1 else np.float32)
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, ramp() * slope)
    np.testing.assert_allclose(volume.geometry.affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti2_files_read_the_same(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a{suffix}", ramp(), kind=nib.Nifti2Image)
    np.testing.assert_array_equal(read_volume(path).array, ramp())


def test_an_uncompressed_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    array = read_volume(save(tmp_path / "a.nii", ramp())).array
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(getattr(base, "obj", base), mmap.mmap)
    assert not array.flags.writeable


def test_what_a_file_is_decides_and_not_its_name(tmp_path: Path) -> None:
    zipped, plain = tmp_path / "zipped.nii", tmp_path / "plain.nii.gz"
    plain.write_bytes(save(tmp_path / "a.nii", ramp()).read_bytes())
    zipped.write_bytes(save(tmp_path / "b.nii.gz", ramp()).read_bytes())
    for path in (zipped, plain):
        np.testing.assert_array_equal(read_volume(path).array, ramp())


def test_a_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    data = save(tmp_path / "a.nii", ramp()).read_bytes()
    path = tmp_path / "many.nii.gz"
    path.write_bytes(b"".join(gzip.compress(data[i : i + 100]) for i in range(0, len(data), 100)))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, ramp())
    assert volume.faults == ()


def test_header_extensions_are_passed_over(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp(), OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    for name in ("a.nii", "a.nii.gz"):
        nib.save(image, tmp_path / name)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, ramp())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_voxel_offset_within_the_header_means_its_end(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a{suffix}", ramp(), vox_offset=0)
    np.testing.assert_array_equal(read_volume(path).array, ramp())


def test_an_image_of_four_axes_and_one_volume_is_a_volume(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii.gz", ramp()[..., None]))
    np.testing.assert_array_equal(volume.array, ramp())


@pytest.mark.parametrize("shape", [(5,), (5, 6), (5, 6, 7, 2), (5, 6, 7, 1, 3)])
def test_other_than_three_axes_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(shape=shape))
    for read in (read_volume, read_label_map, read_mask, read_header):
        with pytest.raises(ImageError, match=rf"a\.nii\.gz: {len(shape)}D image"):
            read(path)


@pytest.mark.parametrize(
    "dtype", [np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), np.dtype(np.complex64)]
)
def test_colours_and_complex_numbers_are_refused(dtype: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.zeros(GRID.shape, dtype))
    with pytest.raises(ImageError, match="not plain numbers"):
        read_volume(path)


# The place in space


def test_only_a_qform_is_enough(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), sform_code=0)
    np.testing.assert_allclose(read_header(path).geometry.affine, OBLIQUE, atol=1e-3)


def test_only_an_sform_is_enough(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), qform_code=0, quatern_b=0, quatern_c=0)
    np.testing.assert_allclose(read_header(path).geometry.affine, OBLIQUE, atol=1e-5)


def test_without_codes_the_position_is_unknown(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), qform_code=0, sform_code=0)
    with pytest.raises(GeometryError, match="neither sform nor qform has a code"):
        read_volume(path)


def test_forms_that_disagree_are_refused(tmp_path: Path) -> None:
    def mirrored(header: Any) -> None:
        header["srow_x"] *= -1

    path = save(tmp_path / "a.nii.gz", ramp(), change=mirrored)
    with pytest.raises(GeometryError, match=r"sform \(RAI\) and qform \(LAI\) disagree by 18"):
        read_volume(path)


def test_a_sheared_sform_is_refused(tmp_path: Path) -> None:
    def tilted(header: Any) -> None:
        header["srow_y"][2] += 0.8

    path = save(tmp_path / "a.nii.gz", ramp(), qform_code=0, change=tilted)
    with pytest.raises(GeometryError, match="not perpendicular"):
        read_volume(path)


def test_a_quaternion_that_is_none_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), sform_code=0, quatern_b=3)
    with pytest.raises(GeometryError, match=r"a\.nii\.gz"):
        read_volume(path)


def test_a_qfac_of_zero_means_one(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3, 4, 1])
    path = save(tmp_path / "a.nii.gz", ramp(), affine, sform_code=0)

    def no_qfac(header: Any) -> None:
        header["pixdim"][0] = 0

    patch(path, nib.Nifti1Header, no_qfac)
    np.testing.assert_allclose(read_header(path).geometry.affine, affine, atol=1e-6)


def test_micron_beside_millimetres_is_read_as_millimetres_and_reported(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii.gz", ramp(), xyzt_units=3))
    assert volume.geometry.spacing == pytest.approx(GRID.spacing, abs=1e-5)
    assert volume.faults == ("header says its unit is micron; spacing was read as millimetres",)


def test_true_microns_are_refused_as_no_spacing_of_a_ct(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), np.diag([750.0, 750, 1500, 1]), xyzt_units=3)
    with pytest.raises(GeometryError, match="is the unit millimetre"):
        read_volume(path)


@pytest.mark.parametrize("name", ["srow_x", "pixdim"])
def test_numbers_that_are_none_in_the_affine_are_refused(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp(), **{name: np.nan})
    with pytest.raises(GeometryError, match=r"a\.nii\.gz"):
        read_volume(path)


# Damaged and hostile files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.nii\.gz: no such file"):
        read_volume(tmp_path / "gone.nii.gz")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_volume(tmp_path)


@pytest.mark.parametrize("text", ["", "x", "Not Found\n", "<html>404</html>" * 100])
@pytest.mark.parametrize("zipped", [False, True])
def test_text_named_nii_gz_is_no_image(text: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "page.nii.gz"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    with pytest.raises(ImageError, match=r"page\.nii\.gz: not a NIfTI image"):
        read_volume(path)


@pytest.fixture(scope="module")
def noise() -> Array:
    return np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)


@pytest.mark.parametrize("share", [0.0005, 0.005, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_gzip_is_never_read_as_an_image(
    share: float, noise: Array, tmp_path: Path
) -> None:
    data = save(tmp_path / "whole.nii.gz", noise).read_bytes()
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(data[: max(4, int(len(data) * share))])
    with pytest.raises(ImageError, match=r"cut\.nii\.gz: (damaged|file ends|not a NIfTI)"):
        read_volume(path)


def test_a_gzip_cut_in_its_checksum_is_refused(noise: Array, tmp_path: Path) -> None:
    data = save(tmp_path / "whole.nii.gz", noise).read_bytes()
    for missing in (1, 4, 8):
        (tmp_path / "cut.nii.gz").write_bytes(data[:-missing])
        with pytest.raises(ImageError, match=r"cut short|damaged"):
            read_volume(tmp_path / "cut.nii.gz")


def test_a_flipped_bit_is_found_by_the_checksum(noise: Array, tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", noise)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"damaged|cut short"):
        read_volume(path)


def test_a_truncated_plain_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageError, match="file ends before its 420 bytes of voxels"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_more_than_can_follow_allocates_nothing(
    suffix: str, tmp_path: Path
) -> None:
    forged = [3, 32767, 32767, 32767, 1, 1, 1, 1]
    path = save(tmp_path / f"a{suffix}", ramp(), dim=forged, qform_code=0)
    with pytest.raises(ImageError, match="file ends before its 703623"):
        read_volume(path)


def test_sizes_that_overflow_64_bits_are_refused(tmp_path: Path) -> None:
    forged = [3, 2**40, 2**40, 2**40, 1, 1, 1, 1]
    path = save(tmp_path / "a.nii.gz", ramp(), kind=nib.Nifti2Image, dim=forged, qform_code=0)
    with pytest.raises(ImageError, match="file ends before"):
        read_volume(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": [3, -5, 6, 7, 1, 1, 1, 1]},
        {"dim": [3, 0, 6, 7, 1, 1, 1, 1]},
        {"dim": [0, 5, 6, 7, 1, 1, 1, 1]},
        {"dim": [9, 5, 6, 7, 1, 1, 1, 1]},
        {"datatype": 999},
        {"datatype": 1},
        {"magic": b"ni1"},
        {"magic": b"xxx"},
        {"vox_offset": np.nan},
        {"vox_offset": np.inf},
        {"vox_offset": 1e30},
        {"sizeof_hdr": 7},
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_forged_headers_are_refused_in_one_line(
    fields: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    path = save(tmp_path / f"a{suffix}", ramp(), **fields)
    with pytest.raises(ImageError) as error:
        read_volume(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@given(st.binary(min_size=348, max_size=348), st.data())
@settings(max_examples=150, deadline=None)
def test_no_header_however_damaged_raises_anything_but_our_errors(
    noise_bytes: bytes, data: st.DataObject
) -> None:
    good = bytearray(nib.Nifti1Header().binaryblock)
    good[344:348] = b"n+1\0"
    start = data.draw(st.integers(4, 340))
    stop = data.draw(st.integers(start, 344))
    good[start:stop] = noise_bytes[start:stop]
    path = Path("/dev/shm" if Path("/dev/shm").is_dir() else ".") / f"pantskit-{os.getpid()}.nii"
    try:
        path.write_bytes(bytes(good) + bytes(200))
        read_volume(path)
    except (ImageError, GeometryError):
        pass
    finally:
        path.unlink()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_data_after_the_image_is_reported(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a{suffix}", ramp())
    extra = b"more" * 10
    path.write_bytes(path.read_bytes() + (gzip.compress(extra) if suffix == ".nii.gz" else extra))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, ramp())
    assert volume.faults == ("data follows the end of the image and was not read",)


def test_a_header_is_read_without_its_voxels(noise: Array, tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.nii.gz", noise).read_bytes()
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(whole[: len(whole) // 2])
    assert read_header(path).shape == (20, 20, 20)
    assert read_header(path).geometry.orientation == "LAI"


def test_what_itk_writes_is_read_in_the_same_place(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(ramp().T)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetDirection((0, 1, 0, 0, 0, -1, -1, 0, 0))
    image.SetOrigin((5.0, -6.0, 7.0))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, ramp())
    for ijk in [(0, 0, 0), (4, 0, 0), (0, 5, 0), (1, 2, 6)]:
        x, y, z = image.TransformIndexToPhysicalPoint(ijk)
        np.testing.assert_allclose(volume.geometry.to_world(ijk), [-x, -y, z], atol=1e-4)


def test_an_array_that_does_not_fit_its_grid_is_no_volume() -> None:
    with pytest.raises(GeometryError, match=r"\(2, 2, 2\) does not fit its grid \(5, 6, 7\)"):
        Volume(np.zeros((2, 2, 2)), GRID)
