"""Fingerprints of CTs: a scan is known again when it was resampled, mirrored, cropped or clipped.

A fingerprint is a few hundred places where the image stands out, each with a description of what
lies within 22 mm around it that is the same however the scan is mirrored. Two scans are compared by
the places that look alike, and by whether one shift (after one mirroring) brings the others
together too.

After the idea of keypoints with a geometric check (Lowe 2004), in millimetres and without rotation
or scale, since CTs of one scan have neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

STEP_MM = 4.0
# What is clipped away cannot be compared: this is inside the windows that networks clip to (-96 to
# 215 for nnU-Net's pancreas, say), so that such a copy is the same here.
_HU = (-50.0, 200.0)
_PLACES = 200
_RADIUS = 5  # voxels of the coarse grid around a place
_CONTRAST_HU = 3.0
# Blur in voxels of the coarse grid: of that grid, whatever the scan's voxels are, and of the band
# whose peaks are the places.
_BLUR, _FINE, _BROAD = 0.7, 1.2, 2.0
# Of the middle distance between unlike places: alike ones have a few hundredths of it.
_ALIKE = 0.15
# Mean difference of two descriptions, of 255: places of other patients that lie together by chance
# come to 7 and more.
_LOOKS_ALIKE = 6.0
# Shifts of places that look alike: to be counted together; then of places that lie together.
_NEAR_MM, _FOUND_MM, _SAME_MM = 8.0, 6.0, 4.0
_FEWEST = 4  # places that a shift is believed of

Places = NDArray[np.float32]
Descriptions = NDArray[np.uint8]

_BLOCKS = 27
_LENGTH = 4 * _BLOCKS
HU_STEP = (_HU[1] - _HU[0]) / 255  # of a description


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What a scan is known by.

    Attributes:
        places: (n, 3) mm from the corner of the volume, along its axes; n is at most 200.
        descriptions: (n, 108) uint8, the same for mirror images.
        extent: (3,) mm of the volume along its axes.
    """

    places: Places
    descriptions: Descriptions
    extent: Places


@dataclass(frozen=True)
class Likeness:
    """How two scans agree.

    Attributes:
        places: places that both have, after one mirroring and one shift.
        share: of the places that either has where the other one looks too; the lesser number.
        alike: share of those that look alike besides.
        difference: HU by which a tenth of these places differ, or more: each in the mean of the
            44 mm around it. Contrast medium changes it, and other changes of a scan hardly.
        mirrored: axes, of 0, 1, 2, that had to be mirrored.
    """

    places: int
    share: float
    alike: float
    difference: float
    mirrored: tuple[int, ...] = ()


_NOTHING = Likeness(0, 0.0, 0.0, 255.0)


def fingerprint(hu: NDArray[np.int16], spacing: Sequence[float]) -> Fingerprint:
    """The fingerprint of a CT.

    Args:
        hu: (i, j, k) HU.
        spacing: mm along (i, j, k).

    Returns:
        One without places for a volume of less than 50 mm along an axis, or without tissue.
    """
    from scipy import ndimage

    coarse = _coarse(hu, spacing)
    fine, broad = (
        ndimage.gaussian_filter(coarse, (sigma**2 - _BLUR**2) ** 0.5) for sigma in (_FINE, _BROAD)
    )
    strength = np.abs(fine - broad)
    peak = (strength == ndimage.maximum_filter(strength, 3)) & (strength > _CONTRAST_HU)
    inside = np.zeros_like(peak)
    inside[(slice(_RADIUS + 1, -_RADIUS - 1),) * 3] = True
    found = np.argwhere(peak & inside)
    order = np.argsort(-strength[tuple(found.T)], kind="stable")[:_PLACES]
    places = _between_voxels(strength, found[order])
    extent = np.array([n * s for n, s in zip(hu.shape, spacing, strict=True)], np.float32)
    return Fingerprint(
        ((places + 0.5) * STEP_MM).astype(np.float32), _describe(coarse, places), extent
    )


