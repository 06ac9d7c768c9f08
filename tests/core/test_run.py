from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pantskit.core import run as run_module
from pantskit.core.errors import ConfigError, ImageError, Quarantined, Skipped
from pantskit.core.records import CaseRecord, RecordStore
from pantskit.core.run import Job, RunSummary, fingerprint, run_cases
from pantskit.core.workers import Workers


def work(job: Job) -> dict[str, Any]:
    """Does what the job's payload says, the worst included."""
    what = job.payload or "write"
    if what == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "segfault":
        ctypes.string_at(0)
    elif what == "exit":
        os._exit(3)
    elif what == "sys.exit":
        sys.exit("enough")
    elif what == "exception":
        raise ZeroDivisionError("1/0")
    elif what == "image":
        raise ImageError(f"{job.case_id}: not an image")
    elif what == "quarantine with facts":
        raise Quarantined(f"{job.case_id}: tilted", data={"tilt_degrees": np.float32(12.5)})
    elif what == "quarantine":
        raise Quarantined(f"{job.case_id}: slices are missing")
    elif what == "skip":
        raise Skipped(f"{job.case_id}: a localizer")
    elif what == "full disk":
        raise OSError(28, "No space left on device", "out.nii.gz")
    elif what == "out of memory":
        raise MemoryError
    elif what == "hang":
        time.sleep(60)
    elif what == "hog":
        keep = []
        for _ in range(200):
            keep.append(np.ones(2_000_000))  # 16 MB at a time
            time.sleep(0.02)
    elif what == "large":
        np.ones(40_000_000)  # 305 MiB, given back at once
    elif what == "unpicklable":
        return {"x": lambda: 0}
    elif what == "no json":
        return {"x": object()}
    elif what == "interrupt":
        raise KeyboardInterrupt
    for path in job.outputs:
        path.write_text(job.case_id)
    return {"case": job.case_id, "nan": float("nan"), "n": np.int64(3), "pid": os.getpid()}


def jobs(tmp_path: Path, n: int, faults: dict[int, str] | None = None) -> list[Job]:
    return [
        Job(f"c{i:02}", (faults or {}).get(i), outputs=(tmp_path / f"c{i:02}.out",))
        for i in range(n)
    ]


def run(todo: list[Job], store: RecordStore, **options: Any) -> RunSummary:
    options.setdefault("workers", 0)
    return run_cases(work, todo, stage="work", store=store, **options)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path)


# What becomes of a case


@pytest.mark.parametrize("workers", [0, 1])
def test_a_done_case_leaves_a_record(workers: int, tmp_path: Path, store: RecordStore) -> None:
    summary = run(jobs(tmp_path, 1), store, workers=workers)
    (record,) = summary.records
    assert record.status == "done"
    assert record.message == ""
    assert record.outputs == ("c00.out",)
    assert (record.data["case"], record.data["nan"], record.data["n"]) == ("c00", None, 3)
    assert (record.data["pid"] == os.getpid()) == (workers == 0)
    assert record.peak_memory_mb > 10
    assert store.read("work", "c00") == record
    assert summary.ran == ("c00",)
    assert summary.exit_status == 0
    assert summary.describe() == "1 done"


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ("image", "failed", "c00: not an image"),
        ("quarantine", "quarantined", "c00: slices are missing"),
        ("skip", "skipped", "c00: a localizer"),
        ("exception", "failed", "c00: ZeroDivisionError: 1/0 (work, line "),
        ("full disk", "failed", "c00: out.nii.gz: No space left on device; free some space"),
        ("out of memory", "failed", "c00: out of memory; use fewer workers"),
        ("no json", "failed", "c00: TypeError: Object of type object is not JSON"),
        ("sys.exit", "failed", "c00: the task left with exit status enough"),
    ],
)
def test_what_a_task_raises_becomes_its_cases_record(
    what: str, status: str, message: str, tmp_path: Path, store: RecordStore
) -> None:
    summary = run(jobs(tmp_path, 2, {0: what}), store)
    first, second = summary.records
    assert first.status == status
    assert first.message.startswith(message)
    assert second.status == "done"
    assert summary.exit_status == (0 if status == "skipped" else 1)
    assert [r.case_id for r in summary.not_done] == ([] if status == "skipped" else ["c00"])


