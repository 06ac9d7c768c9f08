"""A step of training and of scoring, beside nnU-Net's own on the same batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from pantskit.train.labels import Channels
from pantskit.train.partial_training import PartialLabelsTrainer

TUMOUR = ("pancreas", "pancreatic_lesion")
SOFTMAX = Channels(("liver", "spleen"), False, dict.fromkeys("ab", ("liver", "spleen")))
REGIONS = Channels(TUMOUR, True, dict.fromkeys("ab", TUMOUR))


class Levels(torch.nn.Module):
    """Outputs at two resolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(1, 4, 3, padding=1)
        self.fine, self.coarse = (torch.nn.Conv3d(4, channels, 1) for _ in range(2))

    def forward(self, patch: torch.Tensor) -> list[torch.Tensor]:
        found = torch.relu(self.first(patch))
        return [self.fine(found), self.coarse(found[..., ::2, ::2, ::2])]


def trainer(kind: type[nnUNetTrainer], channels: Channels) -> Any:
    """One that has what a step needs, and nothing else."""
    torch.manual_seed(0)
    made = kind.__new__(kind)
    n = len(channels.structures) + (not channels.regions)
    made.device, made.is_ddp, made.grad_scaler = torch.device("cpu"), False, None
    made.network, made.channels, made.enable_deep_supervision = Levels(n), channels, True
    made.optimizer = torch.optim.SGD(made.network.parameters(), 0.1, 0.99, nesterov=True)
    made.label_manager = SimpleNamespace(has_regions=channels.regions, has_ignore_label=False)
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": channels.regions, "ddp": False}
    loss = (
        DC_and_BCE_loss({}, dice, dice_class=MemoryEfficientSoftDiceLoss)
        if channels.regions
        else DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
    )
    made.loss = DeepSupervisionWrapper(loss, np.array([0.75, 0.25]))
    return made


def batch(channels: Channels) -> dict[str, Any]:
    random = torch.Generator().manual_seed(1)
    shape = (2, 2 if channels.regions else 1, 6, 8, 10)
    target = torch.randint(0, 2 if channels.regions else 3, shape, generator=random)
    target = target.bool() if channels.regions else target.short()
    data = torch.randn((2, 1, 6, 8, 10), generator=random)
    return {"data": data, "target": [target, target[..., ::2, ::2, ::2]], "keys": ["a", "b"]}


@pytest.mark.parametrize("channels", [SOFTMAX, REGIONS], ids=["softmax", "regions"])
def test_steps_are_nnunets_where_every_case_annotates_everything(channels: Channels) -> None:
    theirs, ours = (trainer(kind, channels) for kind in (nnUNetTrainer, PartialLabelsTrainer))
    for _ in range(3):
        losses = [t.train_step(batch(channels))["loss"] for t in (theirs, ours)]
        assert losses[0] == losses[1]
    for one, other in zip(theirs.network.parameters(), ours.network.parameters(), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        found = [t.validation_step(batch(channels)) for t in (theirs, ours)]
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])
    assert found[1]["tp_hard"].sum() > 0
