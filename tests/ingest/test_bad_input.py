"""Each row of the table of bad input: what it becomes, beside a good series that gets through.

Every one ends as a record with status and reason, and none as a wrong volume. The rows are those
of the table in docs/ingest.md; what may be asked for instead of a refusal is tested with it.
"""

from __future__ import annotations

import copy
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dicom_labels import segmentation, structure_set
from dicom_mutants import Element, Parts
from dicom_truth import difference, interpolated, slices_of
from ingest_runs import Case, Report, run_ingest, run_measured
from pydicom.dataset import FileDataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
    generate_uid,
)
from typer.testing import CliRunner

from pantskit.cli.app import app

Made = Any  # conftest.MadeSeries, which cannot be imported by name


@dataclass
class Bench:
    """A folder of sources with one good series in it, `good`, and room for a bad one."""

    root: Path
    series: Callable[..., Made]

    def __post_init__(self) -> None:
        self.source = self.root / "in"
        self.bad = self.source / "bad"
        self.bad.mkdir(parents=True)
        self.series().write(self.source / "good")

    def write(self, made: Made, *, skip: tuple[int, ...] = ()) -> None:
        made.write(self.bad, skip=skip)

    def add(self, name: str, image: FileDataset) -> None:
        image.save_as(self.bad / name, enforce_file_format=True)

    def run(self, *options: object, workers: int = 0, out: str = "dataset") -> Report:
        """One run over all; whatever becomes of the bad series, the good one is whole."""
        report = run_ingest(self.root / out, self.source, *options, workers=workers)
        self.check(report)
        return report

    def check(self, report: Report) -> None:
        """Records agree with what lies there, and the good series got through whole."""
        report.check()
        (case,) = report.of("/good")
        assert case.status == "done"
        assert difference(report.ct(case), slices_of((self.source / "good").iterdir())) == ""

    def refused(self, status: str, *reasons: str, **options: Any) -> Report:
        """The bad series has one case, refused for the reasons, and the run says so."""
        report = self.run(**options)
        (case,) = report.of("/bad")
        assert case.status == status, case
        for reason in reasons:
            assert reason in case.reason
        assert report.exit_status == (0 if status == "skipped" else 1)
        return report

    def taken(self, *options: object, out: str = "dataset") -> tuple[Case, Report]:
        """The bad series is a case like any other, and has every voxel of its slices."""
        report = self.run(*options, out=out)
        (case,) = report.of("/bad")
        assert case.status == "done", case
        assert difference(report.ct(case), slices_of(self.bad.iterdir())) == ""
        return case, report


@pytest.fixture
def bench(tmp_path: Path, series: Callable[..., Made]) -> Bench:
    return Bench(tmp_path, series)


# --- 1 missing slice --------------------------------------------------------------------------


def test_row_1_missing_slices_are_quarantined_and_the_gaps_listed(bench, series):
    stored = np.random.default_rng(1).integers(0, 2048, (9, 6, 8), dtype=np.uint16)
    bench.write(series(stored=stored), skip=(2, 5, 6))
    report = bench.refused("quarantined", "missing: 3 of 9 at 2.5 mm")
    (case,) = report.of("/bad")
    assert "1 after slice 2" in case.reason
    assert "2 after slice 4" in case.reason


# --- 2 variable spacing -----------------------------------------------------------------------


def test_row_2_variable_spacing_is_quarantined(bench, series):
    made = series()
    made.positions[3:] += (0, 0, 0.8)
    bench.write(made)
    bench.refused("quarantined", "varies from 2.5 to 3.3 mm")


def test_row_2_variable_spacing_is_resampled_when_asked(bench, series):
    made = series()
    made.positions[3:] += (0, 0, 0.8)
    bench.write(made)
    resampled_when_asked(bench, "--resample-spacing")


