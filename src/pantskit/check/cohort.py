"""What was measured of each case, for rules over the whole dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from blake3 import blake3

from pantskit.check.read import CaseFiles
from pantskit.check.region import BODY_AXES
from pantskit.check.scan import Scan
from pantskit.core.hounsfield import HU_RANGE
from pantskit.core.volume import Volume


@dataclass(frozen=True)
class Measured:
    """One case in numbers.

    Attributes:
        case_id: the case.
        split: `"train"` or `"test"`.
        phase: of the metadata, or "".
        annotated: structures with a mask, empty ones included.
        ml: volume of each structure that is not empty.
        hu: mean HU under it, where there is a CT.
        cut: structures that reach the edge of the view.
        spacing: mm along (right, front, head); () where nothing could be read.
        voxels_hash: of the CT's voxels in the body's axes, clipped to the standard's range.
        labels_hash: of all masks.
        told_missing: a rule over the case's files has told of missing masks.
    """

    case_id: str
    split: str
    phase: str = ""
    annotated: tuple[str, ...] = ()
    ml: Mapping[str, float] = field(default_factory=dict)
    hu: Mapping[str, float] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    spacing: tuple[float, ...] = ()
    voxels_hash: str = ""
    labels_hash: str = ""
    told_missing: bool = False

    def row(self) -> dict[str, Any]:
        """For the case's record."""
        return asdict(self)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Measured:
        """From a case's record."""
        lists = {k: tuple(row[k]) for k in ("annotated", "cut", "spacing")}
        return cls(**{**row, **lists})


@dataclass(frozen=True)
class Cohort:
    """All cases of a check.

    Attributes:
        cases: those that could be measured.
        metadata: case_id to its row.
        partial: the check is of one split or of some cases only.
        listed: structures that dataset.json calls annotated; () where it says nothing.
    """

    cases: tuple[Measured, ...]
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    partial: bool = False
    listed: tuple[str, ...] = ()

    @cached_property
    def _by_id(self) -> dict[str, Measured]:
        return {case.case_id: case for case in self.cases}

    def split(self, case_id: str) -> str:
        """The split of a case."""
        return self._by_id[case_id].split

    def phase(self, case_id: str) -> str:
        """The phase of a case, or ""."""
        return self._by_id[case_id].phase


def measure(files: CaseFiles, *, told_missing: bool) -> Measured:
    """The numbers of one case."""
    scan = files.scan
    geometry = files.ct.geometry if files.ct is not None else files.geometry
    shown = scan is not None and scan.ct is not None
    return Measured(
        case_id=files.case.case_id,
        split=files.case.split,
        phase=str(files.metadata.get("phase") or ""),
        annotated=tuple(sorted(scan.annotated)) if scan else (),
        ml={s: round(scan.ml(s), 4) for s in scan.regions} if scan else {},
        hu={s: round(scan.mean_hu(s), 2) for s in scan.regions} if scan and shown else {},
        cut=tuple(s for s in scan.regions if scan.cut(s)) if scan else (),
        spacing=geometry.reoriented(BODY_AXES).spacing if geometry else (),
        voxels_hash=hash_of_voxels(files.ct) if files.ct is not None else "",
        labels_hash=hash_of_labels(scan) if scan and scan.regions else "",
        told_missing=told_missing,
    )


def hash_of_voxels(ct: Volume) -> str:
    """32 hex digits that two files of one scan share, whatever their axes, type and clipping."""
    turned = ct.reoriented(BODY_AXES).array
    hasher = blake3(str(turned.shape).encode())
    for k in range(turned.shape[2]):
        plane = turned[:, :, k]
        if plane.dtype.kind == "f":
            plane = np.rint(np.nan_to_num(plane))
        clipped = np.clip(plane, *HU_RANGE).astype(np.int16)
        hasher.update(np.asfortranarray(clipped).tobytes(order="F"))
    return hasher.hexdigest(length=16)


def hash_of_labels(scan: Scan) -> str:
    """32 hex digits of all masks: their places, and the voxels in each of their slices."""
    hasher = blake3(str(scan.geometry.shape).encode())
    for structure in sorted(scan.regions):
        region = scan.regions[structure]
        hasher.update(f"{structure} {region.start} {region.centre.round(6).tolist()}".encode())
        hasher.update(region.areas.tobytes())
    return hasher.hexdigest(length=16)
