from __future__ import annotations

import gzip
import mmap
import os
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its users call it so)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pantskit.core import files
from pantskit.core.crops import read_mask_crop
from pantskit.core.errors import GeometryError, ImageError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.gzipped import Zeros
from pantskit.core.volume import (
    Volume,
    read_header,
    read_label_map,
    read_mask,
    read_volume,
    resample_nearest,
    write_labels,
    write_slabs,
    write_volume,
)

OBLIQUE = np.array(
    [[-0.7, 0.02, 0.1, 90.5], [0.02, 0.69, -0.3, -200.25], [0.1, 0.3, -2.4, 33.0], [0, 0, 0, 1]]
)
Array = NDArray[Any]


def orthonormal(affine: Array) -> Array:
    """The nearest affine whose axes are perpendicular, with the same spacings."""
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    result = affine.copy()
    result[:3, :3] = u @ vt * np.linalg.norm(affine[:3, :3], axis=0)
    return result


OBLIQUE = orthonormal(OBLIQUE)
GRID = Geometry((5, 6, 7), OBLIQUE)


def ramp(dtype: Any = np.int16, shape: tuple[int, ...] = GRID.shape) -> Array:
    return np.arange(np.prod(shape)).reshape(shape, order="F").astype(dtype)


def save(
    path: Path,
    array: Array,
    affine: Array = OBLIQUE,
    *,
    kind: Any = nib.Nifti1Image,
    change: Callable[[Any], None] = lambda header: None,
    **fields: Any,
) -> Path:
    """A file as nibabel writes it, with header fields set afterwards."""
    image = kind(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return patch(path, kind.header_class, change, **fields)


def patch(
    path: Path, header_class: Any, change: Callable[[Any], None] = lambda h: None, **fields: Any
) -> Path:
    """Set fields in a header on disk without any of nibabel's checks."""
    zipped = path.name.endswith(".gz")
    data = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    size = header_class.sizeof_hdr
    header = header_class(data[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    change(header)
    data = header.binaryblock + data[size:]
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


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


# Label maps and masks


def labels(value: float = 3) -> Array:
    array = np.zeros(GRID.shape)
    array[1:3, 2:4, 3:5] = value
    return array


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


# What we write, read by others


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_and_itk_read_what_we_write(dtype: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_volume(path, Volume(ramp(dtype), GRID))
    image = nib.load(path)
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), ramp(dtype))
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-4)
    for form, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(form, OBLIQUE, atol=1e-4)
    assert (image.dataobj.slope, image.dataobj.inter) == (1.0, 0.0)
    assert image.header.get_xyzt_units() == ("mm", "unknown")
    theirs = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs).T, ramp(dtype))
    lps = np.array([-1, -1, 1])
    for ijk in [(0, 0, 0), (4, 5, 6)]:
        point = np.array(theirs.TransformIndexToPhysicalPoint(ijk)) * lps
        np.testing.assert_allclose(GRID.to_world(ijk), point, atol=1e-3)


def test_a_mask_is_written_as_bytes(tmp_path: Path) -> None:
    mask = labels(1) == 1
    write_volume(tmp_path / "a.nii.gz", Volume(mask, GRID))
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), mask)


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


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_does_not_matter_to_the_writer(order: Any, tmp_path: Path) -> None:
    array = np.array(ramp(), order=order)[::-1, ::2]
    grid = Geometry((5, 3, 7), OBLIQUE)
    write_volume(tmp_path / "a.nii.gz", Volume(array, grid))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, array)


