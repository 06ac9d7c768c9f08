from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pantskit.core.crew import Backlog
from pantskit.core.errors import ConfigError, ImageError, WorkerLost
from pantskit.core.workers import Workers


@pytest.fixture(scope="module")
def pair() -> Iterator[Workers]:
    """Two workers for all tests that leave them alive."""
    with Workers(2) as workers:
        yield workers


def double(n: int) -> int:
    return 2 * n


def who(n: int) -> tuple[int, int]:
    return n, os.getpid()


def act(what: str) -> str:
    if what == "error":
        raise ImageError("no image", data={"slices": 3})
    if what == "own error":
        raise TwoWordsError("one", "two")
    if what == "exit 0":
        os._exit(0)
    if what == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(60)
    if what == "sleep":
        time.sleep(0.2)
    return what


class TwoWordsError(Exception):
    """Pickles, and does not come back: it takes two arguments and keeps one."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


# What comes back


def test_every_item_comes_back_once_with_its_value(pair: Workers) -> None:
    found = [(item, outcome.value) for item, outcome in pair.map(double, range(1000))]
    assert sorted(found) == [(n, 2 * n) for n in range(1000)]


def test_workers_are_not_started_again_for_the_next_map(pair: Workers) -> None:
    first = {o.value[1] for _, o in pair.map(who, range(200)) if o.value}
    second = {o.value[1] for _, o in pair.map(who, range(200)) if o.value}
    assert second <= first
    assert os.getpid() not in first


def test_no_workers_run_the_items_here() -> None:
    with Workers(0) as none:
        assert [o.value for _, o in none.map(who, [1, 2])] == [(1, os.getpid()), (2, os.getpid())]
        ((_, outcome),) = none.map(act, ["error"])
    assert isinstance(outcome.error, ImageError)


def test_workers_that_nobody_needs_are_never_started() -> None:
    before = psutil.Process().children(recursive=True)
    with Workers(4) as workers:
        assert list(workers.map(double, [])) == []
        assert psutil.Process().children(recursive=True) == before


def test_an_error_arrives_with_its_data(pair: Workers) -> None:
    ((_, outcome),) = pair.map(act, ["error"])
    assert isinstance(outcome.error, ImageError)
    assert (str(outcome.error), outcome.error.data) == ("no image", {"slices": 3})


def later(n: int) -> Future[int]:
    time.sleep(0.001)
    return _POOL.submit(divided, n)


def divided(n: int) -> int:
    time.sleep(0.02)
    return 60 // n


_POOL = ThreadPoolExecutor(8)


@pytest.mark.parametrize("here", [True, False])
def test_a_value_that_is_on_its_way_is_waited_for(pair: Workers, here: bool) -> None:
    with Workers(0) as none:
        found = dict((none if here else pair).map(later, [*range(7), 60]))
    assert isinstance(found[0].error, ZeroDivisionError)
    assert found[0].value is None
    assert [found[n].value for n in (1, 2, 3, 4, 5, 6, 60)] == [60, 30, 20, 15, 12, 10, 1]


def test_an_error_that_does_not_travel_is_told_of(pair: Workers) -> None:
    ((_, outcome),) = pair.map(act, ["own error"])
    assert str(outcome.error) == "TwoWordsError: one"


def test_a_large_item_and_a_large_result_travel(pair: Workers) -> None:
    load = bytes(range(256)) * 20_000  # 5 MB: more than a pipe holds
    ((_, outcome),) = pair.map(bytes, [load])
    assert outcome.value == load


def test_a_task_that_does_not_travel_is_refused(pair: Workers) -> None:
    with pytest.raises(ConfigError, match="the task cannot be sent to a worker"):
        list(pair.map(lambda n: n, [1]))


def test_items_are_drawn_as_workers_get_free(pair: Workers) -> None:
    drawn = []

    def items() -> Iterator[int]:
        for n in range(100_000):
            drawn.append(n)
            yield n

    for _ in pair.map(double, items()):
        break
    assert len(drawn) < 300


# What is lost


def test_a_worker_that_leaves_with_status_0_costs_its_item() -> None:
    with Workers(1) as workers:
        found = dict(workers.map(act, ["a", "exit 0", "b"]))
    assert str(found["exit 0"].error) == "its worker process ended with exit status 0"
    assert [found[i].value for i in "ab"] == ["a", "b"]


def test_an_item_whose_worker_somebody_kills_is_tried_again(tmp_path: Path) -> None:
    with Workers(2) as workers:
        items = [tmp_path / "once", *(tmp_path / f"{n}" for n in range(5))]
        found = dict(workers.map(die_once, items))
    assert [o.error for o in found.values()] == [None] * 6
    with Workers(2) as workers:
        items = [tmp_path / "first", tmp_path / "second"]
        found = dict(workers.map(die_once, items[:1], retries=0))
    assert isinstance(found[items[0]].error, WorkerLost)


def die_once(mark: Path) -> None:
    if mark.name in ("once", "first") and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_nothing_runs_beside_an_item_that_is_tried_again(tmp_path: Path) -> None:
    with Workers(2) as workers:
        list(workers.map(note_others, [tmp_path / "kill", *(tmp_path / f"{n}" for n in range(4))]))
    assert (tmp_path / "kill").read_text() == ""


def note_others(path: Path) -> None:
    if path.name == "kill" and not (path.parent / "killed").exists():
        (path.parent / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    running = path.with_suffix(".running")
    running.touch()
    time.sleep(0.3)
    others = [p.name for p in path.parent.glob("*.running") if p != running]
    path.write_text(" ".join(others))
    running.unlink()


def test_the_worst_item_of_a_batch_is_the_only_one_lost() -> None:
    with Workers(1) as workers:
        list(workers.map(double, range(500)))  # so that items travel in batches
        items = [f"{n}" for n in range(30)]
        items[17] = "hang"
        found = dict(workers.map(act, items, timeout_s=4))
    assert [i for i, o in found.items() if o.error] == ["hang"]
    assert str(found["hang"].error) == "took longer than 4 s and was stopped"


def test_who_stops_listening_stops_what_runs(tmp_path: Path) -> None:
    with Workers(2) as workers:
        for _ in workers.map(sleep_and_write, [tmp_path / "0", tmp_path / "2"]):
            break
        assert [o.value for _, o in workers.map(double, [1])] == [2]  # others are there at once
    time.sleep(2.2)
    assert [p.name for p in tmp_path.iterdir()] == ["0"]


def sleep_and_write(path: Path) -> None:
    time.sleep(int(path.name))
    path.touch()


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pantskit.core.workers import Workers\n"
        "with Workers(1) as workers:\n    print(list(workers.map(abs, [-1])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "under `if __name__ == '__main__':`" in done.stderr


# Memory


def hold(megabytes: int) -> tuple[int, float, float]:
    started = time.monotonic()
    block = np.ones(megabytes * 2**17)  # 8 bytes each
    time.sleep(0.7)
    return len(block), started, time.monotonic()


def test_what_together_is_too_large_runs_one_after_another() -> None:
    with Workers(2, memory_mb=3000) as workers:
        sizes = dict.fromkeys([1, 2], 2000.0) | {3: 500.0}
        spans = {i: o.value for i, o in workers.map(hold, sizes, memory_mb=sizes.get)}
    one, two, small = (spans[n] for n in (1, 2, 3))
    assert one is not None
    assert two is not None
    assert small is not None
    assert two[1] >= one[2]  # 2000 + 2000 MB wait for each other
    assert small[1] < one[2]  # 500 fit beside


def test_what_is_larger_than_the_budget_runs_alone() -> None:
    with Workers(2, memory_mb=1000) as workers:
        sizes = {1: 5000.0, 2: 10.0, 3: 10.0}
        spans = {i: o.value for i, o in workers.map(hold, sizes, memory_mb=sizes.get)}
    assert None not in spans.values()
    begins = {i: s[1] for i, s in spans.items() if s}
    ends = {i: s[2] for i, s in spans.items() if s}
    assert all(begins[1] >= ends[n] or begins[n] >= ends[1] for n in (2, 3))


def test_the_worker_furthest_above_its_estimate_is_the_one_killed(tmp_path: Path) -> None:
    with Workers(2, memory_mb=400) as workers:
        # Each has about 50 MB of Python besides.
        sizes = {(150, tmp_path / "of the other"): 250.0, (300, tmp_path / "of the other"): 30.0}
        found = dict(workers.map(hold_on, sizes, memory_mb=sizes.get, retries=0))
    small, large = (found[item] for item in sizes)
    assert small.error is None
    assert "had grown to" in str(large.error)


def ended(process: int) -> bool:
    """Whether a process is gone, or nobody has asked yet how it ended."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def hold_on(item: tuple[int, Path]) -> int:
    """The larger tells its process and stays; the smaller stays until that process is gone."""
    megabytes, told = item
    if megabytes == 300:  # may be killed before its memory is filled
        told.with_suffix(".part").write_text(str(os.getpid()))
        told.with_suffix(".part").rename(told)
    block = np.ones(megabytes * 2**17)
    if megabytes == 300:
        time.sleep(60)
    ends = time.monotonic() + 60
    while time.monotonic() < ends and not (told.exists() and ended(int(told.read_text()))):
        time.sleep(0.05)
    return len(block)


