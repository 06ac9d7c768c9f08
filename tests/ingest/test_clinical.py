"""A clinical table: joined by an ID that does not come along, through vocabularies alone."""

from __future__ import annotations

import datetime

import openpyxl
import pytest

from pantskit.core.errors import ConfigError
from pantskit.ingest.facts.clinical import complete_facts, read_clinical
from pantskit.ingest.facts.diagnosis import basis_of, diagnosis_of
from pantskit.ingest.privacy.leaks import LeakScan

TABLE = """patient_id;name;age;sex;diagnosis;basis;remarks
QX778812;Quellmann, Ludmilla;63;F;PDAC;pathology;seen by Dr. Vandergraaf
0042;Ahorn, Jo;95;male;IPMN;follow-up;
"""


def table(tmp_path, text, *, name="clinical.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return read_clinical(path)


def test_facts_come_through_vocabularies_and_age_through_the_cap(tmp_path):
    joined = table(tmp_path, TABLE).join(["QX778812", "0042"])
    assert joined.row_for("QX778812") == {
        "age_years": 63,
        "sex": "F",
        "diagnosis": "PDAC",
        "diagnosis_basis": "pathology",
    }
    assert joined.row_for("0042") == {
        "age_years": 90,
        "sex": "M",
        "diagnosis": "IPMN",
        "diagnosis_basis": "follow_up",
    }
    assert joined.row_for("nobody") is None


@pytest.mark.parametrize(
    ("name", "encoding", "mark"),
    [
        ("a.csv", "utf-8", ";"),
        ("a.csv", "utf-8-sig", ","),
        ("a.csv", "latin-1", ";"),
        ("a.tsv", "utf-16", "\t"),
        ("a.csv", "utf-16-le", ";"),
        ("a.csv", "utf-16-be", "|"),
    ],
)
def test_encodings_and_separators_of_spreadsheet_programs(tmp_path, name, encoding, mark):
    rows = [
        ["Patienten-ID", "Alter", "Geschlecht", "Diagnose", "Straße"],
        ["A1", "50", "W", "", ""],
    ]
    rows[1][3] = "Pseudozyste"
    text = "\r\n".join(mark.join(row) for row in rows)
    row = table(tmp_path, text, name=name, encoding=encoding).join(["A1"]).row_for("A1")
    assert row is not None
    assert (row["age_years"], row["sex"], row["diagnosis"]) == (50, "F", "cyst")


@pytest.mark.parametrize(
    "text",
    [
        "sep=|\r\npatient_id|age\r\nA1|50\r\n",  # Excel's own first line
        "patient_id;age\rA1;50\r",
        "\n\nPatients of 2020\n\npatient_id;age\nA1;50\n",
    ],
)
def test_what_spreadsheet_programs_write_before_a_table_is_no_part_of_it(tmp_path, text):
    assert table(tmp_path, text).join(["A1"]).rows["A1"].age_years == 50


@pytest.mark.parametrize("mark", [";", ",", "\t", "|"])
@pytest.mark.parametrize(
    "title", ["Pancreas list 2019\n\n", "Smith, Jones, Li, 2019; final\n", ""], ids=len
)
def test_mark_between_cells_is_told_by_the_table_and_not_by_its_title(tmp_path, mark, title):
    rows = [
        ["patient_id", "age", "diagnosis", "remarks"],
        ["QX778812", "63", "PDAC", '"seen; by Dr. Ahorn, again"'],
        ["0042", "61", "IPMN", ""],
    ]
    text = title + "".join(mark.join(row) + "\n" for row in rows)
    row = table(tmp_path, text).join(["QX778812"]).row_for("QX778812")
    assert row is not None
    assert (row["age_years"], row["diagnosis"]) == (63, "PDAC")


def test_the_sheet_that_holds_patients_is_read_and_two_are_refused(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["Legend of the columns"])
    for name in ("Data", "Copy"):
        sheet = book.create_sheet(name)
        sheet.append(["MRN", "Age"])
        sheet.append([42, 50])
        book.save(tmp_path / f"{name}.xlsx")
    assert read_clinical(tmp_path / "Data.xlsx").join(["42"]).rows["42"].age_years == 50
    with pytest.raises(ConfigError, match="2 sheets of the clinical table hold patients"):
        read_clinical(tmp_path / "Copy.xlsx")


@pytest.mark.parametrize(
    "header",
    [
        "ID patient;Âge;Sexe;Diagnostic",
        "ID paziente;Età;Sesso;Diagnosi",
        "ID paciente;Edad;Sexo;Diagnóstico",
        "Patiëntnummer;Leeftijd;Geslacht;Diagnose",
        "ID pacjenta;Wiek;Płeć;Rozpoznanie",
        "Hasta No;Yaş;Cinsiyet;Tanı",
        "患者编号;年龄;性别;诊断",
        "Study ID;Age (years);Gender;Final diagnosis",
    ],
)
def test_columns_are_known_in_the_languages_of_the_countries(tmp_path, header):
    row = table(tmp_path, f"{header}\nA1;50;F;PNET\n").join(["A1"]).row_for("A1")
    assert row == {"age_years": 50, "sex": "F", "diagnosis": "PNET", "diagnosis_basis": None}


def test_workbook_cells_are_read_as_they_look(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["MRN", "Date of birth", "Sex", "Diagnosis"])
    book.active.append([42, datetime.datetime(1950, 9, 3), "F", "normal"])
    book.save(tmp_path / "t.xlsx")
    joined = read_clinical(tmp_path / "t.xlsx").join(["0042"])  # the sheet dropped the zeros
    assert joined.row_for("0042", "20140902") == {
        "age_years": 63,
        "sex": "F",
        "diagnosis": "normal",
        "diagnosis_basis": None,
    }
    assert "1950" not in str(joined.row_for("0042", "20140902"))


@pytest.mark.parametrize(
    ("written", "asked", "found"),
    [
        (["qx1"], ["QX1"], {"QX1": "qx1"}),
        (["42"], ["0042"], {"0042": "42"}),
        (["0042"], ["42"], {"42": "0042"}),
        # Leading zeros and case tell patients apart where both are there.
        (["42", "0042"], ["042"], {}),
        (["42"], ["042", "0042"], {}),
        (["42", "0042"], ["42", "042"], {"42": "42"}),
        (["qx1", "Qx1"], ["QX1"], {}),
        (["qx1", "QX1"], ["QX1"], {"QX1": "QX1"}),
    ],
)
def test_ids_match_as_they_are_and_loosely_only_when_nothing_else_could(
    tmp_path, written, asked, found
):
    rows = "".join(f"{p};{30 + n}\n" for n, p in enumerate(written))
    joined = table(tmp_path, f"patient_id;age\n{rows}").join(asked)
    ages = {p: row["age_years"] for p in asked if (row := joined.row_for(p))}
    assert ages == {p: 30 + written.index(w) for p, w in found.items()}
    assert set(joined.patients_without_row) == set(asked) - set(found)


def test_rows_without_a_ct_are_told_by_number(tmp_path):
    joined = table(tmp_path, TABLE).join(["0042", "777"])
    assert joined.rows_without_ct == (2,)
    assert joined.patients_without_row == ("777",)


def test_rows_that_agree_are_one_and_those_that_disagree_say_nothing(tmp_path):
    text = "patient_id,age,sex,diagnosis\nA1,50,F,\nA1,50,,PDAC\nB2,60,F,PDAC\nB2,60,F,cyst\n"
    joined = table(tmp_path, text).join(["A1", "B2"])
    assert joined.row_for("A1") == {
        "age_years": 50,
        "sex": "F",
        "diagnosis": "PDAC",
        "diagnosis_basis": None,
    }
    assert joined.row_for("B2")["diagnosis"] is None
    assert joined.faults_for("B2") == (
        "rows 4 and 5 of the clinical table disagree in diagnosis; it is left empty",
    )
    assert joined.faults_for("A1") == ()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("PDAC", "PDAC"),
        ("Ductal adenocarcinoma of the head", "PDAC"),
        ("Adenokarzinom", "PDAC"),
        ("胰腺癌", "PDAC"),
        ("pNET G2", "PNET"),
        ("neuroendokriner Tumor", "PNET"),
        ("IPMN, branch duct", "IPMN"),
        ("IPMN (cystic)", "IPMN"),
        ("Pseudocyst", "cyst"),
        ("metastasis of renal cancer", "metastasis"),
        ("normal", "normal"),
        ("no tumour", "normal"),
        ("chronic pancreatitis", "pancreatitis"),
        ("other", "other"),
        # What fits two kinds, is denied, or is unknown is not guessed.
        ("PDAC and IPMN", "other"),
        ("metastasis of colon adenocarcinoma", "other"),
        ("suspected PDAC", "other"),
        ("PDAC?", "other"),
        ("胰腺癌？", "other"),
        ("PDAC ruled out", "other"),
        ("PDAC nicht ausgeschlossen", "other"),
        ("unlikely PDAC", "other"),
        ("family history of PDAC", "other"),
        ("Z. n. PDAC", "other"),
        ("non-functioning NET", "PNET"),
        ("normal pancreas", "normal"),
        ("healthy control", "normal"),
        ("nicht normal", "other"),
        ("normal?", "other"),
        ("mass in the head, CA 19-9 normal", "other"),
        ("lymph nodes negative", "other"),
        ("no evidence of PDAC", "other"),
        ("Quellmann syndrome", "other"),
        ("", None),
    ],
)
def test_diagnosis_is_of_the_vocabulary(text, kind):
    assert diagnosis_of(text) == kind


