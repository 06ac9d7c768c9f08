"""Loops compiled to machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers; the machine code is kept between runs.

    Where no folder for that can be written (a read-only installation without a home), the
    code is compiled again in every process.
    """
    try:
        result: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        result = numba.njit(nogil=True)(function)
    return cast(Function, result)
