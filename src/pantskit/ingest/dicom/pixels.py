"""Stored pixels of a DICOM slice, as its header says they are to be read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pantskit.core.errors import ImageError, PantskitError, Quarantined
from pantskit.ingest.dicom.codecs import LOSSY_SYNTAXES as LOSSY_SYNTAXES
from pantskit.ingest.dicom.codecs import decode_frame
from pantskit.ingest.dicom.elements import DEFLATED, PLAIN_SYNTAXES, inflated_object
from pantskit.ingest.dicom.encapsulated import Fragment, frame_fragments
from pantskit.ingest.dicom.headers import ImageHeader, PixelFormat
from pantskit.ingest.discovery.sources import Reader, SourceFile

# Scanners make 512 x 512 to 2048 x 2048; a header that says more was forged.
_MOST_PIXELS = 1 << 26
# Bytes of one object's pixels, the size up to which a member of an archive is read.
_MOST_BYTES = 1 << 31


@dataclass(frozen=True)
class StoredSlice:
    """Decoded pixels of one slice, before the rescale.

    Attributes:
        pixels: (rows, columns) integers; valid until the next slice is read.
        padding: lowest and highest stored value that stand for padding, or None.
        format: what the header says of its bits.
    """

    pixels: NDArray[Any]
    padding: tuple[float, float] | None
    format: PixelFormat


class SliceReader:
    """Reads stored pixels; an object of many frames is opened and cut into frames once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._file: SourceFile | None = None
        self._stream: IO[bytes] = io.BytesIO()
        self._fragments: list[list[Fragment]] | None = None
        self._buffer = bytearray()

    def __enter__(self) -> SliceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, header: ImageHeader) -> StoredSlice:
        """Stored pixels of one slice, unused bits taken care of.

        Raises:
            ImageError: If they are truncated, damaged or in a syntax that no decoder reads.
            Quarantined: If two values are possible for a pixel.
        """
        stored = self.raw(header)
        low, high = int(stored.pixels.min()), int(stored.pixels.max())
        pixels = significant_bits(stored.pixels, stored.format, low, high)
        return StoredSlice(pixels, stored.padding, stored.format)

    def raw(self, header: ImageHeader) -> StoredSlice:
        """The same with unused bits as they are: `significant_bits` is still to be applied."""
        try:
            if header.fault:
                raise ImageError(header.fault)
            pixels = require_readable(header)
            self._open(header)
            if (pixels.length is None) == (header.transfer_syntax in PLAIN_SYNTAXES):
                raise ImageError(
                    "a slice is damaged: whether its pixels are compressed is told in two ways"
                )
            if pixels.length is None:
                values = self._decompressed(header, pixels)
            else:
                values = self._plain(header, pixels, pixels.length)
        except PantskitError:
            raise
        # Decoders raise nearly anything on damaged bytes, with header text in the message.
        except Exception as error:
            syntax = pydicom.uid.UID(header.transfer_syntax).name
            raise ImageError(
                f"a slice cannot be decoded ({type(error).__name__}; {syntax}): it is truncated "
                "or damaged; send it again"
            ) from None
        ends = [_as_stored(value, values.dtype) for value in pixels.padding]
        return StoredSlice(values, (min(ends), max(ends)) if ends else None, pixels)

    def _open(self, header: ImageHeader) -> None:
        """Have the object's stream at hand, inflated where it is deflated."""
        if header.file == self._file:
            return
        assert header.pixels is not None
        self._stream.close()
        self._file, self._fragments = None, None
        self._stream = self._reader.read(header.file)
        if header.transfer_syntax == DEFLATED:
            size = header.pixels.offset + (header.pixels.length or 0)
            if size > _MOST_BYTES:
                raise ImageError(
                    f"a slice would inflate to {size} bytes; such an object is not read"
                )
            with self._stream as packed:
                self._stream = io.BytesIO(inflated_object(packed, size))
        self._stream.seek(header.pixels.offset - 12)
        tag = b"\x7f\xe0\x00\x10" if header.pixels.big_endian else b"\xe0\x7f\x10\x00"
        if tag not in self._stream.read(12):
            raise ImageError("a file is not as it was when it was listed; run again")
        self._file = header.file

    def _plain(self, header: ImageHeader, pixels: PixelFormat, length: int) -> NDArray[Any]:
        size = header.rows * header.columns * pixels.allocated // 8
        if length >= size * (pixels.frames + 1):
            raise ImageError(
                f"a slice is damaged: {length} bytes of pixels, {size * pixels.frames} expected"
            )
        start = size * (header.frame or 0)
        self._stream.seek(pixels.offset + start)
        if len(self._buffer) != size:
            self._buffer = bytearray(size)
        done = _read_into(self._stream, memoryview(self._buffer)[: max(length - start, 0)])
        if done < size:
            raise ImageError(
                f"a slice is truncated: {done} bytes of pixels, {size} expected; send the series "
                "again"
            )
        order = ">" if pixels.big_endian else "<"
        dtype = np.dtype(f"{order}{'i' if pixels.signed else 'u'}{pixels.allocated // 8}")
        values = np.frombuffer(self._buffer, dtype).reshape(header.rows, header.columns)
        return values.astype(dtype.newbyteorder("="), copy=False)

    def _decompressed(self, header: ImageHeader, pixels: PixelFormat) -> NDArray[Any]:
        if self._fragments is None:
            self._fragments = frame_fragments(self._stream, pixels.offset, pixels.frames)
        data = []
        for start, length in self._fragments[header.frame or 0]:
            self._stream.seek(start)
            data.append(self._stream.read(length))
        syntax = header.transfer_syntax
        return decode_frame(b"".join(data), syntax, pixels, header.rows, header.columns)


