"""Archives written out while they arrive: a member appears when it is whole, and not twice."""

from __future__ import annotations

import fcntl
import io
import os
import secrets
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import IO, Protocol, cast

from isal import igzip

from pantskit.core.files import TEMPORARY_PREFIX
from pantskit.core.gzipped import DAMAGED
from pantskit.ingest.download.checksums import Checksums
from pantskit.ingest.download.declared import RemoteFile
from pantskit.ingest.download.errors import BadArchiveError
from pantskit.ingest.download.inflating import BEGINNING, Inflated, Point, system_zlib
from pantskit.ingest.download.journal import Journal, Member
from pantskit.ingest.download.members import Gate
from pantskit.ingest.download.remote import BLOCK_BYTES
from pantskit.ingest.download.streams import Ahead, Seekable, Stream

_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 16 << 20  # a header that is longer (of a name, say) is an attack
_TAR_BLOCK = 512

# What zipfile raises where bytes of a .zip make no sense; found by changing them at random.
_NO_ZIP = (
    EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError,
    OverflowError, IndexError, struct.error,
)  # fmt: skip


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Forward:
    """A stream as tarfile wants it: it can skip ahead, and never goes back.

    Args:
        file: to read from.
        name: of the archive, for errors.
        position: which byte of the .tar, unpacked, the file begins with.
    """

    def __init__(self, file: _Readable, name: str, position: int) -> None:
        self._file = file
        self._name = name
        self._position = position
        self.header = b""  # the last one that was read

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        """What tarfile reads: headers."""
        if not 0 <= size <= _HEADER_BYTES:
            raise BadArchiveError(f"{self._name}: a header of {size:,} bytes; it is refused")
        self.header = b"".join(self.take(size))
        return self.header

    def seek(self, position: int) -> int:
        gap = position - self._position
        if gap < 0:
            raise BadArchiveError(f"{self._name}: damaged: a header leads backwards")
        for _ in self.take(gap):
            pass
        return self._position

    def take(self, size: int) -> Iterator[bytes]:
        """The next bytes, in blocks; fewer at the end."""
        while size > 0 and (block := self._file.read(min(size, _BLOCK_BYTES))):
            self._position += len(block)
            size -= len(block)
            yield block


def unpack_tar(
    stream: Stream,
    file: RemoteFile,
    out: Path,
    journal: Journal,
    sums: Checksums,
    skipped: Callable[[int], None],
) -> int:
    """Write out a .tar or .tar.gz.

    What is in the journal is not written again. A .tar is read from behind that; a .tar.gz from
    the last point before, since what its middle means depends on what came before.

    Args:
        stream: the archive.
        file: as declared.
        out: the output folder.
        journal: of this archive.
        sums: of the bytes as they come.
        skipped: called with the number of bytes that need not be read again.

    Returns:
        How many members were left out.

    Raises:
        BadArchiveError: If it is damaged or holds what it must not.
    """
    packed = file.suffix != ".tar"
    resumable = not packed or system_zlib() is not None
    start = journal.resume_at() if resumable else 0
    point = journal.point_before(start) if packed else BEGINNING
    if packed and point is BEGINNING:
        start = 0
    first = point.first_byte if packed else start
    skipped(first)
    sums.begin(first)
    with Ahead(stream.blocks(first), sums.update) as ahead:
        ahead.begin()  # the size of the archive is known from here on
        before = [m for m in journal.members.values() if 0 < m.after <= start]
        gate = Gate(file, stream.size or file.size, (m.path for m in before))
        gate.grow("before", sum(m.size for m in before))
        journal.begin(stream.validator, stream.size)
        try:
            if not packed:
                _tar_members(_Forward(ahead, file.name, start), start, gate, out, journal)
            elif resumable:
                with closing(Inflated(ahead, point)) as content:
                    source = _Forward(content, file.name, point.at)
                    _tar_members(source, start, gate, out, journal, content.latest_point)
            else:
                plain = cast("_Readable", igzip.IGzipFile(fileobj=ahead, mode="rb"))
                _tar_members(_Forward(plain, file.name, 0), 0, gate, out, journal)
        except DAMAGED as error:
            raise BadArchiveError(f"{file.name}: damaged or cut short: {error}") from None
        except (tarfile.TarError, ValueError) as error:
            raise BadArchiveError(f"{file.name}: no sound .tar: {error}") from None
    return gate.left_out


