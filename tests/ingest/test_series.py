"""What a series is by its coded fields, and the volumes that one series holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pantskit.ingest.discovery.discover import discover
from pantskit.ingest.discovery.outlook import outlook
from pantskit.ingest.discovery.series import Series


@pytest.fixture
def only(series, tmp_path):
    """The one series that these attributes make."""

    def make(**attributes: Any) -> Series:
        (found,) = discover([series(attributes=attributes).write(tmp_path / "in")]).series
        return found

    return make


@pytest.mark.parametrize(
    ("image_type", "reason"),
    [
        ("ORIGINAL\\PRIMARY\\LOCALIZER\\CT_SOM5 TOP", "localizer by its ImageType"),
        ("DERIVED\\PRIMARY\\AXIAL\\CT_SOM5 MIP", "maximum intensity projection by its ImageType"),
        ("DERIVED\\SECONDARY\\MIN_IP", "minimum intensity projection by its ImageType"),
        ("DERIVED\\SECONDARY\\OTHER\\CT_SOM5 VRT", "volume or surface rendering by its ImageType"),
        ("DERIVED\\SECONDARY\\OTHER\\CT_SOM5 PROT", "screen capture by its ImageType"),
        ("DERIVED\\PRIMARY\\AXIAL\\MAT_SPECIFIC", "material map by its ImageType"),
        ("DERIVED\\PRIMARY\\AXIAL\\EFF_ATOMIC_NUM", "material map by its ImageType"),
        ("DERIVED\\PRIMARY\\AXIAL\\ELECTRON_DENSITY", "material map by its ImageType"),
        ("DERIVED\\PRIMARY\\AXIAL\\MAT_REMOVED", "image with a material taken out"),
        ("DERIVED\\PRIMARY\\AXIAL\\VMI", "monoenergetic image, and not one of 60 to 80 keV"),
        ("DERIVED\\PRIMARY\\PERFUSION\\RCBF", "perfusion map by its ImageType"),
        ("DERIVED\\PRIMARY\\AXIAL\\SUBTRACTION", "subtraction image by its ImageType"),
    ],
)
def test_image_type_tells_what_is_no_anatomy_in_hu(only, image_type, reason):
    assert reason in only(ImageType=image_type.split("\\")).skip


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("Iodine no Water[mg/ml]", "material map by its SeriesDescription"),
        ("IodineNoWater[HU*]", "material map by its SeriesDescription"),
        ("Carte d'iode 2 mm", "material map"),
        ("Mapa de yodo", "material map"),
        ("ECV map liver", "material map"),
        ("IodineRemoved[HU*]", "a material taken out"),
        ("Sans contraste virtuel", "a material taken out"),
        ("CorMIP", "maximum intensity projection"),
        ("Z Effective", "material map"),
        ("GSI MD Iodine", "material map"),
        ("Jodkarte 1.0", "material map"),
        ("VNC[HU]", "a material taken out"),
        ("Virtuell nativ 3.0", "a material taken out"),
        ("AX MIP 10mm", "maximum intensity projection"),
        ("CTA bone removed", "bones taken out"),
        ("Subtraktion Leber", "subtraction image"),
        ("MonoE 40keV[HU]", "not one of 60 to 80 keV"),
        ("CBF", "perfusion map"),
    ],
)
def test_description_tells_what_coded_fields_leave_out(only, description, reason):
    assert reason in only(SeriesDescription=description).skip


@pytest.mark.parametrize(
    "description",
    [
        "MonoE 70keV[HU]",
        "ABD PORTAL VENOUS 3.0 Br40",
        "Abdomen mit Iod oral",
        "Abdomen sans contraste",
        "TAP avec iode IV",
        "Spectral low mAs",
        "Bolus 70 s portal",
        "L-Spine fusion control",
        "Perfusion arterial",
        "",
    ],
)
def test_description_of_a_plain_ct_is_no_reason_to_skip_it(only, description):
    found = only(SeriesDescription=description)
    assert (found.skip, found.reformat) == ("", "")


@pytest.mark.parametrize(
    "attributes",
    [
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"]},
        {"ImageType": ["DERIVED", "PRIMARY", "LOCALIZER", "CT_SOM5 MPR"]},
        {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]},
        {"SeriesDescription": "COR MPR 3.0"},
    ],
)
def test_reformats_are_in_hu_but_no_reconstruction_of_their_own(only, attributes):
    found = only(**attributes)
    assert (found.skip, bool(found.reformat)) == ("", True)


@pytest.mark.parametrize(
    ("rescale", "reason"),
    [
        (None, ""),
        ("HU", ""),
        ("US", "RescaleType US (unspecified)"),
        ("MGML", "RescaleType MGML"),
        ("HU_MOD", "RescaleType HU_MOD"),
        ("Quellmann", "RescaleType of unknown kind"),
    ],
)
def test_rescale_type_is_hu_or_absent(only, rescale, reason):
    skip = only(**({} if rescale is None else {"RescaleType": rescale})).skip
    assert skip.startswith(reason)
    assert bool(skip) == bool(reason)


def phases(series: Any, folder: Any, *changes: dict[str, Any]) -> list[Series]:
    """Several phases written under one series UID, at the same positions."""
    uid = series().uid
    for n, attributes in enumerate(changes):
        made = series(uid=uid, attributes=attributes)
        for k in range(len(made.stored)):
            slice_ = made.dataset(k)
            slice_.SOPInstanceUID = f"1.2.826.{n}.{k}"
            folder.mkdir(exist_ok=True)
            slice_.save_as(folder / f"{k}-{n}", enforce_file_format=True)
    return discover([folder]).series


def test_acquisitions_at_the_same_positions_are_a_volume_each(series, tmp_path):
    found = phases(series, tmp_path / "in", {"AcquisitionNumber": 3}, {"AcquisitionNumber": 2})
    assert [{s.acquisition for s in f.slices} for f in found] == [{"2"}, {"3"}]
    assert [f.part for f in found] == [0, 1]
    assert len({f.identity for f in found}) == 2
    assert [outlook(f).status for f in found] == ["taken", "taken"]


def test_phases_one_after_another_in_time_are_a_volume_each(series, tmp_path):
    times = [{"AcquisitionDate": "20140902", "AcquisitionTime": t} for t in ("101530", "101500")]
    found = phases(series, tmp_path / "in", *times)
    assert [f.first.acquired for f in found] == ["20140902101500", "20140902101530"]


def test_phases_keep_who_they_are_when_files_are_renamed(series, tmp_path):
    numbers = ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2})
    found = phases(series, tmp_path / "in", *numbers)
    before = {f.first.acquisition: f.identity for f in found}
    for n, file in enumerate(sorted((tmp_path / "in").iterdir(), reverse=True)):
        file.rename(file.with_name(f"renamed{n:03d}"))
    assert {f.first.acquisition: f.identity for f in discover([tmp_path / "in"]).series} == before


def test_phases_that_nothing_tells_apart_stay_together_to_be_refused(series, tmp_path):
    (found,) = phases(series, tmp_path / "in", {}, {})
    assert "5 slices lie where another does" in outlook(found).reason


def test_acquisitions_of_which_one_is_not_whole_stay_together(series, tmp_path):
    phases(series, tmp_path / "in", {"AcquisitionNumber": 1}, {"AcquisitionNumber": 2})
    (tmp_path / "in" / "2-0").unlink()
    (found,) = discover([tmp_path / "in"]).series
    assert len(found.slices) == 9


def test_copies_of_slices_are_not_taken_for_phases(series, tmp_path):
    made = series(attributes={"AcquisitionNumber": 1})
    made.write(tmp_path / "in" / "a")
    made.write(tmp_path / "in" / "b")
    (found,) = discover([tmp_path / "in"]).series
    assert len(found.slices) == 10


@pytest.mark.parametrize(
    ("description", "status", "reason"),
    [
        ("Monitoring", "skipped", "bolus tracking"),
        ("SmartPrep Series", "skipped", "bolus tracking"),
        ("Abdomen", "failed", "all 5 slices lie in one place"),
    ],
)
def test_one_place_scanned_again_and_again_is_bolus_tracking_if_its_name_says_so(
    series, tmp_path, description, status, reason
):
    made = series(step=0.0, attributes={"SeriesDescription": description})
    (found,) = discover([made.write(tmp_path / "in")]).series
    expected = outlook(found)
    assert (expected.status, expected.reason.startswith(reason)) == (status, True)


def test_single_slice_is_skipped_only_where_its_name_says_that_it_is_all(series, tmp_path):
    stored = np.full((1, 6, 8), 1024, np.uint16)
    series(stored=stored, attributes={"SeriesDescription": "Premonitoring"}).write(tmp_path / "a")
    series(stored=stored, attributes={"SeriesDescription": "Abdomen"}).write(tmp_path / "b")
    (named,) = discover([tmp_path / "a"]).series
    (lost,) = discover([tmp_path / "b"]).series
    assert named.skip.startswith("bolus tracking")
    assert (lost.skip, outlook(lost).status) == ("", "failed")


def test_series_without_uids_are_told_apart_by_their_content(series, tmp_path):
    for n, name in enumerate(("a", "b")):
        made = series(attributes={"SeriesInstanceUID": "", "SOPInstanceUID": ""})
        made.stored = made.stored + np.uint16(n)
        made.write(tmp_path / "in" / name)
    first, second = discover([tmp_path / "in"]).series
    assert "" not in (first.content, second.content)
    assert first.identity != second.identity


def test_reformat_under_the_uid_of_its_scan_is_a_series_of_its_own(series, tmp_path):
    made = series()
    made.write(tmp_path / "in" / "a")
    view = {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}
    series(uid=made.uid, column=(0.0, 0.0, -1.0), attributes=view).write(tmp_path / "in" / "b")
    found = discover([tmp_path / "in"]).series
    assert sorted(bool(f.reformat) for f in found) == [False, True]
    assert len({f.identity for f in found}) == 2
    assert [f.doubt for f in found] == ["", ""]


def torn(series: Any, folder: Path, of_part: slice, **attributes: Any) -> list[Series]:
    """One series of which a part of the slices has other attributes."""
    made = series(stored=np.random.default_rng(3).integers(0, 2048, (8, 6, 8), dtype=np.uint16))
    folder.mkdir()
    for k in range(8):
        slice_ = made.dataset(k)
        if k in range(8)[of_part]:
            for keyword, value in attributes.items():
                setattr(slice_, keyword, value)
        slice_.save_as(folder / f"{k}-{(k * 37) % 10}.dcm", enforce_file_format=True)
    return discover([folder]).series


@pytest.mark.parametrize("of_part", [slice(0, 8, 2), slice(5, 8)], ids=["every second", "the end"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientID": ""},
        {"StudyInstanceUID": "1.2.3.99"},
        {"RescaleType": "US"},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_slices_of_one_stack_under_one_uid_that_differ_in_kind_or_patient_are_no_two_scans(
    series, tmp_path, of_part, attributes
):
    found = torn(series, tmp_path / "in", of_part, **attributes)
    assert len(found) == 2
    assert all(f.skip or f.doubt for f in found)


def test_patients_of_an_export_with_one_uid_for_all_are_scans_of_their_own(series, tmp_path):
    uid = series().uid
    for n, place in enumerate((50.0, 53.7, 50.0)):
        made = series(uid=uid, origin=(-100.0, -120.0, place), attributes={"PatientID": f"P{n}X"})
        made.write(tmp_path / "in" / str(n))
    assert [f.doubt for f in discover([tmp_path / "in"]).series] == ["", "", ""]