def _coarse(hu: NDArray[np.int16], spacing: Sequence[float]) -> NDArray[np.float32]:
    """Soft tissue on a grid of 4 mm, equally blurred whatever the voxels were."""
    from scipy import ndimage

    factors = [max(1, int(STEP_MM / 2 / s)) for s in spacing]
    values = _blocks(np.clip(hu, *_HU), factors)
    steps = [s * f for s, f in zip(spacing, factors, strict=True)]
    # A voxel, and what is read between voxels, are blurred by a quarter of it in all (variance).
    sigmas = [max(0.0, (_BLUR * STEP_MM) ** 2 - s**2 / 4) ** 0.5 / s for s in steps]
    values = np.asarray(ndimage.gaussian_filter(values, sigmas, truncate=3, mode="nearest"))
    for axis, step in enumerate(steps):
        values = _stretched(values, axis, step)
    return values


def _stretched(values: NDArray[np.float32], axis: int, step: float) -> NDArray[np.float32]:
    """Read at every 4 mm along one axis."""
    held = values.shape[axis]
    count = max(1, round(held * step / STEP_MM))
    at = np.clip((np.arange(count) + 0.5) * STEP_MM / step - 0.5, 0, held - 1)
    low = np.minimum(at.astype(np.int64), max(0, held - 2))
    shape = [1, 1, 1]
    shape[axis] = count
    weight = (at - low).astype(np.float32).reshape(shape)
    first, second = (np.take(values, np.minimum(low + n, held - 1), axis) for n in (0, 1))
    return np.asarray(first * (1 - weight) + second * weight)


