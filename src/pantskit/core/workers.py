"""Worker processes of this machine (pebble): one that dies costs its own item only."""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any

from pantskit.core import forking
from pantskit.core.crew import BATCH_S, Crew, I, Lost, Outcome, R, Worker, attempt, run_batch
from pantskit.core.errors import ConfigError
from pantskit.core.memory import available_memory_mb, process_memory_mb

_BUDGET = 0.80  # of the memory available at the start, for the sum of the estimates
_BRINK = 0.95  # of it: more than that all workers together may not take
_START_S = 300  # in which a worker process must have begun
_TAKE_S = 60  # in which one that has begun must have taken its batch
_STOP_S = 5  # in which workers may end by themselves
_ITS = "its worker process"
_UNSTARTED = "worker processes died before they began"
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, signal.SIGTERM)  # pebble's worker exits with the last


class Workers(Crew):
    """Worker processes on this machine, as a context manager; started when first needed.

    They live until the block ends and serve one `map` after another (not two at once): starting
    one and importing numpy and pydicom costs more than half a second. Each is limited
    to its share of the cores for linear algebra. They end with this process, even if that is
    killed. They are spawned: forks of this process would copy the locks of its threads.

    Args:
        count: processes; 0 does the items in this process, without timeout or memory limit.
        memory_mb: memory that all workers together may take. Items wait for each other so
            that the sum of their estimates stays below; when the workers grow beyond it all
            the same, the one furthest above its estimate is killed. Without it the estimates
            share 80 % of the memory that is available now, and workers are killed at 95 %.
        preload: modules that all need and that may be forked: on Linux several workers are
            forked from a server process that has imported these.

    Raises:
        ConfigError: If a number is impossible.
    """

    def __init__(
        self, count: int, memory_mb: float | None = None, preload: Sequence[str] = ()
    ) -> None:
        if count < 0:
            raise ConfigError(f"workers must be 0 or more, not {count}")
        if memory_mb is not None and memory_mb <= 0:
            raise ConfigError(f"memory_mb must be more than 0, not {memory_mb:g}")
        self.count = count
        self._budget_mb = memory_mb
        self._limit_mb = memory_mb
        self._done: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        # Linux ends a child with the thread that started it: one thread starts them all.
        self._keeper = ThreadPoolExecutor(1, "pantskit-workers", initializer=_deafen)
        threads = max(1, len(os.sched_getaffinity(0)) // max(count, 1))
        forked = count > 1 and forking.is_possible()
        start = _Start(threads, tuple(preload) if forked else ())
        self._processes = [_Process(self._keeper, start, self._done) for _ in range(count)]
        self._start = start
        self._watch: _Watch | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch:
            self._watch.stop()
        for process in self._processes:
            process.stop(now=kind is not None)
        deadline = time.monotonic() + _STOP_S
        for process in self._processes:
            process.join(deadline)
        self._keeper.submit(self._start.end).result()
        self._keeper.shutdown()

    def map(
        self,
        task: Callable[[I], R],
        items: Iterable[I],
        *,
        timeout_s: float | None = None,
        memory_mb: Callable[[I], float | None] | None = None,
        retries: int = 1,
    ) -> Iterator[tuple[I, Outcome[R]]]:
        """As in `Crew`; without workers, in this process."""
        if self.count == 0:
            for item in items:
                yield item, attempt(task, item)
            return
        self._start_watch()
        yield from super().map(
            task, items, timeout_s=timeout_s, memory_mb=memory_mb, retries=retries
        )

    def _start_watch(self) -> None:
        if self._watch is None:
            if self._budget_mb is None or self._limit_mb is None:
                available = available_memory_mb()
                self._budget_mb, self._limit_mb = _BUDGET * available, _BRINK * available
            self._watch = _Watch(self._processes, self._limit_mb)

    def free(self) -> list[Worker]:
        """Idle processes, those that have been started before first."""
        idle = [p for p in self._processes if not p.batch]
        idle.sort(key=lambda p: not p.started)
        return [*idle]

    def room_mb(self, worker: Worker) -> float:
        """What the running items leave of the budget."""
        running = sum(max((e.memory_mb for e in p.batch), default=0) for p in self._processes)
        return (self._budget_mb or 0) - running

    def finished(self, timeout_s: float) -> list[Worker]:
        """Processes whose batch has ended or never will."""
        ended: list[Worker] = []
        with suppress(queue.Empty):
            ended.append(self._done.get(timeout=timeout_s))
            while True:
                ended.append(self._done.get_nowait())
        if not ended:
            ended += [p for p in self._processes if p.batch and p.hopeless()]
        return [p for p in dict.fromkeys(ended) if p.batch]

    def abandon(self, busy: Collection[Worker]) -> None:
        """End these processes; others take their places when they are needed."""
        for process in self._processes:
            if process in busy:
                process.abandon()


class _Start:
    """How the processes of a crew are started."""

    def __init__(self, threads: int, preload: tuple[str, ...]) -> None:
        self.threads = threads
        self._preload = preload
        self._context: BaseContext | None = None

    @property
    def parent(self) -> int:
        """Who starts them; 0 for the server that they are forked from."""
        return 0 if self._preload else os.getpid()

    @property
    def context(self) -> BaseContext:
        """What starts them."""
        if self._context is None:
            server = self._preload and forking.join_server(self._preload, self.threads)
            self._context = server or get_context("spawn")
        return self._context

    def end(self) -> None:
        """No more are started."""
        if self._context is not None and self._preload:
            forking.leave_server()


class _Process(Worker):
    """A pebble pool of a single process.

    Pools of several share pipes and locks: a process killed while it holds one stops them all.
    """

    def __init__(
        self, keeper: ThreadPoolExecutor, start: _Start, done: queue.SimpleQueue[_Process]
    ) -> None:
        self._keeper, self._start, self._done = keeper, start, done
        self._pool: Any = None
        self._future: Any = None
        self._closing: list[threading.Thread] = []
        self._handed_out = 0.0
        self._timeout_s: float | None = None
        self.too_large: dict[int, float] = {}  # process ID to MB, of those killed for it

    @property
    def started(self) -> bool:
        """Whether there is a process, or one on its way."""
        return self._pool is not None

    @property
    def pid(self) -> int:
        """The process that has begun last; 0 before."""
        return int(self._cell[0]) if self.started else 0

    def start(self, load: bytes, timeout_s: float | None) -> None:
        """Have a batch run."""
        if self._pool is not None and not self._pool.active:
            self.abandon()
        if self._pool is None:
            self._keeper.submit(self._open).result()
        self._handed_out, self._timeout_s = time.monotonic(), timeout_s
        self._cell[1] = self._cell[2] = 0
        # A batch ends itself soon after BATCH_S, so that only its last item can take long.
        limit = timeout_s and timeout_s + (BATCH_S if len(self.batch) > 1 else 0)
        try:
            future = self._pool.schedule(_in_process, args=(load,), timeout=limit)
        except RuntimeError:  # the process died a moment ago
            future = concurrent.futures.Future()
            future.set_exception(BrokenProcessPool())
        self._future = future
        future.add_done_callback(lambda f: self._done.put(self) if f is self._future else None)

    def _open(self) -> None:
        from pebble import ProcessPool

        context = self._start.context
        # Process that began last, position in the batch, process that took the batch, and the
        # parent of the first.
        self._cell = context.RawArray("i", 4)
        begin = (self._start.parent, self._start.threads, self._cell)
        self._pool = ProcessPool(1, context=context, initializer=_begin, initargs=begin)
        assert self._pool.active  # asking starts it, in this thread

    def hopeless(self) -> bool:
        """Whether the batch is known to be lost without pebble having said so."""
        if self._future.done():
            return True
        taker, begun = self._cell[2], self._cell[0]  # in this order: it is written in the other
        if taker:  # pebble replaces a process that left with exit status 0 without a word
            return bool(begun != taker) or not self._pool.active
        waited = time.monotonic() - self._handed_out
        return waited > (_TAKE_S if begun else _START_S) or not self._pool.active

    def collect(self) -> list[bytes] | Lost:
        """The batch's outcomes, or why there are none."""
        from pebble import ProcessExpired

        future, self._future = self._future, None
        pid, position, taker, _ = self._cell
        if not future.done():
            self.abandon()
            if taker:
                return Lost(f"{_ITS} ended with exit status 0", "item", position)
            return Lost(_UNSTARTED, "unstarted")
        try:
            results: list[bytes] = future.result()
            return results
        except BrokenProcessPool:
            self.abandon()
            if pid in self.too_large:
                return Lost(self._memory(pid), "memory", position)
            return Lost(_UNSTARTED, "unstarted")
        except concurrent.futures.TimeoutError:
            why = f"took longer than {self._timeout_s:g} s and was stopped"
            return Lost(why, "item", position)
        except ProcessExpired as error:
            if error.pid in self.too_large:
                return Lost(self._memory(error.pid), "memory", position)
            if error.exitcode == forking.STATUS_WITHOUT_SERVER and not self._start.parent:
                return Lost(f"{_ITS} ended with the one that it was forked from", "outside")
            return Lost(*_why(error.exitcode), position)
        except BaseException as error:
            return Lost(f"{_ITS} failed: {type(error).__name__}: {error}", "item", position)

    def _memory(self, pid: int) -> str:
        size = self.too_large[pid]
        return f"{_ITS} had grown to {size:,.0f} MB when memory ran short; use fewer workers"

    def abandon(self) -> None:
        """End the process with whatever it does; the next batch gets another one."""
        self.stop(now=True)
        self._pool = self._future = None

    def stop(self, *, now: bool) -> None:
        """Begin to end the process; `now` kills it."""
        if self._pool is None:
            return
        self._pool.stop()
        if now:
            self.kill()
        # pebble waits for threads that a half-sent message can block for good.
        thread = threading.Thread(target=self._pool.join, daemon=True)
        thread.start()
        self._closing.append(thread)

    def join(self, deadline: float) -> None:
        """Wait until the process has ended; it is killed at the deadline."""
        for thread in self._closing:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._pool is not None:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        import psutil

        with suppress(psutil.Error):
            process = psutil.Process(self.pid) if self.pid else None
            if process and process.ppid() == self._cell[3]:  # the number may be another's by now
                process.kill()


def _why(status: int) -> tuple[str, Any]:
    if status in _KILLED:
        name = signal.Signals(abs(status)).name
        why = f"{_ITS} was killed ({name}), most often for want of memory; use fewer workers"
        return why, "outside"
    if status < 0:
        return f"{_ITS} crashed ({signal.Signals(-status).name})", "item"
    return f"{_ITS} ended with exit status {status}", "item"


class _Watch:
    """A thread that kills a worker when all together take too much memory.

    Resident memory is watched, four times a second, instead of limiting address space: the
    latter breaks CUDA. Pages of files, shared with others, do not count.
    """

    def __init__(self, processes: list[_Process], limit_mb: float) -> None:
        self._processes, self._limit_mb = processes, limit_mb
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.25):
            sizes = [(process_memory_mb(p.pid), p) for p in self._processes if p.pid]
            if sum(size for size, _ in sizes) <= self._limit_mb:
                continue
            size, worst = max(sizes, key=lambda s: s[0] - _estimate_mb(s[1]))
            worst.too_large[worst.pid] = size
            worst.kill()


def _deafen() -> None:
    """Keep Ctrl-C from this thread and from all that it starts.

    A terminal sends it to every process, and one that is just beginning would print where it was;
    they end with the one that started them.
    """
    resource_tracker.ensure_running()  # before: it lets Ctrl-C in again once it has begun
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _estimate_mb(process: _Process) -> float:
    return max((e.memory_mb for e in process.batch), default=0.0)


_position: Any = None


def _begin(parent: int, threads: int, cell: Any) -> None:
    """First thing in a worker process; without a parent it was forked from the server."""
    global _position
    parent = parent or forking.server_of_worker()
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died in the meantime
        os._exit(0)
    forking.limit_threads(threads)
    _position = cell
    cell[3] = parent
    cell[0] = os.getpid()


def _in_process(load: bytes) -> list[bytes]:
    _position[2] = os.getpid()
    return run_batch(load, lambda n: _position.__setitem__(1, n))
