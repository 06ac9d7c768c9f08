"""Imports of other packages without what they import only to see whether it is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
