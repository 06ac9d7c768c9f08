"""Losses of partial labels, worked out by hand, and nnU-Net's own where nothing is left open."""

from __future__ import annotations

from math import log

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor

from pantskit.train.labels import Channels
from pantskit.train.losses import MarginalLoss, PartialLoss, RegionLoss, hard_counts
from pantskit.train.partial import AnnotationTable, allowed_channels

SMOOTH = 1e-5
ORGANS = ("liver", "spleen")


def rows(structures: tuple[str, ...], *annotated: tuple[str, ...]) -> Tensor:
    return torch.stack([torch.from_numpy(allowed_channels(structures, a)) for a in annotated])


def one_voxel(*probabilities: float) -> Tensor:
    """Logits of one voxel, with a gradient."""
    logits = torch.tensor(probabilities).log().reshape(1, -1, 1, 1, 1)
    return logits.requires_grad_()


def labels(*values: int) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_nothing_is_learned_where_everything_is_open(batch_dice: bool) -> None:
    logits = torch.randn(1, 2, 2, 3, 4, requires_grad=True)
    target = torch.zeros(1, 1, 2, 3, 4)
    loss = MarginalLoss(batch_dice=batch_dice)(logits, target, rows(("liver",), ()))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-6


def test_background_voxel_asks_for_background_or_the_open_structure() -> None:
    logits = one_voxel(0.2, 0.3, 0.5)  # background, liver, spleen
    loss = MarginalLoss(batch_dice=False)(logits, labels(0), rows(ORGANS, ("liver",)))
    # Dice of the liver alone: none there, 0.3 predicted.
    dice = SMOOTH / (0.3 + SMOOTH)
    assert loss.item() == pytest.approx(-log(0.2 + 0.5) - dice, abs=1e-6)
    loss.backward()
    # d(-log S) is p (1 - 1 / S) for the channels in S and p for the others; the Dice's part is
    # d(dice)/dp times the softmax's derivative.
    slope = SMOOTH / (0.3 + SMOOTH) ** 2
    inside = 1 - 1 / 0.7
    expected = [0.2 * inside - slope * 0.3 * 0.2, 0.3 + slope * 0.3 * 0.7,
                0.5 * inside - slope * 0.3 * 0.5]  # fmt: skip
    assert logits.grad.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_share_between_background_and_the_open_structure_is_not_changed() -> None:
    logits = one_voxel(0.2, 0.3, 0.5)
    MarginalLoss(batch_dice=False)(logits, labels(0), rows(ORGANS, ("liver",))).backward()
    background, _, spleen = logits.grad.flatten().tolist()
    assert background / 0.2 == pytest.approx(spleen / 0.5, rel=1e-4)


def test_open_tumour_costs_nothing_in_the_pancreas_and_much_outside() -> None:
    structures, loss = ("pancreas", "pancreatic_lesion"), MarginalLoss(batch_dice=False)
    table = rows(structures, ("pancreas",))
    sure = one_voxel(1e-6, 1e-6, 1 - 2e-6)
    # Inside: probability 1 of what is allowed, and the Dice of the pancreas is 1.
    assert loss(sure, labels(1), table).item() == pytest.approx(-1, abs=1e-4)
    # Outside: nobody painted a pancreas there, so no tumour of it may be there.
    assert loss(sure, labels(0), table).item() > 10


def test_dice_counts_a_hidden_structure_where_it_may_be() -> None:
    # Two voxels, pancreas and background; background, pancreas, lesion are 0.2, 0.5, 0.3 in both.
    logits = one_voxel(0.2, 0.5, 0.3).repeat(1, 1, 1, 1, 2)
    table = rows(("pancreas", "pancreatic_lesion"), ("pancreas",))
    loss = MarginalLoss(batch_dice=False)(logits, labels(1, 0), table)
    entropy = (-log(0.5 + 0.3) - log(0.2)) / 2
    right, predicted, wanted = 0.8, 0.8 + 0.5, 1
    dice = (2 * right + SMOOTH) / (predicted + wanted + SMOOTH)
    assert loss.item() == pytest.approx(entropy - dice, abs=1e-6)


