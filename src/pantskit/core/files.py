"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

TEMPORARY_PREFIX = ".pantskit-part-"
_HOLDER = ".held"  # ends the name of the file that stands for a temporary folder


@contextmanager
def atomic_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    The content is flushed to disk before the rename. On any error, Ctrl-C included, the
    temporary file is removed and what stood at `path` stays as it was. A temporary file whose
    process was killed is left over, for `remove_leftovers`.

    Args:
        path: the file.
        flush: without, the file may be empty after a loss of power; not after a kill.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Suffixes are kept: writers choose a format by them (.nii.gz, .parquet, .png).
    part = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")
    try:
        with held(part):
            yield part
            if flush:
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
            part.replace(path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(part):
            error.filename, error.filename2 = str(path), None  # what the user knows of
        raise
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: the one to write into takes its place, whole, or is removed."""
    part = folder.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{folder.name}")
    holder = part.with_name(part.name + _HOLDER)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with held(holder):
            part.mkdir()
            yield part
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            holder.unlink()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Make a file that others see as in use until the block or this process ends, however."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_abandoned(path: Path) -> bool:
    """Whether the process that made a file by `held` has died; False where nothing tells."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        return False
    finally:
        os.close(descriptor)
    return True


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files and folders of processes that have died, at any depth.

    Those that a living process is writing stay.

    Returns:
        How many there were.
    """
    removed = 0
    for where, _, names in os.walk(folder):
        for name in names:
            part = Path(where, name)
            if name.startswith(TEMPORARY_PREFIX) and is_abandoned(part):
                if name.endswith(_HOLDER):
                    shutil.rmtree(Path(where, name.removesuffix(_HOLDER)), ignore_errors=True)
                with suppress(OSError):
                    part.unlink()
                    removed += 1
    return removed


def explain_os_error(error: OSError) -> str:
    """One line with the path, what the system says and, for the common ones, what to do."""
    where = "" if error.filename is None else f"{error.filename}: "
    mend = _MENDS.get(error.errno or 0)
    return f"{where}{error.strerror or error}" + (f"; {mend}" if mend else "")


_MENDS = {
    errno.ENOSPC: "free some space there or write to another disk",
    errno.EDQUOT: "free some space there or write to another disk",
    errno.EROFS: "write to another folder",
    errno.EACCES: "change its permissions or take another folder",
    errno.EPERM: "change its permissions or take another folder",
    errno.EISDIR: "a folder is in the way of the file; move it",
    errno.ENOTDIR: "a file is in the way of the folder; move it",
    errno.EEXIST: "a file is in the way of the folder; move it",
}


Bytes = bytes | bytearray | memoryview


def write_bytes(path: Path, *chunks: Bytes) -> None:
    """Write chunks one after the other, atomically."""
    write_chunks(path, chunks)


def write_chunks(path: Path, chunks: Iterable[Bytes]) -> None:
    """Write chunks one after the other as they come, atomically."""
    with atomic_path(path) as part, part.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)


def write_hashed(path: Path, chunks: Iterable[Bytes]) -> str:
    """The same.

    Returns:
        `content_hash` of the file, from the bytes on their way to it.
    """
    hasher = blake3()

    def passing() -> Iterator[Bytes]:
        for chunk in chunks:
            hasher.update(chunk)
            yield chunk

    write_chunks(path, passing())
    return hasher.hexdigest(length=16)


def write_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Write UTF-8 text atomically; see `atomic_path`."""
    with atomic_path(path, flush=flush) as part:
        part.write_bytes(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity become null, which JSON has no word for."""
    write_text(path, json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n")


def jsonable(value: Any) -> Any:
    """`value` in JSON's own types: numpy scalars and arrays, paths, tuples, NaN included."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if -float("inf") < value < float("inf") else None
    return value


def content_hash(path: Path) -> str:
    """BLAKE3 of a file's bytes, 32 hex digits."""
    hasher = blake3()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest(length=16)
