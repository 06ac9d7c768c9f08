"""Batches that depend on their number alone, whoever draws them.

All random numbers of a batch, its augmentation and the training step on it are seeded from the
training's seed and the batch's number. So there is no random state to keep between two runs, and
one process or twelve give the same batches in the same order.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
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
        loader: an nnUNetDataLoader.
        seed: the training's.
        what: `"train"` or `"validation"`.
    """

    def __init__(self, loader: Any, seed: int, what: str) -> None:
        self._loader, self._seed, self._what = loader, seed, what

    def __getitem__(self, number: int) -> Batch:
        seed_for(self._seed, self._what, number)
        batch: Batch = self._loader.generate_train_batch()
        return batch


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
    """Ctrl-C goes to every process of the terminal; the training decides when they end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
