"""A server of files that misbehaves on demand, and archives to serve."""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Turn:
    """How one request is answered; without one, as HTTP has it.

    Attributes:
        status: an error in place of the file.
        headers: sent with it.
        cut: bytes of the body after which the connection is closed.
        stall: bytes after which nothing comes for `stall_s`.
        claim: added to the length that is told.
        offset: added to the place that Content-Range tells.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: int | None = None
    stall_s: float = 1.5
    claim: int = 0
    offset: int = 0


@dataclass
class Served:
    """A file on the server.

    Attributes:
        data: its bytes.
        etag: with quotes; "" for none.
        ranges: whether parts can be asked for.
        turns: how the next requests are answered.
        token: what Authorization has to be; "" where nobody asks.
        goes_to: where a request is sent on to; "" where it is answered.
        lengthless: send no length, in chunks.
        sent: called with the bytes of the body sent so far.
        pace_s: wait after each block.
    """

    data: bytes
    etag: str = '"1"'
    ranges: bool = True
    turns: list[Turn] = field(default_factory=list)
    token: str = ""
    goes_to: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    lengthless: bool = False
    sent: Callable[[int], None] = lambda _: None
    pace_s: float = 0.0


class FileServer:
    """Serves `files` by path, and remembers what was asked.

    Attributes:
        files: by path, with its slash.
        asked: (path, headers) of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def ranges_asked(self, path: str) -> list[str]:
        """The Range headers of the requests for a path; "" for none."""
        return [headers.get("Range", "") for asked, headers in self.asked if asked == path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((handler.path, dict(handler.headers.items())))
        served = self.files.get(handler.path)
        if served is None:
            handler.send_error(404)
        elif served.token and handler.headers.get("Authorization") != served.token:
            handler.send_error(401)
        elif served.goes_to:
            handler.send_response(302)
            for name, value in {"Location": served.goes_to, **served.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
        else:
            turn = served.turns.pop(0) if served.turns else Turn()
            if turn.status:
                handler.send_response(turn.status)
                for name, value in {"Content-Length": "0", **turn.headers}.items():
                    handler.send_header(name, value)
                handler.end_headers()
            else:
                self._send(handler, served, turn)

    def _send(self, handler: BaseHTTPRequestHandler, served: Served, turn: Turn) -> None:
        start, total = 0, len(served.data)
        wanted = handler.headers.get("Range", "")
        same = handler.headers.get("If-Range", served.etag) == served.etag
        if served.ranges and wanted and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{total}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            first = start + turn.offset
            handler.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        else:
            handler.send_response(200)
        body = served.data[start:]
        if served.etag:
            handler.send_header("ETag", served.etag)
        if not served.lengthless:
            handler.send_header("Content-Length", str(len(body) + turn.claim))
        handler.end_headers()
        _write_body(handler, body, served, turn)
        handler.close_connection = True


def _write_body(handler: BaseHTTPRequestHandler, body: bytes, served: Served, turn: Turn) -> None:
    stops = sorted(n for n in (turn.cut, turn.stall) if n is not None)
    position = 0
    try:
        while position < len(body):
            ends = [n for n in stops if n > position]
            until = min([position + 16384, len(body), *ends])
            handler.wfile.write(body[position:until])
            position = until
            served.sent(position)
            if served.pace_s:
                time.sleep(served.pace_s)
            if turn.stall is not None and position >= turn.stall:
                time.sleep(turn.stall_s)
            if turn.cut is not None and position >= turn.cut:
                handler.connection.shutdown(socket.SHUT_RDWR)
                return
    except OSError:
        return  # who asked has left


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server on a free port of this machine."""
    files = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.answer(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        files.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield files
        finally:
            server.shutdown()
            thread.join()


def tar(members: Mapping[str, bytes], *, extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A .tar; `extra` members have no content."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return made.getvalue()


def tar_gz(members: Mapping[str, bytes], **how: Any) -> bytes:
    """A .tar.gz."""
    return gzip.compress(tar(members, **how), 1)


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A .zip, deflated."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 by path of all files of a folder, those of `.pantskit` left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".pantskit" not in path.relative_to(folder).parts
    }


def expected(members: Mapping[str, bytes]) -> dict[str, str]:
    """The same of members."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
