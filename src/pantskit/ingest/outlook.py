"""What a series would become, as far as its headers tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pantskit.core.errors import PantskitError, Quarantined
from pantskit.core.geometry import Geometry
from pantskit.ingest.dicom_pixels import series_stack
from pantskit.ingest.series import Series


@dataclass(frozen=True)
class Outlook:
    """What a series would become before any pixel is read.

    Attributes:
        status: `"taken"`, unless its pixels forbid it; or what it would end as.
        reason: why it is not taken; for one that is taken, what is odd about it, or "".
        geometry: its grid in RAS+ mm, where it has one.
        copies: slices at a position that another has; they must have the same pixels.
    """

    status: Literal["taken", "skipped", "quarantined", "failed"]
    reason: str = ""
    geometry: Geometry | None = None
    copies: int = 0


def outlook(series: Series) -> Outlook:
    """What a series would become, without opt-ins to resample it."""
    if series.skip:
        return Outlook("skipped", series.skip, _geometry(series))
    if series.fault:
        return Outlook("failed", series.fault)
    try:
        stack = series_stack(series.slices)
    except Quarantined as error:
        return Outlook("quarantined", str(error))
    except PantskitError as error:
        return Outlook("failed", str(error))
    copies = len(stack.duplicates)
    if series.doubt:
        return Outlook("quarantined", series.doubt, stack.geometry, copies)
    reason = (
        f"{copies} slices lie where another does: quarantined unless their pixels are equal"
        if copies
        else ""
    )
    return Outlook("taken", reason, stack.geometry, copies)


def is_whole(series: Series) -> bool:
    """Whether nothing in its headers speaks against a series becoming a case."""
    return outlook(series).status == "taken"


def _geometry(series: Series) -> Geometry | None:
    """The grid of a series that is skipped, where its headers happen to tell."""
    first = series.first
    if series.fault or not (first.orientation and first.pixel_spacing):
        return None
    if any(s.position is None or not (s.rows and s.columns) for s in series.slices):
        return None
    try:
        return series_stack(series.slices).geometry
    except PantskitError:
        return None
