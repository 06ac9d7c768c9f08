"""Networks and scans for predict.py: made up, of any size, on no data but their own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
CLASSES = 29  # 28 and background
_FEATURES = [32, 64, 128, 256, 320, 320]


def small_model(folder: Path) -> Path:
    """Train the tests' network in half a minute; the folder of the model."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import blobs

    return blobs.trained(folder)[1]


def replanned(folder: Path, spacing: float, patch: int) -> Any:
    """The small model with other windows on another grid, mirrored along all axes."""
    from pantskit.networks.folder import Model
    from pantskit.networks.plans import Plans

    model = Model.load(folder)
    plans = model.plans.plans
    plans["configurations"]["3d_fullres"] |= {"patch_size": [patch] * 3, "spacing": [spacing] * 3}
    return replace(model, plans=Plans(plans, model.plans.dataset_json), mirror_axes=(0, 1, 2))


def full_size(folder: Path, spacing: float, patch: int, features: int = 32) -> Any:
    """The network that nnU-Net plans for 28 structures, with random weights.

    It takes as long as a trained one; its answer is noise, so that neighbours differ everywhere:
    the worst case of the compiled export.
    """
    import torch

    from pantskit.core.labels import STRUCTURES
    from pantskit.networks.heads import heads_of_channels
    from pantskit.networks.plans import Plans

    model = replanned(folder, spacing, patch)
    configuration = model.plans.plans["configurations"]["3d_fullres"]
    stages = len(_FEATURES)
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": [n * features // 32 for n in _FEATURES],
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    labels = {"background": 0, **{s: n for n, s in enumerate(STRUCTURES, 1)}}
    plans = Plans(model.plans.plans, model.plans.dataset_json | {"labels": labels})
    torch.manual_seed(0)
    weights = plans.build_network().state_dict()
    return replace(
        model, plans=plans, folds=(weights,), heads=heads_of_channels(tuple(STRUCTURES)), info=None
    )


def with_torch_resampling(model: Any) -> Any:
    """The model with plans that resample by torch, nnU-Net's faster way."""
    from copy import deepcopy

    from pantskit.networks.plans import Plans

    plans = deepcopy(model.plans.plans)
    configuration = plans["configurations"]["3d_fullres"]
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_torch_fornnunet"
        configuration[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg",
            "force_separate_z": False,
            "memefficient_seg_resampling": False,
        }
    return replace(model, plans=Plans(plans, model.plans.dataset_json))


def patient(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Any:
    """An ellipsoid of fat in air, with blobs in it: a CT of any size."""
    from pantskit.core.geometry import Geometry
    from pantskit.core.volume import Volume

    rng = np.random.default_rng(1)
    array = np.full(shape, -1000, np.int16, order="F")
    grid = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2]]
    x, y = np.meshgrid(*grid, indexing="ij", sparse=True)
    body = x**2 / 0.5 + y**2 / 0.3 < 1
    spots = np.hypot(x - 0.3, y) < 0.15, np.hypot(x + 0.3, y) < 0.12, np.hypot(x, y) < 0.1
    for k in range(shape[2]):
        plane = np.where(body, -100, -1000).astype(np.int16)
        for spot, hu in zip(spots, (120, 220, 60), strict=True):
            if k * spacing[2] % 90 < 50:
                plane[spot] = hu
        plane[body] += rng.integers(-10, 10, int(body.sum()), dtype=np.int16)
        array[:, :, k] = plane
    return Volume(array, Geometry.from_spacing(shape, spacing, orientation="LAI"))


def anatomy(shape: tuple[int, int, int]) -> np.ndarray:
    """Logits of 28 ellipsoids: large inside, falling off over some voxels, background between."""
    rng = np.random.default_rng(0)
    logits = np.empty((CLASSES, *shape), np.float32)
    grid = [np.linspace(0, 1, n, dtype=np.float32) for n in shape]
    z, y, x = np.meshgrid(*grid, indexing="ij", sparse=True)
    logits[0] = 0
    for c in range(1, CLASSES):
        centre, axes = rng.uniform(0.2, 0.8, 3), rng.uniform(0.03, 0.15, 3)
        far = sum(((a - m) / r) ** 2 for a, m, r in zip((z, y, x), centre, axes, strict=True))
        logits[c] = np.clip(12 * (1 - np.sqrt(far)), -15, 15)
    return logits


def nnunet_predictor(model: Any, mirror: bool, device: Any) -> Any:
    """nnUNetPredictor with a model's weights."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    plans = model.plans
    peer = nnUNetPredictor(
        use_mirroring=mirror,
        device=device,
        perform_everything_on_device=device.type == "cuda",
        allow_tqdm=False,
    )
    peer.manual_initialization(
        plans.build_network(), plans.manager, plans.configuration, [model.weights],
        plans.dataset_json, "nnUNetTrainer", model.mirror_axes,
    )  # fmt: skip
    return peer


def nnunet_labels(model: Any, peer: Any, image: Any) -> np.ndarray:
    """What nnUNetPredictor answers, in the ids of `pants` and the CT's own axes.

    The CT has to lie in the model's orientation.
    """
    array = np.ascontiguousarray(image.array.T, np.float32)[None]
    spacing = list(image.geometry.spacing[::-1])
    labels = peer.predict_single_npy_array(array, {"spacing": spacing})
    return model.heads.table[labels].T
