"""nnU-Net's trainer, set by a recipe.

With the default recipe it computes what nnUNetTrainer computes; what is changed is around it:
where files go, what is logged, checkpoints that hold plain data only, and Ctrl-C.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
    DownsampleSegForDSTransform,
)
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from pantskit.core.files import atomic_path
from pantskit.networks.architectures.monai_networks import encoder_of, set_deep_supervision
from pantskit.networks.architectures.pretrained import load_encoder
from pantskit.networks.axes import axis_name
from pantskit.networks.folder import CHECKPOINT, FOLD
from pantskit.networks.plans import Plans
from pantskit.train import resume
from pantskit.train.augmentation import few_transforms, without_benchmarks
from pantskit.train.batches import NumberedBatches, draw_batches, seed_for
from pantskit.train.curve import Epoch, LearningCurve
from pantskit.train.layout import channels_last
from pantskit.train.partial_training import PartialLabelsTrainer
from pantskit.train.ranks import Ranks
from pantskit.train.recipe import Recipe
from pantskit.train.starting import one_cycle, start_from_shares

if TYPE_CHECKING:
    from pantskit.train.assignment import Assignment


@dataclass(frozen=True)
class TrainerListener:
    """Who is told how it goes.

    Attributes:
        say: a line for the user.
        epoch: each row of the learning curve.
    """

    say: Callable[[str], None] = lambda _: None
    epoch: Callable[[Epoch], None] = lambda _: None


class RecipeTrainer(PartialLabelsTrainer):
    """nnU-Net's trainer under a recipe; `prepare` comes before `run_training`."""

    network: Any

    # nnU-Net reads the parameters' names from here, so they must be its own.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device,
    ) -> None:
        with warnings.catch_warnings():  # of several processes it takes each to have a GPU
            warnings.filterwarnings("ignore", message=".*GradScaler is enabled")
            super().__init__(plans, configuration, fold, dataset_json, device)
        self.device = device  # nnU-Net takes the first GPU, whichever it is given
        self.is_ddp = False  # until `initialize` has what one process has
        self.recipe, self.ranks = Recipe(), Ranks()
        self.interrupted = False
        self.shares: tuple[float, ...] = ()
        self.best_ema: float | None = None
        self.losses: list[float] = []  # of the iterations done in this epoch
        self.earlier_seconds = 0.0  # of the runs before this one
        self._started = self._saved = time.perf_counter()
        self._asked_to_stop: Callable[[], bool] = lambda: False
        self._network_plans = Plans(plans, dataset_json, configuration)

    def prepare(
        self,
        task: Assignment,
        ranks: Ranks,
        *,
        augmenters: int = 0,
        listener: TrainerListener | None = None,
    ) -> None:
        """Take the settings of an assignment, write to its model folder, start the random numbers.

        Args:
            task: the assignment.
            ranks: the processes that train together, each with an assignment of the same content.
            augmenters: processes that draw batches ahead; 0 for none.
            listener: is told how it goes.
        """
        recipe = task.recipe
        self.recipe, self.ranks, self.shares = recipe, ranks, task.shares
        self.model, self.seed, self.mark = task.model, task.seed, task.mark
        self._augmenters, self._listener = augmenters, listener or TrainerListener()
        # What nnU-Net and the learning curve write in every process counts in the first's only.
        own = task.model if ranks.first else task.work / f"rank_{ranks.rank}"
        self.channels, self.curve = task.channels, LearningCurve(own)
        self.num_epochs, self.num_iterations_per_epoch = recipe.epochs, recipe.iterations
        self.num_val_iterations_per_epoch = recipe.validation_iterations
        self.initial_lr, self.weight_decay = recipe.learning_rate, recipe.weight_decay
        self.oversample_foreground_percent = recipe.oversample_foreground
        self.enable_deep_supervision = recipe.deep_supervision and recipe.network.deep_supervision
        mixed = recipe.mixed_precision and self.device.type == "cuda"
        self.grad_scaler = torch.amp.GradScaler("cuda") if mixed else None
        self.output_folder_base = str(own)
        self.output_folder = str(own / FOLD)
        (own / FOLD).mkdir(parents=True, exist_ok=True)
        self.log_file = str(own / FOLD / "training_log.txt")
        seed_for(task.seed, "weights", 0)

    def initialize(self) -> None:
        """nnU-Net's network, optimiser and loss; those of several processes are tied together.

        As nnU-Net does it on GPUs, where gradients are averaged; its own way takes no CPUs.
        """
        super().initialize()
        if self.ranks.count == 1:
            return
        self.is_ddp = True
        self.ranks.share(self.batch_size)  # refused before anything is computed
        together: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm  # torch gives it no types
        self.network = torch.nn.parallel.DistributedDataParallel(
            together(self.network),
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            # nnU-Net's networks have layers for lower resolutions, used or not.
            find_unused_parameters=not self.enable_deep_supervision,
        )
        self.loss = self._build_loss()

    @property
    def seconds(self) -> float:
        """Wall time of the training, of all its runs together."""
        return self.earlier_seconds + time.perf_counter() - self._started

    @property
    def plain_network(self) -> torch.nn.Module:
        """The network, out of what wraps it."""
        network = self.network.module if self.is_ddp else self.network
        plain: torch.nn.Module = getattr(network, "_orig_mod", network)
        return plain

    # ---- what nnU-Net does and we do elsewhere, or not at all

    def print_to_log_file(
        self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True
    ) -> None:
        """To the log file only."""
        super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    def _do_i_compile(self) -> bool:
        """By the recipe, not by the environment; on a CPU it is not worth its time."""
        return self.recipe.compile and self.device.type == "cuda"

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
            start_from_shares(network, self.shares, regions=self.channels.regions)
        if self.recipe.pretrained:
            encoder = encoder_of(network, self.recipe.network.encoder)
            file = Path(self.recipe.pretrained)
            left_out = load_encoder(encoder, file)
            self._listener.say(f"encoder: weights of {file.name}; {left_out} others left there")
        return channels_last(network) if self.device.type == "cpu" else network

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Where the network has it: not all of them keep the switch where nnU-Net's do."""
        if not set_deep_supervision(self.plain_network, enabled):
            super().set_deep_supervision_enabled(enabled)

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
        result = super().train_step(batch)
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
            without_benchmarks(transforms)
            return transforms
        patch_size, _, scales, mirror_axes = args[:4]
        steps = few_transforms(self.recipe.augmentation, patch_size, mirror_axes)
        steps.append(RemoveLabelTansform(-1, 0))
        if kwargs["regions"] is not None:
            steps.append(ConvertSegmentationToRegionsTransform(regions=kwargs["regions"]))
        if scales is not None:
            steps.append(DownsampleSegForDSTransform(ds_scales=scales))
        return ComposeTransforms(steps)

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's loaders, drawn from by number, from where the training is."""
        per_epoch = (self.num_iterations_per_epoch, self.num_val_iterations_per_epoch)
        processes = (self._augmenters, (self._augmenters + 1) // 2)
        done = (len(self.losses), 0)
        drawn = []
        for k, (what, alone) in enumerate(
            zip(("train", "validation"), super().get_dataloaders(), strict=True)
        ):
            first = self.current_epoch * per_epoch[k] + done[k]
            drawn.append(
                draw_batches(
                    NumberedBatches(alone.data_loader, self.seed, what, self.ranks.share),
                    range(first, self.num_epochs * per_epoch[k]),
                    processes=processes[k],
                    pin_memory=self.device.type == "cuda",
                )
            )
        return drawn[0], drawn[1]

    # ---- the loop

    def run_training(self) -> None:
        """Train from the latest checkpoint or the start; Ctrl-C ends it early, with a model."""
        self.initialize()
        if resume.restore(self):
            self._listener.say(f"goes on after {self.describe_progress()}")
        self.on_train_start()
        self._started = self._saved = time.perf_counter()
        with resume.heeding_signals(self._listener.say) as self._asked_to_stop:
            try:
                while self.current_epoch < self.num_epochs:
                    self._run_epoch()
            except resume.Stopped:
                self.interrupted = True
        self.on_train_end()

    def describe_progress(self) -> str:
        """How far it is: `3 epochs and 12 iterations`."""
        more = f" and {len(self.losses)} iterations" if self.losses else ""
        return f"{self.current_epoch} epochs{more}"

    def _run_epoch(self) -> None:
        self.on_epoch_start()
        self.on_train_epoch_start()
        iterations = self.num_iterations_per_epoch
        for n in range(len(self.losses), iterations):
            batch = next(self.dataloader_train)
            seed_for(self.seed, self._step, self.current_epoch * iterations + n)
            loss = float(self.train_step(batch)["loss"])
            self.losses.append(self.ranks.mean(loss))
            self._between_steps()
        self.on_train_epoch_end([{"loss": np.float32(loss)} for loss in self.losses])
        if self.num_val_iterations_per_epoch:
            self._validate()
        self.on_epoch_end()

    @property
    def _step(self) -> str:
        """Whose random numbers: patches of one batch do not drop out the same features."""
        return "step" if self.ranks.first else f"step {self.ranks.rank}"

    def _validate(self) -> None:
        # A structure that is in no patch has no Dice: 0 / 0, which the mean leaves out.
        with torch.no_grad(), np.errstate(invalid="ignore"):
            self.on_validation_epoch_start()
            outputs = []
            for _ in range(self.num_val_iterations_per_epoch):
                outputs.append(self.validation_step(next(self.dataloader_val)))
                self._between_steps()
            self.on_validation_epoch_end(outputs)

    def _between_steps(self) -> None:
        """Save now and then; end here if asked to.

        Raises:
            Stopped: With the state saved.
        """
        asked = self.ranks.any(self._asked_to_stop())
        if asked or time.perf_counter() - self._saved > resume.SAVE_EVERY_S:
            self._save_state()
        if asked:
            raise resume.Stopped

    def _save_state(self) -> None:
        self.save_checkpoint(str(resume.latest_path(self.model)))
        self._saved = time.perf_counter()

    def on_epoch_end(self) -> None:
        """Report the epoch, and keep the latest and the best weights."""
        # As it would be read from a checkpoint: numpy's float32 would add up otherwise.
        self.logger.load_checkpoint(self._plain_log())
        values = {name: self._latest(name) for name in ("lrs", "train_losses", "val_losses")}
        dice, mean_dice = self._latest("mean_fg_dice"), self._latest("ema_fg_dice")
        self.current_epoch += 1
        self.losses = []
        row = Epoch(
            epoch=self.current_epoch,
            learning_rate=values["lrs"],
            train_loss=values["train_losses"],
            validation_loss=values["val_losses"],
            validation_dice=dice,
            seconds=self.seconds,
        )
        self.curve.add(row)
        held_out = self.recipe.validation == "fold"
        if held_out and mean_dice is not None and mean_dice > (self.best_ema or -1.0):
            self.best_ema = mean_dice
            self.save_checkpoint(str(self.model / FOLD / "checkpoint_best.pth"))
        last = self.current_epoch == self.num_epochs
        if last or self.current_epoch % self.recipe.save_every == 0:
            self._save_state()
        self._listener.epoch(row)
        if not last:
            self._between_steps()

    def on_train_end(self) -> None:
        """Write the model's weights; the latest checkpoint stays until the model is complete."""
        self.save_checkpoint(str(self.checkpoint_path))
        del self.dataloader_train, self.dataloader_val  # which ends their processes
        self.curve.draw()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plain_log(self) -> dict[str, Any]:
        return {k: _plain(v) for k, v in self.logger.get_checkpoint().items()}

    def _latest(self, name: str) -> float | None:
        logged = self.logger.get_value(name, None)
        value = float(logged[-1]) if logged else None
        return None if value is None or np.isnan(value) else value

    def save_checkpoint(self, filename: str) -> None:
        """Write tensors and plain data only, atomically: it loads with `weights_only`."""
        if not self.ranks.first:
            return
        scaler = self.grad_scaler
        checkpoint = {
            # As any reader expects them, however this machine trains (layout.py).
            "network_weights": {
                name: value.contiguous() for name, value in self.plain_network.state_dict().items()
            },
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": None if scaler is None else scaler.state_dict(),
            "logging": self._plain_log(),
            "_best_ema": self.best_ema,
            "current_epoch": self.current_epoch,
            "init_args": {"configuration": self.configuration_name, "fold": self.fold},
            # What nnU-Net looks up when it loads the folder itself.
            "trainer_name": nnUNetTrainer.__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            "pantskit": resume.state_of(self),
        }
        with atomic_path(Path(filename)) as part:
            torch.save(checkpoint, part)

    @property
    def checkpoint_path(self) -> Path:
        """The finished model's weights."""
        return self.model / FOLD / CHECKPOINT


def _plain(value: Any) -> Any:
    """nnU-Net logs numpy numbers, which `weights_only` does not load everywhere."""
    return [_plain(v) for v in value] if isinstance(value, list) else float(value)
