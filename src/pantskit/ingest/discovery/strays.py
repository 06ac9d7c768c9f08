"""Damaged files among the slices of a series: it may be a slice short without a gap to show it.

A slice lost from the end of a stack leaves a regular, shorter stack. When a file in the same
folder cannot be read, or calls itself something else than its neighbours, that file may be the
slice, so the series that it may be of are in doubt. A file that is no DICOM at all is another
matter (a text, a viewer's program), but not where it is named as the slices are: it was one.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pantskit.ingest.discovery.kinds import UNKNOWN
from pantskit.ingest.discovery.series import Series
from pantskit.ingest.discovery.sources import BadSource, SourceFile, natural_order

# A file that may be a slice, and the series UIDs still readable in it.
_Stray = tuple[SourceFile, frozenset[str]]
_NUMBER = re.compile(r"\d+")
_Name = tuple[str | None, str | None]
# Of a folder, the volumes in it by their number, with the names of their slices there.
_Folders = Mapping[PurePosixPath, Mapping[int, Sequence[str]]]


def doubt_series(
    series: Sequence[Series], bad: Sequence[BadSource], others: Sequence[SourceFile] = ()
) -> list[Series]:
    """The series, each with its doubt.

    A damaged file is taken to be of the series whose UID is still readable in it. Where none
    is, it is of the one CT series of its folder, or of those that the files before and after it
    by name are of: exports write a series after the other. In an archive with one CT series it
    is of that one, wherever it lies there: the damage may be in its name.

    Args:
        series: all series found.
        bad: files that could not be read.
        others: files that are neither DICOM nor volumes.
    """
    volumes = {n: s for n, s in enumerate(series) if _is_volume(s)}
    strays: list[_Stray] = [(b.file, b.series_uids) for b in bad]
    in_folder: dict[PurePosixPath, dict[int, list[str]]] = defaultdict(dict)
    named: set[tuple[PurePosixPath, _Name]] = set()
    for n, volume in volumes.items():
        for header in volume.slices:
            in_folder[header.file.folder].setdefault(n, []).append(header.file.name)
    for folder, here in in_folder.items():
        named.update((folder, _name(volumes[n])) for n in here)
    for single in series:
        file = single.first.file
        if _is_stray(single, beside=(file.folder, _name(single)) in named):
            strays.append((file, frozenset()))
    strays += _named_as_slices(others, in_folder)
    strays += _of_another_kind(series, volumes)
    counts = _counts(strays, series, volumes, in_folder)
    return [_doubted(s, counts[n]) if counts[n] else s for n, s in enumerate(series)]


def _of_another_kind(series: Sequence[Series], volumes: Mapping[int, Series]) -> list[_Stray]:
    """What calls itself no CT, under the UID of a larger volume and on its grid."""
    sizes: Counter[tuple[object, ...]] = Counter()
    for volume in volumes.values():
        sizes[_grid(volume)] += len(volume.slices)
    return [
        (header.file, frozenset({header.series_uid}))
        for other in series
        if other.skip and other.first.series_uid and 2 * len(other.slices) <= sizes[_grid(other)]
        for header in other.slices
    ]


def _grid(series: Series) -> tuple[object, ...]:
    first = series.first
    grid = (first.rows, first.columns, first.pixel_spacing, first.orientation)
    return first.series_uid, *grid


def _named_as_slices(others: Sequence[SourceFile], in_folder: _Folders) -> list[_Stray]:
    """Those of the files whose names differ from a slice's of their folder in numbers only."""
    patterns: dict[PurePosixPath, set[str]] = {}
    found: list[_Stray] = []
    for file in others:
        folder = file.folder
        if folder not in patterns:
            here = in_folder.get(folder, {})
            patterns[folder] = {_pattern(name) for names in here.values() for name in names}
        if _pattern(file.name) in patterns[folder]:
            found.append((file, frozenset()))
    return found


def _pattern(name: str) -> str:
    return _NUMBER.sub("0", name)


def _counts(
    strays: Sequence[_Stray],
    series: Sequence[Series],
    volumes: Mapping[int, Series],
    in_folder: _Folders,
) -> Counter[int]:
    """How many strays each series may have lost, by its number."""
    by_uid: dict[str, list[int]] = defaultdict(list)
    for n, one in enumerate(series):
        by_uid[one.first.series_uid].append(n)
    in_archive: dict[Path, set[int]] = defaultdict(set)
    for n, volume in volumes.items():
        in_archive[volume.first.file.path].add(n)
    ordered: dict[PurePosixPath, list[tuple[Any, int]]] = {}
    counts: Counter[int] = Counter()
    for file, uids in strays:
        folder = file.folder
        likely = {n for uid in uids if uid for n in by_uid.get(uid, ())}
        here = in_folder.get(folder, {})
        if not likely and len(here) > 1:
            if folder not in ordered:
                ordered[folder] = sorted(
                    (natural_order(name), n) for n, names in here.items() for name in names
                )
            likely = _beside(file.name, ordered[folder])
        if not (likely or here) and file.member and len(in_archive[file.path]) == 1:
            likely = in_archive[file.path]
        counts.update(volumes.keys() & (likely or here.keys()))
    return counts


def _beside(name: str, names: Sequence[tuple[Any, int]]) -> set[int]:
    """The series of the files before and after a name."""
    at = bisect(names, (natural_order(name), -1))
    return {n for _, n in names[max(at - 1, 0) : at + 1]}


def _is_volume(series: Series) -> bool:
    return not (series.skip or series.fault) and len(series.slices) > 1


def _is_stray(series: Series, *, beside: bool) -> bool:
    """Whether it is of no known kind, or one slice: incomplete, or named like a series beside."""
    if series.skip or len(series.slices) > 1:
        return UNKNOWN in series.skip
    return bool(series.fault) or beside


def _name(series: Series) -> _Name:
    description = series.first.description
    return description.get("SeriesNumber"), description.get("SeriesDescription")


def _doubted(series: Series, count: int) -> Series:
    return replace(
        series,
        doubt=f"{count} damaged or stray files lie among its slices and may belong to it; "
        "send the series again, or take them away",
    )
