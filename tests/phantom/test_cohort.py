"""Who is scanned where; the dataset on disk; the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pantskit.cli.app import app
from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError
from pantskit.core.labels import LESION, STRUCTURES
from pantskit.core.volume import read_volume
from pantskit.phantom.case import PhantomCase, make_case
from pantskit.phantom.cohort import make_cohort
from pantskit.phantom.scans import CohortPlan, plan_scan

PLAN = CohortPlan(cases=4, seed=5, tumor_rate=1.0, sites=3)


def test_case_depends_on_seed_and_number_alone(tumour_cases: list[PhantomCase]) -> None:
    again = make_case(replace(PLAN, cases=400), 2)
    assert (again.ct.array == tumour_cases[2].ct.array).all()
    assert (again.tissues == tumour_cases[2].tissues).all()
    other = make_case(replace(PLAN, seed=6), 2)
    assert other.ct.array.shape != again.ct.array.shape or (other.ct.array != again.ct.array).any()


def test_tumour_rate_holds_at_every_site() -> None:
    plan = CohortPlan(cases=600, seed=3)
    scans = [plan_scan(plan, number) for number in range(600)]
    rate = np.mean([scan.patient.tumour is not None for scan in scans])
    assert 0.08 < rate < 0.14
    for site in ("northfield", "suedstadt", "harbour"):
        own = [s.patient.tumour is not None for s in scans if s.site.name == site]
        assert 0.06 < np.mean(own) < 0.17
    parts = {s.patient.tumour.part for s in scans if s.patient.tumour}
    assert parts == {"head", "body", "tail"}


def test_two_scans_of_a_patient_share_person_site_and_split_but_not_phase() -> None:
    plan = CohortPlan(cases=200, seed=1)
    scans = [plan_scan(plan, number) for number in range(200)]
    by_patient: dict[str, list[int]] = {}
    for number, scan in enumerate(scans):
        by_patient.setdefault(scan.patient.patient_id, []).append(number)
    pairs = [numbers for numbers in by_patient.values() if len(numbers) == 2]
    assert 10 <= len(pairs) <= 45
    assert max(map(len, by_patient.values())) == 2
    for a, b in pairs:
        first, second = scans[a], scans[b]
        assert first.patient == second.patient
        assert first.site == second.site
        assert first.split == second.split
        assert first.phase != second.phase
        assert first.one_of_several
        assert second.one_of_several


def test_all_phases_and_both_sexes_occur() -> None:
    scans = [plan_scan(CohortPlan(cases=100, seed=2), number) for number in range(100)]
    assert {s.phase for s in scans} == {"non_contrast", "arterial", "portal_venous", "delayed"}
    assert {s.patient.sex for s in scans} == {"F", "M"}


def test_last_site_is_the_test_split_unless_told_otherwise() -> None:
    scans = [plan_scan(CohortPlan(cases=30, seed=2), number) for number in range(30)]
    assert {s.site.name for s in scans if s.split == "test"} == {"harbour"}
    told = CohortPlan(cases=30, seed=2, test_site="northfield")
    assert {plan_scan(told, n).split for n in range(30) if scans[n].site.name == "harbour"} == {
        "train"
    }
    share = CohortPlan(cases=300, seed=2, test_fraction=0.3)
    test = [plan_scan(share, n).split == "test" for n in range(300)]
    assert 0.2 < np.mean(test) < 0.4


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cases": 0}, "--cases"),
        ({"sites": 9}, "--sites"),
        ({"size": "huge"}, "--size"),
        ({"tumor_rate": 2.0}, "--tumor-rate"),
        ({"test_site": "nowhere"}, "--test-site"),
        ({"test_site": "harbour", "test_fraction": 0.5}, "not both"),
    ],
)
def test_settings_without_sense_are_refused(change: dict[str, object], word: str) -> None:
    plan = replace(PLAN, **change)
    with pytest.raises(ConfigError, match=word):
        plan.require_usable()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    result = CliRunner().invoke(
        app,
        [
            *("phantom", "--out", str(out), "--cases", "3", "--seed", "5", "--tumor-rate", "1.0"),
            *("--refine", "1", "--workers", "0", "--json"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["counts"] == {"done": 3}
    return out


def test_dataset_opens_with_every_structure_annotated(dataset: Path) -> None:
    opened = Dataset.open(dataset)
    assert [c.case_id for c in opened.cases()] == [f"Phantom_0000000{n}" for n in (1, 2, 3)]
    assert [c.split for c in opened.cases()] == ["train", "train", "test"]
    for case in opened.cases():
        labels, ct = case.labels(), read_volume(case.image_path)
        assert labels is not None
        assert labels.structures() == tuple(STRUCTURES)
        assert labels.geometry.same_grid(ct.geometry)
        assert ct.geometry.orientation == "LAI"
        assert ct.array.dtype == np.int16
        assert ct.array.min() >= -1000
        assert ct.array.max() <= 1000
        row = opened.metadata[case.case_id]
        assert row["lesions"] == 1
        assert row["shape"] == str(ct.geometry.shape)


def test_stored_masks_are_the_cases_own_in_the_same_place(
    dataset: Path, tumour_cases: list[PhantomCase]
) -> None:
    made = tumour_cases[2]  # the oblique site
    case = Dataset.open(dataset).case(made.scan.case_id)
    labels = case.labels()
    assert labels is not None
    for name in ("liver", LESION, "pancreatic_duct"):
        stored = labels.mask(name)
        assert stored is not None
        own = made.geometry.to_world(np.argwhere(made.mask(name)))
        found = labels.geometry.to_world(np.argwhere(stored))
        assert len(own) == len(found)
        assert np.abs(own.mean(axis=0) - found.mean(axis=0)).max() < 0.01


def test_truth_names_tumour_volume_and_its_basis(dataset: Path) -> None:
    truth = json.loads((dataset / "truth.json").read_text())["Phantom_00000001"]
    tumor = truth["tumor"]
    closed_ml = 4 / 3 * np.pi * np.prod(tumor["radii_mm"]) / 1000
    assert tumor["volume_ml"] == pytest.approx(closed_ml, rel=1e-5)
    assert tumor["part"] in ("head", "body", "tail")
    assert "closed form" in tumor["volume_basis"]
    assert truth["volumes_ml"]["liver"] > 600


def test_second_run_does_nothing(dataset: Path) -> None:
    plan = CohortPlan(cases=3, seed=5, tumor_rate=1.0)
    assert make_cohort(plan, dataset, refine=1, workers=0).ran == ()
