"""Hand items to workers that may die: what runs when, and what is tried again."""

from __future__ import annotations

import pickle
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

from pantskit.core.errors import ConfigError, PantskitError, WorkerLost
from pantskit.core.imports import without_collecting

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")

_STARTS = 3  # an item is lost to workers that never began it that often before it fails
BATCH_S = 0.05  # small items travel together, until a batch takes that long
_BATCH_MOST = 64


@dataclass
class Outcome(Generic[R]):
    """What became of one item.

    Attributes:
        value: what the task returned; None where it did not return.
        error: what it raised; `WorkerLost` where its worker ended; None where it returned.
        seconds: wall time of the task.
    """

    value: R | None = None
    error: Exception | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Lost:
    """Why a batch came to nothing.

    Attributes:
        why: what happened, as the end of a message.
        fault: whose fault it was: nobody's, as the item had most likely not begun
            (`unstarted`); `outside`, somebody killed the worker; `memory`, it was the largest
            when memory ran short; the `item`'s.
        position: of the item of the batch that was being done.
    """

    why: str
    fault: Literal["unstarted", "outside", "memory", "item"]
    position: int = 0


@dataclass(eq=False)
class Entry:
    """An item on its way, its estimated memory and how often it was lost."""

    item: Any
    memory_mb: float = 0.0
    unstarted: int = 0
    lost: int = 0
    alone: bool = False


class Backlog:
    """Items that wait.

    With estimates the largest that fits goes first; else the order is kept, and items are
    taken from their iterator as they are needed.
    """

    def __init__(self, items: Iterable[Any], memory_mb: Callable[[Any], float | None] | None):
        self._source: Iterator[Any] = iter(())
        self._by_size: list[Entry] = []
        self._again: deque[Entry] = deque()
        self._alone: deque[Entry] = deque()
        if memory_mb is None:
            self._source = iter(items)
        else:
            self._by_size = [Entry(item, max(0.0, memory_mb(item) or 0.0)) for item in items]
            self._by_size.reverse()  # so that of equals the first comes last, and is taken first
            self._by_size.sort(key=lambda e: e.memory_mb)

    def take(self, room_mb: float, most: int, *, idle: bool) -> list[Entry]:
        """The next items for one worker; none where nothing waits or fits.

        Args:
            room_mb: memory they may take; they run one after another.
            most: number of items at most.
            idle: nothing runs, so that even what does not fit may.
        """
        for _ in range(len(self._again)):
            entry = self._again.popleft()
            if idle or entry.memory_mb <= room_mb:
                return [entry]
            self._again.append(entry)
        fitting = bisect_right(self._by_size, room_mb, key=lambda e: e.memory_mb)
        if not fitting and self._by_size and idle:
            return [self._by_size.pop()]
        if fitting:
            first = max(0, fitting - most)
            batch = self._by_size[first:fitting][::-1]
            del self._by_size[first:fitting]
            return batch
        if room_mb >= 0 and (batch := [Entry(i) for i in islice(self._source, most)]):
            return batch
        if idle and self._alone:
            entry = self._alone.popleft()
            entry.alone = True
            return [entry]
        return []

    def again(self, entries: Iterable[Entry]) -> None:
        """Take back items that did not get their turn."""
        self._again.extend(entries)

    def again_one(self, entry: Entry) -> None:
        """Take back an item that was lost."""
        self._again.append(entry)

    def again_alone(self, entry: Entry) -> None:
        """Take back an item that is to run when nothing else does."""
        self._alone.append(entry)


class Worker(ABC):
    """One worker process, wherever it is; it does one batch at a time."""

    batch: tuple[Entry, ...] = ()

    @abstractmethod
    def start(self, load: bytes, timeout_s: float | None) -> None:
        """Have `run_batch(load)` run, and stop it when an item takes longer than the timeout."""

    @abstractmethod
    def collect(self) -> list[bytes] | Lost:
        """The result of `run_batch` once it has ended."""


