"""What a server does to a download, and what comes of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
from types import SimpleNamespace

import pytest
from file_server import FileServer, Served, Turn, expected, tar, tar_gz, tree, zipped

from pantskit.ingest.download import unpacking
from pantskit.ingest.download.remote import Link

ARCHIVES = {"a.tar.gz": tar_gz, "a.tar": tar, "a.zip": zipped}


@pytest.fixture(params=ARCHIVES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_archive_is_unpacked_and_leaves_no_copy(fetch, members, name, tmp_path) -> None:
    data = ARCHIVES[name](members)
    outcome = fetch(name, Served(data), size=len(data), md5=hashlib.md5(data).hexdigest())

    assert (outcome.status, outcome.message) == ("done", "")
    assert tree(tmp_path / "out") == expected(members)
    kept = {p.name for p in (tmp_path / "out" / ".pantskit" / "downloads").iterdir()}
    assert kept == {f"{name}.json", f"{name}.members"}
    record = json.loads((tmp_path / f"out/.pantskit/downloads/{name}.json").read_text())
    assert record["members"] == len(members)
    assert record["bytes"] == sum(map(len, members.values()))
    # Of a .zip on a server not all bytes are read, so no checksum of the whole is compared.
    assert ("md5" in record["verified"]) == (name != "a.zip")


def test_a_plain_file_comes_whole_and_is_compared(fetch, tmp_path) -> None:
    data = bytes(range(256)) * 900
    sha256 = hashlib.sha256(data).hexdigest()
    outcome = fetch("metadata.xlsx", Served(data), size=len(data), sha256=sha256)
    assert outcome.status == "done"
    assert (tmp_path / "out/metadata.xlsx").read_bytes() == data
    assert outcome.facts["verified"] == ["sha256", "length"]


def test_a_rerun_asks_the_server_for_nothing(fetch, server, members, name, tmp_path) -> None:
    fetch(name, Served(ARCHIVES[name](members)))
    server.asked.clear()
    assert fetch(name).status == "unchanged"
    assert server.asked == []


def test_a_member_that_is_missing_is_fetched_again_and_others_stay(
    fetch, members, name, tmp_path
) -> None:
    fetch(name, Served(ARCHIVES[name](members)))
    lost, corrected, *_ = members
    (tmp_path / "out" / lost).unlink()
    (tmp_path / "out" / corrected).write_bytes(b"corrected by a reader")

    assert fetch(name).status == "done"

    found = tree(tmp_path / "out")
    wanted = expected(members | {corrected: b"corrected by a reader"})
    assert found == wanted
    outcome = fetch(name)
    assert outcome.status == "unchanged"
    assert f"1 of its files were changed since, as {corrected}" in outcome.message


@pytest.mark.parametrize(
    "turns",
    [
        [Turn(cut=90_000), Turn(cut=50_000), Turn(cut=1)],
        [Turn(stall=70_000)],
        [Turn(status=503, headers={"Retry-After": "0"}), Turn(status=429), Turn(status=500)],
        [Turn(cut=0)],
    ],
    ids=["drops", "stalls", "is busy", "closes at once"],
)
def test_trouble_that_passes_is_waited_for(fetch, members, name, tmp_path, turns) -> None:
    data = ARCHIVES[name](members)
    impatient = Link(stall_s=0.4, tries=30, backoff_s=0.01)
    md5 = hashlib.md5(data).hexdigest()
    outcome = fetch(name, Served(data, turns=turns), md5=md5, link=impatient)
    assert (outcome.status, outcome.message) == ("done", "")
    assert tree(tmp_path / "out") == expected(members)


def test_a_connection_that_broke_is_taken_up_where_it_broke(fetch, server, members) -> None:
    data = tar_gz(members)
    assert fetch("a.tar.gz", Served(data, turns=[Turn(cut=200_000)])).status == "done"
    first, second = server.ranges_asked("/a.tar.gz")
    assert first == ""
    # The last block may not have been read whole when the connection broke.
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 200_000
    assert server.asked[1][1]["If-Range"] == '"1"'


def test_a_server_without_ranges_sends_all_again(fetch, server, members, tmp_path) -> None:
    data = tar_gz(members)
    served = Served(data, ranges=False, turns=[Turn(cut=300_000), Turn(cut=350_000)])
    sha256 = hashlib.sha256(data).hexdigest()
    assert fetch("a.tar.gz", served, sha256=sha256).status == "done"
    assert len(server.asked) == 3
    assert tree(tmp_path / "out") == expected(members)


def test_a_zip_needs_ranges_and_says_what_to_do(fetch, members, tmp_path) -> None:
    large = random.Random(1).randbytes(3_000_000)  # its end is not near its beginning
    outcome = fetch("a.zip", Served(zipped({"0": large, **members}), ranges=False))
    assert outcome.status == "failed"
    assert "give its folder with --from" in outcome.message
    assert tree(tmp_path / "out") == {}


def test_a_server_that_tells_no_length_is_read_to_its_end(fetch, members, tmp_path) -> None:
    assert fetch("a.tar.gz", Served(tar_gz(members), lengthless=True)).status == "done"
    assert tree(tmp_path / "out") == expected(members)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar"])
def test_a_file_that_changes_meanwhile_is_begun_again(
    fetch, server, members, name, tmp_path
) -> None:
    """The old one's files go: they are not mixed with those of the new one."""
    new = {f"{path}.new": data for path, data in members.items()}
    served = Served(ARCHIVES[name](members), turns=[Turn(cut=300_000)])

    def change(position: int) -> None:
        if position >= 300_000 and served.etag == '"1"':
            served.data, served.etag = ARCHIVES[name](new), '"2"'

    served.sent = change
    outcome = fetch(name, served)
    assert (outcome.status, outcome.message) == ("done", "")
    assert tree(tmp_path / "out") == expected(new)


