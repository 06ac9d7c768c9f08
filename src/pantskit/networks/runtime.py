"""torch, ready for this machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pantskit.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]


def start_torch(device: str = "auto") -> torch.device:
    """Import torch with waiting threads that sleep, and choose the device.

    On a CPU, torch takes all cores that this process may use, or `OMP_NUM_THREADS`.

    Args:
        device: `"auto"` (a CUDA device where there is one), `"cpu"` or `"cuda"`. Of several
            CUDA devices, a process takes one that no other process of ours has taken.

    Raises:
        ConfigError: If the device is unknown, or CUDA is asked for and there is none.
    """
    if device not in get_args(DeviceName):
        raise ConfigError(f"device {device!r} is unknown; it is {', '.join(get_args(DeviceName))}")
    # Read once, when the OpenMP library is loaded. Threads that spin while they wait made a
    # 32^3 forward pass take 350 ms in place of 74 on busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("device cuda: torch sees no CUDA device; use --device cpu")
    if not has_cuda or device == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", _own_number(torch.cuda.device_count()))


@lru_cache(maxsize=1)
def _own_number(count: int) -> int:
    """Which of the machine's GPUs this process uses, as long as it lives."""
    return 0 if count < 2 else claim_number(count, Path(tempfile.gettempdir()))[0]


def claim_number(count: int, folder: Path) -> tuple[int, int | None]:
    """Take the first of some numbers that no living process has taken.

    Processes that work through one queue thus spread over the GPUs; with more of them than
    numbers, they share.

    Args:
        count: numbers 0 to count - 1.
        folder: where all processes of the machine can keep a file each.

    Returns:
        The number, and the open file that holds it until this process ends; None where it is
        shared.
    """
    for number in range(count):
        path = folder / f"pantskit-{os.getuid()}-gpu-{number}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            break
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number, descriptor
        except OSError:  # another process's
            os.close(descriptor)
    return os.getpid() % count, None


def library_versions() -> dict[str, str]:
    """Versions of what the numbers of a network depend on."""
    from importlib.metadata import version

    from pantskit.core.records import versions

    names = ("torch", "nnunetv2", "dynamic-network-architectures", "batchgeneratorsv2", "numpy")
    return versions() | {name: version(name) for name in names}