def _blocks(values: NDArray[np.int16], factors: Sequence[int]) -> NDArray[np.float32]:
    """Means over blocks of voxels, so that a full-size scan is never in memory as floats."""
    i, j, k = (n // f * f for n, f in zip(values.shape, factors, strict=True))
    a, b, c = factors
    parts = values[:i, :j, :k].reshape(i // a, a, j // b, b, k // c, c)
    return np.asarray(parts.mean(axis=(1, 3, 5), dtype=np.float32))


def _between_voxels(strength: NDArray[np.float32], found: NDArray[np.int64]) -> NDArray[np.float64]:
    """Peaks by a parabola through each and its two neighbours along each axis, in voxels."""
    places = found.astype(np.float64)
    for axis in range(3):
        step = np.zeros(3, np.int64)
        step[axis] = 1
        low, here, high = (strength[tuple((found + n * step).T)] for n in (-1, 0, 1))
        bend = np.maximum(2 * here - low - high, 1e-6)
        places[:, axis] += np.clip((high - low) / (2 * bend), -0.5, 0.5)
    return places


def _describe(coarse: NDArray[np.float32], places: NDArray[np.float64]) -> Descriptions:
    """(n, 108) what lies around places, the same for their mirror images.

    The mean of all mirror images of the surroundings, and how much they differ from their mirror
    image along each axis, each as 3 x 3 x 3 blocks of one octant.
    """
    from scipy import ndimage

    if not len(places):
        return np.empty((0, _LENGTH), np.uint8)
    reach = np.arange(-_RADIUS, _RADIUS + 1)
    offsets = np.stack(np.meshgrid(reach, reach, reach, indexing="ij")).reshape(3, -1)
    at = (places.T[:, :, None] + offsets[:, None, :]).reshape(3, -1)
    around = ndimage.map_coordinates(coarse, at, order=1, mode="nearest")
    around = around.reshape(len(places), *(len(reach),) * 3)
    low, high = _HU
    uneven = [np.abs(around - np.flip(around, axis)) for axis in (1, 2, 3)]
    parts = [_octant(around) - low, *(_octant(one) for one in uneven)]
    scaled = np.clip(np.concatenate(parts, axis=1) / (high - low), 0, 1)
    return np.asarray(np.rint(scaled * 255).astype(np.uint8))


def _octant(around: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in (1, 2, 3):
        around = np.asarray((around + np.flip(around, axis)) / 2, np.float32)
    octant = around[:, _RADIUS:, _RADIUS:, _RADIUS:].reshape(-1, 3, 2, 3, 2, 3, 2)
    return np.asarray(octant.mean(axis=(2, 4, 6)).reshape(-1, _BLOCKS))


def compare(a: Fingerprint, b: Fingerprint) -> Likeness:
    """How well two scans agree."""
    if len(a.places) < _FEWEST or len(b.places) < _FEWEST:
        return _NOTHING
    mine, theirs = _look_alike(a, b)
    best: tuple[int, tuple[float, ...], Places] = (0, (), np.zeros(3, np.float32))
    for flips in product((1.0, -1.0), repeat=3):
        shifts = b.places[theirs] - a.places[mine] * np.array(flips, np.float32)
        together = _near(shifts[:, 0]) & _near(shifts[:, 1]) & _near(shifts[:, 2])
        votes = together.sum(1)
        if votes.size and votes.max() > best[0]:
            best = (int(votes.max()), flips, np.median(shifts[together[votes.argmax()]], axis=0))
    votes_for, flips, shift = best
    if votes_for < _FEWEST:
        return _NOTHING
    return _overlaid(a, b, np.array(flips, np.float32), shift)


def _near(shifts: Places) -> NDArray[np.bool_]:
    return np.asarray(np.abs(shifts[:, None] - shifts[None]) <= _NEAR_MM)


def _look_alike(a: Fingerprint, b: Fingerprint) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of places that are each other's nearest by their descriptions, and near."""
    first, second = (f.descriptions.astype(np.float32) for f in (a, b))
    distance = _squared_distances(first, second)
    there, back = distance.argmin(1), distance.argmin(0)
    nearest = distance[np.arange(len(first)), there]
    alike = (back[there] == np.arange(len(first))) & (nearest < _ALIKE * np.median(distance))
    mine = np.flatnonzero(alike)
    return mine, there[mine]


def _overlaid(a: Fingerprint, b: Fingerprint, flips: Places, shift: Places) -> Likeness:
    """How two scans agree that lie on one another, whatever their places look like."""
    turned = a.places * flips
    for _ in range(2):
        mine, theirs = _lie_together(turned + shift, b.places, _FOUND_MM)
        if len(mine):
            shift = np.median(b.places[theirs] - turned[mine], axis=0)
    mine, theirs = _lie_together(turned + shift, b.places, _SAME_MM)
    if not len(mine):
        return _NOTHING
    seen = min(_seen(turned + shift, b.extent), _seen((b.places - shift) * flips, a.extent))
    first, second = a.descriptions[mine].astype(np.float64), b.descriptions[theirs]
    looks = np.abs(first - second).mean(axis=1) < _LOOKS_ALIKE
    gaps = np.abs(first[:, :_BLOCKS].mean(axis=1) - second[:, :_BLOCKS].mean(axis=1)) * HU_STEP
    return Likeness(
        places=len(mine),
        share=min(1.0, len(mine) / max(seen, 1)),
        alike=min(1.0, int(looks.sum()) / max(seen, 1)),
        difference=float(np.quantile(gaps, 0.9)),
        mirrored=tuple(n for n, flip in enumerate(flips) if flip < 0),
    )


def _lie_together(
    first: Places, second: Places, near_mm: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of places that are each other's nearest, and near."""
    distance = _squared_distances(first, second)
    there, back = distance.argmin(1), distance.argmin(0)
    every = np.arange(len(first))
    mine = np.flatnonzero((back[there] == every) & (distance[every, there] < near_mm**2))
    return mine, there[mine]


def _squared_distances(first: Places, second: Places) -> NDArray[np.float32]:
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None]
    return np.asarray((squares - 2 * first @ second.T).clip(0), np.float32)


def _seen(places: Places, extent: Places) -> int:
    """How many places of one scan the other one could have found: they lie well inside it."""
    margin = (_RADIUS + 1) * STEP_MM
    return int(((places > margin) & (places < extent - margin)).all(1).sum())
