"""A picture for a finding: three planes through the voxel to look at, the mask outlined."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.check.findings import Finding, Voxel
from pantskit.check.read import CaseFiles, read_case
from pantskit.check.scan import Scan
from pantskit.core.dataset import Case
from pantskit.core.errors import PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES
from pantskit.core.pictures import PLANE_CODES, RGB, Plane, montage, slice_picture, write_png

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
WINDOW_MM = 240.0
_NAME = re.compile(r"[a-z][a-z0-9-]*(-[a-z_]+)?(-\d+){3}\.png")
PIXELS = 340

_SUBJECT = 255
# The others have their own numbers, so that their borders show where they meet.
_COLORS = {s.id: (70, 130, 180) for s in STRUCTURES.values()} | {_SUBJECT: (255, 196, 0)}
_MARK = (255, 60, 60)


@dataclass(frozen=True)
class _Shown:
    """A case as it is drawn: grey values, the masks of all structures, and their grid."""

    grey: NDArray[Any]
    geometry: Geometry
    others: NDArray[np.uint8]
    scan: Scan | None


def draw_findings(
    findings: Iterable[Finding],
    cases: Sequence[Case],
    out: Path,
    *,
    limit: int,
    changed: Iterable[str] | None = None,
) -> dict[Finding, Path]:
    """Draw the first findings that say where to look.

    Args:
        findings: worst first.
        cases: where their files are.
        out: pictures go to `out/pictures/<case_id>/`; earlier ones of these cases that
            no finding has any more are removed.
        limit: how many at most.
        changed: cases whose earlier pictures are out of date; None: all of them.

    Returns:
        Finding to its picture. A case that cannot be drawn has none.
    """
    wanted = [f for f in findings if f.at is not None][:limit]
    _remove_others(out, cases, {_path(out, f) for f in wanted})
    by_id = {case.case_id: case for case in cases}
    stale = None if changed is None else set(changed)
    drawn: dict[Finding, Path] = {}
    for case_id, group in groupby(sorted(wanted, key=lambda f: f.case_id), lambda f: f.case_id):
        some = list(group)
        paths = {f: _path(out, f) for f in some}
        fresh = stale is not None and case_id not in stale
        if fresh and all(path.is_file() for path in paths.values()):
            drawn |= paths
            continue
        try:
            shown = _shown(read_case(by_id[case_id]))
        except (PantskitError, OSError, KeyError):
            continue  # gone since it was checked
        if shown is None:
            continue
        for finding, path in paths.items():
            at = finding.at
            assert at is not None
            if all(n < size for n, size in zip(at, shown.geometry.shape, strict=True)):
                write_png(path, draw_finding(shown, finding.structure, at))
                drawn[finding] = path
    return drawn


def _path(out: Path, finding: Finding) -> Path:
    """Where a picture lies, by what it shows: another run finds it again, or none."""
    place = finding.voxel.replace(" ", "-")
    name = "-".join(n for n in (finding.rule, finding.structure, place) if n)
    return out / "pictures" / finding.case_id / f"{name}.png"


def _remove_others(out: Path, cases: Iterable[Case], kept: Container[Path]) -> None:
    """Remove what an earlier run drew of these cases and nobody needs any more."""
    for folder in (out / "pictures" / case.case_id for case in cases):
        drawn = [p for p in folder.glob("*.png") if _NAME.fullmatch(p.name)]
        for path in (p for p in drawn if p not in kept):
            path.unlink()


def _shown(files: CaseFiles) -> _Shown | None:
    scan, ct = files.scan, files.ct
    geometry = scan.source if scan is not None else ct.geometry if ct is not None else None
    if geometry is None:
        return None
    grid_is_one = ct is not None and not files.grid_problem
    grey = ct.array if ct is not None and grid_is_one else np.broadcast_to(-1000, geometry.shape)
    others = np.zeros(geometry.shape, np.uint8, order="F")
    if scan is not None:
        for structure in scan.regions:
            scan.paint(others, structure, STRUCTURES[structure].id)
    return _Shown(grey, geometry, others, scan)


def draw_finding(shown: _Shown, structure: str, at: Voxel) -> RGB:
    """Axial, coronal and sagittal slice through a voxel, with a mark where it is.

    Args:
        shown: the case.
        structure: outlined in yellow, or ""; all others are blue.
        at: (i, j, k) index in the file's array.
    """
    labels = shown.others.copy(order="K")
    if shown.scan is not None and structure in shown.scan.regions:
        shown.scan.paint(labels, structure, _SUBJECT)
    return montage([_panel(shown, labels, plane, at) for plane in PLANES], len(PLANES))


def _panel(shown: _Shown, labels: NDArray[np.uint8], plane: Plane, at: Voxel) -> RGB:
    turned = shown.geometry.reoriented(PLANE_CODES[plane])
    spot = np.rint(turned.to_voxel(shown.geometry.to_world(at))).astype(int).tolist()
    extent = turned.extent_mm[1:]
    per_mm = PIXELS / min(WINDOW_MM, max(extent))
    picture = slice_picture(
        shown.grey,
        shown.geometry,
        plane=plane,
        index=spot[0],
        labels=labels,
        colors=_COLORS,
        height=max(1, round(extent[0] * per_mm)),
        opacity=0.12,
    )
    middle = [
        int((spot[axis + 1] + 0.5) * picture.shape[axis] / turned.shape[axis + 1])
        for axis in (0, 1)
    ]
    _mark(picture, middle[0], middle[1])
    rows, columns = (_window(m, n) for m, n in zip(middle, picture.shape[:2], strict=True))
    cell = np.zeros((PIXELS, PIXELS, 3), np.uint8)
    part = picture[rows, columns]
    top, left = ((PIXELS - n) // 2 for n in part.shape[:2])
    cell[top : top + part.shape[0], left : left + part.shape[1]] = part
    return cell


def _window(middle: int, length: int) -> slice:
    start = min(max(0, middle - PIXELS // 2), max(0, length - PIXELS))
    return slice(start, min(length, start + PIXELS))


def _mark(picture: RGB, row: int, column: int) -> None:
    """A cross with an open middle."""
    for near, far in ((5, 13), (-13, -5)):
        picture[max(0, row + near) : max(0, row + far), column] = _MARK
        picture[row, max(0, column + near) : max(0, column + far)] = _MARK
