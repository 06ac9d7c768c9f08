"""Two sets of patients, each annotated for one organ, and what is learned from both together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blobs
import numpy as np
import pytest
import torch

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.errors import ConfigError
from pantskit.core.labels import PANTS
from pantskit.core.volume import read_volume
from pantskit.networks.folder import Model
from pantskit.predict.case import predict_volume
from pantskit.train.run import TrainingResult, train_model

CPU = torch.device("cpu")
ORGANS = ("liver", "spleen")
# Few cases show the liver, so that a network to which it is background elsewhere leaves it out.
LIVERS, SPLEENS = 1, 5
RECIPE = blobs.QUICK.changed(
    epochs=12, iterations=20, patch_size=(16, 16, 16), spacing=(8.0, 8.0, 8.0)
)


def write_halves(root: Path, *, naive: bool = False) -> Dataset:
    """Cases that annotate the liver, cases that annotate the spleen, and one that has both.

    Args:
        root: of the dataset.
        naive: give each case an empty mask of the organ that it does not annotate, as if
            nobody's annotation of it meant that it is not there.
    """
    dataset = Dataset.create(root, annotated=ORGANS)
    for n in range(LIVERS + SPLEENS):
        own, other = ORGANS if n < LIVERS else ORGANS[::-1]
        blobs.write_case(dataset, f"half_{n}", structures=(own,), seed=n)
        if naive:
            labels = dataset.case(f"half_{n}").labels()
            mask = labels.mask(own)
            masks = {own: mask, other: np.zeros_like(mask)}
            write_case_labels(dataset, f"half_{n}", "train", masks, labels.geometry)
    blobs.write_case(dataset, "whole", split="test", structures=ORGANS, seed=50)
    return dataset


def train(dataset: Dataset, model: Path, **options: Any) -> TrainingResult:
    torch.set_num_threads(1)  # as the other trainings of the blobs
    options = {"recipe": RECIPE} | options
    return train_model(dataset, model, device="cpu", workers=0, **options)


def scores(dataset: Dataset, model: Path) -> dict[str, float]:
    """DSC of liver and spleen in the patient whose both organs are known."""
    (case,) = dataset.cases("test")
    opened = Model.load(model)
    image = read_volume(case.image_path)
    labels = predict_volume(opened, opened.build(CPU), image, device=CPU).labels.array
    result = {}
    for organ in ORGANS:
        reference, answer = case.labels().mask(organ), labels == PANTS.id_of(organ)
        both = np.count_nonzero(reference & answer)
        result[organ] = 2 * both / (np.count_nonzero(reference) + np.count_nonzero(answer))
    return result


def test_two_half_annotated_sets_teach_both_halves(tmp_path: Path) -> None:
    dataset = write_halves(tmp_path / "partial")
    result = train(dataset, tmp_path / "model", seed=1)
    assert result.info.channels == ORGANS
    assert result.info.training["partial_structures"] == {"liver": LIVERS, "spleen": SPLEENS}
    found = scores(dataset, tmp_path / "model")
    assert min(found.values()) > 0.8, found


@pytest.mark.slow
def test_what_nobody_annotated_is_lost_where_it_is_called_background(tmp_path: Path) -> None:
    dataset = write_halves(tmp_path / "naive", naive=True)
    train(dataset, tmp_path / "model", seed=1)
    found = scores(dataset, tmp_path / "model")
    assert found["liver"] < 0.65, found  # the test above has more than 0.8
    assert found["spleen"] > 0.8, found


def test_regions_learn_from_cases_without_a_lesion_annotation(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", annotated=("pancreas", "pancreatic_lesion"))
    blobs.write_case(dataset, "with", structures=("pancreas", "pancreatic_lesion"), seed=1)
    blobs.write_case(dataset, "without", structures=("pancreas",), seed=2)
    recipe = blobs.QUICK.changed(epochs=1, iterations=3, deep_supervision=True)
    result = train(dataset, tmp_path / "model", scheme="pancreas-regions", recipe=recipe)
    assert result.info.heads == "regions"
    assert result.info.channels == ("pancreas", "pancreatic_lesion")
    model = Model.load(tmp_path / "model")
    assert model.heads.regions
    assert model.plans.n_channels == 2
    image = read_volume(dataset.case("with").image_path)
    prediction = predict_volume(model, model.build(CPU), image, device=CPU)
    known = {0, PANTS.id_of("pancreas"), PANTS.id_of("pancreatic_lesion")}
    assert set(np.unique(prediction.labels.array).tolist()) <= known
    assert 0 <= prediction.tumor_probability <= 1


def test_case_that_annotates_nothing_of_the_scheme_is_named(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", annotated=("liver", "pancreas"))
    blobs.write_case(dataset, "a", structures=("liver",), seed=1)
    blobs.write_case(dataset, "b", structures=("pancreas",), seed=2)
    with pytest.raises(ConfigError, match="none of the 2 training cases annotates pancreatic_les"):
        train(dataset, tmp_path / "model", scheme="pancreas-tumor")
