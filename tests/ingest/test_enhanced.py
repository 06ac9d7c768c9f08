"""Enhanced (multi-frame) CT against the frames it was made from, and against highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
)

from pantskit.core.errors import ImageError
from pantskit.ingest.dicom.headers import read_header
from pantskit.ingest.dicom.stacks import read_series, series_layout
from pantskit.ingest.discovery.kinds import skip_reason
from pantskit.ingest.discovery.sources import Reader, SourceFile

ROWS, COLUMNS = 9, 12


def item(**values: Any) -> list[Dataset]:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return [made]


class Enhanced:
    """An enhanced object in the making: frames are `values[n]` at `positions[n]`."""

    def __init__(self, series: Any, count: int = 5) -> None:
        self.values = np.random.default_rng(1).integers(0, 3000, (count, ROWS, COLUMNS))
        self.values = self.values.astype(np.uint16)
        self.made = series(stored=self.values)
        self.per_frame = []
        for n in range(count):
            frame = Dataset()
            position = [float(v) for v in self.made.positions[n]]
            frame.PlanePositionSequence = item(ImagePositionPatient=position)
            frame.FrameContentSequence = item(
                StackID="1", InStackPositionNumber=n + 1, FrameAcquisitionNumber=4,
                FrameAcquisitionDateTime=f"2014090210101{n}",
            )  # fmt: skip
            self.per_frame.append(frame)
        shared = Dataset()
        shared.PixelMeasuresSequence = item(PixelSpacing=[0.75, 0.5], SliceThickness=2.5)
        orientation = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        shared.PlaneOrientationSequence = item(ImageOrientationPatient=orientation)
        shared.PixelValueTransformationSequence = item(
            RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU"
        )
        shared.CTImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
        shared.CTReconstructionSequence = item(ConvolutionKernel="B30f")
        self.shared = shared

    def dataset(self) -> FileDataset:
        one = self.made.dataset(0)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            delattr(one, keyword)
        del one.RescaleIntercept, one.RescaleSlope
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "MIXED"]
        one.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.77"
        one.NumberOfFrames = len(self.values)
        one.SharedFunctionalGroupsSequence = [self.shared]
        one.PerFrameFunctionalGroupsSequence = self.per_frame
        one.PixelData = self.values.tobytes()
        return one

    def save(self, path: Path, one: FileDataset | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        (one or self.dataset()).save_as(path, enforce_file_format=True)
        return path

    @property
    def hu(self) -> np.ndarray:
        return np.clip(self.values.astype(int) - 1024, -1000, 1000)


@pytest.fixture
def enhanced(series) -> Enhanced:
    return Enhanced(series)


def headers_of(path: Path):
    with path.open("rb") as stream:
        return read_header(stream, SourceFile(path), {})


def volume_of(path: Path) -> np.ndarray:
    """(k, row, column) in the order of the normal."""
    with Reader() as reader:
        volume, _, _ = read_series(headers_of(path), reader)
    return volume.reoriented("LPS").array.transpose(2, 1, 0)


def test_each_frame_has_a_header_of_its_own(enhanced, tmp_path):
    headers = headers_of(enhanced.save(tmp_path / "a"))
    assert [h.frame for h in headers] == [0, 1, 2, 3, 4]
    assert [h.position[2] for h in headers] == [50, 52.5, 55, 57.5, 60]
    assert [h.instance for h in headers] == [1, 2, 3, 4, 5]
    one = headers[3]
    assert (one.slope, one.intercept, one.rescale_type) == (1, -1024, "HU")
    assert (one.pixel_spacing, one.kernel, one.stack) == ((0.75, 0.5), "B30f", "1/")
    assert one.image_type == ("ORIGINAL", "PRIMARY", "VOLUME", "NONE")
    assert (one.acquisition, one.acquired) == ("4", "20140902101013")
    assert one.description["SliceThickness"] == "2.5"
    assert one.frame_of_reference == "1.2.826.0.1.3680043.8.498.77"
    assert one.frames == 1


@pytest.mark.parametrize(
    ("technique", "reason"),
    [("MAX_IP", "maximum intensity projection"), ("SURFACE_RENDER", "surface rendering")],
)
def test_frames_computed_from_others_are_no_anatomy(enhanced, tmp_path, technique, reason):
    enhanced.shared.CTImageFrameTypeSequence[0].VolumeBasedCalculationTechnique = technique
    headers = headers_of(enhanced.save(tmp_path / "a"))
    assert {reason in skip_reason(header) for header in headers} == {True}


@pytest.mark.parametrize("technique", ["NONE", "MIXED", "VOLUME", ""])
def test_frames_of_a_plain_scan_say_so(enhanced, tmp_path, technique):
    enhanced.shared.CTImageFrameTypeSequence[0].VolumeBasedCalculationTechnique = technique
    assert {skip_reason(h) for h in headers_of(enhanced.save(tmp_path / "a"))} == {""}


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_frames_make_the_volume(enhanced, tmp_path, syntax):
    one = enhanced.dataset()
    one.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(volume_of(enhanced.save(tmp_path / "a", one)), enhanced.hu)


@pytest.mark.parametrize("table", ["none", "basic", "extended", "split"])
def test_compressed_frames_make_the_volume(enhanced, tmp_path, table):
    one = enhanced.dataset()
    one.file_meta.TransferSyntaxUID = JPEGLSLossless
    codes = [bytes(imagecodecs.jpegls_encode(frame)) for frame in enhanced.values]
    if table == "extended":
        data, offsets, lengths = encapsulate_extended(codes)
        one.PixelData = data
        one.ExtendedOffsetTable, one.ExtendedOffsetTableLengths = offsets, lengths
    else:
        pieces = 3 if table == "split" else 1
        one.PixelData = encapsulate(codes, fragments_per_frame=pieces, has_bot=table != "none")
    one["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(volume_of(enhanced.save(tmp_path / "a", one)), enhanced.hu)


def test_fragments_that_no_table_assigns_are_refused(enhanced, tmp_path):
    one = enhanced.dataset()
    one.file_meta.TransferSyntaxUID = JPEGLSLossless
    codes = [bytes(imagecodecs.jpegls_encode(frame)) for frame in enhanced.values]
    one.PixelData = encapsulate(codes, fragments_per_frame=2, has_bot=False)
    one["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match="no table tells which is whose"):
        volume_of(enhanced.save(tmp_path / "a", one))


def test_frames_in_any_order_with_their_own_rescale_equal_highdicoms_volume(enhanced, tmp_path):
    order = [3, 0, 4, 2, 1]
    enhanced.values = enhanced.values[order]
    enhanced.per_frame = [enhanced.per_frame[n] for n in order]
    enhanced.shared.PixelValueTransformationSequence = []
    del enhanced.shared.PixelValueTransformationSequence
    for n, frame in enumerate(enhanced.per_frame):
        frame.PixelValueTransformationSequence = item(
            RescaleIntercept=-1000 - n, RescaleSlope=0.5 + n / 4, RescaleType="HU"
        )
    path = enhanced.save(tmp_path / "a")
    with Reader() as reader:
        volume, _, layout = read_series(headers_of(path), reader)
    peer = highdicom.imread(path).get_volume(
        apply_real_world_transform=False, apply_modality_transform=True, dtype=np.float64
    )
    expected = np.clip(np.rint(peer.array), -1000, 1000)  # (slice, row, column) in LPS
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ peer.affine
    for where in [(0, 0, 0), (4, 8, 11), (2, 3, 5)]:
        world = (affine @ [*where, 1])[:3]
        i, j, k = np.rint(volume.geometry.to_voxel(world)).astype(int)
        np.testing.assert_allclose(volume.geometry.to_world([i, j, k]), world, atol=1e-6)
        assert volume.array[i, j, k] == expected[where]
    assert np.array_equal(np.sort(volume.array, axis=None), np.sort(expected, axis=None))
    assert layout.order == (1, 4, 3, 0, 2)


def test_legacy_converted_object_is_read_the_same_way(enhanced, tmp_path):
    one = enhanced.dataset()
    one.SOPClassUID = LegacyConvertedEnhancedCTImageStorage
    one.file_meta.MediaStorageSOPClassUID = LegacyConvertedEnhancedCTImageStorage
    np.testing.assert_array_equal(volume_of(enhanced.save(tmp_path / "a", one)), enhanced.hu)


def test_highdicoms_own_conversion_of_single_images_gives_their_volume(series, tmp_path):
    made = series()
    made.intercept[:] = [-1024, -1020, -1010, -1024, -1000]
    singles = [made.dataset(k) for k in (2, 0, 1, 4, 3)]
    for single in singles:
        single.FrameOfReferenceUID, single.StudyID, single.StudyTime = made.uid + ".1", "", ""
        single.AccessionNumber = single.PatientSex = ""
        single.KVP, single.SliceThickness = "120", "2.5"
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        singles, made.uid + ".2", 9, made.uid + ".3", 1
    )
    converted.save_as(tmp_path / "a", enforce_file_format=True)
    np.testing.assert_array_equal(volume_of(tmp_path / "a"), made.hu)


def test_two_stacks_in_one_object_are_told_apart(enhanced, tmp_path):
    enhanced.per_frame[3].FrameContentSequence[0].StackID = "2"
    enhanced.per_frame[4].FrameContentSequence[0].StackID = "2"
    stacks = [h.stack for h in headers_of(enhanced.save(tmp_path / "a"))]
    assert stacks == ["1/", "1/", "1/", "2/", "2/"]


def test_two_temporal_positions_in_one_object_are_two_cases(series, run, tmp_path):
    enhanced = Enhanced(series, 6)
    for n, frame in enumerate(enhanced.per_frame):
        content = frame.FrameContentSequence[0]
        content.TemporalPositionIndex = n // 3 + 1
        place = enhanced.made.positions[n % 3]
        frame.PlanePositionSequence[0].ImagePositionPatient = [float(v) for v in place]
        content.InStackPositionNumber = n % 3 + 1
    result = run(enhanced.save(tmp_path / "in" / "a"), series="all")
    assert result.statuses == ["done", "done"]


def test_enhanced_object_becomes_a_case(enhanced, run, tmp_path):
    result = run(enhanced.save(tmp_path / "in" / "a"))
    assert result.statuses == ["done"]
    (planned,) = result.summary.planned.values()
    assert planned.place == f"{tmp_path / 'in' / 'a'} (1 file)"
    found = result.ct.reoriented("LPS").array.transpose(2, 1, 0)
    np.testing.assert_array_equal(found, enhanced.hu)


def test_single_frame_attributes_at_the_top_count_for_no_frame(enhanced, tmp_path):
    one = enhanced.dataset()
    del one.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    one.ImagePositionPatient = [1, 2, 3]
    assert headers_of(enhanced.save(tmp_path / "a", one))[1].position is None


@pytest.mark.parametrize("frames", [4, 6, 1_000_000_000, -5])
def test_frames_that_are_not_as_many_as_announced_are_refused(enhanced, tmp_path, frames):
    one = enhanced.dataset()
    one.NumberOfFrames = frames
    with pytest.raises(ImageError, match=f"of {frames} frames whose header describes 5"):
        headers_of(enhanced.save(tmp_path / "a", one))


def test_object_without_functional_groups_is_refused(enhanced, tmp_path):
    one = enhanced.dataset()
    del one.PerFrameFunctionalGroupsSequence
    with pytest.raises(ImageError, match="describes 0 of them"):
        headers_of(enhanced.save(tmp_path / "a", one))


def test_missing_pixels_of_the_last_frame_fail_the_volume(enhanced, tmp_path):
    path = enhanced.save(tmp_path / "a")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError, match="truncated"):
        volume_of(path)


def test_forged_rows_end_before_memory_is_taken(enhanced, tmp_path):
    one = enhanced.dataset()
    one.Rows = one.Columns = 65535
    with pytest.raises(ImageError, match="is not read"):
        volume_of(enhanced.save(tmp_path / "a", one))


def test_real_enhanced_object_equals_its_pixels_at_its_positions(shared_data):
    """Rows run to the patient's right, frames from head to feet; frame 2 lies below frame 1."""
    path = shared_data / "dicom/enhanced_ct/eCT_Supplemental.dcm"
    headers = headers_of(path)
    raw = pydicom.dcmread(path)
    with Reader() as reader:
        volume, _, layout = read_series(headers, reader)
    assert series_layout(headers).geometry.orientation == "RPI"
    assert layout.geometry.spacing == pytest.approx((0.388672, 0.388672, 10.0))
    for n, frame in enumerate(raw.PerFrameFunctionalGroupsSequence):
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in [(0, 0), (200, 300), (511, 511), (256, 10)]:
            lps = origin + 0.388672 * np.array([-column, row, 0])
            i, j, k = np.rint(volume.geometry.to_voxel(lps * [-1, -1, 1])).astype(int)
            stored = int(raw.pixel_array[n, row, column])
            assert volume.array[i, j, k] == np.clip(stored - 1024, -1000, 1000)
        k = round(float(volume.geometry.to_voxel(origin * [-1, -1, 1])[2]))
        plane = volume.reoriented("RPI").array[:, :, k].T
        expected = np.clip(raw.pixel_array[n].astype(int) - 1024, -1000, 1000)
        np.testing.assert_array_equal(plane, expected)
