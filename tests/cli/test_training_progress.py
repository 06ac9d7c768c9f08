"""What a training shows: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import io

import pytest

from pantskit.cli import training_progress as showing
from pantskit.core.records import CaseRecord
from pantskit.train.curve import Epoch

FIRST = Epoch(1, 0.01, -0.25, None, None, 2.0)
SECOND = Epoch(2, 0.01, -0.5, -0.4, 0.625, 4.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_epoch_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with showing.training_progress() as listener:
        listener.say("planned: [this] and that")
        for epoch in (FIRST, SECOND):
            listener.epoch(epoch, 2)
    assert capsys.readouterr().err == (
        "planned: [this] and that\n"
        "epoch 1/2: loss -0.250, Dice -, 2 s\n"
        "epoch 2/2: loss -0.500, Dice 0.625, 4 s\n"
    )


def test_on_a_terminal_bars_follow_one_another_and_lines_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(showing.sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with showing.training_progress() as listener:
        listener.say("planned: [this] and that")
        assert "epoch" not in terminal.getvalue()
        with listener.cases("scan") as step:
            assert step is not None
            step(CaseRecord("c1", "scan", "done"), 1, 1)
        for epoch in (FIRST, SECOND):
            listener.epoch(epoch, 2)
        listener.say("fold 0 of 5")
    shown = terminal.getvalue()
    assert "planned: [this] and that" in shown
    assert "1/1" in shown
    assert "2/2" in shown
    assert "loss -0.500, Dice 0.625" in shown
    assert "fold 0 of 5" in shown
    assert shown.rindex("1/1") < shown.index("loss -0.250")
