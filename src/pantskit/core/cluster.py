"""Workers of a Dask cluster: on other machines, with the same rules as those on this one.

Completion lives in the case records, not in the cluster: tasks are handed out one for each worker,
so that a worker that dies takes its own case along and no other.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pantskit import __version__
from pantskit.core.crew import Crew, Entry, Lost, Worker, run_batch
from pantskit.core.errors import ConfigError

_LOOK_S = 1.0  # between two looks at which workers there are
_GONE_S = 5.0  # after which a worker that the scheduler does not know has gone
_LEAVE_S = 10.0  # in which a worker that was killed is off the scheduler's list


class ClusterWorkers(Crew):
    """The workers of a running Dask cluster, as a context manager.

    Every worker does one item at a time, whatever its number of threads; an item with a memory
    estimate goes to a worker whose limit allows it, or to the largest there is. Workers
    may come and go meanwhile. A run that was killed may have left tasks that still write:
    workers that are busy with one when the block begins are replaced, so a cluster serves one
    command at a time. A worker without a nanny is not replaced.

    The setting `distributed.scheduler.allowed-failures` of the cluster becomes 0: by default the
    scheduler gives a task that kills its worker to three more of them.

    Args:
        address: of the scheduler (`tcp://host:8786`), or the file that
            `dask scheduler --scheduler-file` writes.
        answer_s: time for the scheduler to answer in.
        workers_s: time to wait for a worker whenever there is none, as when a batch system
            has not started any yet.

    Raises:
        ConfigError: If `distributed` is not installed, the scheduler does not answer, or a
            worker has another version of pantskit or none (on entering).
    """

    largest_batch = 1
    retries_alone = False
    began = True

    def __init__(self, address: str, *, answer_s: float = 20.0, workers_s: float = 600.0) -> None:
        self.address = address
        self._answer_s, self._workers_s = answer_s, workers_s
        self._client: Any = None
        self._remotes: dict[str, _Remote] = {}
        self._done: queue.SimpleQueue[_Remote] = queue.SimpleQueue()
        self._leaving: dict[str, float] = {}  # addresses not to be used until then
        self._looked = 0.0
        self.count = 0

    def __enter__(self) -> ClusterWorkers:
        try:
            from distributed import Client
        except ModuleNotFoundError:
            raise ConfigError(
                "a cluster needs Dask; install it with: pip install 'pantskit[cluster]'"
            ) from None
        file = Path(self.address)
        where = {"scheduler_file": str(file)} if file.is_file() else {"address": self.address}
        try:
            self._client = Client(
                **where, timeout=self._answer_s, set_as_default=False, name="pantskit"
            )
        except (OSError, ValueError, TypeError) as error:
            self._close()
            raise ConfigError(
                f"{self.address}: no Dask scheduler answered within {self._answer_s:g} s "
                f"({type(error).__name__}); see that it runs and can be reached from here"
            ) from None
        try:
            self._client.run_on_scheduler(_allow_no_failures)
            self._look()
            self._require_ready()
        except ImportError as error:
            self._close()
            raise ConfigError(
                f"{self.address}: the scheduler cannot import pantskit ({error}); its Python must "
                "be the one of this command"
            ) from None
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._client is not None:
            with suppress(Exception):
                self._client.close(timeout=self._answer_s)
            self._client = None

    def _require_ready(self) -> None:
        """Every worker has our version, and none is busy for a run that is no more."""
        try:
            answers = self._run(_state)
        except TimeoutError:
            raise ConfigError(
                f"{self.address}: a worker did not answer within {self._answer_s:g} s; start the "
                "cluster again"
            ) from None
        for answer in answers.values():
            if isinstance(answer, (ImportError, AttributeError)):
                raise ConfigError(
                    f"{self.address}: a worker cannot import pantskit ({answer}); its Python must "
                    "be the one of this command"
                )
        states = {a: s for a, s in answers.items() if not isinstance(s, Exception)}  # or gone
        others = {version for version, _ in states.values()} - {__version__}
        if others:
            raise ConfigError(
                f"{self.address}: workers have pantskit {', '.join(sorted(others))}, this command "
                f"{__version__}; install one version everywhere"
            )
        stale = [address for address, (_, busy) in states.items() if busy]
        self.kill([self._remotes[address] for address in stale if address in self._remotes])

    def _run(self, function: Any, **options: Any) -> dict[str, Any]:
        """What a function returns on the workers, or raises, in time."""

        async def run() -> Any:
            return await self._client.run(function, on_error="return", **options)

        answers: dict[str, Any] = self._client.sync(run, callback_timeout=self._answer_s)
        return answers

    def _known(self) -> dict[str, Any]:
        """The scheduler's workers and what it knows of them."""

        async def identity() -> Any:
            return await self._client.scheduler.identity(n_workers=-1)

        found: dict[str, Any] = self._client.sync(identity, callback_timeout=self._answer_s)
        return dict(found["workers"])

    def kill(self, remotes: list[_Remote]) -> None:
        """Have nannies kill their workers and start others; the rest is left alone for good."""
        if not remotes:
            return
        there: dict[str, Any] = {}
        with suppress(Exception):  # gone, most likely
            there = self._known()
            nannies = {r.address for r in remotes if there.get(r.address, {}).get("nanny")}
            self._run(_kill_worker, workers=[*nannies], nanny=True)
        for remote in remotes:
            alone = remote.address in there and not there[remote.address].get("nanny")
            until = float("inf") if alone else time.monotonic() + _LEAVE_S
            self.forget(remote)
            self._leaving[remote.address] = until

    def free(self) -> list[Worker]:
        """Idle workers, those with most memory first; waits for one where there is none.

        Raises:
            ConfigError: If the scheduler has gone, or no worker comes in time.
        """
        if time.monotonic() - self._looked > _LOOK_S:
            self._look()
        deadline = time.monotonic() + self._workers_s
        while not self._remotes:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{self.address}: the Dask cluster had no worker for {self._workers_s:g} s; "
                    "start some, and run this again to go on"
                )
            time.sleep(_LOOK_S)
            self._look()
        idle = [r for r in self._remotes.values() if not r.batch]
        idle.sort(key=lambda r: -r.memory_mb)
        return [*idle]

    def _look(self) -> None:
        """Bring the list of workers up to date."""
        try:
            found = self._known()
        except Exception as error:
            raise ConfigError(
                f"{self.address}: the Dask scheduler has gone ({type(error).__name__}); start the "
                "cluster again, and run this again to go on"
            ) from None
        self._looked = time.monotonic()
        self._leaving = {
            a: until for a, until in self._leaving.items() if a in found and until > self._looked
        }
        for address, facts in found.items():
            if address in self._leaving:
                continue
            if address not in self._remotes:
                limit = float(facts.get("memory_limit") or 0) / 2**20
                self._remotes[address] = _Remote(self, address, limit or float("inf"))
            self._remotes[address].seen = self._looked
        for address, remote in [*self._remotes.items()]:
            if address not in found and not remote.batch:
                del self._remotes[address]
        self.count = len(self._remotes)

    def room_mb(self, worker: Worker) -> float:
        """The worker's own limit; none for the largest."""
        assert isinstance(worker, _Remote)
        largest = max((r.memory_mb for r in self._remotes.values()), default=0.0)
        return float("inf") if worker.memory_mb >= largest else worker.memory_mb

    def finished(self, timeout_s: float) -> list[Worker]:
        """Workers whose task has ended, timed out, or that have gone."""
        ended: list[_Remote] = []
        with suppress(queue.Empty):
            ended.append(self._done.get(timeout=timeout_s))
            while True:
                ended.append(self._done.get_nowait())
        if time.monotonic() - self._looked > _LOOK_S:
            self._look()
        ended += [r for r in self._remotes.values() if r.batch and r.hopeless()]
        return [r for r in dict.fromkeys(ended) if r.batch]

    def abandon(self, busy: Collection[Worker]) -> None:
        """Stop what these workers do: it must not write when the next run does."""
        remotes = [r for r in self._remotes.values() if r in busy]
        for remote in remotes:
            remote.cancel()
        self.kill(remotes)

    def submit(self, load: bytes, address: str) -> Any:
        """Have one worker, and no other, run a batch."""
        return self._client.submit(
            _on_cluster, load, workers=[address], allow_other_workers=False, pure=False
        )

    def forget(self, remote: _Remote) -> None:
        """Hand nothing out to a worker that has died; its nanny's next one is another."""
        self._remotes.pop(remote.address, None)

    def report(self, remote: _Remote) -> None:
        """Note that a worker's task has ended; called from Dask's thread."""
        self._done.put(remote)


