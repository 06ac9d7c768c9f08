"""`pantskit ingest` as a user runs it, and what it left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pantskit.cli.app import app

# A process of its own between: a child's peak memory begins with that of who starts it.
_WRAPPER = """
import json, resource, subprocess, sys
status = subprocess.call(sys.argv[2:], stdout=open(sys.argv[1], "wb"))
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
json.dump([status, peak * (1 if sys.platform == "darwin" else 1024)], sys.stdout)
"""


@dataclass(frozen=True)
class Case:
    """One record of a run."""

    case_id: str
    status: str
    source: str
    reason: str


@dataclass(frozen=True)
class Report:
    """One run."""

    out: Path
    exit_status: int
    cases: tuple[Case, ...]
    printed: str

    @property
    def statuses(self) -> list[str]:
        """Of all cases, sorted."""
        return sorted(case.status for case in self.cases)

    def of(self, place: str) -> tuple[Case, ...]:
        """The cases whose source has this in its name."""
        return tuple(case for case in self.cases if place in case.source)

    def files(self, case: Case) -> list[Path]:
        """What lies in the dataset under a case's name; records excepted."""
        found = (p for p in self.out.rglob("*") if case.case_id in str(p) and p.is_file())
        return sorted(p for p in found if ".pantskit" not in p.parts)

    def ct(self, case: Case) -> Path:
        """The one CT of a case."""
        (path,) = (p for p in self.files(case) if p.name == "ct.nii.gz")
        return path

    def record(self, case: Case) -> dict[str, object]:
        """The record of a case, as it lies in the dataset."""
        (path,) = (self.out / ".pantskit" / "records" / "ingest").glob(f"{case.case_id}.json")
        values: dict[str, object] = json.loads(path.read_text("utf-8"))
        return values

    def check(self) -> None:
        """What is true of every run: records agree, and cases not done left no file."""
        bad = [c for c in self.cases if c.status in ("failed", "quarantined")]
        assert self.exit_status == (1 if bad else 0), self.printed[-2000:]
        for case in self.cases:
            record = self.record(case)
            assert record["status"] == case.status
            if case.status == "done":
                assert self.ct(case).is_file()
                continue
            assert record["message"], case
            assert self.files(case) == [], case
        parts = [p for p in self.out.rglob("*") if p.name.startswith(".pantskit-")]
        assert parts == []


def run_ingest(out: Path, *arguments: object, workers: int = 0) -> Report:
    """Run the command into a dataset; what it prints as JSON becomes the report."""
    words = ["ingest", *map(str, arguments), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, [*words, "--workers", str(workers)])
    assert result.exit_code in (0, 1), result.output[-2000:]
    return report_of(out, result.exit_code, result.stdout)


def run_measured(source: Path, out: Path, *, seconds: float) -> tuple[Report, float]:
    """The command in processes of its own, with one worker.

    Returns:
        Its report, and the largest memory that any of its processes had, in MiB.
    """
    printed = out.with_suffix(".json")
    words = [sys.executable, "-m", "pantskit", "ingest", str(source), "--out", str(out)]
    line = [sys.executable, "-c", _WRAPPER, str(printed), *words, "--json", "--workers", "1"]
    try:
        run = subprocess.run(line, capture_output=True, text=True, timeout=seconds, check=True)
    except subprocess.TimeoutExpired as ended:
        pytest.fail(f"no end after {seconds:.0f} s: {str(ended.stderr)[-500:]}")
    status, peak = json.loads(run.stdout)
    assert status in (0, 1), (status, run.stderr[-3000:])
    assert "Traceback" not in run.stderr
    return report_of(out, status, printed.read_text("utf-8")), peak / 2**20


def report_of(out: Path, exit_status: int, printed: str) -> Report:
    """The report that `--json` printed."""
    cases = tuple(
        Case(row["case_id"], row["status"], row["source"], " ".join(row["notes"]))
        for row in json.loads(printed)["cases"]
    )
    return Report(out, exit_status, cases, printed)