class Crew(ABC):
    """Workers that do the items of one `map` after another.

    Attributes:
        count: workers there are.
        largest_batch: items that travel together at most.
        retries_alone: workers share their memory, so that what was killed is tried again
            when nothing else runs.
        deaths: batches that were lost with their worker so far.
        began: a worker has begun; before that, one that dies means that none ever will.
    """

    count: int
    largest_batch = _BATCH_MOST
    retries_alone = True
    deaths = 0
    began = False

    @abstractmethod
    def free(self) -> list[Worker]:
        """Workers that could take a batch now, the best first."""

    @abstractmethod
    def room_mb(self, worker: Worker) -> float:
        """Memory that a further batch on this worker may take."""

    @abstractmethod
    def finished(self, timeout_s: float) -> list[Worker]:
        """Workers whose batch has ended, in whatever way; waits for the first of them."""

    @abstractmethod
    def abandon(self, busy: Collection[Worker]) -> None:
        """Stop what these workers do; nobody waits for it any more."""

    def map(
        self,
        task: Callable[[I], R],
        items: Iterable[I],
        *,
        timeout_s: float | None = None,
        memory_mb: Callable[[I], float | None] | None = None,
        retries: int = 1,
    ) -> Iterator[tuple[I, Outcome[R]]]:
        """Run `task` on every item and yield each with its outcome as it ends.

        An item whose worker dies, hangs or grows too large costs itself only. Whoever stops
        to listen before the end stops what still runs.

        Args:
            task: a module-level function, or another callable that pickles. It may return a
                `Future` of its value, which is waited for when the worker has begun all items
                that it was given at once.
            items: they pickle; without `memory_mb` they are drawn as workers get free.
            timeout_s: an item that takes longer is stopped and lost.
            memory_mb: estimates an item's memory in MB. The sum of what runs stays within the
                budget; one that is larger than the budget runs when nothing else does.
            retries: how often an item is tried again whose worker was killed from outside or
                was the largest when memory ran short; on one machine, alone. An exception, a
                crash, an exit and a timeout are the item's own and are not tried again.
        """
        backlog, pace = Backlog(items, memory_mb), _Pace(self.largest_batch)
        try:
            packed = pickle.dumps(task)
        except Exception as error:
            raise ConfigError(f"the task cannot be sent to a worker: {error}") from None
        busy: set[Worker] = set()
        try:
            while True:
                yield from self._hand_out(backlog, pace, packed, timeout_s, busy)
                if not busy:
                    return
                for worker in self.finished(1.0):
                    busy.discard(worker)
                    batch, worker.batch = worker.batch, ()
                    result = worker.collect()
                    if isinstance(result, Lost):
                        self.deaths += 1
                        yield from self._lost(result, batch, backlog, retries)
                        continue
                    self.began = True
                    outcomes = [pickle.loads(r) for r in result]
                    pace.learn([o.seconds for o in outcomes])
                    backlog.again(batch[len(outcomes) :])
                    for entry, outcome in zip(batch, outcomes, strict=False):
                        yield entry.item, outcome
        finally:
            self.abandon(busy)
            for worker in busy:
                worker.batch = ()

    def _hand_out(
        self,
        backlog: Backlog,
        pace: _Pace,
        task: bytes,
        timeout_s: float | None,
        busy: set[Worker],
    ) -> Iterator[tuple[Any, Outcome[Any]]]:
        """Give the free workers what there is; yields items that cannot travel."""
        for worker in self.free():
            while not any(e.alone for w in busy for e in w.batch):
                batch = backlog.take(self.room_mb(worker), pace.size, idle=not busy)
                if not batch:
                    break
                packed: list[bytes] = []
                going: list[Entry] = []
                for entry in batch:
                    try:
                        packed.append(pickle.dumps(entry.item))
                        going.append(entry)
                    except Exception as error:
                        text = f"cannot be sent to a worker: {type(error).__name__}: {error}"
                        yield entry.item, Outcome(error=PantskitError(text))
                if going:
                    worker.batch = tuple(going)
                    busy.add(worker)
                    worker.start(pickle.dumps((task, packed)), timeout_s)
                    break

    def _lost(
        self, lost: Lost, batch: tuple[Entry, ...], backlog: Backlog, retries: int
    ) -> Iterator[tuple[Any, Outcome[Any]]]:
        """Yield the item that is to blame, if one is; all others are tried again."""
        entry = batch[lost.position]
        backlog.again(e for e in batch if e is not entry)
        if lost.fault == "unstarted":
            entry.unstarted += 1
            if entry.unstarted < _STARTS:
                backlog.again_one(entry)
                return
            if not self.began:
                raise ConfigError(
                    f"{lost.why}; a script that starts workers does so under "
                    "`if __name__ == '__main__':`"
                )
        self.began = self.began or lost.fault != "unstarted"
        entry.lost += 1
        guilty = lost.fault == "memory" and (entry.alone or self.count == 1)
        if lost.fault in ("outside", "memory") and entry.lost <= retries and not guilty:
            (backlog.again_alone if self.retries_alone else backlog.again_one)(entry)
            return
        yield entry.item, Outcome(error=WorkerLost(lost.why))


