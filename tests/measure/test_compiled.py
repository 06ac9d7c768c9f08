"""Compiled loops run where nothing can be kept between runs, too."""

from __future__ import annotations

from typing import Any

import numba
import pytest

from pantskit.measure.compiled import compiled


def test_without_a_folder_for_machine_code_it_compiles_in_every_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    njit = numba.njit

    def without_cache(*functions: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'add': no locator available")
        return njit(*functions, **options)

    monkeypatch.setattr(numba, "njit", without_cache)

    @compiled
    def add(a: int, b: int) -> int:
        return a + b

    assert add(2, 3) == 5
