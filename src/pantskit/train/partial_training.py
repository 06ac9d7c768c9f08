"""nnU-Net's trainer on cases that annotate different structures."""

from __future__ import annotations

from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from pantskit.train.labels import Channels
from pantskit.train.losses import PartialLoss, hard_counts
from pantskit.train.partial import AnnotationTable


class PartialLabelsTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnU-Net has no types
    """nnU-Net's trainer, whose loss knows what each case of a batch annotates.

    Where every case annotates everything, it is nnU-Net's.

    Attributes:
        channels: what the network learns; to be set before the training starts.
    """

    channels: Channels

    def _build_loss(self) -> Any:
        """nnU-Net's loss, or one for partial labels with its weights of resolutions."""
        theirs = super()._build_loss()
        table = AnnotationTable(self.channels)
        if table.complete:
            return theirs
        deep = isinstance(theirs, DeepSupervisionWrapper)
        return PartialLoss(
            table,
            batch_dice=self.configuration_manager.batch_dice,
            weights=[float(w) for w in theirs.weight_factors] if deep else None,
            gathered=self.is_ddp,
        )

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step, after telling the loss whose patches these are."""
        if isinstance(self.loss, PartialLoss):
            self.loss.take(batch["keys"])
        result: dict[str, Any] = super().train_step(batch)
        return result

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step; of partial labels, only what is annotated is counted."""
        if not isinstance(self.loss, PartialLoss):
            result: dict[str, Any] = super().validation_step(batch)
            return result
        known = self.loss.take(batch["keys"])
        data, target = batch["data"].to(self.device, non_blocking=True), batch["target"]
        deep = isinstance(target, list)
        target = [
            part.to(self.device, non_blocking=True) for part in (target if deep else [target])
        ]
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            output = self.network(data)
            loss = self.loss(output, target if deep else target[0])
        finest = output[0] if deep else output
        counts = hard_counts(finest, target[0], known, regions=self.loss.table.regions)
        names = ("tp_hard", "fp_hard", "fn_hard")
        return {
            "loss": loss.detach().cpu().numpy(),
            **{name: n.cpu().numpy() for name, n in zip(names, counts, strict=True)},
        }