@pytest.mark.parametrize("workers", [0, 1])
def test_facts_of_a_case_that_is_not_done_go_into_its_record(
    workers: int, tmp_path: Path, store: RecordStore
) -> None:
    run(jobs(tmp_path, 1, {0: "quarantine with facts"}), store, workers=workers)
    record = store.read("work", "c00")
    assert record is not None
    assert (record.status, record.message) == ("quarantined", "c00: tilted")
    assert record.data == {"tilt_degrees": 12.5}


def test_dead_and_hanging_workers_cost_their_own_case_only(
    tmp_path: Path, store: RecordStore
) -> None:
    faults = {
        3: "sigkill",
        7: "segfault",
        11: "hang",
        15: "hog",
        19: "exception",
        23: "exit",
        27: "unpicklable",
        31: "sys.exit",
    }
    summary = run(jobs(tmp_path, 40, faults), store, workers=2, timeout_s=10, memory_mb=500)
    messages = {r.case_id: r.message for r in summary.not_done}
    assert summary.counts == {"done": 32, "failed": 8}
    assert set(messages) == {f"c{i:02}" for i in faults}
    assert "its worker process was killed (SIGKILL)" in messages["c03"]
    assert "its worker process crashed (SIGSEGV)" in messages["c07"]
    assert messages["c11"] == "c11: took longer than 10 s and was stopped"
    assert re.fullmatch(
        r"c15: its worker process had grown to [\d,]+ MB when memory ran short; use fewer workers",
        messages["c15"],
    )
    assert "ZeroDivisionError" in messages["c19"]
    assert "its worker process ended with exit status 3" in messages["c23"]
    assert messages["c27"].startswith("c27: ")
    assert "exit status enough" in messages["c31"]
    assert [r.case_id for r in summary.records] == [f"c{i:02}" for i in range(40)]
    assert len(list(store.all("work"))) == 40


def test_a_payload_that_does_not_travel_fails_its_case_only(
    tmp_path: Path, store: RecordStore
) -> None:
    todo = jobs(tmp_path, 3)
    todo[1] = Job("c01", lambda: 0)
    summary = run(todo, store, workers=1)
    assert [r.status for r in summary.records] == ["done", "failed", "done"]
    assert summary.not_done[0].message.startswith("c01: ")


