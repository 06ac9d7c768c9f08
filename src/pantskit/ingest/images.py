"""A case's CT from its source, whatever its format, in the standard orientation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pantskit.core.codedmasks import Codes
from pantskit.core.errors import GeometryError, Quarantined
from pantskit.core.geometry import Geometry
from pantskit.core.nrrd import NRRD_SUFFIXES, read_nrrd
from pantskit.core.volume import read_volume
from pantskit.core.writing import slabs_of
from pantskit.ingest.dicom.geometry import IrregularStack
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.dicom.hounsfield import Clipped, volume_to_hu
from pantskit.ingest.dicom.pixels import LOSSY_SYNTAXES
from pantskit.ingest.dicom.resample import resampling_record
from pantskit.ingest.dicom.stacks import series_in_hu
from pantskit.ingest.discovery.sources import Reader
from pantskit.ingest.labels.masks import following
from pantskit.ingest.labels.planes import Scan
from pantskit.ingest.plan import CasePlan


@dataclass(frozen=True)
class Image:
    """A CT that is read while its slabs are taken.

    Attributes:
        geometry: its grid, in the standard orientation.
        slabs: (i, j, n) int16 HU in [-1000, 1000]: the slices of the grid, some at a time; each
            is valid until the next is taken. It is in order only when all were taken.
        clipped: what the clip changed of the slabs taken.
        source: what the record says of where it came from.
        scan: its slices as they were in the source, for annotations drawn on them.
        slices: headers in the order of their places, copies left out; empty for a volume file.
        follow: takes codes on the source's slices to codes on the volume's grid, where the
            volume was resampled; else None.
    """

    geometry: Geometry
    slabs: Iterator[NDArray[np.int16]]
    clipped: Clipped
    source: dict[str, Any]
    scan: Scan
    slices: tuple[ImageHeader, ...] = ()
    follow: Callable[[Codes], Codes] | None = None


def read_image(plan: CasePlan, reader: Reader) -> Image:
    """Begin to read the CT of a case.

    Raises:
        ImageError, GeometryError: If it cannot be read whole, here or while slabs are taken.
        Quarantined: If its content or place is in doubt; likewise.
        Skipped: If it is a label map; likewise.
    """
    return _read_volume(plan, reader) if plan.volume else _read_series(plan, reader)


def _read_series(plan: CasePlan, reader: Reader) -> Image:
    series = series_in_hu(plan.slices, reader, allowed=plan.settings.allowed)
    layout = series.layout
    if plan.doubt:
        for _ in series.slabs:
            pass  # what is damaged says so first
        raise Quarantined(plan.doubt)
    syntaxes = sorted({s.transfer_syntax for s in plan.slices})
    source = {
        "format": "dicom",
        "transfer_syntax": [pydicom.uid.UID(s).name for s in syntaxes],
        "lossy": any(s.lossy for s in plan.slices) or bool(LOSSY_SYNTAXES.intersection(syntaxes)),
        "slices": len(layout.order),
        "copies_of_slices": len(layout.duplicates),
        "slice_deviation_mm": round(layout.deviation_mm, 6),
        "faults": _header_faults(plan.slices),
    }
    if isinstance(layout, IrregularStack):
        source["resampling"] = resampling_record(layout, plan.slices[0].tilt)
    else:
        source["orientation"] = layout.orientation
    return Image(
        series.geometry,
        series.slabs,
        series.clipped,
        source,
        Scan.of_series(plan.slices, layout.order, layout.geometry),
        tuple(plan.slices[index] for index in layout.order),
        following(layout),
    )


def _header_faults(slices: tuple[ImageHeader, ...]) -> list[str]:
    """What is odd between the headers of a series and need not be wrong."""
    faults = []
    numbers = sorted({s.instance for s in slices if s.instance is not None})
    steps = set(np.diff(numbers).tolist())
    if len(steps) > 1:
        faults.append("instance numbers have gaps, though no position between slices is missing")
    elif steps - {1}:
        faults.append(
            f"instance numbers go up by {steps.pop()} between slices: those left out may be lost"
        )
    frames = {s.frame_of_reference for s in slices} - {""}
    if len(frames) > 1:
        faults.append(
            f"slices name {len(frames)} frames of reference, though their positions make one grid"
        )
    if len({(s.slope, s.intercept) for s in slices}) > 1:
        faults.append("rescale slope and intercept differ between slices; each has its own")
    return faults


def _read_volume(plan: CasePlan, reader: Reader) -> Image:
    assert plan.volume is not None
    nrrd = plan.volume.name.lower().endswith(NRRD_SUFFIXES)
    try:
        with reader.local(plan.volume) as path:
            source = read_nrrd(path) if nrrd else read_volume(path)
    except GeometryError as error:  # readable, but its place is in doubt
        raise Quarantined(str(error)) from None
    volume, clipped = volume_to_hu(source)
    facts = {
        "format": "nrrd" if nrrd else "nifti",
        "orientation": source.geometry.orientation,
        "type": str(source.array.dtype),
        "faults": list(source.faults),
    }
    slabs = slabs_of(volume.array)
    return Image(volume.geometry, slabs, clipped, facts, Scan.of_volume(source.geometry))
