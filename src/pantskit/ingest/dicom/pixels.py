"""Pixels of a DICOM series, decoded slice by slice into one volume of Hounsfield units."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pantskit.core.errors import ImageError, PantskitError, Quarantined
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.ingest.dicom.codecs import LOSSY_SYNTAXES as LOSSY_SYNTAXES
from pantskit.ingest.dicom.codecs import decode_frame
from pantskit.ingest.dicom.elements import DEFLATED, PLAIN_SYNTAXES, inflated_object
from pantskit.ingest.dicom.encapsulated import Fragment, frame_fragments
from pantskit.ingest.dicom.geometry import IrregularStack, Stack, arrange_slices
from pantskit.ingest.dicom.headers import ImageHeader, PixelFormat
from pantskit.ingest.dicom.hounsfield import Clipped, to_float_hu, to_hu
from pantskit.ingest.dicom.placing import StandardArray, standard_slabs
from pantskit.ingest.dicom.resample import resample_labels, resample_stack, resampled_geometry
from pantskit.ingest.discovery.sources import Reader, SourceFile

# Scanners make 512 x 512 to 2048 x 2048; a header that says more was forged.
_MOST_PIXELS = 1 << 26
# Bytes of one object's pixels, the size up to which a member of an archive is read.
_MOST_BYTES = 1 << 31
# Stays in the processor's cache on its way from a file to the next.
_SLAB_BYTES = 1 << 19
_WHOLE = 1 << 62

Layout = Stack | IrregularStack


@dataclass(frozen=True)
class SeriesInHU:
    """A CT series that is decoded while it is taken.

    Attributes:
        geometry: its grid, in the standard orientation.
        layout: where the slices are, in the order of the source.
        slabs: (i, j, n) int16 HU in [-1000, 1000], in Fortran order: one after the other the
            volume's slices. A slab is valid until the next is taken, and the series is in order
            only when all were taken.
        clipped: what was clipped of the slabs taken (of a resampled series: of its slices before
            that).
    """

    geometry: Geometry
    layout: Layout
    slabs: Iterator[NDArray[np.int16]]
    clipped: Clipped


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
            pixels = _require_readable(header)
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


def read_series(
    slices: Sequence[ImageHeader],
    reader: Reader,
    *,
    allowed: Collection[str] = (),
) -> tuple[Volume, Clipped, Layout]:
    """Decode a CT series into one volume.

    Args:
        slices, reader, allowed: as for `series_in_hu`.

    Returns:
        int16 HU in [-1000, 1000] in the standard orientation and in Fortran order; what was
        clipped; where the slices are.

    Raises:
        ImageError, GeometryError, Quarantined: As `series_in_hu` and its slabs.
    """
    series = series_in_hu(slices, reader, allowed=allowed, slab_bytes=_WHOLE)
    (array,) = series.slabs
    return Volume(array, series.geometry), series.clipped, series.layout


def series_in_hu(
    slices: Sequence[ImageHeader],
    reader: Reader,
    *,
    allowed: Collection[str] = (),
    slab_bytes: int = _SLAB_BYTES,
) -> SeriesInHU:
    """A CT series to be decoded slab by slab, so that it is never in memory as a whole.

    Args:
        slices: its headers, complete and of one kind, in any order.
        reader: opens their files.
        allowed: what may be wrong with the stack: `"tilt"`, `"spacing"`; it is resampled onto a
            regular orthogonal grid then, as `resampling_record` tells, and is one slab.
        slab_bytes: of a slab; at least a slice is taken. Slices that are not axial make one slab.

    Raises:
        GeometryError, Quarantined: If the slices make no regular grid and resampling it was not
            allowed. While slabs are taken: if two slices at one position differ.
        ImageError: If a header promises more pixels than there are. While slabs are taken: if a
            slice cannot be decoded whole, or the values cannot be HU.
        Skipped: While slabs are taken: if they are those of a label map.
    """
    layout = series_layout(slices)
    if isinstance(layout, IrregularStack):
        layout.require(*allowed)
        grid = resampled_geometry(layout)
    else:
        grid = layout.geometry
    _require_whole(slices)
    clipped = Clipped()
    slabs = _decoded_slabs(slices, layout, reader, clipped, slab_bytes)
    return SeriesInHU(grid.reoriented(), layout, slabs, clipped)


def _decoded_slabs(
    slices: Sequence[ImageHeader],
    layout: Layout,
    reader: Reader,
    clipped: Clipped,
    slab_bytes: int,
) -> Iterator[NDArray[np.int16]]:
    with SliceReader(reader) as pixels:
        if isinstance(layout, IrregularStack):
            yield resample_stack(_hu_frames(slices, layout, pixels, clipped), layout).array
        else:
            for placed, numbers in standard_slabs(layout.geometry, np.int16, slab_bytes):
                for n, index in enumerate(layout.order[k] for k in numbers):
                    clipped.add(_into_hu(slices[index], pixels, placed.plane(n))[1])
                yield placed.array
        _require_equal_copies(slices, layout, pixels)
    clipped.require_hounsfield()


def read_mask_series(
    slices: Sequence[ImageHeader],
    reader: Reader,
    *,
    allowed: Collection[str] = (),
) -> Volume:
    """Decode a series whose non-zero pixels are a mask.

    Returns:
        bool, in the standard orientation; resampled by the nearest pixel to the grid that
        `read_series` would give a CT of these positions.

    Raises:
        ImageError, GeometryError, Quarantined: As `read_series`.
    """
    layout = series_layout(slices)
    if isinstance(layout, IrregularStack):
        layout.require(*allowed)
    _require_whole(slices)
    with SliceReader(reader) as pixels:
        if isinstance(layout, IrregularStack):
            frames = (pixels.read(slices[index]).pixels != 0 for index in layout.order)
            return resample_labels(frames, layout)
        placed = StandardArray(layout.geometry, np.bool_)
        for k, index in enumerate(layout.order):
            np.not_equal(pixels.read(slices[index]).pixels, 0, out=placed.plane(k))
    return placed.volume


def decode_slice(header: ImageHeader, reader: Reader) -> StoredSlice:
    """Stored pixels of one slice alone.

    Raises:
        ImageError: If they are truncated, damaged or in a syntax that no decoder reads.
        Quarantined: If two values are possible for a pixel.
    """
    with SliceReader(reader) as pixels:
        return pixels.read(header)


def series_layout(slices: Sequence[ImageHeader]) -> Layout:
    """Order and place of the slices of a series whose headers are complete and of one kind.

    Raises:
        GeometryError, Quarantined: As `arrange_slices`.
    """
    first = slices[0]
    assert first.orientation is not None and first.pixel_spacing is not None
    return arrange_slices(
        [s.position for s in slices],  # type: ignore[arg-type]  # complete: none is None
        first.orientation,
        first.pixel_spacing,
        rows=first.rows,
        columns=first.columns,
        instances=[s.instance for s in slices],
    )


def series_stack(slices: Sequence[ImageHeader]) -> Stack:
    """The same, refusing what makes no regular grid.

    Raises:
        GeometryError: As `arrange_slices`.
        Quarantined: If slices are missing, tilted or at varying distances.
    """
    layout = series_layout(slices)
    if isinstance(layout, IrregularStack):
        raise Quarantined(layout.message)
    return layout


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


def _require_whole(slices: Sequence[ImageHeader]) -> None:
    """Refuse headers that announce more pixels than there are, before memory is taken for them."""
    for header in slices:
        if header.fault:
            raise ImageError(header.fault)
        pixels = _require_readable(header)
        size = header.rows * header.columns * pixels.allocated // 8 * ((header.frame or 0) + 1)
        if pixels.length is not None and pixels.length < size:
            raise ImageError(
                f"a slice is truncated: {pixels.length} bytes of pixels, {size} expected; send "
                "the series again"
            )


def _require_readable(header: ImageHeader) -> PixelFormat:
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


def _into_hu(
    header: ImageHeader, pixels: SliceReader, out: NDArray[np.int16]
) -> tuple[StoredSlice, Clipped]:
    """Decode a slice and write its HU; its stored values come with it."""
    assert header.slope is not None and header.intercept is not None
    stored = pixels.raw(header)
    rescale = (header.slope, header.intercept)
    converted = to_hu(stored.pixels, *rescale, out, padding=stored.padding)
    values = significant_bits(stored.pixels, stored.format, converted.low, converted.high)
    if values is not stored.pixels:
        stored = StoredSlice(values, stored.padding, stored.format)
        converted = to_hu(values, *rescale, out, padding=stored.padding)
    return stored, converted.clipped


def _hu_frames(
    slices: Sequence[ImageHeader], layout: IrregularStack, pixels: SliceReader, clipped: Clipped
) -> Iterator[NDArray[np.float64]]:
    """Slices in HU for interpolation, in order; what a clip would change is counted."""
    clip = np.empty((layout.rows, layout.columns), np.int16)
    for index in layout.order:
        header = slices[index]
        assert header.slope is not None and header.intercept is not None
        stored, part = _into_hu(header, pixels, clip)
        clipped.add(part)
        yield to_float_hu(stored.pixels, header.slope, header.intercept, padding=stored.padding)


def _require_equal_copies(
    slices: Sequence[ImageHeader], layout: Layout, pixels: SliceReader
) -> None:
    for kept, other in layout.duplicates:
        a, b = slices[kept], slices[other]
        same = (a.slope, a.intercept) == (b.slope, b.intercept)
        if not same or not np.array_equal(pixels.read(a).pixels.copy(), pixels.read(b).pixels):
            raise Quarantined(
                "two slices at one position differ: several scans or phases lie in one series; "
                "separate them"
            )


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
