"""Loops compiled to machine code, without the half second that numba's import takes.

numba is imported when the first loop is called: most commands and processes never call one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar, cast

from pantskit.core.imports import without_collecting, without_modules

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = threading.RLock()


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers when it is called; the code is kept between runs.

    It may call other compiled functions by their global names. Where no folder for the code can
    be written (a read-only installation without a home), it is compiled again in every process.
    """
    return cast(Function, _Compiled(function))


class _Compiled:
    """Stands for a function until it is called; from then on its module has the machine code."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._machine: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        return (self._machine or self.machine())(*args)

    def machine(self) -> Callable[..., Any]:
        """The compiled function; those that it calls are compiled functions then, too."""
        with _lock:
            if self._machine is None:
                scope = self._function.__globals__
                for name in _global_names(self._function.__code__):
                    # numba looks for them there, and knows its own functions only.
                    if isinstance(called := scope.get(name), _Compiled) and called is not self:
                        scope[name] = called.machine()
                self._machine = _machine_code(self._function)
                if scope.get(self._function.__name__) is self:
                    scope[self._function.__name__] = self._machine
            return self._machine


def _global_names(code: CodeType) -> set[str]:
    """Names that a function, or one inside it, may take from its module."""
    inner = (_global_names(c) for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*inner)


def _machine_code(function: Callable[..., Any]) -> Callable[..., Any]:
    # numba imports scipy only to see whether it is there, a sixth of a second; without it numba
    # adds up the terms of a convolution itself. `dot` and the like look again when they are used.
    with without_collecting(), without_modules("scipy.linalg.cython_blas"):
        import numba
        import numba.np.arraymath  # whatever is compiled needs it
    try:
        result: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        result = numba.njit(nogil=True)(function)
    return cast("Callable[..., Any]", result)


@compiled
def _nothing() -> int:
    return 0


def get_ready() -> None:
    """Import numba now, and what it imports when the first function runs.

    For a process that others are forked from.
    """
    _nothing()
