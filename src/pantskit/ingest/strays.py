"""Damaged files among the slices of a series: it may be a slice short without a gap to show it.

A slice lost from the end of a stack leaves a regular, shorter stack. When a file in the same
folder cannot be read, or calls itself something else than its neighbours, that file may be the
slice, so the series is in doubt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from pantskit.ingest.kinds import UNKNOWN
from pantskit.ingest.series import Series
from pantskit.ingest.sources import BadSource

Folders = Counter[PurePosixPath]


def doubt_series(series: Sequence[Series], bad: Sequence[BadSource]) -> list[Series]:
    """The series, each with its doubt.

    A series is doubted only where it is the one CT series of its folder: in a folder of many
    the damaged file has its own failed record, and whose slice it was is unknown.

    Args:
        series: all series found.
        bad: files that could not be read.
    """
    volumes = [s for s in series if _is_volume(s)]
    strays: Folders = Counter(b.file.folder for b in bad)
    strays.update(s.first.file.folder for s in series if _is_stray(s, volumes))
    alone: Folders = Counter(f for s in volumes for f in _folders(s))
    return [_doubted(s, strays, alone) if _is_volume(s) else s for s in series]


def _is_volume(series: Series) -> bool:
    return not (series.skip or series.fault) and len(series.slices) > 1


def _is_stray(series: Series, volumes: Sequence[Series]) -> bool:
    """Whether it is of no known kind, or one slice: incomplete, or named like a series beside."""
    if series.skip or len(series.slices) > 1:
        return UNKNOWN in series.skip
    if series.fault:
        return True
    return any(_name(series) == _name(v) and _folders(series) <= _folders(v) for v in volumes)


def _name(series: Series) -> tuple[str | None, str | None]:
    description = series.first.description
    return description.get("SeriesNumber"), description.get("SeriesDescription")


def _folders(series: Series) -> set[PurePosixPath]:
    return {header.file.folder for header in series.slices}


def _doubted(series: Series, strays: Folders, alone: Folders) -> Series:
    folders = _folders(series)
    count = sum(strays[f] for f in folders)
    if not count or any(alone[f] > 1 for f in folders):
        return series
    return replace(
        series,
        doubt=f"{count} damaged or stray files lie among its slices and may belong to it; "
        "send the series again, or take them away",
    )
