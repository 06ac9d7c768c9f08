"""DSC, NSD, HD95 and average distances against DeepMind's surface-distance, to 1e-9.

Each test runs both. What takes minutes is marked slow, and a sample of it is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pantskit.core.labels import STRUCTURES
from pantskit.core.labelvolumes import read_mask
from pantskit.measure.nearest import Spacing
from pantskit.measure.overlap import confusion, confusion_of_packed
from pantskit.measure.packed import pack
from pantskit.measure.surface import nsd, surface_distances
from pantskit.phantom.case import make_case
from pantskit.phantom.scans import CohortPlan

Mask = NDArray[np.bool_]

SPACINGS: tuple[Spacing, ...] = (
    (1.0, 1.0, 1.0),
    (0.8, 0.8, 0.8),
    (0.8, 0.8, 2.5),
    (3.0, 2.0, 1.0),
    (0.7, 0.7, 5.0),
    (2.0, 1.0, 1.0),
    (0.6, 0.6, 0.8),
    (0.9765625, 0.9765625, 1.0),
    (0.4, 0.4, 1.0),
    (5.0, 0.7, 0.7),
)
# Lengths of exactly 2.4, 2.4 and 3 mm that differ in float64.
TIED = ((0.8, 0.8, 0.8), (0.6, 0.6, 0.8), (0.4, 0.4, 1.0))
TOLERANCES = (0.0, 0.5, 1.0, 2.0, 2.4, 3.0, 5.0, 10.0)


def blob(rng: np.random.Generator, shape: NDArray[np.int64]) -> Mask:
    """Anything from one voxel to the whole box, smooth or speckled."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2.5))
    mask: Mask = noise >= np.quantile(noise, rng.uniform(0, 1))
    return np.asfortranarray(mask) if rng.random() < 0.5 else mask


def touching(rng: np.random.Generator, shape: NDArray[np.int64]) -> tuple[Mask, Mask]:
    """Blobs, planes, rows and single voxels anywhere, the border of the scan included."""
    pair = []
    for _ in range(2):
        mask = blob(rng, shape)
        if rng.random() < 0.3:  # reaches from a random voxel to the whole scan along each axis
            place = [int(rng.integers(n)) for n in shape]
            mask = np.zeros(shape, np.bool_)
            mask[tuple(slice(None) if rng.random() < 0.4 else p for p in place)] = True
        pair.append(mask)
    return pair[0], pair[1]


def require_equal(peer: Any, reference: Mask, prediction: Mask, spacing: Spacing) -> int:
    """Compare everything; returns how many points were in a tie."""
    theirs = peer.compute_surface_distances(reference, prediction, spacing)
    ours = surface_distances(reference, prediction, spacing, tolerances_mm=TOLERANCES)
    bounded = nsd(reference, prediction, spacing, TOLERANCES)
    for tolerance, near in zip(TOLERANCES, bounded, strict=True):
        expected = peer.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert near == pytest.approx(expected, abs=1e-9, nan_ok=True), (spacing, tolerance)
        assert ours.nsd(tolerance) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    for percent in (50, 95, 100):
        expected = peer.compute_robust_hausdorff(theirs, percent)
        both_empty = not reference.any() and not prediction.any()  # NaN here, infinite there
        assert both_empty or ours.hausdorff(percent) == pytest.approx(expected, abs=1e-9)
    averages = peer.compute_average_surface_distance(theirs)
    assert ours.averages() == pytest.approx(averages, abs=1e-9, nan_ok=True)
    require_equal_dsc(reference, prediction)
    return sum(ours.ties)


