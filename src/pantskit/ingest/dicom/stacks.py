"""The slices of a DICOM series as a volume: in Hounsfield units, slab by slab, or as a mask."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError, Quarantined
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.ingest.dicom.geometry import IrregularStack, Stack, arrange_slices
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.dicom.hounsfield import Clipped, to_float_hu, to_hu
from pantskit.ingest.dicom.pixels import (
    SliceReader,
    StoredSlice,
    require_readable,
    significant_bits,
)
from pantskit.ingest.dicom.placing import StandardArray, standard_slabs
from pantskit.ingest.dicom.resample import resample_labels, resample_stack, resampled_geometry
from pantskit.ingest.discovery.sources import Reader

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


def _require_whole(slices: Sequence[ImageHeader]) -> None:
    """Refuse headers that announce more pixels than there are, before memory is taken for them."""
    for header in slices:
        if header.fault:
            raise ImageError(header.fault)
        pixels = require_readable(header)
        size = header.rows * header.columns * pixels.allocated // 8 * ((header.frame or 0) + 1)
        if pixels.length is not None and pixels.length < size:
            raise ImageError(
                f"a slice is truncated: {pixels.length} bytes of pixels, {size} expected; send "
                "the series again"
            )


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
