"""What a series would become, as far as its headers tell."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pantskit.core.errors import PantskitError, Quarantined
from pantskit.core.geometry import Geometry
from pantskit.ingest.dicom.geometry import IrregularStack
from pantskit.ingest.dicom.resample import resampled_geometry
from pantskit.ingest.dicom.stacks import series_layout, series_stack
from pantskit.ingest.discovery.series import Series


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


def outlook(series: Series, allowed: Collection[str] = ()) -> Outlook:
    """What a series would become.

    Args:
        series: the series.
        allowed: what may be wrong with its stack, as for `read_series`: it is resampled then.
    """
    if series.skip:
        return Outlook("skipped", series.skip, _geometry(series))
    if series.fault:
        return Outlook("failed", series.fault)
    try:
        stack = series_layout(series.slices)
        if isinstance(stack, IrregularStack):
            stack.require(*allowed)
            geometry = resampled_geometry(stack)
        else:
            geometry = stack.geometry
    except Quarantined as error:
        return Outlook("quarantined", str(error))
    except PantskitError as error:
        return Outlook("failed", str(error))
    copies = len(stack.duplicates)
    if series.doubt:
        return Outlook("quarantined", series.doubt, geometry, copies)
    reasons = [f"resampled: {', '.join(stack.causes)}"] if isinstance(stack, IrregularStack) else []
    if copies:
        reasons.append(
            f"{copies} slices lie where another does: quarantined unless their pixels are equal"
        )
    return Outlook("taken", "; ".join(reasons), geometry, copies)


def is_whole(series: Series, allowed: Collection[str] = ()) -> bool:
    """Whether nothing in its headers speaks against a series becoming a case."""
    return outlook(series, allowed).status == "taken"


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