def test_a_file_that_changes_all_the_time_is_given_up(fetch, members, tmp_path) -> None:
    served = Served(tar_gz(members), turns=[Turn(cut=100_000)] * 9)

    def change(position: int) -> None:
        if position >= 100_000:
            served.etag = f'"{int(served.etag[1:-1]) + 1}"'

    served.sent = change
    outcome = fetch("a.tar.gz", served)
    assert outcome.status == "failed"
    assert "changes on the server while it is read" in outcome.message
    assert tree(tmp_path / "out") == {}


def test_a_length_that_was_not_declared_is_refused_before_anything(
    fetch, members, name, tmp_path
) -> None:
    data = ARCHIVES[name](members)
    outcome = fetch(name, Served(data), size=len(data) + 1)
    assert outcome.status == "failed"
    assert f"the server has {len(data)} bytes, {len(data) + 1} were expected" in outcome.message
    assert tree(tmp_path / "out") == {}


def test_a_server_that_promises_more_than_it_has_is_given_up(fetch, members, tmp_path) -> None:
    """It says one length, sends less, and of the rest it says that there is none."""
    data = tar_gz(members)
    outcome = fetch("a.tar.gz", Served(data, turns=[Turn(claim=10)] * 9))
    assert outcome.status == "failed"
    assert tree(tmp_path / "out") == {}


def test_another_part_than_was_asked_for_is_refused(fetch, members) -> None:
    turns = [Turn(cut=300_000), Turn(offset=7)]
    outcome = fetch("a.tar.gz", Served(tar_gz(members), turns=turns))
    assert outcome.status == "failed"
    assert "where bytes from" in outcome.message


def test_a_wrong_checksum_leaves_nothing(fetch, members, tmp_path) -> None:
    wrong = hashlib.sha256(b"another file").hexdigest()
    for name in ("a.tar.gz", "a.tar", "plain.xlsx"):
        made = ARCHIVES.get(name, tar)(members)
        outcome = fetch(name, Served(made), sha256=wrong)
        assert outcome.status == "failed"
        assert f"{wrong} was published" in outcome.message
    assert tree(tmp_path / "out") == {}
    assert not any((tmp_path / "out").glob("PanTS*"))


def test_a_server_that_stays_busy_is_given_up_and_what_came_is_kept(
    fetch, members, tmp_path
) -> None:
    data = tar(members)
    turns = [Turn(cut=200_000), *[Turn(status=503)] * 4]
    outcome = fetch("a.tar", Served(data, turns=turns))
    assert outcome.status == "failed"
    assert "the server answers 503; tried 4 times. Run the same command again" in outcome.message
    kept = tree(tmp_path / "out")
    assert 0 < len(kept) < len(members)
    assert kept.items() <= expected(members).items()
    assert fetch("a.tar").status == "done"
    assert tree(tmp_path / "out") == expected(members)


