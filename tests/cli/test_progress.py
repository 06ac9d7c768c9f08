from __future__ import annotations

import io

import pytest

from pantskit.cli import progress
from pantskit.cli.progress import case_progress, report_cases
from pantskit.core.records import CaseRecord
from pantskit.core.run import RunSummary

DONE = CaseRecord("c1", "score", "done")
FAILED = CaseRecord("c2", "score", "failed", "c2: no prediction")
QUARANTINED = CaseRecord("c3", "score", "quarantined", "slices are missing")
SKIPPED = CaseRecord("c4", "score", "skipped", "c4: a localizer")


def test_without_a_terminal_each_case_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with case_progress("score") as step:
        assert step is not None
        for n, record in enumerate((DONE, FAILED, QUARANTINED), 1):
            step(record, n, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "score 1/3 c1: done\n"
        "score 2/3 c2: failed: no prediction\n"
        "score 3/3 c3: quarantined: slices are missing\n"
    )


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with case_progress("score", quiet=True) as step:
        assert step is None
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_counts_and_what_fails_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with case_progress("score") as step:
        assert step is not None
        for n, record in enumerate((DONE, FAILED), 1):
            step(record, n, 2)
    shown = terminal.getvalue()
    assert "2/2" in shown
    assert "c2: failed: no prediction" in shown
    assert "c1: done" not in shown


def test_the_end_of_a_run_names_what_was_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    report_cases(RunSummary("score", (DONE, FAILED, QUARANTINED, SKIPPED)), where=" in SCORES")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "failed: c2: no prediction\n"
        "quarantined: c3: slices are missing\n"
        "score: 1 done, 1 failed, 1 quarantined, 1 skipped in SCORES\n"
    )


def test_cases_that_failed_for_one_reason_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    records = [CaseRecord(c, "score", "failed", f"{c}: no labels in {c}.nii.gz") for c in "abc"]
    report_cases(RunSummary("score", (*records, QUARANTINED)))
    assert capsys.readouterr().err == (
        "failed: a: no labels in a.nii.gz (so are b, c)\n"
        "quarantined: c3: slices are missing\n"
        "score: 3 failed, 1 quarantined\n"
    )
