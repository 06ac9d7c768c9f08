"""The blob patients and the model trained on them."""

from __future__ import annotations

from pathlib import Path

import blobs
import pytest

from pantskit.core.dataset import Dataset


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A dataset of blobs and a model trained on it; not to be changed."""
    return blobs.trained(tmp_path_factory.getbasetemp() / "blobs")
