"""nnU-Net's losses where cases annotate different structures.

Where every case annotates everything they compute what nnU-Net's compute. Dice goes over
annotated structures only, of each case, or of the batch as one image (`batch_dice`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pantskit.train.partial import AnnotationTable

_SMOOTH = 1e-5  # nnU-Net's


class PartialLoss(nn.Module):
    """The loss of a batch whose cases are told beforehand.

    nnU-Net calls a loss with outputs and targets; `take` tells which cases they are of.
    """

    def __init__(
        self,
        table: AnnotationTable,
        *,
        batch_dice: bool,
        weights: Sequence[float] | None = None,
        gathered: bool = False,
    ) -> None:
        """Set up.

        Args:
            table: what each case's labels tell.
            batch_dice: Dice of the batch as one image.
            weights: of the outputs of deep supervision; None where there is one output.
            gathered: sum Dice over the processes of a distributed training.
        """
        super().__init__()
        self.table = table
        self._weights = weights
        kind = RegionLoss if table.regions else MarginalLoss
        self.single = kind(batch_dice=batch_dice, gathered=gathered)
        self._known: Tensor | None = None

    def take(self, cases: Sequence[str]) -> Tensor:
        """Tell the cases of the next batch; returns their rows of the table."""
        self._known = torch.from_numpy(self.table.of([str(case) for case in cases]))
        return self._known

    def forward(self, output: Any, target: Any) -> Tensor:
        """Loss of one output, or the weighted sum of several resolutions."""
        assert self._known is not None, "take comes first"
        if self._weights is None:
            loss: Tensor = self.single(output, target, self._known)
            return loss
        parts = zip(self._weights, output, target, strict=True)
        return torch.stack([w * self.single(o, t, self._known) for w, o, t in parts if w]).sum()


class MarginalLoss(nn.Module):
    """Cross-entropy and Dice of a softmax, in which labels may allow several channels."""

    def __init__(self, *, batch_dice: bool, gathered: bool = False) -> None:
        super().__init__()
        self._batch_dice, self._gathered = batch_dice, gathered

    def forward(self, logits: Tensor, target: Tensor, allowed: Tensor) -> Tensor:
        """Mean over voxels of -log of the joint probability of the allowed channels, less Dice.

        In the Dice of a structure, a hidden channel counts as the structure where it may be.

        Args:
            logits: (case, channel, z, y, x).
            target: (case, 1, z, y, x) labels.
            allowed: (case, label, channel), see `allowed_channels`.
        """
        with torch.autocast(logits.device.type, enabled=False):  # sums over voxels overflow halves
            return self._float(logits.float().flatten(2), target.flatten(1).long(), allowed)

    def _float(self, logits: Tensor, labels: Tensor, allowed: Tensor) -> Tensor:
        whole = torch.logsumexp(logits, 1)
        own = logits.gather(1, labels[:, None])[:, 0]
        joint = _joint_logits(logits, labels, own, allowed)
        entropy = (whole - joint).mean()

        one_hot = torch.zeros_like(logits).scatter_(1, labels[:, None], 1)
        right = torch.einsum("bv,bcv->bc", (joint - whole).exp(), one_hot)
        strict = torch.einsum("bv,bcv->bc", (own - whole).exp(), one_hot)
        predicted = (logits - whole[:, None]).exp().sum(2) + right - strict
        known = annotated_of(allowed).to(logits.device)
        scores = _dice(
            right[:, 1:], predicted[:, 1:], one_hot.sum(2)[:, 1:], known[:, 1:],
            self._batch_dice, self._gathered,
        )  # fmt: skip
        return entropy - scores


class RegionLoss(nn.Module):
    """Binary cross-entropy and Dice of channels, without those that are not annotated."""

    def __init__(self, *, batch_dice: bool, gathered: bool = False) -> None:
        super().__init__()
        self._batch_dice, self._gathered = batch_dice, gathered

    def forward(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """Mean over annotated channels and voxels, less Dice; 0 where nothing is annotated.

        Args:
            logits: (case, channel, z, y, x).
            target: (case, channel, z, y, x), 0 or 1.
            known: (case, channel), whether it is annotated.
        """
        logits, wanted = logits.float().flatten(2), target.flatten(2).float()
        known = known.to(logits.device)
        each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        entropy = torch.where(known, each.mean(2), 0).sum() / _number(known, self._gathered)
        probability = torch.sigmoid(logits)
        scores = _dice(
            (probability * wanted).sum(2), probability.sum(2), wanted.sum(2), known,
            self._batch_dice, self._gathered,
        )  # fmt: skip
        return entropy - scores


def annotated_of(allowed: Tensor) -> Tensor:
    """(case, channel): which channels only their own label allows, so that they are annotated."""
    return allowed.sum(1) == 1


def hard_counts(
    logits: Tensor, target: Tensor, known: Tensor, *, regions: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels that are right, wrongly there and missed, of annotated structures.

    Args:
        logits: (case, channel, z, y, x).
        target: as the losses take it.
        known: as the losses take it: `allowed` of a softmax.
        regions: which of the two.

    Returns:
        Three (structure,) counts over the batch, without background.
    """
    known = known.to(logits.device)
    if regions:
        found, wanted = (logits > 0).flatten(2), target.flatten(2).bool()
        found, wanted = found & known[..., None], wanted & known[..., None]
        pairs = (found & wanted, found & ~wanted, ~found & wanted)
        return tuple(p.sum((0, 2)) for p in pairs)  # type: ignore[return-value]
    labels, best = target.flatten(1).long(), logits.argmax(1).flatten(1)
    cases = torch.arange(len(labels), device=labels.device)[:, None]
    right = known[cases, labels, best]
    counted = annotated_of(known)
    n = logits.shape[1]
    extra = ~right & counted[cases, best]
    # An annotated structure is the label of its own voxels only, so labels need no such check.
    counts = [
        torch.bincount(values[mask], minlength=n)[1:]
        for values, mask in ((labels, right), (best, extra), (labels, ~right))
    ]
    return counts[0], counts[1], counts[2]


