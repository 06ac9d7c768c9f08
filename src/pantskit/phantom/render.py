"""Tissues to Hounsfield units: means by phase, unevenness, blur of the scanner and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from pantskit.phantom.fields import Float32
from pantskit.phantom.tissues import TISSUE_ID, TISSUES, hu_table, texture_table

TILE = 64


@dataclass(frozen=True)
class Scanner:
    """How a scanner blurs and how noisy it is.

    Attributes:
        blur_voxels: sigma of the point spread along (i, j, k), voxels.
        noise_hu: standard deviation of the noise.
        grain_voxels: sigma of the noise's in-plane correlation, voxels.
    """

    blur_voxels: tuple[float, float, float] = (0.5, 0.5, 0.3)
    noise_hu: float = 12.0
    grain_voxels: float = 0.6


def render(
    tissues: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    phase: str,
    rng: np.random.Generator,
    *,
    scanner: Scanner,
    shifts: Mapping[str, float] | None = None,
) -> NDArray[np.int16]:
    """A CT of a tissue map.

    Args:
        tissues: (i, j, k) tissue ids, Fortran order.
        spacing: mm along (i, j, k).
        phase: one of `PHASES`.
        rng: of this scan: contrast strength, tissues' means, unevenness, noise.
        scanner: blur and noise.
        shifts: HU added to single tissues.

    Returns:
        (i, j, k) int16 HU in Fortran order, within [-1024, 3071].
    """
    means = _scan_means(phase, rng)
    for name, value in (shifts or {}).items():
        means[TISSUE_ID[name]] += np.float32(value)
    tile = _tile(rng, spacing)
    textures = texture_table()
    hu = np.empty(tissues.shape, dtype=np.float32, order="F")
    repeat = [np.arange(n) % TILE for n in tissues.shape]
    for k in range(tissues.shape[2]):
        plane = tissues[:, :, k]
        uneven = tile[:, :, repeat[2][k]][np.ix_(repeat[0], repeat[1])]
        hu[:, :, k] = means[plane] + textures[plane] * uneven
    for axis, sigma in enumerate(scanner.blur_voxels):
        if sigma > 0:
            gaussian_filter1d(hu, sigma, axis=axis, output=hu, mode="nearest", truncate=2.5)
    return _noisy(hu, rng, scanner)


def _scan_means(phase: str, rng: np.random.Generator) -> Float32:
    """Mean HU of the tissues in one scan: contrast a little stronger or weaker, small offsets."""
    plain, enhanced = hu_table("non_contrast"), hu_table(phase)
    strength = np.float32(np.exp(0.06 * np.clip(rng.normal(), -2, 2)))
    means = plain + (enhanced - plain) * strength
    groups: dict[tuple[str, ...], float] = {}
    for number, tissue in enumerate(TISSUES):
        if tissue.texture == 0:
            continue
        # both kidneys, all parts of a duct: one tissue, one offset
        kind = (tissue.name.split("_")[0],)
        means[number] += groups.setdefault(kind, float(np.clip(rng.normal(), -2, 2) * 2.5))
    return means


def _tile(rng: np.random.Generator, spacing: tuple[float, float, float]) -> Float32:
    """(64, 64, 64) smooth noise of standard deviation 1 that repeats without a seam."""
    white = rng.standard_normal((TILE, TILE, TILE), dtype=np.float32)
    sigma = [max(0.45, 2.2 / s) for s in spacing]
    smooth = gaussian_filter(white, sigma, mode="wrap", truncate=3.0)
    return np.asarray(smooth / smooth.std(), dtype=np.float32)


def _noisy(hu: Float32, rng: np.random.Generator, scanner: Scanner) -> NDArray[np.int16]:
    """Add noise that is correlated in the plane, round and limit."""
    result = np.empty(hu.shape, dtype=np.int16, order="F")
    for k in range(hu.shape[2]):
        white = rng.standard_normal(hu.shape[:2][::-1], dtype=np.float32).T
        grain = gaussian_filter(white, scanner.grain_voxels, mode="wrap", truncate=3.0)
        scale = np.float32(scanner.noise_hu / max(float(grain.std()), 1e-6))
        plane = np.rint(hu[:, :, k] + scale * grain)
        result[:, :, k] = np.clip(plane, -1024, 3071)
    return result
