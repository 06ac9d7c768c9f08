"""Sliding window: a network over a volume larger than its input."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]

# Logits are sums of windows times weights; nnU-Net scales weights to a peak of 10 because it
# sums in float16. The scale cancels, and float32 needs none.
_SIGMA = 1 / 8


def predict_logits(
    network: torch.nn.Module,
    image: NDArray[np.float32],
    patch_size: Shape,
    *,
    n_channels: int,
    device: torch.device,
    mirror_axes: tuple[int, ...] = (),
    step: float = 0.5,
) -> torch.Tensor:
    """Logits of a whole preprocessed image.

    Windows overlap by half and are averaged with Gaussian weights, as nnU-Net does; sums are
    float32, which on a CPU is faster than nnU-Net's float16, too.

    Args:
        network: in evaluation mode, on `device`.
        image: (c, z, y, x), preprocessed.
        patch_size: the network's input, in voxels.
        n_channels: output channels of the network.
        device: where it runs; sums are kept there as well.
        mirror_axes: spatial axes (0 to 2) over whose flips the answer is averaged.
        step: distance of windows as a share of the patch.

    Returns:
        (n_channels, z, y, x) float32.

    Raises:
        ImageError: If a logit is not finite.
    """
    import torch

    padded, inside = _padded(image, patch_size)
    shape: Shape = padded.shape[1:]
    data = torch.from_numpy(padded).to(device)
    weights = torch.from_numpy(gaussian_weights(patch_size)).to(device)
    total = torch.zeros((n_channels, *shape), dtype=torch.float32, device=device)
    norm = torch.zeros(shape, dtype=torch.float32, device=device)
    with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
        for window in windows(shape, patch_size, step):
            logits = _mirrored(network, data[(slice(None), *window)][None], mirror_axes)[0]
            total[(slice(None), *window)] += logits.float() * weights
            norm[window] += weights
    total /= norm
    if not bool(torch.isfinite(total).all()):
        raise ImageError("the network's answer is not finite; are the image's values HU?")
    return total[(slice(None), *inside)]


def windows(shape: Shape, patch_size: Shape, step: float) -> Iterator[tuple[slice, slice, slice]]:
    """Windows that cover a volume, evenly spaced, at most `step` patches apart."""
    starts = []
    for size, patch in zip(shape, patch_size, strict=True):
        n = int(np.ceil((size - patch) / (patch * step))) + 1
        spacing = (size - patch) / (n - 1) if n > 1 else 0.0
        starts.append([int(np.round(spacing * i)) for i in range(n)])
    for corner in product(*starts):
        z, y, x = (slice(c, c + p) for c, p in zip(corner, patch_size, strict=True))
        yield z, y, x


@cache
def gaussian_weights(patch_size: Shape) -> NDArray[np.float32]:
    """Weight of each voxel of a window: 1 in its centre, at most an eighth patch wide, never 0."""
    from scipy.ndimage import gaussian_filter

    peak = np.zeros(patch_size)
    peak[tuple(n // 2 for n in patch_size)] = 1
    weights = gaussian_filter(peak, [n * _SIGMA for n in patch_size], mode="constant")
    # As in nnU-Net, corners get the smallest weight that float16 does not round to 0.
    weights = (weights / weights.max() * 10).astype(np.float16).astype(np.float32) / 10
    weights[weights == 0] = weights[weights > 0].min()
    result: NDArray[np.float32] = weights
    return result


def _mirrored(network: torch.nn.Module, patch: torch.Tensor, axes: tuple[int, ...]) -> Any:
    """The mean answer over all flips of the axes."""
    import torch

    flips = [c for n in range(len(axes) + 1) for c in combinations([a + 2 for a in axes], n)]
    total = None
    for flip in flips:
        answer = network(torch.flip(patch, flip))
        answer = torch.flip(answer, flip)
        total = answer if total is None else total + answer
    assert total is not None
    return total / len(flips)


def _padded(
    image: NDArray[np.float32], patch_size: Shape
) -> tuple[NDArray[np.float32], tuple[slice, ...]]:
    """The image grown by zeros on both sides to a patch at least, and where it lies inside."""
    extra = [max(p - n, 0) for n, p in zip(image.shape[1:], patch_size, strict=True)]
    before = [e // 2 for e in extra]
    padding = [(0, 0), *((b, e - b) for b, e in zip(before, extra, strict=True))]
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape[1:], strict=True))
    return np.ascontiguousarray(np.pad(image, padding)), inside
