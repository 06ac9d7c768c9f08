"""NSD, HD95 and average distances against DeepMind's surface-distance, to 1e-9."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pantskit.core.volume import read_mask
from pantskit.measure.overlap import confusion
from pantskit.measure.surface import Spacing, nsd, surface_distances

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
ALGORITHMS = 33
TABLE = Path(__file__).parent / "data" / "surface_distance_pancreas.csv"


def blob(rng: np.random.Generator, shape: NDArray[np.int64]) -> Mask:
    """Anything from one voxel to the whole box, smooth or speckled."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2.5))
    mask: Mask = noise >= np.quantile(noise, rng.uniform(0, 1))
    return np.asfortranarray(mask) if rng.random() < 0.5 else mask


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
        assert ours.hausdorff(percent) == pytest.approx(expected, abs=1e-9)
    averages = peer.compute_average_surface_distance(theirs)
    assert ours.averages() == pytest.approx(averages, abs=1e-9, nan_ok=True)
    return sum(ours.ties)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.filterwarnings("ignore")
def test_random_pairs_are_surface_distances(surface_distance: Any, spacing: Spacing) -> None:
    rng = np.random.default_rng(SPACINGS.index(spacing))
    ties = 0
    for _ in range(25):
        shape = rng.integers(1, 20, 3)
        ties += require_equal(surface_distance, blob(rng, shape), blob(rng, shape), spacing)
    if spacing in TIED:
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


def real_pair(shared_data: Path, case_id: str, algorithm: str) -> tuple[Mask, Mask, Spacing]:
    folder = shared_data / "pancreas_algorithms"
    reference = read_mask(folder / "reference" / f"{case_id}.nii.gz")
    prediction = read_mask(folder / "predictions" / algorithm / f"{case_id}.nii.gz")
    return reference.array, prediction.array, reference.geometry.spacing


def peer_table() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_1221_real_pairs_are_surface_distances(shared_data: Path) -> None:
    """NSD at 2 mm of every pair is what surface-distance gave (the table; see below)."""
    table = peer_table()
    assert len(table) == 37 * ALGORITHMS
    reference_id, reference, spacing = "", np.empty(0), (0.0, 0.0, 0.0)
    for row in table:
        case_id = row["case_id"]
        if case_id != reference_id:
            reference, prediction, spacing = real_pair(shared_data, case_id, row["algorithm"])
            reference_id = case_id
        else:
            folder = shared_data / "pancreas_algorithms" / "predictions" / row["algorithm"]
            prediction = read_mask(folder / f"{case_id}.nii.gz").array
        (ours,) = nsd(reference, prediction, spacing, [2.0])
        assert ours == pytest.approx(float(row["nsd_2mm"]), abs=1e-9), row
        sizes = np.sum(reference) + np.sum(prediction)
        dsc = float(2 * np.sum(reference & prediction) / sizes)
        assert confusion(reference, prediction).dsc == dsc, row


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "every", [pytest.param(100, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_table_is_what_surface_distance_gives(
    surface_distance: Any, shared_data: Path, every: int
) -> None:
    """The table is surface-distance's, and HD95 and averages agree on the same pairs."""
    for row in peer_table()[::every]:
        pair = real_pair(shared_data, row["case_id"], row["algorithm"])
        theirs = surface_distance.compute_surface_distances(*pair)
        expected = (
            surface_distance.compute_surface_dice_at_tolerance(theirs, 2.0),
            surface_distance.compute_robust_hausdorff(theirs, 95),
            *surface_distance.compute_average_surface_distance(theirs),
        )
        columns = ("nsd_2mm", "hd95_mm", "asd_to_prediction_mm", "asd_to_reference_mm")
        assert [float(row[c]) for c in columns] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        ours = surface_distances(*pair, tolerances_mm=[2.0])
        found = (ours.nsd(2.0), ours.hausdorff(95), *ours.averages())
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
        assert math.isfinite(found[0])