class Unreadable:
    """Pickles, and fails to come back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",))


def test_a_payload_that_does_not_arrive_fails_its_case_only(
    tmp_path: Path, store: RecordStore
) -> None:
    todo = jobs(tmp_path, 3)
    todo[1] = Job("c01", Unreadable())
    summary = run(todo, store, workers=1)
    assert [r.status for r in summary.records] == ["done", "failed", "done"]
    assert summary.not_done[0].message.startswith("c01: cannot be loaded: ValueError: invalid")


def test_a_worker_that_dies_between_two_cases_costs_none(
    tmp_path: Path, store: RecordStore
) -> None:
    killed: list[int] = []

    def kill(record: CaseRecord, n: int, total: int) -> None:
        if len(killed) < 2:
            killed.append(record.data["pid"])
            os.kill(killed[-1], signal.SIGKILL)

    summary = run(jobs(tmp_path, 6), store, workers=1, progress=kill)
    assert len(set(killed)) == 2
    assert summary.counts == {"done": 6}


def test_a_worker_is_used_again_and_its_peak_memory_forgotten(
    tmp_path: Path, store: RecordStore
) -> None:
    todo = [Job("large", "large"), Job("small", None)]
    large, small = run(todo, store, workers=1).records
    assert (large.status, small.status) == ("done", "done")
    assert large.data["pid"] == small.data["pid"]
    assert large.peak_memory_mb > 305
    assert small.peak_memory_mb < large.peak_memory_mb - 250


def test_other_children_of_the_process_are_left_alone(tmp_path: Path, store: RecordStore) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        # No worker fits into 1 MB; the process that is not ours is not asked.
        summary = run(jobs(tmp_path, 1, {0: "hang"}), store, workers=1, memory_mb=1)
        assert "when memory ran short" in summary.records[0].message
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


# Running again


def test_a_rerun_does_only_what_is_not_done(tmp_path: Path, store: RecordStore) -> None:
    todo = jobs(tmp_path, 5, {1: "image", 2: "quarantine", 3: "skip"})
    first = run(todo, store)
    assert first.ran == ("c00", "c01", "c02", "c03", "c04")
    again = run(todo, store)
    assert again.ran == ("c01",)  # failed; the others are what they are
    assert [r.status for r in again.records] == [r.status for r in first.records]
    assert again.exit_status == 1
    mended = [Job(j.case_id, None, outputs=j.outputs) for j in todo]
    assert run(mended, store).ran == ("c01",)
    assert run(mended, store).ran == ()


def test_a_changed_input_runs_again(tmp_path: Path, store: RecordStore) -> None:
    source = tmp_path / "in.txt"
    source.write_text("one")
    todo = [Job("c1", inputs=(source,)), Job("c2")]
    run(todo, store)
    source.write_text("one")  # another time, the same content
    assert run(todo, store).ran == ()
    source.write_text("two")
    assert run(todo, store).ran == ("c1",)
    source.unlink()
    assert run(todo, store).ran == ("c1",)


@pytest.mark.parametrize("limit", [2**30, 0])  # compared in this process, in the workers
def test_an_input_of_several_cases_is_read_once(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_COMPARED_HERE_BYTES", limit)
    archive, store = tmp_path / "all.zip", RecordStore(tmp_path / "out")
    archive.write_text("one")
    read: list[Path] = []

    class Here(Workers):
        def map(self, task: Any, items: Any, **options: Any) -> Any:
            if task is run_module._hash:
                read.extend(items)
            return super().map(task, items, **options)

    monkeypatch.setattr(run_module, "Workers", Here)
    todo = [Job(f"c{n}", inputs=(archive,)) for n in range(5)]
    with Here(1) as workers:
        assert len(run(todo, store, workers=workers).ran) == 5
        assert run(todo, store, workers=workers).ran == ()
        archive.write_text("two")
        assert len(run(todo, store, workers=workers).ran) == 5
        assert read == [archive] * 3  # once a run
    marks = {r.fingerprint for r in store.all("work")}
    assert marks == {fingerprint(todo[0], None)}


def test_cases_wait_for_memory(tmp_path: Path, store: RecordStore) -> None:
    todo = [Job(f"c{n}", "large", memory_mb=600) for n in range(2)] + [Job("c9", memory_mb=10)]
    summary = run(todo, store, workers=2, memory_mb=1000)
    assert summary.counts == {"done": 3}  # both at once would be more than the workers may take
    assert summary.ran == ("c0", "c1", "c9")


def test_a_renamed_input_runs_again(tmp_path: Path, store: RecordStore) -> None:
    (tmp_path / "liver.nii").write_text("mask")
    run([Job("c1", inputs=(tmp_path / "liver.nii",))], store)
    renamed = (tmp_path / "liver.nii").rename(tmp_path / "spleen.nii")
    assert run([Job("c1", inputs=(renamed,))], store).ran == ("c1",)


def test_a_missing_output_runs_again(tmp_path: Path, store: RecordStore) -> None:
    todo = jobs(tmp_path, 3)
    run(todo, store)
    (tmp_path / "c01.out").unlink()
    assert run(todo, store).ran == ("c01",)


def test_other_settings_run_all_again(tmp_path: Path, store: RecordStore) -> None:
    todo = jobs(tmp_path, 2)
    run(todo, store, settings={"tolerance_mm": 2.0, "structures": ("liver",)})
    assert run(todo, store, settings={"structures": ["liver"], "tolerance_mm": 2.0}).ran == ()
    assert run(todo, store, settings={"tolerance_mm": 1.0}).ran == ("c00", "c01")


def test_a_lost_or_damaged_record_runs_again(tmp_path: Path, store: RecordStore) -> None:
    todo = jobs(tmp_path, 3)
    run(todo, store)
    store.path("work", "c00").unlink()
    store.path("work", "c01").write_text("{")
    assert run(todo, store).ran == ("c00", "c01")


def test_an_input_that_cannot_be_read_is_the_tasks_to_report(tmp_path: Path) -> None:
    here, gone, folder = (
        fingerprint(Job("c", inputs=(path,)), None)
        for path in (Path(__file__), tmp_path / "gone", tmp_path)
    )
    assert len({here, gone, folder}) == 3


# Ctrl-C


def wait_until_gone(group: int) -> bool:
    """Whether no process of a group is left within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_in_this_process_keeps_finished_records(tmp_path: Path, store: RecordStore) -> None:
    todo = jobs(tmp_path, 4, {2: "interrupt"})
    with pytest.raises(KeyboardInterrupt):
        run(todo, store)
    assert [r.case_id for r in store.all("work")] == ["c00", "c01"]
    mended = [Job(j.case_id, None, outputs=j.outputs) for j in todo]
    assert run(mended, store).ran == ("c02", "c03")


