"""Fingerprints of CTs: a scan is known again when it was resampled, mirrored, cropped or clipped.

A fingerprint is a few hundred places where the image stands out, each with a description of what
lies within 22 mm around it that is the same however the scan is mirrored. Two scans are compared by
the places that look alike and by whether one shift (after one mirroring) brings them together.

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
# What is clipped away cannot be compared: soft tissue is what every version of a scan keeps.
_HU = (-150.0, 250.0)
_PLACES = 200
_RADIUS = 5  # voxels of the coarse grid around a place
_CONTRAST_HU = 3.0
_NEAR_MM = 6.0
# Of the middle distance between unlike places: alike ones have a few hundredths of it.
_ALIKE = 0.15

Places = NDArray[np.float32]
Descriptions = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What a scan is known by.

    Attributes:
        places: (n, 3) mm from the corner of the volume, along its axes; n is at most 200.
        descriptions: (n, 108) uint8, the same for mirror images.
    """

    places: Places
    descriptions: Descriptions


@dataclass(frozen=True)
class Likeness:
    """How two scans agree.

    Attributes:
        places: places that look alike and lie alike after one mirroring and one shift.
        share: of the fewer places of the two.
        difference: mean difference of the descriptions at those places, 0 to 255.
        mirrored: axes, of 0, 1, 2, that had to be mirrored.
    """

    places: int
    share: float
    difference: float
    mirrored: tuple[int, ...] = ()


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
    band = ndimage.gaussian_filter(coarse, 1.2) - ndimage.gaussian_filter(coarse, 2.0)
    strength = np.abs(band)
    peak = (strength == ndimage.maximum_filter(strength, 3)) & (strength > _CONTRAST_HU)
    inside = np.zeros_like(peak)
    inside[(slice(_RADIUS + 1, -_RADIUS - 1),) * 3] = True
    found = np.argwhere(peak & inside)
    order = np.argsort(-strength[tuple(found.T)], kind="stable")[:_PLACES]
    found = found[order]
    smooth = ndimage.gaussian_filter(coarse, 0.8)
    described = [_describe(smooth, place) for place in found]
    return Fingerprint(
        (found * STEP_MM).astype(np.float32),
        np.array(described, np.uint8).reshape(len(found), -1 if described else _LENGTH),
    )


def _coarse(hu: NDArray[np.int16], spacing: Sequence[float]) -> NDArray[np.float32]:
    """Soft tissue on a grid of 4 mm."""
    from scipy import ndimage

    factors = [max(1, int(STEP_MM / 2 / s)) for s in spacing]
    clipped = _blocks(np.clip(hu, *_HU), factors)
    steps = [s * f for s, f in zip(spacing, factors, strict=True)]
    sigmas = [0.45 * STEP_MM / s if s < STEP_MM else 0.0 for s in steps]
    smooth = ndimage.gaussian_filter(clipped, sigmas, truncate=2)
    extent = [max(1, round(n * s / STEP_MM)) for n, s in zip(clipped.shape, steps, strict=True)]
    at = [(np.arange(n) + 0.5) * STEP_MM / s - 0.5 for n, s in zip(extent, steps, strict=True)]
    grid = np.meshgrid(*at, indexing="ij")
    return np.asarray(ndimage.map_coordinates(smooth, grid, order=1, mode="nearest"))


def _blocks(values: NDArray[np.int16], factors: Sequence[int]) -> NDArray[np.float32]:
    """Means over blocks of voxels, so that a full-size scan is never in memory as floats."""
    i, j, k = (n // f * f for n, f in zip(values.shape, factors, strict=True))
    a, b, c = factors
    parts = values[:i, :j, :k].reshape(i // a, a, j // b, b, k // c, c)
    return np.asarray(parts.mean(axis=(1, 3, 5), dtype=np.float32))


_LENGTH = 4 * 27


def _describe(smooth: NDArray[np.float32], place: NDArray[np.int64]) -> NDArray[np.uint8]:
    """What lies around a place, the same for its mirror images.

    The mean of all mirror images of the surroundings, and how much they differ from their mirror
    image along each axis, each as 3 x 3 x 3 blocks of one octant.
    """
    around = smooth[tuple(slice(n - _RADIUS, n + _RADIUS + 1) for n in place)]
    uneven = [np.abs(around - np.flip(around, axis)) / 2 for axis in range(3)]
    low, high = _HU
    scaled = [
        (_octant(around) - low) / (high - low),
        *(_octant(u) * 2 / (high - low) for u in uneven),
    ]
    described: NDArray[np.uint8] = np.rint(np.clip(np.concatenate(scaled), 0, 1) * 255).astype(
        np.uint8
    )
    return described


def _octant(around: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in range(3):
        around = np.asarray((around + np.flip(around, axis)) / 2, np.float32)
    octant = around[_RADIUS:, _RADIUS:, _RADIUS:]
    return np.asarray(octant.reshape(3, 2, 3, 2, 3, 2).mean(axis=(1, 3, 5)).ravel())


def compare(a: Fingerprint, b: Fingerprint) -> Likeness:
    """How well two scans agree."""
    if not len(a.places) or not len(b.places):
        return Likeness(0, 0.0, 255.0)
    first, second = (f.descriptions.astype(np.float32) for f in (a, b))
    distance = ((first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T).clip(
        0
    )
    there, back = distance.argmin(1), distance.argmin(0)
    nearest = distance[np.arange(len(first)), there]
    alike = (back[there] == np.arange(len(first))) & (nearest < _ALIKE * np.median(distance))
    mine, theirs = np.flatnonzero(alike), there[alike]
    best: tuple[int, NDArray[np.bool_], tuple[int, ...]] = (0, np.zeros(len(mine), np.bool_), ())
    for flips in product((1.0, -1.0), repeat=3):
        shift = b.places[theirs] - a.places[mine] * np.array(flips, np.float32)
        together = np.abs(shift[:, None] - shift[None]).max(-1) <= _NEAR_MM
        votes = together.sum(1)
        if votes.size and votes.max() > best[0]:
            axes = tuple(n for n, f in enumerate(flips) if f < 0)
            best = (int(votes.max()), together[votes.argmax()], axes)
    count, agreeing, axes = best
    share = count / min(len(a.places), len(b.places))
    gaps = np.abs(first[mine[agreeing]] - second[theirs[agreeing]])
    return Likeness(count, share, float(gaps.mean()) if count else 255.0, axes)
