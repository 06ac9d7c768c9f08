"""The hybrid OBELISK network, for weights that were trained on abdominal CT.

A small U-Net whose wide context comes from two layers of sparse deformable kernels: a layer
looks at its image at a few hundred learnt, continuous offsets around every point of a coarse
grid, and mixes what it finds there by kernels of one voxel that are densely connected.

Source: Heinrich, Oktay, Bouteldja, "OBELISK-Net: Fewer layers to solve 3D multi-organ
segmentation with sparse deformable convolutions", Medical Image Analysis 54 (2019). Widths,
strides and names follow from the pretrained weights; what neither says (grids, slopes, order
of channels) from the authors' published description of their network.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

INPUT_SHAPE = (144, 144, 144)
N_CHANNELS = 9  # background and eight organs
_SLOPE = 0.025  # of the leaky rectifiers
_GROWTH = 32  # channels that each dense layer adds


class SparseKernel(nn.Module):
    """One layer: look at learnt offsets, then dense mixing by 1 x 1 x 1 kernels.

    Args:
        offsets: how many points the kernel has.
        groups: of the first mixing.
        outputs: channels.
        grid: points at which the kernel is applied, along the three axes of the image; they
            span it from its first to its last voxel centre.
    """

    def __init__(self, offsets: int, groups: int, outputs: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.offsets = nn.Parameter(torch.zeros(1, offsets, 1, 1, 3))  # in half image widths
        self.mix = nn.Conv3d(offsets, 128, 1, groups=groups, bias=False)
        widths = [128 + n * _GROWTH for n in range(4)]
        self.norms = nn.ModuleList(nn.BatchNorm3d(w) for w in widths)
        added = [_GROWTH, _GROWTH, _GROWTH, outputs]
        self.dense = nn.ModuleList(
            nn.Conv3d(w, n, 1, bias=False) for w, n in zip(widths, added, strict=True)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(1, 1, x, y, z) image to (1, outputs, *grid)."""
        axes = [torch.linspace(-1, 1, n, device=image.device) for n in self.grid]
        # grid_sample wants the last axis first.
        points = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
        where = points.reshape(1, 1, -1, 1, 3) + self.offsets
        seen = F.grid_sample(image, where, align_corners=True)  # as when the weights were trained
        features = _rectified(self.mix(seen.reshape(1, -1, *self.grid)))
        *growing, last = zip(self.norms, self.dense, strict=True)
        for norm, conv in growing:
            features = torch.cat([features, _rectified(conv(norm(features)))], dim=1)
        norm, conv = last
        return _rectified(conv(norm(features)))


class Block(nn.Sequential):
    """A 3 x 3 x 3 convolution, normalised and rectified."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1),
                norm=nn.BatchNorm3d(outputs),
                act=nn.LeakyReLU(_SLOPE),
            )
        )


class Obelisk(nn.Module):
    """The network: (1, 1, 144, 144, 144) of HU / 1024 + 1 to (1, 9, 144, 144, 144) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.at_full = Block(1, 4)
        self.at_half = nn.Sequential(Block(4, 16, stride=2), Block(16, 16))
        self.at_quarter = nn.Sequential(Block(16, 32, stride=2), Block(32, 32), Block(32, 32))
        self.near = SparseKernel(128, 2, 16, (36, 36, 36))
        # 36 along the second axis, unlike the others: so the weights were trained.
        self.far = SparseKernel(512, 4, 32, (18, 36, 18))
        self.join_quarter = Block(64, 32)
        self.join_half = Block(64, 12)
        self.join_full = Block(16, N_CHANNELS)
        self.classify = nn.Conv3d(N_CHANNELS, N_CHANNELS, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of every voxel."""
        full = self.at_full(image)
        half = self.at_half(full)
        quarter = self.at_quarter(half)
        smooth = F.avg_pool3d(image, 3, stride=1, padding=1)
        near = self.near(smooth)
        far = self.far(F.avg_pool3d(smooth, 3, stride=1, padding=1))
        x = self.join_quarter(torch.cat([quarter, _resized(far, quarter)], dim=1))
        x = self.join_half(torch.cat([_resized(x, half), _resized(near, half), half], dim=1))
        x = self.join_full(torch.cat([_resized(x, full), full], dim=1))
        logits: Tensor = self.classify(x)
        return logits

    def load_pretrained(self, weights: dict[str, Tensor]) -> None:
        """Take the published weights, whose layers have other names.

        Raises:
            RuntimeError: If a layer is missing, left over, or of another shape.
        """
        self.load_state_dict({_our_name(name): tensor for name, tensor in weights.items()})


# Published name of a convolution, its normalisation's the same number: ours.
_BLOCKS = {
    "0": "at_full", "1": "at_half.0", "11": "at_half.1", "2": "at_quarter.0", "22": "at_quarter.1",
    "3": "at_quarter.2", "6bU": "join_quarter", "6U": "join_half", "7U": "join_full",
}  # fmt: skip
_KERNELS = {"1": "near", "2": "far"}


def _our_name(published: str) -> str:
    layer, _, parameter = published.partition(".")
    if layer.startswith("offset"):
        return f"{_KERNELS[layer[-1]]}.offsets"
    if layer == "conv77U":
        return f"classify.{parameter}"
    kind, number = next(
        (kind, layer.removeprefix(kind))
        for kind in ("conv", "batch", "linear")
        if layer.startswith(kind)
    )
    if number in _BLOCKS:
        return f"{_BLOCKS[number]}.{'conv' if kind == 'conv' else 'norm'}.{parameter}"
    kernel, step = _KERNELS[number[0]], "abcde".index(number[1])
    if kind == "batch":
        return f"{kernel}.norms.{step}.{parameter}"
    return f"{kernel}.mix.{parameter}" if step == 0 else f"{kernel}.dense.{step - 1}.{parameter}"


def _rectified(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="trilinear", align_corners=False)
