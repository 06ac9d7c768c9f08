"""nnU-Net's trainer on cases that annotate different structures."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from pantskit.train.labels import Channels
from pantskit.train.losses import PartialLoss, hard_counts
from pantskit.train.partial import AnnotationTable

_LARGEST_GRADIENT = 12  # nnU-Net's limit of its norm


class PartialLabelsTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnU-Net has no types
    """nnU-Net's trainer, whose loss knows what each case of a batch annotates.

    Where every case annotates everything, it is nnU-Net's.

    Attributes:
        channels: what the network learns; to be set before the training starts.
    """

    channels: Channels

    @cached_property
    def table(self) -> AnnotationTable:
        """What the cases' labels tell of the channels."""
        return AnnotationTable(self.channels)

    def _build_loss(self) -> Any:
        """nnU-Net's loss, or one for partial labels with its weights of resolutions."""
        theirs = super()._build_loss()
        if self.table.complete:
            return theirs
        deep = isinstance(theirs, DeepSupervisionWrapper)
        return PartialLoss(
            self.table,
            batch_dice=self.configuration_manager.batch_dice,
            weights=[float(w) for w in theirs.weight_factors] if deep else None,
            gathered=self.is_ddp,
        )

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step, in half precision only where there is a scaler for it."""
        self._tell_loss(batch)
        data, target = self._on_device(batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self._arithmetic():
            loss = self.loss(self.network(data), target)
        if self.grad_scaler is None:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
            self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        return {"loss": loss.detach().cpu().numpy()}

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step; of partial labels, only what is annotated is counted."""
        self._tell_loss(batch)
        data, target = self._on_device(batch)
        with self._arithmetic():
            output = self.network(data)
            loss = self.loss(output, target)
        finest, wanted = (output[0], target[0]) if isinstance(target, list) else (output, target)
        known = torch.from_numpy(self.table.of([str(case) for case in batch["keys"]]))
        counts = hard_counts(finest, wanted, known, regions=self.table.regions)
        names = ("tp_hard", "fp_hard", "fn_hard")
        return {
            "loss": loss.detach().cpu().numpy(),
            **{name: n.cpu().numpy() for name, n in zip(names, counts, strict=True)},
        }

    def _tell_loss(self, batch: dict[str, Any]) -> None:
        if isinstance(self.loss, PartialLoss):
            self.loss.take(batch["keys"])

    def _on_device(self, batch: dict[str, Any]) -> tuple[Any, Any]:
        target = batch["target"]
        data = batch["data"].to(self.device, non_blocking=True)
        if isinstance(target, list):
            return data, [part.to(self.device, non_blocking=True) for part in target]
        return data, target.to(self.device, non_blocking=True)

    def _arithmetic(self) -> Any:
        return torch.autocast(self.device.type, enabled=self.grad_scaler is not None)