def resampled_when_asked(bench: Bench, option: str) -> None:
    """With the option every voxel is interpolated from the slices about it, and recorded so."""
    report = bench.run(option)
    (case,) = report.of("/bad")
    assert case.status == "done", case
    assert option.removeprefix("--resample-") in case.reason
    assert report.record(case)["data"]["source"]["resampling"]["causes"]
    image = nib.load(report.ct(case))
    voxels = np.asarray(image.dataobj)
    indices = np.argwhere(np.ones(voxels.shape, bool))
    places = indices @ image.affine[:3, :3].T + image.affine[:3, 3]
    expected = interpolated(slices_of(bench.bad.iterdir()), places)
    np.testing.assert_allclose(voxels.reshape(-1), expected, atol=0.51)


# --- 3 gantry tilt ----------------------------------------------------------------------------


def tilted(series: Callable[..., Made], degrees: float = 12.0) -> Made:
    made = series()
    angle = np.radians(degrees)
    made.column = (0.0, np.cos(angle), np.sin(angle))
    made.positions = np.array(made.origin) + np.outer(np.arange(5) * 2.5, (0, 0, 1))
    return made


def test_row_3_gantry_tilt_is_resampled_when_asked(bench, series):
    bench.write(tilted(series))
    resampled_when_asked(bench, "--resample-tilt")


@pytest.mark.parametrize("tag", [None, 0.0, 12.0])
def test_row_3_gantry_tilt_is_quarantined_whatever_its_tag_says(bench, series, tag):
    made = tilted(series)
    made.attributes = {} if tag is None else {"GantryDetectorTilt": tag}
    bench.write(made)
    bench.refused("quarantined", "gantry tilt of 12.0 degrees")


def test_row_3_tag_of_a_tilt_that_the_positions_do_not_show_is_no_tilt(bench, series):
    bench.write(series(attributes={"GantryDetectorTilt": 15.0}))
    bench.taken()


# --- 4 duplicate position ---------------------------------------------------------------------


def test_row_4_slices_given_twice_are_one(bench, series):
    made = series()
    bench.write(made)
    (bench.bad / "again").mkdir()
    made.write(bench.bad / "again", skip=(0, 1, 2))
    report = bench.run()
    (case,) = report.of("/bad")
    assert report.record(case)["data"]["source"]["copies_of_slices"] == 2
    files = [p for p in bench.bad.iterdir() if p.is_file()]
    assert difference(report.ct(case), slices_of(files)) == ""


def test_row_4_slices_at_one_position_that_differ_are_quarantined(bench, series):
    made = series()
    bench.write(made)
    other = made.dataset(2)
    other.PixelData = bytes(len(other.PixelData))
    other.SOPInstanceUID += ".1"
    bench.add("other", other)
    bench.refused("quarantined", "two slices at one position differ")


# --- 5 truncated pixels -----------------------------------------------------------------------


@pytest.mark.parametrize("missing", [1, 20, 96])
@pytest.mark.parametrize("slice_", [0, 2, 4])
def test_row_5_truncated_pixels_fail_the_series(bench, series, slice_, missing):
    bench.write(series())
    path = sorted(bench.bad.iterdir())[slice_]
    path.write_bytes(path.read_bytes()[:-missing])
    bench.refused("failed", "truncated")


# --- 6 slice without position -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "word"),
    [("ImagePositionPatient", "position"), ("ImageOrientationPatient", "orientation")],
)
def test_row_6_slice_without_position_fails_the_series(bench, series, keyword, word):
    made = series()
    bench.write(made, skip=(4,))
    lone = made.dataset(4)
    delattr(lone, keyword)
    bench.add("lone", lone)
    bench.refused("failed", f"1 of 5 slices lack {word}")


# --- 7 mixed orientation, spacing, size -------------------------------------------------------


@pytest.mark.parametrize(("keyword", "value"), [
    ("ImageOrientationPatient", [0, 1, 0, 0, 0, -1]),
    ("PixelSpacing", [0.75, 0.55]),
    ("Rows", 5),
])  # fmt: skip
def test_row_7_one_slice_of_another_kind_fails_the_series(bench, series, keyword, value):
    made = series()
    bench.write(made, skip=(4,))
    other = made.dataset(4)
    setattr(other, keyword, value)
    other.PixelData = other.PixelData[: 2 * other.Rows * other.Columns]
    bench.add("other", other)
    bench.refused("failed", "mixed in one series")


