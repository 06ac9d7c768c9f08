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
from pathlib import PurePosixPath

from pantskit.ingest.kinds import UNKNOWN
from pantskit.ingest.series import Series
from pantskit.ingest.sources import BadSource, SourceFile, natural_order

# What a stray may be: its folder and name, and the series UIDs still readable in it.
_Stray = tuple[PurePosixPath, str, frozenset[str]]
_NUMBER = re.compile(r"\d+")
_Name = tuple[str | None, str | None]
# Of a folder, the files of volumes in the order of their names, each with its series' number.
_Names = dict[PurePosixPath, list[tuple[tuple[tuple[bool, int, str], ...], int]]]


def doubt_series(
    series: Sequence[Series], bad: Sequence[BadSource], others: Sequence[SourceFile] = ()
) -> list[Series]:
    """The series, each with its doubt.

    A damaged file is taken to be of the series whose UID is still readable in it. Where none
    is, it is of the one CT series of its folder, or of those that the files before and after it
    by name are of: exports write a series after the other.

    Args:
        series: all series found.
        bad: files that could not be read.
        others: files that are neither DICOM nor volumes.
    """
    volumes = {n: s for n, s in enumerate(series) if _is_volume(s)}
    strays: list[_Stray] = [(b.file.folder, b.file.name, b.series_uids) for b in bad]
    in_folder: dict[PurePosixPath, list[int]] = defaultdict(list)
    named: set[tuple[PurePosixPath, _Name]] = set()
    for n, volume in volumes.items():
        for folder in _folders(volume):
            in_folder[folder].append(n)
            named.add((folder, _name(volume)))
    for single in series:
        file = single.first.file
        if _is_stray(single, beside=(file.folder, _name(single)) in named):
            strays.append((file.folder, file.name, frozenset()))
    strays += _named_as_slices(others, volumes, in_folder)
    counts = _counts(strays, series, volumes, in_folder)
    return [_doubted(s, counts[n]) if counts[n] else s for n, s in enumerate(series)]


def _named_as_slices(
    others: Sequence[SourceFile],
    volumes: Mapping[int, Series],
    in_folder: Mapping[PurePosixPath, list[int]],
) -> list[_Stray]:
    """Those of the files whose names differ from a slice's of their folder in numbers only."""
    patterns: dict[PurePosixPath, set[str]] = {}
    found: list[_Stray] = []
    for file in others:
        folder = file.folder
        if folder not in patterns:
            slices = (h.file for n in in_folder.get(folder, ()) for h in volumes[n].slices)
            patterns[folder] = {_pattern(f.name) for f in slices if f.folder == folder}
        if _pattern(file.name) in patterns[folder]:
            found.append((folder, file.name, frozenset()))
    return found


def _pattern(name: str) -> str:
    return _NUMBER.sub("0", name)


def _counts(
    strays: Sequence[_Stray],
    series: Sequence[Series],
    volumes: Mapping[int, Series],
    in_folder: Mapping[PurePosixPath, list[int]],
) -> Counter[int]:
    """How many strays each series may have lost, by its number."""
    by_uid: dict[str, list[int]] = defaultdict(list)
    for n, one in enumerate(series):
        by_uid[one.first.series_uid].append(n)
    names = _names({folder for folder, _, _ in strays}, volumes, in_folder)
    counts: Counter[int] = Counter()
    for folder, name, uids in strays:
        told = {n for uid in uids if uid for n in by_uid.get(uid, ())}
        here = in_folder.get(folder, [])
        likely = told or (here if len(here) < 2 else _beside(name, names[folder]))
        counts.update(volumes.keys() & likely)
    return counts


def _names(
    folders: set[PurePosixPath],
    volumes: Mapping[int, Series],
    in_folder: Mapping[PurePosixPath, list[int]],
) -> _Names:
    found: _Names = {}
    for folder in folders:
        here = in_folder.get(folder, [])
        if len(here) > 1:
            found[folder] = sorted(
                (natural_order(header.file.name), n)
                for n in here
                for header in volumes[n].slices
                if header.file.folder == folder
            )
    return found


def _beside(name: str, names: Sequence[tuple[tuple[tuple[bool, int, str], ...], int]]) -> set[int]:
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


def _folders(series: Series) -> set[PurePosixPath]:
    return {header.file.folder for header in series.slices}


def _doubted(series: Series, count: int) -> Series:
    return replace(
        series,
        doubt=f"{count} damaged or stray files lie among its slices and may belong to it; "
        "send the series again, or take them away",
    )
