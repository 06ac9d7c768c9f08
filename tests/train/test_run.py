import csv
import os
import shutil
import sys
from pathlib import Path

import blobs
import numpy as np
import pytest
import torch

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume
from pantskit.networks.folder import CHECKPOINT, FOLD, Model
from pantskit.predict.case import predict_volume
from pantskit.train.begin import WORK
from pantskit.train.ranks import Ranks
from pantskit.train.recipe import Recipe
from pantskit.train.run import Listener, TrainingResult, augmenters_for, train_model

SHORT = blobs.QUICK.changed(epochs=2, iterations=2)


def train(dataset: Dataset, out: Path, recipe: Recipe = SHORT, **options: object) -> TrainingResult:
    return train_model(dataset, out, recipe=recipe, device="cpu", workers=0, **options)


@pytest.fixture
def dataset(trained: tuple[Dataset, Path], tmp_path: Path) -> Dataset:
    """A copy of the blobs, to be changed."""
    return Dataset.open(Path(shutil.copytree(trained[0].root, tmp_path / "dataset")))


def test_model_folder_is_nnunets_and_says_where_it_comes_from(
    trained: tuple[Dataset, Path],
) -> None:
    model = trained[1]
    for name in ("plans.json", "dataset.json", "dataset_fingerprint.json", f"{FOLD}/{CHECKPOINT}"):
        assert (model / name).is_file(), name
    assert not (model / WORK).exists()
    assert Recipe.read(str(model / "recipe.toml")).epochs == 8
    assert (model / "progress.png").read_bytes().startswith(b"\x89PNG")
    with (model / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(n) for n in range(1, 9)]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_torchvision_and_timm_are_never_imported(trained: tuple[Dataset, Path]) -> None:
    assert not {"torchvision", "timm"} & set(sys.modules)


def test_two_runs_with_one_seed_give_equal_weights(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("a", "b", "other")]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        train(trained[0], folder, seed=seed)
    a, b, other = (Model.load(folder).weights for folder in folders)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], other[name]) for name in a)


def test_complete_training_is_not_done_again_and_not_written_over(
    trained: tuple[Dataset, Path],
) -> None:
    dataset, model = trained
    before = (model / FOLD / CHECKPOINT).stat().st_mtime_ns
    result = train(dataset, model, blobs.QUICK.changed(epochs=8))
    assert result.unchanged
    assert (model / FOLD / CHECKPOINT).stat().st_mtime_ns == before
    with pytest.raises(DatasetError, match="other cases or settings"):
        train(dataset, model, seed=1)


def test_bad_cases_are_named_and_left_out(dataset: Dataset, tmp_path: Path) -> None:
    image = read_volume(dataset.image_path("blob_0", "train"))
    holes = image.array.astype(np.float32)
    holes[2, 2, 2] = np.nan
    write_volume(dataset.image_path("blob_0", "train"), image.with_array(holes))
    moved = Geometry.from_spacing(blobs.SHAPE, blobs.SPACING, origin=(0, 0, 0))
    write_volume(dataset.image_path("blob_1", "train"), Volume(image.array, moved))
    dataset.image_path("blob_2", "train").unlink()
    with pytest.raises(DatasetError, match=r"2 of 4 cases cannot be used.*--skip-bad") as error:
        train(dataset, tmp_path / "model")
    assert "blob_1: " in str(error.value)
    assert "blob_2: " in str(error.value)
    result = train(dataset, tmp_path / "model", skip_bad=True)
    messages = {r.case_id: r.message for r in result.failed}
    assert result.exit_status == 1
    assert "blob_0: the CT holds values that are not finite" in messages["blob_0"]
    assert "different grids" in messages["blob_1"]
    assert "blob_2" in messages["blob_2"]
    assert list(result.info.training["cases"]) == ["blob_3"]
    assert set(result.info.training["failed_cases"]) == set(messages)


def test_ct_with_an_offset_is_left_out(dataset: Dataset, tmp_path: Path) -> None:
    image = read_volume(dataset.image_path("blob_0", "train"))
    raised = image.with_array((image.array + 1024).astype(np.int16))
    write_volume(dataset.image_path("blob_0", "train"), raised)
    (left_out,) = train(dataset, tmp_path / "model", skip_bad=True).failed
    assert "not Hounsfield units" in left_out.message


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 2**32}, {"workers": -1}])
def test_impossible_settings_are_refused_before_anything_is_written(
    wrong: dict[str, int], trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be 0"):
        train_model(trained[0], tmp_path / "model", recipe=SHORT, **wrong)
    assert not (tmp_path / "model").exists()


def test_partly_annotated_structure_is_learned_and_said(dataset: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    (dataset.labels_path("blob_1", "train") / "segmentations" / "spleen.nii.gz").unlink()
    result = train(dataset, tmp_path / "model", listener=Listener(say=said.append))
    assert "spleen" in result.info.channels
    assert result.info.training["partial_structures"] == {"spleen": 3}
    assert any("spleen (3)" in line for line in said)


def test_two_class_model_knows_pancreas_and_lesion(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    result = train(trained[0], tmp_path / "model", scheme="2", cases=["blob_0", "blob_1"])
    assert result.info.channels == ("pancreas", "pancreatic_lesion")
    model = Model.load(tmp_path / "model")
    cpu = torch.device("cpu")
    image = read_volume(trained[0].cases("test")[0].image_path)
    labels = predict_volume(model, model.build(cpu), image, device=cpu).labels
    assert set(np.unique(labels.array)) <= {0, 17, 28}


def test_case_that_is_not_there_is_named(trained: tuple[Dataset, Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no case blob_77"):
        train(trained[0], tmp_path / "model", cases=["blob_0", "blob_77"])
    with pytest.raises(DatasetError, match="split"):
        train(Dataset.create(tmp_path / "empty"), tmp_path / "model")


def test_folder_of_something_else_is_not_written_into(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match="not empty"):
        train(trained[0], tmp_path)


def test_papers_recipe_trains_with_nnunets_settings(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    recipe = Recipe.read("paper").changed(
        epochs=1,
        iterations=1,
        validation_iterations=1,
        patch_size=(16, 16, 16),
        features=4,
        intensity_samples=1000,
    )
    assert train(trained[0], tmp_path / "model", recipe).info.status == "complete"
    checkpoint = torch.load(tmp_path / "model" / FOLD / CHECKPOINT, weights_only=True)
    group = checkpoint["optimizer_state"]["param_groups"][0]
    settings = {k: group[k] for k in ("lr", "momentum", "nesterov", "weight_decay")}
    assert settings == {"lr": 0.01, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    assert checkpoint["inference_allowed_mirroring_axes"] == (0, 1, 2)
    # Deep supervision: an output layer for each resolution of the decoder.
    heads = {n.split(".")[2] for n in checkpoint["network_weights"] if "seg_layers" in n}
    assert len(heads) == 2


@pytest.mark.parametrize(
    ("device", "cores", "workers", "expected"),
    [("cpu", 1, None, 0), ("cpu", 8, None, 1), ("cpu", 8, 0, 0), ("cpu", 8, 5, 1),
     ("cuda", 8, None, 8), ("cuda", 64, None, 12), ("cuda", 8, 3, 3), ("cuda", 8, 0, 0)],
)  # fmt: skip
def test_batches_are_drawn_ahead_by_one_process_on_a_cpu_and_by_more_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, workers: int | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert augmenters_for(torch.device(device), workers, Ranks()) == expected
