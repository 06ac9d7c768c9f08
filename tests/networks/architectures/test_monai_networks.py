import pydoc
import sys

import pytest
import torch

from pantskit.core.errors import ConfigError
from pantskit.networks.architectures import ARCHITECTURES
from pantskit.networks.architectures.monai_networks import MedNeXt, SegResNet, set_deep_supervision

OF_MONAI = [a for a in ARCHITECTURES.values() if a.package]


@pytest.mark.parametrize("architecture", OF_MONAI, ids=lambda a: a.name)
def test_plans_name_a_class_that_takes_nnunets_arguments(architecture) -> None:
    settings = architecture.settings((64, 64, 64), 8)
    network_class = pydoc.locate(architecture.network_class)
    network = network_class(input_channels=1, num_classes=5, deep_supervision=False, **settings)
    assert sum(p.numel() for p in network.parameters()) > 1000


@pytest.mark.parametrize("variant", "sbml")
def test_mednext_is_the_published_variant(variant: str) -> None:
    from monai.networks.nets.mednext import create_mednext

    settings = ARCHITECTURES[f"mednext-{variant}"].settings((32, 32, 32), 32)
    with torch.device("meta"):
        ours = MedNeXt(1, 4, deep_supervision=True, **settings).network.state_dict()
        theirs = create_mednext(variant, out_channels=4, deep_supervision=True).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_mednext_answers_at_nnunets_resolutions_when_told_to_and_only_then() -> None:
    torch.manual_seed(0)
    settings = ARCHITECTURES["mednext-s"].settings((32, 32, 32), 2)
    network = MedNeXt(1, 3, deep_supervision=True, **settings).eval()
    patch = torch.randn(1, 1, 32, 32, 16)
    with torch.no_grad():
        several = network(patch)
        assert [tuple(a.shape[2:]) for a in several] == [
            (32, 32, 16), (16, 16, 8), (8, 8, 4), (4, 4, 2),
        ]  # fmt: skip
        assert set_deep_supervision(network, False)
        assert torch.equal(network(patch), several[0])
    assert not set_deep_supervision(torch.nn.Identity(), True)


def test_network_of_one_resolution_refuses_deep_supervision() -> None:
    with pytest.raises(ValueError, match="no deep supervision"):
        SegResNet(1, 2, init_filters=8, deep_supervision=True)


def test_without_monai_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(ConfigError, match=r"pantskit\[monai\]"):
        SegResNet(1, 2, init_filters=8, deep_supervision=False)


def test_monai_leaves_torchvision_alone() -> None:
    before = "torchvision" in sys.modules
    SegResNet(1, 2, init_filters=8, deep_supervision=False)
    assert ("torchvision" in sys.modules) == before