def test_the_largest_that_fits_goes_first_and_equals_keep_their_order() -> None:
    sizes = {"a": 5.0, "b": 30.0, "c": 5.0, "d": 5.0, "e": None}
    backlog = Backlog(sizes, sizes.get)
    taken = [e.item for e in backlog.take(10, 2, idle=False)]
    assert taken == ["a", "c"]
    assert [e.item for e in backlog.take(4, 9, idle=False)] == ["e"]
    assert backlog.take(4, 1, idle=False) == []
    assert [e.item for e in backlog.take(4, 1, idle=True)] == ["b"]  # the largest, as it is alone
    assert [e.item for e in backlog.take(5, 1, idle=False)] == ["d"]
    assert backlog.take(99, 1, idle=True) == []


# The processes


def threads(_: int) -> dict[str, int]:
    import threadpoolctl

    np.ones((2, 2)) @ np.ones((2, 2))
    return {p["user_api"]: p["num_threads"] for p in threadpoolctl.threadpool_info()}


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("OMP", "OPENBLAS", "MKL"):
        monkeypatch.delenv(f"{library}_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    for count in (1, cores):
        with Workers(count) as workers:
            ((_, outcome),) = workers.map(threads, [0])
        assert outcome.value is not None
        assert outcome.value["blas"] == cores // count


def test_workers_outlive_the_thread_that_used_them_first() -> None:
    with Workers(1) as workers:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(workers.map(who, [1])))
        thread.start()
        thread.join()
        found += workers.map(who, [1])
    assert len({o.value[1] for _, o in found}) == 1


def test_no_process_is_left_behind() -> None:
    with Workers(2) as workers:
        pids = {o.value[1] for _, o in workers.map(who, range(100)) if o.value}
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize(
    ("count", "memory_mb", "message"), [(-1, None, "not -1"), (2, 0.0, "memory_mb must be more")]
)
def test_impossible_numbers_are_refused(count: int, memory_mb: float | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Workers(count, memory_mb)


def is_deaf(_: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("preload", [(), ("json",)])
def test_ctrl_c_reaches_no_process_of_a_crew(preload: tuple[str, ...]) -> None:
    """One that was just beginning would print where it was."""
    with Workers(2, preload=preload) as workers:
        assert all(outcome.value for _, outcome in workers.map(is_deaf, range(4)))
    assert not is_deaf(0)