def decode_slice(header: ImageHeader, reader: Reader) -> StoredSlice:
    """Stored pixels of one slice alone.

    Raises:
        ImageError: If they are truncated, damaged or in a syntax that no decoder reads.
        Quarantined: If two values are possible for a pixel.
    """
    with SliceReader(reader) as pixels:
        return pixels.read(header)


def significant_bits(
    pixels: NDArray[Any], format: PixelFormat, low: float, high: float
) -> NDArray[Any]:
    """Pixels with the sign bit of BitsStored spread over the unused high bits.

    The standard lets a writer leave them 0 or fill them with the sign; anything else
    (overlays of old scanners, a wrong BitsStored) leaves the value open.

    Args:
        pixels: stored values.
        format: what the header says of them.
        low, high: their extremes.

    Raises:
        Quarantined: If unused bits hold something else.
    """
    unused = format.allocated - format.stored
    if unused <= 0:
        return pixels
    if not format.signed:
        if high < 1 << format.stored:
            return pixels
    elif -(1 << format.stored - 1) <= low and high < 1 << format.stored - 1:
        return pixels
    elif low >= 0 and high < 1 << format.stored:
        return np.asarray((pixels << unused) >> unused)
    raise Quarantined(f"pixels use bits beyond the {format.stored} that the header declares")


def require_readable(header: ImageHeader) -> PixelFormat:
    """What the header says of its pixels.

    Raises:
        ImageError: If there are none, or they are of a size or kind that no CT has.
    """
    pixels = header.pixels
    if pixels is None:
        raise ImageError("a slice has no pixels; send the series again")
    if not 0 < header.rows * header.columns <= _MOST_PIXELS:
        raise ImageError(f"a slice of {header.rows} x {header.columns} pixels is not read")
    if pixels.samples != 1:
        raise ImageError(f"a slice has {pixels.samples} values for each pixel, expected one")
    if pixels.allocated not in (8, 16, 32) or not 1 <= pixels.stored <= pixels.allocated:
        raise ImageError(
            f"{pixels.stored} of {pixels.allocated} bits hold a value; expected up to 8, 16 or 32"
        )
    return pixels


def _read_into(stream: IO[bytes], view: memoryview) -> int:
    done = 0
    while done < len(view):
        piece = stream.readinto(view[done:])  # type: ignore[attr-defined]  # all streams here have it
        if not piece:
            break
        done += piece
    return done


def _as_stored(value: int, dtype: np.dtype[Any]) -> int:
    """A header value in the pixels' own signedness: the header may hold 63536 for -2000."""
    bits = dtype.itemsize * 8
    value %= 1 << bits
    return value - (1 << bits) if dtype.kind == "i" and value >> (bits - 1) else value
