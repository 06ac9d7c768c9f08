"""Run one function over many cases in worker processes that may die without harm.

Completion lives in the case records: a rerun does only what is missing or has changed. A
worker that is killed, hangs or fills the memory costs its own case and no other.
"""

from __future__ import annotations

import concurrent.futures
import json
import pickle
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from blake3 import blake3

from pantskit.core.errors import ConfigError, PantskitError, Quarantined, Skipped
from pantskit.core.files import content_hash, explain_os_error, jsonable
from pantskit.core.records import CaseRecord, RecordStore, Status

Task = Callable[["Job"], dict[str, Any]]
Progress = Callable[[CaseRecord, int, int], None]


@dataclass(frozen=True)
class Job:
    """One case to do.

    Attributes:
        case_id: the case.
        payload: what the task needs to know; must pickle.
        inputs: files whose names and content decide whether the case has to run again.
        outputs: files the task writes; one that is missing makes the case run again.
    """

    case_id: str
    payload: Any = None
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RunSummary:
    """What became of all cases of a run.

    Attributes:
        stage: the stage.
        records: a record per case, in the order of the jobs; unchanged ones included.
        ran: cases that were run now; the others were already done.
    """

    stage: str
    records: tuple[CaseRecord, ...]
    ran: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases by status."""
        statuses = [r.status for r in self.records]
        return {s: statuses.count(s) for s in dict.fromkeys(statuses)}

    @property
    def not_done(self) -> tuple[CaseRecord, ...]:
        """Records of failed and quarantined cases."""
        return tuple(r for r in self.records if r.status in ("failed", "quarantined"))

    @property
    def exit_status(self) -> int:
        """0 when every case was done or skipped on purpose, else 1."""
        return 1 if self.not_done else 0

    def describe(self) -> str:
        """For the end of a run: `9,898 done, 3 failed`."""
        return ", ".join(f"{n:,} {s}" for s, n in self.counts.items()) or "no cases"


_TRIES = 3  # a case is lost to broken pools that often before it fails
_START_S = 300  # in which a worker process must have begun


@dataclass
class _Outcome:
    status: Status
    message: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0


def run_cases(
    task: Task,
    jobs: Sequence[Job],
    *,
    stage: str,
    store: RecordStore,
    settings: Any = None,
    workers: int = 1,
    timeout_s: float | None = None,
    memory_mb: float | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Run `task` on every job that is not done yet, and keep a record of each.

    Args:
        task: a module-level function; returns the record's `data`. It raises `Quarantined`
            or `Skipped` for those statuses; any other exception makes the case failed.
        jobs: the cases, each ID once.
        stage: names the records.
        store: where records go.
        settings: part of the fingerprint: other settings make every case run again.
        workers: processes; 0 runs in this one, without timeout or memory limit.
        timeout_s: a case that takes longer is killed and failed.
        memory_mb: a worker that grows beyond it is killed and its case failed.
        progress: called after each case with its record, cases finished and cases in all.

    Raises:
        ConfigError: If two jobs have one case ID or `workers` is negative.
    """
    if len({job.case_id for job in jobs}) != len(jobs):
        twice = sorted({j.case_id for j in jobs if sum(j.case_id == o.case_id for o in jobs) > 1})
        raise ConfigError(f"{stage}: case IDs appear twice: {', '.join(twice[:5])}")
    if workers < 0:
        raise ConfigError(f"workers must be 0 or more, not {workers}")
    records: dict[str, CaseRecord] = {}
    waiting: list[tuple[Job, str]] = []
    for job in jobs:
        earlier = store.read(stage, job.case_id)
        mark = fingerprint(job, settings)
        if earlier and _still_done(earlier, mark, job):
            records[job.case_id] = earlier
        else:
            waiting.append((job, mark))
    marks = {job.case_id: mark for job, mark in waiting}
    todo = [job for job, _ in waiting]
    if progress:
        for n, record in enumerate(records.values(), 1):
            progress(record, n, len(jobs))
    outcomes = (
        _here(task, todo) if workers == 0 else _pool(task, todo, workers, timeout_s, memory_mb)
    )
    for job, outcome in outcomes:
        record = CaseRecord(
            case_id=job.case_id,
            stage=stage,
            status=outcome.status,
            message=outcome.message,
            fingerprint=marks[job.case_id],
            outputs=tuple(_relative(p, store.root) for p in job.outputs if p.exists()),
            seconds=round(outcome.seconds, 3),
            peak_memory_mb=round(outcome.peak_memory_mb, 1),
            data=outcome.data,
        )
        store.write(record)
        records[job.case_id] = record
        if progress:
            progress(record, len(records), len(jobs))
    ordered = tuple(records[job.case_id] for job in jobs)
    return RunSummary(stage, ordered, tuple(job.case_id for job in todo))


