"""Workers forked from a server: as good as spawned ones, and without their imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pantskit.core import forking
from pantskit.core.workers import Workers

pytestmark = pytest.mark.skipif(not forking.is_possible(), reason="workers are forked on Linux")

RARE = "zipapp"  # nothing else imports it


def servers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [c for c in children if "multiprocessing.forkserver" in " ".join(c.cmdline())]


def look(n: int) -> tuple[int, bool, str | None]:
    time.sleep(0.05)
    return os.getppid(), RARE in sys.modules, os.environ.get("OMP_NUM_THREADS")


def act(what: str) -> str:
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit 0":
        os._exit(0)
    if what == "hang":
        time.sleep(60)
    if Path(what).is_absolute() and not Path(what).exists():
        Path(what).touch()
        os.kill(os.getppid() if what.endswith("server") else os.getpid(), signal.SIGKILL)
    return what


def test_what_they_need_is_imported_once() -> None:
    with Workers(2, preload=[RARE]) as workers:
        found = [outcome.value for _, outcome in workers.map(look, range(20))]
        (server,) = servers()
        assert {(parent, known) for parent, known, _ in filter(None, found)} == {(server.pid, True)}
        assert {threads for *_, threads in filter(None, found)} != {None}
    assert servers() == []


def test_a_module_that_is_not_there_is_no_harm() -> None:
    with Workers(2, preload=["no_such_module"]) as workers:
        assert dict(workers.map(abs, [-1]))[-1].value == 1


def test_no_module_of_the_folder_it_is_run_in_is_imported(tmp_path: Path) -> None:
    (tmp_path / f"{RARE}.py").write_text("raise SystemExit('this is a file among the scans')")
    done = run("print([o.value for _, o in workers.map(abs, [-1])])", tmp_path)
    assert (done.stdout, done.stderr) == ("[1]\n", "")


def test_what_is_lost_costs_itself_only(tmp_path: Path) -> None:
    items = ["a", "crash", "b", "exit 0", "c", "hang", str(tmp_path / "once")]
    with Workers(2, preload=[RARE]) as workers:
        found = dict(workers.map(act, items, timeout_s=3))
    lost = {item: str(outcome.error) for item, outcome in found.items() if outcome.error}
    assert lost == {
        "crash": "its worker process crashed (SIGSEGV)",
        "exit 0": "its worker process ended with exit status 0",
        "hang": "took longer than 3 s and was stopped",
    }
    assert servers() == []


def test_a_killed_server_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An item on its way to a process that has just died is given up after that time.
    monkeypatch.setattr("pantskit.core.workers._TAKE_S", 5)
    items = ["a", str(tmp_path / "server"), "b", "c"]
    with Workers(2, preload=[RARE]) as workers:
        found = dict(workers.map(act, items))
        assert [found[item].value for item in items] == items


def test_they_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format("list(workers.map(time.sleep, [60, 60]))")],
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 60
    while len(below := psutil.Process(process.pid).children(recursive=True)) < 3 + 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert alive == []


SCRIPT = f"""
import time
from pantskit.core.workers import Workers
if __name__ == "__main__":
    with Workers(2, preload=["{RARE}"]) as workers:
        {{}}
"""


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", SCRIPT.format(line)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
