"""Fixtures and markers that all tests share."""

from __future__ import annotations

import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED_DATA = CHECKOUT.parent / "shared" / "data"
NO_SHARED_DATA = "real data not beside the checkout (../shared/data)"


# Started in the background of a script, a process ignores Ctrl-C, and so do those it starts: tests
# interrupt some of these.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    found = "beside the checkout" if SHARED_DATA.is_dir() else "none: its tests are skipped"
    return [f"real data: {found}", f"chromium: {_chromium() or 'none: its tests are skipped'}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked_for_slow = "slow" in config.option.markexpr
    for item in items:
        if "slow" in item.keywords and not asked_for_slow:
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))
        if "gpu" in item.keywords and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if "browser" in item.keywords and _chromium() is None:
            item.add_marker(pytest.mark.skip(reason="Debian's chromium is not installed"))


def _has_gpu() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _chromium() -> str | None:
    return shutil.which("chromium")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, which lies beside the checkout and is in no repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(NO_SHARED_DATA)
    return SHARED_DATA


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Debian's Chromium."""
    path = _chromium()
    if path is None:
        pytest.skip("Debian's chromium is not installed")
    return path
