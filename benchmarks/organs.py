"""28 bumpy ellipsoids in a scan, and predictions of them from good to useless."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.labels import STRUCTURES

SPACING = (0.8, 0.8, 1.5)
IDS = range(1, len(STRUCTURES) + 1)

Labels = NDArray[np.uint8]


def organs(shape: tuple[int, int, int], seed: int = 0) -> tuple[Labels, Labels]:
    """28 bumpy ellipsoids, and the same ones moved by about a voxel and resized by 3 %."""
    rng = np.random.default_rng(seed)
    reference, prediction = (np.zeros(shape, np.uint8, order="F") for _ in range(2))
    scale = np.array(shape) / (512, 512, 300)
    for label in IDS:
        largest = label <= 4
        radius = scale * rng.uniform(
            (70, 60, 45) if largest else (10, 10, 6), (95, 80, 60) if largest else (60, 60, 40)
        )
        centre = rng.uniform(radius + 8, np.array(shape) - radius - 8)
        _paint(reference, label, centre, radius)
        _paint(prediction, label, centre + rng.normal(0, 1, 3), radius * rng.uniform(0.97, 1.03))
    return reference, prediction


def _paint(labels: Labels, label: int, centre: NDArray[Any], radius: NDArray[Any]) -> None:
    low = np.maximum((centre - radius - 4).astype(int), 0)
    box = tuple(slice(a, int(c + r + 5)) for a, c, r in zip(low, centre, radius, strict=True))
    part = labels[box]
    grid = [a + n for a, n in zip(low, np.ogrid[tuple(map(slice, part.shape))], strict=True)]
    distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True))
    bumps = 0.12 * np.sin(grid[0] / 7) * np.sin(grid[1] / 6) * np.sin(grid[2] / 5)
    part[distance + bumps < 1] = label


def shifted(labels: Labels) -> Labels:
    """10 mm away: 10 voxels of 0.8 mm and 4 of 1.5 mm."""
    return np.asfortranarray(np.roll(labels, (10, 4), (0, 2)))


def swapped(labels: Labels) -> Labels:
    """1 is called 2 and 2 is called 1, and so on."""
    table = np.array([0, *(n + 1 if n % 2 else n - 1 for n in IDS)], np.uint8)
    return np.asfortranarray(table[labels])


def speckled(labels: Labels, seed: int = 0) -> Labels:
    """0.2 % of all voxels hold a random label."""
    rng = np.random.default_rng(seed)
    result = labels.copy(order="F")
    places = rng.integers(0, labels.size, labels.size // 500)
    result.ravel(order="K")[places] = rng.integers(1, len(STRUCTURES) + 1, places.size)
    return result
