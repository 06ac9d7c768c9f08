"""Run one function over many cases and keep a record of each.

Completion lives in the case records: a rerun does only what is missing or has changed. What
kills a run, or one of its workers, costs the cases that were being done and nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from pantskit.core.crew import Crew, Outcome
from pantskit.core.errors import ConfigError, PantskitError, Quarantined, Skipped
from pantskit.core.files import (
    content_hash,
    explain_os_error,
    held,
    is_abandoned,
    jsonable,
    remove_leftovers,
)
from pantskit.core.memory import peak_memory
from pantskit.core.records import CaseRecord, RecordStore, Status
from pantskit.core.workers import Workers

Task = Callable[["Job"], dict[str, Any]]
Progress = Callable[[CaseRecord, int, int], None]

# Inputs of finished cases up to this are compared here: quicker than to start a worker.
_COMPARED_HERE_BYTES = 256 * 2**20

_WRITERS = 16


@dataclass(frozen=True)
class Job:
    """One case to do.

    Attributes:
        case_id: the case.
        payload: what the task needs to know; must pickle.
        inputs: files whose names and content decide whether the case has to run again.
        outputs: files the task writes; one that is missing makes the case run again.
        settings: of this case alone, which decide likewise; must be JSON.
        memory_mb: what its worker will take at most as far as one can tell beforehand, Python
            and libraries (about 150) included; 0 where nobody knows.
    """

    case_id: str
    payload: Any = None
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    settings: Any = None
    memory_mb: float = 0.0


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


def run_cases(
    task: Task,
    jobs: Sequence[Job],
    *,
    stage: str,
    store: RecordStore,
    settings: Any = None,
    workers: int | Crew = 1,
    timeout_s: float | None = None,
    memory_mb: float | None = None,
    retries: int = 1,
    progress: Progress | None = None,
) -> RunSummary:
    """Run `task` on every job that is not done yet, and keep a record of each.

    The worker that does a case also hashes its inputs before and writes its record after.

    Args:
        task: a module-level function; returns the record's `data`. It raises `Quarantined`
            or `Skipped` for those statuses; any other exception makes the case failed. The
            `data` of a PantskitError becomes the record's.
        jobs: the cases, each ID once.
        stage: names the records.
        store: where records go. Temporary files that a killed run left below it, and beside
            the outputs of the jobs, are removed.
        settings: part of the fingerprint: other settings make every case run again.
        workers: a crew that is there already, or the number of processes for this run; 0 runs
            in this one, without timeout or memory limit.
        timeout_s: a case that takes longer is killed and failed.
        memory_mb: memory that all workers together may take (see `Workers`); a crew that is
            there already has its own.
        retries: how often a case is tried again whose worker was killed from outside or for
            want of memory. Exceptions, crashes and timeouts are not tried again.
        progress: called after each case with its record, cases finished and cases in all.

    Raises:
        ConfigError: If two jobs have one case ID, a number is impossible, or no worker
            process begins.
    """
    twice = [case_id for case_id, n in Counter(job.case_id for job in jobs).items() if n > 1]
    if twice:
        raise ConfigError(f"{stage}: case IDs appear twice: {', '.join(sorted(twice)[:5])}")
    with _claimed(store.root, jobs) as claim:
        own = Workers(workers, memory_mb) if isinstance(workers, int) else nullcontext(workers)
        with own as crew:
            records: dict[str, CaseRecord] = {}
            case = _Case(task, stage, store, jsonable(settings))
            deaths = crew.deaths
            todo = _not_done(case, jobs, crew, records)
            if progress:
                for n, record in enumerate(records.values(), 1):
                    progress(record, n, len(jobs))
            estimates = any(job.memory_mb for job in jobs)
            for order, outcome in crew.map(
                case,
                todo,
                timeout_s=timeout_s,
                memory_mb=_estimate if estimates else None,
                retries=retries,
            ):
                record = outcome.value or _record_of_loss(case, order.job, outcome)
                records[record.case_id] = record
                if progress:
                    progress(record, len(records), len(jobs))
            claim.litter = crew.deaths > deaths
    ran = {order.job.case_id for order in todo}
    ordered = tuple(records[job.case_id] for job in jobs)
    return RunSummary(stage, ordered, tuple(j.case_id for j in jobs if j.case_id in ran))


@dataclass
class _Claim:
    """A run's hold on a folder; `litter` once workers died, who may have left files."""

    litter: bool = False