@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.sampled_from([np.uint8, np.int16, np.float32]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_what_we_write_we_read(shape: tuple[int, int, int], dtype: Any, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    path = Path("/dev/shm" if Path("/dev/shm").is_dir() else ".") / f"pantskit-{os.getpid()}.nii.gz"
    try:
        write_volume(path, Volume(array, Geometry(shape, OBLIQUE)))
        volume = read_volume(path)
    finally:
        path.unlink()
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry.same_grid(Geometry(shape, OBLIQUE))


def test_a_label_map_declares_its_label_space(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(ramp(np.uint8), GRID), label_space="pants")
    assert read_header(path).label_space == "pants"
    assert read_label_map(path).label_space == "pants"
    assert nib.load(path).header.get_intent()[::2] == ("label", "pants")


@pytest.mark.parametrize("name", ["x" * 16, "pants_alphabetical", "", "pänts"])
def test_a_label_space_that_does_not_fit_into_the_header_is_refused(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(LabelError, match="1 to 15 ASCII characters"):
        write_volume(tmp_path / "a.nii.gz", Volume(ramp(np.uint8), GRID), label_space=name)
    assert list(tmp_path.iterdir()) == []


def test_fifteen_characters_fit_into_the_header(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii", Volume(ramp(np.uint8), GRID), label_space="x" * 15)
    assert read_header(tmp_path / "a.nii").label_space == "x" * 15


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.complex64, ">i2"])
def test_types_with_no_place_in_a_dataset_are_not_written(dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not written; use int16, uint8 or float32"):
        write_volume(tmp_path / "a.nii.gz", Volume(ramp(dtype), GRID))


def test_a_sheared_grid_is_not_written(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3
    with pytest.raises(GeometryError, match="not perpendicular"):
        write_volume(tmp_path / "a.nii.gz", Volume(ramp(), Geometry(GRID.shape, affine)))
    assert list(tmp_path.iterdir()) == []


def test_one_volume_gives_one_sequence_of_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, Volume(ramp(), GRID))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(ramp(), GRID))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.nii\.gz'"):
        write_volume(path, Volume(ramp() + 1, GRID))
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    np.testing.assert_array_equal(read_volume(path).array, ramp())


def test_an_array_that_does_not_fit_its_grid_is_no_volume() -> None:
    with pytest.raises(GeometryError, match=r"\(2, 2, 2\) does not fit its grid \(5, 6, 7\)"):
        Volume(np.zeros((2, 2, 2)), GRID)


def big_labels(shape: tuple[int, int, int] = (160, 160, 120)) -> NDArray[np.uint8]:
    """Blobs with long empty stretches before, between and after them; over 1 MB of slices."""
    array = np.zeros(shape, np.uint8, order="F")
    array[20:70, 30:80, 40:60] = np.random.default_rng(0).integers(0, 29, (50, 50, 20))
    array[100:, 100:, 90:92] = 7
    return array


@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
def test_volumes_of_many_slabs_are_one_member_that_every_reader_takes(
    flip: tuple[int, ...], tmp_path: Path
) -> None:
    labels_, path = np.flip(big_labels(), flip), tmp_path / "a.nii.gz"
    for array in (labels_, labels_.astype(np.int16) * 100 - 1000, labels_ > 3):
        write_volume(path, Volume(array, Geometry(array.shape, OBLIQUE)))
        first = zlib.decompressobj(31)
        raw = first.decompress(path.read_bytes())
        assert first.eof
        assert first.unused_data == b""
        assert raw[352:] == array.tobytes(order="F")
        assert gzip.decompress(path.read_bytes()) == raw
        np.testing.assert_array_equal(np.asanyarray(nib.load(path).dataobj), array)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)).T, array)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_labels_in_pieces_make_the_volume_they_are_and_its_hash(name: str, tmp_path: Path) -> None:
    array, path = big_labels(), tmp_path / name
    pieces = [array[:, :, k].tobytes(order="F") for k in range(40, 92)]
    whole = [Zeros(160 * 160 * 40), *pieces, Zeros(160 * 160 * 28)]
    written = write_labels(path, Geometry(array.shape, OBLIQUE), whole, label_space="pants")
    np.testing.assert_array_equal(read_label_map(path).array, array)
    assert read_header(path).label_space == "pants"
    assert written == files.content_hash(path)


@pytest.mark.parametrize("flip", [(), (1,)])
def test_the_writer_does_not_copy_the_volume(flip: tuple[int, ...], tmp_path: Path) -> None:
    array = np.flip(np.full((256, 256, 200), -1000, np.int16, order="F"), flip)  # 26 MB
    volume = Volume(array, Geometry(array.shape, OBLIQUE))
    tracemalloc.start()
    try:
        write_volume(tmp_path / "a.nii.gz", volume)
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()


def test_files_are_hardly_larger_than_gzip_makes_them(shared_data: Path, tmp_path: Path) -> None:
    ct = read_volume(shared_data / "totalsegmentator" / "example_ct.nii.gz")
    hu = ct.with_array(np.clip(ct.array, -1000, 1000).astype(np.int16))
    body = read_label_map(next((shared_data / "totalsegmentator").glob("*fast_force_split*")))
    liver = body.with_array(body.array == 5)
    for volume in (hu, body, liver):
        write_volume(tmp_path / "a.nii.gz", volume)
        raw = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
        assert (tmp_path / "a.nii.gz").stat().st_size < 1.06 * len(gzip.compress(raw, 6))


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


@pytest.mark.parametrize("slices", [1, 3, 7])
def test_slabs_give_the_file_that_the_whole_volume_gives(slices: int, tmp_path: Path) -> None:
    array = np.random.default_rng(5).integers(-1000, 1000, (9, 8, 7)).astype(np.int16)
    geometry = Geometry.from_spacing(array.shape, (0.8, 0.7, 2.5))
    write_volume(tmp_path / "whole.nii", Volume(array, geometry))
    memory = np.empty((9, 8, slices), np.int16, order="F")

    def slabs() -> Iterator[Array]:
        for k in range(0, 7, slices):
            part = memory[:, :, : min(slices, 7 - k)]
            part[:] = array[:, :, k : k + slices]
            yield part

    write_slabs(tmp_path / "slabs.nii", geometry, array.dtype, slabs())
    assert (tmp_path / "slabs.nii").read_bytes() == (tmp_path / "whole.nii").read_bytes()


@pytest.mark.parametrize("shapes", [[(9, 8, 6)], [(9, 8, 7), (9, 8, 1)], [(8, 9, 7)], []])
def test_slabs_that_are_not_the_grid_s_leave_no_file(shapes: list[Any], tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((9, 8, 7), (0.8, 0.7, 2.5))
    slabs = [np.zeros(shape, np.int16) for shape in shapes]
    with pytest.raises(GeometryError, match=r"slices|does not fit"):
        write_slabs(tmp_path / "ct.nii.gz", geometry, np.dtype(np.int16), slabs)
    assert list(tmp_path.iterdir()) == []


def test_an_error_on_the_way_leaves_no_file(tmp_path: Path) -> None:
    def slabs() -> Iterator[Array]:
        yield np.zeros((9, 8, 3), np.int16)
        raise ImageError("a slice is damaged")

    geometry = Geometry.from_spacing((9, 8, 7), (0.8, 0.7, 2.5))
    with pytest.raises(ImageError, match="damaged"):
        write_slabs(tmp_path / "ct.nii.gz", geometry, np.dtype(np.int16), slabs())
    assert list(tmp_path.iterdir()) == []
