"""Runs and workers that are really killed (SIGKILL), and what the next run makes of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pantskit.core.files import TEMPORARY_PREFIX, held
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, run_cases

N = 24
SCRIPT = """
import os, sys, time
from pathlib import Path
from pantskit.core.files import atomic_path
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, run_cases

def task(job):
    (out,) = job.outputs
    with atomic_path(out) as part, part.open("w") as file:
        for _ in range(5):
            file.write(job.case_id)
            file.flush()
            time.sleep(0.02)
    with open(out.parent / "log", "a") as log:
        log.write(job.case_id + "\\n")
    return {"written": job.case_id}

if __name__ == "__main__":
    root = Path(sys.argv[1])
    jobs = [Job(f"c{n:02}", outputs=(root / f"c{n:02}.txt",)) for n in range(int(sys.argv[2]))]
    summary = run_cases(task, jobs, stage="s", store=RecordStore(root), workers=2, retries=5)
    print(summary.describe(), "ran", *summary.ran)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def start(script: Path, root: Path) -> subprocess.Popen[str]:
    root.mkdir(exist_ok=True)
    command = [sys.executable, str(script), str(root), str(N)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def records(root: Path) -> list[str]:
    return sorted(p.stem for p in (root / ".pantskit/records/s").glob("[!.]*.json"))


def wait_for_records(root: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(records(root)) < n:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [c for c in children if "--multiprocessing-fork" in c.cmdline()]


def check_whole(root: Path) -> None:
    """Every case once, every file whole, nothing else left."""
    assert records(root) == [f"c{n:02}" for n in range(N)]
    for record in RecordStore(root).all("s"):
        assert (record.status, record.data) == ("done", {"written": record.case_id})
        assert (root / f"{record.case_id}.txt").read_text() == 5 * record.case_id
    assert [p for p in root.rglob("*") if p.name.startswith(TEMPORARY_PREFIX)] == []
    assert not (root / ".pantskit" / "running").exists()


def test_a_killed_run_is_finished_by_the_next_one(script: Path, tmp_path: Path) -> None:
    root, draw = tmp_path / "out", random.Random(7)
    for stop_at in (0, 4, 11, 17):
        process = start(script, root)
        wait_for_records(root, stop_at)
        time.sleep(draw.uniform(0, 0.1) if stop_at else draw.uniform(0.1, 0.5))
        orphans = workers_of(process)
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(orphans, timeout=5)
        assert alive == []
        for name in records(root):  # none is half-written
            json.loads((root / ".pantskit/records/s" / f"{name}.json").read_text())
    finished = set(records(root))
    process = start(script, root)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.startswith(f"{N} done ran ")
    assert set(said.split(" ran ")[1].split()) == {f"c{n:02}" for n in range(N)} - finished
    check_whole(root)
    log = (root / "log").read_text().split()
    assert len(log) - N <= 2 * 4  # what was being done when a run was killed, and nothing else


def test_killed_workers_cost_a_run_nothing(script: Path, tmp_path: Path) -> None:
    root, draw = tmp_path / "out", random.Random(3)
    process = start(script, root)
    for stop_at in (2, 8, 14):
        wait_for_records(root, stop_at)
        time.sleep(draw.uniform(0, 0.1))
        draw.choice(workers_of(process)).kill()
    said, _ = process.communicate(timeout=60)
    assert said.startswith(f"{N} done ran ")
    check_whole(root)


def test_leftovers_go_once_their_process_is_dead(tmp_path: Path) -> None:
    deep = tmp_path / "LabelTr" / "c1" / "segmentations"
    deep.mkdir(parents=True)
    left, used = deep / f"{TEMPORARY_PREFIX}1-liver.nii.gz", deep / f"{TEMPORARY_PREFIX}2-a.gz"
    left.touch()
    (tmp_path / ".pantskit" / "running").mkdir(parents=True)
    (tmp_path / ".pantskit" / "running" / "killed").touch()
    with held(used):
        run_cases(nothing, [Job("c1")], stage="s", store=RecordStore(tmp_path), workers=0)
        assert (left.exists(), used.exists()) == (False, True)


def test_a_run_beside_another_one_leaves_its_files(tmp_path: Path) -> None:
    (tmp_path / ".pantskit" / "running").mkdir(parents=True)
    with held(tmp_path / ".pantskit" / "running" / "other"):
        part = tmp_path / f"{TEMPORARY_PREFIX}1-a.gz"
        part.touch()
        run_cases(nothing, [Job("c1")], stage="s", store=RecordStore(tmp_path), workers=0)
        assert part.exists()
        assert [p.name for p in (tmp_path / ".pantskit/running").iterdir()] == ["other"]


def test_what_a_killed_worker_left_goes_at_the_end_of_the_run(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    job = Job("c1", tmp_path, outputs=(outside / "c1.txt",))
    store = RecordStore(tmp_path / "out")
    summary = run_cases(leave_and_die, [job], stage="s", store=store, workers=1, retries=0)
    assert summary.counts == {"failed": 1}
    assert list(outside.iterdir()) == []


def nothing(job: Job) -> dict[str, str]:
    return {}


def leave_and_die(job: Job) -> dict[str, str]:
    (job.outputs[0].parent / f"{TEMPORARY_PREFIX}1-c1.txt").touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
