"""The release of PanTS, in small: fetched by its declaration, it opens and imports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer, Served, Turn, tar_gz, tree
from miniatures import Miniature
from openpyxl import Workbook
from tests.ingest.sources.conftest import mini as mini  # the phantom, in the layouts of others
from typer.testing import CliRunner

import pantskit.ingest.download as stage
from pantskit.cli.app import app
from pantskit.core.dataset import Dataset
from pantskit.ingest.download.declared import (
    ARCHIVES,
    Download,
    RemoteFile,
    known_downloads,
    read_download,
)
from pantskit.ingest.download.page import download_page

STRUCTURES = ("pancreas", "liver", "pancreatic_lesion")


@pytest.fixture(scope="session")
def release(mini: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """What an archive of the release holds, by its name, with one or two cases in it."""
    folder = tmp_path_factory.mktemp("release")
    mini.write_ct(folder / "ct.nii.gz")
    for structure in STRUCTURES:
        mini.write_labels(folder / f"{structure}.nii.gz", {1: mini.mask(structure)})
    book = Workbook()
    assert book.active is not None
    book.active.append(["PanTS ID", "sex", "age", "ct phase"])
    for case in (1, 9000, 9001):
        book.active.append([f"PanTS_{case:08d}", "M", 60, "Venous"])
    book.save(folder / "metadata.xlsx")

    def content(name: str) -> bytes:
        if name == "metadata.xlsx":
            return (folder / name).read_bytes()
        if name == "PanTSMini_Label.tar.gz":
            masks = {
                f"PanTS_{case:08d}/segmentations/{s}.nii.gz": folder / f"{s}.nii.gz"
                for case in (1, 9000, 9001)
                for s in STRUCTURES
            }
            return tar_gz({path: file.read_bytes() for path, file in masks.items()})
        first = int(name.split("_")[2])
        cases = {1: (1,), 8001: (9000,), 9001: (9001,)}.get(first, ())
        ct = (folder / "ct.nii.gz").read_bytes()
        return tar_gz({f"PanTS_{case:08d}/ct.nii.gz": ct for case in cases} or {"README": b"none"})

    return content


@pytest.fixture
def served_release(
    server: FileServer, release: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> Download:
    """The declared files on the server of the test, with the sizes that they have there."""

    def there(file: RemoteFile) -> RemoteFile:
        data = release(file.name)
        server.files[f"/{file.name}"] = Served(data)
        sha256 = hashlib.sha256(data).hexdigest() if file.sha256 else ""
        url = f"{server.url}/{file.name}"
        return replace(file, url=url, size=len(data), sha256=sha256, unpacked=None)

    declared = read_download("pants")
    found = replace(declared, files=tuple(there(f) for f in declared.files))
    monkeypatch.setattr(stage, "read_download", lambda *_, **__: found)
    return found


def call(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, result.output


def test_the_release_opens_and_imports_as_it_was_fetched(
    served_release: Download, server: FileServer, mini: Miniature, tmp_path: Path
) -> None:
    out = tmp_path / "PanTS"
    server.files["/PanTSMini_Label.tar.gz"].turns = [Turn(cut=5000)]

    code, text = call("download", "pants", "--out", out, "--backoff", "0.01", "--stall", "5")

    assert code == 0, text
    assert "12 done" in text
    assert "next: pantskit import pants" in text
    assert "cite: Li W, Zhou X" in text
    assert set(tree(out)) == {
        "metadata.xlsx",
        *(f"Image{s}/PanTS_{c:08d}/ct.nii.gz" for s, c in (("Tr", 1), ("Tr", 9000), ("Te", 9001))),
        *(
            f"Label{s}/PanTS_{c:08d}/segmentations/{structure}.nii.gz"
            for s, c in (("Tr", 1), ("Tr", 9000), ("Te", 9001))
            for structure in STRUCTURES
        ),
    }
    dataset = Dataset.open(out)
    assert [case.case_id for case in dataset.cases()] == [
        "PanTS_00000001",
        "PanTS_00009000",
        "PanTS_00009001",
    ]
    labels = dataset.case("PanTS_00009001").labels()
    assert labels is not None
    assert set(labels.structures()) >= set(STRUCTURES)

    code, text = call("import", "pants", out, "--out", tmp_path / "D", "--workers", "0")
    assert code == 0, text
    mask = Dataset.open(tmp_path / "D").case("PanTS_00000001").labels().mask("pancreatic_lesion")
    assert (mask == mini.truth("pancreatic_lesion")).all()

    code, text = call("download", "pants", "--out", out)
    assert code == 0
    assert "12 unchanged" in text


def test_a_part_of_the_release_can_be_chosen(
    served_release: Download, server: FileServer, tmp_path: Path
) -> None:
    chosen = ("--images", "--metadata", "--files", "*ImageTe*", "--files", "metadata*")
    code, text = call("download", "pants", *chosen, "--out", tmp_path / "P", "--json")
    told = json.loads(text)
    assert code == 0
    assert {f["name"]: f["status"] for f in told["files"]} == {
        "metadata.xlsx": "done",
        "PanTSMini_ImageTe_00009001_00009901.tar.gz": "done",
    }
    assert set(tree(tmp_path / "P")) == {"metadata.xlsx", "ImageTe/PanTS_00009001/ct.nii.gz"}
    assert {path for path, _ in server.asked} == {f"/{f['name']}" for f in told["files"]}


def test_a_dry_run_asks_nobody_and_writes_nothing(
    served_release: Download, server: FileServer, tmp_path: Path
) -> None:
    out = tmp_path / "P"
    code, text = call("download", "pants", "--labels", "--out", out, "--dry-run", "--json")
    told = json.loads(text)
    assert code == 0
    assert [f["name"] for f in told["files"]] == ["PanTSMini_Label.tar.gz"]
    assert told["to_fetch_bytes"] == len(server.files["/PanTSMini_Label.tar.gz"].data)
    assert told["free_bytes"] > 0
    assert told["out"] == str(out)
    assert server.asked == []
    assert not out.exists()
    code, text = call("download", "pants", "--out", out, "--dry-run")
    assert "PanTSMini_ImageTr_00008001_00009000.tar.gz" in text
    assert "are free" in text


def test_archives_fetched_by_hand_are_unpacked_from_their_folder(
    served_release: Download, server: FileServer, release: Callable[[str], bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "by hand"
    folder.mkdir()
    for name in ("PanTSMini_Label.tar.gz", "metadata.xlsx"):
        (folder / name).write_bytes(release(name))
    code, text = call("download", "pants", "--from", folder, "--out", tmp_path / "P")
    assert code == 0, text
    assert server.asked == []
    assert len(tree(tmp_path / "P")) == 3 * len(STRUCTURES) + 1
    (folder / "PanTSMini_ImageTe_00009001_00009901.tar.gz").write_bytes(b"half of it")
    code, text = call("download", "pants", "--images", "--from", folder, "--out", tmp_path / "P")
    assert code == 1
    assert "10 bytes" in text
    assert "not whole, or another version" in text


def test_a_dataset_behind_an_account_says_where_to_go_and_takes_archives(tmp_path: Path) -> None:
    code, text = call("download", "lits", "--out", tmp_path / "L")
    assert code == 2
    assert "https://competitions.codalab.org/competitions/17094" in text
    assert "--from FOLDER" in text
    code, text = call("download", "lits", "--from", tmp_path, "--out", tmp_path / "L")
    assert code == 2
    assert "no archive of lits is there" in text
    (tmp_path / "Training_Batch1.tar.gz").write_bytes(tar_gz({"volume-0.nii": b"not a scan"}))
    code, text = call("download", "lits", "--from", tmp_path, "--out", tmp_path / "L")
    assert code == 0, text
    assert set(tree(tmp_path / "L")) == {"volume-0.nii"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pnats", "--out", "X"), "dataset 'pnats' is not known; it is one of"),
        ((), "--list to see the names"),
        (("pants",), "--out"),
        (("msd", "--labels", "--out", "X"), "all of it is in one archive"),
        (("pants", "--files", "*.rar", "--out", "X"), "has no file *.rar; it has metadata.xlsx"),
        (("lits", "--from", "no-such", "--out", "X"), "no such folder"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = call("download", *words)
    assert code == 2
    assert said in text
    assert len(text.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_anything(
    served_release: Download,
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10_000, 0, 10_000))
    code, text = call("download", "pants", "--out", tmp_path / "P")
    assert code == 2
    assert "are needed and 10.0 kB are free; take another disk" in text
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_one_line(served_release: Download, tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    code, text = call("download", "pants", "--metadata", "--out", tmp_path / "file" / "P")
    assert code == 2
    assert "a file is in the way of the folder" in text
    assert len(text.strip().splitlines()) == 1


def test_the_list_names_every_dataset_and_what_needs_an_account() -> None:
    code, text = call("download", "--list")
    assert code == 0
    for one in known_downloads():
        assert one.source.name in text
    assert "361.3 GB" in text


def test_the_page_of_downloads_is_what_the_declarations_say() -> None:
    page = Path(__file__).parents[3] / "docs" / "download.md"
    assert download_page() in page.read_text(), "write it again: scripts/write_dataset_page.py"


def test_declarations_are_whole() -> None:
    """A name that decides how it is unpacked, https, and checksums that can be one."""
    for one in known_downloads():
        names = [f.name for f in one.files]
        assert len(names) == len(set(names))
        assert one.files or one.where.startswith("http")
        if one.files:
            assert one.seen_in
        for file in one.files:
            assert file.url.startswith("https://")
            assert file.suffix in ARCHIVES or file.kind == "metadata"
            assert len(file.sha256) in (0, 64)
            assert len(file.md5) in (0, 32)


@pytest.mark.parametrize(
    ("member", "path"),
    [
        ("PanTS_00000001/combined_labels.nii.gz", "LabelTr/PanTS_00000001/combined_labels.nii.gz"),
        ("PanTS_00008999/segmentations/a.nii.gz", "LabelTr/PanTS_00008999/segmentations/a.nii.gz"),
        ("PanTS_00009000/segmentations/a.nii.gz", "LabelTr/PanTS_00009000/segmentations/a.nii.gz"),
        ("PanTS_00009001/segmentations/a.nii.gz", "LabelTe/PanTS_00009001/segmentations/a.nii.gz"),
        ("All/PanTS_00009901/ct.nii.gz", "LabelTe/PanTS_00009901/ct.nii.gz"),
        ("README.md", None),
    ],
)  # fmt: skip
def test_labels_go_to_their_side_of_the_split(member: str, path: str | None) -> None:
    (labels,) = (f for f in read_download("pants").files if f.kind == "labels")
    assert labels.path(member) == path
