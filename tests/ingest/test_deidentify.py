"""Pseudonyms, the allow-list, and the scan that looks for what should not be there."""

from __future__ import annotations

import gzip
import json
import stat
import uuid

import pytest
from pydicom.dataset import Dataset as DicomDataset
from pydicom.uid import UID
from typer.testing import CliRunner

from pantskit.cli.app import app
from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, PantskitError
from pantskit.ingest.facts.describe import describe_header
from pantskit.ingest.privacy.deidentify import Pseudonyms, days_since_first, read_key, shifted_date
from pantskit.ingest.report import summary_lines

PLANTED = {
    "PatientName": "Quellmann^Ludmilla",
    "PatientID": "QX778812",
    "PatientBirthDate": "19500317",
    "OtherPatientIDs": "SSN-91827364",
    "PatientAddress": "Kastanienallee 7, Dorf",
    "AccessionNumber": "ACC5566778",
    "InstitutionName": "Northfield General",
    "ReferringPhysicianName": "Vandergraaf^Jo",
    "StationName": "NORTHCT9",
    "StudyDescription": "CT for Quellmann before surgery",
    "PatientComments": "call +99-5551234 first",
    "SeriesDescription": "Abdomen portal venous QX778812",
    "DeviceSerialNumber": "SN4455667",
}


def planted(series, **attributes):
    made = series(attributes=PLANTED | attributes)
    original = made.dataset

    def dataset(k):
        one = original(k)
        block = one.private_block(0x0029, "HOSPITAL 1.0", create=True)
        block.add_new(0x10, "LO", "Quellmann/QX778812/private")
        item = DicomDataset()
        item.RequestedProcedureDescription = "nested Quellmann request"
        one.RequestAttributesSequence = [item]
        one.preamble = b"exported for Ludmilla".ljust(128, b"\0")
        return one

    made.dataset = dataset
    return made


