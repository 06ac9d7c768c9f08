"""Slices of one scan whose headers tell of two: another patient, another study, another kind.

A series UID belongs to one series of one patient. Where slices under one UID differ in patient,
study or kind they are kept apart, since exports that lost their UIDs use one for all. When those
kept apart fill the gaps of one another, or go on where the others end, they are one stack whose
headers were damaged: each part alone would be a volume with half of the slices, or half as long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from pantskit.core.errors import PantskitError
from pantskit.ingest.dicom.stacks import series_stack
from pantskit.ingest.discovery.series import Series

# Of more series under one UID only so many are compared one by one: such a UID is none.
_MOST = 8

_TORN = (
    "slices under one series UID differ in patient, study or kind, and together they make one "
    "stack: the headers of a part are damaged; send the series again"
)


def doubt_torn(series: Sequence[Series]) -> list[Series]:
    """The series, those in doubt that make one regular stack with others of their UID."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for n, one in enumerate(series):
        if one.first.series_uid and not one.fault:
            groups[_scan(one)].append(n)
    torn: set[int] = set()
    for members in groups.values():
        every = [members] if len(members) > 2 else []
        for some in (*every, *combinations(members[:_MOST], 2)):
            if len(some) > 1 and _one_stack([series[n] for n in some]):
                torn.update(some)
    return [
        replace(one, doubt=one.doubt or _TORN) if n in torn and not one.skip else one
        for n, one in enumerate(series)
    ]


def _scan(series: Series) -> tuple[object, ...]:
    first = series.first
    grid = (first.rows, first.columns, first.pixel_spacing, first.orientation)
    return (first.series_uid, first.stack, *grid)


def _one_stack(parts: Sequence[Series]) -> bool:
    """Whether parts of which one at least would be taken make a regular stack, each place once."""
    slices = [header for part in parts for header in part.slices]
    if all(part.skip for part in parts) or any(header.position is None for header in slices):
        return False
    try:
        return not series_stack(slices).duplicates
    except PantskitError:
        return False
