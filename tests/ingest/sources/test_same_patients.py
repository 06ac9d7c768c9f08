"""One patient's scans stay on one side, in one dataset and across datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import Miniature, write_nifti
from typer.testing import CliRunner

from pantskit.check.cohort import Cohort, Measured
from pantskit.check.rules.cohort import patient_in_both_splits
from pantskit.cli.app import app
from pantskit.core.copies import Copies, read_copies, write_copies
from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.ingest.sources.same_patients import write_same_patients
from pantskit.train.begin import choose_cases
from pantskit.train.folds import case_facts, draw_folds


def _kits(mini: Miniature, root: Path) -> Path:
    folder = root / "case_00001"
    mini.write_ct(folder / "imaging.nii.gz")
    kidneys = mini.mask("kidney_left", "kidney_right")
    mini.write_labels(folder / "segmentation.nii.gz", {1: kidneys})
    return root


def _changed_spleen(mini: Miniature, root: Path) -> Path:
    """The same scan in MSD, clipped: its voxels are no longer equal."""
    task = root / "Task09_Spleen"
    clipped = np.clip(mini.ct.array, -160, 240)
    write_nifti(task / "imagesTr" / "spleen_002.nii.gz", clipped, mini.geometry)
    mini.write_labels(task / "labelsTr" / "spleen_002.nii.gz", {1: mini.mask("spleen")})
    return root


def _compare(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["duplicates", *map(str, arguments), "--workers", "0"])
    assert result.exit_code in (0, 1), result.output
    return result.output


def test_scan_that_is_tested_in_one_dataset_is_not_trained_on_in_another(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    kits = run("kits23", _kits(mini, tmp_path / "a"), out=tmp_path / "KITS")
    msd = run("msd", _changed_spleen(mini, tmp_path / "b"), out=tmp_path / "MSD", split="test")
    assert len(choose_cases(kits.dataset, "train", None, None, 0)[0]) == 1

    _compare(kits.root, msd.root, "--out", tmp_path / "compared", "--write")

    one, other = Dataset.open(kits.root), Dataset.open(msd.root)
    patient = one.metadata["KiTS23_00001"]["patient_id"]
    assert other.metadata["MSD_spleen_002"]["patient_id"] == patient
    assert read_copies(kits.root).held_out == {"KiTS23_00001": "MSD/MSD_spleen_002"}
    assert read_copies(msd.root).held_out == {}
    with pytest.raises(DatasetError, match="no cases to train on"):
        choose_cases(one, "train", None, None, 0)
    with pytest.raises(DatasetError, match="patient of the test case MSD/MSD_spleen_002"):
        choose_cases(one, "train", ["KiTS23_00001"], None, 0)


def test_changed_copies_in_one_dataset_lie_in_one_fold(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    out = tmp_path / "D"
    run("kits23", _kits(mini, tmp_path / "a"), out=out)
    made = run("msd", _changed_spleen(mini, tmp_path / "b"), out=out)
    assert made.dataset.info["same_scans"] == []

    _compare(out, "--out", tmp_path / "compared", "--write")

    dataset = Dataset.open(out)
    facts = case_facts(dataset, dataset.cases())
    assert len({fact.patient for fact in facts}) == 1
    others = [type(facts[0])(f"c{n}", f"p{n}") for n in range(5)]
    folds = draw_folds([*facts, *others], 3, seed=0)
    assert folds["KiTS23_00001"] == folds["MSD_spleen_002"]


def _dataset(root: Path, rows: dict[str, tuple[str, str]]) -> Dataset:
    dataset = Dataset.create(root)
    for case_id, (split, _) in rows.items():
        dataset.labels_path(case_id, split).mkdir(parents=True)
    dataset.write_metadata(
        {"case_id": c, "patient_id": p, "split": s} for c, (s, p) in rows.items()
    )
    return dataset


def test_all_scans_of_a_patient_go_with_the_one_that_was_found(tmp_path: Path) -> None:
    a = _dataset(tmp_path / "A", {"a1": ("train", "p"), "a2": ("train", "p"), "a3": ("train", "q")})
    b = _dataset(tmp_path / "B", {"b1": ("test", "x"), "b2": ("train", "y")})

    write_same_patients([a, b], [("A/a1", "B/b1")])

    first = read_copies(a.root)
    assert first.patients == {"a1": "A:p", "a2": "A:p"}
    assert first.held_out == {"a1": "B/b1", "a2": "B/b1"}
    assert read_copies(b.root) == Copies({"b1": "A:p"}, {})
    assert Dataset.open(a.root).metadata["a3"]["patient_id"] == "q"


def test_copies_are_written_anew_each_time(tmp_path: Path) -> None:
    a = _dataset(tmp_path / "A", {"a1": ("train", "p"), "a2": ("train", "q")})
    write_same_patients([a], [("A/a1", "A/a2")])
    assert Dataset.open(a.root).metadata["a2"]["patient_id"] == "A:p"

    write_same_patients([a], [])

    assert read_copies(a.root) == Copies()
    assert Dataset.open(a.root).metadata["a2"]["patient_id"] == "q"


def test_check_knows_copies_in_both_splits_as_one_patient(tmp_path: Path) -> None:
    a = _dataset(tmp_path / "A", {"a1": ("train", "p"), "a2": ("test", "q")})
    cases = (Measured("a1", "train"), Measured("a2", "test"))

    def told() -> list[str]:
        cohort = Cohort(cases, Dataset.open(a.root).metadata)
        return [fault.case_id for fault in patient_in_both_splits(cohort)]

    assert told() == []
    write_same_patients([a], [("A/a1", "A/a2")])
    assert told() == ["a2"]


def test_damaged_file_says_how_to_write_it_again(tmp_path: Path) -> None:
    write_copies(tmp_path, Copies({"a": "p"}))
    (tmp_path / "same_patients.json").write_text("[]")
    with pytest.raises(DatasetError, match="duplicates --write"):
        read_copies(tmp_path)