def _joint_logits(logits: Tensor, labels: Tensor, own: Tensor, allowed: Tensor) -> Tensor:
    """(case, voxel) log of the sum of exponentials of the channels that a voxel's label allows."""
    rows = []
    for case, table in enumerate(allowed):
        row = own[case]
        for label in torch.nonzero(table.sum(1) > 1).flatten().tolist():
            several = torch.logsumexp(logits[case, torch.nonzero(table[label]).flatten()], 0)
            row = torch.where(labels[case] == label, several, row)
        rows.append(row)
    return torch.stack(rows)


def _dice(
    right: Tensor, predicted: Tensor, wanted: Tensor, known: Tensor, batch: bool, gathered: bool
) -> Tensor:
    """Mean soft Dice of what is annotated, from (case, structure) sums; 0 where nothing is."""
    sums = [torch.where(known, part, 0) for part in (right, predicted, wanted)]
    if batch:
        parts = [part.sum(0) for part in (*sums, known.float())]
        if gathered:
            from nnunetv2.utilities.ddp_allgather import AllGatherGrad

            parts = [AllGatherGrad.apply(part).sum(0) for part in parts]
        *sums, cases = parts
        known = cases > 0
    right, predicted, wanted = sums
    scores = (2 * right + _SMOOTH) / (predicted + wanted + _SMOOTH)
    return torch.where(known, scores, 0).sum() / _number(known, gathered and not batch)


def _number(known: Tensor, gathered: bool) -> Tensor:
    """How many are known, at least 1; of several processes their mean.

    The mean of the processes' losses, which their gradients are averaged to, is then the loss
    of all their cases as one batch, whichever of them annotate what.
    """
    number = known.sum().float()
    if gathered:
        torch.distributed.all_reduce(number)
        return number.clamp(min=1) / torch.distributed.get_world_size()
    return number.clamp(min=1)