def test_ctrl_c_stops_the_workers_and_keeps_finished_records(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from pantskit.core.records import RecordStore\n"
        "from pantskit.core.run import Job, run_cases\n"
        "def task(job):\n"
        "    time.sleep(0 if job.case_id < 'c3' else 60)\n"
        "    return {}\n"
        "def show(record, n, total):\n"
        "    print(record.case_id, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job(f'c{i}') for i in range(9)]\n"
        "    run_cases(task, jobs, stage='work', store=RecordStore(Path(sys.argv[1])),\n"
        "              workers=2, memory_mb=4000, progress=show)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    shown = [process.stdout.readline().strip() for _ in range(3)]
    assert sorted(shown) == ["c0", "c1", "c2"]
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the workers too
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 20
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert sorted(r.case_id for r in RecordStore(tmp_path).all("work")) == ["c0", "c1", "c2"]
    assert wait_until_gone(process.pid)


# The rest of the contract


def test_progress_is_told_of_every_case(tmp_path: Path, store: RecordStore) -> None:
    told: list[tuple[str, int, int]] = []

    def progress(record: CaseRecord, n: int, total: int) -> None:
        told.append((record.case_id, n, total))

    run(jobs(tmp_path, 2), store)
    run(jobs(tmp_path, 4), store, progress=progress)
    assert told == [("c00", 1, 4), ("c01", 2, 4), ("c02", 3, 4), ("c03", 4, 4)]


def test_a_case_twice_is_refused_before_anything_runs(tmp_path: Path, store: RecordStore) -> None:
    with pytest.raises(ConfigError, match="work: case IDs appear twice: c00"):
        run([*jobs(tmp_path, 2), Job("c00")], store)
    assert list(store.all("work")) == []


def test_workers_are_none_or_more(store: RecordStore) -> None:
    with pytest.raises(ConfigError, match="workers must be 0 or more, not -1"):
        run([], store, workers=-1)


def test_no_cases_are_all_done(store: RecordStore) -> None:
    summary = run([], store, workers=2)
    assert summary.records == ()
    assert summary.exit_status == 0
    assert summary.describe() == "no cases"


def test_a_summary_counts_by_status(tmp_path: Path, store: RecordStore) -> None:
    summary = run(jobs(tmp_path, 4, {1: "image", 2: "skip"}), store)
    assert summary.counts == {"done": 2, "failed": 1, "skipped": 1}
    assert summary.describe() == "2 done, 1 failed, 1 skipped"


def test_a_record_is_json_that_others_read(tmp_path: Path, store: RecordStore) -> None:
    run(jobs(tmp_path, 1), store)
    values = json.loads(store.path("work", "c00").read_text())
    assert (values["case_id"], values["stage"], values["status"]) == ("c00", "work", "done")
    assert len(values["fingerprint"]) == 32
