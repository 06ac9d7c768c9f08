"""Imports in less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Have the garbage collector wait: imports make objects that stay, and it looks at them all.

    It takes a tenth of the time of the imports otherwise.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Let modules seem not to be installed, unless they have been imported already.

    For packages whose own imports do without them, and take long with them.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's way to say: not there
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
