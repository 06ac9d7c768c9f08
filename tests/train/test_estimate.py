"""What a training will take is said before it starts, and refused where it does not fit."""

from __future__ import annotations

from pathlib import Path

import blobs
import pytest
import torch

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError
from pantskit.networks.plans import Plans
from pantskit.train import estimate as estimating
from pantskit.train.estimate import (
    activation_bytes,
    choose_preset,
    duration,
    require_memory,
    training_memory_mb,
)
from pantskit.train.outcome import Listener
from pantskit.train.recipe import Recipe
from pantskit.train.resume import latest_path
from pantskit.train.run import train_model


class Layers(torch.nn.Module):
    """Two convolutions of 8 channels and a ReLU in place, as nnU-Net's blocks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(1, 8, 3, padding=1)
        self.second = torch.nn.Conv3d(8, 8, 3, padding=1)

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu_(self.first(patch)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_kept_activations_are_counted_once_each_and_without_parameters(device: str) -> None:
    # Kept: the input of the first convolution, and its rectified output, which is the input of
    # the second as well.
    voxels = 2 * 10 * 12 * 14
    assert activation_bytes(Layers().to(device), (2, 1, 10, 12, 14)) == voxels * (1 + 8) * 4


@pytest.fixture(scope="module")
def plans(trained: tuple[Dataset, Path]) -> Plans:
    from pantskit.networks.folder import Model

    return Model.load(trained[1]).plans


def test_memory_grows_with_the_batch_and_is_less_in_half_precision(plans: Plans) -> None:
    def with_batch(n: int) -> Plans:
        configuration = plans.plans["configurations"]["3d_fullres"] | {"batch_size": n}
        return Plans(
            plans.plans | {"configurations": {"3d_fullres": configuration}}, plans.dataset_json
        )

    sizes = [training_memory_mb(with_batch(n), blobs.QUICK, "cpu") for n in (1, 2, 3)]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=1e-6)
    gpu = [training_memory_mb(with_batch(n), blobs.QUICK, "cuda") for n in (1, 2)]
    assert gpu[1] - gpu[0] < sizes[1] - sizes[0]


def test_too_little_memory_is_said_before_the_start_with_the_plan_that_fits(
    trained: tuple[Dataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a patch that is given, nnU-Net's planner has nothing to search.
    recipe = blobs.QUICK.changed(epochs=1, iterations=1, patch_size=(48, 48, 48))
    need: list[float] = []
    count = training_memory_mb

    def little(device: torch.device) -> float:
        return 0.6 * need[0]  # less than the count may be wrong by

    def counted(plan: Plans, of: Recipe, kind: str) -> float:
        need.append(count(plan, of, kind))
        return need[-1]

    # Of so small a network nearly all is the process.
    monkeypatch.setattr(estimating, "PROCESS_MB", {"cpu": 0.0})
    monkeypatch.setattr(estimating, "training_memory_mb", counted)
    monkeypatch.setattr(estimating, "free_memory_mb", little)
    with pytest.raises(
        ConfigError, match=r"cpu: the plan needs about .*; what fits is --patch 32,32,32"
    ) as error:
        train_model(trained[0], tmp_path / "m", recipe=recipe, device="cpu", workers=0)
    assert need[-1] <= little(torch.device("cpu")) < need[0]
    assert f"about {need[-1] / 1024:.1f} GB" in str(error.value)
    assert not (tmp_path / "m" / "model.json").exists()


def test_patch_of_the_recipe_is_made_smaller_to_fit(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recipe] = []

    def replan(recipe: Recipe) -> Plans:
        asked.append(recipe)
        return plans

    memory = {96: 4000.0, 64: 2500.0, 48: 900.0}
    monkeypatch.setattr(
        estimating,
        "training_memory_mb",
        lambda _plans, recipe, _kind: memory[max(recipe.patch_size)],
    )
    monkeypatch.setattr(estimating, "free_memory_mb", lambda _: 1000.0)
    monkeypatch.setattr(Plans, "patch_size", (96, 96, 64))
    recipe = Recipe(patch_size=(64, 96, 96))
    with pytest.raises(ConfigError, match=r"what fits is --patch 32,48,48"):
        require_memory(plans, recipe, torch.device("cpu"), replan=replan)
    assert [max(r.patch_size) for r in asked] == [64, 48]


def test_planner_is_asked_for_less_where_it_chose_the_patch(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        estimating, "training_memory_mb", lambda _plans, recipe, _kind: 1024 * recipe.gpu_memory_gb
    )
    monkeypatch.setattr(estimating, "free_memory_mb", lambda _: 4096.0)
    recipe = Recipe(gpu_memory_gb=8.0)
    with pytest.raises(ConfigError, match=r"cpu: the plan needs about 8.0 GB, and 4.0 GB are free"
                       r".*what fits is --gpu-memory 3.6: .* about 3.6 GB"):  # fmt: skip
        require_memory(plans, recipe, torch.device("cpu"), replan=lambda _: plans)
    # The count may be somewhat too high.
    recipe = recipe.changed(gpu_memory_gb=4.5)
    need, free = require_memory(plans, recipe, torch.device("cpu"), replan=lambda _: plans)
    assert (need, free) == (4608.0, 4096.0)


def test_estimate_alone_trains_nothing_and_the_training_goes_on_from_it(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    recipe = blobs.QUICK.changed(epochs=2, iterations=2)
    said: list[str] = []
    options = {"recipe": recipe, "device": "cpu", "workers": 0}
    listener = Listener(say=said.append)
    result = train_model(
        trained[0], tmp_path / "m", only_estimate=True, listener=listener, **options
    )
    assert (result.info, result.exit_status) == (None, 0)
    assert not (tmp_path / "m" / "model.json").exists()
    assert not latest_path(tmp_path / "m").exists()
    estimate = result.estimate
    assert estimate is not None
    assert 0 < estimate.iteration_s < estimate.total_s
    assert 0 < estimate.memory_mb < estimate.free_mb
    assert any("an iteration" in line and "GB of memory" in line for line in said)
    # The estimate leaves no trace in the weights.
    train_model(trained[0], tmp_path / "m", **options)
    train_model(trained[0], tmp_path / "other", **options)
    from pantskit.networks.folder import Model

    a, b = (Model.load(tmp_path / name).weights for name in ("m", "other"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("memory", "asked", "preset", "why"),
    [
        (0.0, 0.0, "resenc-m", "as there is no GPU"),
        (11.6, 0.0, "resenc-m", "for the 12 GB of the GPU"),
        (15.8, 0.0, "resenc-m", "for the 16 GB of the GPU"),
        (23.6, 0.0, "resenc-l", "for the 24 GB of the GPU"),
        (39.4, 0.0, "resenc-xl", "for the 39 GB of the GPU"),
        (79.2, 0.0, "resenc-xl", "for the 79 GB of the GPU"),
        (79.2, 24.0, "resenc-l", "for 24 GB"),
        (79.2, 6.0, "resenc-m", "for 6 GB"),
    ],
)
def test_preset_is_the_largest_that_the_memory_holds(
    monkeypatch: pytest.MonkeyPatch, memory: float, asked: float, preset: str, why: str
) -> None:
    monkeypatch.setattr(estimating, "_gpu_memory_gb", lambda _: memory)
    said: list[str] = []
    recipe = Recipe(architecture="resenc", gpu_memory_gb=asked)
    chosen = choose_preset(recipe, "auto", None, said.append)
    assert chosen == recipe.changed(architecture=preset)
    assert said == [f"architecture resenc: {preset}, {why}"]
    for name in ("nnunet", "resenc-l", "unetr"):
        assert choose_preset(Recipe(architecture=name), "auto", None, said.append).architecture == (
            name
        )


def test_durations_read_well() -> None:
    assert [duration(s) for s in (12, 100, 240, 65_000, 400_000)] == [
        "12 s", "100 s", "4 min", "18 h", "5 days",
    ]  # fmt: skip
