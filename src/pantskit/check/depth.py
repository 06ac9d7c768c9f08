"""How deep something lies in an organ, and how much deeper it would lie elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pantskit.check.region import Region
from pantskit.check.scan import Scan

_GRID_MM = 1.5  # finer voxels are thinned to at least that
_STEP_MM, _REACH_MM = 4, 16  # places that are tried
_OUTSIDE_MM = 8.0  # further away is as bad
_POINTS = 500


def deeper_elsewhere(
    scan: Scan, voxels: NDArray[np.int64], organ: Region, *, deep_mm: float
) -> float:
    """Mean mm by which voxels would lie deeper in an organ if all were moved by the same way.

    What is off its place as a whole gains much, in the opposite direction; what runs to and fro
    in an organ, or winds along its border, gains little anywhere.

    Args:
        scan: whose geometry the voxels have.
        voxels: (n, 3) of the scan; not empty.
        organ: what they ought to lie in.
        deep_mm: from there on deeper is no better.

    Returns:
        The gain of the best place within 16 mm, 0 where that is the present one.
    """
    spacing = np.array(scan.geometry.spacing)
    stride = np.maximum(1, np.floor(_GRID_MM / spacing)).astype(int)
    depth, start = _depth(organ, spacing, stride)
    local = voxels[:: max(1, len(voxels) // _POINTS)] - start
    means = []
    for move in _moves():
        at = np.rint((local + move / spacing) / stride).astype(int)
        there = ((at >= 0) & (at < depth.shape)).all(axis=1)
        found = np.where(there, depth[tuple(np.where(there[:, None], at, 0).T)], -_OUTSIDE_MM)
        means.append(float(np.clip(found, -_OUTSIDE_MM, deep_mm).mean()))
    return max(means) - means[0]


def _moves() -> NDArray[np.float64]:
    """(n, 3) mm, the present place first."""
    line = np.arange(-_REACH_MM, _REACH_MM + 1, _STEP_MM)
    moves = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3).astype(np.float64)
    length = np.linalg.norm(moves, axis=1)
    order = np.argsort(length, kind="stable")
    return moves[order][: np.count_nonzero(length <= _REACH_MM)]


def _depth(
    organ: Region, spacing: NDArray[np.float64], stride: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mm to the organ's border, below 0 outside, in its box and around; the box's first voxel."""
    from scipy.ndimage import distance_transform_edt

    around = np.ceil(_OUTSIDE_MM / spacing).astype(int)
    inside = np.pad(organ.array, [(n, n) for n in around.tolist()])
    inside = inside[:: stride[0], :: stride[1], :: stride[2]]
    step = spacing * stride
    # The border lies half a voxel from the voxels beside it.
    half = np.float32(step.min() / 2)
    depth = np.where(
        inside,
        distance_transform_edt(inside, sampling=step) - half,
        half - distance_transform_edt(~inside, sampling=step),
    )
    return depth.astype(np.float32), np.array(organ.start) - around
