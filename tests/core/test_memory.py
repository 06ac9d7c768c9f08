from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from pantskit.core import memory
from pantskit.core.memory import available_memory_mb, peak_memory, process_memory_mb

GIB = 2**30


def group(folder: Path, limit: str, used: int, cache: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")


def test_the_tightest_group_on_the_way_up_decides(tmp_path: Path) -> None:
    group(tmp_path, "max", 60 * GIB)
    group(tmp_path / "slurm", str(10 * GIB), 4 * GIB)
    group(tmp_path / "slurm" / "job_7", str(8 * GIB), 6 * GIB, cache=3 * GIB)
    names = ("memory.max", "memory.current")
    assert memory._tightest(tmp_path, "/slurm/job_7", *names) == 5 * GIB  # 8 - (6 - 3) of 10 - 4
    assert memory._tightest(tmp_path, "/slurm", *names) == 6 * GIB
    assert memory._tightest(tmp_path, "/", *names) is None
    assert memory._tightest(tmp_path, "/../elsewhere", *names) is None


def test_a_container_has_no_more_than_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_cgroup_room", lambda: 300.0 * 2**20)
    assert available_memory_mb() == 300
    monkeypatch.setattr(memory, "_cgroup_room", lambda: None)
    assert 300 < available_memory_mb() <= psutil.virtual_memory().total / 2**20


def test_memory_of_a_process_grows_with_what_it_holds() -> None:
    before = process_memory_mb(os.getpid())
    block = np.ones(100 * 2**17)  # 100 MB
    assert 90 < process_memory_mb(os.getpid()) - before < 130
    assert block[0] == 1
    assert process_memory_mb(2**22 + 1) == 0  # beyond the largest process ID


def test_the_peak_is_that_of_the_block_alone() -> None:
    np.ones(300 * 2**17)
    with peak_memory() as small:
        pass
    with peak_memory() as large:
        np.ones(200 * 2**17)
    assert large[0] > small[0] + 150
