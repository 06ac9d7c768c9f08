"""Rules as values: names, explanations, settings, rules of one's own, baselines."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from blocks import block, scan

from pantskit.check.baseline import mark_accepted, read_baseline
from pantskit.check.case import check_arrays
from pantskit.check.findings import Finding, Severity
from pantskit.check.ranges import BUILT_IN, read_ranges
from pantskit.check.registry import built_in_rules, collect_rules
from pantskit.check.settings import CheckSettings
from pantskit.core.dataset import PHASES
from pantskit.core.errors import ConfigError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES

OWN = """
from pantskit.check.findings import Severity
from pantskit.check.registry import Scope, rule

@rule("liver-tiny", Severity.ERROR, Scope.CONTENT, reason="Nobody has one so small.", ml=500)
def liver_tiny(scan, limits):
    if "liver" in scan.regions and scan.ml("liver") < limits["ml"]:
        yield scan.fault("a tiny liver", "liver", scan.ml("liver"))
"""
LIVER = {"liver": block((20, 30), (10, 20), (40, 50))}  # 64 ml
GRID = Geometry.from_spacing((60, 40, 100), (4, 4, 4), orientation="RAS")


def test_every_rule_has_its_own_name_and_a_reason():
    names = [r.name for r in built_in_rules()]
    assert len(set(names)) == len(names)
    assert all(len(r.reason) > 10 for r in built_in_rules())


def test_explanation_holds_reason_standard_and_limits():
    (rule,) = (r for r in built_in_rules() if r.name == "parts-borders")
    text = rule.explain()
    assert rule.reason in text
    assert rule.standard in text
    assert "band_mm = 10" in text


def test_rule_of_ones_own_is_a_function_in_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    settings = CheckSettings(rules_from=(tmp_path / "mine.py",))
    found = check_arrays(LIVER, GRID, settings=settings)
    (own,) = (f for f in found if f.rule == "liver-tiny")
    assert (own.severity, own.value) == (Severity.ERROR, pytest.approx(64))


def test_rule_that_breaks_is_a_finding_and_the_others_still_count(tmp_path):
    (tmp_path / "mine.py").write_text(OWN.replace("liver-tiny", "broken") + "    1 / 0\n")
    found = check_arrays(LIVER, GRID, settings=CheckSettings(rules_from=(tmp_path / "mine.py",)))
    messages = {f.rule: f.message for f in found}
    assert "ZeroDivisionError" in messages["broken"]
    assert "volume" in messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN.replace("liver-tiny", "volume"), "two rules are called volume"),
        (OWN.replace("liver-tiny", "../liver"), "a name has small letters"),
        ("x = 1", "has no rule"),
        ("import no_such_module", "ModuleNotFoundError"),
    ],
)
def test_file_of_rules_that_cannot_be_used_is_refused(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        collect_rules([tmp_path / "mine.py"])


def test_file_of_rules_that_is_given_twice_counts_once(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    twice = [tmp_path / "mine.py", tmp_path / ".." / tmp_path.name / "mine.py"]
    assert [r.name for r in collect_rules(twice)].count("liver-tiny") == 1


def test_rule_of_ours_that_a_file_imports_is_no_second_one(tmp_path):
    text = "from pantskit.check.rules.organs import upside_down\n"
    (tmp_path / "mine.py").write_text(text + OWN)
    names = [r.name for r in collect_rules([tmp_path / "mine.py"])]
    assert names.count("upside-down") == 1
    assert "liver-tiny" in names


def test_settings_turn_rules_off_and_change_limits_and_severities(tmp_path):
    path = tmp_path / "check.toml"
    path.write_text(
        'off = ["straight-cut"]\n[severity]\nvolume = "info"\n[limits.stray]\nshare = 0.2'
    )
    settings = CheckSettings.read(path)
    found = check_arrays(LIVER, GRID, settings=settings)
    assert [(f.rule, f.severity) for f in found] == [("volume", Severity.INFO)]
    assert CheckSettings().fingerprint() != settings.fingerprint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("of = []", "no setting 'of'"),
        ('off = ["volum"]', "did you mean volume"),
        ('[severity]\nvolume = "fatal"', "fatal"),
        ("[limits.stray]\nsize = 1", "no limit 'size'"),
        ("[limits]\nstray = 1", "cannot be used"),
        ("off = [", "cannot be read"),
        ('off = "volume"', "off is 'volume'; expected a list of texts"),
        ("off = 3", "expected a list"),
        ('rules_from = "mine.py"', "expected a list of texts"),
        ("ranges = 3", "expected the name of a CSV file"),
        ("limits = 3", "limits is 3; expected a table"),
        ("[limits.stray]\nshare = nan", "stray.share is nan; expected a number"),
        ("[limits.stray]\nshare = true", "expected a number"),
        ('[limits.stray]\nshare = "wide"', "stray.share is 'wide'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "check.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        CheckSettings.read(path).rules()


def test_ranges_of_ones_own_replace_ours_where_they_speak(tmp_path):
    path = tmp_path / "ranges.csv"
    path.write_text(
        "structure,quantity,phase,low,high\nliver,volume_ml,,1,2\nliver,hu,arterial,3,4\n"
    )
    ranges = read_ranges(path)
    assert ranges.volume_ml("liver") == (1, 2)
    assert ranges.mean_hu("liver", "arterial") == (3, 4)
    assert ranges.mean_hu("liver", "delayed") == BUILT_IN.mean_hu("liver", "delayed")
    path.write_text("structure,quantity,phase,low,high\nlivers,volume_ml,,1,2\n")
    with pytest.raises(ConfigError, match="row 2"):
        read_ranges(path)


def test_every_structure_has_a_range_in_every_phase():
    for structure in STRUCTURES:
        for phase in (*PHASES, None, "unheard of"):
            low, high = BUILT_IN.mean_hu(structure, phase)
            assert low < high


def test_baseline_accepts_by_case_rule_and_structure(tmp_path):
    path = tmp_path / "accepted.csv"
    path.write_text(
        "case_id,rule,structure,reason\na,volume,liver,checked\n*,hu,*,old scanner\nb,sex,,x\n"
    )
    findings = [
        Finding("a", "volume", Severity.WARNING, "m", "liver"),
        Finding("a", "volume", Severity.WARNING, "m", "spleen"),
        Finding("z", "hu", Severity.WARNING, "m", "colon"),
    ]
    marked, outdated = mark_accepted(findings, read_baseline(path))
    assert [f.accepted for f in marked] == ["checked", "", "old scanner"]
    assert [line.case_id for line in outdated] == ["b"]
    path.write_text("case_id,rule,structure,reason\na,volume,liver,\n")
    with pytest.raises(ConfigError, match="line 2 has no reason"):
        read_baseline(path)


def test_voxel_of_a_finding_is_an_index_into_the_file():
    masks = {"liver": np.zeros((60, 40, 100), bool)}
    masks["liver"][20:30, 10:20, 40:50] = True
    view = scan(masks, orientation="LPS")
    # from voxel 20 to 29 toward the right is 30 to 39 along an axis that runs to the left
    i, j, k = view.widest("liver")
    assert 30 <= i < 40
    assert 20 <= j < 30
    assert 40 <= k < 50


def test_example_of_the_documentation_is_a_rule(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "quality.md").read_text("utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "spleen_large.py").write_text(code)
    settings = CheckSettings(rules_from=(tmp_path / "spleen_large.py",))
    spleen = {"spleen": block((10, 30), (10, 30), (40, 60))}  # 512 ml
    assert "spleen-large" in {f.rule for f in check_arrays(spleen, GRID, settings=settings)}


def test_every_rule_that_the_documentation_names_exists():
    page = (Path(__file__).parents[2] / "docs" / "quality.md").read_text("utf-8")
    table = page.split("## The annotation standard, sentence by sentence")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z-]+)`", table))
    assert named <= {r.name for r in built_in_rules()}
