"""Around what patches are drawn where cases annotate different structures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import blobs
import numpy as np
import pytest
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.train.run import train_model
from pantskit.train.trainer import RecipeTrainer

RECIPE = blobs.QUICK.changed(
    epochs=1, iterations=60, augmentation="none", oversample_foreground=1.0
)


class Seen(dict[Any, Any]):
    """Places by label, and the one that was asked for last."""

    asked: Any = None

    def __getitem__(self, key: Any) -> Any:
        self.asked = key
        return super().__getitem__(key)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[frozenset[Any], Any]]:
    """Of each foreground patch: labels with places in its case, and the one it is around."""
    found: list[tuple[frozenset[Any], Any]] = []
    choose = nnUNetDataLoader.get_bbox

    def watched(self: Any, shape: Any, force: bool, places: Any, *more: Any) -> Any:
        seen = Seen(places)
        box = choose(self, shape, force, seen, *more)
        if force:
            known = frozenset(k for k, v in places.items() if len(v))
            found.append((known, seen.asked if known else None))
        return box

    monkeypatch.setattr(nnUNetDataLoader, "get_bbox", watched)
    monkeypatch.setattr(RecipeTrainer, "train_step", lambda *_: {"loss": np.float32(0)})
    return found


def train(
    dataset: Dataset, model: Path, scheme: str, *, iterations: int = 10, **options: Any
) -> None:
    recipe = RECIPE.changed(iterations=iterations)
    train_model(dataset, model, recipe=recipe, scheme=scheme, device="cpu", workers=0, **options)


def test_foreground_is_drawn_from_annotated_structures_and_rare_ones_as_often_as_others(
    tmp_path: Path, drawn: list[tuple[frozenset[Any], Any]]
) -> None:
    dataset = Dataset.create(tmp_path / "d", annotated=("pancreas", "pancreatic_lesion"))
    both = ("pancreas", "pancreatic_lesion")
    blobs.write_case(dataset, "tumour", structures=both, seed=1)
    blobs.write_case(dataset, "normal", structures=both, lesion=False, seed=2)
    blobs.write_case(dataset, "organ", structures=("pancreas",), seed=3)
    blobs.write_case(dataset, "lesion", structures=("pancreatic_lesion",), seed=4)
    blobs.write_case(dataset, "empty", structures=("pancreatic_lesion",), lesion=False, seed=5)
    train(dataset, tmp_path / "model", "pancreas-tumor", iterations=60)
    pancreas, lesion = 1, 2
    cases = Counter(known for known, _ in drawn)
    assert set(cases) == {
        frozenset({pancreas, lesion}),  # the tumour's
        frozenset({pancreas}),  # two: without a tumour, and without its annotation
        frozenset({lesion}),  # whose pancreas nobody annotated
        frozenset(),  # anywhere, as nnU-Net does
    }
    # Every case is drawn as often, the tumour's too.
    assert len(drawn) >= RECIPE.iterations
    assert cases[frozenset({pancreas, lesion})] == pytest.approx(len(drawn) / 5, abs=10)
    around = Counter(label for known, label in drawn if known == {pancreas, lesion})
    # A quarter of the pancreas's size, it is drawn as often.
    assert around[lesion] == pytest.approx(around[pancreas], abs=10)
    assert all(label in known for known, label in drawn if known)


def test_regions_that_nobody_annotated_are_not_drawn_for(
    tmp_path: Path, drawn: list[tuple[frozenset[Any], Any]]
) -> None:
    dataset = Dataset.create(tmp_path / "d", annotated=("pancreas", "pancreatic_lesion"))
    both = ("pancreas", "pancreatic_lesion")
    blobs.write_case(dataset, "both", structures=both, seed=1)
    blobs.write_case(dataset, "lesion", structures=("pancreatic_lesion",), seed=2)
    train(dataset, tmp_path / "model", "pancreas-regions")
    # A voxel of the tumour is in the pancreas's region; in the second case nobody drew that one.
    assert {known for known, _ in drawn} == {frozenset({(1, 2), (2,)}), frozenset({(2,)})}


def test_case_with_none_of_the_structures_is_named_at_once_and_can_be_left_out(
    tmp_path: Path, drawn: list[tuple[frozenset[Any], Any]]
) -> None:
    dataset = Dataset.create(tmp_path / "d", annotated=("liver", "pancreas", "pancreatic_lesion"))
    blobs.write_case(dataset, "other", structures=("liver",), seed=1)
    for n in (2, 3):
        blobs.write_case(dataset, f"own_{n}", structures=("pancreas", "pancreatic_lesion"), seed=n)
    with pytest.raises(DatasetError, match=r"1 of 3 cases .*other: annotates none of the struct"):
        train(dataset, tmp_path / "model", "pancreas-tumor")
    assert not (tmp_path / "model" / ".work" / "intensities").exists()  # not read whole
    train(dataset, tmp_path / "model", "pancreas-tumor", skip_bad=True)
    assert {known for known, _ in drawn} == {frozenset({1, 2})}