@contextmanager
def _claimed(root: Path, jobs: Sequence[Job]) -> Iterator[_Claim]:
    """Mark a folder as being written to; temporary files of killed processes go.

    They are looked for after a run or a worker was killed only: a walk over a large dataset
    takes its time.
    """
    folder = root / ".pantskit" / "running"
    folder.mkdir(parents=True, exist_ok=True)
    elsewhere = {p.parent for j in jobs for p in j.outputs if not p.is_relative_to(root)}
    killed = [mark for mark in folder.iterdir() if is_abandoned(mark)]
    if killed:
        _sweep(root, elsewhere)
        for mark in killed:
            mark.unlink(missing_ok=True)
    mark = folder / secrets.token_hex(4)
    claim = _Claim()
    with held(mark):
        yield claim
        if claim.litter:
            _sweep(root, elsewhere)
        mark.unlink()  # stays after an exception: workers were stopped at whatever they did
    with suppress(OSError):
        folder.rmdir()


def _sweep(root: Path, elsewhere: set[Path]) -> None:
    for folder in (root, *elsewhere):
        remove_leftovers(folder)


@dataclass(frozen=True)
class _Order:
    """A job on its way to a worker.

    Attributes:
        job: the job.
        known: hashes of those of its inputs that other jobs have too.
        mark: its fingerprint, where it is known.
    """

    job: Job
    known: Mapping[Path, str] = field(default_factory=dict)
    mark: str = ""


def _estimate(order: _Order) -> float:
    return order.job.memory_mb


@dataclass(frozen=True)
class _Case:
    """What a worker does with an order: the case, and its record."""

    task: Task
    stage: str
    store: RecordStore
    settings: Any

    def __call__(self, order: _Order) -> Any:
        """Do the case; its record is on its way to the disk while the next one is done."""
        mark = order.mark or self.mark(order)
        return _writers().submit(self.record, order.job, mark, _attempt(self.task, order.job))

    def mark(self, order: _Order) -> str:
        return fingerprint(order.job, self.settings, order.known)

    def record(self, job: Job, mark: str, result: _Result) -> CaseRecord:
        """Write the record of a case that has ended."""
        record = CaseRecord(
            case_id=job.case_id,
            stage=self.stage,
            status=result.status,
            message=result.message,
            fingerprint=mark,
            outputs=tuple(_relative(p, self.store.root) for p in job.outputs if p.exists()),
            seconds=round(result.seconds, 3),
            peak_memory_mb=round(result.peak_memory_mb, 1),
            data=result.data,
        )
        self.store.write(record)
        return record


@cache
def _writers() -> ThreadPoolExecutor:
    """Threads that wait for the disk: it flushes several records in the time of one."""
    return ThreadPoolExecutor(_WRITERS, "pantskit-records")


@dataclass(frozen=True)
class _Mark:
    """What a worker does with an order whose case may be done: its fingerprint."""

    case: _Case

    def __call__(self, order: _Order) -> str:
        return self.case.mark(order)


def _not_done(
    case: _Case, jobs: Sequence[Job], crew: Crew, records: dict[str, CaseRecord]
) -> list[_Order]:
    """Orders for the jobs that have to run; the records of the others go into `records`."""
    earlier = {}
    for job in jobs:
        record = case.store.read(case.stage, job.case_id)
        if record and _finished(record, job):
            earlier[job.case_id] = record
    shared = _shared_hashes(jobs, crew)
    orders = [_Order(j, {p: shared[p] for p in j.inputs if p in shared}) for j in jobs]
    marks = {}
    maybe = [order for order in orders if order.job.case_id in earlier]
    here = Workers(0) if _small(p for o in maybe for p in o.job.inputs) else crew
    for order, outcome in here.map(_Mark(case), maybe):
        marks[order.job.case_id] = outcome.value or ""
    todo = []
    for order in orders:
        mark = marks.get(order.job.case_id, "")
        if mark and mark == earlier[order.job.case_id].fingerprint:
            records[order.job.case_id] = earlier[order.job.case_id]
        else:
            todo.append(_Order(order.job, order.known, mark))
    return todo


