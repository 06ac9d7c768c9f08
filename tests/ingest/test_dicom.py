"""DICOM series made here, every voxel and every refusal worked out from what was put in."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from pantskit.core.errors import ConfigError


def in_source_order(run) -> np.ndarray:
    """The written CT as (k, row, column) of a plain axial series (LPS on disk as LAI)."""
    return run.ct.reoriented("LPS").array.transpose(2, 1, 0)


def test_every_voxel_is_the_stored_value_times_slope_plus_intercept(series, run, tmp_path):
    made = series()
    result = run(made.write(tmp_path / "in"))
    assert result.statuses == ["done"]
    assert result.ct.array.dtype == np.int16
    assert result.ct.geometry.orientation == "LAI"
    np.testing.assert_array_equal(in_source_order(result), made.hu)


def test_written_grid_is_in_the_place_of_the_series(series, run, tmp_path):
    geometry = run(series().write(tmp_path / "in")).ct.geometry.reoriented("LPS")
    assert geometry.shape == (8, 6, 5)
    expected = [[-0.5, 0, 0, 100], [0, -0.75, 0, 120], [0, 0, 2.5, 50], [0, 0, 0, 1]]
    np.testing.assert_allclose(geometry.affine, expected, atol=1e-5)


def test_values_are_clipped_and_counted(series, run, tmp_path):
    stored = np.full((5, 6, 8), 1000, np.uint16)
    stored[0, 0, :3] = 5  # -1019 HU
    stored[4, 5, :2] = 3000  # 1976 HU
    result = run(series(stored=stored).write(tmp_path / "in"))
    hounsfield = result.data["hounsfield"]
    assert (hounsfield["clipped_below"], hounsfield["clipped_above"]) == (3, 2)
    assert (hounsfield["hu_low"], hounsfield["hu_high"]) == (-1019, 1976)
    assert (result.ct.array.min(), result.ct.array.max()) == (-1000, 1000)


def test_padding_becomes_air_and_is_counted(series, run, tmp_path):
    stored = np.full((5, 6, 8), 1000, np.int16)
    stored[:, 0, :] = -2000
    made = series(stored=stored, attributes={"PixelPaddingValue": -2000})
    result = run(made.write(tmp_path / "in"))
    assert result.data["hounsfield"]["padded"] == 40
    assert result.data["hounsfield"]["hu_low"] == -24
    assert (in_source_order(result)[:, 0, :] == -1000).all()


def test_padding_value_of_zero_does_not_turn_water_into_air(series, run, tmp_path):
    stored = np.array([-900, 0, 40] * 80, np.int16).reshape(5, 6, 8)
    made = series(stored=stored, attributes={"PixelPaddingValue": 0})
    made.intercept[:] = 0
    result = run(made.write(tmp_path / "in"))
    np.testing.assert_array_equal(in_source_order(result), stored)


def test_twelve_bit_signed_values_without_sign_extension_are_negative(series, run, tmp_path):
    hu = np.array([-1000, -1, 0, 900] * 60, np.int16).reshape(5, 6, 8)
    made = series(stored=hu & 0x0FFF, attributes={"BitsStored": 12, "HighBit": 11})
    made.intercept[:] = 0
    np.testing.assert_array_equal(in_source_order(run(made.write(tmp_path / "in"))), hu)


def test_bits_beyond_the_declared_ones_leave_the_value_open(series, run, tmp_path):
    stored = np.full((5, 6, 8), 900, np.uint16)
    stored[2, 2, 2] = 900 | 0x8000
    made = series(stored=stored, attributes={"BitsStored": 12, "HighBit": 11})
    result = run(made.write(tmp_path / "in"))
    assert result.statuses == ["quarantined"]
    assert "bits beyond the 12" in result.message


def test_slices_of_one_series_in_several_folders_and_a_zip_are_one_volume(series, run, tmp_path):
    made = series()
    made.write(tmp_path / "in" / "a", skip=(2, 3, 4))
    made.write(tmp_path / "in" / "b" / "c", skip=(0, 1, 3, 4))
    rest = made.write(tmp_path / "rest", skip=(0, 1, 2))
    with zipfile.ZipFile(tmp_path / "in" / "rest.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in rest.iterdir():
            archive.write(path, f"x/../../{path.name}")  # a member's name is never a path here
    result = run(tmp_path / "in")
    np.testing.assert_array_equal(in_source_order(result), made.hu)
    assert not (tmp_path.parent / "000").exists()


def test_series_without_rescale_is_refused(series, run, tmp_path):
    made = series()
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(5):
        bare = made.dataset(k)
        del bare.RescaleSlope
        bare.save_as(folder / str(k), enforce_file_format=True)
    assert "lack rescale slope and intercept" in run(folder).message


def test_values_that_are_never_negative_are_not_hounsfield_units(series, run, tmp_path):
    made = series()
    made.intercept[:] = 0
    assert "not Hounsfield units" in run(made.write(tmp_path / "in")).message


def test_series_of_nothing_but_air_is_refused(series, run, tmp_path):
    made = series()
    made.stored[:] = 0  # -1024 HU by the intercept
    result = run(made.write(tmp_path / "in"))
    assert "no voxel is denser than air" in result.message
    assert result.files == []


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_series_give_the_same_voxels(series, run, tmp_path, syntax):
    rng = np.random.default_rng(3)
    made = series(stored=rng.integers(0, 2048, (3, 40, 32), dtype=np.uint16))
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        packed = made.dataset(k)
        packed.BitsStored, packed.HighBit = 12, 11
        packed.compress(syntax, generate_instance_uid=False)
        packed.save_as(folder / str(k), enforce_file_format=True)
    result = run(folder)
    np.testing.assert_array_equal(in_source_order(result), made.hu)
    assert result.data["source"]["lossy"] is False


def test_rerun_has_nothing_to_do_and_a_missing_output_is_made_again(series, run, tmp_path):
    folder = series().write(tmp_path / "in")
    first = run(folder)
    assert run(folder).summary.run.ran == ()
    (first.out / first.files[0]).unlink()
    assert len(run(folder).summary.run.ran) == 1


def test_source_that_goes_bad_takes_its_case_out_of_the_dataset(series, run, tmp_path):
    made = series()
    folder = made.write(tmp_path / "in")
    assert len(run(folder).files) == 1
    for path in folder.iterdir():
        path.unlink()
    made.write(folder, skip=(2,))
    result = run(folder)
    assert result.statuses == ["quarantined"]
    assert result.files == []
    assert len((result.out / "metadata.csv").read_text().splitlines()) == 1  # the header


BROKEN = b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff1.2"


def test_damaged_file_fails_alone_and_the_run_goes_on(series, run, tmp_path):
    folder = series().write(tmp_path / "in" / "good")
    (tmp_path / "in" / "broken").write_bytes(BROKEN)
    (folder / "notes.txt").write_text("not an image")
    result = run(tmp_path / "in")
    assert result.statuses == ["done", "failed"]
    assert result.summary.others == 1


@pytest.mark.parametrize("damage", ["header", "cut to nothing", "mark", "series uid", "class"])
def test_damaged_last_slice_never_leaves_a_shorter_volume(series, run, tmp_path, damage):
    made = series()
    folder = made.write(tmp_path / "in", skip=(4,))
    last = made.dataset(4)
    if damage == "series uid":
        last.SeriesInstanceUID = made.uid[:-1] + "77"
    if damage == "class":
        last.SOPClassUID = last.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.29"
    last.save_as(folder / "last", enforce_file_format=True)
    raw = (folder / "last").read_bytes()
    changed = {
        "header": BROKEN,
        "cut to nothing": b"",
        "mark": raw.replace(b"DICM", b"DICL"),
    }
    (folder / "last").write_bytes(changed.get(damage, raw))
    result = run(folder)
    assert "done" not in result.statuses
    assert "quarantined" in result.statuses
    assert result.files == []


def test_jpeg_lossless_is_decoded_exactly(series, run, tmp_path):
    from imagecodecs import ljpeg_encode
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    rng = np.random.default_rng(4)
    made = series(stored=rng.integers(0, 2048, (3, 32, 24), dtype=np.uint16))
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        packed = made.dataset(k)
        packed.PixelData = encapsulate([ljpeg_encode(made.stored[k], bitspersample=16)])
        packed["PixelData"].is_undefined_length = True
        packed.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        packed.save_as(folder / str(k), enforce_file_format=True)
    np.testing.assert_array_equal(in_source_order(run(folder)), made.hu)


def test_folder_with_no_image_is_an_error_and_makes_no_dataset(run, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("nothing")
    with pytest.raises(ConfigError, match="no DICOM"):
        run(tmp_path / "in")
    assert not (tmp_path / "dataset").exists()