class _Pace:
    """How many items to send at once, from how long they took."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds = BATCH_S

    @property
    def size(self) -> int:
        """Number of items that take about `BATCH_S`."""
        return max(1, min(self._most, int(BATCH_S / max(self._seconds, 1e-6))))

    def learn(self, seconds: list[float]) -> None:
        """Count the items of a batch in, the latest more than the earlier ones."""
        if seconds:
            self._seconds = 0.5 * self._seconds + 0.5 * sum(seconds) / len(seconds)


def attempt(task: Callable[[I], R], item: I) -> Outcome[R]:
    """Do one item in this process; no exception gets out but Ctrl-C."""
    return _arrived_value(_begun(task, item))


def _begun(task: Callable[[I], R], item: I) -> Outcome[Any]:
    """The outcome; its value may still be on its way."""
    started = time.perf_counter()
    outcome: Outcome[Any] = Outcome()
    try:
        outcome.value = task(item)
    except Exception as error:
        outcome.error = error
    except SystemExit as error:
        outcome.error = PantskitError(f"the task left with exit status {error.code}")
    outcome.seconds = time.perf_counter() - started
    return outcome


def _arrived_value(outcome: Outcome[Any]) -> Outcome[Any]:
    """The outcome with its value, once that is there."""
    if isinstance(outcome.value, Future):
        later, outcome.value = outcome.value, None
        try:
            outcome.value = later.result()
        except Exception as error:
            outcome.error = error
    return outcome


def run_batch(load: bytes, position: Callable[[int], None]) -> list[bytes]:
    """Do a batch in a worker: pickled outcomes of its first items.

    Args:
        load: the pickled task and a list of pickled items.
        position: told before each item which it is.
    """
    packed, items = pickle.loads(load)
    started = time.perf_counter()
    outcomes = []
    for n, item in enumerate(items):
        if n and time.perf_counter() - started > BATCH_S:
            break
        position(n)
        outcomes.append(_arrived(packed, item))
    return [_packed(_arrived_value(outcome)) for outcome in outcomes]


def _arrived(packed: bytes, item: bytes) -> Outcome[Any]:
    try:
        task, arrived = _unpacked(packed), pickle.loads(item)
    except Exception as error:
        text = f"cannot be loaded: {type(error).__name__}: {error}"
        return Outcome(error=PantskitError(text))
    try:
        return _begun(task, arrived)
    except KeyboardInterrupt:
        return Outcome(error=PantskitError("the task was interrupted"))


@lru_cache(maxsize=4)
def _unpacked(task: bytes) -> Any:
    with without_collecting():  # its modules are imported
        return pickle.loads(task)


def _packed(outcome: Outcome[Any]) -> bytes:
    """An outcome that is sure to arrive: what does not pickle, there and back, is told of."""
    try:
        load = pickle.dumps(outcome)
        if outcome.error is not None:
            pickle.loads(load)  # exceptions with arguments of their own may fail only here
        return load
    except Exception as error:
        first = outcome.error or error
        text = f"{type(first).__name__}: {first}"
        return pickle.dumps(Outcome(error=PantskitError(text), seconds=outcome.seconds))
