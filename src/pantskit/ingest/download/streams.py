"""The bytes of a file in order, from a server or a folder, whatever the connection does."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pantskit.ingest.download.errors import DownloadError, Passing, Stopped
from pantskit.ingest.download.remote import BLOCK_BYTES, Answer, Link, ask

_AHEAD_BLOCKS = 32

Heard = Callable[[int], None]


class Stream(Protocol):
    """A file whose bytes can be read from any place on.

    Attributes:
        validator: which file it is; "" until the first byte came, or where nothing tells.
        size: bytes; None until then, or where nothing tells.
        sha256: as the server tells it; "".
    """

    validator: str
    size: int | None
    sha256: str

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """Its bytes from `start` to its end."""


@dataclass
class RemoteStream:
    """A file on a server. A connection that breaks is taken up again where it broke.

    Attributes:
        url: of the file.
        link: how to ask.
        stop: set when the user wants to stop.
        declared_size, declared_sha256: what it has to be; None and "" where nobody says.
        needs_ranges: whether a server that sends whole files only is refused.
        validator: of the file that was begun; another one raises `Changed`.
        heard: called with the number of bytes that came.
        told: called with the size of the file, when the server tells it first.
    """

    url: str
    link: Link
    stop: threading.Event
    declared_size: int | None = None
    declared_sha256: str = ""
    needs_ranges: bool = False
    validator: str = ""
    size: int | None = None
    sha256: str = ""
    heard: Heard = lambda _: None
    told: Heard = lambda _: None

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """Its bytes from `start` to its end.

        Raises:
            DownloadError: If it cannot be had, after all tries.
            Changed: If it is another file than that which was begun.
            Stopped: If the user wants to stop.
        """
        position, failures = start, 0
        while self.size is None or position < self.size:
            try:
                answer = ask(self.url, position, self.validator, self.link)
                self._check(answer, position)
                for block in self._rest(answer, position):
                    failures = 0
                    position += len(block)
                    yield block
                if answer.total is None:
                    return  # ended as HTTP says that it ends
                if position < answer.total:
                    raise Passing(f"the connection was closed at {position} of {answer.total}")
            except Passing as trouble:
                failures += 1
                if failures >= self.link.tries:
                    raise DownloadError(
                        f"{self.url}: {trouble}; tried {failures} times. Run the same command "
                        "again later to go on"
                    ) from None
                self._wait(max(trouble.wait_s, self.link.wait_s(failures)))

    def _check(self, answer: Answer, position: int) -> None:
        """Whether what the server has is what was declared; sets what it tells."""
        if self.declared_size is not None and answer.total not in (None, self.declared_size):
            answer.body.close()
            raise DownloadError(
                f"{self.url}: the server has {answer.total} bytes, {self.declared_size} were "
                "expected: another version, or a page in place of the file"
            )
        if answer.sha256 and self.declared_sha256 not in ("", answer.sha256):
            answer.body.close()
            raise DownloadError(
                f"{self.url}: the hub has another file (SHA-256 {answer.sha256[:12]}...) than was "
                f"expected ({self.declared_sha256[:12]}...); --revision main takes it as it is"
            )
        if self.needs_ranges and answer.start != position:
            answer.body.close()
            raise DownloadError(
                f"{self.url}: the server cannot send a part of a file, which a .zip needs, whose "
                "table of contents is at its end; fetch it by hand and give its folder with --from"
            )
        self.validator = self.validator or answer.validator
        self.sha256 = answer.sha256
        if self.size is None and answer.total is not None:
            self.told(answer.total)
        self.size = answer.total

    def _rest(self, answer: Answer, position: int) -> Iterator[bytes]:
        """The answer's bytes from `position` on; a server without ranges begins at 0."""
        skip = position - answer.start
        for block in answer.blocks():
            if self.stop.is_set():
                raise Stopped
            if skip >= len(block):
                skip -= len(block)
                continue
            rest = block[skip:] if skip else block
            skip = 0
            self.heard(len(rest))
            yield rest

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped


@dataclass
class LocalStream:
    """A file that somebody fetched by hand."""

    path: Path
    stop: threading.Event
    sha256: str = ""
    heard: Heard = lambda _: None

    def __post_init__(self) -> None:
        about = self.path.stat()
        self.size: int | None = about.st_size
        self.validator = f"file {about.st_size} {about.st_mtime_ns}"

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """Its bytes from `start` to its end."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            while block := file.read(BLOCK_BYTES):
                if self.stop.is_set():
                    raise Stopped
                self.heard(len(block))
                yield block


class Ahead(io.RawIOBase):
    """Blocks as a file to read from, fetched by a thread while others are worked on.

    Args:
        blocks: the bytes; what goes wrong with them is raised by `readinto`.
        seen: called with each block, in the thread, for checksums.
    """

    def __init__(self, blocks: Iterator[bytes], seen: Callable[[bytes], None]) -> None:
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD_BLOCKS)
        self._rest = memoryview(b"")
        self._ended = False
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._fetch, args=(blocks, seen), daemon=True)
        self._thread.start()

    def _fetch(self, blocks: Iterator[bytes], seen: Callable[[bytes], None]) -> None:
        try:
            for block in blocks:
                seen(block)
                if not self._put(block):
                    return
            self._put(b"")
        except BaseException as error:
            self._put(error)

    def _put(self, item: bytes | BaseException) -> bool:
        while not self._left.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=0.2)
                return True
        return False

    def readable(self) -> bool:
        """It is."""
        return True

    def begin(self) -> None:
        """Wait for the first block, or the next; what went wrong with it is raised."""
        if not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._ended = not item
            self._rest = memoryview(item)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io wants any buffer
        """Fill as much of a buffer as one block gives; 0 at the end."""
        self.begin()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Let the thread end."""
        self._left.set()
        super().close()


class Seekable(io.RawIOBase):
    """A stream that can be read from any place, a request for each jump.

    For .zip, whose table of contents is read first; members then follow one another.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._blocks: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._at = 0  # of `_rest`
        self._position = 0
        if stream.size is None:
            self._begin(0)
            if stream.size is None:
                raise DownloadError("the server does not say how long the file is")

    def _begin(self, position: int) -> None:
        self._blocks = self._stream.blocks(position)
        self._at = position
        self._rest = memoryview(next(self._blocks, b""))

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from another place."""
        assert self._stream.size is not None
        base = (0, self._position, self._stream.size)[whence]
        self._position = min(max(base + offset, 0), self._stream.size)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io wants any buffer
        """Fill as much of a buffer as there is at hand; 0 at the end."""
        assert self._stream.size is not None
        if self._position >= self._stream.size:
            return 0
        gap = self._position - self._at
        if self._blocks is None or not 0 <= gap <= len(self._rest) + BLOCK_BYTES:
            self._begin(self._position)
        while self._position - self._at >= len(self._rest):
            self._at += len(self._rest)
            assert self._blocks is not None
            self._rest = memoryview(next(self._blocks, b""))
            if not self._rest:
                return 0
        here = self._rest[self._position - self._at :]
        count = min(len(buffer), len(here))
        buffer[:count] = here[:count]
        self._position += count
        return count
