"""Several processes that train one network together, one a GPU, as torchrun starts them.

The first reads, plans, prepares and writes; the others wait for it, and then train with it. What
they tell each other besides gradients goes over a channel of the CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from pantskit.core.errors import ConfigError
from pantskit.networks.runtime import device_kind, start_torch

T = TypeVar("T")

# The first may read and prepare cases for days while the others wait.
_PATIENCE = timedelta(days=30)


@dataclass
class Ranks:
    """The processes of one training, seen from one of them.

    Attributes:
        rank: of this process, from 0.
        count: of processes.
        local_rank: of this process on its machine, which is its GPU.
        local_count: of processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    _channel: Any = None

    @classmethod
    def of_environment(cls) -> Ranks:
        """As torchrun says it in the environment; one process without it.

        Raises:
            ConfigError: If the variables are there and are no numbers.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        values = [os.environ.get(name) for name in names]
        if "MASTER_ADDR" not in os.environ or None in values:
            return cls()
        try:
            return cls(*(int(value or "") for value in values))
        except ValueError:
            found = ", ".join(f"{n}={v}" for n, v in zip(names, values, strict=True))
            raise ConfigError(f"{found}: not what torchrun sets; start by torchrun") from None

    @property
    def first(self) -> bool:
        """Whether this process does what is done once."""
        return self.rank == 0

    def device_name(self, device: str) -> str:
        """A device of `start_torch`, for this process; of several each takes its own GPU.

        Raises:
            ConfigError: If the device is unknown or missing.
        """
        if self.count == 1 or device_kind(device) == "cpu":
            return device
        return f"cuda:{self.local_rank}"

    def share(self, batch: int) -> range:
        """Which patches of a batch this process computes.

        Raises:
            ConfigError: If the batch cannot be shared evenly.
        """
        if batch % self.count:
            raise ConfigError(
                f"a batch of {batch} cannot be shared evenly by {self.count} processes; give a "
                f"recipe with a batch_size of {self.count} or a multiple, or start fewer"
            )
        size = batch // self.count
        return range(self.rank * size, (self.rank + 1) * size)

    @contextmanager
    def joined(self, device: str) -> Iterator[Any]:
        """Meet the other processes for the length of a block.

        Args:
            device: as `start_torch` takes it.

        Returns:
            This process's torch device.

        Raises:
            ConfigError: If the device is unknown or missing.
        """
        own = start_torch(self.device_name(device))
        if self.count == 1:
            yield own
            return
        import torch
        from torch import distributed

        if own.type == "cuda":
            torch.cuda.set_device(own)
        distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
        self._channel = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        try:
            yield own
        finally:
            distributed.destroy_process_group()

    def tell(self, make: Callable[[], T]) -> T:
        """Let the others have what the first makes; they hear None when it fails.

        Args:
            make: called in the first process; what it returns must pickle.
        """
        made: T | None = None
        try:
            made = make()
            return made
        finally:
            self._broadcast(made)

    def hear(self) -> Any:
        """What the first process tells."""
        return self._broadcast(None)

    def mean(self, number: float) -> float:
        """The mean of a number over all processes."""
        return self._reduced(number) / self.count

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return self._reduced(float(flag)) > 0

    def wait(self) -> None:
        """Until all are here."""
        self._reduced(0.0)

    def _broadcast(self, value: Any) -> Any:
        if self.count == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self._channel)
        return values[0]

    def _reduced(self, number: float) -> float:
        if self.count == 1:
            return number
        import torch
        from torch import distributed

        total = torch.tensor(number, dtype=torch.float64)
        distributed.all_reduce(total, group=self._channel)
        return float(total)