def test_row_7_whole_stacks_of_different_kinds_are_a_case_each(bench, series):
    axial = series()
    stacks = {
        "axial": axial,
        "coronal": series(uid=axial.uid, row=(1, 0, 0), column=(0, 0, -1)),
        "fine": series(uid=axial.uid, pixel_spacing=(0.5, 0.5)),
    }
    for name, made in stacks.items():
        made.write(bench.bad / name)
    report = bench.run("--series", "all")
    written = [report.ct(case) for case in report.of("/bad")]
    assert len(written) == 3
    for name in stacks:
        truth = slices_of((bench.bad / name).iterdir())
        assert [difference(path, truth) for path in written].count("") == 1


# --- 8 what is no image of anatomy ------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}, "maximum intensity"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]}, "perfusion"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "Secondary Capture"),
        ({"SOPClassUID": EncapsulatedPDFStorage, "Modality": "DOC"}, "PDF"),
        ({"Modality": "PT"}, "modality PT"),
        ({"RescaleType": "MGML"}, "RescaleType MGML"),
        ({"PhotometricInterpretation": "RGB"}, "RGB"),
    ],
)
def test_row_8_what_is_no_ct_of_anatomy_is_skipped(bench, series, attributes, reason):
    bench.write(series(attributes=attributes))
    bench.refused("skipped", reason)


@pytest.mark.parametrize("storage", [XRayRadiationDoseSRStorage, EnhancedSRStorage])
def test_row_8_reports_are_skipped(bench, series, storage):
    report = series().dataset(0)
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient"):
        delattr(report, keyword)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = storage
    report.Modality = "SR"
    bench.add("report", report)
    bench.refused("skipped", " SR ")


def test_row_8_localizer_under_the_uid_of_its_series_is_set_apart(bench, series):
    made = series()
    bench.write(made)
    truth = slices_of(bench.bad.iterdir())
    scout = made.dataset(0)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    bench.add("scout", scout)
    report = bench.run()
    by_status = {case.status: case for case in report.of("/bad")}
    assert set(by_status) == {"done", "skipped"}
    assert difference(report.ct(by_status["done"]), truth) == ""


# --- 9 empty or missing UIDs ------------------------------------------------------------------


@pytest.mark.parametrize("empty", [True, False])
def test_row_9_series_without_uids_get_an_identity_from_their_content(bench, series, empty):
    truths = []
    for name, seed in (("one", 1), ("two", 2)):
        stored = np.random.default_rng(seed).integers(0, 2048, (5, 6, 8), dtype=np.uint16)
        made = series(stored=stored)
        folder = bench.bad / name
        folder.mkdir()
        for k in range(5):
            image = made.dataset(k)
            for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID"):
                if empty:
                    setattr(image, keyword, "")
                else:
                    delattr(image, keyword)
            image.save_as(folder / str(k), enforce_file_format=False)
        truths.append(slices_of(folder.iterdir()))
    report = bench.run()
    cases = report.of("/bad")
    assert [case.status for case in cases] == ["done", "done"]
    assert len({case.case_id for case in cases}) == 2
    for truth in truths:
        assert [difference(report.ct(case), truth) for case in cases].count("") == 1
    again = bench.run()
    assert {c.case_id for c in again.cases} == {c.case_id for c in report.cases}


# --- 10 slope ---------------------------------------------------------------------------------


def test_row_10_slope_and_intercept_are_each_slice_s_own_and_rounded_once(bench, series):
    made = series()
    made.slope[:] = [1.0, 0.5, 0.25, 1.5, 0.1]
    made.intercept[:] = [-1024, -512.3, -200.7, -1000.5, -90]
    bench.write(made)
    case, report = bench.taken()
    # Worked out beside: 2 x 0.25 - 200.7 = -200.2 is -200, and no value was rounded before.
    voxels = np.asarray(nib.load(report.ct(case)).dataobj)
    assert set(np.unique(voxels)) == set(np.unique(made.hu))


# --- 11 padding, uint16, NaN ------------------------------------------------------------------


