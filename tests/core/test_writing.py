"""What is written, as other readers and ours take it."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its users call it so)
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import GRID, OBLIQUE, Array, labels, ramp
from numpy.typing import NDArray

from pantskit.core import files
from pantskit.core.errors import GeometryError, ImageError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.gzipped import Zeros
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import Volume, read_header, read_volume
from pantskit.core.writing import write_labels, write_slabs, write_volume


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
