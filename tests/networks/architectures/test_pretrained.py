from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pantskit.core.errors import DatasetError
from pantskit.networks.architectures.monai_networks import SwinUNETR, encoder_of
from pantskit.networks.architectures.pretrained import load_encoder


def encoder(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = SwinUNETR(1, 3, feature_size=12, deep_supervision=False)
    return encoder_of(network, "swinViT")


def as_published(source: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Names of MONAI's self-supervised Swin: another library's layers, and heads besides."""
    state = {
        "module." + k.replace("mlp.linear1", "mlp.fc1").replace("mlp.linear2", "mlp.fc2"): v
        for k, v in source.state_dict().items()
    }
    return state | {"module.rotation_head.weight": torch.zeros(4, 768)}


def test_self_supervised_swin_is_loaded_by_monais_own_rules_to_the_bit(tmp_path: Path) -> None:
    pretrained, ours, theirs = encoder(1), encoder(2), encoder(3)
    path = tmp_path / "model_swinvit.pt"
    torch.save({"epoch": 7, "state_dict": as_published(pretrained)}, path)
    load_encoder(ours, path)
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), pretrained.parameters(), strict=True)
    )
    # MONAI's own loading gives the same.
    whole = SwinUNETR(1, 3, feature_size=12, deep_supervision=False).network
    whole.load_from(torch.load(path, weights_only=True))
    loaded = dict(whole.swinViT.named_parameters())
    assert all(torch.equal(loaded[name], value) for name, value in ours.named_parameters())
    assert not torch.equal(next(theirs.parameters()), next(ours.parameters()))


def test_what_is_no_weight_of_the_encoder_is_left_out_and_counted(tmp_path: Path) -> None:
    source = encoder(1)
    torch.save({"state_dict": as_published(source)}, tmp_path / "w.pt")
    buffers = len(list(source.buffers()))
    assert load_encoder(encoder(2), tmp_path / "w.pt") == buffers + 1


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = encoder_of(SwinUNETR(1, 3, feature_size=24, deep_supervision=False), "swinViT")
    torch.save(as_published(wide), tmp_path / "w.pt")
    with pytest.raises(DatasetError, match="has shape"):
        load_encoder(encoder(1), tmp_path / "w.pt")


def test_file_without_the_encoders_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.conv.weight": torch.zeros(3)}}, tmp_path / "w.pt")
    with pytest.raises(DatasetError, match=r"has 0 of the encoder's \d+ weights"):
        load_encoder(encoder(1), tmp_path / "w.pt")
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(DatasetError, match="holds no weights"):
        load_encoder(encoder(1), tmp_path / "w.pt")


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of a checkpoint ran",)


def test_code_in_the_file_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": as_published(encoder(1)), "hook": Hostile()}, tmp_path / "w.pt")
    with pytest.raises(DatasetError, match="refused"):
        load_encoder(encoder(1), tmp_path / "w.pt")
    assert "ran" not in capsys.readouterr().out