@pytest.mark.parametrize(
    ("text", "basis"),
    [
        ("Histology", "pathology"),
        ("pathology report", "pathology"),
        ("EUS-FNA", "pathology"),
        ("radiology report", "report"),
        ("Verlauf", "follow_up"),
        ("clinical follow-up (CT)", "follow_up"),
        ("without pathology", None),
        ("pathology pending", None),
        ("Histologie?", None),
        ("somehow", None),
    ],
)
def test_basis_is_of_the_vocabulary(text, basis):
    assert basis_of(text) == basis


def test_unknown_cells_are_counted_and_not_copied(tmp_path):
    text = "patient_id,age,sex,diagnosis\nA1,old,X,Quellmann syndrome\nA2,50,F,other\n"
    clinical = table(tmp_path, text)
    assert clinical.unknown == {"age_years": 1, "sex": 1, "diagnosis": 1}
    assert clinical.join(["A1"]).row_for("A1") == {
        "age_years": None,
        "sex": None,
        "diagnosis": "other",
        "diagnosis_basis": None,
    }


@pytest.mark.parametrize(
    ("written", "age"),
    [
        ("1950-09-03", 63),
        ("03.09.1950", 63),
        ("19500903", 63),
        ("03/09/1950", None),  # 3 September or 9 March: 63 or 64
        ("25/12/1950", 63),
        ("03/03/1950", 64),
        ("1900-01-01", 90),
        ("31.02.1950", None),
        ("1950", None),
    ],
)
def test_birth_date_gives_an_age_at_the_study_where_it_is_clear(tmp_path, written, age):
    joined = table(tmp_path, f"patient_id;birth date\nA1;{written}\n").join(["A1"])
    assert joined.row_for("A1", "20140902")["age_years"] == age
    assert joined.row_for("A1")["age_years"] is None


