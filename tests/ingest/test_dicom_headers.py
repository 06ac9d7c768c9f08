"""Headers as they are cut here, against pydicom's reading of the same bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pantskit.core.errors import ImageError
from pantskit.ingest.dicom import elements
from pantskit.ingest.dicom.headers import CT_IMAGE, read_header
from pantskit.ingest.dicom.pixels import decode_slice
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.privacy.identifiers import identifying_values

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


def image(series, **attributes) -> FileDataset:
    one = series(attributes=attributes).dataset(2)
    one.SpecificCharacterSet = "ISO_IR 100"
    one.ReferringPhysicianName = "Weiß^Jörg"
    one.AcquisitionDate, one.AcquisitionTime = "20140902", "101500"
    one.ConvolutionKernel = ["I30f", "2"]
    one.GantryDetectorTilt = -3.5
    item, inner = Dataset(), Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.826.0.1.99"
    item.ReferencedImageSequence = [inner]
    item.ContentCreatorName = "Nested^Person"
    one.RequestAttributesSequence = [item]
    block = one.private_block(0x0029, "ACME", create=True)
    block.add_new(0x10, "LO", "private text of acme")
    return one


def raw_bytes(one: FileDataset, syntax=ExplicitVRLittleEndian) -> bytes:
    one.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        one.PixelData = np.frombuffer(one.PixelData, np.uint16).byteswap().tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(
        stream,
        one,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return stream.getvalue()


def header_of(raw: bytes, known=None, path: Path = Path("in/a")):
    (header,) = read_header(io.BytesIO(raw), SourceFile(path), {} if known is None else known)
    return header


def identified(header) -> set[str]:
    return {value for part in header.identifiers for value in part}


@pytest.mark.parametrize("lengths", ["defined", "undefined"])
@pytest.mark.parametrize("syntax", [*SYNTAXES, DeflatedExplicitVRLittleEndian])
def test_header_says_the_same_in_every_encoding(series, syntax, lengths):
    one = image(series)
    for sequence in (one.RequestAttributesSequence, one.RequestAttributesSequence[0][0x00081140]):
        element = one[0x00400275] if sequence is one.RequestAttributesSequence else sequence
        element.is_undefined_length = lengths == "undefined"
        for item in element.value:
            item.is_undefined_length_sequence_item = lengths == "undefined"
    header = header_of(raw_bytes(one, syntax))
    assert header.position == (-100.0, -120.0, 55.0)
    assert (header.rows, header.columns, header.slope, header.intercept) == (6, 8, 1, -1024)
    assert (header.kernel, header.acquired, header.tilt) == ("I30f\\2", "20140902101500", -3.5)
    assert header.description["PatientName"] == "Quellmann^Ludmilla"
    assert (header.frame, header.stack, header.frames) == (None, "", 1)
    assert {"weiss", "jorg", "nested person", "uid:1.2.826.0.1.99"} <= identified(header)
    assert header.fault == ""


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_identifying_values_are_those_of_pydicoms_reading(series, syntax):
    raw = raw_bytes(image(series), syntax)
    dataset = pydicom.dcmread(io.BytesIO(raw), stop_before_pixels=True)
    expected = {value for part in identifying_values(dataset) for value in part}
    assert identified(header_of(raw)) == expected


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("UI", b"1.2.826.0.1.7\0"),
        ("UI", b"1.2.826.0.1.77 "),
        ("UI", b" 1.2.826.0.1.7\0\0"),
        ("UI", b"1.2.3.4\\1.2.3.5"),
        ("UI", b"Quellmann "),
        ("UI", b""),
        ("DA", b"20140902"),
        ("DA", b"2014.09.02"),
        ("DA", b"02/09/14"),
        ("DA", b"20140902\\20150101 "),
        ("TM", b"101500.25 "),
        ("TM", b"10:15:00"),
        ("TM", b"\x1b(B1015"),
        ("TM", "1015 Weiß".encode()),
    ],
)
def test_values_read_without_pydicom_are_as_pydicom_reads_them(series, vr, value):
    keyword = {"UI": "StudyInstanceUID", "DA": "AcquisitionDate", "TM": "AcquisitionTime"}[vr]
    one = image(series)
    setattr(one, keyword, {"UI": "1.2.9", "DA": "19990101", "TM": "000001"}[vr])
    raw = raw_bytes(one)
    at = raw.index(_head(keyword, vr))
    length = int.from_bytes(raw[at + 6 : at + 8], "little")
    value += b"\0" * (len(value) % 2)
    raw = raw[: at + 6] + len(value).to_bytes(2, "little") + value + raw[at + 8 + length :]
    cut, parsed = header_of(raw), _parsed(raw)
    assert identified(cut) == identified(parsed)
    assert cut.study_uid == parsed.study_uid
    assert cut.acquired == parsed.acquired


@pytest.mark.parametrize(
    ("intercept", "expected"),
    [
        (b"-1024 ", -1024),
        (b" -1024", -1024),
        (b"-1024\0", -1024),
        (bytes(3) + b"24 ", None),
        (b"-1_024", None),
        (b"-1024\0 5", None),
    ],
)
def test_number_with_damage_before_or_in_its_digits_is_none(series, intercept, expected):
    one = image(series)
    one.RescaleIntercept = "-7.125"
    raw = raw_bytes(one).replace(b"\x06\0-7.125", struct.pack("<H", len(intercept)) + intercept)
    assert header_of(raw).intercept == expected


def _head(keyword: str, vr: str) -> bytes:
    tag = int(pydicom.tag.Tag(keyword))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()


def _parsed(raw: bytes):
    """The same header when it is left to pydicom: an element is out of order."""
    modality = raw.index(_head("Modality", "CS"))
    pixels = raw.index(b"\xe0\x7f\x10\x00OW")
    return header_of(raw[:pixels] + raw[modality : modality + 10] + raw[pixels:])


def test_equal_bytes_in_another_character_set_are_another_name(series):
    known: dict = {}
    names = []
    for charset in ("ISO_IR 100", "ISO_IR 144"):
        one = image(series)
        one.SpecificCharacterSet = "ISO_IR 100"
        raw = raw_bytes(one).replace(b"ISO_IR 100", charset.encode())
        names.append(identified(header_of(raw, known)))
    assert "weiss" in names[0]
    assert "weiss" not in names[1]


def test_series_of_headers_shares_what_is_the_same(series):
    known: dict = {}
    one, two = (header_of(raw_bytes(series().dataset(k)), known) for k in (0, 1))
    assert one.position != two.position
    assert one.instance == 1
    assert two.instance == 2
    shared = [part for part in one.identifiers if any(part is other for other in two.identifiers)]
    assert any("quellmann" in part for part in shared)


def test_elements_out_of_order_are_left_to_pydicom(series):
    raw = raw_bytes(image(series))
    at = raw.index(b"\x08\x00\x60\x00CS")  # Modality, once more behind the rest
    modality = raw[at : at + 10]
    pixels = raw.index(b"\xe0\x7f\x10\x00OW")
    header = header_of(raw[:pixels] + modality + raw[pixels:])
    assert header.modality == "CT"
    assert header.pixels.offset == pixels + 10 + 12


def test_pixels_are_found_where_pydicom_finds_them(series, tmp_path):
    made = series()
    for syntax in SYNTAXES:
        one = made.dataset(1)
        path = tmp_path / str(SYNTAXES.index(syntax))
        path.write_bytes(raw_bytes(one, syntax))
        header = header_of(path.read_bytes(), path=path)
        with Reader() as reader:
            found = decode_slice(header, reader).pixels
        np.testing.assert_array_equal(found, made.stored[1])
        np.testing.assert_array_equal(found, pydicom.dcmread(path).pixel_array)


def test_long_header_is_read_to_its_end(series):
    one = image(series)
    block = one.private_block(0x0031, "ACME", create=True)
    for n in range(8):
        block.add_new(0x10 + n, "OB", bytes([n]) * 40_000)
    header = header_of(raw_bytes(one))
    assert header.pixels.length == 6 * 8 * 2
    assert header.position is not None


def test_header_beyond_all_measure_is_refused(series, monkeypatch):
    monkeypatch.setattr(elements, "_MOST_BYTES", 1 << 17)
    one = image(series)
    block = one.private_block(0x0031, "ACME", create=True)
    block.add_new(0x10, "OB", b"\1" * 2_000_000)
    with pytest.raises(ImageError, match="a header of more than"):
        header_of(raw_bytes(one))


def test_deflated_header_without_end_is_not_inflated_without_end(series, monkeypatch):
    monkeypatch.setattr(elements, "_MOST_BYTES", 1 << 20)
    one = image(series)
    block = one.private_block(0x0031, "ACME", create=True)
    block.add_new(0x10, "OB", b"\0" * 100_000_000)
    raw = raw_bytes(one, DeflatedExplicitVRLittleEndian)
    assert len(raw) < 200_000
    with pytest.raises(ImageError, match="a header of more than"):
        header_of(raw)


@pytest.mark.parametrize("keep", [131, 140, 300, 500])
def test_header_that_is_cut_is_refused_or_lacks_pixels(series, keep):
    try:
        pixels = header_of(raw_bytes(image(series))[:keep]).pixels
    except ImageError:
        pixels = None
    assert pixels is None


def test_headers_of_objects_without_pixels_have_none(series):
    one = image(series)
    del one.PixelData
    header = header_of(raw_bytes(one))
    assert header.pixels is None
    assert header.sop_class == CT_IMAGE == CTImageStorage


def modality_table() -> list[Dataset]:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [2, 0, 16], "HU"
    table.LUTData = b"\0\0\1\0"
    table["LUTData"].VR = "OW"
    return [table]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ModalityLUTSequence": modality_table()}, "a look-up table"),
        ({"HighBit": 15, "BitsStored": 12}, "which bits they are is open"),
        ({"PixelRepresentation": 32}, "whether it can be negative"),
    ],
)
def test_headers_that_leave_the_values_open_say_so(series, run, tmp_path, attributes, reason):
    made = series(attributes=attributes)
    assert reason in header_of(raw_bytes(made.dataset(0))).fault
    result = run(made.write(tmp_path / "in"))
    assert result.statuses == ["failed"]
    assert reason in result.message
    assert result.files == []


def test_floating_point_pixels_are_refused_with_the_reason(series, run, tmp_path):
    made = series()
    (tmp_path / "in").mkdir()
    for k in range(5):
        one = made.dataset(k)
        del one.PixelData
        one.FloatPixelData = np.zeros((6, 8), np.float32).tobytes()
        one.BitsAllocated = 32
        one.save_as(tmp_path / "in" / str(k), enforce_file_format=True)
    result = run(tmp_path / "in")
    assert result.statuses == ["failed"]
    assert "floating-point" in result.message


def test_file_that_changed_since_it_was_listed_is_refused(series, tmp_path):
    made = series()
    path = tmp_path / "a"
    path.write_bytes(raw_bytes(made.dataset(0)))
    header = header_of(path.read_bytes(), path=path)
    path.write_bytes(raw_bytes(image(series)))
    with Reader() as reader, pytest.raises(ImageError, match="not as it was"):
        decode_slice(header, reader)


def test_padding_value_is_read_from_an_implicit_header(series):
    one = image(series, PixelPaddingValue=63536)
    assert header_of(raw_bytes(one, ImplicitVRLittleEndian)).pixels.padding == (63536,)
