"""Scans that are there twice are found, though they were changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from miniatures import Miniature
from scipy import ndimage

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.ingest.sources.duplicates import find_duplicates, kind_of
from pantskit.measure.fingerprint import Fingerprint, compare, fingerprint
from pantskit.measure.fingerprint_search import candidates, find_alike
from pantskit.phantom.case import make_case
from pantskit.phantom.scans import CohortPlan


@pytest.fixture(scope="module")
def other() -> Volume:
    """A phantom of another patient."""
    return make_case(CohortPlan(cases=1, seed=21, sites=1), 0).ct.reoriented()


@pytest.fixture(scope="module")
def own(mini: Miniature) -> Fingerprint:
    ct = mini.ct.reoriented()
    return fingerprint(ct.array, ct.geometry.spacing)


def _changed(ct: Volume, how: str) -> Volume:
    array, spacing = ct.array, np.array(ct.geometry.spacing)
    if how == "mirrored":
        array = array[::-1, :, ::-1]
    elif how == "resampled":
        array = ndimage.zoom(array.astype(np.float32), (1.2, 0.85, 1.1), order=1)
        spacing = spacing * np.array(ct.array.shape) / np.array(array.shape)
    elif how == "cropped":
        array = array[8:-8, 6:-6, 20:]
    elif how == "clipped":
        array = np.clip(array, -160, 240)
    return Volume(
        np.ascontiguousarray(array).astype(np.int16), Geometry.from_spacing(array.shape, spacing)
    )


@pytest.mark.parametrize(
    ("how", "mirrored"),
    [("mirrored", (0, 2)), ("resampled", ()), ("cropped", ()), ("clipped", ())],
)
def test_changed_copy_agrees_with_its_scan(
    mini: Miniature, own: Fingerprint, how: str, mirrored: tuple[int, ...]
) -> None:
    copy = _changed(mini.ct.reoriented(), how)

    likeness = compare(own, fingerprint(copy.array, copy.geometry.spacing))

    assert kind_of(likeness) == "same scan"
    assert likeness.mirrored == mirrored


def test_scan_of_another_patient_does_not_agree(own: Fingerprint, other: Volume) -> None:
    assert kind_of(compare(own, fingerprint(other.array, other.geometry.spacing))) == ""


def test_volume_without_places_agrees_with_nothing(own: Fingerprint) -> None:
    empty = fingerprint(np.full((40, 40, 40), -1000, np.int16), (3.0, 3.0, 3.0))
    thin = fingerprint(np.zeros((100, 100, 2), np.int16), (1.0, 1.0, 5.0))
    for one in (empty, thin):
        assert len(one.places) == 0
        assert compare(own, one).places == 0
    assert candidates([empty, thin]) == []


def test_search_finds_copies_among_many_and_compares_few() -> None:
    random = np.random.default_rng(3)

    def made() -> Fingerprint:
        places = random.uniform(0, 300, (60, 3)).astype(np.float32)
        descriptions = random.integers(0, 256, (60, 108), dtype=np.uint8)
        return Fingerprint(places, descriptions, np.full(3, 300, np.float32))

    prints = [made() for _ in range(200)]
    noise = random.integers(-2, 3, (60, 108))
    moved = np.clip(prints[17].descriptions + noise, 0, 255).astype(np.uint8)
    prints.append(Fingerprint(prints[17].places + np.float32(31), moved, prints[17].extent))

    assert candidates(prints) == [(17, 200)]
    ((a, b, likeness),) = find_alike(prints, fewest_places=40)
    assert (a, b, likeness.places) == (17, 200, 60)


def test_pairs_are_told_with_their_sides(mini: Miniature, other: Volume, tmp_path: Path) -> None:
    ct = mini.ct.reoriented()
    first, second = Dataset.create(tmp_path / "A"), Dataset.create(tmp_path / "B")
    write_volume(first.image_path("a1", "train"), ct)
    write_volume(first.image_path("a2", "train"), other)
    write_volume(second.image_path("b1", "test"), _changed(ct, "clipped"))

    summary = find_duplicates([first, second], tmp_path / "out", workers=0)
    again = find_duplicates([first, second], tmp_path / "out", workers=0)

    (pair,) = summary.pairs
    assert (pair.first, pair.second, pair.kind) == ("A/a1", "B/b1", "same scan")
    assert pair.on_two_sides
    assert summary.exit_status == 1
    assert "A/a1,B/b1,same scan" in (tmp_path / "out" / "duplicates.csv").read_text()
    assert again.run.ran == ()
    assert again.pairs == summary.pairs


def test_datasets_of_one_name_are_refused(mini: Miniature, tmp_path: Path) -> None:
    both = [Dataset.create(tmp_path / side / "D") for side in ("x", "y")]
    with pytest.raises(ConfigError, match="one name"):
        find_duplicates(both, tmp_path / "out", workers=0)
