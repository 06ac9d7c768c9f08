"""nnU-Net's networks laid out in memory as a CPU trains them fastest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_PACKAGE = "dynamic_network_architectures."


class ChannelsLastNorm(nn.InstanceNorm3d):
    """Instance norm that leaves the channels where they are.

    torch's own turns its input to channels first, so each convolution would turn it back. A group
    norm with a group a channel is the same formula and takes both.
    """

    def forward(self, image: Tensor) -> Tensor:
        """As nn.InstanceNorm3d without running statistics."""
        return functional.group_norm(image, image.shape[1], self.weight, self.bias, self.eps)


def channels_last(network: nn.Module) -> nn.Module:
    """Keep the channels of a voxel together, in all layers of one of nnU-Net's networks.

    On CPUs convolutions of few channels take half the time, most of all their gradients of weights.
    Numbers change by rounding only, names of a checkpoint not at all. Other
    networks stay as they are: some look at their arrays in ways that need channels first.
    """
    if not type(network).__module__.startswith(_PACKAGE):
        return network
    for layer in network.modules():
        if type(layer) is nn.InstanceNorm3d and not layer.track_running_stats:
            # Layers are held under several names, so this one changes in its place.
            layer.__class__ = ChannelsLastNorm
    move: Any = network.to  # torch's types know no memory format here
    laid_out: nn.Module = move(memory_format=torch.channels_last_3d)
    return laid_out