def require_equal_dsc(reference: Mask, prediction: Mask) -> None:
    """numpy's formula, to the last bit."""
    sizes = np.sum(reference) + np.sum(prediction)
    expected = float(2 * np.sum(reference & prediction) / sizes) if sizes else np.nan
    counts = confusion_of_packed(pack(reference), pack(prediction))
    assert counts == confusion(reference, prediction)
    np.testing.assert_equal(counts.dsc, expected)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(
    ("pairs", "largest"),
    [
        pytest.param(25, 20, id="some"),
        pytest.param(4, 75, id="wide"),  # more than a word of bits along i
        pytest.param(520, 24, id="many", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_random_pairs_are_surface_distances(
    surface_distance: Any, spacing: Spacing, pairs: int, largest: int
) -> None:
    rng = np.random.default_rng([SPACINGS.index(spacing), pairs])
    ties = 0
    for _ in range(pairs):
        shape = rng.integers(1, (largest, 20, 20))
        ties += require_equal(surface_distance, *touching(rng, shape), spacing)
    if spacing in TIED and largest < 75:
        assert ties > 0  # otherwise what makes these spacings hard was not met


@pytest.mark.parametrize("spacing", SPACINGS[:3])
@pytest.mark.filterwarnings("ignore")
def test_planes_and_single_voxels_at_the_border_are_surface_distances(
    surface_distance: Any, spacing: Spacing
) -> None:
    shape = (9, 10, 11)
    plane, row, corner, far = np.zeros((4, *shape), np.bool_)
    plane[:, 3] = row[0, :, 10] = corner[0, 0, 0] = far[8, 9, 10] = True
    masks = (plane, row, corner, far, np.ones(shape, np.bool_))
    for reference in masks:
        for prediction in masks:
            require_equal(surface_distance, reference, prediction, spacing)


@pytest.mark.parametrize(
    ("spacing", "tolerance", "density"),
    [((0.6, 0.6, 0.8), 2.4, 0.003), ((0.4, 0.4, 1.0), 3.0, 0.0005)],
)
@pytest.mark.filterwarnings("ignore")
def test_ties_fall_as_in_surface_distance(
    surface_distance: Any, spacing: Spacing, tolerance: float, density: float
) -> None:
    """Of two neighbours at one distance that round apart, the one it meets is met here."""
    rng = np.random.default_rng(24)
    ties = moved = 0
    for _ in range(12):
        reference, prediction = rng.random((2, 22, 22, 22)) < density
        theirs = surface_distance.compute_surface_distances(reference, prediction, spacing)
        ours = surface_distances(reference, prediction, spacing, tolerances_mm=[tolerance])
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert ours.nsd(tolerance) == pytest.approx(expected, abs=1e-12)
        moved += ours.nsd(tolerance + 1e-9) - ours.nsd(tolerance - 1e-9) > 1e-3
        ties += ours.ties[0]
    assert ties > 0
    assert moved > 0  # so it matters


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "every",
    [
        pytest.param(61, id="some"),
        pytest.param(1, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_real_pairs_are_surface_distances(
    surface_distance: Any, shared_data: Path, every: int
) -> None:
    """37 pancreases and the predictions of 33 networks: all of them, or one in 61."""
    folder = shared_data / "pancreas_algorithms"
    pairs = [
        (truth, path)
        for truth in sorted((folder / "reference").glob("*.nii.gz"))
        for path in sorted((folder / "predictions").glob(f"*/{truth.name}"))
    ]
    assert len(pairs) == 37 * 33
    for truth, path in pairs[::every]:
        reference, prediction = read_mask(truth), read_mask(path)
        pair = (reference.array, prediction.array, reference.geometry.spacing)
        theirs = surface_distance.compute_surface_distances(*pair)
        expected = (
            surface_distance.compute_surface_dice_at_tolerance(theirs, 2.0),
            surface_distance.compute_robust_hausdorff(theirs, 95),
            *surface_distance.compute_average_surface_distance(theirs),
        )
        ours = surface_distances(*pair, tolerances_mm=[2.0])
        found = (ours.nsd(2.0), ours.hausdorff(95), *ours.averages())
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True), path
        assert nsd(*pair, [2.0]) == pytest.approx(expected[:1], abs=1e-9), path
        require_equal_dsc(*pair[:2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "cases", [pytest.param(1, id="one"), pytest.param(6, id="six", marks=pytest.mark.slow)]
)
def test_28_structures_of_phantoms_are_surface_distances(surface_distance: Any, cases: int) -> None:
    """A phantom against itself moved, thinned at random, and speckled far from the organ."""
    plan = CohortPlan(cases=6, seed=5, tumor_rate=1.0, sites=3)
    for number in range(cases):
        case = make_case(plan, number)
        rng = np.random.default_rng(number)
        spacing = case.geometry.spacing
        for structure in STRUCTURES:
            truth = case.mask(structure)
            moved = np.roll(truth, rng.integers(-2, 3, 3), (0, 1, 2))
            found = (moved & (rng.random(truth.shape) < 0.97)) | (rng.random(truth.shape) < 2e-6)
            require_equal(surface_distance, truth, found, spacing)
