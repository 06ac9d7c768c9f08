"""A server, and a way to download from it what the test declares."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from file_server import FileServer, Served, serving

from pantskit.ingest.download.declared import Download, RemoteFile, read_download
from pantskit.ingest.download.plan import plan_download
from pantskit.ingest.download.remote import Link
from pantskit.ingest.download.run import Outcome, download

QUICK = Link(stall_s=20, tries=4, backoff_s=0.01)


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loss of power alone, which no test can make; it waits for all of the machine."""
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as files:
        yield files


@pytest.fixture
def members() -> dict[str, bytes]:
    """Files in the layout of the release; what cannot be compressed, and what can."""
    noise = random.Random(7)
    made = {}
    for case in range(1, 7):
        made[f"PanTS_{case:08d}/ct.nii.gz"] = noise.randbytes(60_000 + 1000 * case)
        made[f"PanTS_{case:08d}/note.txt"] = b"all the same " * (400 * case)
    return made


Fetch = Callable[..., Outcome]


@pytest.fixture
def fetch(server: FileServer, tmp_path: Path) -> Fetch:
    """Download one file, given by its name and what the server has of it."""

    def fetched(
        name: str, served: Served | None = None, *, link: Link = QUICK, **declared: Any
    ) -> Outcome:
        if served is not None:
            server.files[f"/{name}"] = served
        file = RemoteFile(**{"name": name, "url": f"{server.url}/{name}", **declared})
        plan = plan_download(of_files(file), tmp_path / "out")
        (outcome,) = download(plan, link)
        return outcome

    return fetched


def of_files(*files: RemoteFile) -> Download:
    """A dataset that has these files."""
    return replace(read_download("pants"), files=files)