def fingerprint(job: Job, settings: Any) -> str:
    """Hash of a job's input files, by name and content, and the settings; 32 hex digits."""
    hasher = blake3(json.dumps(jsonable(settings), sort_keys=True, default=repr).encode())
    for path in job.inputs:
        hasher.update(f"\n{path.name}\n".encode())  # a mask's name says what it is of
        try:
            hasher.update(content_hash(path).encode())
        except OSError as error:  # the task meets it too, and says so in the case's record
            hasher.update(type(error).__name__.encode())
    return hasher.hexdigest(length=16)


def _still_done(record: CaseRecord, mark: str, job: Job) -> bool:
    finished = record.status in ("done", "skipped", "quarantined")
    outputs = record.status != "done" or all(path.exists() for path in job.outputs)
    return finished and outputs and record.fingerprint == mark


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _attempt(task: Task, job: Job) -> _Outcome:
    """Run one case in this process; no exception gets out but Ctrl-C."""
    started = time.perf_counter()
    try:
        with _peak_memory() as peak:
            data = jsonable(task(job) or {})
            json.dumps(data)  # what no record can hold fails here, with its case
            outcome = _Outcome("done", data=data)
    except Quarantined as error:
        outcome = _Outcome("quarantined", str(error))
    except Skipped as error:
        outcome = _Outcome("skipped", str(error))
    except PantskitError as error:
        outcome = _Outcome("failed", str(error))
    except MemoryError:
        outcome = _Outcome("failed", f"{job.case_id}: out of memory; use fewer workers")
    except OSError as error:
        outcome = _Outcome("failed", f"{job.case_id}: {explain_os_error(error)}")
    except SystemExit as error:
        outcome = _Outcome("failed", f"{job.case_id}: the task left with exit status {error.code}")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{job.case_id}: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        outcome = _Outcome("failed", text)
    outcome.seconds = time.perf_counter() - started
    outcome.peak_memory_mb = peak[0]
    return outcome


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """The process's largest resident memory during the block, in MiB."""
    peak = [0.0]
    with suppress(OSError):  # Linux: a worker's earlier cases are forgotten
        Path("/proc/self/clear_refs").write_text("5")
    try:
        yield peak
    finally:
        peak[0] = _high_water_mib()


def _high_water_mib() -> float:
    try:
        # Not ru_maxrss, which counts the parent's memory at the fork, too.
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) / 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 1024)


def _here(task: Task, jobs: list[Job]) -> Iterator[tuple[Job, _Outcome]]:
    for job in jobs:
        yield job, _attempt(task, job)


def _pool(
    task: Task, jobs: list[Job], workers: int, timeout_s: float | None, memory_mb: float | None
) -> Iterator[tuple[Job, _Outcome]]:
    """Run jobs in spawned workers; a pool that breaks is replaced and its cases tried again."""
    waiting, losses = deque(jobs), Counter[str]()
    with _memory_watch(memory_mb) as too_large:
        while waiting:
            for job, future in _one_pool(task, waiting, workers, timeout_s):
                outcome = _outcome(future, job, too_large, timeout_s, memory_mb)
                if outcome is None:
                    losses[job.case_id] += 1
                    if losses[job.case_id] < _TRIES:
                        waiting.append(job)
                        continue
                    why = f": they grew beyond {memory_mb:g} MB of memory" if too_large else ""
                    text = f"{job.case_id}: worker processes died before they began{why}"
                    outcome = _Outcome("failed", text)
                yield job, outcome