def _shared_hashes(jobs: Sequence[Job], crew: Crew) -> dict[Path, str]:
    """Hashes of the files that several jobs have as input: an archive of many series, say."""
    times = Counter(path for job in jobs for path in set(job.inputs))
    paths = [path for path, n in times.items() if n > 1]
    here = Workers(0) if _small(paths) else crew
    return {path: _told(outcome) for path, outcome in here.map(_hash, paths)}


def _small(paths: Iterable[Path]) -> bool:
    total = 0
    for path in paths:
        with suppress(OSError):
            total += path.stat().st_size
        if total > _COMPARED_HERE_BYTES:
            return False
    return True


def fingerprint(job: Job, settings: Any, known: Mapping[Path, str] | None = None) -> str:
    """Hash of a job's input files, by name and content, and the settings; 32 hex digits.

    Args:
        job: the job.
        settings: what else decides.
        known: hashes of inputs that need not be read again.
    """
    both = jsonable([settings, job.settings])
    hasher = blake3(json.dumps(both, sort_keys=True, default=repr).encode())
    for path in job.inputs:
        hasher.update(b"\n%b\n" % os.fsencode(path.name))  # a mask's name says what it is of
        hasher.update(((known or {}).get(path) or _hash(path)).encode())
    return hasher.hexdigest(length=16)


def _hash(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError as error:  # the task meets it too, and says so in the case's record
        return type(error).__name__


def _told(outcome: Outcome[str]) -> str:
    return outcome.value or type(outcome.error).__name__


def _finished(record: CaseRecord, job: Job) -> bool:
    if record.status == "done":
        return all(path.exists() for path in job.outputs)
    return record.status in ("skipped", "quarantined")


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


@dataclass
class _Result:
    """How a case ended."""

    status: Status
    message: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0


def _attempt(task: Task, job: Job) -> _Result:
    """Run one case in this process; no exception gets out but Ctrl-C."""
    started = time.perf_counter()
    try:
        with peak_memory() as peak:
            data = jsonable(task(job) or {})
            json.dumps(data)  # what no record can hold fails here, with its case
            result = _Result("done", data=data)
    except (Exception, SystemExit) as error:
        result = _explained(error, job.case_id)
    result.seconds = time.perf_counter() - started
    result.peak_memory_mb = peak[0]
    return result


def _explained(error: BaseException, case_id: str) -> _Result:
    """The status and message for what a task raised."""
    if isinstance(error, PantskitError):
        status: Status = "failed"
        if isinstance(error, (Quarantined, Skipped)):
            status = "quarantined" if isinstance(error, Quarantined) else "skipped"
        return _Result(status, str(error), jsonable(error.data))
    if isinstance(error, MemoryError):
        return _Result("failed", f"{case_id}: out of memory; use fewer workers")
    if isinstance(error, OSError):
        return _Result("failed", f"{case_id}: {explain_os_error(error)}")
    if isinstance(error, SystemExit):
        return _Result("failed", f"{case_id}: the task left with exit status {error.code}")
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return _Result("failed", f"{case_id}: {type(error).__name__}: {error}{where}")


def _record_of_loss(case: _Case, job: Job, outcome: Outcome[CaseRecord]) -> CaseRecord:
    """The record of a case that its worker could not write."""
    error = outcome.error
    if isinstance(error, PantskitError):
        result = _Result("failed", f"{job.case_id}: {error}")
    else:
        result = _explained(error or PantskitError(), job.case_id)
    result.seconds = outcome.seconds
    return case.record(job, "", result)
