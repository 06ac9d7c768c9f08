"""nnU-Net's trainer, set by a recipe.

With the default recipe it computes what nnUNetTrainer computes; what is changed is around it:
where files go, what is logged, checkpoints that hold plain data only, and Ctrl-C.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
    DownsampleSegForDSTransform,
)
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from pantskit.core.files import atomic_path
from pantskit.networks.axes import axis_name
from pantskit.networks.folder import CHECKPOINT, FOLD
from pantskit.networks.plans import Plans
from pantskit.train.curve import Epoch
from pantskit.train.recipe import Recipe

_LIGHT_ROTATION = 10 / 180 * np.pi
_LIGHT_SCALING = (0.9, 1.1)

_WARM_UP = 0.15  # share of one cycle


class RecipeTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnU-Net has no types
    """nnU-Net's trainer under a recipe; `prepare` comes before `run_training`."""

    # nnU-Net reads the parameters' names from here, so they must be its own.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.recipe = Recipe()
        self.interrupted = False
        self.shares: tuple[float, ...] = ()
        self._best_ema: float | None = None
        self.on_epoch: Callable[[Epoch], None] = lambda _: None
        self._started = time.perf_counter()
        self._network_plans = Plans(plans, dataset_json, configuration)

    def prepare(
        self,
        recipe: Recipe,
        model: Path,
        *,
        seed: int,
        shares: Sequence[float],
        on_epoch: Callable[[Epoch], None],
    ) -> None:
        """Take the settings of a recipe, write to a model folder, start the random numbers.

        Args:
            recipe: settings.
            model: the model's folder.
            seed: of all random numbers.
            shares: of the training voxels that are background, channel 1, 2, ...
            on_epoch: called after each epoch.
        """
        self.recipe, self.shares, self.on_epoch = recipe, tuple(shares), on_epoch
        self.num_epochs, self.num_iterations_per_epoch = recipe.epochs, recipe.iterations
        self.num_val_iterations_per_epoch = recipe.validation_iterations
        self.initial_lr, self.weight_decay = recipe.learning_rate, recipe.weight_decay
        self.oversample_foreground_percent = recipe.oversample_foreground
        self.enable_deep_supervision = recipe.deep_supervision
        self.save_every = recipe.save_every
        self.output_folder_base = str(model)
        self.output_folder = str(model / FOLD)
        (model / FOLD).mkdir(parents=True, exist_ok=True)
        self.log_file = str(model / FOLD / "training_log.txt")
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # nnU-Net's loaders draw from the global state
        torch.manual_seed(seed)

    # ---- what nnU-Net does and we do elsewhere, or not at all

    def print_to_log_file(
        self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True
    ) -> None:
        """To the log file only."""
        super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    def plot_network_architecture(self) -> None:
        """Nothing: the package it needs no longer works."""

    def _save_debug_information(self) -> None:
        """Nothing: it would put the machine's name into the model."""

    # The names are nnU-Net's: it asks for `plans_manager` among them.
    def build_network_architecture(
        self,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> torch.nn.Module:
        """The plans' network, built as prediction builds it."""
        network = self._network_plans.build_network(deep_supervision=enable_deep_supervision)
        if self.recipe.output_bias == "prior":
            _start_from_shares(network, self.shares)
        return network

    # ---- optimiser and schedule

    def configure_optimizers(self) -> tuple[Any, Any]:
        """nnU-Net's, or AdamW, or either with one cycle."""
        optimizer, scheduler = super().configure_optimizers()
        if self.recipe.optimizer == "adamw":
            optimizer = torch.optim.AdamW(
                self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay
            )
        else:
            for group in optimizer.param_groups:
                group["momentum"] = self.recipe.momentum
        if self.recipe.schedule == "one_cycle":
            total = self.num_epochs * self.num_iterations_per_epoch
            scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: one_cycle(step, total)
            )
        else:
            scheduler = type(scheduler)(optimizer, self.initial_lr, self.num_epochs)
        return optimizer, scheduler

    def on_train_epoch_start(self) -> None:
        """One cycle moves on by the iteration, not by the epoch."""
        if self.recipe.schedule == "poly":
            super().on_train_epoch_start()
            return
        self.network.train()
        self.logger.log("lrs", self.optimizer.param_groups[0]["lr"], self.current_epoch)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step, then the cycle's."""
        result: dict[str, Any] = super().train_step(batch)
        if self.recipe.schedule == "one_cycle":
            self.lr_scheduler.step()
        return result

    # ---- augmentation

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:  # noqa: N802  # nnU-Net's name
        """nnU-Net's, with the recipe's mirror axes, and smaller margins for light augmentation."""
        rotation, dummy_2d, initial, _ = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        transpose = self._network_plans.transpose
        mirror = tuple(a for a in range(3) if axis_name(a, transpose) in self.recipe.mirror_axes)
        self.inference_allowed_mirroring_axes = mirror or None
        if self.recipe.augmentation != "nnunet":
            initial = np.array(self.configuration_manager.patch_size)
        return rotation, dummy_2d, initial, mirror

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's transforms, or few and cheap ones."""
        if self.recipe.augmentation == "nnunet":
            transforms = super().get_training_transforms(*args, **kwargs)
            _without_benchmarks(transforms)
            return transforms
        patch_size, _, scales, mirror_axes = args[:4]
        steps: list[BasicTransform] = []
        if self.recipe.augmentation == "light":
            steps += _light_transforms(patch_size)
        if mirror_axes:
            steps.append(MirrorTransform(allowed_axes=mirror_axes))
        steps.append(RemoveLabelTansform(-1, 0))
        if scales is not None:
            steps.append(DownsampleSegForDSTransform(ds_scales=scales))
        return ComposeTransforms(steps)

    # ---- the loop

    def run_training(self) -> None:
        """Train; Ctrl-C ends it early, with a checkpoint of what was reached."""
        self.on_train_start()
        self._started = time.perf_counter()
        try:
            for _ in range(self.current_epoch, self.num_epochs):
                self._run_epoch()
        except KeyboardInterrupt:
            self.interrupted = True
        self.on_train_end()

    def _run_epoch(self) -> None:
        self.on_epoch_start()
        self.on_train_epoch_start()
        self.on_train_epoch_end(
            [
                self.train_step(next(self.dataloader_train))
                for _ in range(self.num_iterations_per_epoch)
            ]
        )
        if self.num_val_iterations_per_epoch:
            # A structure that is in no patch has no Dice: 0 / 0, which the mean leaves out.
            with torch.no_grad(), np.errstate(invalid="ignore"):
                self.on_validation_epoch_start()
                steps = range(self.num_val_iterations_per_epoch)
                self.on_validation_epoch_end(
                    [self.validation_step(next(self.dataloader_val)) for _ in steps]
                )
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """Report the epoch, and keep the latest and the best weights."""
        number, last = self.current_epoch + 1, self.current_epoch + 1 == self.num_epochs
        values = {name: self._latest(name) for name in ("lrs", "train_losses", "val_losses")}
        dice, mean_dice = self._latest("mean_fg_dice"), self._latest("ema_fg_dice")
        folder = Path(self.output_folder)
        if number % self.save_every == 0 and not last:
            self.save_checkpoint(str(folder / "checkpoint_latest.pth"))
        held_out = self.recipe.validation == "fold"
        if held_out and mean_dice is not None and mean_dice > (self._best_ema or -1.0):
            self._best_ema = mean_dice
            self.save_checkpoint(str(folder / "checkpoint_best.pth"))
        self.current_epoch += 1
        self.on_epoch(
            Epoch(
                epoch=number,
                learning_rate=values["lrs"],
                train_loss=values["train_losses"],
                validation_loss=values["val_losses"],
                validation_dice=dice,
                seconds=time.perf_counter() - self._started,
            )
        )

    def _latest(self, name: str) -> float | None:
        logged = self.logger.get_value(name, None)
        value = float(logged[-1]) if logged else None
        return None if value is None or np.isnan(value) else value

    def save_checkpoint(self, filename: str) -> None:
        """Write tensors and plain data only, atomically: it loads with `weights_only`."""
        network = self.network.module if self.is_ddp else self.network
        network = getattr(network, "_orig_mod", network)
        scaler = self.grad_scaler
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": None if scaler is None else scaler.state_dict(),
            "logging": {k: _plain(v) for k, v in self.logger.get_checkpoint().items()},
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": {"configuration": self.configuration_name, "fold": self.fold},
            # What nnU-Net looks up when it loads the folder itself.
            "trainer_name": nnUNetTrainer.__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        with atomic_path(Path(filename)) as part:
            torch.save(checkpoint, part)

    @property
    def checkpoint_path(self) -> Path:
        """The finished model's weights."""
        return Path(self.output_folder) / CHECKPOINT


def one_cycle(step: int, total: int) -> float:
    """Share of the highest learning rate at an iteration: linear warm-up, then cosine to 0."""
    warm_up = max(1, round(_WARM_UP * total))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def _start_from_shares(network: torch.nn.Module, shares: Sequence[float]) -> None:
    """Let the output layers begin with the shares of the channels as their softmax."""
    # A structure in no voxel would start at minus infinity.
    prior = torch.tensor(shares).clamp(min=1e-6).log()
    for layer in network.modules():
        if not isinstance(layer, torch.nn.Conv3d) or layer.bias is None:
            continue
        if layer.out_channels == len(shares) and set(layer.kernel_size) == {1}:
            layer.bias.data.copy_(prior)


def _plain(value: Any) -> Any:
    """nnU-Net logs numpy numbers, which `weights_only` does not load everywhere."""
    return [_plain(v) for v in value] if isinstance(value, list) else float(value)


def _without_benchmarks(transforms: ComposeTransforms) -> None:
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
            rotation=(-_LIGHT_ROTATION, _LIGHT_ROTATION),
            p_scaling=0.5,
            scaling=_LIGHT_SCALING,
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
