"""Worker processes forked from one that has imported what they need: imports are paid once.

That process is multiprocessing's fork server. It runs a single thread and does nothing but import
and fork, so that no lock is ever copied while somebody holds it. Linux only; elsewhere, and for
libraries that must not be forked (torch with CUDA), workers are spawned.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.context import BaseContext
from typing import Any

_IMPORTER = os.getpid()  # in a forked worker, the server
_THREADS = tuple(f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"))

# Its private parts: nothing public stops the server, which would stay as long as this process.
_SERVER: Any = forkserver._forkserver

_users, _is_ours = 0, False

# What processes seem to end with when the server was killed, and they with it.
STATUS_WITHOUT_SERVER = 255


def limit_threads(threads: int) -> None:
    """Bound the threads of libraries that are imported from now on, unless they are bounded."""
    for name in _THREADS:
        os.environ.setdefault(name, str(threads))


def join_server(preload: Sequence[str], threads: int) -> BaseContext:
    """A context whose processes are forked from the server; it is started if it does not run.

    Each call is followed by a call of `leave_server`. A server that runs already keeps its
    modules and threads; workers then import themselves what it lacks.

    Args:
        preload: modules for the server to import.
        threads: that its libraries may use.
    """
    global _users, _is_ours
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, *preload])
    _is_ours = _is_ours or _SERVER._forkserver_pid is None
    with _environment(threads):
        forkserver.ensure_running()
    _users += 1
    return context


def leave_server() -> None:
    """Stop the server with its last user, and wait for it; not one that somebody else started."""
    global _users, _is_ours
    _users -= 1
    if _is_ours and not _users:
        _is_ours = False
        _SERVER._stop()


def server_of_worker() -> int:
    """In a forked worker: the server's process ID.

    The worker lets go of the pipe that would keep the server alive without the process that
    started it: so the server ends with that one, and the workers with the server.
    """
    if _SERVER._forkserver_alive_fd is not None:
        os.close(_SERVER._forkserver_alive_fd)
        _SERVER._forkserver_alive_fd = None
    return os.getppid() if os.getpid() == _IMPORTER else _IMPORTER


def is_possible() -> bool:
    """Whether workers may be forked here."""
    return sys.platform == "linux"


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What the server starts with: few threads, and no modules of the folder it is run in."""
    before = {name: os.environ.get(name) for name in (*_THREADS, "PYTHONSAFEPATH")}
    limit_threads(threads)
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