def test_row_11_padding_is_air_and_wide_values_do_not_wrap_around(bench, series):
    stored = np.full((5, 6, 8), 1000, np.uint16)
    stored[1, 1, 1] = 63536  # the header's padding; -2000 as int16
    stored[2, 3, 4] = 65000  # 63,976 HU: bone at most
    bench.write(series(stored=stored, attributes={"PixelPaddingValue": 63536}))
    report = bench.run()
    (case,) = report.of("/bad")
    voxels = np.asarray(nib.load(report.ct(case)).dataobj)
    assert {int(v): int((voxels == v).sum()) for v in np.unique(voxels)} == {
        -1000: 1, -24: 238, 1000: 1,
    }  # fmt: skip


@pytest.mark.parametrize("value", ["NaN", "inf", "1e400"])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_row_11_rescale_that_is_no_number_fails_the_series(bench, series, keyword, value):
    made = series()
    bench.write(made, skip=(2,))
    image = made.dataset(2)
    setattr(image, keyword, 777.125)
    bench.add("odd", image)
    path = bench.bad / "odd"
    raw = path.read_bytes()
    assert raw.count(b"777.125") == 1
    path.write_bytes(raw.replace(b"777.125", value.encode().ljust(7)))
    bench.refused("failed")


def test_row_11_nan_in_an_image_fails_it(bench):
    array = np.random.default_rng(1).integers(-900, 900, (6, 5, 4)).astype(np.float32)
    array[2, 2, 2] = np.nan
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), bench.bad / "nan.nii.gz")
    bench.refused("failed", "1 voxels are not finite")


# --- 12 lossy ---------------------------------------------------------------------------------


def test_row_12_lossy_pixels_are_taken_and_flagged(bench, series):
    smooth = np.linspace(0, 2000, 3 * 40 * 36).reshape(3, 40, 36).astype(np.uint16)
    made = series(stored=smooth)
    for k in range(3):
        image = made.dataset(k)
        image.BitsStored, image.HighBit = 12, 11
        image.compress(JPEG2000, j2k_cr=[8], generate_instance_uid=False)
        bench.add(str(k), image)
    case, report = bench.taken()
    assert report.record(case)["data"]["source"]["lossy"] is True
    (good,) = report.of("/good")
    assert report.record(good)["data"]["source"]["lossy"] is False


# --- 13 malformed, huge, hostile --------------------------------------------------------------


def nested_without_end(image: FileDataset, path: Path) -> None:
    """20,000 sequences, each in the one before."""
    image.save_as(path, enforce_file_format=True)
    raw = path.read_bytes()
    at = raw.index(b"\x20\x00\x0d\x00UI")  # before the study's UID
    opened = bytes.fromhex("180012105351 0000 ffffffff feff00e0 ffffffff")
    path.write_bytes(raw[:at] + opened * 20_000 + raw[at:])


def inflates_without_end(image: FileDataset, path: Path) -> None:
    """4 GiB of zeros in 4 MB of the deflated transfer syntax, before the pixels."""
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.private_block(0x0029, "HOSPITAL 1.0", create=True).add_new(0x10, "OB", b"mark")
    image.save_as(path, enforce_file_format=True)
    raw = path.read_bytes()
    at = 144 + int.from_bytes(raw[140:144], "little")  # the end of the meta group
    plain = zlib.decompress(raw[at:], -zlib.MAX_WBITS)
    element = plain.index(b"OB\0\0\x04\0\0\0mark")
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = pack.compress(plain[:element] + b"OB\0\0\0\0\0\xff") + pack.flush(zlib.Z_FULL_FLUSH)
    zeros = pack.compress(bytes(2**24)) + pack.flush(zlib.Z_FULL_FLUSH)  # the same each time
    rest = pack.compress(plain[element + 12 :]) + pack.flush()
    path.write_bytes(raw[:at] + body + zeros * 255 + rest)


def claims_a_huge_image(image: FileDataset, path: Path) -> None:
    """65,535 x 65,535 pixels in a hundred bytes."""
    image.Rows = image.Columns = 65535
    image.save_as(path, enforce_file_format=True)


