"""What a library says of a file it reads may quote the file; the terminal and logs never do."""

from __future__ import annotations

import os
import subprocess
import sys

import pydicom
import pytest

# As somebody would run it who wants to see every warning and every line of every log.
SCRIPT = """
import logging, sys
logging.basicConfig(level=0)
from pantskit.cli import main
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def source(series, tmp_path):
    """A series whose header makes pydicom warn, and quote it; its files are named after people."""
    made = series(attributes={"SpecificCharacterSet": "KASTANIENALLEE"})
    folder = made.write(tmp_path / "in")
    for path in folder.iterdir():
        path.rename(folder / f"Quellmann_{path.name}")
    with pytest.warns(UserWarning, match="KASTANIENALLEE"):
        str(pydicom.dcmread(min(folder.iterdir())))
    # Cut off within a sequence without a length: pydicom's log names the file then.
    (folder / "Quellmann_end").write_bytes(min(folder.iterdir()).read_bytes()[:700])
    return folder


@pytest.mark.parametrize(("what", "workers"), [("--list", 0), ("--out", 0), ("--out", 2)])
def test_terminal_shows_no_value_and_no_name_of_a_file(source, tmp_path, what, workers):
    out = [str(tmp_path / "out")] if what == "--out" else []
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), "ingest", str(source), what, *out]
    done = subprocess.run(
        [*command, "--workers", str(workers)],
        env={**os.environ, "PYTHONWARNINGS": "always"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "(5 files)" in done.stdout
    assert "kastanienallee" not in (done.stdout + done.stderr).lower()
    own_place = "Quellmann_end"  # of a damaged file the report names the place, as it should
    assert "quellmann" not in done.stdout.replace(own_place, "").lower()
    # The folder is named by whoever gives it; errors and progress name nothing.
    assert "quellmann" not in done.stderr.lower()
    assert str(source) not in done.stderr
    assert "arning" not in done.stderr