def test_dice_is_the_mean_over_what_each_case_annotates() -> None:
    # Case 1 annotates the liver, case 2 both; one voxel each, of the liver.
    logits = one_voxel(0.2, 0.3, 0.5).repeat(2, 1, 1, 1, 1)
    target = torch.ones(2, 1, 1, 1, 1)
    table = rows(ORGANS, ("liver",), ORGANS)
    entropy = -log(0.3)
    liver = (2 * 0.3 + SMOOTH) / (0.3 + 1 + SMOOTH)
    spleen = SMOOTH / (0.5 + SMOOTH)
    each = MarginalLoss(batch_dice=False)(logits, target, table)
    assert each.item() == pytest.approx(entropy - (liver + liver + spleen) / 3, abs=1e-6)
    # As one image, the spleen's sums are those of case 2 alone.
    both = (2 * 0.6 + SMOOTH) / (0.6 + 2 + SMOOTH)
    whole = MarginalLoss(batch_dice=True)(logits, target, table)
    assert whole.item() == pytest.approx(entropy - (both + spleen) / 2, abs=1e-6)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_softmax_loss_is_nnunets_where_everything_is_annotated(batch_dice: bool) -> None:
    torch.manual_seed(1)
    logits, target = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 3, (2, 1, 4, 5, 6)).float()
    theirs = DC_and_CE_loss(
        {"batch_dice": batch_dice, "smooth": SMOOTH, "do_bg": False, "ddp": False}, {},
        dice_class=MemoryEfficientSoftDiceLoss,
    )  # fmt: skip
    ours = MarginalLoss(batch_dice=batch_dice)(logits, target, rows(ORGANS, ORGANS, ORGANS))
    assert ours.item() == pytest.approx(theirs(logits, target).item(), rel=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_region_loss_is_nnunets_where_everything_is_annotated(batch_dice: bool) -> None:
    torch.manual_seed(1)
    logits, target = torch.randn(2, 3, 4, 5, 6), torch.rand(2, 3, 4, 5, 6) < 0.3
    theirs = DC_and_BCE_loss(
        {}, {"batch_dice": batch_dice, "do_bg": True, "smooth": SMOOTH, "ddp": False}
    )
    ours = RegionLoss(batch_dice=batch_dice)(logits, target, torch.ones(2, 3, dtype=torch.bool))
    assert ours.item() == pytest.approx(theirs(logits, target).item(), rel=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_region_that_is_not_annotated_has_no_gradient_at_all(batch_dice: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 2, 3, 4, 5, requires_grad=True)
    target = torch.rand(2, 2, 3, 4, 5) < 0.5
    known = torch.tensor([[True, False], [True, True]])
    RegionLoss(batch_dice=batch_dice)(logits, target, known).backward()
    assert logits.grad[0, 1].abs().max() == 0
    assert (logits.grad[known].abs().amax((1, 2, 3)) > 0).all()


def test_region_loss_is_the_mean_over_annotated_channels() -> None:
    # Probabilities 0.8 and 0.1 of one voxel that is in the first region; the second is unknown.
    logits = torch.tensor([0.8, 0.1]).logit().reshape(1, 2, 1, 1, 1)
    target = torch.tensor([True, True]).reshape(1, 2, 1, 1, 1)
    loss = RegionLoss(batch_dice=False)(logits, target, torch.tensor([[True, False]]))
    dice = (2 * 0.8 + SMOOTH) / (0.8 + 1 + SMOOTH)
    assert loss.item() == pytest.approx(-log(0.8) - dice, abs=1e-6)


def test_region_loss_of_a_case_that_knows_nothing_is_zero() -> None:
    loss = RegionLoss(batch_dice=True)(
        torch.randn(1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2), torch.zeros(1, 2, dtype=torch.bool)
    )
    assert loss.item() == 0


def test_resolutions_are_weighted_and_cases_told_beforehand() -> None:
    torch.manual_seed(1)
    table = AnnotationTable(Channels(ORGANS, False, {"a": ("liver",), "b": ORGANS}))
    loss = PartialLoss(table, batch_dice=False, weights=[0.75, 0.25, 0.0])
    outputs = [torch.randn(2, 3, n, n, n) for n in (4, 2, 1)]
    targets = [torch.zeros(2, 1, n, n, n) for n in (4, 2, 1)]
    known = loss.take(["b", "a"])
    single = [
        MarginalLoss(batch_dice=False)(o, t, known) for o, t in zip(outputs, targets, strict=True)
    ]
    expected = 0.75 * single[0] + 0.25 * single[1]
    assert loss(outputs, targets).item() == pytest.approx(expected.item(), rel=1e-6)


def test_counts_hold_nothing_against_what_is_not_annotated() -> None:
    structures = ("pancreas", "pancreatic_lesion", "liver")
    known = rows(structures, ("pancreas",))
    #         right  hidden: right  missed  wrongly there  open: neither
    target = labels(1, 1, 1, 0, 0)
    answer = torch.tensor([1, 2, 0, 1, 3])
    logits = torch.nn.functional.one_hot(answer, 4).T.reshape(1, 4, 1, 1, 5).float()
    right, extra, missed = hard_counts(logits, target, known, regions=False)
    assert right.tolist() == [2, 0, 0]
    assert extra.tolist() == [1, 0, 0]
    assert missed.tolist() == [1, 0, 0]


def test_counts_of_regions_leave_out_unknown_channels() -> None:
    logits = torch.tensor([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0]]).reshape(1, 2, 1, 1, 3)
    target = torch.tensor([[True, False, True]] * 2).reshape(1, 2, 1, 1, 3)
    counts = hard_counts(logits, target, torch.tensor([[True, False]]), regions=True)
    assert [c.tolist() for c in counts] == [[1, 0], [1, 0], [1, 0]]
