"""Errors a user can act on: each message names the case, what was found and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class PantskitError(Exception):
    """Base of every error that pantskit raises on purpose; its message is one clear line.

    Args:
        message: the line.
        data: facts for the record of the case that ends with this error.
    """

    def __init__(self, message: str = "", *, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.data = dict(data or {})


class ImageError(PantskitError):
    """A file is not a readable 3D image."""


class GeometryError(PantskitError):
    """A grid is in doubt, or two grids differ."""


class LabelError(PantskitError):
    """Label values or structure names that have no meaning here."""


class DatasetError(PantskitError):
    """A folder is not the dataset, predictions or model that was expected."""


class ConfigError(PantskitError):
    """A setting or option cannot be used."""


class Quarantined(PantskitError):
    """A case whose content is in doubt: kept out of the dataset, with the reason recorded."""


class Skipped(PantskitError):
    """A case that is none of this stage's business, with the reason recorded."""


class WorkerLost(PantskitError):
    """The worker process of an item ended, was killed or took too long."""