def test_retry_after_is_waited_for(fetch, members) -> None:
    turns = [Turn(status=429, headers={"Retry-After": "1"})]
    outcome = fetch("a.tar.gz", Served(tar_gz(members), turns=turns))
    assert outcome.status == "done"
    assert outcome.facts["seconds"] >= 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "an account is needed"),
        (403, "agree to its terms or licence"),
        (404, "there is no such file"),
        (410, "the file was removed"),
        (418, "the server answers 418"),
    ],
)
def test_what_will_not_pass_is_said_at_once(fetch, server, status, said) -> None:
    outcome = fetch("a.tar.gz", Served(b"", turns=[Turn(status=status)]))
    assert outcome.status == "failed"
    assert said in outcome.message
    assert f"{server.url}/a.tar.gz" in outcome.message
    assert "\n" not in outcome.message
    assert len(server.asked) == 1


def test_a_host_without_a_name_or_a_listener_is_one_line(fetch) -> None:
    quick = Link(stall_s=20, tries=2, backoff_s=0.01)
    unknown = fetch("a.tar", url="http://no-such-host.invalid/a.tar", link=quick)
    assert "no-such-host.invalid" in unknown.message
    closed = fetch("b.tar", url="http://127.0.0.1:9/b.tar", link=quick)
    assert "127.0.0.1:9: connection refused; tried 2 times" in closed.message
    for odd in ("no-scheme/c.tar", "file:///etc/passwd", "ftp://127.0.0.1/c.tar"):
        outcome = fetch("c.tar", url=odd, link=quick)
        assert outcome.message == f"{odd}: an address begins with https:// or http://"


def test_a_redirect_to_something_else_than_the_web_is_refused(fetch, server) -> None:
    outcome = fetch("a.tar", Served(b"", goes_to="ftp://127.0.0.1/a.tar"))
    assert "which is no web address" in outcome.message


def test_a_redirect_in_circles_is_one_line(fetch, server) -> None:
    outcome = fetch("a.tar", Served(b"", goes_to=f"{server.url}/a.tar"))
    assert outcome.status == "failed"
    assert "302" in outcome.message
    assert "\n" not in outcome.message


def test_a_size_that_only_the_server_knows_is_compared_with_the_disk(
    fetch, members, tmp_path, monkeypatch
) -> None:
    def usage(_: object) -> SimpleNamespace:
        return SimpleNamespace(free=1000)

    monkeypatch.setattr("shutil.disk_usage", usage)
    data = tar(members)
    outcome = fetch("a.tar", Served(data))
    assert outcome.status == "failed"
    assert f"a.tar needs {len(data) / 1000:.1f} kB" in outcome.message
    assert "and 1.0 kB are free; take another disk" in outcome.message
    assert tree(tmp_path / "out") == {}


def test_a_disk_that_fills_up_is_named_and_what_came_is_kept(
    fetch, members, tmp_path, monkeypatch
) -> None:
    fill, written = unpacking._fill, []

    def full(part: str, blocks: object) -> int:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(part)
        return fill(part, blocks)

    monkeypatch.setattr(unpacking, "_fill", full)
    outcome = fetch("a.tar.gz", Served(tar_gz(members)))
    assert outcome.status == "failed"
    sixth = list(members)[5]
    assert f"{sixth}: No space left on device; free some space there" in outcome.message
    monkeypatch.undo()
    assert tree(tmp_path / "out") == expected(dict(list(members.items())[:5]))
    assert fetch("a.tar.gz").status == "done"
    assert tree(tmp_path / "out") == expected(members)


def test_one_file_that_fails_does_not_stop_the_others(
    server: FileServer, members, tmp_path
) -> None:
    from tests.ingest.download.conftest import QUICK, of_files

    from pantskit.ingest.download.declared import RemoteFile
    from pantskit.ingest.download.plan import plan_download
    from pantskit.ingest.download.run import download

    files = []
    for n in range(5):
        part = {f"{n}/{path}": data for path, data in members.items()}
        server.files[f"/{n}.tar.gz"] = Served(tar_gz(part) if n != 3 else b"no archive at all")
        files.append(RemoteFile(f"{n}.tar.gz", url=f"{server.url}/{n}.tar.gz"))
    outcomes = download(plan_download(of_files(*files), tmp_path / "out"), QUICK, jobs=3)
    assert [o.status for o in outcomes] == ["done", "done", "done", "failed", "done"]
    assert {path.split("/")[0] for path in tree(tmp_path / "out")} == {"0", "1", "2", "4"}
