"""Who computes when: by events and orders, never by the clock."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pantskit.core.errors import ImageError
from pantskit.core.records import CaseRecord, RecordStore
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.predict.turns import Line, SharedTurns, utilisation

PATIENCE_S = 30  # for what must happen; nothing waits that long when all is well


class Story:
    """What happened, in order; and steps that wait for others."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._changed = threading.Condition()

    def say(self, what: str) -> None:
        with self._changed:
            self.said.append(what)
            self._changed.notify_all()

    def wait_for(self, what: str) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: what in self.said, PATIENCE_S)
        assert came, f"{what!r} never came; {self.said}"

    def before(self, first: str, second: str) -> bool:
        return self.said.index(first) < self.said.index(second)


def run(line: Line, task: Callable[[Job], dict[str, Any]], out: Path, count: int) -> RunSummary:
    jobs = [Job(str(n)) for n in range(count)]
    return run_cases(task, jobs, stage="test", store=RecordStore(out), workers=line)


def test_next_case_is_read_and_the_last_one_written_while_one_computes(tmp_path: Path) -> None:
    story, line = Story(), Line()

    def task(job: Job) -> dict[str, Any]:
        n = int(job.case_id)
        story.say(f"read {n}")

        def work(_: None) -> None:
            story.say(f"compute {n}")
            if n < 3:
                story.wait_for(f"read {n + 1}")  # the next is read meanwhile
            if n > 0:
                story.wait_for(f"writing {n - 1}")  # and the last is written
            story.say(f"computed {n}")

        line.compute("cpu", lambda: None, work)
        story.say(f"writing {n}")
        if n < 3:
            story.wait_for(f"compute {n + 1}")
        return {}

    assert run(line, task, tmp_path, 4).counts == {"done": 4}
    for n in range(2):  # never two ahead
        assert story.before(f"computed {n}", f"read {n + 2}")
    assert [s for s in story.said if s.startswith("computed")] == [
        f"computed {n}" for n in range(4)
    ]


def test_network_computes_in_the_thread_that_ctrl_c_reaches(tmp_path: Path) -> None:
    line, threads = Line(), []

    def task(job: Job) -> dict[str, Any]:
        def note(_: None) -> None:
            threads.append(threading.current_thread())

        assert threading.current_thread() is not threading.main_thread()
        line.compute("cpu", lambda: None, note)
        return {}

    assert run(line, task, tmp_path, 3).exit_status == 0
    assert threads == [threading.main_thread()] * 3


def test_what_fails_in_reading_loading_computing_or_writing_costs_its_own_case(
    tmp_path: Path,
) -> None:
    line = Line()

    def fail(what: str) -> None:
        raise ImageError(f"{what} failed")

    def task(job: Job) -> dict[str, Any]:
        where = {"1": "reading", "3": "loading", "5": "computing", "7": "writing"}
        mine = where.get(job.case_id)
        if mine == "reading":
            fail(mine)
        turn = line.compute(
            "cpu",
            lambda: fail(mine) if mine == "loading" else None,
            lambda _: fail(mine) if mine == "computing" else job.case_id,
        )
        if mine == "writing":
            fail(mine)
        return {"own": turn.value}

    summary = run(line, task, tmp_path, 9)
    assert summary.counts == {"done": 5, "failed": 4}
    failed = {r.case_id: r.message for r in summary.not_done}
    assert failed == {
        "1": "reading failed", "3": "loading failed", "5": "computing failed", "7": "writing failed"
    }  # fmt: skip
    assert all(r.data["own"] == r.case_id for r in summary.records if r.status == "done")


