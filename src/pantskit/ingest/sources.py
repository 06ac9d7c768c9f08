"""Files of the sources: in folders, alone, or inside zip archives that are never unpacked."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

from pantskit.core.errors import ConfigError, ImageError

# A slice is about half a megabyte and a multi-frame series a few hundred; more is hostile.
MAX_MEMBER_BYTES = 2 * 1024**3
# Deflate reaches 1032 : 1 on zeros; a blank slice of a real series about 500 : 1.
MAX_MEMBER_RATIO = 1100
MAX_MEMBERS = 500_000


@dataclass(frozen=True, order=True)
class SourceFile:
    """One file to read.

    Attributes:
        path: the file on disk, which is the archive for a member of one.
        member: its name inside the zip archive, or "".
    """

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """Name without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def folder(self) -> PurePosixPath:
        """The folder it lies in; an archive counts as a folder."""
        return (PurePosixPath(self.path.as_posix()) / self.member).parent

    def __str__(self) -> str:
        return f"{self.path}{f'/{self.member}' if self.member else ''}"


@dataclass(frozen=True)
class BadSource:
    """A file that could not even be listed, and why; the message names no file."""

    file: SourceFile
    message: str


def find_files(sources: Iterable[Path]) -> Iterator[SourceFile | BadSource]:
    """Every file of the sources, sorted, archives opened; hidden files are left out.

    Raises:
        ConfigError: If a source does not exist.
    """
    seen: set[Path] = set()
    for source in sources:
        if not source.exists():
            raise ConfigError(f"{source}: no such file or folder")
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.name.startswith(".") or path.resolve() in seen or not path.is_file():
                continue
            seen.add(path.resolve())
            if path.suffix.lower() != ".zip":
                yield SourceFile(path)
                continue
            try:
                yield from _members(path)
            except ImageError as error:
                yield BadSource(SourceFile(path), str(error))


def _members(path: Path) -> Iterator[SourceFile]:
    with _zip(path) as archive:
        infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise ImageError(f"archive of {len(infos)} members; at most {MAX_MEMBERS} are read")
    for info in sorted(infos, key=lambda i: i.filename):
        if info.is_dir() or PurePosixPath(info.filename).name.startswith("."):
            continue
        too_dense = info.file_size > MAX_MEMBER_RATIO * max(info.compress_size, 1)
        if info.file_size > MAX_MEMBER_BYTES or too_dense:
            raise ImageError(
                f"archive holds a member that would unpack to {info.file_size} bytes from "
                f"{info.compress_size}; such an archive is not read"
            )
        yield SourceFile(path, info.filename)


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError):
        raise ImageError("not a readable zip archive; copy it again") from None
    with archive:
        yield archive


class Reader:
    """Opens source files, each archive once."""

    def __init__(self) -> None:
        self._archives: dict[Path, zipfile.ZipFile] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def open(self, file: SourceFile) -> IO[bytes]:
        """A seekable stream of its bytes; the caller closes it.

        Raises:
            OSError, zipfile.BadZipFile: If it cannot be read.
        """
        if not file.member:
            return file.path.open("rb")
        return self._archive(file.path).open(file.member)

    def read(self, file: SourceFile) -> IO[bytes]:
        """All its bytes, in memory for a member of an archive."""
        if not file.member:
            return file.path.open("rb")
        return io.BytesIO(self._archive(file.path).read(file.member))

    def _archive(self, path: Path) -> zipfile.ZipFile:
        if path not in self._archives:
            self._archives[path] = self._stack.enter_context(_zip(path))
        return self._archives[path]
