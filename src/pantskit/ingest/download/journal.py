"""What of a file is on disk already, so that a run that was killed goes on and a done one rests.

`.pantskit/downloads/<name>.members` has a line for each member that is whole, appended after it
appeared; `<name>.point` says where a .tar.gz can be taken up behind some of them; `<name>.json` is
there when the file is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from pantskit import __version__
from pantskit.core.files import write_json, write_text
from pantskit.ingest.download.declared import RemoteFile
from pantskit.ingest.download.inflating import BEGINNING, Point, read_point, write_point

FOLDER = Path(".pantskit", "downloads")

_SYNC_BYTES = 4 << 30
_ON_DISK = "on disk"  # a line after members that a loss of power cannot take any more


@dataclass(frozen=True)
class Member:
    """A file that came out of an archive.

    Attributes:
        path: relative to the output folder.
        size: bytes.
        after: where in the .tar, unpacked, the next header begins; 0 for what is none.
    """

    path: str
    size: int
    after: int = 0


class Journal:
    """The members of one file that are whole.

    Args:
        out: the output folder.
        name: of the file.
    """

    def __init__(self, out: Path, name: str) -> None:
        self._out = out
        self._path = out / FOLDER / f"{name}.members"
        self._record = out / FOLDER / f"{name}.json"
        self.part = out / FOLDER / f"{name}.part"
        # The newest, and the newest of those that a loss of power cannot take any more.
        self._points = [out / FOLDER / f"{name}.{end}" for end in ("point", "point-on-disk")]
        self.validator = ""
        self.size: int | None = None
        self.members: dict[str, Member] = {}
        self._on_disk = 0  # so many of the first members survive a loss of power
        self._torn = False
        self._unsynced = 0
        self._fresh: list[str] = []  # what this run wrote
        self._file: FileIO | None = None
        if self._path.is_file():
            self._read()

    def _read(self) -> None:
        """Load what is there. A line that was cut short by a kill counts for nothing.

        After a restart of the machine only what was known to be on disk counts: a file that was
        renamed may be empty then.
        """
        entries = _entries(self._path)
        if not entries:
            return
        first, *rest = entries
        self.validator, self.size = first["validator"], first["size"]
        marks = [n for n, e in enumerate(rest) if e == _ON_DISK]
        restarted = first["boot"] != _boot()
        if restarted:
            rest = rest[: marks[-1] if marks else 0]
        self._on_disk = marks[-1] + 1 - len(marks) if marks else 0
        self.members = {m.path: m for m in (Member(*e) for e in rest if e != _ON_DISK)}
        self._torn = restarted or not _is_sound(self._path, len(entries))

    def _rewrite(self) -> None:
        self._close()
        lines = [_line(m) for m in self.members.values()]
        lines.insert(self._on_disk, json.dumps(_ON_DISK) + "\n")
        write_text(self._path, "".join([self._head(), *lines]), flush=False)
        self._torn = False

    def _head(self) -> str:
        return json.dumps({"validator": self.validator, "size": self.size, "boot": _boot()}) + "\n"

    def begin(self, validator: str, size: int | None) -> None:
        """Remember which file is read, and make the journal one to add to."""
        if not self._path.is_file():
            self.validator, self.size = validator, size
            self._rewrite()
        elif self._torn:
            self._rewrite()

    def add(self, member: Member) -> None:
        """Remember a member that is whole."""
        self.members[member.path] = member
        self._fresh.append(member.path)
        self._append(_line(member))
        self._unsynced += member.size
        if self._unsynced > _SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        """Have all that was written on disk, and remember so."""
        newest, on_disk = self._points
        if newest.is_file():
            newest.replace(on_disk)
        os.sync()
        self._append(json.dumps(_ON_DISK) + "\n")
        self._unsynced = 0
        self._on_disk = len(self.members)

    def _append(self, line: str) -> None:
        """Add a line by one write: a kill leaves it or a part of it, and parts are ignored."""
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        self._file.write(line.encode())

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_whole(self, path: str, size: int) -> bool:
        """Whether a member was written before and is still there.

        It may have another size on disk now: somebody has corrected it, and it stays.
        """
        known = self.members.get(path)
        return known is not None and known.size == size and (self._out / path).is_file()

    def resume_at(self) -> int:
        """Up to where a .tar, unpacked, need not be read again: no member before is missing."""
        at = 0
        for member in sorted(self.members.values(), key=lambda m: m.after):
            if not self.is_whole(member.path, member.size):
                break
            at = member.after
        return at

    def keep_point(self, point: Point) -> None:
        """Remember where a .tar.gz can be taken up; all members before are in the journal."""
        write_point(point, self.validator, self._points[0])

    def point_before(self, at: int) -> Point:
        """The last point from which byte `at` of the unpacked .tar can be reached."""
        found = (read_point(path, self.validator) for path in self._points)
        return max((p for p in found if p and p.at <= at), key=lambda p: p.at, default=BEGINNING)

    def _drop_kept(self) -> None:
        """Remove what serves to go on."""
        for path in (self.part, *self._points):
            path.unlink(missing_ok=True)

    def whole_bytes(self) -> int:
        """Bytes of members that are there."""
        return sum(m.size for m in self.members.values() if self.is_whole(m.path, m.size))

    def part_bytes(self) -> int:
        """Bytes of the file itself that are kept."""
        return _size(self.part) or 0

    def take_back(self) -> None:
        """Remove what came of the file: it was another one, or a bad one.

        Of a file that was done before, only what this run wrote: people may have worked on it.
        """
        self._close()
        was_done = self.record() is not None
        for path in self._fresh if was_done else list(self.members):
            (self._out / path).unlink(missing_ok=True)
            for folder in _inside((self._out / path).parent, self._out):
                if any(folder.iterdir()):
                    break
                folder.rmdir()
        self._drop_kept()
        if not was_done:
            self._path.unlink(missing_ok=True)
            self.validator, self.size, self.members, self._on_disk = "", None, {}, 0

    def finish(self, file: RemoteFile, facts: dict[str, Any]) -> None:
        """Write the record that the file is done."""
        self._close()
        self._drop_kept()
        os.sync()
        write_json(
            self._record,
            {
                "name": file.name,
                "url": file.url,
                "declared": _declared(file),
                "validator": self.validator,
                "members": len(self.members),
                "bytes": sum(m.size for m in self.members.values()),
                **facts,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "pantskit": __version__,
            },
        )

    def record(self) -> dict[str, Any] | None:
        """The record of a file that was done; None where there is none."""
        try:
            found = json.loads(self._record.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def is_done(self, file: RemoteFile) -> bool:
        """Whether the file was done and no member of it is missing.

        A member that has another size now is not missing: somebody has corrected it.
        """
        record = self.record()
        if record is None or record.get("declared") != _declared(file):
            return False
        return all((self._out / m.path).is_file() for m in self.members.values())

    def changed_since(self) -> list[str]:
        """Members of a file that is done which have another size now."""
        return [
            m.path for m in self.members.values() if _size(self._out / m.path) not in (m.size, None)
        ]


def _declared(file: RemoteFile) -> dict[str, Any]:
    """What decides whether a file that is done is the one that is wanted."""
    known = asdict(file)
    return {key: known[key] for key in ("size", "sha256", "md5")}


def _entries(path: Path) -> list[Any]:
    """The lines of a journal up to the first that is not whole."""
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _is_sound(path: Path, entries: int) -> bool:
    """Whether a journal has nothing but whole lines."""
    raw = path.read_bytes()
    return raw.endswith(b"\n") and raw.count(b"\n") == entries


def _line(member: Member) -> str:
    return json.dumps([member.path, member.size, member.after]) + "\n"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _inside(folder: Path, out: Path) -> Iterator[Path]:
    while folder != out and folder.is_relative_to(out):
        yield folder
        folder = folder.parent


def _boot() -> str:
    """Which start of the machine this is; "" where nothing tells."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
