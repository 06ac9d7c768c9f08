"""Memory of this machine and of processes, in MB (2**20 bytes)."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_memory_mb() -> float:
    """What this process and its children can still take: the machine's, or its container's."""
    import psutil

    available = float(psutil.virtual_memory().available)
    room = _cgroup_room()
    return min(available, available if room is None else room) / 2**20


def _cgroup_room() -> float | None:
    """Bytes left under the tightest memory limit of our control groups (v2, v1); None without.

    A job of Slurm or a container sees the whole machine's memory and is killed at its own.
    """
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, inner = line.split(":", 2)
            if kinds == "":
                return _tightest(_CGROUP, inner, "memory.max", "memory.current")
            if "memory" in kinds.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
                return _tightest(_CGROUP / "memory", inner, *names)
    return None


def _tightest(root: Path, inner: str, limit_name: str, usage_name: str) -> float | None:
    room: float | None = None
    # In a container the group is mounted as the root, and the path leads nowhere.
    inside = root / inner.lstrip("/")
    for folder in [root, *(p for p in (inside, *inside.parents) if p.is_relative_to(root))]:
        with suppress(OSError, ValueError):  # "max" is no number, and no limit
            limit = int((folder / limit_name).read_text())
            used = int((folder / usage_name).read_text()) - _reclaimable(folder)
            left = float(max(0, limit - used))
            room = left if room is None else min(room, left)
    return room


def _reclaimable(folder: Path) -> int:
    """Bytes of the page cache, which counts as used and is given back on demand."""
    try:
        text = (folder / "memory.stat").read_text()
    except OSError:
        return 0
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def process_memory_mb(pid: int) -> float:
    """Resident memory of a process that it shares with no file or process; 0 once it is gone."""
    import psutil

    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0.0
    return float(max(0, info.rss - getattr(info, "shared", 0))) / 2**20


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """The process's largest resident memory during the block, in MB."""
    peak = [0.0]
    with suppress(OSError):  # Linux: what came before is forgotten
        Path("/proc/self/clear_refs").write_text("5")
    try:
        yield peak
    finally:
        peak[0] = _high_water_mb()


def _high_water_mb() -> float:
    try:
        # Not ru_maxrss, which counts the parent's memory at the fork, too.
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) / 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 1024)
