from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from pantskit.train.layout import ChannelsLastNorm, channels_last


def network(kind: str) -> Any:
    torch.manual_seed(0)
    per_stage = {"plain": "n_conv_per_stage", "residual": "n_blocks_per_stage"}[kind]
    built = {"plain": PlainConvUNet, "residual": ResidualEncoderUNet}[kind](
        input_channels=1, n_stages=3, features_per_stage=[4, 8, 8], conv_op=nn.Conv3d,
        kernel_sizes=3, strides=[1, 2, 2], num_classes=3, n_conv_per_stage_decoder=1,
        conv_bias=True, norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True,
        **{per_stage: 1},
    )  # fmt: skip
    for layer in built.modules():
        if isinstance(layer, nn.InstanceNorm3d):  # or one and zero would hide what they do
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return built


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_network_with_channels_last_has_the_answers_and_gradients_of_the_one_before(
    kind: str,
) -> None:
    before = network(kind)
    after = channels_last(deepcopy(before))
    assert any(isinstance(layer, ChannelsLastNorm) for layer in after.modules())
    assert list(after.state_dict()) == list(before.state_dict())
    image = torch.randn(2, 1, 16, 16, 12)
    for net in (before, after):
        sum(output.square().mean() for output in net(image)).backward()
    for one, other in zip(before(image), after(image), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        if one.grad is None:
            assert other.grad is None, name
            continue
        # A bias before a norm has no effect: its gradient is rounding around zero.
        scale = max(float(p.grad.abs().max()) for p in before.parameters() if p.grad is not None)
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4 * scale)


def test_other_networks_stay_as_they_are() -> None:
    other = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4))
    assert channels_last(other) is other
    assert type(other[1]) is nn.InstanceNorm3d
    assert other[0].weight.is_contiguous()