def test_table_fills_what_the_header_lacks_and_contradictions_are_named():
    facts = {"sex": "F", "age_years": None, "model": "Emotion 16"}
    row = {"sex": "M", "age_years": 63, "diagnosis": "PDAC", "diagnosis_basis": "report"}
    full, faults = complete_facts(facts, row)
    assert full == {
        "sex": "F",
        "age_years": 63,
        "model": "Emotion 16",
        "diagnosis": "PDAC",
        "diagnosis_basis": "report",
    }
    assert faults == ["sex is F in the header and M in the clinical table"]
    _, faults = complete_facts({"age_years": 50}, row | {"sex": None})
    assert faults == ["age is 50 in the header and 63 in the clinical table"]
    assert complete_facts({"age_years": 62}, row)[1] == []
    assert complete_facts(facts, None) == (facts, [])


def test_identifiers_of_a_table_are_found_by_the_leak_scan_and_its_facts_are_not(tmp_path):
    clinical = table(tmp_path, TABLE)
    scan = LeakScan(clinical.identifiers)
    for text in ("QX778812", "ludmilla", "Quellmann", "seen by Dr. Vandergraaf", "Ahorn"):
        assert scan.text(f"x {text} y", "somewhere"), text
    row = clinical.join(["QX778812"]).row_for("QX778812")
    assert scan.value(row, "metadata") == []
    only = clinical.join(["0042"]).identifiers_for("0042")
    assert "ahorn" in only
    assert "quellmann" not in only


def test_values_that_many_share_identify_nobody(tmp_path):
    rows = "".join(f"P{n:04};{n + 30};Portal venous phase\n" for n in range(6))
    clinical = table(tmp_path, f"patient_id;age;remark\n{rows}")
    assert "portal venous phase" not in clinical.identifiers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("colour;age\nred;50\n", "name it patient_id"),
        ("patient_id;colour\nQX778812;red\n", "no column that is known"),
        ("patient_id;age;age\nQX778812;50;51\n", "have one name, which fits age_years"),
    ],
)
def test_table_of_no_use_is_refused_without_a_word_of_it(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as raised:
        table(tmp_path, text)
    assert "QX778812" not in str(raised.value)


def test_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"QX778812 no workbook")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_clinical(tmp_path / "t.xlsx")
    with pytest.raises(ConfigError, match=r"\.csv, \.tsv or \.xlsx"):
        read_clinical(tmp_path / "t.pdf")
    with pytest.raises(ConfigError, match="No such file"):
        read_clinical(tmp_path / "t.csv")
