"""What comes out of a header: the vocabulary's own values, and none that a header wrote."""

from __future__ import annotations

import csv
from collections import Counter
from importlib import resources

import pytest

from pantskit.core.dataset import METADATA_COLUMNS
from pantskit.core.geometry import Geometry
from pantskit.ingest.facts.describe import (
    describe_header,
    header_phase,
    header_regions,
    metadata_row,
    phase_of,
    sex_of,
    study_type,
)
from pantskit.ingest.facts.phase import OrganHU, decide_phase
from pantskit.ingest.facts.vocabulary import plain_words
from pantskit.ingest.privacy.identifiers import text_identifiers
from pantskit.ingest.privacy.leaks import LeakScan
from pantskit.ingest.privacy.own_words import own_words


def release_column(shared_data, column):
    with (shared_data / "cohort" / "metadata_pants.csv").open(encoding="utf-8-sig") as file:
        return Counter(row[column] for row in csv.DictReader(file) if row[column].strip())


@pytest.mark.parametrize(
    ("words", "phase"),
    [
        ("ABD W/O CONTRAST", "non_contrast"),
        ("Abdomen nativ", "non_contrast"),
        ("Nativphase 5.0", "non_contrast"),
        ("STD BRAIN PLAIN", "non_contrast"),
        ("Sans injection", "non_contrast"),
        ("Abdome sem contraste", "non_contrast"),
        ("Addome senza mdc", "non_contrast"),
        ("faza natywna (bez kontrastu)", "non_contrast"),
        ("Batın kontrastsız", "non_contrast"),
        ("腹部平扫", "non_contrast"),
        ("בטן ללא חומר ניגוד", "non_contrast"),
        ("ART 35s", "arterial"),
        ("late arterial", "arterial"),
        ("Abdomen arteriell 1.0 B30f", "arterial"),
        ("Temps artériel", "arterial"),
        ("Fase arteriosa", "arterial"),
        ("Arteriële fase", "arterial"),
        ("faza tętnicza", "arterial"),
        ("Arteriyel faz", "arterial"),
        ("肝脏动脉期", "arterial"),
        ("portal_venous", "portal_venous"),
        ("Abdomen portalvenös", "portal_venous"),
        ("Portalvenöse Phase", "portal_venous"),
        ("PV 70s", "portal_venous"),
        ("Temps portal", "portal_venous"),
        ("Fase portale", "portal_venous"),
        ("faza żylna", "portal_venous"),
        ("Portal venöz faz", "portal_venous"),
        ("门静脉期", "portal_venous"),
        ("门脉期 1.0mm", "portal_venous"),
        ("DELAYED 5min", "delayed"),
        ("Abdomen Spätphase", "delayed"),
        ("Abdomen Spaetphase", "delayed"),
        ("temps tardif", "delayed"),
        ("Fase de equilíbrio", "delayed"),
        ("faza opóźniona", "delayed"),
        ("Geç faz", "delayed"),
        ("延迟期", "delayed"),
        # Two phases, several acquisitions, or a delay of a known time: nothing is clear.
        ("art + portal venous", None),
        ("平扫+增强", None),
        ("W/WO CONTRAST", None),
        ("W AND W/O CONTRAST", None),
        ("mit und ohne KM", None),
        ("senza e con mdc", None),
        ("triphasic liver", None),
        ("CT Abdomen nativ + KM", None),
        ("Abdomen w/o oral with IV contrast", None),
        ("without oral contrast", None),
        ("plain and contrast", None),
        ("precontrast, postcontrast", None),
        ("simple y contrastado", None),
        ("enhanced abdomen", None),
        ("Abdomen with contrast, arterial", "arterial"),
        ("unenhanced", "non_contrast"),
        ("ABD 35 sec delay", None),
        ("Thorax routine", None),
        ("Stuart and Wolfgang", None),
        ("non-arterial", None),
        ("Abdomen no venous phase", None),
        ("keine Spätphase", None),
        ("ohne KM nativ", "non_contrast"),
        ("", None),
    ],
)
def test_phase_is_taken_from_words_only_where_they_are_clear(words, phase):
    assert phase_of({"SeriesDescription": words}) == phase


def test_series_description_decides_before_the_protocol_and_the_reason_names_it():
    header = {"SeriesDescription": "PV 1.25", "ProtocolName": "Abdomen nativ + PV"}
    assert header_phase(header) == ("portal_venous", "by the words of SeriesDescription")
    unclear = {"SeriesDescription": "art/ven", "ProtocolName": "nativ"}
    assert header_phase(unclear)[0] is None
    assert header_phase({"ContrastBolusAgent": "NONE"})[0] == "non_contrast"
    assert header_phase({"ContrastBolusAgent": "Iomeprol 350"})[0] is None


@pytest.mark.parametrize(
    ("header", "age"),
    [
        ({"PatientAge": "052Y"}, 52),
        ({"PatientAge": "093Y"}, 90),
        ({"PatientAge": "009M"}, None),
        ({"PatientBirthDate": "19500903", "StudyDate": "20140902"}, 63),
        ({"PatientBirthDate": "20090527", "StudyDate": "20090527"}, None),
        ({}, None),
    ],
)
def test_age_is_in_whole_years_and_capped_at_ninety(header, age):
    assert describe_header(header)["age_years"] == age