def test_interrupted_run_ends_what_is_written_and_goes_on_later(tmp_path: Path) -> None:
    line, story = Line(), Story()
    interrupt = True

    def task(job: Job) -> dict[str, Any]:
        def work(_: None) -> None:
            if job.case_id == "1" and interrupt:
                story.wait_for("writing 0")
                story.say("interrupt")
                raise KeyboardInterrupt

        line.compute("cpu", lambda: None, work)
        story.say(f"writing {job.case_id}")
        if interrupt:
            story.wait_for("interrupt")
        return {}

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(line, task, tmp_path, 5)
    deadline = time.monotonic() + PATIENCE_S
    while threading.active_count() > before:  # the last one may be about to end
        assert time.monotonic() < deadline
        time.sleep(0.01)
    records = {r.case_id for r in RecordStore(tmp_path).all("test")}
    assert records == {"0"}  # written to its end; 1 was stopped, 2 turned back
    interrupt = False
    summary = run(line, task, tmp_path, 5)
    assert summary.counts == {"done": 5}
    assert summary.ran == ("1", "2", "3", "4")


def test_nothing_is_read_ahead_while_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantskit.predict.turns.available_memory_mb", lambda: 100.0)
    line, story = Line(), Story()

    def task(job: Job) -> dict[str, Any]:
        line.await_memory(200)
        story.say(f"read {job.case_id}")
        line.compute("cpu", lambda: None, lambda _: None)
        story.say(f"wrote {job.case_id}")
        return {}

    assert run(line, task, tmp_path, 3).counts == {"done": 3}
    assert story.said == ["read 0", "wrote 0", "read 1", "wrote 1", "read 2", "wrote 2"]


def test_processes_of_one_gpu_take_turns_and_those_of_a_cpu_do_not(tmp_path: Path) -> None:
    turns, story = SharedTurns(tmp_path, 0.0), Story()
    inside: list[str] = []

    def alone(name: str) -> Callable[[None], None]:
        def work(_: None) -> None:
            inside.append(name)
            story.say(f"{name} computes")
            assert inside == [name]
            inside.remove(name)

        return work

    def gpu(name: str) -> None:
        for _ in range(20):
            turns.compute("cuda:0", lambda: None, alone(name))

    def side_by_side(name: str, other: str) -> Callable[[None], None]:
        def work(_: None) -> None:
            story.say(f"{name} begins")
            story.wait_for(f"{other} begins")

        return work

    other = threading.Thread(target=gpu, args=("b",))
    other.start()
    gpu("a")
    other.join()
    assert story.said.count("a computes") == story.said.count("b computes") == 20
    # Two GPUs, too, each with a turn of its own.
    other = threading.Thread(
        target=turns.compute, args=("cuda:1", lambda: None, side_by_side("c", "d"))
    )
    other.start()
    turns.compute("cuda:0", lambda: None, side_by_side("d", "c"))
    other.join()


HOLD = """
import sys, time
from pathlib import Path
from pantskit.predict.turns import SharedTurns

def hold(_):
    print("computes", flush=True)
    time.sleep(600)

SharedTurns(Path(sys.argv[1]), 0.0).compute("cuda:0", lambda: None, hold)
"""


def test_turn_of_a_killed_process_is_the_next_one_s(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "computes\n"
        process.kill()
    turn = SharedTurns(tmp_path, 0.0).compute("cuda:0", lambda: None, lambda _: "mine")
    assert turn.value == "mine"


def test_a_gpu_waits_from_the_end_of_one_process_s_turn_to_the_next_one_s(tmp_path: Path) -> None:
    first = SharedTurns(tmp_path, 0.0).compute("cuda:0", lambda: None, lambda _: "answer")
    assert first.value == "answer"
    assert first.waited_s > 0  # since the clock's beginning, when this run is said to have begun
    second = SharedTurns(tmp_path, 0.0).compute("cuda:0", lambda: None, lambda _: None)
    assert 0 <= second.waited_s < first.waited_s


def test_utilisation_is_of_the_cases_that_were_computed_now() -> None:
    def record(case_id: str, **data: float) -> CaseRecord:
        return CaseRecord(case_id, "predict", "done", data=data)

    records = (
        record("a", network_s=6.0, waited_s=1.0),
        record("b", network_s=3.0, waited_s=0.0),
        record("earlier", network_s=100.0, waited_s=100.0),
        CaseRecord("failed", "predict", "failed"),
    )
    summary = RunSummary("predict", records, ("a", "b", "failed"))
    assert utilisation(summary) == {"network_s": 9.0, "waited_s": 1.0, "share": 0.9}
    assert utilisation(RunSummary("predict", records, ())) is None