def is_cut_in_its_header(image: FileDataset, path: Path) -> None:
    image.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize(
    "hostile",
    [
        nested_without_end,
        inflates_without_end,
        claims_a_huge_image,
        is_cut_in_its_header,
    ],
    ids=lambda function: function.__name__,
)
def test_row_13_hostile_file_costs_its_own_series_only(bench, series, hostile):
    made = series()
    bench.write(made, skip=(4,))
    hostile(made.dataset(4), bench.bad / "hostile")
    report, memory = run_measured(bench.source, bench.root / "dataset", seconds=300)
    bench.check(report)
    assert "done" not in [case.status for case in report.of("/bad")]
    assert report.exit_status == 1
    assert memory < 1536  # MiB


def test_row_13_value_that_claims_to_go_on_after_the_pixels_costs_nothing(bench, series):
    made = series()
    bench.write(made)
    truth = slices_of(bench.bad.iterdir())
    path = min(bench.bad.iterdir())
    path.write_bytes(path.read_bytes() + bytes.fromhex("e17f1000") + b"OB\0\0\xff\xff\xff\x7fx")
    report = bench.run(workers=1)
    (case,) = report.of("/bad")
    assert case.status == "failed" or difference(report.ct(case), truth) == ""


@pytest.mark.parametrize("vr", [b"SH", b"US", b"SQ"])
def test_row_13_pixels_whose_vr_is_that_of_no_pixels_fail_the_series(bench, series, vr):
    # The length of such a value is told elsewhere: read as pixels, it would go on behind its end.
    bench.write(series())
    path = min(bench.bad.iterdir())
    parts = Parts.of(path.read_bytes())
    at = parts.index(0x7FE00010)
    pixels = parts.elements[at]
    parts.elements[at:] = [Element(0x7FE00010, vr, b"0 "), Element(0x7FE11010, b"OW", pixels.value)]
    path.write_bytes(parts.encoded)
    report = bench.run()
    assert "done" not in [case.status for case in report.of("/bad")]


def test_row_13_more_pixels_than_the_header_tells_fail_the_series(bench, series):
    made = series()
    bench.write(made, skip=(2,))
    image = made.dataset(2)
    image.PixelData *= 2
    bench.add("twice", image)
    bench.refused("failed", "bytes of pixels")


@pytest.mark.parametrize("syntax", [b"1.2.840.10008n1.2.1", b"1.2.840.10008.1.2.5"])
def test_row_13_plain_pixels_in_a_syntax_that_is_not_plain_fail_the_series(bench, series, syntax):
    bench.write(series())
    path = min(bench.bad.iterdir())
    parts = Parts.of(path.read_bytes())
    parts.put(0x00020010, b"UI", syntax + b"\0" * (len(syntax) % 2))
    path.write_bytes(parts.encoded)
    report = bench.run()
    assert "done" not in [case.status for case in report.of("/bad")]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("SOPClassUID", SegmentationStorage), ("Modality", "MR"), ("ImageType", ["A", "B", "MIP"])],
)
def test_row_13_slice_that_calls_itself_something_else_doubts_its_series(
    bench, series, keyword, value
):
    # Without the second of three slices, the others are a regular stack of twice the spacing.
    made = series(stored=np.random.default_rng(1).integers(0, 2048, (3, 6, 8), dtype=np.uint16))
    bench.write(made, skip=(1,))
    other = made.dataset(1)
    setattr(other, keyword, value)
    bench.add("other", other)
    report = bench.run()
    assert "done" not in [case.status for case in report.of("/bad")]


@pytest.mark.parametrize("which", [0, 2, 4])
def test_row_13_noise_in_the_place_of_a_slice_doubts_its_series(bench, series, which):
    # Without the last slice the others are a regular stack, but a shorter one.
    bench.write(series())
    path = sorted(bench.bad.iterdir())[which]
    path.write_bytes(np.random.default_rng(which).bytes(path.stat().st_size))
    bench.refused("quarantined")


