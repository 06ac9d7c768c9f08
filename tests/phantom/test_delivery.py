"""Deliveries: what a hospital would send, read back with pydicom alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from pantskit.core.labels import STRUCTURES, find_structure
from pantskit.core.labelvolumes import read_mask
from pantskit.phantom.case import PhantomCase
from pantskit.phantom.delivery import deliver, write_manifest
from pantskit.phantom.identity import invent
from pantskit.phantom.scans import CohortPlan, plan_scan
from pantskit.phantom.sites import SITES


@pytest.fixture(scope="module")
def delivered(
    tumour_cases: list[PhantomCase], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """One case of each of three sites."""
    folder = tmp_path_factory.mktemp("deliveries")
    entries = [deliver(case, folder) for case in tumour_cases[:3]]
    write_manifest(folder, entries)
    return folder, entries


def slices_of(folder: Path) -> list[pydicom.Dataset]:
    """The slices of a series from the lowest to the highest position along its normal."""
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    first = slices[0].ImageOrientationPatient
    normal = np.cross(first[:3], first[3:])
    return sorted(slices, key=lambda s: float(np.dot(s.ImagePositionPatient, normal)))


def world_to_hu(slices: list[pydicom.Dataset], lps: NDArray[np.float64]) -> float:
    """HU at a point in DICOM's own coordinates, worked out from the tags alone."""
    head = slices[0]
    row, column = (np.array(head.ImageOrientationPatient[n : n + 3], float) for n in (0, 3))
    positions = np.array([s.ImagePositionPatient for s in slices], float)
    normal = np.cross(row, column)
    k = int(np.abs((positions - lps) @ normal).argmin())
    offset = lps - positions[k]
    across = round(float(offset @ row) / float(head.PixelSpacing[1]))
    down = round(float(offset @ column) / float(head.PixelSpacing[0]))
    stored = int(slices[k].pixel_array[down, across])
    return stored * float(head.RescaleSlope) + float(head.RescaleIntercept)


def test_tags_put_every_voxel_where_the_affine_does(
    delivered: tuple[Path, list[dict[str, Any]]], tumour_cases: list[PhantomCase]
) -> None:
    folder, entries = delivered
    rng = np.random.default_rng(0)
    for case, entry in zip(tumour_cases[:3], entries, strict=True):
        slices = slices_of(folder / entry["series_folder"])
        shape = case.geometry.shape
        assert len(slices) == shape[2]
        assert (slices[0].Columns, slices[0].Rows) == shape[:2]
        for ijk in rng.integers(0, shape, (40, 3)):
            lps = case.geometry.to_world(ijk) * [-1, -1, 1]
            assert world_to_hu(slices, lps) == case.ct.array[tuple(ijk)]


def test_sites_differ_in_order_rotation_and_compression(
    delivered: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, entries = delivered
    north, south, harbour = (slices_of(folder / e["series_folder"]) for e in entries)
    assert [s.InstanceNumber for s in north] == sorted(
        (s.InstanceNumber for s in north), reverse=True
    )
    assert [s.InstanceNumber for s in south] == sorted(s.InstanceNumber for s in south)
    assert south[0].file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    turn = np.rad2deg(np.arctan2(harbour[0].ImageOrientationPatient[1], 1))
    assert 2 < abs(turn) < 6


def test_file_names_do_not_follow_the_slices(
    delivered: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, entries = delivered
    paths = sorted((folder / entries[0]["series_folder"]).iterdir())
    heights = [float(pydicom.dcmread(p).ImagePositionPatient[2]) for p in paths]
    assert heights != sorted(heights)
    assert heights != sorted(heights, reverse=True)


def test_identifiers_are_planted_in_every_file(
    delivered: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, entries = delivered
    for entry in entries:
        planted = entry["identifiers"]
        path = next((folder / entry["series_folder"]).iterdir())
        raw = path.read_bytes()
        for keyword, value in planted.items():
            assert value.encode("latin-1") in raw, f"{keyword} is not in {path.name}"
        assert len({*planted.values()}) > 15


def test_manifest_says_what_to_skip_and_where_the_masks_are(
    delivered: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, entries = delivered
    listed = json.loads((folder / "manifest.json").read_text())["series"]
    assert [e["case_id"] for e in listed] == [e["case_id"] for e in entries]
    kinds = set()
    for entry in listed:
        for name in entry["to_skip"]:
            header = pydicom.dcmread(folder / name)
            assert header.StudyInstanceUID == entry["study_uid"]
            kinds.add(str(header.SOPClassUID.name))
        key = entry["labels_folder"].split("/")[-1]
        assert key.split("_")[0] == entry["dicom_patient_id"]
    assert kinds == {
        "CT Image Storage",
        "Secondary Capture Image Storage",
        "X-Ray Radiation Dose SR Storage",
    }


def test_masks_have_local_names_on_the_series_grid(
    delivered: tuple[Path, list[dict[str, Any]]], tumour_cases: list[PhantomCase]
) -> None:
    folder, entries = delivered
    for case, entry in zip(tumour_cases[:3], entries, strict=True):
        files = {find_structure(p.name): p for p in (folder / entry["labels_folder"]).iterdir()}
        assert set(files) == set(STRUCTURES)
        mask = read_mask(files["liver"])
        assert mask.geometry.orientation == case.scan.site.mask_orientation
        assert mask.geometry.reoriented("LPS").same_grid(case.geometry.reoriented("LPS"))
        own = Path(files["liver"].name).name
        assert own == f"{case.scan.site.mask_names['liver']}.nii.gz"


@pytest.mark.parametrize("site", SITES, ids=lambda s: s.name)
def test_names_of_every_site_are_understood(site: Any) -> None:
    assert {find_structure(f"{own}.nii.gz"): s for s, own in site.mask_names.items()} == {
        s: s for s in STRUCTURES
    }


def test_two_scans_of_a_patient_have_one_number_and_two_label_folders() -> None:
    plan = CohortPlan(cases=100, seed=1)
    scans = [plan_scan(plan, number) for number in range(100)]
    second = next(s for s in scans if s.visit == 1)
    first = scans[second.number - 1]
    a, b = invent(first), invent(second)
    assert a.patient_id == b.patient_id
    assert a.values["PatientName"] == b.values["PatientName"]
    assert a.values["PatientBirthDate"][4:] == b.values["PatientBirthDate"][4:]
    assert {a.labels_key, b.labels_key} == {f"{a.patient_id}_3", f"{a.patient_id}_5"}
    assert a.study_uid != b.study_uid
    assert a.series_uid != b.series_uid
