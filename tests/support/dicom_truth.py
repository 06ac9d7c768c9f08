"""What a DICOM series holds, by pydicom and numpy alone: the truth that `ingest` is held to.

Nothing here knows how pantskit stacks slices. A slice is pixels and the places of its pixels; a
volume is right when every pixel of every slice lies in the voxel at its place, and no voxel is
left over. Places are compared, so the order and direction of axes do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

PLACE_TOLERANCE_MM = 0.1  # what docs/ingest.md allows positions to be off a regular grid


@dataclass(frozen=True)
class Slice:
    """One image.

    Attributes:
        exact: (row, column) float64; stored value x slope + intercept.
        padding: (row, column) bool; stored values that the header calls padding.
        origin: RAS mm of the centre of pixel [0, 0].
        down: RAS mm from a row to the next.
        across: RAS mm from a column to the next.
    """

    exact: NDArray[np.float64]
    padding: NDArray[np.bool_]
    origin: NDArray[np.float64]
    down: NDArray[np.float64]
    across: NDArray[np.float64]

    @property
    def hu(self) -> NDArray[np.int16]:
        """(row, column) int16; rounded once and clipped to +-1000."""
        return np.clip(np.rint(self.exact), -1000, 1000).astype(np.int16)

    def place(self, row: float, column: float) -> NDArray[np.float64]:
        """RAS mm of a pixel."""
        return self.origin + row * self.down + column * self.across


def slices_of(files: Iterable[Path | BinaryIO]) -> list[Slice]:
    """The slices of files, in the order given; a multi-frame object gives one per frame."""
    found: list[Slice] = []
    for file in files:
        image = pydicom.dcmread(file, force=True)  # old files lack the mark
        # Without these pydicom decodes nothing. How values are shown does not matter here, and the
        # syntax is the one in which pydicom could read the header.
        image.setdefault("PhotometricInterpretation", "MONOCHROME2")
        image.setdefault("SamplesPerPixel", 1)
        image.setdefault("BitsStored", image.get("BitsAllocated"))
        if "TransferSyntaxUID" not in image.file_meta:
            implicit, _ = image.original_encoding
            syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            image.file_meta.TransferSyntaxUID = syntax
        frames = int(image.get("NumberOfFrames") or 1)
        pixels = image.pixel_array.reshape(frames, int(image.Rows), int(image.Columns))
        found += [_slice(image, pixels[index], index) for index in range(frames)]
    return found


def _slice(image: Dataset, stored: NDArray[Any], frame: int) -> Slice:
    position = np.array(_of_frame(image, frame, "ImagePositionPatient"), np.float64)
    cosines = np.array(_of_frame(image, frame, "ImageOrientationPatient"), np.float64)
    between_rows, between_columns = map(float, _of_frame(image, frame, "PixelSpacing"))
    slope = float(_of_frame(image, frame, "RescaleSlope"))
    intercept = float(_of_frame(image, frame, "RescaleIntercept"))
    to_ras = np.array([-1.0, -1.0, 1.0])
    return Slice(
        stored.astype(np.float64) * slope + intercept,
        _padding(image, stored),
        position * to_ras,
        cosines[3:] * between_rows * to_ras,
        cosines[:3] * between_columns * to_ras,
    )


def _padding(image: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    value = image.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    # A signed value may be written as its unsigned bits, and the other way round.
    values = {int(value), int(value) - 65536, int(value) + 65536}
    other = image.get("PixelPaddingRangeLimit")
    if other is None:
        return np.isin(stored, list(values))
    low, high = sorted((int(value), int(other)))
    return (stored >= low) & (stored <= high)


def _of_frame(image: Dataset, frame: int, keyword: str) -> Any:
    """An attribute of the object, or of the functional groups of its frame (PS3.3 C.7.6.16)."""
    groups: list[Dataset] = []
    for sequence, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups += [image[sequence].value[index]] if sequence in image else []
    for group in groups:
        for element in group:
            if element.VR == "SQ" and element.value and keyword in element.value[0]:
                return element.value[0][keyword].value
    return image[keyword].value


def difference(path: Path, slices: Sequence[Slice]) -> str:
    """How a written CT differs from the slices, in words; empty when it is exactly them.

    Args:
        path: a NIfTI image.
        slices: all slices that the volume must hold, and no other.
    """
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    if voxels.dtype != np.int16:
        return f"stored as {voxels.dtype}"
    if voxels.size != sum(s.hu.size for s in slices):
        return f"{voxels.shape} voxels for {len(slices)} slices of {slices[0].hu.shape}"
    filled = np.zeros(voxels.shape, bool)
    for number, one in enumerate(slices):
        try:
            where = _voxels_of(one, image.affine, voxels.shape)
        except ValueError as error:
            return f"slice {number}: {error}"
        filled[where] = True
        found = voxels[where]
        wrong = (found != one.hu) & ~(one.padding & (found == -1000))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            return (
                f"slice {number}: {np.count_nonzero(wrong)} of {wrong.size} pixels differ, the "
                f"first at [{row}, {column}]: {found[row, column]} HU for {one.hu[row, column]}"
            )
    return "" if filled.all() else f"{np.count_nonzero(~filled)} voxels belong to no slice"


def _voxels_of(
    one: Slice, affine: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], ...]:
    """Index arrays of the voxels in which the pixels of a slice lie."""
    rows, columns = one.hu.shape
    to_voxel = np.linalg.inv(affine)
    corners = [(r, c) for r in (0, rows - 1) for c in (0, columns - 1)]
    places = np.array([one.place(r, c) for r, c in corners])
    exact = places @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    voxels = np.rint(exact).astype(np.intp)
    apart = np.linalg.norm((exact - voxels) @ affine[:3, :3].T, axis=1).max()
    if apart > PLACE_TOLERANCE_MM:
        raise ValueError(f"{apart:.3f} mm beside the voxels' centres")
    if (voxels < 0).any() or (voxels >= shape).any():
        raise ValueError("outside the volume")
    along_rows = (voxels[2] - voxels[0]) // max(rows - 1, 1)
    along_columns = (voxels[1] - voxels[0]) // max(columns - 1, 1)
    r, c = np.mgrid[:rows, :columns]
    return tuple(voxels[0][a] + r * along_rows[a] + c * along_columns[a] for a in range(3))


def interpolated(slices: Sequence[Slice], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """HU at places in the world: linear in the slice before and the one behind, and between them.

    Args:
        slices: parallel ones.
        places: (n, 3) RAS mm.

    Returns:
        (n,) HU, clipped to +-1000; -1000 where one of the two slices has no pixel.
    """
    normal = np.cross(slices[0].across, slices[0].down)
    normal /= np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda s: float(s.origin @ normal))
    heights = np.array([s.origin @ normal for s in ordered])
    height = np.clip(places @ normal, heights[0], heights[-1])
    before = np.clip(np.searchsorted(heights, height, side="right") - 1, 0, len(heights) - 2)
    weight = (height - heights[before]) / (heights[before + 1] - heights[before])
    found = np.zeros(len(places))
    for number, one in enumerate(ordered):
        for which, share in ((before, 1 - weight), (before + 1, weight)):
            here = (which == number) & (share > 1e-4)  # float32 of the file
            found[here] += share[here] * _in_plane(one, places[here])
    return np.clip(np.where(np.isnan(found), -1000, found), -1000, 1000)


def _in_plane(one: Slice, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """HU at places projected onto a slice; NaN beside it."""
    offset = places - one.origin
    row = offset @ one.down / (one.down @ one.down)
    column = offset @ one.across / (one.across @ one.across)
    rows, columns = one.exact.shape
    inside = (row > -1e-3) & (row < rows - 1 + 1e-3)
    inside &= (column > -1e-3) & (column < columns - 1 + 1e-3)
    row, column = np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)
    r, c = (np.minimum(v.astype(int), n - 2) for v, n in ((row, rows), (column, columns)))
    u, v = row - r, column - c
    pixels = one.exact
    hu = (1 - u) * ((1 - v) * pixels[r, c] + v * pixels[r, c + 1])
    hu += u * ((1 - v) * pixels[r + 1, c] + v * pixels[r + 1, c + 1])
    return np.where(inside, hu, np.nan)