def test_row_13_other_files_beside_the_slices_are_left(bench, series):
    bench.write(series())
    truth = slices_of(bench.bad.iterdir())
    for name in ("README", "viewer.exe", "notes.txt", "LICENSE-2"):
        (bench.bad / name).write_bytes(np.random.default_rng(1).bytes(500))
    report = bench.run()
    (case,) = report.of("/bad")
    assert difference(report.ct(case), truth) == ""


def test_row_13_archive_that_unpacks_without_end_is_not_read(bench):
    path = bench.bad / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 200)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")  # uncompressed size
    path.write_bytes(bytes(raw))
    bench.refused("failed", "such an archive is not read")


@pytest.mark.parametrize("names", [("a", "a"), ("a", ""), ("a", "b/")])
def test_row_13_archive_whose_names_are_in_doubt_is_not_read(bench, series, names):
    # Members that only their places tell apart: what is opened by name would be another slice.
    images = [p.read_bytes() for p in series().write(bench.root / "plain").iterdir()]
    archive = bench.bad / "x.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for number, raw in enumerate(images):
            opened.writestr(f"{number}{number}", raw)
    raw = archive.read_bytes()
    for number, name in enumerate(names):
        raw = renamed(raw, f"{number}{number}".encode(), name.encode())
    archive.write_bytes(raw)
    bench.refused("failed", "archive")


def test_row_13_damaged_member_outside_the_folder_doubts_the_archive_s_one_series(bench, series):
    # As when the damage is in the name: without the slice the others are a regular stack.
    series().write(bench.root / "plain", skip=(4,))
    with zipfile.ZipFile(bench.bad / "x.zip", "w") as archive:
        for path in (bench.root / "plain").iterdir():
            archive.write(path, f"s/{path.name}")
        archive.writestr("s+4", np.random.default_rng(1).bytes(400))
    raw = bytearray((bench.bad / "x.zip").read_bytes())
    raw[raw.rindex(b"s+4", 0, raw.index(b"PK\x01\x02")) + 10] ^= 1  # its checksum is wrong now
    (bench.bad / "x.zip").write_bytes(bytes(raw))
    report = bench.run()
    assert report.exit_status == 1
    assert sorted(case.status for case in report.of("/bad")) == ["failed", "quarantined"]


def renamed(raw: bytes, old: bytes, new: bytes) -> bytes:
    """A stored zip archive in which a member has another name, in both of its headers."""
    for mark, at in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        head = 30 if mark == b"PK\x03\x04" else 46
        start = raw.index(mark)
        while raw[start + head : start + head + len(old)] != old:
            start = raw.index(mark, start + 1)
        # The name keeps its bytes, as an extra field, so that no offset moves.
        extra = len(old) - len(new)
        lengths = len(new).to_bytes(2, "little") + extra.to_bytes(2, "little")
        raw = (
            raw[: start + at]
            + lengths
            + raw[start + at + 4 : start + head]
            + new
            + old[len(new) :]
            + raw[start + head + len(old) :]
        )
    return raw


def test_row_13_private_letters_that_numbers_of_our_own_header_look_like_are_no_leak(bench, series):
    # Dimensions of 1 in a NIfTI header are, in the wrong byte order, a row of A with macron.
    made = series()
    original = made.dataset

    def dataset(k: int) -> FileDataset:
        image = original(k)
        image.private_block(0x2001, "MAKER 1.0", create=True).add_new(0x10, "LO", "AAAA")
        return image

    made.dataset = dataset
    bench.write(made)
    bench.taken()


def test_row_13_our_own_words_and_facts_in_folder_names_and_private_elements_are_no_leak(
    bench, series
):
    made = series()
    original = made.dataset

    def dataset(k: int) -> FileDataset:
        image = original(k)
        image.PixelSpacing = [0.754321, 0.754321]
        block = image.private_block(0x2001, "MAKER 1.0", create=True)
        block.add_new(0x10, "LO", ["0.754321", "0.754321"])
        return image

    made.dataset = dataset
    made.write(bench.bad / "pants_labels" / "train")
    report = bench.run()
    assert [case.status for case in report.of("/bad")] == ["done"]
    assert (report.out / "dataset.json").is_file()
    assert (report.out / "metadata.csv").is_file()


