"""Soft or sharp: what a reconstruction kernel is for, by the names of the vendors."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

KernelClass = Literal["soft", "sharp", "unknown"]


@cache
def kernel_class(kernel: str) -> KernelClass:
    r"""The class of a ConvolutionKernel; `"unknown"` for what the table does not tell.

    Args:
        kernel: as in the header; of several values, `\` between them, the first counts.
    """
    name = kernel.split("\\")[0].strip().upper()
    for found, patterns in _patterns().items():
        if any(pattern.fullmatch(name) for pattern in patterns):
            return found
    return "unknown"


@cache
def _patterns() -> dict[KernelClass, tuple[re.Pattern[str], ...]]:
    text = files("pantskit.ingest").joinpath("data/kernels.toml").read_text("utf-8")
    table = tomllib.loads(text)
    return {
        "sharp": tuple(map(re.compile, table["sharp"])),
        "soft": tuple(map(re.compile, table["soft"])),
    }