def _tar_members(
    source: _Forward,
    start: int,
    gate: Gate,
    out: Path,
    journal: Journal,
    latest_point: Callable[[], Point | None] = lambda: None,
) -> None:
    """Write out all members, then read to the end, where checksums are."""
    writer = _Writer(out, gate)
    source.seek(start)
    with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r:") as tar:
        member = tar.next()
        while member is not None:
            at = source.tell()
            target = gate.tar(member)
            if target is not None:
                if not journal.is_whole(target, member.size):
                    writer.write(target, source.take(member.size), member.size, member.name)
                    after = at + -(-member.size // _TAR_BLOCK) * _TAR_BLOCK
                    journal.add(Member(target, member.size, after))
                if point := latest_point():
                    journal.keep_point(point)
            # It keeps them all otherwise: 300,000 in the labels of PanTS.
            tar.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it
            member = tar.next()
        # tarfile takes a header that makes no sense for the end of the archive.
        if len(source.header) < _TAR_BLOCK or any(source.header):
            raise tarfile.ReadError(f"damaged or cut short at byte {source.tell():,}")
    for block in iter(lambda: b"".join(source.take(_BLOCK_BYTES)), b""):
        gate.grow("the end of the archive", len(block) if any(block) else 0)


def unpack_zip(stream: Stream, file: RemoteFile, out: Path, journal: Journal) -> int:
    """Write out a .zip, in the order in which it holds its members; see `unpack_tar`.

    Members that are whole are not even fetched. Each is checked by its CRC-32.
    """
    source = Seekable(stream)
    gate = Gate(file, stream.size)
    writer = _Writer(out, gate)
    journal.begin(stream.validator, stream.size)
    try:
        with zipfile.ZipFile(io.BufferedReader(source, _BLOCK_BYTES)) as archive:
            members = sorted(archive.infolist(), key=lambda m: m.header_offset)
            targets = [gate.zip(m) for m in members]  # all are looked at before one is written
            for member, target in zip(members, targets, strict=True):
                if target is None or journal.is_whole(target, member.file_size):
                    continue
                with archive.open(member) as content:
                    blocks = iter(partial(content.read, _BLOCK_BYTES), b"")
                    writer.write(target, blocks, member.file_size, member.filename)
                journal.add(Member(target, member.file_size))
    except _NO_ZIP as error:
        raise BadArchiveError(f"{file.name}: damaged or no sound .zip: {error}") from None
    return gate.left_out


class _Writer:
    """Writes members, each of which appears when all of it came.

    Leaner than `core.files.atomic_path`, since there are 300,000 in the labels of PanTS. Not
    flushed one by one: the journal trusts no file that a loss of power may have emptied.
    """

    def __init__(self, out: Path, gate: Gate) -> None:
        self._out = str(out)
        self._mark = f"{TEMPORARY_PREFIX}{secrets.token_hex(3)}-"  # no other archive writes there
        self._gate = gate
        self._folders: set[str] = set()

    def write(self, target: str, blocks: Iterator[bytes], size: int, name: str) -> None:
        """Write a member.

        Raises:
            BadArchiveError: If it ends before its size.
        """
        folder, _, last = target.rpartition("/")
        folder = f"{self._out}/{folder}"
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103  # see above
            self._folders.add(folder)
        path, part = f"{folder}/{last}", f"{folder}/{self._mark}{last}"
        try:
            count = _fill(part, blocks)
            if count != size:
                raise self._gate.refused(name, f"ends after {count:,} of {size:,} bytes")
            os.replace(part, path)  # noqa: PTH105  # see above
        except BaseException as error:
            with suppress(OSError):
                os.unlink(part)  # noqa: PTH108  # see above
            if isinstance(error, OSError):
                error.filename, error.filename2 = path, None  # what the user knows of
            raise


def _fill(part: str, blocks: Iterator[bytes]) -> int:
    """Write blocks to a new file, locked as in use; how many bytes there were."""
    count = 0
    with open(part, "wb", buffering=0) as file:  # noqa: PTH123  # lean, as _Writer
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for block in blocks:
            count += len(block)
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
    return count


class Kept:
    """A stream whose bytes are kept in a file as they come, for a later run to go on at its end.

    Args:
        stream: where they come from.
        journal: of the file; says what the bytes that are there belong to.
    """

    def __init__(self, stream: Stream, journal: Journal) -> None:
        self._stream = stream
        self._journal = journal
        self.validator = journal.validator
        self.size = journal.size if journal.part.is_file() else None
        self.sha256 = ""

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """What is there, then the rest."""
        assert start == 0
        path = self._journal.part
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.is_file() and self.validator != ""
        with path.open("r+b" if begun else "w+b", buffering=0) as part:
            while block := part.read(BLOCK_BYTES):
                yield block
            if self.size is not None and part.tell() >= self.size:
                return
            for block in self._stream.blocks(part.tell()):
                told = self._stream
                self.validator, self.size, self.sha256 = told.validator, told.size, told.sha256
                self._journal.begin(told.validator, told.size)
                part.write(block)
                yield block


def keep_file(
    stream: Stream, file: RemoteFile, out: Path, journal: Journal, sums: Checksums
) -> None:
    """Write a plain file, which appears when its checksum was compared."""
    target = file.path(file.name)
    assert target is not None
    kept = Kept(stream, journal)
    sums.begin(0)
    for block in kept.blocks():
        sums.update(block)
    sums.require(file, kept)
    size = journal.part.stat().st_size
    (out / target).parent.mkdir(parents=True, exist_ok=True)
    journal.part.replace(out / target)
    journal.begin(kept.validator, kept.size)
    journal.add(Member(target, size))
