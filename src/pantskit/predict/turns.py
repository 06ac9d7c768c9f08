"""Who computes when: the network computes one case while others are read and written.

A device serves one case at a time. In one process (`Line`), cases are read and written in
threads while the network computes in the main one, where Ctrl-C reaches it and CUDA graphs stay
with the thread that made them. Of several processes (`SharedTurns`), those with the same GPU
take turns.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pantskit.core.crew import I, Outcome, R, attempt
from pantskit.core.memory import available_memory_mb
from pantskit.core.run import RunSummary
from pantskit.core.workers import Workers

N = TypeVar("N")
T = TypeVar("T")

_IN_FLIGHT = 3  # one is written, one computed, one read
_LOOK_S = 0.2  # how often memory is looked at
_NO_MORE: Any = object()


@dataclass(frozen=True)
class Turn(Generic[T]):
    """What became of a case's turn.

    Attributes:
        value: what the work gave.
        network_s: seconds in which it ran.
        waited_s: seconds before that in which the device had nothing to do: since the run
            began, or the case before ended.
    """

    value: T
    network_s: float
    waited_s: float


class Turns(Protocol):
    """Hands out a device's time."""

    def await_memory(self, memory_mb: float) -> None:
        """Return when a case may be read that takes this much."""

    def compute(self, device: str, load: Callable[[], N], work: Callable[[N], T]) -> Turn[T]:
        """Do work when the device is free.

        Args:
            device: its name.
            load: gives what the work needs; the device is taken to wait for it.
            work: what is done.
        """


class Line(Workers):
    """Cases of this process: at most one is read ahead of the one that computes.

    A crew for one `run_cases`, and the `Turns` of its tasks.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self._begin(lambda item: item, ())

    def _begin(self, task: Callable[[Any], Any], items: Iterable[Any]) -> None:
        self._task, self._waiting = task, iter(items)
        self._events: queue.SimpleQueue[_Ask | _End] = queue.SimpleQueue()
        self._lock = threading.RLock()  # guards what follows
        self._threads: list[threading.Thread] = []  # of cases that have not ended
        self._ahead: threading.Thread | None = None  # of the case that computes next
        self._untold = 0  # cases whose outcome nobody knows yet
        self._asks: list[_Ask] = []  # that have no answer yet
        self._stopped = False
        self._idle_since = time.monotonic()

    def map(
        self,
        task: Callable[[I], R],
        items: Iterable[I],
        *,
        timeout_s: float | None = None,
        memory_mb: Callable[[I], float | None] | None = None,
        retries: int = 1,
    ) -> Iterator[tuple[I, Outcome[R]]]:
        """As in `Crew`; each item in a thread, and what it computes in this one."""
        self._begin(task, items)
        try:
            self._admit()
            while self._untold:
                event: _Ask | _End | None = self._events.get()
                if isinstance(event, _End):
                    with self._lock:
                        self._untold -= 1
                    yield event.told()
                elif event is not None:
                    self._admit(instead_of=event.thread)
                    self._serve(event)
                event = None  # it holds an answer
        finally:
            self._stop()

    def _admit(self, *, instead_of: threading.Thread | None = None) -> None:
        """Begin to read a case, if none is ahead and few are about."""
        with self._lock:
            if self._ahead is instead_of:
                self._ahead = None
            if self._ahead or self._stopped or len(self._threads) == _IN_FLIGHT:
                return
            item = next(self._waiting, _NO_MORE)
            if item is _NO_MORE:
                return
            self._ahead = threading.Thread(target=self._do, args=(item,), name="pantskit-case")
            self._threads.append(self._ahead)
            self._untold += 1
            self._ahead.start()

    def _do(self, item: Any) -> None:
        """One case, in a thread of its own, which begins the next when it may."""
        thread = threading.current_thread()
        try:
            end = _End(thread, item, attempt(self._task, item))
        except BaseException as error:  # Ctrl-C, as `_stop` passes it on, or worse
            end = _End(thread, item, None, error)
        with self._lock:
            self._threads.remove(thread)
            self._admit(instead_of=thread)
        self._events.put(end)

    def _serve(self, ask: _Ask) -> None:
        """Do what a case wants computed."""
        try:
            network = ask.load()
            started = time.monotonic()
            try:
                value = ask.work(network)
            finally:
                ended = time.monotonic()
                waited, self._idle_since = started - self._idle_since, ended
        except Exception as error:
            ask.answer.set_exception(error)
        else:
            ask.answer.set_result(Turn(value, ended - started, waited))

    def _stop(self) -> None:
        """Let cases that are being written end, and turn back those that wait."""
        with self._lock:
            self._stopped, threads = True, list(self._threads)
        for thread in threads:
            while thread.is_alive():
                for ask in list(self._asks):
                    if not ask.answer.done():
                        ask.answer.set_exception(KeyboardInterrupt())
                thread.join(_LOOK_S)

    def await_memory(self, memory_mb: float) -> None:
        """Wait while memory is short and other cases are about."""
        while len(self._threads) > 1 and available_memory_mb() < memory_mb:
            if self._stopped:
                raise KeyboardInterrupt
            time.sleep(_LOOK_S)

    def compute(self, device: str, load: Callable[[], N], work: Callable[[N], T]) -> Turn[T]:
        """Have the thread that runs `map` do it."""
        ask = _Ask(threading.current_thread(), load, work, Future())
        self._asks.append(ask)
        self._events.put(ask)
        try:
            turn: Turn[T] = ask.answer.result()
        finally:
            self._asks.remove(ask)
        return turn


@dataclass(frozen=True, eq=False)
class _Ask:
    """A case that wants to compute."""

    thread: threading.Thread
    load: Callable[[], Any]
    work: Callable[[Any], Any]
    answer: Future[Any]


@dataclass(frozen=True, eq=False)
class _End:
    """A case that has ended; with an error that is nobody's outcome, the run has, too."""

    thread: threading.Thread
    item: Any
    outcome: Outcome[Any] | None
    error: BaseException | None = None

    def told(self) -> tuple[Any, Outcome[Any]]:
        if self.outcome is None:
            raise self.error or RuntimeError
        return self.item, self.outcome


