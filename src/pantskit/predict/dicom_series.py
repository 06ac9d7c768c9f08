"""The DICOM series that a CT was made from: found again by its grid and its values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pantskit.core.errors import DatasetError, GeometryError
from pantskit.core.geometry import Geometry
from pantskit.core.hounsfield import HU_RANGE
from pantskit.core.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Positions in a header are decimal strings, affines in a NIfTI file float32.
POSITION_TOLERANCE_MM = 0.1
# HU may have been rounded on the way, and clipped to the release's range.
VALUE_TOLERANCE_HU = 1.0

_TAGS = [
    "SOPInstanceUID", "SeriesInstanceUID", "Modality", "NumberOfFrames", "Rows", "Columns",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
]  # fmt: skip
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SourceSeries:
    """A series of single CT slices that makes a regular grid.

    Attributes:
        files: one a slice, in the order of k.
        geometry: (columns, rows, slices).
    """

    files: tuple[Path, ...]
    geometry: Geometry

    def headers(self, slices: Sequence[int]) -> list[Dataset]:
        """The whole objects of some slices but their pixels."""
        import pydicom

        return [pydicom.dcmread(self.files[k], stop_before_pixels=True) for k in slices]


def source_series(folder: Path, image: Volume, case_id: str) -> SourceSeries:
    """The one series below a folder that a CT was made from.

    A series is the CT's when its slices lie on the CT's grid, axes flipped or permuted, and hold
    its HU: two phases of one examination share a grid.

    Args:
        folder: of DICOM files, at any depth.
        image: the CT.
        case_id: for messages.

    Raises:
        DatasetError: If there is no such series or more than one.
    """
    series = series_in(Path(folder).absolute())
    on_grid = [s for s in series if _shares_grid(s, image.geometry)]
    same = [s for s in on_grid if _shares_values(s, image)]
    if len(same) == 1:
        return same[0]
    if same:
        found = f"{len(same)} series that both are this CT"
    elif on_grid:
        found = f"{len(on_grid)} series on its grid, but with other values"
    else:
        found = f"none of its {len(series)} CT series lies on this grid"
    raise DatasetError(
        f"{case_id}: {folder}: {found}; a DICOM SEG refers to the slices that the CT was made "
        "from, neither resampled nor cropped"
    )


def series_in(folder: Path) -> tuple[SourceSeries, ...]:
    """The regular series of single CT slices below a folder.

    Headers are read once for all cases of a process, while the folder does not change.

    Raises:
        DatasetError: If there is no such folder, or no such series in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder of DICOM files")
    found = _series_of(tuple((p, p.stat().st_mtime_ns) for p in sorted(_files(folder))))
    if not found:
        raise DatasetError(f"{folder}: no regular series of single CT slices")
    return found


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


@lru_cache(maxsize=2)
def _series_of(files: tuple[tuple[Path, int], ...]) -> tuple[SourceSeries, ...]:
    import pydicom
    from pydicom.errors import InvalidDicomError

    slices: dict[str, dict[str, tuple[Path, Any]]] = defaultdict(dict)
    for path, _ in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        except (InvalidDicomError, OSError, EOFError, ValueError):
            continue
        if header.get("Modality") == "CT" and int(header.get("NumberOfFrames") or 1) == 1:
            uid = str(header.get("SOPInstanceUID"))
            slices[str(header.get("SeriesInstanceUID"))].setdefault(uid, (path, header))
    found = [_arranged(list(members.values())) for members in slices.values()]
    return tuple(s for s in found if s is not None)


def _arranged(slices: list[tuple[Path, Any]]) -> SourceSeries | None:
    """Slices in order; None where they make no regular grid."""
    try:
        paths = [path for path, _ in slices]
        places = np.array([[float(v) for v in h.ImagePositionPatient] for _, h in slices])
        turns = np.array([[float(v) for v in h.ImageOrientationPatient] for _, h in slices])
        sizes = np.array([[h.Rows, h.Columns, *map(float, h.PixelSpacing)] for _, h in slices])
    except (AttributeError, TypeError, ValueError):
        return None
    if len(paths) < 2 or places.shape[1:] != (3,) or turns.shape[1:] != (6,):
        return None
    if np.ptp(turns, axis=0).max() > 1e-4 or np.ptp(sizes, axis=0).max() > 1e-4:
        return None
    row, column = turns[0, :3], turns[0, 3:]
    order = np.argsort(places @ np.cross(row, column), kind="stable")
    places = places[order]
    step = (places[-1] - places[0]) / (len(places) - 1)
    even = places[0] + np.arange(len(places))[:, None] * step
    if np.linalg.norm(step) < 1e-3 or np.abs(places - even).max() > POSITION_TOLERANCE_MM:
        return None
    affine = np.eye(4)
    rows, columns, between_rows, between_columns = sizes[0]
    lps = np.stack([row * between_columns, column * between_rows, step], axis=1)
    affine[:3, :3], affine[:3, 3] = _LPS_TO_RAS @ lps, _LPS_TO_RAS @ places[0]
    try:
        geometry = Geometry((int(columns), int(rows), len(places)), affine)
    except GeometryError:
        return None
    return SourceSeries(tuple(paths[n] for n in order), geometry)


def _shares_grid(series: SourceSeries, grid: Geometry) -> bool:
    turned = grid.reoriented(series.geometry.orientation)
    return series.geometry.same_grid(turned, POSITION_TOLERANCE_MM)


def _shares_values(series: SourceSeries, image: Volume) -> bool:
    """Whether three slices hold the image's HU, both clipped to the release's range."""
    import pydicom

    turned = image.reoriented(series.geometry.orientation).array
    count = len(series.files)
    for k in sorted({count // 4, count // 2, 3 * count // 4}):
        slice_ = pydicom.dcmread(series.files[k])
        slope, intercept = (
            float(slice_.get(name, default))
            for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
        )
        hu = np.clip(slice_.pixel_array.T * slope + intercept, *HU_RANGE)
        difference = np.abs(hu - np.clip(turned[:, :, k], *HU_RANGE).astype(np.float32))
        # Most of them: padding outside the field of view may have been replaced.
        if float(np.quantile(difference, 0.75)) > VALUE_TOLERANCE_HU:
            return False
    return True