# --- 14 masks -------------------------------------------------------------------------------


@dataclass
class Masked:
    """A CT as NIfTI with a mask of its own, and places for others."""

    root: Path

    def __post_init__(self) -> None:
        self.affine = np.diag([1.0, 1.0, 2.0, 1.0])
        self.hu = np.random.default_rng(1).integers(-900, 900, (12, 10, 8)).astype(np.int16)
        self.image(self.hu, "ct.nii.gz", self.affine)
        self.mask = np.zeros(self.hu.shape, np.uint8)
        self.mask[2:6, 3:7, 2:5] = 1

    def image(self, array: np.ndarray, name: str, affine: np.ndarray) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), path)
        return path

    def run(self, labels: Path, *options: object) -> tuple[Case, Report]:
        report = run_ingest(self.root / "d", self.root / "ct.nii.gz", "--labels", labels, *options)
        report.check()
        (case,) = report.cases
        return case, report

    def written(self, case: Case, report: Report, structure: str) -> np.ndarray:
        """A written mask, turned back to the axes of the source."""
        (path,) = (p for p in report.files(case) if p.name == f"{structure}.nii.gz")
        return np.asarray(nib.load(path).dataobj)[::-1, :, ::-1]  # LAI to RAS


@pytest.fixture
def masked(tmp_path: Path) -> Masked:
    return Masked(tmp_path)


def test_row_14_mask_on_another_grid_is_refused(masked):
    finer = masked.affine @ np.diag([0.5, 0.5, 1, 1])
    array = masked.mask.repeat(2, 0).repeat(2, 1)
    case, _ = masked.run(masked.image(array, "m/liver.nii.gz", finer).parent)
    assert case.status == "failed"
    assert "different grids" in case.reason


def test_row_14_mask_on_another_grid_is_resampled_to_the_nearest_when_asked(masked):
    # Voxels of half the size, shifted by a quarter of a CT's voxel: its centre lies in one of them.
    finer = masked.affine @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] = (-0.25, -0.25, 0)
    array = masked.mask.repeat(2, 0).repeat(2, 1)
    folder = masked.image(array, "m/liver.nii.gz", finer).parent
    case, report = masked.run(folder, "--resample-labels")
    assert case.status == "done"
    np.testing.assert_array_equal(masked.written(case, report, "liver"), masked.mask)
    assert report.record(case)["data"]["labels"]["resampled"]


def test_row_14_mask_of_another_place_is_refused_even_then(masked):
    elsewhere = masked.affine.copy()
    elsewhere[:3, 3] = 500
    folder = masked.image(masked.mask, "m/liver.nii.gz", elsewhere).parent
    case, _ = masked.run(folder, "--resample-labels")
    assert case.status == "failed"
    assert "overlap" in case.reason


def test_row_14_empty_mask_is_annotated_and_a_missing_one_is_not(masked):
    folder = masked.image(masked.mask * 0, "m/liver.nii.gz", masked.affine).parent
    case, report = masked.run(folder)
    assert case.status == "done"
    assert masked.written(case, report, "liver").sum() == 0
    assert {p.name for p in report.files(case)} == {
        "ct.nii.gz", "liver.nii.gz", "combined_labels.nii.gz",
    }  # fmt: skip


def test_row_14_labels_that_are_not_there_stop_the_run(tmp_path, masked):
    del masked
    command = ["ingest", str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "d"), "--labels"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert not (tmp_path / "d").exists()


# --- 15 a NIfTI image whose place is in doubt -------------------------------------------------


def forms_disagree(image: nib.Nifti1Image) -> None:
    image.set_sform(np.diag([1.0, 1, 2, 1]), 1)
    image.set_qform(np.diag([-1.0, -1, 2, 1]), 1)


def no_form_has_a_code(image: nib.Nifti1Image) -> None:
    image.set_sform(np.diag([1.0, 1, 2, 1]), 0)
    image.set_qform(np.diag([1.0, 1, 2, 1]), 0)


