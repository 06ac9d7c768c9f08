"""Datasets to count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counted_datasets import write_dataset, write_three_cases

from pantskit.core.dataset import Dataset


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """`write_dataset` by the dataset's name."""

    def make(*args: Any, name: str = "ours", **options: Any) -> Dataset:
        return write_dataset(tmp_path / name, *args, **options)

    return make


@pytest.fixture
def three_cases(tmp_path: Path) -> Dataset:
    """`write_three_cases`."""
    return write_three_cases(tmp_path / "ours")


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures, which take longer than all the rest."""
    monkeypatch.setattr("pantskit.describe.compare.draw_comparison", lambda *_: None)
