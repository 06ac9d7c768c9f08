"""Every architecture through `pantskit train` and `pantskit predict`, on small patients."""

from __future__ import annotations

import json
from pathlib import Path

import blobs
import pytest
import torch
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.core.labels import PANTS, label_counts
from pantskit.core.labelsets import COMBINED
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import read_header
from pantskit.networks.architectures import ARCHITECTURES
from pantskit.networks.architectures.monai_networks import SwinUNETR, encoder_of
from pantskit.networks.folder import Model

# The others are these at another size.
QUICK = ("resenc-m", "swin-unetr", "unetr", "segresnet", "mednext-s")
SLOW = tuple(n for n, a in ARCHITECTURES.items() if n not in ("nnunet", *QUICK) and not a.presets)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def train(root: Path, model: Path, tmp_path: Path, name: str, *options: object) -> Result:
    """One epoch of two iterations of a narrow network on its smallest patch."""
    size = (64, 32, 32) if name == "swin-unetr" else (32, 32, 32)
    blobs.QUICK.changed(features=4, deep_supervision=True).write(tmp_path / "quick.toml")
    return run(
        "train", root, "--out", model, "--recipe", tmp_path / "quick.toml",
        "--scheme", "pancreas-tumor", "--architecture", name, "--epochs", 1, "--iterations", 2,
        "--patch", ",".join(map(str, size)), "--device", "cpu", "--workers", 0, *options,
    )  # fmt: skip


def self_supervised(path: Path) -> torch.nn.Module:
    """Random weights as those of a pretext task, written to a file."""
    torch.manual_seed(5)
    source = SwinUNETR(1, 3, feature_size=12, deep_supervision=False)
    encoder = encoder_of(source, "swinViT")
    torch.save({"state_dict": encoder.state_dict()}, path)
    return encoder


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_architecture_trains_and_predicts(
    trained: tuple[Dataset, Path], tmp_path: Path, name: str
) -> None:
    model, out = tmp_path / "model", tmp_path / "predictions"
    pretrained = self_supervised(tmp_path / "swin.pt") if name == "swin-unetr" else None
    options = ("--pretrained", tmp_path / "swin.pt") if pretrained else ()
    result = train(trained[0].root, model, tmp_path, name, *options)
    assert result.exit_code == 0, result.stderr
    if pretrained:
        assert result.stderr.count("encoder: weights of swin.pt; ") == 1
        weights = Model.load(model).weights
        moved = [
            (weights[f"network.swinViT.{key}"] - value).abs().max().item()
            for key, value in pretrained.named_parameters()
        ]
        # Two steps of AdamW at 0.01 move no weight by more than a little over 0.02.
        assert 0 < max(moved) < 0.03
    info = json.loads((model / "model.json").read_text())
    assert info["training"]["recipe"]["architecture"] == name
    plans = json.loads((model / "plans.json").read_text())
    named = plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"]
    assert named == (ARCHITECTURES[name].network_class or named)

    image = trained[0].cases("test")[0].image_path
    result = run("predict", model, image, "--out", out, "--device", "cpu", "--workers", 0)
    assert result.exit_code == 0, result.stderr
    path = out / "blob_4" / COMBINED
    assert read_header(path).geometry.shape == read_header(image).geometry.shape
    found = set(label_counts(read_label_map(path).array).nonzero()[0].tolist())
    assert found <= {0, PANTS.id_of("pancreas"), PANTS.id_of("pancreatic_lesion")}


def test_architecture_and_patch_are_checked_before_anything_is_read(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    for options, named in (
        (("--architecture", "swin-unetr", "--patch", "64,64,48"), "multiples of 32"),
        (("--architecture", "vnet"), "nnunet, resenc-m"),
        (("--architecture", "unetr", "--pretrained", tmp_path / "no.pt"), "no such file"),
    ):
        result = run("train", trained[0].root, "--out", tmp_path / "model", *options)
        assert result.exit_code == 2
        assert named in result.stderr
        assert not (tmp_path / "model").exists()