def written_bytes(out) -> bytes:
    """All bytes of a dataset, decompressed, with the names of its files."""
    parts = []
    for path in sorted(out.rglob("*")):
        parts.append(str(path.relative_to(out)).encode())
        if path.is_file():
            raw = path.read_bytes()
            parts.append(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    return b"\n".join(parts)


def test_nothing_planted_in_a_header_or_a_file_name_comes_out(series, run, tmp_path):
    result = run(planted(series).write(tmp_path / "QUELLMANN_LUDMILLA_QX778812"))
    assert result.statuses == ["done"]
    written = written_bytes(result.out).lower()
    needles = [*PLANTED.values(), "quellmann", "ludmilla", "1950", "0902", "northfield", "555"]
    needles += [series().dataset(0).SeriesInstanceUID[:20], "kastanien", "vandergraaf", "hospital"]
    needles.remove("555")  # three digits turn up by chance
    found = [n for n in needles if n.lower().encode() in written]
    assert found == []
    table = (result.out / "metadata.parquet").read_bytes()
    assert b"Quellmann" not in table


def test_allowed_facts_come_out_and_only_through_a_vocabulary(series, run, tmp_path):
    made = planted(
        series,
        Manufacturer="SIEMENS Quellmann",
        ManufacturerModelName="SOMATOM Definition AS+",
        PatientSex="F",
        KVP="120",
        SliceThickness="3.0",
        SeriesDescription="Abdomen portal venös",
    )
    row = run(made.write(tmp_path / "in")).data["metadata"]
    assert row["manufacturer"] == "SIEMENS"
    assert row["model"] == "SOMATOM Definition AS+"
    assert (row["sex"], row["age_years"], row["study_year"]) == ("F", 64, 2014)
    assert (row["kvp"], row["slice_thickness_mm"]) == (120, 3)
    assert row["phase"] == "portal_venous"
    assert row["study_type"] == "ct abdomen"


def test_one_patient_keeps_one_name_and_two_keys_give_two(series, run, tmp_path):
    series().write(tmp_path / "in" / "first")
    series(attributes={"PatientName": "Quellmann^L."}).write(tmp_path / "in" / "second")
    series(attributes={"PatientID": "QX1"}).write(tmp_path / "in" / "third")
    result = run(tmp_path / "in")
    rows = [r.data["metadata"] for r in result.summary.run.records]
    assert len({row["case_id"] for row in rows}) == 3
    assert len({row["patient_id"] for row in rows}) == 2
    other = run(tmp_path / "in", out="other")
    names = {r.data["metadata"]["patient_id"] for r in other.summary.run.records}
    assert names.isdisjoint(row["patient_id"] for row in rows)


def test_patient_is_never_put_into_both_splits(series, run, tmp_path):
    run(series().write(tmp_path / "first"))
    second = series(attributes={"SeriesNumber": 9}).write(tmp_path / "second")
    with pytest.raises(ConfigError, match="1 patients of these sources are in another split"):
        run(second, split="test")
    assert run(second).statuses == ["done"]


def test_key_lies_beside_the_dataset_and_only_its_owner_reads_it(series, run, tmp_path):
    run(series().write(tmp_path / "in"))
    key = tmp_path / "dataset.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(read_key(key)) == 32


def test_lost_key_is_an_error_and_not_a_new_one(series, run, tmp_path):
    folder = series().write(tmp_path / "in")
    run(folder)
    (tmp_path / "dataset.key").unlink()
    with pytest.raises(ConfigError, match="key of this dataset is missing"):
        run(folder)
    assert not (tmp_path / "dataset.key").exists()


def test_key_of_another_dataset_is_an_error(series, run, tmp_path):
    folder = series().write(tmp_path / "in")
    run(folder)
    (tmp_path / "other.key").write_text("ab" * 32)
    with pytest.raises(ConfigError, match="key of another dataset"):
        run(folder, key=tmp_path / "other.key")


def test_key_inside_the_dataset_is_an_error(series, run, tmp_path):
    folder = series().write(tmp_path / "in")
    with pytest.raises(ConfigError, match="must not lie inside"):
        run(folder, key=tmp_path / "dataset" / "key")
    assert not (tmp_path / "dataset").exists()


def test_pseudonym_is_the_keyed_hash_of_its_secret():
    # RFC 4231 style check against the standard library, spelt out here.
    import base64
    import hashlib
    import hmac

    key = bytes(range(32))
    digest = hmac.new(key, b"patient\0id:qx778812", hashlib.sha256).digest()
    expected = f"patient_{base64.b32encode(digest).decode()[:12].lower()}"
    assert Pseudonyms(key).of("patient", "id:qx778812") == expected


def test_case_that_leaks_is_failed_and_taken_away(series, run, tmp_path, monkeypatch):
    from pantskit.ingest import plan

    # Switch a rule off: let the description out as it is.
    monkeypatch.setattr(
        plan,
        "describe_header",
        lambda header: describe_header(header) | {"study_type": header["SeriesDescription"]},
    )
    result = run(planted(series).write(tmp_path / "in"))
    assert result.statuses == ["failed"]
    assert "leak scan" in result.message
    assert "PatientID in record" in result.message
    assert result.files == []
    assert b"qx778812" not in written_bytes(result.out).lower()


def test_row_with_a_value_of_another_patient_takes_its_own_case_away(series, tmp_path, monkeypatch):
    from pantskit.ingest import plan

    # Switch a rule off: the second patient's row gets the name of the first.
    def describe(header):
        wrong = header["PatientID"] == "WXK55501"
        return describe_header(header) | ({"study_type": "Kastanienberg"} if wrong else {})

    monkeypatch.setattr(plan, "describe_header", describe)
    folders = [
        series(attributes={"PatientID": f"WXK5550{n}", "PatientName": name}).write(
            tmp_path / "in" / str(n)
        )
        for n, name in enumerate(["Kastanienberg^Ada", "Birnbaum^Bo", "Cedernholm^Eva"])
    ]
    out = tmp_path / "out"
    command = ["ingest", *map(str, folders), "--out", str(out), "--workers", "0"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "PatientName in metadata); nothing of the case was kept" in result.stdout
    assert "2 done, 1 failed" in result.stdout
    dataset = Dataset.open(out)
    whole = {case.case_id for case in dataset.cases()}
    assert len(whole) == 2 == len(dataset.metadata)
    assert set(dataset.metadata) == whole
    assert all(case.image_path.is_file() for case in dataset.cases())
    assert b"kastanienberg" not in written_bytes(out).lower()


def test_row_of_an_earlier_run_with_a_value_of_this_one_is_taken_away_too(
    series, run, monkeypatch, tmp_path
):
    from pantskit.ingest import plan

    with monkeypatch.context() as patched:
        patched.setattr(
            plan, "describe_header", lambda h: describe_header(h) | {"study_type": "Kastanienberg"}
        )
        run(series(attributes={"PatientName": "Birnbaum^Bo"}).write(tmp_path / "one"))
    second = run(series(attributes={"PatientName": "Kastanienberg^Ada"}).write(tmp_path / "two"))
    assert second.statuses == ["done", "failed"]
    assert len(second.files) == 1
    assert b"kastanienberg" not in written_bytes(second.out).lower()
    assert any("an earlier run" in line for line in summary_lines(second.summary, second.out))


def test_table_that_leaks_without_a_row_that_does_is_removed(series, run, tmp_path, monkeypatch):
    from pantskit.ingest import tables

    monkeypatch.setattr(tables, "dataset_statement", lambda audits: {"by": "L. Quellmann"})
    with pytest.raises(PantskitError, match=r"in dataset\.json.*was removed"):
        run(planted(series).write(tmp_path / "in"))
    assert not (tmp_path / "dataset" / "dataset.json").exists()


def test_error_message_that_would_quote_an_identifier_is_replaced(run, tmp_path):
    path = tmp_path / "Quellmann_Ludmilla.nii.gz"
    path.write_bytes(b"this is no image")
    result = run(path)
    assert result.statuses == ["failed"]
    record = next((result.out / ".pantskit").rglob("*.json"))
    assert "quellmann" not in record.read_text().lower()
    assert "the CT: not a NIfTI image" in json.loads(record.read_text())["message"]


def test_site_given_by_name_comes_out_and_institutions_get_a_pseudonym(series, run, tmp_path):
    folder = planted(series).write(tmp_path / "in")
    assert run(folder, site="Site A").data["metadata"]["site"] == "Site A"
    assert run(folder, out="other").data["metadata"]["site"].startswith("site_")


def test_uids_of_the_key_are_valid_and_the_same_for_the_same():
    names = Pseudonyms(bytes(range(32)))
    uid = names.uid("1.2.826.0.1.99.7")
    assert uid == names.uid("1.2.826.0.1.99.7")
    assert uid != names.uid("1.2.826.0.1.99.8")
    assert uid != Pseudonyms(bytes(32)).uid("1.2.826.0.1.99.7")
    assert UID(uid).is_valid
    assert uid.startswith("2.25.")
    # DICOM PS3.5 B.2: the number of a UUID, here of version 8 and the variant of RFC 9562.
    number = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    assert (number.version, number.variant) == (8, uuid.RFC_4122)


def test_dates_of_a_patient_are_moved_back_by_the_same_days():
    names = Pseudonyms(bytes(range(32)))
    days = names.shift_days("patient_a")
    assert days == names.shift_days("patient_a")
    assert 1 <= days <= 3652
    shifts = {names.shift_days(f"patient_{n}") for n in range(300)}
    assert len(shifts) > 250
    assert shifted_date("20140902", 2) == "20140831"
    assert shifted_date("2014.09.02", 365) == "20130902"
    assert shifted_date("20140902101112", 1) == "20140901"


@pytest.mark.parametrize("text", ["", None, "2014", "20141399", "NONE", "18000101"])
def test_what_is_no_date_stays_none(text):
    assert shifted_date(text, 400) is None


def test_days_between_a_patient_s_studies_are_the_true_ones():
    days = Pseudonyms(bytes(32)).shift_days("patient_a")
    moved = [shifted_date(d, days) for d in ("20140902", "20131225", "20140902")]
    rows = [("case_1", "patient_a", moved[0]), ("case_2", "patient_a", moved[1])]
    rows += [("case_3", "patient_b", moved[2]), ("case_4", "patient_b", None)]
    # From 25 December 2013 to 2 September 2014: 6 + 31 + 28 + 31 + 30 + 31 + 30 + 31 + 31 + 2.
    assert days_since_first(rows) == {"case_1": 251, "case_2": 0, "case_3": 0, "case_4": None}
