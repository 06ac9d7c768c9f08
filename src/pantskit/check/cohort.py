"""What was measured of each case, for rules over the whole dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from blake3 import blake3

from pantskit.check.findings import Fault
from pantskit.check.read import CaseFiles
from pantskit.check.region import BODY_AXES
from pantskit.check.scan import Scan
from pantskit.core.hounsfield import HU_RANGE
from pantskit.core.volume import Volume

# Of two scans that share most slices the lowest hashes are mostly the same. 16 of them tell the
# share to within an eighth, and cost a large dataset a kilobyte a case.
SLICES_KEPT = 16


@dataclass(frozen=True)
class Measured:
    """One case in numbers.

    Attributes:
        case_id: the case.
        split: `"train"` or `"test"`.
        phase: of the metadata, or "".
        imaged: there is a file of its CT.
        annotated: structures with a mask, empty ones included.
        ml: volume of each structure that is not empty.
        hu: mean HU under it, where there is a CT.
        cut: structures that reach the edge of the view.
        spacing: mm along (right, front, head); () where nothing could be read.
        voxels_hash: of the CT's voxels in the body's axes, clipped to the standard's range.
        slices: some of the hashes of its axial slices, chosen by their value alone.
        labels_hash: of all masks.
        told_missing: a rule over the case's files has told of masks that are missing or broken.
    """

    case_id: str
    split: str
    phase: str = ""
    imaged: bool = True
    annotated: tuple[str, ...] = ()
    ml: Mapping[str, float] = field(default_factory=dict)
    hu: Mapping[str, float] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    spacing: tuple[float, ...] = ()
    voxels_hash: str = ""
    slices: tuple[int, ...] = ()
    labels_hash: str = ""
    told_missing: bool = False

    def row(self) -> dict[str, Any]:
        """For the case's record."""
        return asdict(self)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Measured:
        """From a case's record."""
        lists = {k: tuple(row[k]) for k in ("annotated", "cut", "spacing", "slices")}
        return cls(**{**row, **lists})


@dataclass(frozen=True)
class Cohort:
    """All cases of a check.

    Attributes:
        cases: those that could be measured.
        metadata: case_id to its row.
        partial: the check is of one split or of some cases only.
        listed: what dataset.json calls annotated; () where it says nothing.
        table_faults: what is wrong with the metadata tables.
    """

    cases: tuple[Measured, ...]
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    partial: bool = False
    listed: tuple[str, ...] = ()
    table_faults: tuple[Fault, ...] = ()

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
    voxels_hash, slices = hash_of_voxels(files.ct) if files.ct is not None else ("", ())
    return Measured(
        case_id=files.case.case_id,
        split=files.case.split,
        phase=str(files.metadata.get("phase") or ""),
        imaged=files.ct is not None or bool(files.ct_problem),
        annotated=tuple(sorted(scan.annotated)) if scan else (),
        ml={s: round(scan.ml(s), 4) for s in scan.regions} if scan else {},
        hu={s: round(scan.mean_hu(s), 2) for s in scan.regions} if scan and shown else {},
        cut=tuple(s for s in scan.regions if scan.cut(s)) if scan else (),
        spacing=geometry.reoriented(BODY_AXES).spacing if geometry else (),
        voxels_hash=voxels_hash,
        slices=slices,
        labels_hash=hash_of_labels(scan) if scan and scan.regions else "",
        told_missing=told_missing,
    )


def hash_of_voxels(ct: Volume) -> tuple[str, tuple[int, ...]]:
    """What two files of one scan share, whatever their axes, type and clipping.

    Returns:
        32 hex digits of all voxels; and the lowest of the axial slices' hashes, in order, without
        slices of a single value: padding is alike in all scans.
    """
    turned = ct.reoriented(BODY_AXES).array
    hasher = blake3(str(turned.shape).encode())
    slices: set[int] = set()
    for k in range(turned.shape[2]):
        plane = turned[:, :, k]
        if plane.dtype.kind == "f":
            plane = np.rint(np.nan_to_num(plane))
        clipped = np.asfortranarray(np.clip(plane, *HU_RANGE).astype(np.int16))
        own = blake3(str(clipped.shape).encode() + clipped.tobytes(order="F")).digest()
        hasher.update(own)
        if clipped.min() != clipped.max():
            slices.add(int.from_bytes(own[:7], "big"))
    return hasher.hexdigest(length=16), tuple(sorted(slices)[:SLICES_KEPT])


def hash_of_labels(scan: Scan) -> str:
    """32 hex digits of all masks: their places, and the voxels in each of their slices."""
    hasher = blake3(str(scan.geometry.shape).encode())
    for structure in sorted(scan.regions):
        region = scan.regions[structure]
        hasher.update(f"{structure} {region.start} {region.centre.round(6).tolist()}".encode())
        hasher.update(region.areas.tobytes())
    return hasher.hexdigest(length=16)