@dataclass(frozen=True)
class SharedTurns:
    """Turns of several processes: on a GPU one after the other, on a CPU side by side.

    The system gives a lock back when the process that has it dies.

    Attributes:
        folder: where they keep their locks; on this machine.
        begun: when the run began, by `time.monotonic`.
    """

    folder: Path
    begun: float

    def await_memory(self, memory_mb: float) -> None:
        """Nothing to wait for: `run_cases` watches the memory of worker processes."""

    def compute(self, device: str, load: Callable[[], N], work: Callable[[N], T]) -> Turn[T]:
        """Do it while no other process does on this GPU."""
        whose = f"{device}-{os.getpid()}" if device == "cpu" else device
        with (self.folder / f"turn-{whose.replace(':', '-')}").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            network = load()
            file.seek(0)
            idle_since = float(file.read() or self.begun)
            started = time.monotonic()
            try:
                value = work(network)
            finally:
                ended = time.monotonic()
                file.truncate(0)
                file.write(repr(ended))
                file.flush()
        return Turn(value, ended - started, started - idle_since)


def utilisation(summary: RunSummary) -> dict[str, float] | None:
    """How busy the devices of a run were.

    Returns:
        `network_s`, `waited_s` and the `share` of the first in both, over the cases that were
        predicted now; None where there are none.
    """
    ran = set(summary.ran)
    facts = [r.data for r in summary.records if r.case_id in ran and "network_s" in r.data]
    if not facts:
        return None
    network, waited = (sum(f[key] for f in facts) for key in ("network_s", "waited_s"))
    share = network / (network + waited) if network + waited else 1.0
    return {
        "network_s": round(network, 3),
        "waited_s": round(waited, 3),
        "share": round(share, 4),
    }


def notes(summary: RunSummary) -> dict[str, list[str]]:
    """What had to be changed on the way, each with the cases that were predicted so now."""
    told: dict[str, list[str]] = {}
    for record in summary.records:
        if record.case_id in summary.ran:
            for note in record.data.get("notes", ()):
                told.setdefault(note, []).append(record.case_id)
    return told
