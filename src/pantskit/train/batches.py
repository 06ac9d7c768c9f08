"""Batches that depend on their number alone, whoever draws them.

All random numbers of a patch, its augmentation and the training step on it are seeded from the
training's seed, the batch's number and the patch's place in it. So there is no random state to
keep between two runs; one process or twelve give the same batches in the same order, and several
GPUs share out the very batches that one would have.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from torch.utils.data import DataLoader, Dataset

Batch = dict[str, Any]


def seed_for(seed: int, what: str, number: int) -> None:
    """Seed the random numbers of Python, numpy and torch.

    Args:
        seed: the training's.
        what: they are for, as `"train"`; each gets numbers of its own.
        number: of the batch or step, from 0 over all epochs.
    """
    digest = blake3(f"{seed} {what} {number}".encode()).digest(length=8)
    random.seed(digest)
    np.random.seed(int.from_bytes(digest[:4], "little"))  # noqa: NPY002  # nnU-Net draws from it
    torch.manual_seed(int.from_bytes(digest, "little"))


class NumberedBatches(Dataset[Batch]):
    """The batches of one of nnU-Net's loaders, by number.

    Args:
        loader: an nnUNetDataLoader; from here on it draws a patch at a time.
        seed: the training's.
        what: `"train"` or `"validation"`.
        share: which patches of a batch of that size are drawn here; None for all.
    """

    def __init__(
        self, loader: Any, seed: int, what: str, share: Callable[[int], range] | None = None
    ) -> None:
        self._loader, self._seed, self._what = loader, seed, what
        size = loader.batch_size
        # The last ones of a batch have foreground in their middle.
        self._forced = [bool(loader.get_do_oversample(place)) for place in range(size)]
        self._places = share(size) if share else range(size)
        loader.batch_size = 1

    def __getitem__(self, number: int) -> Batch:
        return _together([self._patch(number, place) for place in self._places])

    def _patch(self, number: int, place: int) -> Batch:
        what = f"{self._what} {place}" if place else self._what
        seed_for(self._seed, what, number)
        self._loader.get_do_oversample = lambda _: self._forced[place]
        patch: Batch = self._loader.generate_train_batch()
        return patch


def _together(patches: Sequence[Batch]) -> Batch:
    """Batches of one patch each as one; targets of deep supervision are lists."""
    data, targets = [p["data"] for p in patches], [p["target"] for p in patches]
    deep = isinstance(targets[0], list)
    levels = [torch.cat(level) for level in zip(*targets, strict=True)] if deep else []
    return {
        "data": torch.cat(data),
        "target": levels if deep else torch.cat(targets),
        "keys": [key for patch in patches for key in patch["keys"]],
    }


def draw_batches(
    batches: NumberedBatches, numbers: range, *, processes: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """Batches in the order of their numbers.

    Args:
        batches: to draw from.
        numbers: of the batches wanted.
        processes: that draw and augment ahead; 0 does it here, when asked for.
        pin_memory: keep them where a GPU can fetch them by itself.
    """
    loader: DataLoader[Batch] = DataLoader(
        batches,
        batch_size=None,  # each item is a whole batch
        sampler=numbers,
        num_workers=processes,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # or the loader would draw from the global one
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals(_: int) -> None:
    """Leave it to the training when its processes end.

    Ctrl-C goes to every process of the terminal, SIGTERM of torchrun to every one of the group.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
