"""Files of the sources: in folders, alone, or inside archives that are never unpacked."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

from pantskit.core.errors import ConfigError, ImageError
from pantskit.ingest.discovery.archives import (
    MAX_DEPTH,
    MAX_MEMBER_BYTES,
    Archive,
    copy_bounded,
    is_archive,
    open_archive,
    open_nested,
)
from pantskit.ingest.discovery.dicomdir import is_directory_name, listed_files
from pantskit.ingest.discovery.recognise import completed

# Copies that macOS and Windows leave: no image of theirs is lost.
_LEFT = ("__macosx", "thumbs.db", "desktop.ini", "@eadir")

# Archives inside archives are unpacked to temporary files; so many are kept at a time.
_KEPT_ARCHIVES = 2 * MAX_DEPTH

_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True, order=True)
class SourceFile:
    """One file to read.

    Attributes:
        path: the file on disk, which is the archive for a member of one.
        member: its name inside the archive, or "".
        inside: names of the archives between the two, outermost first.
    """

    path: Path
    member: str = ""
    inside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def place(self) -> PurePosixPath:
        """Where it is, with archives as folders."""
        if not self.member:
            return PurePosixPath(self.path)
        names = (name.lstrip("/") for name in (*self.inside, self.member))  # never the root's
        return PurePosixPath(self.path.as_posix(), *names)

    @property
    def folder(self) -> PurePosixPath:
        """The folder it lies in; an archive counts as a folder."""
        return self.place.parent

    def __str__(self) -> str:
        return str(self.place)


@dataclass(frozen=True)
class BadSource:
    """A file that cannot be listed or read, and why; the message names no file.

    Attributes:
        file: the file, or the folder.
        message: why, in our words.
        series_uids: series that it may be of, by what is still readable in it.
    """

    file: SourceFile
    message: str
    series_uids: frozenset[str] = field(default=frozenset())


def natural_order(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key by which `I9` comes before `I10`."""
    parts = _NUMBER.split(name.lower())
    return tuple((not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts if p)


def find_files(
    sources: Iterable[Path], without: Iterable[Path] = ()
) -> Iterator[SourceFile | BadSource]:
    """Every file of the sources, in the order of their names, archives opened.

    Hidden files and folders are left out, and what operating systems leave (`__MACOSX`,
    `Thumbs.db`). Links are followed, each folder once. Of a DICOMDIR given by itself the
    files it lists are found, as far as they lie in its own folder.

    Args:
        sources: folders, files, archives, a DICOMDIR.
        without: folders that are not looked into: what a run writes may lie in its source.

    Raises:
        ConfigError: If a source does not exist or may not be looked at.
    """
    seen = {os.path.realpath(folder) for folder in without}
    for source in sources:
        try:
            source.stat()
        except FileNotFoundError:
            raise ConfigError(f"{source}: no such file or folder") from None
        except OSError as error:
            raise ConfigError(f"{source}: {error.strerror}") from None
        if source.is_dir():
            found: Iterable[Path | BadSource] = _walk(source, seen)
        else:
            listed = listed_files(source) if is_directory_name(source.name) else []
            found = (p for p in (source, *listed) if _is_new(os.path.realpath(p), seen))
        for path in found:
            if isinstance(path, BadSource):
                yield path
            elif is_archive(path.name):
                yield from _archive_files(path)
            else:
                yield SourceFile(path)


def _walk(top: Path, seen: set[str]) -> Iterator[Path | BadSource]:
    """Files below a folder; every folder once, so that links cannot lead round in circles."""
    waiting = [str(top)]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if not _is_new(real, seen):
            continue
        try:
            with os.scandir(folder) as entries:
                ordered = sorted((e for e in entries if not _left(e.name)), key=lambda e: e.name)
        except OSError as error:
            yield _unreadable(folder, error)
            continue
        folders: list[str] = []
        for entry in ordered:
            try:
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.is_file():
                    link = entry.is_symlink()
                    target = os.path.realpath(entry.path) if link else f"{real}/{entry.name}"
                    if _is_new(target, seen):
                        yield Path(entry.path)
                elif entry.is_symlink():
                    yield BadSource(SourceFile(Path(entry.path)), "a link to what is not there")
            except OSError as error:
                yield _unreadable(entry.path, error)
        waiting += reversed(folders)


def _is_new(real: str, seen: set[str]) -> bool:
    new = real not in seen
    seen.add(real)
    return new


def _unreadable(path: str, error: OSError) -> BadSource:
    return BadSource(SourceFile(Path(path)), f"cannot be looked at ({error.strerror})")


def _left(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT


def _archive_files(path: Path) -> Iterator[SourceFile | BadSource]:
    try:
        archive = open_archive(path)
    except ImageError as error:
        yield BadSource(SourceFile(path), str(error))
        return
    yield from _members(archive, SourceFile(path), ())


def _members(
    archive: Archive, place: SourceFile, inside: tuple[str, ...]
) -> Iterator[SourceFile | BadSource]:
    """Files of an open archive and of those inside it; it is closed afterwards.

    Args:
        archive: the archive.
        place: itself as a file, for what is to be said of it.
        inside: the archives from the one on disk to this one.
    """
    try:
        names = sorted(m.name for m in archive.members() if not _left_member(m.name))
        for name in names:
            file = SourceFile(place.path, name, inside)
            if not is_archive(name):
                yield file
            elif len(inside) + 1 >= MAX_DEPTH:
                yield BadSource(file, f"archives nested more than {MAX_DEPTH} deep are not read")
            else:
                try:
                    nested = open_nested(archive, name)
                except ImageError as error:
                    yield BadSource(file, str(error))
                    continue
                yield from _members(nested, file, (*inside, name))
    except ImageError as error:
        yield BadSource(place, str(error))
    finally:
        archive.close()


def _left_member(name: str) -> bool:
    return any(_left(part) for part in PurePosixPath(name).parts if part not in (".", ".."))


class Reader:
    """Opens source files, each archive once as long as it is in use."""

    def __init__(self) -> None:
        self._archives: OrderedDict[tuple[Path, tuple[str, ...]], Archive] = OrderedDict()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._archives:
            self._archives.popitem()[1].close()

    def open(self, file: SourceFile) -> IO[bytes]:
        """A seekable stream of its bytes; the caller closes it.

        DICOM without its preamble is given one.

        Raises:
            OSError, ImageError, zipfile.BadZipFile: If it cannot be read.
        """
        return completed(self._raw(file))

    def read(self, file: SourceFile) -> IO[bytes]:
        """As `open`; all its bytes are in memory for a member of an archive."""
        if not file.member:
            return self.open(file)
        with self._raw(file) as stream:
            return completed(io.BytesIO(stream.read(MAX_MEMBER_BYTES)))

    @contextmanager
    def local(self, file: SourceFile) -> Iterator[Path]:
        """A file on disk with its bytes: itself, or a copy that is removed afterwards.

        Raises:
            OSError, ImageError: If it cannot be read, or unpacks to more than a member may.
        """
        if not file.member:
            yield file.path
            return
        suffix = "".join(PurePosixPath(file.name.lower()).suffixes[-2:])
        with tempfile.TemporaryDirectory(prefix="pantskit-") as folder:
            path = Path(folder, f"volume{suffix}")
            with self._raw(file) as packed, path.open("wb") as plain:
                copy_bounded(packed, plain, MAX_MEMBER_BYTES)
            yield path

    def _raw(self, file: SourceFile) -> IO[bytes]:
        if not file.member:
            return file.path.open("rb")
        return self._archive(file.path, file.inside).open(file.member)

    def _archive(self, path: Path, inside: tuple[str, ...]) -> Archive:
        key = (path, inside)
        if key not in self._archives:
            if inside:
                opened = open_nested(self._archive(path, inside[:-1]), inside[-1])
            else:
                opened = open_archive(path)
            self._archives[key] = opened
            if len(self._archives) > _KEPT_ARCHIVES:
                self._archives.popitem(last=False)[1].close()
        self._archives.move_to_end(key)
        return self._archives[key]
