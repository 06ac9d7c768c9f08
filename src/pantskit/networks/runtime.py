"""torch, ready for this machine."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pantskit.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]
_NUMBERED = re.compile(r"cuda:(\d+)")


def start_torch(device: str = "auto") -> torch.device:
    """Import torch with waiting threads that sleep, and choose the device.

    On a CPU, torch takes all cores that this process may use, or `OMP_NUM_THREADS`.

    Args:
        device: `"auto"` (a CUDA device where there is one), `"cpu"`, `"cuda"` or `"cuda:1"`. Of
            several CUDA devices `"cuda"` is one that no other process of ours has taken.

    Raises:
        ConfigError: If the device is unknown, or CUDA is asked for and there is none.
    """
    kind = device_kind(device)
    import torch

    if kind == "cpu" or _NUMBERED.fullmatch(device):
        return torch.device(kind if kind == "cpu" else device)
    return torch.device("cuda", _own_number(torch.cuda.device_count()))


def device_kind(device: str) -> Literal["cpu", "cuda"]:
    """What a device of `start_torch` is, without taking it; errors are as there."""
    numbered = _NUMBERED.fullmatch(device)
    if device not in get_args(DeviceName) and not numbered:
        names = ", ".join(get_args(DeviceName))
        raise ConfigError(f"device {device!r} is unknown; it is {names}, or cuda:0, cuda:1, ...")
    # Read once, when the OpenMP library is loaded. Threads that spin while they wait made a
    # 32^3 forward pass take 350 ms in place of 74 on busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # About a tenth of a millisecond of spinning comes first: layers follow each other faster than
    # a thread wakes up. It took a third off the steps of a small network on two cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.startswith("cuda") and not count:
        raise ConfigError(f"device {device}: torch sees no CUDA device; use --device cpu")
    if numbered and int(numbered[1]) >= count:
        raise ConfigError(f"device {device}: torch sees {count} CUDA devices, cuda:0 the first")
    return "cuda" if count and device != "cpu" else "cpu"


def parse_devices(text: str) -> tuple[str, ...]:
    """The devices of a comma-separated list.

    Args:
        text: one that `start_torch` knows, or several of `cpu` and `cuda:N`, each of which
            means a process of its own.

    Raises:
        ConfigError: If one of several does not say which it is.
    """
    names = tuple(name.strip() for name in text.split(","))
    vague = [name for name in names if name != "cpu" and not _NUMBERED.fullmatch(name)]
    if len(names) > 1 and vague:
        raise ConfigError(f"device {vague[0]!r} in a list; there, devices are cpu or cuda:0, ...")
    return names


def own_cores() -> int:
    """Cores that this process may use: those it is bound to, or its share by OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0))
    share = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(share))) if share.isdigit() else cores


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 that is float32, by the same kernels in every run: on a GPU no TF32 inside."""
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = False, True, False
    matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = before


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
