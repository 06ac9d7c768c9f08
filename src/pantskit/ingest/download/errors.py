"""What can go wrong with one file of a download."""

from __future__ import annotations

from pantskit.core.errors import PantskitError


class DownloadError(PantskitError):
    """A file cannot be had, and trying again now will not help."""


class BadArchiveError(DownloadError):
    """An archive is damaged, is not what was declared, or holds what it must not."""


class Passing(Exception):
    """Trouble that may pass: a lost connection, a busy server.

    Args:
        reason: one clause.
        wait_s: how long the server asks to wait; 0 where it says nothing.
    """

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Changed(Exception):
    """The file on the server is another one than that which was begun."""


class Stopped(Exception):
    """The user wants to stop."""
