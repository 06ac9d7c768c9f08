import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.networks.folder import CHECKPOINT, FOLD, Model, load_checkpoint, read_info
from pantskit.networks.runtime import start_torch


class Hostile:
    """Unpickled without care, this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def model(trained: tuple[Dataset, Path], tmp_path: Path) -> Path:
    """A copy of the trained model, to be damaged."""
    return Path(shutil.copytree(trained[1], tmp_path / "model"))


def test_model_says_what_its_channels_mean(trained: tuple[Dataset, Path]) -> None:
    info = Model.load(trained[1]).info
    # The order of the 28.
    assert info.channels == ("liver", "pancreas", "spleen", "pancreatic_lesion")
    assert info.orientation == "LAI"
    assert info.spacing == (6.0, 6.0, 6.0)
    assert sorted(info.training["cases"]) == ["blob_0", "blob_1", "blob_2", "blob_3"]


def test_checkpoint_is_plain_data_that_nnunet_can_use(trained: tuple[Dataset, Path]) -> None:
    checkpoint = torch.load(trained[1] / FOLD / CHECKPOINT, weights_only=True)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["init_args"]["configuration"] == "3d_fullres"
    assert set(checkpoint) >= {"network_weights", "inference_allowed_mirroring_axes"}


def test_hostile_pickle_is_refused_and_not_run(model: Path, tmp_path: Path) -> None:
    torch.save({"network_weights": Hostile(tmp_path / "owned")}, model / FOLD / CHECKPOINT)
    with pytest.raises(DatasetError, match="refused"):
        Model.load(model)
    assert not (tmp_path / "owned").exists()


def test_truncated_checkpoint_is_named(model: Path) -> None:
    path = model / FOLD / CHECKPOINT
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatasetError, match=CHECKPOINT):
        Model.load(model)


def test_text_in_place_of_a_checkpoint_is_named(model: Path) -> None:
    (model / FOLD / CHECKPOINT).write_text("not a checkpoint")
    with pytest.raises(DatasetError, match=CHECKPOINT):
        Model.load(model)


def test_numpy_numbers_in_an_nnunet_checkpoint_are_read(tmp_path: Path) -> None:
    torch.save({"_best_ema": np.float64(0.5), "x": np.float32(2)}, tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth")["_best_ema"] == 0.5


@pytest.mark.parametrize(
    "name", ["model.json", "plans.json", "dataset.json", f"{FOLD}/{CHECKPOINT}"]
)
def test_missing_file_of_a_model_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(DatasetError, match=Path(name).name):
        Model.load(model)


def test_unknown_structure_in_model_json_is_refused(model: Path) -> None:
    values = json.loads((model / "model.json").read_text())
    values["channels"]["1"] = "elbow"
    (model / "model.json").write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="elbow"):
        read_info(model)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("network_class_name", "os.system"),
        ("network_class_name", "pantskit.networks.architectures.registry.importlib.import_module"),
        # A layer's class is called with the plans' own arguments.
        ("nonlin", "torch.nn.parallel.distributed.os.system"),
        ("nonlin", "torch.nn.functional.relu"),
    ],
)
def test_plans_may_name_nothing_but_classes_of_networks_and_layers(
    model: Path, key: str, path: str
) -> None:
    plans = json.loads((model / "plans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    place = architecture if key in architecture else architecture["arch_kwargs"]
    place[key] = path
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(DatasetError, match=path.replace(".", r"\.")):
        Model.load(model).build(torch.device("cpu"))


def test_regions_in_model_json_of_a_softmax_are_refused(model: Path) -> None:
    values = json.loads((model / "model.json").read_text())
    values["heads"] = "regions"
    (model / "model.json").write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="another model's"):
        Model.load(model)


def test_weights_of_another_network_are_refused(model: Path) -> None:
    plans = json.loads((model / "plans.json").read_text())
    settings = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    settings["features_per_stage"] = [4] * len(settings["features_per_stage"])
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(DatasetError, match="do not fit"):
        Model.load(model).build(torch.device("cpu"))


def test_unknown_and_missing_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="tpu"):
        start_torch("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="--device cpu"):
            start_torch("cuda")
