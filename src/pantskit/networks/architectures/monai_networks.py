"""MONAI's networks with the arguments that nnU-Net's plans give.

MONAI is imported when a network is built: it takes seconds, and most models do without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pantskit.core.errors import ConfigError
from pantskit.networks.architectures.registry import missing_package

_DEPTHS = {
    # Variant: expansion of encoder and decoder, and of the bottleneck; blocks of the encoder and
    # the bottleneck. The decoder mirrors the encoder (Roy et al., MICCAI 2023, table 1).
    "s": ((2, 2, 2, 2), 2, (2, 2, 2, 2), 2),
    "b": ((2, 3, 4, 4), 4, (2, 2, 2, 2), 2),
    "m": ((2, 3, 4, 4), 4, (3, 4, 4, 4), 4),
    "l": ((3, 4, 8, 8), 8, (3, 4, 8, 8), 8),
}


class Adapter(nn.Module):
    """A network of MONAI's under nnU-Net's conventions.

    Attributes:
        network: MONAI's.
        deep_supervision: whether the answer is a list of resolutions, the finest first.
    """

    def __init__(self, network: nn.Module, *, deep_supervision: bool) -> None:
        super().__init__()
        self.network = network
        self.deep_supervision = deep_supervision

    def forward(self, patches: Tensor) -> Any:
        """(n, c, z, y, x) logits of (n, channels, z, y, x) patches."""
        return self.network(patches)


class _Single(Adapter):
    """A network that answers at one resolution."""

    def __init__(self, network: nn.Module, *, deep_supervision: bool) -> None:
        if deep_supervision:
            raise ValueError("this network has no deep supervision")
        super().__init__(network, deep_supervision=False)


class SwinUNETR(_Single):
    """MONAI's Swin UNETR."""

    def __init__(
        self, input_channels: int, num_classes: int, *, feature_size: int, deep_supervision: bool
    ) -> None:
        with _monai("Swin UNETR"):
            from monai.networks.nets import swin_unetr
        network = swin_unetr.SwinUNETR(input_channels, num_classes, feature_size=feature_size)
        super().__init__(network, deep_supervision=deep_supervision)


class UNETR(_Single):
    """MONAI's UNETR; its positions are those of one size of patch."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        img_size: Sequence[int],
        feature_size: int,
        hidden_size: int,
        mlp_dim: int,
        deep_supervision: bool,
    ) -> None:
        with _monai("UNETR"):
            from monai.networks.nets import unetr
        network = unetr.UNETR(
            input_channels,
            num_classes,
            tuple(img_size),
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
        )
        super().__init__(network, deep_supervision=deep_supervision)


class SegResNet(_Single):
    """MONAI's SegResNet, with transposed convolutions, whose gradients can be reproduced."""

    def __init__(
        self, input_channels: int, num_classes: int, *, init_filters: int, deep_supervision: bool
    ) -> None:
        with _monai("SegResNet"):
            from monai.networks.nets import segresnet
        network = segresnet.SegResNet(
            init_filters=init_filters,
            in_channels=input_channels,
            out_channels=num_classes,
            upsample_mode="deconv",
        )
        super().__init__(network, deep_supervision=deep_supervision)


class MedNeXt(Adapter):
    """MONAI's MedNeXt with kernel 3."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        variant: str,
        init_filters: int,
        strides: Sequence[Sequence[int]],
        deep_supervision: bool,
    ) -> None:
        with _monai("MedNeXt"):
            from monai.networks.nets import mednext
        expansion, bottleneck, blocks, bottleneck_blocks = _DEPTHS[variant]
        network = mednext.MedNeXt(
            init_filters=init_filters,
            in_channels=input_channels,
            out_channels=num_classes,
            encoder_expansion_ratio=expansion,
            decoder_expansion_ratio=expansion[::-1],
            bottleneck_expansion_ratio=bottleneck,
            kernel_size=3,
            deep_supervision=True,  # its weights are there whether they are asked or not
            use_residual_connection=True,
            blocks_down=blocks,
            blocks_bottleneck=bottleneck_blocks,
            blocks_up=blocks[::-1],
        )
        super().__init__(network, deep_supervision=deep_supervision)
        self._resolutions = len(strides) - 1  # nnU-Net has no loss at the coarsest

    def forward(self, patches: Tensor) -> Any:
        """(n, c, z, y, x) logits, or a list of them with deep supervision."""
        # MONAI's answers at all resolutions while it trains, nnU-Net's whenever it is told to.
        # No other part of this network acts on the flag of the outermost module.
        self.network.training = self.deep_supervision
        answer = self.network(patches)
        return list(answer[: self._resolutions]) if self.deep_supervision else answer


def set_deep_supervision(network: nn.Module, enabled: bool) -> bool:
    """Switch an adapter's deep supervision; returns whether it was one."""
    if not isinstance(network, Adapter):
        return False
    network.deep_supervision = enabled
    return True


@contextmanager
def _monai(name: str) -> Iterator[None]:
    """Import MONAI without torchvision.

    MONAI takes torchvision where it is there, for networks that are not used here; beside a
    CPU build of torch a CUDA build of torchvision raises an error as it is imported.

    Raises:
        ConfigError: If MONAI is not installed.
    """
    hidden = "torchvision" not in sys.modules
    if hidden:
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    try:
        yield
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("monai"):
            raise
        raise ConfigError(missing_package(name, "monai")) from None
    finally:
        if hidden:
            del sys.modules["torchvision"]


def encoder_of(network: nn.Module, attribute: str) -> nn.Module:
    """The encoder of an adapter's network."""
    assert isinstance(network, Adapter)
    encoder = getattr(network.network, attribute)
    assert isinstance(encoder, torch.nn.Module)
    return encoder
