"""A download that is killed, at any point, goes on and ends with the same files."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_server import FileServer, Served, expected, tar, tar_gz, tree, zipped
from tests.ingest.download.conftest import QUICK, of_files

from pantskit.core.errors import DatasetError
from pantskit.core.files import TEMPORARY_PREFIX
from pantskit.ingest.download.declared import RemoteFile
from pantskit.ingest.download.inflating import BEGINNING, Point
from pantskit.ingest.download.journal import FOLDER, Journal, Member
from pantskit.ingest.download.plan import plan_download
from pantskit.ingest.download.remote import BLOCK_BYTES
from pantskit.ingest.download.run import download

SCRIPT = Path(__file__).parents[2] / "support" / "killable_download.py"


class Downloader:
    """A process that downloads on demand, each time in a child that may be killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.child = 0

    def start(self, out: Path, files: list[list[str]]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"out": str(out), "files": files}) + "\n")
        self._process.stdin.flush()
        self.child = int(self._process.stdout.readline())

    def kill(self) -> None:
        try:
            os.kill(self.child, signal.SIGKILL)
        except ProcessLookupError:
            return  # it was done before

    def status(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@pytest.fixture
def downloader() -> Iterator[Downloader]:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Downloader(process)
        assert process.stdin is not None
        process.stdin.close()


def part_files(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


def files_of(out: Path, members: dict[str, bytes]) -> None:
    """Whatever has a member's name is whole."""
    found = {p: h for p, h in tree(out).items() if TEMPORARY_PREFIX not in p}
    assert found.items() <= expected(members).items()


def test_killed_at_any_byte_and_taken_up_the_files_are_the_same(
    server: FileServer, members, downloader: Downloader, tmp_path: Path
) -> None:
    """Two files at a time, three kinds of archive; the kill comes with the n-th byte sent."""
    rest = {f"{path}.tar": data for path, data in members.items()}
    packed = {f"{path}.zip": data for path, data in members.items()}
    plain = random.Random(3).randbytes(600_000)
    all_members = {**members, **rest, **packed, "table.xlsx": plain}
    served = {
        "a.tar.gz": Served(tar_gz(members)),
        "b.tar": Served(tar(rest)),
        "c.zip": Served(zipped(packed)),
        "table.xlsx": Served(plain),
    }
    files = [[name, f"{server.url}/{name}"] for name in served]
    server.files = {f"/{name}": one for name, one in served.items()}
    noise = random.Random(11)
    kills = 0
    for round_ in range(12):
        victim = served[noise.choice(list(served))]
        at, wait_s = noise.randrange(1, len(victim.data)), noise.choice((0, 0, 0.002, 0.01))

        def kill(position: int, at: int = at, wait_s: float = wait_s) -> None:
            if position >= at:
                time.sleep(wait_s)
                downloader.kill()

        for one in served.values():
            one.sent = lambda _: None
        victim.sent = kill
        out = tmp_path / f"out{round_ % 3}"
        downloader.start(out, files)
        kills += downloader.status() == -signal.SIGKILL
        files_of(out, all_members)
    assert kills >= 3
    for one in served.values():
        one.sent = lambda _: None
    for number in range(3):
        downloader.start(tmp_path / f"out{number}", files)
        assert downloader.status() == 0
        assert tree(tmp_path / f"out{number}") == expected(all_members)
        assert part_files(tmp_path / f"out{number}") == []


@pytest.mark.slow
def test_killed_a_hundred_times_the_files_are_the_same(
    server: FileServer, members, downloader: Downloader, tmp_path: Path
) -> None:
    """At random times, until each kind of archive was done by pieces."""
    noise = random.Random(5)
    makers: dict[str, Callable[..., bytes]] = {"a.tar.gz": tar_gz, "b.tar": tar, "c.zip": zipped}
    for round_ in range(8):
        parts = {n: {f"{n}/{p}": d for p, d in members.items()} for n in makers}
        for name, make in makers.items():
            server.files[f"/{name}"] = Served(make(parts[name]), pace_s=0.001)
        files = [[name, f"{server.url}/{name}"] for name in makers]
        wanted = expected({p: d for part in parts.values() for p, d in part.items()})
        out = tmp_path / f"out{round_}"
        for _ in range(13):
            downloader.start(out, files)
            time.sleep(noise.uniform(0, 0.25))
            downloader.kill()
            downloader.status()
        downloader.start(out, files)
        assert downloader.status() == 0
        assert tree(out) == wanted
        assert part_files(out) == []


def test_a_tar_goes_on_behind_its_last_whole_member(fetch, server, members, tmp_path) -> None:
    """What is whole is neither fetched nor written again."""
    data = tar(members)
    quick = RemoteFile("a.tar", url=f"{server.url}/a.tar")
    server.files["/a.tar"] = Served(data, turns=[])
    _begin_and_lose(server, quick, tmp_path / "out", cut=300_000)
    times = {p: (tmp_path / "out" / p).stat().st_mtime_ns for p in tree(tmp_path / "out")}
    assert 0 < len(times) < len(members)
    server.asked.clear()

    assert fetch("a.tar").status == "done"

    (asked,) = server.ranges_asked("/a.tar")
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    whole = list(members)[: len(times)]
    assert start == sum(512 + -(-len(members[p]) // 512) * 512 for p in whole)
    assert {p: (tmp_path / "out" / p).stat().st_mtime_ns for p in times} == times
    assert tree(tmp_path / "out") == expected(members)


@pytest.fixture
def close_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantskit.ingest.download.inflating.SPACING_BYTES", 20_000)


def begun_tar_gz(
    server: FileServer, members: dict[str, bytes], out: Path, **declared: str
) -> dict[str, int]:
    """Have a.tar.gz begun and lost; when each member that is whole was written."""
    server.files["/a.tar.gz"] = Served(tar_gz(members))
    file = RemoteFile("a.tar.gz", url=f"{server.url}/a.tar.gz", **declared)
    _begin_and_lose(server, file, out, cut=300_000)
    times = {p: (out / p).stat().st_mtime_ns for p in tree(out)}
    assert 0 < len(times) < len(members)
    server.asked.clear()
    return times


def first_byte_asked(server: FileServer) -> int:
    (asked,) = server.ranges_asked("/a.tar.gz")
    return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0


@pytest.mark.usefixtures("close_points")
def test_a_tar_gz_goes_on_at_the_last_point_before_what_is_missing(
    fetch, server, members, tmp_path
) -> None:
    out = tmp_path / "out"
    times = begun_tar_gz(server, members, out)
    whole = list(members)[: len(times)]
    before_missing = len(tar_gz({path: members[path] for path in whole}))

    outcome = fetch("a.tar.gz")

    assert (outcome.status, outcome.message) == ("done", "")
    # Noise is stored in blocks of 16 kB or more, so a point lies at most two spacings back.
    assert before_missing - 60_000 < first_byte_asked(server) < before_missing
    assert {p: (out / p).stat().st_mtime_ns for p in times} == times
    assert tree(out) == expected(members)
    assert sorted(p.name for p in (out / FOLDER).iterdir()) == ["a.tar.gz.json", "a.tar.gz.members"]


def test_a_tar_gz_that_is_killed_again_and_again_fetches_only_what_is_missing(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """Each kill comes when one more member is whole and little behind it was sent."""
    noise = random.Random(8)
    members = {f"member {n}": noise.randbytes(300_000) for n in range(6)}
    out, names = tmp_path / "out", list(members)
    ends = [len(tar_gz({path: members[path] for path in names[:n]})) for n in range(6)]
    data = tar_gz(members)
    files = [["a.tar.gz", f"{server.url}/a.tar.gz"]]
    known = 0
    for count in (1, 2, 3, 4):
        # One of its own for each round: the last one's connection may still be sending.
        served = server.files["/a.tar.gz"] = Served(data)

        def kill(position: int, served=served, count: int = count, before: int = known) -> None:
            if before + position > ends[count] + BLOCK_BYTES:  # so many are read at a time
                served.sent = lambda _: None
                _wait_for_point(out, ends[count - 1] - 60_000)
                downloader.kill()

        served.sent = kill
        server.asked.clear()
        downloader.start(out, files)
        assert downloader.status() == -signal.SIGKILL
        files_of(out, members)
        assert first_byte_asked(server) == known
        known = _first_byte_known(out)
        assert known > ends[count - 1] - 60_000
    server.files["/a.tar.gz"] = Served(data)
    server.asked.clear()
    downloader.start(out, files)
    assert downloader.status() == 0
    assert first_byte_asked(server) == known
    assert tree(out) == expected(members)
    assert part_files(out) == []


def _wait_for_point(out: Path, byte: int) -> None:
    """Until the download could go on behind this byte of the archive."""
    until = time.monotonic() + 20
    while _first_byte_known(out) <= byte and time.monotonic() < until:
        time.sleep(0.01)


def _first_byte_known(out: Path) -> int:
    journal = Journal(out, "a.tar.gz")
    return journal.point_before(journal.resume_at()).first_byte


@pytest.mark.usefixtures("close_points")
def test_what_was_verified_says_that_a_part_has_no_sha256(fetch, server, members, tmp_path) -> None:
    declared = {"sha256": hashlib.sha256(tar_gz(members)).hexdigest()}
    begun_tar_gz(server, members, tmp_path / "out", **declared)
    within = "length, CRC-32 of the gzip stream, member headers"
    assert fetch("a.tar.gz", **declared).facts["verified"] == [within]


@pytest.mark.usefixtures("close_points")
def test_a_server_without_ranges_sends_all_again(fetch, server, members, tmp_path) -> None:
    times = begun_tar_gz(server, members, tmp_path / "out")
    assert fetch("a.tar.gz", Served(tar_gz(members), ranges=False)).status == "done"
    assert {p: (tmp_path / "out" / p).stat().st_mtime_ns for p in times} == times
    assert tree(tmp_path / "out") == expected(members)


@pytest.mark.usefixtures("close_points")
def test_a_tar_gz_whose_point_is_no_use_is_read_from_its_beginning(
    fetch, server, members, tmp_path, monkeypatch
) -> None:
    """Damaged; a member before it is missing; no library that could take it up."""
    first = next(iter(members))
    for number, spoil in enumerate(
        (
            lambda out: (out / FOLDER / "a.tar.gz.point").write_text("{}"),
            lambda out: (out / "1" / first).unlink(),
            lambda _: monkeypatch.setattr(
                "pantskit.ingest.download.unpacking.system_zlib", lambda: None
            ),
        )
    ):
        mine = {f"{number}/{path}": data for path, data in members.items()}
        out = tmp_path / "out"
        file = RemoteFile("a.tar.gz", url=f"{server.url}/a.tar.gz")
        server.files["/a.tar.gz"] = Served(tar_gz(mine))
        _begin_and_lose(server, file, out, cut=300_000)
        assert (out / FOLDER / "a.tar.gz.point").is_file()
        spoil(out)
        server.asked.clear()
        assert fetch("a.tar.gz").status == "done"
        assert first_byte_asked(server) == 0
        assert tree(out) == expected(mine)
        shutil.rmtree(out)


@pytest.mark.usefixtures("close_points")
def test_a_bad_end_is_found_after_a_stop_and_nothing_is_kept(
    fetch, server, members, tmp_path
) -> None:
    for position, said in ((-8, "CRC-32"), (-1, "unpacks to"), (None, "cut short")):
        begun_tar_gz(server, members, tmp_path / "out")
        damaged = bytearray(tar_gz(members))
        if position is None:
            del damaged[-5:]
        else:
            damaged[position] ^= 1
        outcome = fetch("a.tar.gz", Served(bytes(damaged)))
        assert first_byte_asked(server) > 0
        assert outcome.status == "failed"
        assert outcome.message.startswith("a.tar.gz: damaged or cut short")
        assert said in outcome.message
        assert tree(tmp_path / "out") == {}
        assert list((tmp_path / "out" / FOLDER).iterdir()) == []


def test_after_a_loss_of_power_the_point_that_is_on_disk_is_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a.tar.gz")
    journal.begin('"1"', 100)
    points = []
    for number in (1, 2):
        (tmp_path / f"member {number}").write_bytes(b"12345")
        journal.add(Member(f"member {number}", 5, 1024 * number))
        points.append(Point(1024 * number - 100, 10 * number, 3, 5, 6, b"window"))
        journal.keep_point(points[-1])
        if number == 1:
            journal.sync()
    again = Journal(tmp_path, "a.tar.gz")
    assert again.point_before(2048) == points[1]
    assert again.point_before(1024) == points[0]
    assert again.point_before(900) == BEGINNING


@pytest.mark.usefixtures("close_points")
def test_another_file_after_a_stop_is_begun_again(fetch, server, members, tmp_path) -> None:
    for name, make in (("a.tar.gz", tar_gz), ("b.tar", tar), ("c.xlsx", tar)):
        server.files[f"/{name}"] = Served(make(members))
        file = RemoteFile(name, url=f"{server.url}/{name}")
        _begin_and_lose(server, file, tmp_path / "out", cut=300_000)
        new = {f"new/{path}": data for path, data in members.items()}
        outcome = fetch(name, Served(make(new), etag='"2"'))
        assert (outcome.status, outcome.message) == ("done", "")
        if name.endswith("xlsx"):
            assert (tmp_path / "out" / name).read_bytes() == make(new)
        else:
            assert tree(tmp_path / "out") == expected(new)
            for path in new:
                (tmp_path / "out" / path).unlink()


def test_a_file_that_was_done_is_never_mixed_with_another_version(fetch, members, tmp_path) -> None:
    """People may have worked on what is there; a member that is missing is no reason to lose it."""
    for name, make in (("a.tar.gz", tar_gz), ("b.tar", tar), ("c.zip", zipped)):
        mine = {f"{name[0]}/{path}": data for path, data in members.items()}
        fetch(name, Served(make(mine)))
        lost, corrected, *others = mine
        (tmp_path / "out" / lost).unlink()
        (tmp_path / "out" / corrected).write_bytes(b"corrected")
        kept = expected({corrected: b"corrected", **{path: mine[path] for path in others}})

        outcome = fetch(name, Served(make({"new": b"x" * 300_000, **mine}), etag='"2"'))
        assert outcome.status == "failed"
        assert "holds another version of it" in outcome.message
        assert {p: h for p, h in tree(tmp_path / "out").items() if p[0] == name[0]} == kept

        damaged = bytearray(make(mine))
        damaged[-30] ^= 1  # behind all members: they are written before it is found
        outcome = fetch(name, Served(bytes(damaged)), sha256="0" * 64)
        assert outcome.status == "failed"
        assert {p: h for p, h in tree(tmp_path / "out").items() if p[0] == name[0]} == kept


def test_a_plain_file_goes_on_where_it_stopped(fetch, server, tmp_path) -> None:
    data = random.Random(2).randbytes(900_000)
    server.files["/t.xlsx"] = Served(data)
    file = RemoteFile("t.xlsx", url=f"{server.url}/t.xlsx")
    _begin_and_lose(server, file, tmp_path / "out", cut=600_000)
    there = (tmp_path / "out" / FOLDER / "t.xlsx.part").stat().st_size
    assert there > 0
    server.asked.clear()
    assert fetch("t.xlsx").status == "done"
    assert server.ranges_asked("/t.xlsx") == [f"bytes={there}-"]
    assert (tmp_path / "out/t.xlsx").read_bytes() == data


def _begin_and_lose(server: FileServer, file: RemoteFile, out: Path, *, cut: int) -> None:
    """Have the server send so many bytes, and then nothing but errors."""
    from file_server import Turn

    served = server.files[f"/{file.name}"]
    served.turns = [Turn(cut=cut), *[Turn(status=500)] * QUICK.tries]
    (outcome,) = download(plan_download(of_files(file), out), QUICK)
    assert outcome.status == "failed"
    served.turns = []


def test_a_line_of_the_journal_that_was_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a.tar")
    journal.begin('"1"', 100)
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(b"12345")
        journal.add(Member(name, 5, 1024))
    path = tmp_path / FOLDER / "a.tar.members"
    path.write_bytes(path.read_bytes()[:-4])

    again = Journal(tmp_path, "a.tar")

    assert list(again.members) == ["first"]
    again.begin('"1"', 100)
    again.add(Member("third", 5, 2048))
    assert list(Journal(tmp_path, "a.tar").members) == ["first", "third"]


def test_after_a_restart_of_the_machine_only_what_is_on_disk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "a.tar")
    journal.begin('"1"', 100)
    journal.add(Member("first", 5, 1024))
    journal.sync()
    journal.add(Member("second", 5, 2048))
    assert list(Journal(tmp_path, "a.tar").members) == ["first", "second"]

    monkeypatch.setattr("pantskit.ingest.download.journal._boot", lambda: "another")
    again = Journal(tmp_path, "a.tar")
    assert list(again.members) == ["first"]
    again.begin('"1"', 100)
    again.add(Member("third", 5, 2048))
    monkeypatch.setattr("pantskit.ingest.download.journal._boot", lambda: "a third")
    assert list(Journal(tmp_path, "a.tar").members) == ["first"]


def test_two_downloads_into_one_folder_are_refused(server: FileServer, tmp_path: Path) -> None:
    mark = tmp_path / "out" / ".pantskit" / "running" / "download"
    mark.parent.mkdir(parents=True)
    file = RemoteFile("b.tar", url=f"{server.url}/b.tar")
    plan = plan_download(of_files(file), tmp_path / "out")
    with mark.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another download is writing to it"):
            download(plan, QUICK)
    (outcome,) = download(plan, QUICK)  # a mark that nobody holds is of a run that was killed
    assert "there is no such file" in outcome.message