def axes_are_sheared(image: nib.Nifti1Image) -> None:
    affine = np.diag([1.0, 1, 2, 1])
    affine[0, 1] = 0.01
    image.set_sform(affine, 1)
    image.set_qform(None, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (forms_disagree, "disagree"),
        (no_form_has_a_code, "neither"),
        (axes_are_sheared, "not perpendicular"),
    ],
)
def test_row_15_image_whose_place_is_in_doubt_is_quarantined(bench, change, reason):
    array = np.random.default_rng(1).integers(-900, 900, (6, 5, 4)).astype(np.int16)
    image = nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1]))
    change(image)
    nib.save(image, bench.bad / "odd.nii.gz")
    bench.refused("quarantined", reason)


# --- 16 overlapping segments, references to nothing -------------------------------------------


class Annotated:
    """A series with a segmentation or structure set beside it, given as source and labels."""

    def __init__(self, root: Path, made: Made) -> None:
        self.root = root
        made.attributes["FrameOfReferenceUID"] = f"{made.uid}.1"
        self.images = [made.dataset(k) for k in range(len(made.stored))]
        made.write(root / "in" / "ct")
        (root / "in" / "labels").mkdir()

    def run(self, annotation: FileDataset) -> tuple[Case, Report]:
        annotation.save_as(self.root / "in" / "labels" / "a", enforce_file_format=True)
        report = run_ingest(self.root / "d", self.root / "in", "--labels", self.root / "in")
        report.check()
        (case,) = (c for c in report.of("/ct"))
        return case, report

    def written(self, case: Case, report: Report, structure: str) -> np.ndarray:
        """A written mask as (slice, row, column) of the series, which is plain and axial."""
        (path,) = (p for p in report.files(case) if p.name == f"{structure}.nii.gz")
        return np.asarray(nib.load(path).dataobj)[:, ::-1, ::-1].transpose(2, 1, 0).astype(bool)


@pytest.fixture
def annotated(tmp_path: Path, series: Callable[..., Made]) -> Annotated:
    return Annotated(tmp_path, series())


def test_row_16_overlapping_segments_are_a_mask_each(annotated):
    shape = (5, *annotated.images[0].pixel_array.shape)
    liver, gallbladder = np.zeros(shape, bool), np.zeros(shape, bool)
    liver[1:4, 1:4, 2:6] = True
    gallbladder[2:5, 2:5, 4:8] = True
    assert (liver & gallbladder).any()
    made = segmentation(annotated.images, {"Liver": liver, "Gallbladder": gallbladder})
    case, report = annotated.run(made)
    assert case.status == "done", case
    np.testing.assert_array_equal(annotated.written(case, report, "liver"), liver)
    np.testing.assert_array_equal(annotated.written(case, report, "gall_bladder"), gallbladder)


def test_row_16_structure_set_of_the_series_is_its_masks(annotated):
    corners = [(1.5, 0.5), (5.5, 0.5), (5.5, 3.5), (1.5, 3.5)]  # columns 2 to 5, rows 1 to 3
    made = structure_set(annotated.images, {"Liver": [(k, corners) for k in (1, 2, 3)]})
    expected = np.zeros((5, 6, 8), bool)
    expected[1:4, 1:4, 2:6] = True
    case, report = annotated.run(made)
    assert case.status == "done", case
    np.testing.assert_array_equal(annotated.written(case, report, "liver"), expected)


def test_row_16_structure_set_that_refers_to_images_that_are_not_there_is_rejected(annotated):
    corners = [(1.5, 0.5), (5.5, 0.5), (5.5, 3.5), (1.5, 3.5)]
    elsewhere = copy.deepcopy(annotated.images)
    for image in elsewhere:
        image.SOPInstanceUID, image.SeriesInstanceUID = (
            generate_uid(),
            f"{image.SeriesInstanceUID}.5",
        )
        image.FrameOfReferenceUID = generate_uid()
    case, report = annotated.run(structure_set(elsewhere, {"Liver": [(2, corners)]}))
    # Never someone else's contours: the CT has no mask, or is refused.
    assert [p.name for p in report.files(case)] in ([], ["ct.nii.gz"])
    said = " ".join([case.reason, report.printed])
    assert "refer" in said or "labels without a CT" in said
