"""Archives as folders: .zip, .tar, packed .tar, also inside one another, within bounds.

Nothing is unpacked beside the source. What has to be unpacked to be read at all (an archive
inside another, a compressed tar) goes to a temporary file without a name.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from pantskit.core.errors import ImageError

# A slice is about half a megabyte and a multi-frame series a few hundred; more is hostile.
MAX_MEMBER_BYTES = 2 * 1024**3
# Deflate reaches 1032 : 1 on zeros; a blank slice of a real series about 500 : 1.
MAX_MEMBER_RATIO = 1100
MAX_MEMBERS = 500_000
# Archives inside archives: a study zipped in a patient's zip in a delivery.
MAX_DEPTH = 3
# An archive inside another, or a compressed tar, unpacked to a temporary file.
MAX_UNPACKED_BYTES = 16 * 1024**3

_CHUNK = 1 << 20
_PACKED: dict[str, Callable[[IO[bytes]], Any]] = {
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}
_SUFFIXES = (".zip", *_PACKED, ".tar")
_UNREADABLE = "not a readable archive; copy it again"


@dataclass(frozen=True)
class Member:
    """A file of an archive: its name in it, and its size unpacked."""

    name: str
    size: int


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to so many bytes; empty at the end."""


class Archive(Protocol):
    """An open archive."""

    def members(self) -> Iterator[Member]:
        """Its files in the order they lie in; folders, links and devices are left out.

        Raises:
            ImageError: If it is damaged, encrypted, or larger than the bounds.
        """

    def open(self, name: str) -> IO[bytes]:
        """A seekable stream of one member."""

    def close(self) -> None:
        """Let go of its files."""


def is_archive(name: str) -> bool:
    """Whether a file name is an archive's."""
    return name.lower().endswith(_SUFFIXES)


def archive_stem(name: str) -> str:
    """A file name without the suffix of an archive."""
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def open_archive(path: Path) -> Archive:
    """Open an archive on disk.

    Raises:
        ImageError: If it is not readable as what its name says.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ImageError(f"archive cannot be read ({error.strerror})") from None
    return _opened(stream, path.name)


def open_nested(outer: Archive, name: str) -> Archive:
    """Open an archive inside another.

    Raises:
        ImageError: If it is not readable, or larger than the bounds.
    """
    with outer.open(name) as packed:
        return _opened(unpacked(packed, MAX_UNPACKED_BYTES), PurePosixPath(name).name)


def unpacked(packed: Readable, limit: int) -> IO[bytes]:
    """All bytes of a stream in a temporary file that is gone once it is closed.

    Raises:
        ImageError: If there are more than `limit` bytes, or they are damaged.
    """
    plain = tempfile.TemporaryFile(prefix="pantskit-")  # noqa: SIM115  # closed with its archive
    try:
        copy_bounded(packed, plain, limit)
    except BaseException:
        plain.close()
        raise
    plain.seek(0)
    return plain


def copy_bounded(source: Readable, target: IO[bytes], limit: int) -> None:
    """Copy a stream.

    Raises:
        ImageError: If there are more than `limit` bytes, or they are damaged.
    """
    size = 0
    try:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise ImageError(f"unpacks to more than {limit} bytes; such a file is not read")
            target.write(chunk)
    except (EOFError, zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError):
        raise ImageError(_UNREADABLE) from None
    except ImageError:
        raise
    except Exception as error:  # zlib and lzma each have their own
        raise ImageError(f"{_UNREADABLE} ({type(error).__name__})") from None


def _opened(stream: IO[bytes], name: str) -> Archive:
    with ExitStack() as stack:
        stack.enter_context(stream)
        archive = _archive(stream, name)
        stack.pop_all()  # it stays open with the archive
    return archive


def _archive(stream: IO[bytes], name: str) -> Archive:
    lower = name.lower()
    try:
        if lower.endswith(".zip"):
            return _Zip(stream)
        if lower.endswith(".tar"):
            return _Tar(stream)
        unpack = next(unpack for suffix, unpack in _PACKED.items() if lower.endswith(suffix))
        with unpack(stream) as packed:
            plain = unpacked(packed, MAX_UNPACKED_BYTES)
        stream.close()
        return _Tar(plain)
    except ImageError:
        raise
    except Exception:  # a damaged directory raises nearly anything
        raise ImageError(_UNREADABLE) from None


class _Zip:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._zip = zipfile.ZipFile(stream)

    def members(self) -> Iterator[Member]:
        infos = self._zip.infolist()
        _require_few(len(infos))
        names = {info.filename for info in infos}
        if len(names) < len(infos) or "" in names:  # what a name opens would be in doubt
            raise ImageError("archive holds members without a name, or two of one name")
        for info in infos:
            if info.is_dir():
                if info.file_size:
                    raise ImageError("archive holds a folder with content of its own")
                continue
            if info.flag_bits & 1:
                raise ImageError("archive is encrypted; unpack it first")
            nested = is_archive(info.filename)
            _require_sane(info.file_size, info.compress_size, nested)
            yield Member(info.filename, info.file_size)

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(name)

    def close(self) -> None:
        self._zip.close()
        self._stream.close()


class _Tar:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115  # see close
        self._infos: dict[str, tarfile.TarInfo] = {}

    def members(self) -> Iterator[Member]:
        return iter([Member(name, info.size) for name, info in self._found().items()])

    def open(self, name: str) -> IO[bytes]:
        found = self._tar.extractfile(self._found()[name])
        assert found is not None  # regular files have content
        return found

    def close(self) -> None:
        self._tar.close()
        self._stream.close()

    def _found(self) -> dict[str, tarfile.TarInfo]:
        if not self._infos:
            try:
                for n, info in enumerate(self._tar):
                    _require_few(n)
                    if info.isreg():
                        _require_sane(info.size, info.size, is_archive(info.name))
                        self._infos[info.name] = info
            except (tarfile.TarError, EOFError, OSError):
                raise ImageError(_UNREADABLE) from None
        return self._infos


def _require_few(count: int) -> None:
    if count > MAX_MEMBERS:
        raise ImageError(f"archive of {count} members; at most {MAX_MEMBERS} are read")


def _require_sane(size: int, packed: int, nested: bool) -> None:
    limit = MAX_UNPACKED_BYTES if nested else MAX_MEMBER_BYTES
    if size > limit or size > MAX_MEMBER_RATIO * max(packed, 1):
        raise ImageError(
            f"archive holds a member that would unpack to {size} bytes from {packed}; "
            "such an archive is not read"
        )
