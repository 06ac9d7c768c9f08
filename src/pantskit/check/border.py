"""What the CT shows just outside a mask: the same tissue means that the mask stops too early."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pantskit.check.scan import Scan
from pantskit.core.labels import LESION, PANCREAS, PANCREAS_PARTS

# What is part of the pancreas is not its neighbour.
_OWN = {PANCREAS: (*PANCREAS_PARTS, LESION, "pancreatic_duct")}
_STEPS = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])


def like_inside(scan: Scan, structure: str) -> tuple[float, float]:
    """The HU that are as those under a structure: lowest and highest.

    The middle half of its HU on both sides of their median, times three, but 20 to 35 HU: what is
    further away is another tissue, whatever the noise.
    """
    (low, high), (middle, _) = (hu_between(scan, structure, *q) for q in ((0.25, 0.75), (0.5, 0.5)))
    near = float(np.clip(1.5 * (high - low), 20, 35))
    return middle - near, middle + near


def hu_between(scan: Scan, structure: str, low: float, high: float) -> tuple[float, float]:
    """Two quantiles of the HU under a structure, each from 0 to 1."""
    counts = scan.values(structure)
    sums = np.cumsum(counts) / counts.sum()
    return float(np.searchsorted(sums, low)) - 1024, float(np.searchsorted(sums, high)) - 1024


def rim_share(scan: Scan, structure: str, *, distance_mm: float) -> float:
    """Share of a structure's surroundings that are as bright as it and in no other structure.

    Args:
        scan: with a CT; the structure is not empty.
        structure: whose surface is looked at from each side.
        distance_mm: how far outside, at least a voxel: nearer, its own blurred border is seen.

    Returns:
        0 to 1; what lies outside of the view does not count, what another structure has is unlike.
    """
    surface = scan.surface(structure)
    paces = np.maximum(1, np.round(distance_mm / np.array(scan.geometry.spacing))).astype(int)
    outside = (surface[:, None] + _STEPS * paces).reshape(-1, 3)
    shown = ((outside >= 0) & (outside < scan.geometry.shape)).all(axis=1)
    outside = outside[shown]
    outside = outside[~scan.contains(structure, outside)]
    return float(_alike(scan, structure, outside).mean()) if len(outside) else 0.0


def face_share(
    scan: Scan, structure: str, section: NDArray[np.int64], *, axis: int, upper: bool
) -> float:
    """Share of a structure's last section behind which the CT shows the same, twice 3 mm deep.

    Args:
        scan: with a CT; the structure is not empty.
        structure: the one that ends there.
        section: (n, 3) its voxels in the section, as indices of the scan.
        axis: of the body, across the section.
        upper: whether the outside is toward larger indices.
    """
    pace = max(1, round(3 / scan.geometry.spacing[axis]))
    alike = np.ones(len(section), np.bool_)
    for step in (1, 2):
        beyond = section.copy()
        beyond[:, axis] += step * pace if upper else -step * pace
        n = scan.geometry.shape[axis]
        shown = (beyond[:, axis] >= 0) & (beyond[:, axis] < n)
        alike &= shown
        alike[shown] &= _alike(scan, structure, beyond[shown])
    return float(alike.mean()) if len(alike) else 0.0


def share_behind(
    scan: Scan,
    structure: str,
    voxels: NDArray[np.int64],
    normal: NDArray[np.float64],
    *,
    depths_mm: Iterable[float],
    wide: bool = False,
) -> float:
    """Share of a structure's surface behind which the CT shows the same at all of some depths.

    Args:
        scan: with a CT; the structure is not empty.
        structure: the one that ends there.
        voxels: (n, 3) of its surface, as indices of the scan.
        normal: (3,) unit vector outward, along the body's axes.
        depths_mm: outward from the middle of each voxel.
        wide: the same is all but the darkest and brightest tenth of what is inside: for organs of
            two tissues, as a kidney is before its medulla has filled.

    Returns:
        0 to 1; what lies outside of the view, or in another structure, is unlike.
    """
    hu = like_inside(scan, structure)
    if wide:
        low, high = hu_between(scan, structure, 0.1, 0.9)
        hu = min(hu[0], low), max(hu[1], high)
    alike = np.ones(len(voxels), np.bool_)
    for depth in depths_mm:
        beyond = np.rint(voxels + depth * normal / scan.geometry.spacing).astype(np.int64)
        shown = ((beyond >= 0) & (beyond < scan.geometry.shape)).all(axis=1)
        alike &= shown
        alike[shown] &= _alike(scan, structure, beyond[shown], hu)
    return float(alike.mean()) if len(alike) else 0.0


def _alike(
    scan: Scan,
    structure: str,
    voxels: NDArray[np.int64],
    between: tuple[float, float] | None = None,
) -> NDArray[np.bool_]:
    """(n,) which of (n, 3) voxels are as bright as a structure and in no other one."""
    if scan.ct is None:
        return np.zeros(len(voxels), np.bool_)
    low, high = between or like_inside(scan, structure)
    hu = scan.ct[tuple(voxels.T)]
    alike = np.asarray((hu >= low) & (hu <= high))
    for other in scan.regions:
        if other != structure and other not in _OWN.get(structure, ()) and alike.any():
            alike[alike] = ~scan.contains(other, voxels[alike])
    return alike
