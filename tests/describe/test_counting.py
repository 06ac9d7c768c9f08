"""What is counted in a dataset on disk, and what is said to be missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.labels import LESION
from pantskit.core.records import CaseRecord
from pantskit.describe.counting import Tumours, count_dataset, shared_case_ids


def test_cases_scans_structures_and_people_are_counted(three_cases: Dataset) -> None:
    counts, run = count_dataset(three_cases, workers=0)
    assert run.exit_status == 0
    assert (counts.name, counts.cases, counts.scans, counts.unlabelled) == ("ours", 3, 2, 0)
    assert counts.by_split == {"train": 2, "test": 1}
    annotated = {s: n for s, n in counts.annotated.items() if n}
    assert annotated == {"pancreas": 3, LESION: 2, "liver": 1, "pancreas_head": 1}
    assert counts.tumours == Tumours(drawn=1, none_drawn=1, unknown=1)
    assert counts.tumours.positive == 1
    assert counts.patients.number == 2
    assert counts.institutions.values == ("North", "South")
    assert (counts.countries.values, counts.countries.missing) == (("DE",), 2)
    assert (counts.manufacturers.values, counts.manufacturers.missing) == (("GE",), 2)
    assert (counts.without_metadata, counts.rows_without_files) == (0, 0)


def test_without_metadata_everything_about_people_is_missing_and_not_zero(
    make_dataset: Callable[..., Dataset],
) -> None:
    counts, _ = count_dataset(make_dataset({"c1": {"liver": True}}), workers=0)
    for found in (counts.patients, counts.institutions, counts.countries, counts.manufacturers):
        assert (found.number, found.missing) == (None, 1)
    assert counts.tumours.positive is None
    assert counts.without_metadata == 1


def test_metadata_tell_of_a_tumour_only_where_none_is_drawn(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(
        {
            "c1": {LESION: False, "pancreas": True},
            "c2": {LESION: True, "pancreas": True},
            "c3": {"liver": True},
            "c4": {"liver": True},
            "c5": {"liver": True},
        },
        {
            "c1": {"lesions": 2},
            "c2": {"lesions": 0},
            "c3": {"lesions": 1},
            "c4": {"lesions": 0},
            "c5": {"lesions": None},
        },
    )
    found = count_dataset(dataset, workers=0)[0].tumours
    assert found == Tumours(
        drawn=1, told=1, none_drawn=1, told_none=1, unknown=1, only_told=1, only_drawn=1
    )
    assert (found.positive, found.known) == (2, 4)


def test_names_of_sites_and_countries_in_one_cell_are_told_apart(
    make_dataset: Callable[..., Dataset],
) -> None:
    site = "Mayo  Clinic; Yale University;mayo clinic"
    dataset = make_dataset(
        {f"c{n}": {"liver": True} for n in range(4)},
        {
            "c0": {"site": "15 Sites", "site_detail": site, "nationality": "US; CA"},
            "c1": {"site": "1 Site", "site_detail": "NA", "nationality": "us"},
            "c2": {"site": "1 Site", "site_detail": "", "nationality": "DE/NL,IL"},
            "c3": {"site": "1 Site", "site_detail": None, "nationality": "unknown"},
        },
    )
    counts, _ = count_dataset(dataset, workers=0)
    assert counts.institutions.column == "site_detail"
    assert counts.institutions.values == ("Mayo Clinic", "Yale University")
    assert counts.institutions.missing == 3
    assert counts.countries.values == ("CA", "DE", "IL", "NL", "US")


def test_a_number_of_sites_is_no_site(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset({"c1": {"liver": True}}, {"c1": {"site": "15 Sites"}})
    assert count_dataset(dataset, workers=0)[0].institutions.number is None


def test_the_name_of_the_dataset_a_case_was_imported_from_is_no_site(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(
        {"c1": {"liver": True}, "c2": {"liver": True}},
        {
            "c1": {"site": "msd_ct", "patient_id": "c1"},
            "c2": {"site": "Basel", "patient_id": "p9"},
        },
    )
    data = {"source": {"dataset": "msd_ct"}}
    dataset.records.write(CaseRecord("c1", "import", "done", data=data))
    counts, _ = count_dataset(dataset, workers=0)
    assert counts.institutions.values == ("Basel",)
    assert counts.scans_as_patients == 1


def test_a_case_that_cannot_be_read_is_named_and_counted_nowhere(three_cases: Dataset) -> None:
    three_cases.image_path("c1", "train").write_bytes(b"nonsense")
    counts, run = count_dataset(three_cases, workers=0)
    assert run.exit_status == 1
    assert list(counts.unread) == ["c1"]
    assert "ct.nii.gz" in counts.unread["c1"]
    assert (counts.cases, counts.scans, counts.annotated["liver"]) == (2, 1, 0)
    assert counts.tumours.positive == 0  # c2 is known to have none


def test_rows_without_files_are_told(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset({"c1": {"liver": True}}, {"c1": {}, "c2": {}})
    assert count_dataset(dataset, workers=0)[0].rows_without_files == 1


def test_the_dataset_is_only_read(three_cases: Dataset) -> None:
    before = {p: p.stat().st_mtime_ns for p in three_cases.root.rglob("*")}
    count_dataset(three_cases, workers=0)
    assert {p: p.stat().st_mtime_ns for p in three_cases.root.rglob("*")} == before


def test_a_dataset_without_a_case_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ImageTr").mkdir()
    with pytest.raises(DatasetError, match="without any case"):
        count_dataset(Dataset.open(tmp_path), workers=0)


def test_case_ids_that_two_datasets_share_are_found(
    three_cases: Dataset, make_dataset: Callable[..., Dataset]
) -> None:
    other = make_dataset({"c1": {"liver": True}, "d1": {"liver": True}}, name="other")
    third = make_dataset({"e1": {"liver": True}}, name="third")
    counted = [count_dataset(d, workers=0)[0] for d in (three_cases, other, third)]
    assert shared_case_ids(counted) == {("ours", "other"): 1}


def test_the_real_release_counts_its_tumour_from_masks_and_its_sites_from_the_table(
    shared_data: Path, tmp_path: Path
) -> None:
    for case in (shared_data / "pants_labels").glob("PanTS_*"):
        shutil.copytree(case, tmp_path / "LabelTr" / case.name)
    shutil.copy(shared_data / "cohort" / "metadata_pants.csv", tmp_path / "metadata.csv")
    counts, _ = count_dataset(Dataset.open(tmp_path), workers=0)
    assert (counts.cases, counts.scans) == (2, 0)
    assert set(counts.annotated.values()) == {2}
    assert counts.tumours == Tumours(drawn=1, none_drawn=1)
    assert counts.patients.number is None  # the release has no patients
    # Case 1 is of a study of fifteen sites, all in the US; case 35 of one site.
    assert counts.institutions.number == 16
    assert counts.countries.values == ("US",)
    assert counts.rows_without_files == 9899
