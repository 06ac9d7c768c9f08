"""Augmentation besides nnU-Net's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

_ROTATION = 10 / 180 * np.pi
_SCALING = (0.9, 1.1)


def few_transforms(kind: str, patch_size: Any, mirror_axes: Sequence[int]) -> list[BasicTransform]:
    """What a recipe's `augmentation` other than nnU-Net's does to a patch.

    Args:
        kind: `"light"` or `"none"`.
        patch_size: voxels of the network's input.
        mirror_axes: axes of it that may be mirrored.
    """
    steps = _light_transforms(patch_size) if kind == "light" else []
    if mirror_axes:
        steps.append(MirrorTransform(allowed_axes=tuple(mirror_axes)))
    return steps


def without_benchmarks(transforms: Any) -> None:
    """Stop the blur from timing two ways and taking the faster: runs would differ by rounding."""
    for step in transforms.transforms:
        inner = step.transform if isinstance(step, RandomTransform) else step
        if isinstance(inner, GaussianBlurTransform):
            inner.benchmark = False


def _light_transforms(patch_size: Any) -> list[BasicTransform]:
    """Small rotations and scalings, brightness and noise."""
    return [
        SpatialTransform(
            patch_size,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=0.5,
            rotation=(-_ROTATION, _ROTATION),
            p_scaling=0.5,
            scaling=_SCALING,
            p_synchronize_scaling_across_axes=0.5,
            mode_seg="nearest",
            border_mode_seg="constant",
            padding_value_seg=-1,
        ),
        RandomTransform(
            GaussianNoiseTransform(noise_variance=(0, 0.05), p_per_channel=1), apply_probability=0.2
        ),
        RandomTransform(
            MultiplicativeBrightnessTransform(
                multiplier_range=BGContrast((0.85, 1.15)),
                synchronize_channels=False,
                p_per_channel=1,
            ),
            apply_probability=0.3,
        ),
    ]
