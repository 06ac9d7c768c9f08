"""The demo's steps: their order, their commands, and what happens when one cannot run."""

from __future__ import annotations

import json

import pytest

from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.files import write_json
from pantskit.demo.path import ingest_steps, learning_steps, run_demo
from pantskit.demo.steps import Step, run_step


def test_last_site_is_held_out(tmp_path):
    series = [{"site": s} for s in ("a", "a", "b", "c", "b")]
    write_json(tmp_path / "dicom" / "manifest.json", {"series": series})
    splits = {s.name: s.arguments[-1] for s in ingest_steps(tmp_path)}
    assert splits == {"ingest-a": "train", "ingest-b": "train", "ingest-c": "test"}


def test_training_never_names_the_test_split(tmp_path):
    (train,) = [s for s in learning_steps(tmp_path) if s.name == "train"]
    assert "test" not in train.arguments


def test_commands_are_shown_as_typed_inside_the_folder(tmp_path):
    step = Step("check", "", ("check", str(tmp_path / "my data"), "--out", str(tmp_path / "c")), "")
    assert step.command(tmp_path) == "pantskit check 'my data' --out c"


def test_step_that_cannot_run_stops_the_demo_with_its_own_reason(tmp_path):
    step = Step("check", "", ("check", str(tmp_path / "nowhere")), "")
    with pytest.raises(PantskitError, match=r"pantskit check nowhere.*no such folder.*check\.txt"):
        run_step(step, tmp_path, on_line=lambda _: None)
    assert "no such folder" in (tmp_path / "logs" / "check.txt").read_text("utf-8")


def test_step_keeps_what_it_printed(tmp_path):
    seen = []
    result = run_step(Step("info", "", ("info", "--json"), ""), tmp_path, on_line=seen.append)
    assert result.exit_status == 0
    assert json.loads("\n".join(seen))
    assert (tmp_path / result.log).read_text("utf-8").startswith("$ pantskit info --json\n")


def test_missing_dicom_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        run_demo(tmp_path / "out", dicom=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        run_demo(tmp_path / "out")


@pytest.mark.timeout(3600)  # four minutes on two free cores
def test_whole_demo_finds_the_liver_of_the_held_out_site(tmp_path):
    result = run_demo(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "scores" / "summary.json").read_text("utf-8"))
    assert result.exit_status == 0
    assert summary["structures"]["liver"]["dsc"]["mean"] >= 0.75
