"""Pixels of a DICOM series, decoded slice by slice into one volume of Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from pantskit.core.errors import ImageError, PantskitError, Quarantined
from pantskit.core.volume import Volume
from pantskit.ingest.dicom_geometry import Stack, stack_slices
from pantskit.ingest.headers import ImageHeader
from pantskit.ingest.hounsfield import Clipped, to_hu
from pantskit.ingest.sources import Reader

_PIXEL_TAGS = [
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelData",
]

LOSSY_SYNTAXES = {
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.203",  # HTJ2K
}


@dataclass(frozen=True)
class StoredSlice:
    """Decoded pixels of one object, before the rescale.

    Attributes:
        pixels: (rows, columns) integers.
        padding: lowest and highest stored value that stand for padding, or None.
    """

    pixels: NDArray[Any]
    padding: tuple[float, float] | None


def series_stack(slices: Sequence[ImageHeader]) -> Stack:
    """Order and grid of a series whose headers are complete and of one kind.

    Raises:
        GeometryError, Quarantined: As `stack_slices`.
    """
    first = slices[0]
    assert first.orientation is not None and first.pixel_spacing is not None
    return stack_slices(
        [s.position for s in slices],  # type: ignore[arg-type]  # complete: none is None
        first.orientation,
        first.pixel_spacing,
        rows=first.rows,
        columns=first.columns,
    )


def read_series(slices: Sequence[ImageHeader], reader: Reader) -> tuple[Volume, Clipped, Stack]:
    """Decode a CT series.

    Returns:
        int16 HU in [-1000, 1000] on the series' own grid, (columns, rows, slices) in Fortran
        order; what was clipped; the order and grid of the slices.

    Raises:
        ImageError: If a slice cannot be decoded whole.
        GeometryError, Quarantined: If the slices make no regular grid, or two at one position
            differ.
    """
    stack = series_stack(slices)
    columns, rows, count = stack.geometry.shape
    frames = np.empty((count, rows, columns), np.int16)
    clipped = Clipped()
    copies = _copies(stack)
    for k, index in enumerate(stack.order):
        header = slices[index]
        stored = decode_slice(header, reader)
        for other in copies.get(index, ()):
            _require_equal(header, stored, slices[other], reader)
        assert header.slope is not None and header.intercept is not None
        to_hu(
            stored.pixels,
            header.slope,
            header.intercept,
            frames[k],
            clipped,
            padding=stored.padding,
        )
    clipped.require_hounsfield()
    # (k, j, i) in C order is (i, j, k) in Fortran order: no voxel moves.
    return Volume(frames.T, stack.geometry), clipped, stack


def read_mask_series(slices: Sequence[ImageHeader], reader: Reader) -> Volume:
    """Decode a series whose non-zero pixels are a mask.

    Returns:
        bool, (columns, rows, slices), on the series' own grid.

    Raises:
        ImageError, GeometryError, Quarantined: As `read_series`.
    """
    stack = series_stack(slices)
    columns, rows, count = stack.geometry.shape
    frames = np.empty((count, rows, columns), np.bool_)
    for k, index in enumerate(stack.order):
        np.not_equal(decode_slice(slices[index], reader).pixels, 0, out=frames[k])
    return Volume(frames.T, stack.geometry)


def decode_slice(header: ImageHeader, reader: Reader) -> StoredSlice:
    """Pixels of one object.

    Raises:
        ImageError: If they are truncated, damaged or in a syntax that no decoder reads.
        Quarantined: If bits beyond BitsStored are set, so that two values are possible.
    """
    try:
        with reader.read(header.file) as stream:
            dataset = pydicom.dcmread(stream, specific_tags=list(_PIXEL_TAGS))
            if "PixelData" not in dataset:
                raise ImageError("a slice has no pixels")
            pixels = _decoded(dataset, header)
        return StoredSlice(_significant_bits(pixels, dataset), _padding(dataset, pixels.dtype))
    except PantskitError:
        raise
    # Decoders raise nearly anything on damaged bytes, with header text in the message.
    except Exception as error:
        syntax = pydicom.uid.UID(header.transfer_syntax).name
        raise ImageError(
            f"a slice cannot be decoded ({type(error).__name__}; {syntax}): it is truncated, "
            "damaged, or needs a decoder that is not installed"
        ) from None


def _decoded(dataset: FileDataset, header: ImageHeader) -> NDArray[Any]:
    """Values as stored: of uncompressed pixels, unused high bits are left as they are."""
    shape = (header.rows, header.columns)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        pixels: NDArray[Any] = np.asarray(dataset.pixel_array)
    else:
        signed = "i" if dataset.PixelRepresentation else "u"
        order = "<" if syntax.is_little_endian else ">"
        dtype = np.dtype(f"{order}{signed}{int(dataset.BitsAllocated) // 8}")
        expected = header.rows * header.columns * dtype.itemsize
        if len(dataset.PixelData) < expected:
            raise ImageError(
                f"a slice is truncated: {len(dataset.PixelData)} bytes of pixels, "
                f"{expected} expected; send the series again"
            )
        pixels = np.frombuffer(dataset.PixelData, dtype, shape[0] * shape[1]).reshape(shape)
        pixels = pixels.astype(dtype.newbyteorder("="), copy=False)
    if pixels.shape != shape or pixels.dtype.kind not in "iu":
        raise ImageError(
            f"a slice decodes to {pixels.dtype} of shape {pixels.shape}, expected integers {shape}"
        )
    return pixels


def _significant_bits(pixels: NDArray[Any], dataset: FileDataset) -> NDArray[Any]:
    """Pixels with the sign bit of BitsStored spread over the unused high bits.

    The standard lets a writer leave them 0 or fill them with the sign; anything else
    (overlays of old scanners, a wrong BitsStored) leaves the value open.
    """
    stored, allocated = int(dataset.BitsStored), pixels.dtype.itemsize * 8
    unused = allocated - stored
    if unused <= 0:
        return pixels
    if pixels.dtype.kind == "u":
        if int(pixels.max()) >> stored:
            raise Quarantined(f"pixels use bits beyond the {stored} that the header declares")
        return pixels
    extended = (pixels << unused) >> unused
    if np.array_equal(extended, pixels):
        return pixels
    if int(pixels.min()) < 0:
        raise Quarantined(f"pixels use bits beyond the {stored} that the header declares")
    return np.asarray(extended)


def _padding(dataset: FileDataset, dtype: np.dtype[Any]) -> tuple[float, float] | None:
    ends = [dataset.get(k) for k in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [_as_stored(end, dtype) for end in ends if isinstance(end, int)]
    return (min(values), max(values)) if values else None


def _as_stored(value: int, dtype: np.dtype[Any]) -> int:
    """A header value in the pixels' own signedness: the header may hold 63536 for -2000."""
    bits = dtype.itemsize * 8
    value %= 1 << bits
    return value - (1 << bits) if dtype.kind == "i" and value >> (bits - 1) else value


def _copies(stack: Stack) -> dict[int, list[int]]:
    copies: dict[int, list[int]] = {}
    for kept, other in stack.duplicates:
        copies.setdefault(kept, []).append(other)
    return copies


def _require_equal(
    header: ImageHeader, stored: StoredSlice, other: ImageHeader, reader: Reader
) -> None:
    rescale = (header.slope, header.intercept)
    same = rescale == (other.slope, other.intercept)
    if not same or not np.array_equal(stored.pixels, decode_slice(other, reader).pixels):
        raise Quarantined(
            "two slices at one position differ: several scans or phases lie in one series; "
            "separate them"
        )
