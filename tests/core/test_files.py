from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from pantskit.core import files
from pantskit.core.files import (
    TEMPORARY_PREFIX,
    atomic_folder,
    atomic_path,
    content_hash,
    explain_os_error,
    held,
    is_abandoned,
    jsonable,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.nii.gz"
    with atomic_path(path) as part:
        assert part.parent == path.parent
        assert part.name.startswith(TEMPORARY_PREFIX)
        assert part.name.endswith("a.nii.gz")
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_leaves_what_was_there(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def write() -> None:
        with atomic_path(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "before"


def test_ctrl_c_while_writing_leaves_nothing_half_written(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from pantskit.core.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1]) / 'a.bin') as part:\n"
        "    part.write_bytes(b'half')\n    print('writing', flush=True)\n    time.sleep(30)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(names(tmp_path)) == 1
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    process.stdout.close()
    assert names(tmp_path) == []


def test_two_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ended last
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError) as error:
            write_text(tmp_path / "a.txt", "x")
    finally:
        tmp_path.chmod(0o755)
    assert explain_os_error(error.value).startswith(f"{tmp_path / 'a.txt'}: Permission denied; ")


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(OSError) as error:  # noqa: PT011 (its kind depends on the system)
        write_text(tmp_path / "x" / "a.txt", "x")
    assert f"{tmp_path / 'x'}: " in explain_os_error(error.value)
    assert "in the way" in explain_os_error(error.value)
    assert names(tmp_path) == ["x"]


def test_a_folder_in_the_way_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_text(tmp_path / "a.txt", "x")
    line = explain_os_error(error.value)
    assert (
        line == f"{tmp_path / 'a.txt'}: Is a directory; a folder is in the way of the file; move it"
    )
    assert names(tmp_path) == ["a.txt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where this machine lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if not mount or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    path = small_disk / "a.bin"
    write_bytes(path, b"before")
    with pytest.raises(OSError, match="No space left") as error:
        write_bytes(path, bytes(2**21))
    assert error.value.errno == errno.ENOSPC
    assert explain_os_error(error.value) == (
        f"{path}: No space left on device; free some space there or write to another disk"
    )
    assert path.read_bytes() == b"before"
    assert names(small_disk) == ["a.bin"]


def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system") as error:
        write_text(small_disk / "a.txt", "x")
    assert explain_os_error(error.value) == (
        f"{small_disk / 'a.txt'}: Read-only file system; write to another folder"
    )


def test_a_disk_that_fills_on_flush_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_bytes(path, b"after")
    assert str(path) in explain_os_error(error.value)
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["a.bin"]


def test_json_is_of_plain_types_and_has_null_for_nan(tmp_path: Path) -> None:
    value = {
        1: np.float32(0.5),
        "nan": float("nan"),
        "inf": [np.inf, -np.inf],
        "array": np.arange(3, dtype=np.int16),
        "scalar": np.bool_(True),
        "path": Path("a/b"),
        "tuple": (1, (2,)),
        "none": None,
        "ä": "µ",
    }
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {
        "1": 0.5,
        "nan": None,
        "inf": [None, None],
        "array": [0, 1, 2],
        "scalar": True,
        "path": "a/b",
        "tuple": [1, [2]],
        "none": None,
        "ä": "µ",
    }
    assert text.endswith("}\n")


def test_what_json_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"x": object()})
    assert names(tmp_path) == []


def test_an_array_with_nan_becomes_null() -> None:
    assert jsonable(np.array([[1.0, np.nan]])) == [[1.0, None]]


def test_a_hash_is_of_the_content(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert content_hash(tmp_path / "a") == blake3(data).hexdigest()[:32]
    (tmp_path / "b").write_bytes(data)
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


def test_a_file_in_use_is_told_from_one_whose_process_died(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with held(path):
        assert not is_abandoned(path)
    assert is_abandoned(path)
    assert not is_abandoned(tmp_path / "none")


def test_only_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / f"{TEMPORARY_PREFIX}x-ct.nii.gz").touch()
    (deep / "ct.nii.gz").touch()
    with atomic_path(deep / "mask.nii.gz") as part:
        part.write_text("half")
        assert remove_leftovers(tmp_path) == 1
    assert names(deep) == ["ct.nii.gz", "mask.nii.gz"]


def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "export"
    with atomic_folder(place) as part:
        (part / "1.dcm").touch()
        assert not place.exists()
        assert remove_leftovers(tmp_path) == 0
    with suppress(RuntimeError), atomic_folder(place) as part:
        (part / "2.dcm").touch()
        raise RuntimeError
    assert (names(place), names(place.parent)) == (["1.dcm"], ["export"])
    with atomic_folder(place) as part:
        (part / "3.dcm").touch()
    assert (names(place), names(place.parent)) == (["3.dcm"], ["export"])


def test_a_folder_whose_process_was_killed_is_a_leftover(tmp_path: Path) -> None:
    half = tmp_path / f"{TEMPORARY_PREFIX}1-export"
    half.mkdir()
    (half / "1.dcm").touch()
    (tmp_path / f"{half.name}.held").touch()
    assert remove_leftovers(tmp_path) == 1
    assert names(tmp_path) == []
