"""De-identified DICOM: the source's pixels in their place, and nothing else of the source."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_seeds import SYNTAXES, made_seeds
from planting import TEXT_VRS, plant, planted_elements, raw_hits
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless, SecondaryCaptureImageStorage

from pantskit.core.errors import ImageError, PantskitError, Skipped
from pantskit.ingest.dicom.codestreams import image_only
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.discovery.discover import discover
from pantskit.ingest.discovery.sources import Reader
from pantskit.ingest.facts.describe import describe_header
from pantskit.ingest.privacy.deidentify import Pseudonyms, Rules
from pantskit.ingest.privacy.export import export_series, known_kernel
from pantskit.ingest.privacy.identifiers import merged, path_identifiers
from pantskit.ingest.privacy.leaks import LeakScan

NAMES = Pseudonyms(bytes(range(32)))
CASE, PATIENT = "case_k3j2abcdefgh", "patient_abcdefgh2345"


def slices_of(folder: Path) -> list[ImageHeader]:
    """All CT slices below a folder, in the order of their places."""
    found = [h for s in discover([folder]).series if not s.skip for h in s.slices]
    normal = np.cross(found[0].orientation[:3], found[0].orientation[3:])
    return sorted(found, key=lambda h: float(np.dot(normal, h.position)))


def export(folder: Path, out: Path, rules: Rules | None = None, **changes: Any) -> dict[str, Any]:
    slices = slices_of(folder)
    facts = describe_header(slices[0].description) | changes
    found = merged(values for h in slices for values in h.identifiers)
    paths = path_identifiers(h.file.path.relative_to(folder.parent) for h in slices)
    told = [str(v) for v in facts.values() if v is not None]
    scan = LeakScan({**paths, **found}, own_words=[PATIENT], facts=told)
    with Reader() as reader:
        return export_series(
            slices, reader, out, pseudonyms=NAMES, case_id=CASE, patient_id=PATIENT, facts=facts,
            scan=scan, rules=rules,
        )  # fmt: skip


def objects(folder: Path) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def test_every_slice_has_the_source_s_pixels_and_place(series, tmp_path):
    made = series(attributes={"WindowCenter": 40, "WindowWidth": 400, "PatientPosition": "HFS"})
    record = export(made.write(tmp_path / "in"), tmp_path / "out" / CASE)
    written = objects(tmp_path / "out" / CASE)
    assert record["files"] == len(written) == 5
    for k, one in enumerate(written):
        np.testing.assert_array_equal(one.pixel_array, made.stored[k])
        np.testing.assert_allclose(one.ImagePositionPatient, made.positions[k], atol=1e-9)
        assert one.PixelSpacing == [0.75, 0.5]
        assert (one.RescaleSlope, one.RescaleIntercept) == (1, -1024)
        assert (one.WindowCenter, one.WindowWidth, one.PatientPosition) == (40, 400, "HFS")
        assert one.InstanceNumber == k + 1
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.dcm"))[0] == "0001.dcm"
    assert [p.name for p in (tmp_path / "out").iterdir()] == [CASE]


@pytest.mark.parametrize("kind", ["plain", "signed", "enhanced", *SYNTAXES])
def test_pixels_of_every_syntax_are_kept(kind, tmp_path):
    (tmp_path / "in").mkdir()
    for n, raw in enumerate(made_seeds()[kind]("1.2.826.0.1.99.4711.77")):
        (tmp_path / "in" / f"{n}").write_bytes(raw)
    export(tmp_path / "in", tmp_path / "out")
    slices, written = slices_of(tmp_path / "in"), objects(tmp_path / "out")
    assert len(slices) == len(written) == 3
    for header, one in zip(slices, written, strict=True):
        source = pydicom.dcmread(header.file.path)
        expected = source.pixel_array
        np.testing.assert_array_equal(
            one.pixel_array, expected if header.frame is None else expected[header.frame]
        )
        np.testing.assert_allclose(one.ImagePositionPatient, header.position)
        assert (one.RescaleSlope, one.RescaleIntercept) == (header.slope, header.intercept)
        assert one.SOPClassUID.name == "CT Image Storage"
        syntax = source.file_meta.TransferSyntaxUID
        kept = syntax if syntax.is_encapsulated else "1.2.840.10008.1.2.1"
        assert one.file_meta.TransferSyntaxUID == kept


def test_object_has_what_a_ct_image_needs_and_names_its_profile(series, tmp_path):
    made = series(
        attributes={
            "Manufacturer": "SIEMENS", "ManufacturerModelName": "Sensation 16", "KVP": "120",
            "PatientAge": "093Y", "PatientSex": "F", "SliceThickness": "3", "StudyTime": "143012",
            "ConvolutionKernel": "B30f", "BurnedInAnnotation": "NO",
        }
    )  # fmt: skip
    record = export(made.write(tmp_path / "in"), tmp_path / "out")
    one = objects(tmp_path / "out")[0]
    assert one.PatientName == one.PatientID == PATIENT
    assert (one.PatientSex, one.PatientAge, one.PatientBirthDate) == ("F", "090Y", "")
    assert (one.Manufacturer, one.ManufacturerModelName) == ("SIEMENS", "Sensation 16")
    assert (one.KVP, one.SliceThickness, one.ConvolutionKernel) == (120, 3, "B30f")
    assert one.PatientIdentityRemoved == "YES"
    assert one.LongitudinalTemporalInformationModified == "MODIFIED"
    assert one.BurnedInAnnotation == "NO"
    assert all(len(text) <= 64 for text in (one.DeidentificationMethod,))
    # PS3.16 CID 7050, as pydicom's own code dictionary has it.
    from pydicom.sr.codedict import codes

    known = {c.value: c.meaning for c in map(codes.cid7050.__getattr__, codes.cid7050.dir())}
    told = {i.CodeValue: i.CodeMeaning for i in one.DeidentificationMethodCodeSequence}
    assert set(told) == {"113100", "113107", "113108"}
    assert told == {code: known[code] for code in told}
    assert record["profile"][0] == "113100 Basic Application Confidentiality Profile"
    # Type 2 elements of the CT Image IOD, which must be there though they may be empty.
    keywords = (
        "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber "
        "ReferringPhysicianName StudyID SeriesNumber Manufacturer PositionReferenceIndicator "
        "InstanceNumber KVP AcquisitionNumber SliceThickness"
    )
    for keyword in keywords.split():
        assert keyword in one, keyword
    assert one.preamble == b"\0" * 128
    assert {e.keyword for e in one.file_meta} == {
        "FileMetaInformationGroupLength", "FileMetaInformationVersion",
        "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID",
        "ImplementationClassUID", "ImplementationVersionName",
    }  # fmt: skip


def test_values_are_valid_by_pydicom_s_own_rules(series, tmp_path, monkeypatch):
    export(series().write(tmp_path / "in"), tmp_path / "out")
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for path in (tmp_path / "out").iterdir():
        for element in pydicom.dcmread(path):
            assert element.value is not NotImplemented  # conversion is what checks


def test_uids_and_dates_are_the_same_for_the_same_and_not_the_source_s(series, tmp_path):
    made = series(attributes={"FrameOfReferenceUID": "1.2.826.0.1.99.8"})
    made.write(tmp_path / "in")
    export(tmp_path / "in", tmp_path / "a")
    export(tmp_path / "in", tmp_path / "b")
    first, second = objects(tmp_path / "a"), objects(tmp_path / "b")
    assert [o.SOPInstanceUID for o in first] == [o.SOPInstanceUID for o in second]
    assert len({o.SOPInstanceUID for o in first}) == 5
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert len({o[keyword].value for o in first}) == 1
    for one in first:
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        uids = (one.SOPInstanceUID, one.StudyInstanceUID, one.SeriesInstanceUID)
        assert all(u.is_valid and u.startswith("2.25.") for u in uids)
        assert one.StudyDate != "20140902"
        assert one.StudyTime == ""
    assert first[0].StudyInstanceUID == NAMES.uid(made.dataset(0).StudyInstanceUID)


def test_slices_without_uids_and_dates_get_uids_of_their_own(series, tmp_path):
    made = series(attributes={"SOPInstanceUID": "", "StudyDate": "", "PatientBirthDate": ""})
    record = export(made.write(tmp_path / "in"), tmp_path / "out")
    written = objects(tmp_path / "out")
    assert len({one.SOPInstanceUID for one in written}) == 5
    assert record["dates"] == "removed"
    assert written[0].LongitudinalTemporalInformationModified == "REMOVED"
    codes = [i.CodeValue for i in written[0].DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113108"]


@pytest.mark.parametrize("what", ["burned in", "secondary capture", "8 bits"])
def test_what_may_show_a_name_in_its_pixels_is_not_exported(series, tmp_path, what):
    made = series()
    if what == "burned in":
        made.attributes["BurnedInAnnotation"] = "YES"
    slices = slices_of(made.write(tmp_path / "in"))
    if what == "secondary capture":
        slices[0] = replaced(slices[0], sop_class=SecondaryCaptureImageStorage)
    if what == "8 bits":
        pixels = replaced(slices[0].pixels, allocated=8)
        slices = [replaced(h, pixels=pixels) for h in slices]
    with Reader() as reader, pytest.raises((Skipped, ImageError), match=r"not .*exported"):
        export_series(
            slices, reader, tmp_path / "out", pseudonyms=NAMES, case_id=CASE, patient_id=PATIENT,
            facts={}, scan=LeakScan({}),
        )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def replaced(value: Any, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(value, **changes)


def test_failure_leaves_what_was_there_before(series, tmp_path):
    made = series()
    export(made.write(tmp_path / "in"), tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    with pytest.raises(PantskitError, match="leak scan"):
        export(tmp_path / "in", tmp_path / "out", Rules(patients=False))
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize(
    ("text", "kernel"),
    [("B30f", "B30f"), ("Br40d\\3", "Br40d\\3"), ("FC08", "FC08"), ("STANDARD", "STANDARD"),
     ("Quellmann", None), ("19500317", None), ("QX778812", None), ("", None), ("LUDMILLA", None)],
)  # fmt: skip
def test_kernel_comes_out_where_it_is_named_as_makers_do(text, kernel):
    assert known_kernel(text) == kernel


# --- identifiers planted everywhere


def planted_series(series, tmp_path: Path, elements: list[Any], name: str = "in") -> Path:
    made = series()
    original = made.dataset

    def dataset(k: int) -> Any:
        one = original(k)
        plant(one, elements)
        return one

    made.dataset = dataset
    return made.write(tmp_path / name)


@pytest.mark.parametrize("vr", TEXT_VRS)
def test_no_element_s_text_comes_out(series, run, tmp_path, vr):
    elements = planted_elements(vr)
    folder = planted_series(series, tmp_path, elements)
    result = run(folder)
    assert result.statuses == ["done"]
    export(folder, result.out / "DICOM" / CASE)
    assert raw_hits(result.out, [e.needle for e in elements]) == []


@pytest.mark.parametrize("vr", TEXT_VRS)
def test_an_element_that_is_kept_is_found_and_named(series, tmp_path, vr):
    elements = planted_elements(vr)
    element = elements[len(elements) // 2]
    folder = planted_series(series, tmp_path, [element])
    export(folder, tmp_path / "clean")
    with pytest.raises(PantskitError, match="leak scan") as error:
        export(folder, tmp_path / "out", Rules(elements=False))
    assert element.keyword in str(error.value) or "private" in str(error.value)
    assert element.needle.lower() not in str(error.value).lower()
    assert not (tmp_path / "out").exists()


Change = Callable[[Any], None]


def preamble(one: Any) -> None:
    one.preamble = b"of Halloway".ljust(128, b"\0")


def title(one: Any) -> None:
    one.file_meta.SourceApplicationEntityTitle = "HALLOWAY"


def private_meta(one: Any) -> None:
    one.file_meta.PrivateInformationCreatorUID = "1.2.826.0.1.99.5"
    one.file_meta.PrivateInformation = b"Halloway"


def private(one: Any) -> None:
    one.private_block(0x0029, "HOSPITAL", create=True).add_new(0x10, "LO", "Halloway")


def private_alone(one: Any) -> None:
    one.add_new(0x00350030, "UN", b"Halloway")


def private_wide(one: Any) -> None:
    one.add_new(0x00350030, "OB", "Halloway".encode("utf-16-le"))


def nested(one: Any) -> None:
    item = Dataset()
    item.RequestedProcedureDescription = "for Halloway"
    outer = Dataset()
    outer.RequestAttributesSequence = [item]
    one.ReferencedStudySequence = [outer]


def padding(one: Any) -> None:
    one.add_new(0xFFFCFFFC, "OB", b"Halloway")


def trailing_private(one: Any) -> None:
    one.add_new(0x7FE10010, "LO", "HOSPITAL")
    one.add_new(0x7FE11030, "LO", "Halloway")


def overlay(one: Any) -> None:
    one.add_new(0x60000022, "LO", "Halloway")
    one.add_new(0x60003000, "OW", b"Halloway" * 6)


def name(one: Any) -> None:
    one.PatientName = "Halloway^Ada"


def maker(one: Any) -> None:
    one.ManufacturerModelName = "SOMATOM Halloway"


PLACES: dict[str, tuple[Change, Rules, str]] = {
    "preamble": (preamble, Rules(meta=False), "preamble"),
    "title": (title, Rules(meta=False), "SourceApplicationEntityTitle"),
    "private meta": (private_meta, Rules(meta=False), "PrivateInformation"),
    "private": (private, Rules(elements=False), "private"),
    "private alone": (private_alone, Rules(elements=False), "private"),
    "private wide": (private_wide, Rules(elements=False), "private"),
    "nested": (nested, Rules(elements=False), "RequestedProcedureDescription"),
    "padding": (padding, Rules(elements=False), "DataSetTrailingPadding"),
    "trailing private": (trailing_private, Rules(elements=False), "private"),
    "overlay": (overlay, Rules(elements=False), "Overlay"),
    "patient": (name, Rules(patients=False), "PatientName"),
    "maker": (maker, Rules(facts=False), "ManufacturerModelName"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_identifier_anywhere_stays_inside_and_is_found_with_its_rule_off(
    series, run, tmp_path, place, syntax
):
    change, rules, attribute = PLACES[place]
    made = series()
    original = made.dataset

    def dataset(k: int) -> Any:
        one = original(k)
        change(one)
        if syntax == "implicit":
            one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
        return one

    made.dataset = dataset
    folder = made.write(tmp_path / "in")
    result = run(folder)
    assert result.statuses == ["done"]
    export(folder, result.out / "DICOM" / CASE)
    assert raw_hits(result.out, ["Halloway"]) == []
    with pytest.raises(PantskitError, match="leak scan") as error:
        export(folder, tmp_path / "out", rules)
    assert attribute in str(error.value)
    assert "alloway" not in str(error.value).lower()
    assert not (tmp_path / "out").exists()


def test_names_of_files_and_folders_stay_inside_and_are_found_with_the_rule_off(
    series, run, tmp_path
):
    folder = series().write(tmp_path / "Mueller_Hans_19611224")
    for path in list(folder.iterdir()):
        path.rename(folder / f"ZX990123_{path.name}.dcm")
    result = run(folder)
    export(folder, result.out / "DICOM" / CASE)
    hits = raw_hits(result.out, ["mueller", "hans", "19611224", "zx990123", "990123"])
    assert hits == []
    with pytest.raises(PantskitError, match="file name in file name") as error:
        export(folder, tmp_path / "out", Rules(names=False))
    assert "ZX990123" not in str(error.value)


def test_uids_and_dates_are_found_with_their_rule_off(series, tmp_path):
    folder = series().write(tmp_path / "in")
    with pytest.raises(PantskitError, match="SeriesInstanceUID in"):
        export(folder, tmp_path / "out", Rules(uids=False))
    with pytest.raises(PantskitError, match="PatientBirthDate in") as error:
        export(folder, tmp_path / "out", Rules(dates=False))
    assert "StudyDate in" in str(error.value)


def test_bytes_after_the_image_stay_inside(series, tmp_path):
    made = series()
    original = made.dataset

    def dataset(k: int) -> Any:
        one = original(k)
        one.PixelData = one.PixelData + b"after the image: Halloway "
        return one

    made.dataset = dataset
    export(made.write(tmp_path / "in"), tmp_path / "out")
    assert raw_hits(tmp_path / "out", ["Halloway"]) == []


def test_a_delimiter_too_many_behind_the_pixels_stays_outside(tmp_path):
    (tmp_path / "in").mkdir()
    for n, raw in enumerate(made_seeds()["jpeg-2000"]("1.2.826.0.1.99.4711.77")):
        (tmp_path / "in" / f"{n}").write_bytes(raw + b"\xfe\xff\xdd\xe0\0\0\0\0")
    assert export(tmp_path / "in", tmp_path / "out")["files"] == 3


def with_comment(frame: bytes, kind: str) -> bytes:
    text = b"made for Halloway "
    if kind == "jpeg":  # after the start of the image: a comment and an application segment
        size = (len(text) + 2).to_bytes(2, "big")
        return frame[:2] + b"\xff\xfe" + size + text + b"\xff\xe5" + size + text + frame[2:]
    if kind == "jpeg 2000":  # behind the SIZ segment: a comment in Latin-1
        end = 4 + int.from_bytes(frame[4:6], "big")
        size = (len(text) + 4).to_bytes(2, "big")
        return frame[:end] + b"\xff\x64" + size + b"\0\1" + text + frame[end:]
    return frame


@pytest.mark.filterwarnings("ignore:The decoded RLE segment")  # of the source
@pytest.mark.parametrize(
    ("seed", "kind"),
    [("JPEGLosslessSV1", "jpeg"), ("JPEGLSLossless", "jpeg"), ("JPEG2000Lossless", "jpeg 2000"),
     ("HTJ2KLossless", "jpeg 2000"), ("RLELossless", "rle")],
)  # fmt: skip
def test_comments_in_coded_pixels_stay_inside_and_the_image_stays(seed, kind, tmp_path):
    name = next(n for n, syntax in SYNTAXES.items() if syntax.keyword == seed)
    (tmp_path / "in").mkdir()
    for n, raw in enumerate(made_seeds()[name]("1.2.826.0.1.99.4711.77")):
        one = pydicom.dcmread(io.BytesIO(raw))
        frame = with_comment(pydicom.encaps.get_frame(one.PixelData, 0, number_of_frames=1), kind)
        frame += b"" if kind == "jpeg 2000" else b"\0\0behind: Halloway"
        one.PixelData = encapsulate([frame])
        one.save_as(tmp_path / "in" / f"{n}")
    expected = [pydicom.dcmread(h.file.path).pixel_array for h in slices_of(tmp_path / "in")]
    export(tmp_path / "in", tmp_path / "out")
    assert raw_hits(tmp_path / "out", ["Halloway"]) == []
    for one, pixels in zip(objects(tmp_path / "out"), expected, strict=True):
        np.testing.assert_array_equal(one.pixel_array, pixels)


def test_damaged_codestreams_are_refused():
    for syntax in (*SYNTAXES.values(),):
        if not syntax.is_encapsulated:
            continue
        for data in (b"", b"\xff", b"\xff\xd8\xff", b"\xff\x4f\xff\x51\0", b"\0" * 64, b"\1" * 70):
            with pytest.raises(ImageError, match="not exported"):
                image_only(data, str(syntax), 8, 8)
    with pytest.raises(ImageError, match="not exported"):
        image_only(b"", "1.2.840.10008.1.2.4.100", 8, 8)


def test_rle_segments_end_with_the_image():
    from pydicom.pixels.encoders.base import get_encoder

    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 5, (37, 33), dtype=np.uint16) * 300
    frame = get_encoder(RLELossless).encode(
        pixels.tobytes(), rows=37, columns=33, bits_allocated=16, bits_stored=16,
        samples_per_pixel=1, number_of_frames=1, pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
    )  # fmt: skip
    cleaned = image_only(frame + b"Halloway", RLELossless, 33, 37)
    assert cleaned == image_only(frame, RLELossless, 33, 37)
    # The last segment may end in a byte that makes it even.
    assert len(frame) <= len(cleaned) <= len(frame) + 2
    from imagecodecs import dicomrle_decode

    decoded = np.frombuffer(dicomrle_decode(cleaned, "<u2"), np.uint16)
    np.testing.assert_array_equal(decoded.reshape(37, 33), pixels)


# --- real series


@pytest.mark.parametrize("files", ["philips_head/S2010/I?0", "rtstruct/ct_*"])
def test_real_series_is_read_as_the_source_by_other_programs(shared_data, tmp_path, files):
    sitk = pytest.importorskip("SimpleITK")
    source = tmp_path / "source"
    source.mkdir()
    for path in (shared_data / "dicom").glob(files):
        shutil.copy(path, source / f"{path.stem}.dcm")
    export(source, tmp_path / "out")
    slices = slices_of(source)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(p) for p in sorted((tmp_path / "out").glob("*.dcm"))])
    ours = reader.Execute()
    reader.SetFileNames([str(h.file.path) for h in slices])
    theirs = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(ours.GetSpacing(), theirs.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-9)
    volumes = []
    for name in ("out", "source"):
        tool = Path(sys.executable).with_name("dcm2niix")
        target = tmp_path / f"{name}-nii"
        target.mkdir()
        command = [tool, "-z", "n", "-f", "x", "-o", target, tmp_path / name]
        subprocess.run(command, check=True, capture_output=True)
        (path,) = target.glob("*.nii")
        volumes.append(nib.load(path))
    np.testing.assert_array_equal(volumes[0].dataobj, volumes[1].dataobj)
    np.testing.assert_allclose(volumes[0].affine, volumes[1].affine, atol=1e-4)


SEEDED = {
    "PatientName": "Quellmann^Ludmilla", "PatientID": "QX778812", "PatientBirthDate": "19500317",
    "OtherPatientIDs": "SSN-91827364", "PatientAddress": "Kastanienallee 7",
    "PatientTelephoneNumbers": "+99-5551234", "AccessionNumber": "ACC5566778",
    "InstitutionName": "Northfield General", "InstitutionAddress": "Wardstreet 9",
    "ReferringPhysicianName": "Vandergraaf^Jo", "PerformingPhysicianName": "Wisniewolski^Ada",
    "OperatorsName": "Achterbergh", "StationName": "NORTHCT9", "DeviceSerialNumber": "SN4455667",
    "StudyID": "ST991122", "StudyDescription": "CT for Quellmann", "PatientComments": "Obrizky",
    "ImageComments": "seen by Tarvossen", "RequestingService": "Minterholt",
}  # fmt: skip


def test_real_series_seeded_with_identifiers_leaves_none(shared_data, run, tmp_path):
    """What three other tools left of such seeds: 3 to 19 attributes, hundreds of private ones."""
    (tmp_path / "in").mkdir()
    originals = set()
    for number in range(10, 60, 10):
        path = shared_data / "dicom" / "philips_head" / "S2010" / f"I{number}"
        one = pydicom.dcmread(path)
        originals |= {str(one.get(k)) for k in ("SOPInstanceUID", "StudyInstanceUID")}
        for keyword, value in SEEDED.items():
            setattr(one, keyword, value)
        one.preamble = b"exported for Fyrwald".ljust(128, b"\0")
        one.file_meta.SourceApplicationEntityTitle = "AENORTHF"
        one.file_meta.PrivateInformationCreatorUID = "1.2.826.0.1.99.5"
        one.file_meta.PrivateInformation = b"Halloway"
        one.private_block(0x0029, "HOSPITAL 1.0", create=True).add_new(0x10, "LO", "Dragomiresc")
        one.save_as(tmp_path / "in" / path.name)
    result = run(tmp_path / "in")
    assert result.statuses == ["done"]
    export(tmp_path / "in", result.out / "DICOM" / CASE)
    words = ("fyrwald", "aenorthf", "halloway", "dragomiresc", "quellmann", "5551234", "91827364")
    assert raw_hits(result.out, [*SEEDED.values(), *words, *originals]) == []
    private = [e for one in objects(result.out / "DICOM" / CASE) for e in one if e.tag.is_private]
    assert private == []


def test_nothing_of_the_real_series_sets_off_the_scan(shared_data, tmp_path):
    """The scan of a clean export finds nothing: the values looked for are hundreds of real ones."""
    for folder in ("philips_head/S2010", "philips_tilt", "tilt_untagged", "missing_slice"):
        assert export(shared_data / "dicom" / folder, tmp_path / "out")["files"] > 3


@pytest.mark.slow
def test_nothing_of_the_ircadb_series_sets_off_the_scan(shared_data, tmp_path):
    import zipfile

    (archive,) = (shared_data / "ircadb01_case17").glob("*.zip")
    with zipfile.ZipFile(archive) as file:
        members = [m for m in file.namelist() if m.startswith("PATIENT")]
        file.extractall(tmp_path, members)
    assert export(tmp_path / "PATIENT_DICOM", tmp_path / "out")["files"] == 119
