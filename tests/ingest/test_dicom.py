"""DICOM series made here, every voxel and every refusal worked out from what was put in."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
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


def test_slope_of_every_slice_is_its_own_and_rounding_happens_once(series, run, tmp_path):
    made = series()
    made.slope[:] = [1.0, 0.5, 0.25, 1.5, 0.1]
    made.intercept[:] = [-1024, -512.3, -200.7, -1000.5, -90]
    np.testing.assert_array_equal(in_source_order(run(made.write(tmp_path / "in"))), made.hu)


def test_values_are_clipped_and_counted(series, run, tmp_path):
    stored = np.full((5, 6, 8), 1000, np.uint16)
    stored[0, 0, :3] = 5  # -1019 HU
    stored[4, 5, :2] = 3000  # 1976 HU
    result = run(series(stored=stored).write(tmp_path / "in"))
    hounsfield = result.data["hounsfield"]
    assert (hounsfield["clipped_below"], hounsfield["clipped_above"]) == (3, 2)
    assert (hounsfield["hu_low"], hounsfield["hu_high"]) == (-1019, 1976)
    assert (result.ct.array.min(), result.ct.array.max()) == (-1000, 1000)


def test_uint16_values_beyond_int16_do_not_wrap_around(series, run, tmp_path):
    stored = np.full((5, 6, 8), 1000, np.uint16)
    stored[2, 3, 4] = 65000
    result = run(series(stored=stored).write(tmp_path / "in"))
    assert in_source_order(result)[2, 3, 4] == 1000


def test_padding_becomes_air_and_is_counted(series, run, tmp_path):
    stored = np.full((5, 6, 8), 1000, np.int16)
    stored[:, 0, :] = -2000
    made = series(stored=stored, attributes={"PixelPaddingValue": -2000})
    result = run(made.write(tmp_path / "in"))
    assert result.data["hounsfield"]["padded"] == 40
    assert result.data["hounsfield"]["hu_low"] == -24
    assert (in_source_order(result)[:, 0, :] == -1000).all()


def test_padding_that_would_be_a_marker_above_bone_becomes_air(series, run, tmp_path):
    stored = np.full((5, 6, 8), 1000, np.uint16)
    stored[1, 1, 1] = 63536
    made = series(stored=stored, attributes={"PixelPaddingValue": 63536})
    assert in_source_order(run(made.write(tmp_path / "in")))[1, 1, 1] == -1000


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


def test_copies_of_slices_are_dropped_when_their_pixels_are_equal(series, run, tmp_path):
    made = series()
    made.write(tmp_path / "in")
    made.write(tmp_path / "in" / "again", skip=(0, 1, 2))
    result = run(tmp_path / "in")
    assert result.data["source"]["copies_of_slices"] == 2
    np.testing.assert_array_equal(in_source_order(result), made.hu)


def test_two_slices_at_one_position_that_differ_are_quarantined(series, run, tmp_path):
    made = series()
    made.write(tmp_path / "in")
    made.stored = made.stored + 1
    made.write(tmp_path / "in" / "again", skip=(0, 1, 2, 3))
    result = run(tmp_path / "in")
    assert result.statuses == ["quarantined"]
    assert "two slices at one position differ" in result.message
    assert result.files == []


def test_truncated_pixels_fail_the_series_and_no_slice_is_dropped(series, run, tmp_path):
    folder = series().write(tmp_path / "in")
    path = sorted(folder.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-20])
    result = run(folder)
    assert result.statuses == ["failed"]
    assert result.files == []


def test_slice_without_position_fails_the_series(series, run, tmp_path):
    made = series()
    folder = made.write(tmp_path / "in", skip=(3,))
    lone = made.dataset(3)
    del lone.ImagePositionPatient
    lone.save_as(folder / "lone", enforce_file_format=True)
    result = run(folder)
    assert result.statuses == ["failed"]
    assert "1 of 5 slices lack position" in result.message


def test_one_slice_of_another_orientation_fails_the_series(series, run, tmp_path):
    made = series()
    folder = made.write(tmp_path / "in", skip=(4,))
    turned = made.dataset(4)
    turned.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    turned.save_as(folder / "turned", enforce_file_format=True)
    result = run(folder)
    assert result.statuses == ["failed"]
    assert "mixed in one series" in result.message


def test_two_whole_stacks_under_one_series_uid_become_two_cases(series, run, tmp_path):
    axial = series()
    axial.write(tmp_path / "in" / "axial")
    series(uid=axial.uid, row=(1, 0, 0), column=(0, 0, -1)).write(tmp_path / "in" / "coronal")
    assert run(tmp_path / "in").statuses == ["done", "done"]


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


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}, "maximum intensity"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "Secondary Capture"),
        ({"Modality": "PT"}, "modality PT"),
        ({"RescaleType": "MGML"}, "RescaleType MGML"),
        ({"PhotometricInterpretation": "RGB"}, "RGB"),
    ],
)
def test_what_is_no_ct_of_anatomy_is_skipped_with_the_reason(
    series, run, tmp_path, attributes, reason
):
    result = run(series(attributes=attributes).write(tmp_path / "in"))
    (record,) = result.summary.run.records
    assert record.status == "skipped"
    assert reason in record.message
    assert result.files == []


def test_localizer_that_shares_the_series_uid_is_set_apart(series, run, tmp_path):
    made = series()
    folder = made.write(tmp_path / "in")
    scout = made.dataset(0)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.save_as(folder / "scout", enforce_file_format=True)
    result = run(folder)
    assert result.statuses == ["done", "skipped"]
    np.testing.assert_array_equal(in_source_order(result), made.hu)


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


def test_series_with_empty_uids_get_an_identity_from_their_content(series, run, tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        stored = np.random.default_rng(seed).integers(0, 2048, (5, 6, 8), dtype=np.uint16)
        empty = {"SeriesInstanceUID": "", "SOPInstanceUID": "", "StudyInstanceUID": ""}
        made = series(stored=stored, attributes=empty)
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        for k in range(5):
            made.dataset(k).save_as(folder / str(k), enforce_file_format=False)
    first = run(tmp_path / "in")
    assert first.statuses == ["done", "done"]
    again = run(tmp_path / "in")
    assert again.summary.run.ran == ()


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


def test_lossy_pixels_are_taken_and_flagged(series, run, tmp_path):
    made = series(attributes={"LossyImageCompression": "01"})
    assert run(made.write(tmp_path / "in")).data["source"]["lossy"] is True


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


def test_archive_that_unpacks_without_end_is_not_read(run, tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 200)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")  # uncompressed size
    path.write_bytes(bytes(raw))
    result = run(path)
    assert "such an archive is not read" in result.message


def test_folder_with_no_image_is_an_error_and_makes_no_dataset(run, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("nothing")
    with pytest.raises(ConfigError, match="no DICOM and no NIfTI"):
        run(tmp_path / "in")
    assert not (tmp_path / "dataset").exists()
