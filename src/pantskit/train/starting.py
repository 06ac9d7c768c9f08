"""What helps a short training: output layers that know the shares, and one cycle of learning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_WARM_UP = 0.15  # share of one cycle


def one_cycle(step: int, total: int) -> float:
    """Share of the highest learning rate at an iteration: linear warm-up, then cosine to 0."""
    warm_up = max(1, round(_WARM_UP * total))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def start_from_shares(network: torch.nn.Module, shares: Sequence[float], *, regions: bool) -> None:
    """Let the output layers begin with the shares of the channels as their answer.

    Args:
        network: whose layers of as many channels, with a kernel of one voxel, are output layers.
        shares: of an image that each channel takes up, see `starting_shares`.
        regions: whether each channel is a yes or no of its own.
    """
    # A structure in no voxel would start at minus infinity.
    share = torch.tensor(shares).clamp(1e-6, 1 - 1e-6)
    prior = share.logit() if regions else share.log()
    for layer in network.modules():
        if not isinstance(layer, torch.nn.Conv3d) or layer.bias is None:
            continue
        if layer.out_channels == len(shares) and set(layer.kernel_size) == {1}:
            layer.bias.data.copy_(prior)