@pytest.mark.parametrize(
    "model",
    [
        "Quellmann Ludmilla",
        "SOMATOM Quellmann",
        "QX778812",
        "LightSpeed 19500317 Dorf",
        "SOMATOM 4711",
        "64",
        "SOMATOM " + "Definition " * 8,
    ],
)
def test_model_that_is_no_known_product_stays_inside(model):
    assert describe_header({"ManufacturerModelName": model})["model"] is None


def test_model_comes_out_in_its_makers_spelling():
    spelled = describe_header({"ManufacturerModelName": "somatom  definition as+"})["model"]
    assert spelled == "SOMATOM Definition AS+"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"BodyPartExamined": "CHESTABDPELVIS"}, "ct thorax-abdomen-pelvis"),
        ({"BodyPartExamined": "ABDOMEN", "StudyDescription": "Colonography"}, "ct colonography"),
        ({"StudyDescription": "CT Thorax/Abdomen/Becken"}, "ct thorax-abdomen-pelvis"),
        ({"StudyDescription": "TC addome superiore"}, "ct abdomen"),
        ({"StudyDescription": "胸部CT"}, "ct thorax"),
        ({"SeriesDescription": "CTA abdomen pelvis"}, "ct angiography abdomen-pelvis"),
        ({"StudyDescription": "Quellmann Ludmilla"}, None),
    ],
)
def test_study_type_is_built_from_the_parts_that_are_named(header, expected):
    assert study_type(header) == expected


@pytest.mark.parametrize(
    ("part", "regions"),
    [
        ("ABDOMEN", ("abdomen",)),
        ("PANCREAS", ("abdomen",)),
        ("NECKCHESTABDPELV", ("neck", "chest", "abdomen", "pelvis")),
        ("HEAD", ("head",)),
        ("EXTREMITY", ()),
        ("", ()),
    ],
)
def test_body_part_examined_names_regions(part, regions):
    assert header_regions({"BodyPartExamined": part}) == regions


@pytest.mark.parametrize(
    ("text", "sex"),
    [("F", "F"), ("M ", "M"), ("weiblich", "F"), ("Homme", "M"), ("男", "M"), ("O", None)],
)
def test_sex_is_f_or_m_or_nothing(text, sex):
    assert sex_of(text) == sex


def test_every_value_of_the_release_is_known_or_means_nothing(shared_data):
    for name in release_column(shared_data, "manufacturer"):
        assert describe_header({"Manufacturer": name})["manufacturer"], name
    for name in release_column(shared_data, "manufacturer model"):
        spelled = describe_header({"ManufacturerModelName": name})["model"]
        assert spelled is not None
        assert spelled.lower() == name.lower()
    for name in release_column(shared_data, "study type"):
        assert study_type({"StudyDescription": name}), name
    for name in release_column(shared_data, "sex"):
        assert sex_of(name) == name.strip()


def test_values_are_the_releases_own_words_where_it_agrees_with_itself(shared_data):
    makers = release_column(shared_data, "manufacturer")
    ours = {describe_header({"Manufacturer": name})["manufacturer"] for name in makers}
    assert ours == {"SIEMENS", "GE MEDICAL SYSTEMS", "Philips", "TOSHIBA"}
    assert ours <= set(makers)
    types = release_column(shared_data, "study type")
    same = sum(n for name, n in types.items() if study_type({"StudyDescription": name}) == name)
    assert same / sum(types.values()) > 0.8


def test_row_has_the_columns_of_the_table_and_no_other():
    facts = describe_header({"PatientSex": "F", "SeriesDescription": "PV 70s"})
    geometry = Geometry.from_spacing((4, 5, 6), (0.5, 0.75, 2.0))
    row = metadata_row(
        facts | {"surplus": "text"},
        geometry,
        case_id="case_a",
        patient_id="patient_b",
        split="train",
        site="site_c",
        lesions=2,
        diagnosis="PDAC",
        phase="arterial",
        phase_source="hu",
    )
    assert tuple(row) == METADATA_COLUMNS
    assert (row["phase"], row["phase_source"], row["diagnosis"]) == ("arterial", "hu", "PDAC")
    assert (row["shape"], row["spacing"]) == ("(4, 5, 6)", "(0.5, 0.75, 2.0)")


def test_words_that_the_vocabulary_reads_are_no_words_of_ours_but_those_it_writes_are():
    # Mann, Kopf and Herz are surnames; they are read as words and never written.
    assert not own_words() & {"mann", "kopf", "herz", "szyi", "frantz"}
    assert own_words() >= {"siemens", "somatom", "portal", "venous", "thorax", "pdac", "ipmn"}
    told = decide_phase(
        "arterial",
        "by the words of SeriesDescription",
        {"aorta": OrganHU(500, 166), "portal vein": OrganHU(500, 185)},
    )
    texts = ["Portal venous", "late arterial", "Kidneys", "Liver", "Abdomen-Pelvis"]
    scan = LeakScan(text_identifiers(texts, "SeriesDescription"))
    assert scan.value(told.as_record() | {"regions": "abdomen-pelvis"}, "record") == []


def test_vocabulary_is_part_of_the_package_and_its_words_are_plain():
    assert (resources.files("pantskit.ingest") / "data" / "vocabulary.toml").is_file()
    assert plain_words("Portal-venös, Łódź; Batın") == "portal venos lodz batin"
