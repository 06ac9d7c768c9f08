"""What `run_cases` costs beside the cases: 10,000 tiny ones, and two workers against one.

    python benchmarks/run_cases.py [--cases N] [--folder FOLDER]

A tiny case has an input file and returns a few numbers; its record is written, flushed and
renamed. Real work is a case of pure computation; beside it stands what two bare processes gain
on the machine. The start of the workers is timed apart.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pantskit.core.files import write_text
from pantskit.core.records import CaseRecord, RecordStore
from pantskit.core.run import Job, run_cases
from pantskit.core.workers import Workers


def tiny(job: Job) -> dict[str, Any]:
    return {"voxels": len(job.case_id), "spacing": [0.8, 0.8, 2.5]}


def heavy(job: Job) -> dict[str, Any]:
    """About half a second of one core, without waiting and without memory traffic."""
    return {"total": compute()}


def compute(_: int = 0) -> int:
    total = 0
    for n in range(6_000_000):
        total += n * n % 7
    return total


def cpu_s() -> float:
    """CPU-seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def time_tiny(folder: Path, cases: int, count: int) -> None:
    jobs = []
    for n in range(cases):
        source = folder / "in" / f"{n % 100:02}" / f"{n}.txt"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(str(n))
        jobs.append(Job(f"case_{n:05}", inputs=(source,)))
    store = RecordStore(folder / f"out{count}")
    with Workers(count) as workers:
        list(workers.map(abs, range(count)))  # started now
        for what in ("first run", "nothing to do"):
            start, cpu = time.perf_counter(), cpu_s()
            summary = run_cases(tiny, jobs, stage="tiny", store=store, workers=workers)
            took, cpu = time.perf_counter() - start, cpu_s() - cpu
            assert summary.counts == {"done": cases}
            print(
                f"{count} workers, {cases:,} tiny cases, {what}: {took / cases * 1e3:.3f} ms each "
                f"({cpu / cases * 1e3:.3f} CPU-ms in the parent)"
            )


def time_flush(folder: Path, files: int = 300) -> None:
    start = time.perf_counter()
    for n in range(files):
        write_text(folder / f"{n}.json", "x" * 400)
    took = (time.perf_counter() - start) / files
    start = time.perf_counter()
    store = RecordStore(folder)
    for n in range(files):
        store.write(CaseRecord(f"{n}", "flush", "done"))
    record = (time.perf_counter() - start) / files
    print(f"a file written, flushed, renamed: {took * 1e3:.3f} ms; a record {record * 1e3:.3f} ms")


def time_heavy(folder: Path, cases: int = 16) -> None:
    took = {}
    for count in (1, 2):
        store = RecordStore(folder / f"heavy{count}")
        jobs = [Job(f"case_{n:02}") for n in range(cases)]
        with Workers(count) as workers:
            start = time.perf_counter()
            list(workers.map(abs, range(count)))
            begun = time.perf_counter()
            run_cases(heavy, jobs, stage="heavy", store=store, workers=workers)
            took[count] = time.perf_counter() - begun
            print(f"{count} workers: begun in {begun - start:.2f} s, {took[count]:.2f} s of work")
    gain, bare = took[1] / took[2], machine_gain(cases)
    print(f"two workers are {gain:.2f} times as fast as one; two bare processes {bare:.2f} times")


def machine_gain(cases: int) -> float:
    """How much faster two processes do the same without `run_cases`: at most 2."""
    took = {}
    for count in (1, 2):
        with ProcessPoolExecutor(count) as pool:
            list(pool.map(abs, range(count)))
            start = time.perf_counter()
            list(pool.map(compute, range(cases)))
            took[count] = time.perf_counter() - start
    return took[1] / took[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        time_flush(Path(scratch) / "flush")
        for count in (0, 1, 2):
            time_tiny(Path(scratch), options.cases, count)
        time_heavy(Path(scratch))


if __name__ == "__main__":
    main()
