"""`pantskit models` on folders that nnU-Net's own trainer wrote, and on damaged ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset

CHANNELS = {"0": "CT"}
LABELS = {"background": 0, "liver": 1, "pancreas": 2, "spleen": 3, "pancreatic_lesion": 4}

Write = Callable[..., Path]


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def write(trained: tuple[Dataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a trained-model folder by nnUNetTrainer: untrained weights, all else as it is."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    known = json.loads((trained[1] / "plans.json").read_text())

    def written(
        dataset: dict[str, Any], *, configuration: str = "3d_fullres", folds: int = 1
    ) -> Path:
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        plans = copy.deepcopy(known)
        plans["configurations"]["2d"] = flat(plans["configurations"]["3d_fullres"])
        for fold in range(folds):
            trainer = nnUNetTrainer(
                plans | {"continue_training": False}, configuration, fold, dataset,
                torch.device("cpu"),
            )  # fmt: skip
            trainer.network = trainer.build_network_architecture(
                trainer.plans_manager, trainer.configuration_manager, 1,
                trainer.label_manager.num_segmentation_heads, False,
            )  # fmt: skip
            trainer.optimizer, _ = trainer.configure_optimizers()
            trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
        folder = Path(trainer.output_folder_base)
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        return folder

    return written


def flat(configuration: dict[str, Any]) -> dict[str, Any]:
    """A 2D configuration like a 3D one."""
    found = copy.deepcopy(configuration)
    settings = found["architecture"]["arch_kwargs"]
    found |= {"patch_size": [32, 32], "spacing": found["spacing"][1:]}
    for key in ("kernel_sizes", "strides"):
        settings[key] = [n[1:] for n in settings[key]]
    for key, layer in (("conv_op", "conv.Conv2d"), ("norm_op", "instancenorm.InstanceNorm2d")):
        settings[key] = f"torch.nn.modules.{layer}"
    return found


def description(labels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"channel_names": CHANNELS, "labels": labels, "file_ending": ".nii.gz", **more}


def test_folds_of_nnunets_own_trainer_are_listed_verified_and_described(
    write: Write, tmp_path: Path
) -> None:
    folder = write(description(LABELS), folds=2)
    assert folder.name == "nnUNetTrainer__nnUNetPlans__3d_fullres"
    result = run("models", "list", tmp_path / "results")
    assert (result.exit_code, result.stdout) == (0, f"{folder}: nnU-Net, 2 folds\n")
    result = run("models", "verify", tmp_path / "results")
    assert (result.exit_code, result.stdout) == (0, f"{folder}: whole\n")
    result = run("models", "describe", folder)
    assert result.exit_code == 0, result.stderr
    card = (folder / "MODEL_CARD.md").read_text()
    assert "2 network(s)" in card
    assert "It knows 4 structures" in card
    assert "trained elsewhere" in card


def test_regions_made_elsewhere_are_described_as_such(write: Write) -> None:
    labels = {"background": 0, "pancreas": [1, 2], "pancreatic_lesion": 2}
    folder = write(description(labels, regions_class_order=[1, 2]))
    assert run("models", "verify", folder).stdout == f"{folder}: whole\n"
    assert run("models", "describe", folder).exit_code == 0
    assert "overlapping regions" in (folder / "MODEL_CARD.md").read_text()


def test_labels_of_no_known_name_need_a_label_map(write: Write) -> None:
    folder = write(description({"background": 0, "a": 1, "b": 2}))
    result = run("models", "verify", folder)
    assert result.exit_code == 1
    assert "none of its labels is one of the 28 structures (a, b)" in result.stdout
    assert "--label-map" in result.stdout
    result = run("models", "verify", folder, "--label-map", "1=pancreas,2=pancreatic_lesion")
    assert (result.exit_code, result.stdout) == (0, f"{folder}: whole\n")


def test_2d_model_is_refused_by_its_reason(write: Write) -> None:
    folder = write(description(LABELS), configuration="2d")
    result = run("models", "verify", folder)
    assert result.exit_code == 1
    assert "configuration 2d is 2D" in result.stdout
    result = run("models", "describe", folder)
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)


def change(folder: Path, file: str, path: tuple[str, ...], value: Any = None) -> None:
    """Set an entry of a JSON file, or take it out."""
    values = json.loads((folder / file).read_text())
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (folder / file).write_text(json.dumps(values))


ONE = ("configurations", "3d_fullres")


@pytest.mark.parametrize(
    ("file", "path", "value", "named"),
    [
        ("dataset.json", ("labels",), None, "labels"),
        ("dataset.json", ("channel_names",), None, "channel_names"),
        ("dataset.json", ("channel_names",), {"0": "CT", "1": "PET"}, "takes 2 images"),
        ("plans.json", ("configurations",), None, "no configuration 3d_fullres"),
        ("plans.json", ("transpose_forward",), None, "transpose_forward"),
        ("plans.json", (*ONE, "patch_size"), None, "patch_size"),
        ("plans.json", (*ONE, "normalization_schemes"), None, "normalization_schemes"),
        ("plans.json", (*ONE, "architecture"), None, "UNet_class_name"),
        ("plans.json", (*ONE, "architecture", "arch_kwargs"), None, "arch_kwargs"),
        ("plans.json", (*ONE, "architecture", "network_class_name"), "os.system", "os.system"),
        ("plans.json", (*ONE, "architecture", "network_class_name"), "my.Net", "my.Net"),
        ("plans.json", (*ONE, "architecture", "arch_kwargs", "n_stages"), "two", "cannot be"),
        ("plans.json", (*ONE, "previous_stage"), "3d_lowres", "second stage of a cascade"),
    ],
)  # fmt: skip
def test_folder_that_lacks_or_misuses_an_entry_is_told_in_a_line(
    write: Write, file: str, path: tuple[str, ...], value: Any, named: str
) -> None:
    folder = write(description(LABELS))
    change(folder, file, path, value)
    result = run("models", "verify", folder)
    assert result.exit_code == 1, result.stderr
    assert result.stdout.count("\n") == 1
    assert named in result.stdout
    assert run("models", "list", folder).exit_code == 0
