"""The independent implementation that surfaces are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture
def surface_distance(monkeypatch: pytest.MonkeyPatch) -> Any:
    """DeepMind's surface-distance, which says `np.Inf` where an infinity is needed."""
    package = pytest.importorskip("surface_distance")
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    return package
