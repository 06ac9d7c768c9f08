"""torch, ready for this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, get_args

from pantskit.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]


def start_torch(device: str = "auto") -> torch.device:
    """Import torch with waiting threads that sleep, and choose the device.

    On a CPU, torch takes all cores that this process may use, or `OMP_NUM_THREADS`.

    Args:
        device: `"auto"` (a CUDA device where there is one), `"cpu"` or `"cuda"`.

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
    return torch.device("cuda", 0) if has_cuda and device != "cpu" else torch.device("cpu")


def library_versions() -> dict[str, str]:
    """Versions of what the numbers of a network depend on."""
    from importlib.metadata import version

    from pantskit.core.records import versions

    names = ("torch", "nnunetv2", "dynamic-network-architectures", "batchgeneratorsv2", "numpy")
    return versions() | {name: version(name) for name in names}