class _Remote(Worker):
    """One worker process of the cluster."""

    batch: tuple[Entry, ...] = ()

    def __init__(self, crew: ClusterWorkers, address: str, memory_mb: float) -> None:
        self._crew, self.address, self.memory_mb = crew, address, memory_mb
        self.seen = 0.0
        self._future: Any = None
        self._timeout_s: float | None = None
        self._started = 0.0

    def start(self, load: bytes, timeout_s: float | None) -> None:
        """Have a batch run here."""
        self._timeout_s, self._started = timeout_s, time.monotonic()
        self._future = future = self._crew.submit(load, self.address)
        future.add_done_callback(lambda f: self._crew.report(self) if f is self._future else None)

    @property
    def _late(self) -> bool:
        waited = time.monotonic() - self._started
        return self._timeout_s is not None and waited > self._timeout_s

    def hopeless(self) -> bool:
        """Whether the task has taken too long or the worker has gone."""
        return self._late or time.monotonic() - self.seen > _GONE_S

    def collect(self) -> list[bytes] | Lost:
        """The batch's outcomes, or why there are none."""
        from distributed import CancelledError, KilledWorker

        future, self._future = self._future, None
        if not future.done():
            late = self._late
            future.cancel()
            if late:
                self._crew.kill([self])
                return Lost(f"took longer than {self._timeout_s:g} s and was stopped", "item")
            return self._left()
        try:
            results: list[bytes] = future.result()
            return results
        except KilledWorker:
            self._crew.forget(self)
            why = "its worker process died: it was killed, crashed or went beyond its memory limit"
            return Lost(why, "outside")
        except CancelledError:
            return self._left()
        except Exception as error:
            return Lost(f"its worker process failed: {type(error).__name__}: {error}", "item")
        finally:
            future.release()

    def _left(self) -> Lost:
        self._crew.forget(self)
        return Lost("its worker left the cluster", "unstarted")

    def cancel(self) -> None:
        """Forget the task; what of it runs goes on."""
        future, self._future = self._future, None
        with suppress(Exception):
            future.cancel()


_busy = 0


def _on_cluster(load: bytes) -> list[bytes]:
    global _busy
    _busy += 1
    try:
        return run_batch(load, lambda n: None)
    finally:
        _busy -= 1


def _state() -> tuple[str, int]:
    return __version__, _busy


def _kill_worker(dask_worker: Any) -> None:
    # Run by a nanny, which Dask gives by this name: the worker itself may listen to nobody.
    os.kill(dask_worker.pid, signal.SIGKILL)


def _allow_no_failures(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = 0
