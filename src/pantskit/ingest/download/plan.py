"""What a download would do: which files, how much of them is there, whether the disk is enough."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError, DatasetError
from pantskit.ingest.download.declared import ARCHIVES, KINDS, Download, RemoteFile
from pantskit.ingest.download.journal import Journal

# Folders, records and rounding to blocks: a label file of PanTS is 180 kB, a block 4.
_OVERHEAD = 1.02


@dataclass(frozen=True)
class Wanted:
    """A file that was asked for.

    Attributes:
        file: as declared.
        local: the archive that was fetched by hand; None for one to fetch.
        state: done, begun or missing.
        whole_bytes: of its members that are on disk already.
        part_bytes: of the file itself that are kept.
    """

    file: RemoteFile
    local: Path | None
    state: str
    whole_bytes: int = 0
    part_bytes: int = 0

    @property
    def to_write(self) -> int:
        """Bytes that it will still take on disk, as far as is known."""
        if self.state == "done":
            return 0
        there = self.whole_bytes if self.file.suffix else self.part_bytes
        return max(self.file.takes - there, 0)


@dataclass(frozen=True)
class Plan:
    """What a download would do.

    Attributes:
        download: the dataset.
        out: the output folder.
        wanted: its files that were asked for.
        free: bytes that are free on the disk of `out`.
    """

    download: Download
    out: Path
    wanted: tuple[Wanted, ...]
    free: int

    @property
    def to_fetch(self) -> int:
        """Bytes of the files that are not done, as far as is known."""
        return sum(w.file.size or 0 for w in self.wanted if w.state != "done" and not w.local)

    @property
    def to_write(self) -> int:
        """Bytes that will be written, as far as is known."""
        return sum(w.to_write for w in self.wanted)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Files whose size nobody says."""
        return tuple(w.file.name for w in self.wanted if not w.file.takes and w.state != "done")

    def require_space(self) -> None:
        """Refuse what does not fit.

        Raises:
            DatasetError: If the disk has too little free space.
        """
        needed = round(self.to_write * _OVERHEAD)
        if needed > self.free:
            raise DatasetError(
                f"{self.out}: {gigabytes(needed)} are needed and {gigabytes(self.free)} are free; "
                "take another disk, or a part of the dataset with --images, --labels, --metadata "
                "or --files"
            )

    def rows(self) -> list[dict[str, Any]]:
        """A row a file, for people and programs."""
        return [
            {
                "name": w.file.name,
                "kind": w.file.kind or "all",
                "state": w.state,
                "bytes": w.file.size,
                "unpacked_bytes": w.file.takes or None,
                "on_disk_bytes": w.whole_bytes + w.part_bytes,
                "checksum": "sha256" if w.file.sha256 else "md5" if w.file.md5 else None,
                "from": str(w.local) if w.local else w.file.url,
            }
            for w in self.wanted
        ]


def plan_download(
    download: Download,
    out: Path,
    *,
    kinds: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
    folder: Path | None = None,
) -> Plan:
    """Look at what is there and what is to be done; changes nothing, and asks no server.

    Args:
        download: the dataset.
        out: the output folder.
        kinds: images, labels, metadata; () for all.
        names: patterns of file names, as `*ImageTe*`; () for all.
        folder: of archives that were fetched by hand.

    Raises:
        ConfigError: If the dataset has no such files, or an account is needed.
        DatasetError: If the folder has none of its archives.
    """
    files = _chosen(download, kinds, names, folder)
    local = {f.name: _local(f, folder) for f in files} if folder else {}
    if folder is not None:
        files = tuple(f for f in files if local[f.name])
        if not files:
            raise DatasetError(f"{folder}: no archive of {download.source.name} is there")
    wanted = tuple(_wanted(f, local.get(f.name), out) for f in files)
    return Plan(download, out, wanted, shutil.disk_usage(_existing(out)).free)


def _chosen(
    download: Download, kinds: tuple[str, ...], names: tuple[str, ...], folder: Path | None
) -> tuple[RemoteFile, ...]:
    source = download.source
    files = download.files
    if not files:
        if folder is None:
            raise ConfigError(
                f"{source.name}: no open address is declared: get its archives at {download.where} "
                f"({source.license}. {source.terms}) and unpack them with: pantskit download "
                f"{source.name} --from FOLDER --out DIR"
            )
        files = _archives_in(folder)
        kinds = ()  # nobody declared what is in which
    if kinds:
        there = [k for k in KINDS if any(f.kind == k for f in files)]
        for kind in kinds:
            if kind not in there:
                raise ConfigError(
                    f"{source.name} has no files of {kind} alone; "
                    + (f"it has {', '.join(there)}" if there else "all of it is in one archive")
                )
        files = tuple(f for f in files if f.kind in kinds)
    if names:
        chosen = tuple(f for f in files if any(fnmatch(f.name, n) for n in names))
        if not chosen:
            raise ConfigError(
                f"{source.name} has no file {' or '.join(names)}; it has "
                + ", ".join(f.name for f in files)
            )
        files = chosen
    return files


def _archives_in(folder: Path) -> tuple[RemoteFile, ...]:
    """Every archive of a folder, for a dataset whose archives nobody declared."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the one that holds the archives")
    found = [p for p in sorted(folder.iterdir()) if p.name.lower().endswith(ARCHIVES)]
    return tuple(RemoteFile(p.name, size=p.stat().st_size) for p in found if p.is_file())


def _local(file: RemoteFile, folder: Path) -> Path | None:
    path = folder / file.name
    return path if path.is_file() else None


def _wanted(file: RemoteFile, local: Path | None, out: Path) -> Wanted:
    journal = Journal(out, file.name)
    if journal.is_done(file):
        return Wanted(file, local, "done")
    there, part = journal.whole_bytes(), journal.part_bytes()
    return Wanted(file, local, "begun" if there or part else "missing", there, part)


def _existing(path: Path) -> Path:
    """The folder itself or the nearest one above that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def gigabytes(count: float) -> str:
    """A number of bytes for people, in decimal units as disks are sold."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
