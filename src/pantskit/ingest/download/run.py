"""A download: several files side by side, each until it is whole."""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pantskit.core.errors import DatasetError, PantskitError
from pantskit.core.files import explain_os_error, remove_leftovers
from pantskit.ingest.download.checksums import Checksums
from pantskit.ingest.download.declared import RemoteFile
from pantskit.ingest.download.errors import BadArchiveError, Changed, DownloadError, Stopped
from pantskit.ingest.download.journal import Journal
from pantskit.ingest.download.plan import Plan, Wanted, gigabytes
from pantskit.ingest.download.remote import Link
from pantskit.ingest.download.streams import LocalStream, RemoteStream, Stream
from pantskit.ingest.download.unpacking import keep_file, unpack_tar, unpack_zip

_STARTS = 3
_LOOK_S = 0.2
_RATE_OVER_S = 20.0
_GRACE_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        name: of the file.
        status: done, unchanged (it was done before) or failed.
        message: why it failed, or what one should know.
        facts: of its record.
    """

    name: str
    status: str
    message: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Meter:
    """How far a download is; read by progress, written by all threads.

    Attributes:
        total: bytes to read, as far as is known.
        files: how many there are to do; `done`: how many are.
    """

    total: int
    files: int
    done: int = 0
    _came: int = 0
    _before: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def heard(self, count: int) -> None:
        """Count bytes that came; a negative number for what came in vain."""
        with self._lock:
            self._came += count

    def told(self, size: int) -> None:
        """Count a file whose size nobody knew before."""
        with self._lock:
            self.total += size

    def skipped(self, count: int) -> None:
        """Count bytes that need not come."""
        with self._lock:
            self._before += count

    @property
    def position(self) -> int:
        """Bytes that are behind us."""
        return self._came + self._before

    def rate(self) -> float:
        """Bytes a second, over the last seconds."""
        now = time.monotonic()
        self._marks.append((now, self._came))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_OVER_S:
            self._marks.popleft()
        (then, before), (_, came) = self._marks[0], self._marks[-1]
        return max(came - before, 0) / (now - then) if now > then else 0.0

    def left_s(self) -> float | None:
        """Seconds that the rest will take at this rate; None where nobody can tell."""
        rate = self.rate()
        return max(self.total - self.position, 0) / rate if rate > 0 and self.total else None


Progress = Callable[[Meter], None]


def download(
    plan: Plan, link: Link, *, jobs: int = 4, progress: Progress | None = None
) -> tuple[Outcome, ...]:
    """Fetch and unpack all files of a plan; what was finished before is kept.

    Args:
        plan: from `plan_download`.
        link: how servers are asked.
        jobs: files at a time.
        progress: called a few times a second while files are fetched.

    Returns:
        An outcome for each file, in the order of the plan.

    Raises:
        DatasetError: If the disk is too small, or another run writes to the folder.
        KeyboardInterrupt: On Ctrl-C, after all that is whole was noted.
    """
    plan.require_space()
    with _claimed(plan.out):
        to_do = [w for w in plan.wanted if w.state != "done"]
        outcomes = {w.file.name: _unchanged(w, plan.out) for w in plan.wanted if w.state == "done"}
        meter = Meter(sum(w.file.size or 0 for w in to_do), len(to_do))
        stop = threading.Event()
        waiting: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
        for wanted in to_do:
            waiting.put(wanted)
        faults: list[Exception] = []

        def work() -> None:
            while not stop.is_set():
                try:
                    wanted = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    outcomes[wanted.file.name] = _attempt(wanted, plan.out, link, stop, meter)
                except Exception as error:  # a fault of ours: it ends the run
                    faults.append(error)
                    stop.set()
                meter.done += 1

        # Daemons: one that waits for a server must not keep an interrupted run from ending.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(to_do)))]
        for thread in threads:
            thread.start()
        _watch(threads, stop, meter, progress)
    if faults:
        raise faults[0]
    return tuple(outcomes[w.file.name] for w in plan.wanted)


def _watch(
    threads: list[threading.Thread],
    stop: threading.Event,
    meter: Meter,
    progress: Progress | None,
) -> None:
    """Wait for all threads, and tell how far they are."""
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK_S)
                if progress is not None:
                    progress(meter)
    except KeyboardInterrupt:
        stop.set()
        until = time.monotonic() + _GRACE_S
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))
        raise


def _unchanged(wanted: Wanted, out: Path) -> Outcome:
    journal = Journal(out, wanted.file.name)
    changed = journal.changed_since()
    note = f"{len(changed)} of its files were changed since, as {changed[0]}" if changed else ""
    return Outcome(wanted.file.name, "unchanged", note, journal.record() or {})


def _attempt(wanted: Wanted, out: Path, link: Link, stop: threading.Event, meter: Meter) -> Outcome:
    """One file, to its end or to the reason why it has none."""
    name = wanted.file.name
    try:
        for _ in range(_STARTS):
            journal = Journal(out, name)
            share = _Share(meter, wanted.file, journal, out)
            try:
                return Outcome(name, "done", facts=_fetch(wanted, out, journal, link, stop, share))
            except Changed:
                if journal.record() is not None:
                    raise DownloadError(
                        f"{name}: {out} holds another version of it; what is missing there cannot "
                        "be had of this one. Take another folder for it"
                    ) from None
                share.in_vain()
                journal.take_back()
            except BadArchiveError:
                journal.take_back()
                raise
        raise DownloadError(f"{name}: it changes on the server while it is read; try again later")
    except Stopped:
        return Outcome(name, "failed", "interrupted")
    except PantskitError as error:
        return Outcome(name, "failed", str(error))
    except OSError as error:
        return Outcome(name, "failed", explain_os_error(error))


@dataclass
class _Share:
    """What one file adds to the meter."""

    meter: Meter
    file: RemoteFile
    journal: Journal
    out: Path
    came: int = 0
    before: int = 0
    size: int = 0

    def heard(self, count: int) -> None:
        """Count bytes that came."""
        self.came += count
        self.meter.heard(count)

    def skipped(self, count: int) -> None:
        """Count bytes that need not come."""
        self.before += count
        self.meter.skipped(count)

    def told(self, size: int) -> None:
        """Take the size that the server tells, where nobody knew it, and look at the disk.

        Raises:
            DownloadError: If the disk has less free space.
        """
        if self.file.size is not None:
            return
        self.size = size
        self.meter.told(size)
        needed = (self.file.unpacked or size) - self.journal.whole_bytes()
        free = shutil.disk_usage(self.out).free
        if needed > free:
            raise DownloadError(
                f"{self.out}: {self.file.name} needs {gigabytes(needed)} and {gigabytes(free)} are "
                "free; take another disk"
            )

    def in_vain(self) -> None:
        """Forget all of it: the file is begun again."""
        self.meter.heard(-self.came)
        self.meter.skipped(-self.before)
        self.meter.told(-self.size)


def _fetch(
    wanted: Wanted, out: Path, journal: Journal, link: Link, stop: threading.Event, share: _Share
) -> dict[str, Any]:
    """Read a file and write what is in it; facts for its record."""
    file = wanted.file
    began = time.monotonic()
    sums = Checksums(file)
    stream: Stream = _stream(wanted, journal, link, stop, share)
    left_out = 0
    if file.suffix == ".zip":
        left_out = unpack_zip(stream, file, out, journal)
        compared = _local_checksum(stream, file, sums)
    elif file.suffix:
        left_out = unpack_tar(stream, file, out, journal, sums, share.skipped)
        compared = sums.require(file, stream)
    else:
        keep_file(stream, file, out, journal, sums)
        compared = sums.require(file, stream)
    facts = {
        "size": stream.size,
        "left_out": left_out,
        "verified": [*([compared] if compared else []), _within(file)],
        "seconds": round(time.monotonic() - began, 1),
    }
    journal.finish(file, facts)
    return facts


def _stream(
    wanted: Wanted, journal: Journal, link: Link, stop: threading.Event, share: _Share
) -> LocalStream | RemoteStream:
    """Where the bytes come from."""
    file = wanted.file
    if wanted.local is not None:
        local = LocalStream(wanted.local, stop, heard=share.heard)
        _require_local(local, file, journal)
        return local
    return RemoteStream(
        file.url,
        link,
        stop,
        declared_size=file.size,
        declared_sha256=file.sha256,
        needs_ranges=file.suffix == ".zip",
        validator=journal.validator,
        heard=share.heard,
        told=share.told,
    )


def _within(file: RemoteFile) -> str:
    """What was checked apart from a published checksum."""
    return {
        ".tar.gz": "length, CRC-32 of the gzip stream, member headers",
        ".tgz": "length, CRC-32 of the gzip stream, member headers",
        ".tar": "length, member headers",
        ".zip": "length, CRC-32 of each member",
    }.get(file.suffix, "length")


def _require_local(stream: LocalStream, file: RemoteFile, journal: Journal) -> None:
    """Whether a file that was fetched by hand is what was declared.

    Raises:
        Changed: If another one was begun.
        DownloadError: If it has another length.
    """
    if file.size is not None and stream.size != file.size:
        raise DownloadError(
            f"{stream.path}: {stream.size:,} bytes, {file.size:,} were expected: not whole, or "
            "another version"
        )
    if journal.validator and journal.validator != stream.validator:
        raise Changed


def _local_checksum(stream: Stream, file: RemoteFile, sums: Checksums) -> str:
    """The checksum of a .zip that is at hand; of one on a server not all bytes are read."""
    if not isinstance(stream, LocalStream) or not (file.sha256 or file.md5):
        return ""
    sums.begin(0)
    for block in stream.blocks():
        sums.update(block)
    return sums.require(file, stream)


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Keep a folder for one download at a time; what a killed one left goes.

    Raises:
        DatasetError: If another download writes to it.
    """
    mark = out / ".pantskit" / "running" / "download"
    mark.parent.mkdir(parents=True, exist_ok=True)
    killed = mark.exists()
    descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"{out}: another download is writing to it; wait for its end"
            ) from None
        except OSError:
            killed = False  # a file system without locks: nobody can tell
        if killed:
            remove_leftovers(out)
        yield
        mark.unlink(missing_ok=True)
        with suppress(OSError):  # other marks may be there
            mark.parent.rmdir()
    finally:
        os.close(descriptor)
