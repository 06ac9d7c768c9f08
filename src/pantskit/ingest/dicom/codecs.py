"""One compressed frame to its stored values, by one decoder a transfer syntax.

| syntax | decoder (all through imagecodecs) |
|---|---|
| RLE | its own |
| JPEG baseline, extended, lossless (both) | libjpeg-turbo |
| JPEG-LS lossless, near lossless | CharLS |
| JPEG 2000 and HTJ2K, lossless or not | OpenJPEG |

imagecodecs also has OpenJPH, twice as fast on HTJ2K; but its errors are lost on the way to
Python and a damaged codestream decodes to other values without a word.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError, Quarantined
from pantskit.ingest.dicom.headers import PixelFormat

Values = NDArray[Any]

_JPEG = "1.2.840.10008.1.2.4."
RLE = "1.2.840.10008.1.2.5"

# The frame markers that each syntax of the JPEG family may have.
_BASELINE, _EXTENDED, _LOSSLESS, _LS = 0xC0, 0xC1, 0xC3, 0xF7
_MARKERS = {
    _JPEG + "50": (_BASELINE,),
    _JPEG + "51": (_BASELINE, _EXTENDED),
    _JPEG + "57": (_LOSSLESS,),
    _JPEG + "70": (_LOSSLESS,),
    _JPEG + "80": (_LS,),
    _JPEG + "81": (_LS,),
}
_JPEG2000 = {_JPEG + n for n in ("90", "91", "201", "202", "203")}

LOSSY_SYNTAXES = {_JPEG + n for n in ("50", "51", "81", "91", "203")}

_NO_FRAME_MARKERS = {0xC4, 0xC8, 0xCC}  # tables and extensions among the numbers of frame markers
_END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True)
class Codestream:
    """What a compressed image says of itself.

    Attributes:
        rows, columns, components: its size.
        precision: bits of a value.
        signed: whether values can be negative; only JPEG 2000 can say so.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False


def decode_frame(data: bytes, syntax: str, pixels: PixelFormat, rows: int, columns: int) -> Values:
    """Stored values of one frame.

    Args:
        data: its compressed bytes, fragments joined.
        syntax: TransferSyntaxUID.
        pixels: what the header says of the values.
        rows, columns: size by the header.

    Returns:
        (rows, columns) integers of the header's type.

    Raises:
        ImageError: If the syntax has no decoder, or the codestream is not the image that the
            header describes, or it ends early.
        Quarantined: If header and codestream leave the sign of values open.
        Exception: Of many kinds, where it is damaged.
    """
    if syntax == RLE:
        return _rle(data, pixels, rows, columns)
    if syntax in _MARKERS:
        stream = _jpeg_header(data, _MARKERS[syntax])
        decoder: Callable[[bytes], Values] = (
            imagecodecs.jpegls_decode if _LS in _MARKERS[syntax] else _whole_jpeg
        )
    elif syntax in _JPEG2000:
        stream = _jpeg2000_header(data)
        decoder = partial(imagecodecs.jpeg2k_decode, numthreads=1)
    else:
        raise ImageError("a slice is compressed in a way that no decoder here reads")
    # Before any memory is taken for it.
    found = (stream.rows, stream.columns, stream.components)
    if found != (rows, columns, 1):
        raise ImageError(
            f"a slice holds an image of {found} rows, columns and components; its header says "
            f"({rows}, {columns}, 1)"
        )
    if stream.precision > pixels.allocated:
        raise ImageError(
            f"a slice holds values of {stream.precision} bits; its header has room for "
            f"{pixels.allocated}"
        )
    if not data.rstrip(b"\0").endswith(_END_OF_IMAGE):
        raise ImageError("a slice is truncated: its codestream has no end; send it again")
    values = np.asarray(decoder(data))
    if values.shape != (rows, columns):
        raise ImageError(f"a slice decodes to shape {values.shape}, expected {(rows, columns)}")
    return _as_declared(values, stream, pixels)


def _rle(data: bytes, pixels: PixelFormat, rows: int, columns: int) -> Values:
    size = rows * columns * pixels.allocated // 8
    out = bytearray(size)
    # More than fits raises; fewer leaves the rest of `out` 0.
    done = imagecodecs.dicomrle_decode(data, f"<u{pixels.allocated // 8}", out=out)
    if len(done) != size:
        raise ImageError("a slice is truncated: its compressed rows end early; send it again")
    kind = "i" if pixels.signed else "u"
    return np.frombuffer(out, f"<{kind}{pixels.allocated // 8}").reshape(rows, columns)


def _jpeg_header(data: bytes, markers: tuple[int, ...]) -> Codestream:
    """The frame header of the JPEG family (ISO 10918-1 B.2.2, 14495-1 C.2.2)."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_MARKERS) or marker == _LS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            if marker not in markers:
                raise ImageError(
                    "a slice is compressed in another way than its transfer syntax says; "
                    "export the series again"
                )
            return Codestream(rows, columns, components, precision)
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise ImageError("a slice holds no JPEG image; it is damaged")


def _jpeg2000_header(data: bytes) -> Codestream:
    """The SIZ segment (ISO 15444-1 A.5.1), which follows the start of the codestream."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # a JP2 box may stand before it
    if start < 0 or start + 45 > len(data):
        raise ImageError("a slice holds no JPEG 2000 image; it is damaged")
    right, bottom, left, top = struct.unpack_from(">4L", data, start + 8)
    components, depth = struct.unpack_from(">HB", data, start + 40)
    return Codestream(
        bottom - top, right - left, components, (depth & 0x7F) + 1, bool(depth & 0x80)
    )


def _whole_jpeg(data: bytes) -> Values:
    """Decode JPEG, refusing what ends early.

    libjpeg makes up what is missing of entropy-coded data and tells nobody; then the image
    depends on the bytes after them, and a whole one does not.
    """
    values = np.asarray(imagecodecs.jpeg8_decode(data))
    followed = data.rstrip(b"\0")[:-2] + b"\xaa" * 64 + _END_OF_IMAGE
    if not np.array_equal(values, imagecodecs.jpeg8_decode(followed)):
        raise ImageError("a slice is truncated: its compressed data end early; send it again")
    return values


def _as_declared(values: Values, stream: Codestream, pixels: PixelFormat) -> Values:
    """Decoded values in the header's type and sign.

    Codestreams but JPEG 2000's know no sign, and encoders often leave that one unset: then the
    bits are two's complement of the codestream's precision.
    """
    bits = pixels.allocated
    if not pixels.signed:
        if stream.signed and int(values.min()) < 0:
            raise Quarantined(
                "the compressed values are negative and the header calls them unsigned: which is "
                "right is open"
            )
        return values.astype(f"u{bits // 8}", copy=False)
    if stream.signed:
        return values.astype(f"i{bits // 8}", copy=False)
    half = 1 << (stream.precision - 1)
    if stream.precision < pixels.stored and int(values.max()) >= half:
        raise Quarantined(
            f"the header says {pixels.stored} signed bits and the compressed values have "
            f"{stream.precision} unsigned ones: which of them are negative is open"
        )
    unused = bits - stream.precision
    signed = values.astype(f"u{bits // 8}").view(f"i{bits // 8}")
    return np.asarray((signed << unused) >> unused)
