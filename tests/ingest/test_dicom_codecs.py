"""Every transfer syntax from pixels that are known: what was encoded comes back, bit by bit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import openjpeg
import pydicom
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder

from pantskit.core.errors import ImageError, Quarantined
from pantskit.ingest.dicom.headers import read_header
from pantskit.ingest.dicom.pixels import LOSSY_SYNTAXES, decode_slice
from pantskit.ingest.dicom.stacks import read_series
from pantskit.ingest.discovery.sources import Reader, SourceFile

ROWS, COLUMNS = 37, 42
JPEG = "1.2.840.10008.1.2.4."
RLE, DEFLATED, BIG_ENDIAN, IMPLICIT, EXPLICIT = (
    f"1.2.840.10008.1.2{end}" for end in (".5", ".1.99", ".2", "", ".1")
)


@dataclass(frozen=True)
class Bits:
    stored: int
    signed: bool

    @property
    def values(self) -> np.ndarray:
        """Noise over the whole range, which hides no bit, and a flat part."""
        low = -(1 << self.stored - 1) if self.signed else 0
        made = np.random.default_rng(3).integers(low, low + (1 << self.stored), (ROWS, COLUMNS))
        made[10:20] = low + 7
        made[0, :2] = low, low + (1 << self.stored) - 1
        return made.astype(np.int16 if self.signed else np.uint16)

    @property
    def unsigned(self) -> np.ndarray:
        """The same bits as codecs see them that know no sign."""
        return self.values.view(np.uint16) & np.uint16((1 << self.stored) - 1)


ALL_BITS = [Bits(12, False), Bits(16, False), Bits(12, True), Bits(16, True)]


def rle(bits: Bits) -> bytes:
    return RLELosslessEncoder.encode(
        bits.values.view(np.uint16), rows=ROWS, columns=COLUMNS, samples_per_pixel=1,
        bits_allocated=16, bits_stored=16, pixel_representation=0, number_of_frames=1,
        photometric_interpretation="MONOCHROME2",
    )  # fmt: skip


def jpeg_lossless(predictor: int) -> Callable[[Bits], bytes]:
    def encode(bits: Bits) -> bytes:
        return bytes(
            imagecodecs.jpeg8_encode(
                bits.unsigned, lossless=True, predictor=predictor, bitspersample=bits.stored
            )
        )

    return encode


def jpeg_ls(bits: Bits) -> bytes:
    return bytes(imagecodecs.jpegls_encode(bits.unsigned))


def jpeg_2000(bits: Bits) -> bytes:
    return bytes(encode_array(bits.values, bits_stored=bits.stored, photometric_interpretation=2))


def jpeg_2000_without_sign(bits: Bits) -> bytes:
    return bytes(encode_array(bits.unsigned, bits_stored=bits.stored, photometric_interpretation=2))


def htj2k(bits: Bits) -> bytes:
    return bytes(imagecodecs.htj2k_encode(bits.values, reversible=True))


LOSSLESS = {
    "RLE": (RLE, rle),
    "JPEG lossless": (JPEG + "57", jpeg_lossless(6)),
    "JPEG lossless, first-order": (JPEG + "70", jpeg_lossless(1)),
    "JPEG-LS": (JPEG + "80", jpeg_ls),
    "JPEG-LS near lossless at 0": (JPEG + "81", jpeg_ls),
    "JPEG 2000": (JPEG + "90", jpeg_2000),
    "JPEG 2000 without sign": (JPEG + "90", jpeg_2000_without_sign),
    "JPEG 2000, lossy allowed": (JPEG + "91", jpeg_2000),
    "HTJ2K": (JPEG + "201", htj2k),
    "HTJ2K RPCL": (JPEG + "202", htj2k),
    "HTJ2K, lossy allowed": (JPEG + "203", htj2k),
}


def written(series, path, bits: Bits, syntax: str, codestream: bytes, **attributes: Any):
    """A slice of those bits in that syntax, as a file; its header as read back."""
    made = series(stored=np.stack([bits.values] * 2), attributes=attributes).dataset(0)
    made.BitsStored, made.HighBit = bits.stored, bits.stored - 1
    made.PixelRepresentation = int(bits.signed)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([codestream])
    made["PixelData"].is_undefined_length = True
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    made.save_as(path, enforce_file_format=True)
    return header_of(path)


def header_of(path):
    with path.open("rb") as stream:
        (header,) = read_header(stream, SourceFile(path), {})
    return header


def decoded(header) -> np.ndarray:
    with Reader() as reader:
        return decode_slice(header, reader).pixels


@pytest.mark.parametrize("bits", ALL_BITS, ids=str)
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_syntax_gives_the_stored_values_back(series, tmp_path, name, bits):
    syntax, encode = LOSSLESS[name]
    header = written(series, tmp_path / "a", bits, syntax, encode(bits))
    found = decoded(header)
    assert found.dtype == bits.values.dtype
    np.testing.assert_array_equal(found, bits.values)


@pytest.mark.parametrize("bits", ALL_BITS, ids=str)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_uncompressed_syntax_gives_the_stored_values_back(series, tmp_path, syntax, bits):
    made = series(stored=np.stack([bits.values] * 2)).dataset(0)
    made.BitsStored, made.HighBit = bits.stored, bits.stored - 1
    made.PixelPaddingValue = 5
    made.file_meta.TransferSyntaxUID = syntax
    if syntax == BIG_ENDIAN:
        made.PixelData = bits.values.astype(">u2" if not bits.signed else ">i2").tobytes()
    pydicom.dcmwrite(
        tmp_path / "a",
        made,
        implicit_vr=syntax == IMPLICIT,
        little_endian=syntax != BIG_ENDIAN,
        enforce_file_format=True,
    )
    header = header_of(tmp_path / "a")
    np.testing.assert_array_equal(decoded(header), bits.values)
    assert header.pixels.padding == (5,)
    assert header.position == (-100.0, -120.0, 50.0)


def test_near_lossless_jpeg_ls_is_within_its_bound(series, tmp_path):
    bits = Bits(12, False)
    values = bits.values // 2 + 1000  # what is lost stays within 12 bits
    codestream = bytes(imagecodecs.jpegls_encode(values, level=3))
    found = decoded(written(series, tmp_path / "a", bits, JPEG + "81", codestream))
    difference = np.abs(found.astype(int) - values)
    assert 0 < difference.max() <= 3


@pytest.mark.parametrize("signed", [False, True])
def test_lossy_jpeg_2000_is_what_another_decoder_makes_of_it(series, tmp_path, signed):
    bits = Bits(12, signed)
    values = (np.cumsum(np.cumsum(np.ones((ROWS, COLUMNS)), 0), 1) % 1800).astype(np.int16)
    values = values - 900 if signed else values.astype(np.uint16)
    codestream = bytes(
        encode_array(
            values, bits_stored=12, photometric_interpretation=2, compression_ratios=[6, 3]
        )
    )
    found = decoded(written(series, tmp_path / "a", bits, JPEG + "91", codestream))
    assert np.abs(found.astype(int) - values).max() > 0
    np.testing.assert_array_equal(found, openjpeg.decode(codestream))


def test_lossy_htj2k_is_what_another_decoder_makes_of_it(series, tmp_path):
    bits = Bits(12, False)
    values = bits.values // 2 + 1000
    codestream = bytes(imagecodecs.htj2k_encode(values, level=0.01, reversible=False))
    found = decoded(written(series, tmp_path / "a", bits, JPEG + "203", codestream))
    other = imagecodecs.htj2k_decode(codestream)  # OpenJPH
    assert np.abs(found.astype(int) - values).max() > 0
    assert np.abs(found.astype(int) - other).max() <= 1  # each rounds for itself


def test_jpeg_baseline_is_what_another_decoder_makes_of_it(series, tmp_path):
    values = np.tile(np.arange(COLUMNS, dtype=np.uint8) * 5, (ROWS, 1))
    codestream = bytes(imagecodecs.jpeg8_encode(values, level=90))
    (tmp_path / "b.jpg").write_bytes(codestream)
    header = written(
        series, tmp_path / "a", Bits(8, False), JPEG + "50", codestream, BitsAllocated=8
    )
    np.testing.assert_array_equal(decoded(header), np.asarray(Image.open(tmp_path / "b.jpg")))


def test_twelve_bit_jpeg_extended_is_near_what_was_encoded(series, tmp_path):
    values = np.tile(np.arange(COLUMNS, dtype=np.uint16) * 90, (ROWS, 1))
    codestream = bytes(imagecodecs.jpeg8_encode(values, level=98, bitspersample=12))
    found = decoded(written(series, tmp_path / "a", Bits(12, False), JPEG + "51", codestream))
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - values).max() <= 12  # of 4096


def test_lossy_syntaxes_are_known_as_such():
    assert {JPEG + n for n in ("50", "51", "81", "91", "203")} == LOSSY_SYNTAXES


def test_volume_of_a_compressed_series_is_that_of_the_plain_one(series, tmp_path):
    values = np.random.default_rng(5).integers(0, 4096, (4, ROWS, COLUMNS)).astype(np.uint16)
    made = series(stored=values)
    headers = []
    for k in range(4):
        one = made.dataset(k)
        one.file_meta.TransferSyntaxUID = JPEG + "80"
        one.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(values[k]))])
        one["PixelData"].is_undefined_length = True
        one.save_as(tmp_path / str(k), enforce_file_format=True)
        headers.append(header_of(tmp_path / str(k)))
    with Reader() as reader:
        volume, _, _ = read_series(headers, reader)
    found = volume.reoriented("LPS").array.transpose(2, 1, 0)
    np.testing.assert_array_equal(found, made.hu)


DAMAGED = {name: LOSSLESS[name] for name in LOSSLESS if "allowed" not in name}


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", DAMAGED)
def test_compressed_pixels_that_end_early_are_refused(series, tmp_path, name, share):
    syntax, encode = DAMAGED[name]
    whole = encode(Bits(12, False))
    cut = whole[: int(len(whole) * share)]
    if syntax != RLE:
        cut += whole[-2:]  # with the mark of the end, as a repaired file has it
    header = written(series, tmp_path / "a", Bits(12, False), syntax, cut)
    with pytest.raises(ImageError, match=r"truncated|cannot be decoded"):
        decoded(header)


@pytest.mark.parametrize("lost", [1, 9, 300])
def test_compressed_file_that_was_cut_is_refused(series, tmp_path, lost):
    bits = Bits(12, False)
    written(series, tmp_path / "a", bits, JPEG + "80", jpeg_ls(bits))
    raw = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(raw[:-lost])
    with pytest.raises(ImageError, match="truncated"):
        decoded(header_of(tmp_path / "a"))


@pytest.mark.parametrize("name", [n for n in DAMAGED if n != "RLE"])
def test_codestream_of_another_size_is_refused_before_it_is_decoded(series, tmp_path, name):
    syntax, encode = DAMAGED[name]
    whole = bytearray(encode(Bits(12, False)))
    if whole[:2] == b"\xff\x4f":
        struct.pack_into(">LL", whole, 8, 60000, 60000)
    else:
        marker = next(
            i for i in range(len(whole)) if whole[i] == 0xFF and whole[i + 1] in (0xC3, 0xF7)
        )
        struct.pack_into(">HH", whole, marker + 5, 60000, 60000)
    header = written(series, tmp_path / "a", Bits(12, False), syntax, bytes(whole))
    with pytest.raises(ImageError, match=r"an image of \(60000, 60000, 1\)"):
        decoded(header)


def test_rle_that_expands_beyond_the_image_is_refused(series, tmp_path):
    rows = b"\x81\x00" * 50_000  # 128 zeros for each pair of bytes
    bomb = struct.pack("<16L", 2, 64, 64 + len(rows), *[0] * 13) + rows * 2
    header = written(series, tmp_path / "a", Bits(12, False), RLE, bomb)
    with pytest.raises(ImageError, match="cannot be decoded"):
        decoded(header)


def test_deflated_object_is_inflated_no_further_than_its_pixels(series, tmp_path):
    made = series(stored=np.zeros((2, ROWS, COLUMNS), np.uint16)).dataset(0)
    made.DataSetTrailingPadding = b"\0" * 50_000_000  # after the pixels
    made.file_meta.TransferSyntaxUID = DEFLATED
    made.save_as(tmp_path / "a", enforce_file_format=True)
    assert (tmp_path / "a").stat().st_size < 100_000
    header = header_of(tmp_path / "a")
    assert header.pixels.offset + header.pixels.length < 10_000
    np.testing.assert_array_equal(decoded(header), 0)


def test_deflated_pixels_that_end_early_are_refused(series, tmp_path):
    bits = Bits(12, False)
    made = series(stored=np.stack([bits.values] * 2)).dataset(0)
    made.file_meta.TransferSyntaxUID = DEFLATED
    made.save_as(tmp_path / "a", enforce_file_format=True)
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-800])
    with pytest.raises(ImageError, match=r"truncated|cannot be decoded"):
        decoded(header_of(tmp_path / "a"))


def test_deflated_object_whose_end_is_damaged_is_refused_though_its_pixels_are_there(
    series, tmp_path
):
    made = series().dataset(0)
    made.DataSetTrailingPadding = b"\0" * 20_000
    made.file_meta.TransferSyntaxUID = DEFLATED
    made.save_as(tmp_path / "a", enforce_file_format=True)
    whole = (tmp_path / "a").read_bytes()
    decoded(header_of(tmp_path / "a"))
    (tmp_path / "a").write_bytes(whole[:-12])
    with pytest.raises(ImageError, match="without an end"):
        decoded(header_of(tmp_path / "a"))


def test_other_codec_than_the_syntax_names_is_refused(series, tmp_path):
    bits = Bits(12, False)
    lossy = bytes(imagecodecs.jpeg8_encode(bits.values, level=95, bitspersample=12))
    header = written(series, tmp_path / "a", bits, JPEG + "70", lossy)
    with pytest.raises(ImageError, match="in another way than its transfer syntax says"):
        decoded(header)


def test_video_and_other_syntaxes_are_refused_in_words(series, tmp_path):
    header = written(series, tmp_path / "a", Bits(12, False), JPEG + "102", b"\0" * 100)
    with pytest.raises(ImageError, match="no decoder here reads"):
        decoded(header)


def test_negative_codestream_under_an_unsigned_header_is_open(series, tmp_path):
    values = Bits(12, True)
    header = written(series, tmp_path / "a", Bits(12, False), JPEG + "90", jpeg_2000(values))
    with pytest.raises(Quarantined, match="which is right is open"):
        decoded(header)


def test_signed_codestream_without_negative_values_fits_an_unsigned_header(series, tmp_path):
    values = np.abs(Bits(12, True).values.astype(int)).clip(0, 2047).astype(np.int16)
    codestream = bytes(encode_array(values, bits_stored=12, photometric_interpretation=2))
    header = written(series, tmp_path / "a", Bits(12, False), JPEG + "90", codestream)
    np.testing.assert_array_equal(decoded(header), values)


def test_fewer_bits_than_the_signed_header_declares_leave_the_sign_open(series, tmp_path):
    codestream = bytes(encode_array(Bits(12, False).values, bits_stored=12))
    header = written(series, tmp_path / "a", Bits(16, True), JPEG + "90", codestream)
    with pytest.raises(Quarantined, match="which of them are negative is open"):
        decoded(header)
