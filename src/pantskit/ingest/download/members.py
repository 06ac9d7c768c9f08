"""What an archive may hold: files below the output folder, each once, no more than declared."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG

from pantskit.ingest.download.declared import RemoteFile
from pantskit.ingest.download.errors import BadArchiveError

# An archive whose content nobody declared may grow by so much; masks shrink to a third in .tar.gz.
_MOST_GROWTH = 8
_SLACK = 1.05
_SLACK_BYTES = 16 << 20

_LONGEST_NAME = 1000  # of a path, in bytes; file systems take 255 for a part of it

# What macOS and Windows leave in archives; nobody's data.
_JUNK = re.compile(r"(?:.*/)?(?:\._[^/]*|\.DS_Store|Thumbs\.db)|__MACOSX/.*")


class Gate:
    """Lets members of one archive through, or refuses the archive.

    Args:
        file: as declared.
        size: bytes of the archive; None where nobody knows.
        before: targets of members in a part of the archive that is not read again.

    Attributes:
        left_out: members that have no place here.
    """

    def __init__(self, file: RemoteFile, size: int | None, before: Iterable[str] = ()) -> None:
        self._file = file
        self._targets = set(before)
        self._folders: set[str] = set()
        self._bytes = 0
        self.left_out = 0
        if file.unpacked is not None:
            self._most: float | None = file.unpacked * _SLACK + _SLACK_BYTES
        elif size is not None:
            growth = 1 if file.suffix == ".tar" else _MOST_GROWTH
            self._most = size * growth + _SLACK_BYTES
        else:
            self._most = None

    def refused(self, name: str, why: str) -> BadArchiveError:
        """The error for a member."""
        return BadArchiveError(
            f"{self._file.name}: member {name[:200]!r} {why}; the archive is refused and nothing "
            "of it is kept"
        )

    def tar(self, member: tarfile.TarInfo) -> str | None:
        """Where a member of a .tar goes; None for what is not written.

        Raises:
            BadArchiveError: If it must not be in an archive.
        """
        if member.isdir():
            self._clean(member.name)
            return None
        if member.issym() or member.islnk():
            raise self.refused(member.name, f"is a link to {member.linkname[:200]!r}")
        if member.issparse():
            raise self.refused(member.name, "is a sparse file")
        if not member.isreg():
            raise self.refused(member.name, "is a device or a pipe")
        return self._file_at(member.name, member.size)

    def zip(self, member: zipfile.ZipInfo) -> str | None:
        """The same for a member of a .zip."""
        mode = member.external_attr >> 16
        if member.filename.endswith("/") or S_ISDIR(mode):
            self._clean(member.filename)
            return None
        if S_ISLNK(mode):
            raise self.refused(member.filename, "is a link")
        if S_IFMT(mode) and not S_ISREG(mode):
            raise self.refused(member.filename, "is a device or a pipe")
        if member.flag_bits & 1:
            raise self.refused(member.filename, "is protected by a password")
        return self._file_at(member.filename, member.file_size)

    def _file_at(self, name: str, size: int) -> str | None:
        clean = self._clean(name)
        if not clean:
            raise self.refused(name, "has no name")
        self.grow(name, size)
        target = None if _JUNK.fullmatch(clean) else self._file.path(clean)
        if target is None:
            self.left_out += 1
            return None
        target = self._clean(target)
        if target in self._targets:
            raise self.refused(name, "comes twice")
        parents = [str(p) for p in PurePosixPath(target).parents][:-1]
        if target in self._folders or not self._targets.isdisjoint(parents):
            raise self.refused(name, "is a file and a folder")
        self._targets.add(target)
        self._folders.update(parents)
        return target

    def grow(self, name: str, size: int) -> None:
        """Count bytes of a member.

        Raises:
            BadArchiveError: If the archive holds more than it can.
        """
        self._bytes += size
        if size < 0 or (self._most is not None and self._bytes > self._most):
            raise self.refused(
                name, f"makes {self._bytes:,} bytes, where {self._most:,.0f} are the most expected"
            )

    def _clean(self, name: str) -> str:
        """A name without `./`, if it leads nowhere else."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/"):
            raise self.refused(name, "has an absolute path")
        if ".." in parts:
            raise self.refused(name, "leads out of the folder")
        if any(c in name for c in "\\\0\r\n") or re.match(r"[A-Za-z]:", name):
            raise self.refused(name, "has a name that is no path here")
        clean = "/".join(parts)
        try:
            raw = clean.encode()
        except UnicodeEncodeError:
            raise self.refused(name, "has a name that is not UTF-8") from None
        if len(raw) > _LONGEST_NAME or any(len(part.encode()) > 200 for part in parts):
            raise self.refused(name, "has too long a name")
        if parts and parts[0] == ".pantskit":
            raise self.refused(name, "would lie among pantskit's own records")
        return clean
