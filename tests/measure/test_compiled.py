"""Compiled loops run where nothing can be kept between runs, too."""

from __future__ import annotations

import subprocess
import sys
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


@compiled
def _twice(a: int) -> int:
    return 2 * a


@compiled
def _five_times(a: int) -> int:
    return _twice(_twice(a)) + a


def test_a_compiled_function_calls_another_by_its_name() -> None:
    assert _five_times(3) == 15
    assert hasattr(_five_times, "py_func")  # numba's: its module has it from now on


def test_numba_is_imported_for_a_call_only() -> None:
    line = (
        "import sys; from pantskit.measure.compiled import compiled; f = compiled(abs)\n"
        "assert 'numba' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0
