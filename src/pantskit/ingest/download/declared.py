"""What a file of `data/` says of a download: which files, where, how large, and where they go."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.ingest.sources.catalogue import known_sources, read_source
from pantskit.ingest.sources.declaration import STATUSES, Source

KINDS = ("images", "labels", "metadata")
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")

DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class Place:
    """Where members of an archive go.

    Attributes:
        match: regular expression that the whole name of a member has to match.
        to: template of its path below the output folder; `{1}` is the first group.
    """

    match: re.Pattern[str]
    to: str

    def path(self, name: str) -> str | None:
        """The path for a member; None where it is not of this place."""
        found = self.match.fullmatch(name)
        return self.to.format(found[0], *found.groups()) if found else None


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        name: its own name, as in `--from` and `--files`.
        kind: images, labels or metadata; "" for an archive of all of it.
        url: where it lies; "" where it is to be given by `--from`.
        size: bytes; None where nobody says.
        sha256, md5: as published; "".
        unpacked: bytes of what it unpacks to; None where nobody says.
        places: where members go, the first that matches; what none matches is left out. Without
            any, members go where the archive has them.
        on_hub: whether it lies in a repository of the Hugging Face hub.
    """

    name: str
    kind: str = ""
    url: str = ""
    size: int | None = None
    sha256: str = ""
    md5: str = ""
    unpacked: int | None = None
    places: tuple[Place, ...] = ()
    on_hub: bool = False

    @property
    def suffix(self) -> str:
        """Which archive it is, by its name; "" for a plain file."""
        return next((s for s in ARCHIVES if self.name.lower().endswith(s)), "")

    @property
    def takes(self) -> int:
        """Bytes that it will take on disk, as far as is known."""
        return (self.size or 0) if self.unpacked is None else self.unpacked

    def path(self, member: str) -> str | None:
        """Where a member goes, relative to the output folder; None where it is left out."""
        if not self.places:
            return member
        return next((p for place in self.places if (p := place.path(member)) is not None), None)


@dataclass(frozen=True)
class Download:
    """A dataset, as far as it can be fetched.

    Attributes:
        source: the dataset.
        files: to fetch; () where an account is needed.
        where: how one comes by the archives, where an account is needed.
        status: how well URLs, sizes and checksums are known.
        seen_in: the source of that.
        notes: for people.
    """

    source: Source
    files: tuple[RemoteFile, ...] = ()
    where: str = ""
    status: str = "memory"
    seen_in: str = ""
    notes: tuple[str, ...] = ()


@cache
def known_downloads() -> tuple[Download, ...]:
    """All datasets by name, those behind an account included."""
    return tuple(_read(source) for source in known_sources())


def read_download(
    name: str, *, endpoint: str = DEFAULT_ENDPOINT, revision: str = "", mirror: str = ""
) -> Download:
    """A dataset by its name or an alias.

    Args:
        name: as `pantskit download --list` shows it.
        endpoint: of the Hugging Face hub, or of a mirror with its paths.
        revision: of the hub's repository, in place of the declared one. Sizes and checksums of
            files there are then those that the hub tells.
        mirror: a folder on a server that holds all files by their names.

    Raises:
        ConfigError: If there is no such dataset.
    """
    if name.endswith(".toml"):
        raise ConfigError(f"{name}: only public datasets can be fetched (--list shows them)")
    source = read_source(name)
    found = _read(source, endpoint=endpoint, revision=revision)
    if mirror:
        base = mirror.rstrip("/")
        files = (replace(f, url=f"{base}/{f.name}", on_hub=False) for f in found.files)
        found = replace(found, files=tuple(files))
    return found


def _read(source: Source, *, endpoint: str = DEFAULT_ENDPOINT, revision: str = "") -> Download:
    """The declaration of a dataset's files; without one, only its page is known."""
    file = resources.files("pantskit.ingest.download") / "data" / f"{source.name}.toml"
    if not file.is_file():
        return Download(source, where=source.url)
    data = tomllib.loads(file.read_text("utf-8"))
    hub = data.get("hub", {})
    where = f"{endpoint.rstrip('/')}/{hub.get('repository')}/resolve/"
    at = where + (revision or str(hub.get("revision", "main")))
    status = str(data.get("status", "memory"))
    assert status in STATUSES
    return Download(
        source,
        files=tuple(_file(row, at, other=bool(revision)) for row in data.get("files", ())),
        where=str(data.get("where", "")),
        status=status,
        seen_in=str(data.get("seen_in", "")),
        notes=tuple(map(str, data.get("notes", ()))),
    )


def _file(row: Mapping[str, Any], hub: str, *, other: bool) -> RemoteFile:
    """From an entry of `files`; without a url it lies in the hub's repository."""
    known = {*RemoteFile.__dataclass_fields__, "into"} - {"places", "on_hub"}
    assert set(row) <= known, sorted(set(row) - known)
    name = str(row["name"])
    on_hub = "url" not in row
    found = RemoteFile(
        name=name,
        kind=str(row.get("kind", "")),
        url=f"{hub}/{name}" if on_hub else str(row["url"]),
        size=row.get("size"),
        sha256=str(row.get("sha256", "")),
        md5=str(row.get("md5", "")),
        unpacked=row.get("unpacked"),
        places=tuple(Place(re.compile(p["match"]), str(p["to"])) for p in row.get("into", ())),
        on_hub=on_hub,
    )
    return replace(found, size=None, sha256="", md5="") if on_hub and other else found
