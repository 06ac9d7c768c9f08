"""What archives must not hold, and what becomes of damaged ones."""

from __future__ import annotations

import gzip
import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from file_server import Served, expected, tar, tar_gz, tree, zipped
from tests.ingest.download.conftest import QUICK, of_files

from pantskit.ingest.download.declared import RemoteFile
from pantskit.ingest.download.plan import plan_download
from pantskit.ingest.download.run import download


def odd(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


HOSTILE = {
    "leads out": (odd("PanTS_1/../../evil"), "leads out of the folder"),
    "absolute": (odd("/evil"), "has an absolute path"),
    "symlink": (odd("inside", tarfile.SYMTYPE, "/etc"), "is a link to '/etc'"),
    "symlink within": (odd("inside", tarfile.SYMTYPE, "PanTS_00000001"), "is a link to"),
    "hard link": (odd("inside", tarfile.LNKTYPE, "../../evil"), "is a link to"),
    "device": (odd("null", tarfile.CHRTYPE), "is a device or a pipe"),
    "block device": (odd("sda", tarfile.BLKTYPE), "is a device or a pipe"),
    "pipe": (odd("pipe", tarfile.FIFOTYPE), "is a device or a pipe"),
    "twice": (odd("PanTS_00000001/ct.nii.gz"), "comes twice"),
    "twice, otherwise spelt": (odd("./PanTS_00000001//ct.nii.gz"), "comes twice"),
    "file in a file": (odd("PanTS_00000001/ct.nii.gz/x"), "is a file and a folder"),
    "file for a folder": (odd("PanTS_00000001"), "is a file and a folder"),
    "records": (odd(".pantskit/downloads/a.tar.gz.json"), "pantskit's own records"),
    "backslash": (odd("..\\..\\evil"), "has a name that is no path here"),
    "drive": (odd("C:/evil"), "has a name that is no path here"),
    "long name": (odd("x" * 201), "has too long a name"),
    "deep name": (odd("x/" * 600 + "y"), "has too long a name"),
    "not UTF-8": (odd("caf\udce9"), "has a name that is not UTF-8"),
    "no name": (odd("./"), "has no name"),
    "folder that leads out": (odd("../out2", tarfile.DIRTYPE), "leads out of the folder"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tar_is_refused_with_its_member_and_leaves_nothing(
    fetch, members, tmp_path, case
) -> None:
    member, why = HOSTILE[case]
    outcome = fetch("a.tar.gz", Served(tar_gz(members, extra=(member,))))
    assert outcome.status == "failed"
    assert why in outcome.message
    assert repr(member.name[:200])[1:-1] in outcome.message
    assert tree(tmp_path / "out") == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_sparse_member_is_refused(fetch, tmp_path) -> None:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.numblocks": "1",
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    outcome = fetch("a.tar", Served(made.getvalue()))
    assert "'sparse' is a sparse file" in outcome.message


def test_a_member_that_grows_beyond_what_was_declared_is_refused(fetch, tmp_path) -> None:
    """40 MB of zeros are 40 kB on their way."""
    bomb = tar_gz({"small": b"x", "bomb": bytes(40_000_000)})
    outcome = fetch("a.tar.gz", Served(bomb), unpacked=1000)
    assert outcome.status == "failed"
    assert "member 'bomb' makes 40,000,001 bytes" in outcome.message
    assert tree(tmp_path / "out") == {}
    undeclared = fetch("b.tar.gz", Served(bomb))
    assert "member 'bomb' makes 40,000,001 bytes" in undeclared.message
    packed = fetch("c.zip", Served(zipped({"bomb": bytes(40_000_000)})), unpacked=1000)
    assert "member 'bomb' makes 40,000,000 bytes" in packed.message


def test_what_follows_the_end_of_a_tar_is_no_way_around(fetch, tmp_path) -> None:
    data = gzip.compress(tar({"small": b"x"}) + b"\1" * 40_000_000, 1)
    outcome = fetch("a.tar.gz", Served(data), unpacked=1000)
    assert "the end of the archive" in outcome.message


def test_a_header_that_claims_gigabytes_is_refused(fetch) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    data = header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)
    assert "a header of 8,589,934,592 bytes" in fetch("a.tar", Served(data)).message


def zip_of(*infos: zipfile.ZipInfo) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for info in infos:
            archive.writestr(info, b"/etc/passwd")
    return made.getvalue()


def zip_info(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("infos", "why"),
    [
        ([zip_info("../evil")], "leads out of the folder"),
        ([zip_info("/evil")], "has an absolute path"),
        ([zip_info("link", stat.S_IFLNK | 0o777)], "is a link"),
        ([zip_info("pipe", stat.S_IFIFO | 0o644)], "is a device or a pipe"),
        ([zip_info("x"), zip_info("./x")], "comes twice"),
    ],
)
def test_a_hostile_zip_is_refused_before_anything_is_written(fetch, tmp_path, infos, why) -> None:
    outcome = fetch("a.zip", Served(zip_of(zip_info("first"), *infos)))
    assert outcome.status == "failed"
    assert why in outcome.message
    assert tree(tmp_path / "out") == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_zip_with_a_password_is_named(fetch, members) -> None:
    data = bytearray(zipped({"secret": b"x"}))
    for magic, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(magic) + flags] |= 1
    assert "'secret' is protected by a password" in fetch("a.zip", Served(bytes(data))).message


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar", "a.zip"])
def test_an_archive_that_is_cut_short_leaves_nothing(fetch, members, tmp_path, name, share) -> None:
    """Its length is told as it is: the file itself is bad."""
    whole = {"a.tar.gz": tar_gz, "a.tar": tar, "a.zip": zipped}[name](members)
    if name == "a.tar":  # the zeros at its end may be fewer
        whole = whole[: len(whole) - 8 * 1024]
    outcome = fetch(name, Served(whole[: int(len(whole) * share)]))
    assert outcome.status == "failed"
    assert name in outcome.message
    assert "\n" not in outcome.message
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("share", [0.05, 0.4, 0.8])
@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_a_byte_that_is_damaged_is_found(fetch, members, tmp_path, name, share) -> None:
    data = bytearray({"a.tar.gz": tar_gz, "a.zip": zipped}[name](members))
    data[int(len(data) * share)] ^= 0x10
    outcome = fetch(name, Served(bytes(data)))
    assert outcome.status == "failed"
    assert "damaged" in outcome.message
    assert tree(tmp_path / "out") == {}


def test_a_header_that_is_damaged_is_not_taken_for_the_end(fetch, members, tmp_path) -> None:
    """tarfile ends in silence there; the members behind would be missing."""
    data = bytearray(tar(members))
    place = data.index(b"PanTS_00000004/ct.nii.gz")
    data[place : place + 40] = b"\xff" * 40
    outcome = fetch("a.tar", Served(bytes(data)))
    assert outcome.status == "failed"
    assert "damaged or cut short at byte" in outcome.message
    assert tree(tmp_path / "out") == {}


def test_something_else_under_the_name_of_an_archive_is_said(fetch) -> None:
    page = b"<html>log in, please</html>" * 100
    for name in ("a.tar.gz", "a.tar", "a.zip"):
        outcome = fetch(name, Served(page))
        assert outcome.status == "failed"
        assert name in outcome.message


def test_long_names_and_large_numbers_of_members_are_read(fetch, tmp_path) -> None:
    many = {f"{'folder' * 20}/{n:05d}/{'name' * 30}.nii.gz": b"%d" % n for n in range(300)}
    assert fetch("a.tar.gz", Served(tar_gz(many))).status == "done"
    assert tree(tmp_path / "out") == expected(many)


def test_junk_of_other_systems_is_left_out_and_counted(fetch, members, tmp_path) -> None:
    junk = {"._PanTS_00000001": b"x", "PanTS_00000001/.DS_Store": b"x", "__MACOSX/a/b": b"x"}
    outcome = fetch("a.tar.gz", Served(tar_gz({**junk, **members})))
    assert outcome.facts["left_out"] == 3
    assert tree(tmp_path / "out") == expected(members)


def test_files_that_were_there_before_are_replaced_whole(fetch, members, tmp_path: Path) -> None:
    first = tmp_path / "out" / next(iter(members))
    first.parent.mkdir(parents=True)
    first.write_bytes(b"an older one")
    assert fetch("a.tar.gz", Served(tar_gz(members))).status == "done"
    assert tree(tmp_path / "out") == expected(members)


def test_bytes_changed_at_random_are_refused_in_one_line_or_do_no_harm(tmp_path: Path) -> None:
    """What has a checksum is right or refused; nothing lies outside, and nothing else is raised."""
    noise = random.Random(20)
    members = {f"d{n}/{'n' * (n * 30)}.bin": noise.randbytes(700 * n) for n in range(6)}
    whole = {"a.tar": tar(members), "a.zip": zipped(members), "a.tar.gz": tar_gz(members)}
    for round_ in range(60):
        name = sorted(whole)[round_ % 3]
        data = bytearray(whole[name])
        for _ in range(noise.choice((1, 2, 5, 20))):
            # Headers of a .tar, the table of contents of a .zip, anything of a .tar.gz.
            place = {
                "a.tar": noise.randrange(len(data) // 512) * 512 + noise.randrange(160),
                "a.zip": len(data) - 1 - noise.randrange(500),
                "a.tar.gz": noise.randrange(len(data)),
            }[name]
            data[place] = noise.choice((noise.randrange(256), 0, 0xFF))
        root = tmp_path / str(round_)
        (root / "by hand").mkdir(parents=True)
        (root / "by hand" / name).write_bytes(data)
        file = RemoteFile(name, unpacked=20_000)
        plan = plan_download(of_files(file), root / "out", folder=root / "by hand")
        (outcome,) = download(plan, QUICK)
        assert "\n" not in outcome.message
        assert sorted(p.name for p in root.iterdir()) == ["by hand", "out"]
        found = set(tree(root / "out").values())
        assert not found or outcome.status == "done"
        assert name == "a.tar" or found <= set(expected(members).values())
