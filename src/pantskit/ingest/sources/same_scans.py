"""Copies of one scan among the cases of a dataset: the public datasets hold many.

Two scans are one when their voxels are equal, axes mirrored or not: so LiTS in MSD Task03 is
found, whatever the two say of orientation and place. A scan that was resampled, cropped or clipped
further is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from blake3 import blake3

from pantskit.core.records import CaseRecord
from pantskit.core.volume import Volume


def voxel_hash(scan: Volume) -> str:
    """What is the same for a scan and its mirror images, and differs between any two others.

    Args:
        scan: int16 HU in the standard orientation.

    Returns:
        32 hex digits: of the sums of HU over every plane along each axis, read in the direction
        that comes first.
    """
    hasher = blake3(repr(scan.array.shape).encode())
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        sums = scan.array.sum(axis=others, dtype=np.int64)
        hasher.update(min(sums.tobytes(), sums[::-1].tobytes()))
    return hasher.hexdigest(length=16)


def same_scans(records: Iterable[CaseRecord]) -> list[tuple[str, ...]]:
    """Groups of cases, by case ID, that hold the same scan."""
    groups: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.status == "done" and record.data.get("voxel_hash"):
            groups[record.data["voxel_hash"]].append(record.case_id)
    return sorted(tuple(sorted(cases)) for cases in groups.values() if len(cases) > 1)


def as_one_patient(
    groups: Iterable[tuple[str, ...]], rows: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Metadata rows in which copies of a scan have the patient of the first one of their split.

    What is drawn by patients, as the folds of a training, then keeps them on one side.
    """
    told = {case_id: dict(row) for case_id, row in rows.items()}
    for group in groups:
        firsts: dict[str, str] = {}
        for case_id in (c for c in group if c in told):
            row = told[case_id]
            row["patient_id"] = firsts.setdefault(row["split"], row["patient_id"])
    return told


def on_two_sides(
    groups: Iterable[tuple[str, ...]], rows: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, ...]]:
    """Groups whose scan is in both splits."""
    return [g for g in groups if len({rows[c]["split"] for c in g if c in rows}) > 1]
