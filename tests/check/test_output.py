"""Pictures, page, filters, accepted findings and mended versions, through the command."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from blocks import SHAPE, SPACING, block, painted, trunk
from PIL import Image
from typer.testing import CliRunner

from pantskit.check.dataset import check_dataset
from pantskit.check.findings import Severity
from pantskit.check.fix import fix_dataset
from pantskit.check.settings import CheckSettings
from pantskit.cli.app import app
from pantskit.core.copies import Copies, read_copies, write_copies
from pantskit.core.dataset import Dataset, mask_path, write_case_labels
from pantskit.core.errors import DatasetError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelvolumes import read_mask
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume

GRID = Geometry.from_spacing(SHAPE, SPACING, orientation="RAS")
STRAY = ((50, 52), (30, 32), (90, 92))


@pytest.fixture
def dataset(tmp_path):
    """A trunk of blocks whose liver has a stray and whose pancreas lacks a part of its head."""
    made = Dataset.create(tmp_path / "data")
    masks = trunk()
    masks["pancreas"] &= ~block((38, 40), (14, 20), (46, 50))
    masks["liver"] |= block(*STRAY)
    write_volume(made.image_path("case_1", "train"), Volume(painted(masks), GRID))
    write_case_labels(made, "case_1", "train", masks, GRID)
    return made


def run(*args):
    return CliRunner().invoke(app, ["check", *map(str, args), "--workers", "0"])


def test_command_filters_by_rule_severity_and_structure(dataset):
    result = run(dataset.root, "--json", "--rule", "stray", "--severity", "warning")
    findings = json.loads(result.stdout)["findings"]
    assert {(f["rule"], f["structure"]) for f in findings} == {("stray", "liver")}
    result = run(dataset.root, "--json", "--structure", "spleen", "--rule", "stray")
    assert json.loads(result.stdout)["findings"] == []
    assert result.exit_code == 0
    assert "did you mean stray" in run(dataset.root, "--rule", "strai").output


def test_page_and_pictures_show_each_finding_where_it_is(dataset, tmp_path):
    out = tmp_path / "out"
    result = check_dataset(dataset, out, pictures=50, workers=0)
    (stray,) = (f for f in result.findings if f.rule == "stray")
    assert all(a <= n < b for n, (a, b) in zip(stray.at, STRAY, strict=True))
    (path,) = (out / "pictures" / "case_1").glob("stray-liver-*.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    assert (pixels == (255, 196, 0)).all(axis=2).any()  # its outline
    page = (out / "index.html").read_text()
    assert "stray" in page
    assert page.count("data:image/jpeg;base64,") == len([f for f in result.findings if f.voxel])
    assert "http://" not in page
    rows = list(csv.DictReader((out / "findings.csv").open()))
    assert {r["rule"] for r in rows} == {f.rule for f in result.findings}


def test_structures_that_dataset_json_leaves_out_are_one_line_and_a_finding_each(dataset, tmp_path):
    path = dataset.root / "dataset.json"
    info = json.loads(path.read_text()) | {"annotated": ["aorta"]}
    path.write_text(json.dumps(info))
    left_out = [s for s in STRUCTURES if s in trunk() and s != "aorta"]
    assert len(left_out) > 6
    shown, out = sorted(left_out), tmp_path / "out"
    printed = run(dataset.root, "--rule", "description", "--out", out, "--pictures", 0).stdout
    (line,) = printed.splitlines()
    assert line.endswith(f": {', '.join(shown[:6])} and {len(shown) - 6} more")
    rows = json.loads((out / "findings.json").read_text())["findings"]
    assert sorted(r["structure"] for r in rows if r["rule"] == "description") == shown
    page = (out / "index.html").read_text()
    (card,) = re.findall(r'data-rule="description" data-structure="([^"]*)"', page)
    assert card.split() == shown
    assert f"{', '.join(shown[:-1])} and {shown[-1]}</p>" in page


def test_baseline_accepts_one_structure_of_a_line(dataset, tmp_path):
    dataset.info["annotated"] = ["aorta"]
    path = tmp_path / "accepted.csv"
    path.write_text("case_id,rule,structure,reason\n,description,liver,left out on purpose\n")
    result = check_dataset(dataset, baseline=path, workers=0)
    still = {f.structure for f in result.open if f.rule == "description"}
    assert still == set(trunk()) - {"aorta", "liver"}


def test_second_run_keeps_the_pictures_of_cases_that_did_not_change(dataset, tmp_path):
    out = tmp_path / "out"
    check_dataset(dataset, out, pictures=5, workers=0)
    before = {p: p.stat().st_mtime_ns for p in (out / "pictures").rglob("*.png")}
    check_dataset(dataset, out, pictures=5, workers=0)
    assert {p: p.stat().st_mtime_ns for p in (out / "pictures").rglob("*.png")} == before


def test_pictures_of_findings_that_are_gone_go_and_nothing_else(dataset, tmp_path):
    out = tmp_path / "out"
    check_dataset(dataset, out, pictures=50, workers=0)
    (stray,) = (out / "pictures").rglob("stray-liver-*.png")
    own = stray.with_name("holiday.png")
    own.write_bytes(b"mine")
    settings = CheckSettings(off=("stray",))
    check_dataset(dataset, out, pictures=50, settings=settings, workers=0)
    assert not stray.exists()
    assert own.exists()


def test_output_never_goes_into_the_dataset(dataset):
    for place in (dataset.root, dataset.root / "ImageTr" / "checked"):
        with pytest.raises(DatasetError, match="only read"):
            check_dataset(dataset, place, workers=0)
    assert not (dataset.root / "ImageTr" / "checked").exists()


def test_page_lists_rules_with_errors_first(dataset, tmp_path):
    settings = CheckSettings(severity={"stray": Severity.ERROR})
    check_dataset(dataset, tmp_path / "out", settings=settings, workers=0)
    page = (tmp_path / "out" / "index.html").read_text()
    rows = re.findall(r'<tr><td class="(\w+)">([\w-]+)</td>', page)
    assert rows[0] == ("error", "stray")
    order = ["error", "warning", "info"]
    assert [s for s, _ in rows] == sorted((s for s, _ in rows), key=order.index)


def test_accepted_findings_do_not_count(dataset, tmp_path):
    path = tmp_path / "accepted.csv"
    path.write_text("case_id,rule,structure,reason\ncase_1,stray,liver,a real accessory lobe\n")
    result = check_dataset(dataset, baseline=path, workers=0)
    (stray,) = (f for f in result.findings if f.rule == "stray")
    assert stray.accepted == "a real accessory lobe"
    assert stray not in result.open


def test_findings_of_the_dataset_as_a_whole_are_accepted_too(dataset, tmp_path):
    dataset.write_metadata([{"case_id": name} for name in ("case_1", "case_2")])
    path = tmp_path / "accepted.csv"
    path.write_text("case_id,rule,structure,reason\n,metadata-orphan,,still to come\n")
    result = check_dataset(dataset, baseline=path, workers=0)
    (orphan,) = (f for f in result.findings if f.rule == "metadata-orphan")
    assert orphan.accepted == "still to come"


def test_accepted_lines_of_cases_that_are_not_checked_are_not_outdated(dataset, tmp_path):
    path = tmp_path / "accepted.csv"
    path.write_text("case_id,rule,structure,reason\ncase_1,hu,liver,x\ncase_2,hu,liver,x\n")
    for cases, outdated in ((None, ["case_1", "case_2"]), (["case_1"], ["case_1"])):
        result = check_dataset(dataset, baseline=path, cases=cases, workers=0)
        assert [line.case_id for line in result.outdated] == outdated


def test_rules_are_listed_and_explained():
    listed = run("--rules").stdout
    assert "missed-slice" in listed
    assert "Standard:" in run("--explain", "parts-borders").stdout


def test_missing_dataset_argument_is_told():
    result = run()
    assert result.exit_code == 2
    assert "give the dataset" in result.output


def test_dry_run_tells_what_would_change_and_writes_nothing(dataset, tmp_path):
    result = run(dataset.root, "--fix", tmp_path / "new", "--dry-run", "--json")
    (changes,) = json.loads(result.stdout).values()
    told = {(c["structure"], c["added"], c["removed"]) for c in changes}
    # the stray has 2 x 2 x 2 voxels, the lost piece of the head 2 x 6 x 4; in the map the lung
    # comes to light under the stray, and the pancreas lies under its head
    assert told == {("liver", 0, 8), ("pancreas", 48, 0), ("", 8, 0)}
    assert not (tmp_path / "new").exists()


def test_new_version_is_mended_and_the_original_stays(dataset, tmp_path):
    files = {p: p.read_bytes() for p in dataset.root.rglob("*.nii.gz")}
    summary = fix_dataset(dataset, tmp_path / "new", workers=0)
    assert summary.exit_status == 0
    assert {p: p.read_bytes() for p in dataset.root.rglob("*.nii.gz")} == files
    new = Dataset.open(tmp_path / "new")
    assert new.info["version"] == "0+fix"
    rules = {f.rule for f in check_dataset(new, workers=0).findings}
    assert not rules & {"stray", "pancreas-parts", "overlap"}
    labels = new.case("case_1").labels()
    assert isinstance(labels, CaseLabels)
    assert np.array_equal(labels.mask("pancreas"), trunk()["pancreas"])
    assert np.array_equal(labels.mask("liver"), trunk()["liver"])
    assert np.array_equal(labels.mask("spleen"), trunk()["spleen"])


def test_mask_with_odd_values_becomes_binary(dataset, tmp_path):
    path = mask_path(dataset.labels_path("case_1", "train"), "spleen")
    spleen = trunk()["spleen"].astype(np.float32) * 2
    write_volume(path, Volume(spleen, GRID))
    summary = fix_dataset(dataset, tmp_path / "new", workers=0)
    words = " ".join(c["what"] for c in summary.records[0].data["changes"])
    assert "not binary" in words
    new = Dataset.open(tmp_path / "new")
    mended = read_mask(mask_path(new.labels_path("case_1", "train"), "spleen"))
    assert mended.faults == ()
    assert np.array_equal(mended.array, trunk()["spleen"])


def test_dry_run_without_fix_is_refused_and_so_is_what_fix_would_pass_over(dataset, tmp_path):
    assert "needs --fix" in run(dataset.root, "--dry-run").output
    for option in ("--out", "--settings", "--baseline"):
        result = run(dataset.root, "--fix", tmp_path / "new", option, tmp_path / "x")
        assert result.exit_code == 2
    assert not (tmp_path / "new").exists()


def test_new_version_never_goes_into_another_dataset(dataset, tmp_path):
    other = Dataset.create(tmp_path / "other", name="other")
    write_case_labels(other, "case_1", "train", trunk(), GRID)
    files = {p: p.read_bytes() for p in other.root.rglob("*") if p.is_file()}
    for dry_run in (True, False):
        with pytest.raises(DatasetError, match="give a new folder"):
            fix_dataset(dataset, other.root, dry_run=dry_run, workers=0)
    assert {p: p.read_bytes() for p in other.root.rglob("*") if p.is_file()} == files


def test_new_version_is_taken_up_where_it_stopped(dataset, tmp_path):
    write_case_labels(dataset, "case_2", "test", trunk(), GRID)
    fix_dataset(dataset, tmp_path / "new", cases=["case_1"], workers=0)
    assert fix_dataset(dataset, tmp_path / "new", workers=0).ran == ("case_2",)
    with pytest.raises(DatasetError, match="no case case_3"):
        fix_dataset(dataset, tmp_path / "new", cases=["case_3"], workers=0)


def test_new_version_keeps_what_the_dataset_says_of_itself(dataset, tmp_path):
    dataset.info["sources"] = {"pants": "CC BY-NC-SA"}
    dataset.write_info()
    write_copies(dataset.root, Copies(patients={"case_1": "P1"}, held_out={}))
    dataset.write_metadata([{"case_id": "case_1", "sex": "F"}, {"case_id": "gone"}])
    fix_dataset(Dataset.open(dataset.root), tmp_path / "new", workers=0)
    new = Dataset.open(tmp_path / "new")
    assert new.info["sources"] == {"pants": "CC BY-NC-SA"}
    assert new.info["annotated"] == dataset.info["annotated"]
    assert read_copies(new.root) == read_copies(dataset.root)
    assert new.metadata.keys() == {"case_1"}


def test_new_version_of_a_release_lists_what_every_case_has(dataset, tmp_path):
    (dataset.root / "dataset.json").unlink()
    write_case_labels(dataset, "case_2", "train", {"liver": trunk()["liver"]}, GRID)
    fix_dataset(Dataset.open(dataset.root), tmp_path / "new", workers=0)
    assert Dataset.open(tmp_path / "new").info["annotated"] == ["liver"]


def test_ct_behind_a_link_is_there_in_the_new_version(dataset, tmp_path):
    path = dataset.image_path("case_1", "train")
    path.rename(path.with_name("scan.nii.gz"))
    path.symlink_to("scan.nii.gz")
    fix_dataset(dataset, tmp_path / "new", workers=0)
    assert Dataset.open(tmp_path / "new").case("case_1").image_path.is_file()


def test_voxels_that_the_combined_map_gets_anew_are_counted(dataset, tmp_path):
    path = dataset.labels_path("case_1", "train") / "combined_labels.nii.gz"
    combined = read_volume(path)
    values = combined.array.copy(order="F")
    spleen = np.argwhere(values == STRUCTURES["spleen"].id)
    values[tuple(spleen[:5].T)] = 0
    values[tuple(spleen[5:7].T)] = STRUCTURES["liver"].id
    values[0, 0, 0] = 1
    write_volume(path, combined.with_array(values), label_space="pants")
    result = run(dataset.root, "--fix", tmp_path / "new", "--dry-run", "--json")
    (changes,) = json.loads(result.stdout).values()
    (of_map,) = (c for c in changes if c["what"].startswith("combined map"))
    # 5 and 2 voxels of the spleen, and 8 of the lung under the stray of the liver
    assert (of_map["added"], of_map["removed"]) == (15, 1)


def test_original_is_never_written_over(dataset):
    for place in (dataset.root, dataset.root / "fixed"):
        with pytest.raises(DatasetError, match="own folder"):
            fix_dataset(dataset, place, workers=0)