def _one_pool(
    task: Task, waiting: deque[Job], workers: int, timeout_s: float | None
) -> Iterator[tuple[Job, Any]]:
    """Take jobs off `waiting` until none is left or the pool breaks; each job with its future.

    A pool breaks when a worker dies between two cases. At most `workers` jobs are in it, so
    that few are lost to it.
    """
    from pebble import ProcessPool

    context = get_context("spawn")  # fork would copy threads' locks of BLAS and torch
    pool = ProcessPool(max_workers=min(workers, len(waiting)), context=context)
    running: dict[Any, Job] = {}
    handed_out: dict[Any, float] = {}
    try:
        while pool.active and not _stuck(handed_out):
            while waiting and len(running) < workers:
                try:
                    # Pickled here: what cannot travel must not reach the pool's own pipes.
                    load = pickle.dumps((task, waiting[0]))
                except Exception as error:
                    failed: Any = concurrent.futures.Future()
                    failed.set_exception(error)
                    yield waiting.popleft(), failed
                    continue
                args = (waiting[0].case_id, load)
                future: Any = pool.schedule(_in_worker, args=args, timeout=timeout_s)
                running[future] = waiting.popleft()
                handed_out[future] = time.monotonic()
            if not running:
                return
            done, _ = concurrent.futures.wait(
                running, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                del handed_out[future]
                yield running.pop(future), future
        for future, job in running.items():
            yield job, future
    finally:
        pool.stop()
        pool.join()


def _stuck(handed_out: dict[Any, float]) -> bool:
    """Whether a case waits for a worker that died as it took it."""
    now = time.monotonic()
    return any(not f.running() and now - t > _START_S for f, t in handed_out.items())


def _in_worker(case_id: str, load: bytes) -> _Outcome:
    try:
        task, job = pickle.loads(load)
    except Exception as error:
        return _Outcome("failed", f"{case_id}: cannot be loaded: {type(error).__name__}: {error}")
    return _attempt(task, job)


def _outcome(
    future: Any,
    job: Job,
    too_large: set[int],
    timeout_s: float | None,
    memory_mb: float | None,
) -> _Outcome | None:
    """What became of a job; None where its pool broke."""
    from pebble import ProcessExpired

    if not future.done():
        return None
    try:
        result = future.result()
    except BrokenProcessPool:
        return None
    except concurrent.futures.TimeoutError:
        return _Outcome(
            "failed", f"{job.case_id}: took longer than {timeout_s:g} s and was stopped"
        )
    except ProcessExpired as error:
        if error.pid in too_large:
            why = f"grew beyond {memory_mb:g} MB of memory; use fewer workers or allow more"
        elif error.exitcode == -signal.SIGKILL:
            why = "was killed (SIGKILL), most often for want of memory; use fewer workers"
        elif error.exitcode < 0:
            why = f"crashed ({signal.Signals(-error.exitcode).name})"
        else:
            why = f"ended with exit status {error.exitcode}"
        return _Outcome("failed", f"{job.case_id}: its worker process {why}")
    except Exception as error:
        return _Outcome("failed", f"{job.case_id}: {type(error).__name__}: {error}")
    if not isinstance(result, _Outcome):
        raise TypeError(f"worker returned {type(result).__name__}")
    return result


@contextmanager
def _memory_watch(memory_mb: float | None) -> Iterator[set[int]]:
    """Kill each child process started in the block that grows beyond the limit.

    Resident memory is watched, four times a second, instead of limiting address space: the
    latter breaks CUDA. Yields the IDs of the processes that were killed.
    """
    killed: set[int] = set()
    if memory_mb is None:
        yield killed
        return
    import psutil

    stop = threading.Event()
    others = {child.pid for child in psutil.Process().children()}

    def watch() -> None:
        while not stop.wait(0.25):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if child.pid not in others and child.memory_info().rss > memory_mb * 2**20:
                        killed.add(child.pid)
                        child.kill()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()
