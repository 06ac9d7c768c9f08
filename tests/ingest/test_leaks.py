"""The scan that looks for what should not be there: every form, every encoding, every format."""

from __future__ import annotations

import csv
import gzip
import json
import re
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from planting import TEXT_VRS, plant, planted_elements
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.ingest.privacy.identifiers import (
    identifying_values,
    merged,
    path_identifiers,
    text_identifiers,
)
from pantskit.ingest.privacy.leak_volumes import never_text
from pantskit.ingest.privacy.leaks import LeakScan, explain, identifiers_of_run
from pantskit.ingest.privacy.own_words import is_own

PERSON = {
    "PatientName": "Quellmann^Ludmilla",
    "PatientID": "00QX778812",
    "PatientBirthDate": "19500317",
    "OtherPatientIDs": "SSN-91827364",
    "AccessionNumber": "0005566778",
    "StudyID": "60321",
    "InstitutionName": "Northfield General",
    "ReferringPhysicianName": "Li^Bo",
    "StudyDate": "20140902",
    "StudyTime": "143012.5",
    "PatientComments": "call +99-5551234 after Kastanienallee",
    "StudyInstanceUID": "1.2.826.0.1.99.4711.20140902",
}


def header(**attributes) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.99.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def scan_for(**attributes) -> LeakScan:
    return LeakScan(merged(identifying_values(header(**attributes))))


def attributes_in(scan: LeakScan, text: str) -> set[str]:
    return {leak.attribute for leak in scan.text(text, "here")}


@pytest.mark.parametrize(
    ("text", "attribute"),
    [
        ("seen Ludmilla today", "PatientName"),
        ("quellmann, ludmilla", "PatientName"),
        ("LUDMILLA_QUELLMANN", "PatientName"),
        ("LudmillaQuellmann", "PatientName"),
        ("quellmann1950", "PatientName"),
        ("by Bo Li", "ReferringPhysicianName"),
        ("Li, Bo", "ReferringPhysicianName"),
        ("id_00qx778812", "PatientID"),
        ("778812", "PatientID"),
        ("xQX778812y", "PatientID"),
        ("SSN 91827364", "OtherPatientIDs"),
        ("ssn91827364", "OtherPatientIDs"),
        ("91827364", "OtherPatientIDs"),
        ("5566778", "AccessionNumber"),
        ("00005566778", "AccessionNumber"),
        ("60321", "StudyID"),
        ("scan_60321", "StudyID"),
        ("at  Northfield\tGeneral", "InstitutionName"),
        ("northfield", "InstitutionName"),
        ("1.2.826.0.1.99.4711.20140902", "StudyInstanceUID"),
        ("1_2_826_0_1_99_4711_20140902", "StudyInstanceUID"),
        ("1.2.826.0.1.99.4711.20140902.7.dcm", "StudyInstanceUID"),
        ("kastanienallee", "PatientComments"),
        ("5551234", "PatientComments"),
        ("at 14:30", "StudyTime"),
        ("14:30:12", "StudyTime"),
        ("2:30 pm", "StudyTime"),
        ("143012", "StudyTime"),
        ("20140902143012.000+0100", "StudyTime"),
    ],
)
def test_a_value_is_found_in_the_forms_it_is_written_in(text, attribute):
    assert attribute in attributes_in(scan_for(**PERSON), text)


DATE_FORMS = """19500317|1950-03-17|1950/03/17|1950.03.17|1950_03_17|17.03.1950|17.3.1950|17.3.50
17/03/1950|03/17/1950|3/17/50|17-03-1950|17031950|03171950|500317|170350|19500317T123000
1950-03-17T12:30|19500310-19500317|19500317123000.5+0100|17 March 1950|March 17, 1950
Mar 17th, 1950|17-MAR-1950|17mar1950|1950 Mar 17|17. März 1950|17. Maerz 1950|17 mars 1950
17 de marzo de 1950|17 marzo 1950|17 de março de 1950|17 maart 1950|17 marca 1950
17 марта 1950|1950年3月17日|1950년 3월 17일|March 1950|03/1950|1950-03|CT19500317""".replace(
    "\n", "|"
)


@pytest.mark.parametrize("text", DATE_FORMS.split("|"))
def test_a_birth_date_is_found_in_every_usual_form(text):
    scan = scan_for(PatientBirthDate="19500317")
    assert attributes_in(scan, f"x {text}") == {"PatientBirthDate"}


@pytest.mark.parametrize(
    "text",
    [
        "shape (512, 512, 119), spacing (0.743164, 0.743164, 1.6)",
        "0.19500317",
        "1.19500317.3",
        "17 of 3 slices, 50 mm",
        "python 3.11.7, pantskit 0.1.0",
        "1.2.840.10008.5.1.4.1.1.2 and 1.2.840.10008.1.2.1",
        "2.25.301920550995783170728016391556536700285",
        "case_nh2fosmbpq5e patient_e32wt3o3pclc",
        "a3f778812b0c1d2e3f405566778aabbccdd",
        "Quellmannsdorf",
        "a list of 60321 voxels",
        "quarantined: gantry tilt of 18.5 degrees in the series' positions",
        "12.5 14 30",
        "",
    ],
)
def test_measurements_hashes_and_our_own_words_are_no_leak(text):
    assert attributes_in(scan_for(**PERSON), text) == set()


def test_values_of_the_standard_and_of_our_own_are_not_looked_for():
    scan = scan_for(
        BodyPartExamined="ABDOMEN",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        PatientPosition="HFS",
        Manufacturer="SIEMENS",
        SeriesDescription="Abdomen portal venous 5 mm",
        PatientName="Anonymous^Patient",
        PatientBirthDate="19000101",
        StudyTime="000000",
        StudyID="1",
        SeriesNumber=3,
    )
    assert (
        attributes_in(scan, "abdomen original axial hfs SIEMENS portal venous patient 3") == set()
    )
    # Only the UID of the object remains.
    assert scan.needles == 1


NAMES = [
    ("ISO_IR 100", "Müller^Jürgen", ["Müller", "MUELLER", "Muller", "Juergen"]),
    ("ISO_IR 101", "Wałęsa^Łucja", ["Wałęsa", "walesa", "LUCJA"]),
    ("ISO_IR 144", "Иванов^Пётр", ["Иванов", "ИВАНОВ", "Петр"]),
    ("ISO_IR 126", "Διονυσιος^Νικος", ["Διονυσιος", "ΔΙΟΝΥΣΙΟΣ"]),
    ("ISO_IR 192", "王^小東", ["王小東", "小東", "小東 王"]),
    ("GB18030", "王^小东", ["王小东", "小东"]),
    (
        ["", "ISO 2022 IR 87"],
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ["Yamada", "山田", "山田太郎", "太郎 山田", "やまだ", "ﾔﾏﾀﾞ yamada"],
    ),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", ["Hong", "洪吉洞", "길동", "홍길동"]),
]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(("charset", "name", "forms"), NAMES)
@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_names_of_every_character_set_are_found(tmp_path, charset, name, forms, codec, syntax):
    import pydicom

    made = header(SpecificCharacterSet=charset, PatientName=name)
    item = Dataset()
    item.RequestingPhysician = name
    made.RequestAttributesSequence = [item]
    made.file_meta.TransferSyntaxUID = syntax
    made.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    scan = LeakScan(merged(identifying_values(pydicom.dcmread(tmp_path / "in.dcm"))))
    for form in forms:
        (tmp_path / "out.bin").write_bytes(b"\1\2\0" + f"it is {form} here".encode(codec) + b"\0\3")
        assert scan.file(tmp_path / "out.bin"), form
    # As the source wrote it.
    assert scan.file(tmp_path / "in.dcm")


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("latin-1", "Müller"), ("iso8859_2", "Wałęsa"), ("iso8859_5", "Иванов"),
        ("iso8859_7", "Διονυσιος"), ("gb18030", "小东"), ("iso2022_jp", "山田太郎"),
        ("shift_jis", "山田太郎"), ("euc_kr", "홍길동"),
    ],
)  # fmt: skip
def test_bytes_of_the_source_s_encoding_are_found(tmp_path, codec, name):
    scan = LeakScan(text_identifiers([name], "PatientName"))
    (tmp_path / "note").write_bytes(b"\0\1(" + name.encode(codec) + b")\0")
    assert scan.file(tmp_path / "note")


@pytest.mark.parametrize("vr", TEXT_VRS)
def test_every_element_that_holds_text_is_looked_for(vr, tmp_path):
    elements = planted_elements(vr)
    made = header()
    plant(made, elements)
    made.save_as(tmp_path / "leak.dcm", enforce_file_format=True)
    scan = LeakScan(merged(identifying_values(made)))
    found = {leak.attribute for leak in scan.file(tmp_path / "leak.dcm")}
    assert {e.keyword for e in elements} - found == set()
    for element in elements:  # each by itself, in a text
        assert attributes_in(scan, f"({element.needle})") >= {element.keyword}


def test_values_of_private_and_nested_elements_and_outside_the_data_set_are_looked_for():
    made = header()
    made.preamble = b"exported for Ludmilla".ljust(128, b"\0")
    made.file_meta.SourceApplicationEntityTitle = "AENORTHF"
    made.file_meta.PrivateInformationCreatorUID = "1.2.826.0.1.99.5"
    made.file_meta.PrivateInformation = b"\1\2Halloway\0"
    block = made.private_block(0x0029, "HOSPITAL 1.0", create=True)
    block.add_new(0x10, "LO", "Obrizky")
    block.add_new(0x11, "OB", b"\0\7" + "Tarvossen".encode("utf-16-le"))
    made.add_new(0x00350030, "UN", b"Minterholt")  # no creator
    deep = Dataset()
    deep.add_new(0x00290030, "UN", b"Fyrwald ")
    for _ in range(3):
        outer = Dataset()
        outer.RequestAttributesSequence = [deep]
        deep = outer
    made.ReferencedStudySequence = [deep]
    scan = LeakScan(merged(identifying_values(made)))
    expected = {
        "Ludmilla": "preamble",
        "AENORTHF": "SourceApplicationEntityTitle",
        "halloway": "PrivateInformation",
        "1.2.826.0.1.99.5": "PrivateInformationCreatorUID",
        "Obrizky": "private",
        "Tarvossen": "private",
        "Minterholt": "private",
        "Fyrwald": "private",
        "hospital": "private",
    }
    assert {text: attributes_in(scan, text) for text in expected} == {
        text: {attribute} for text, attribute in expected.items()
    }


@pytest.mark.parametrize(
    ("path", "text", "attribute"),
    [
        ("in/Mueller_Hans_19500317/I10", "Mueller", "folder name"),
        ("in/Mueller_Hans_19500317/I10", "Müller", "folder name"),
        ("in/Mueller_Hans_19500317/I10", "17.03.1950", "folder name"),
        ("in/MuellerHans/I10", "hans", "folder name"),
        ("in/x/QX778812_CT.dcm", "qx778812", "file name"),
        ("in/x/QX778812_CT.dcm", "0778812", "file name"),
        ("in/x/1.2.826.0.1.99.7.dcm", "uid 1.2.826.0.1.99.7", "file name"),
        ("in/H.Quellmann (19500317)/a.zip/b/c.nii.gz", "Quellmann", "folder name"),
        ("in/Patient Li Bo/c.nii.gz", "Bo_Li Li_Bo", "folder name"),
    ],
)
def test_names_of_files_and_folders_are_looked_for_in_their_parts(path, text, attribute):
    assert attributes_in(LeakScan(path_identifiers([path])), text) == {attribute}


def test_usual_names_of_files_and_folders_are_no_identifiers():
    paths = ["/data/scans/CT/series/image_1.dcm", "train/abdomen/liver/slice.nii.gz", "S1/I10"]
    scan = LeakScan(path_identifiers(paths))
    text = "ct series image train abdomen liver slice data dicom done 10 1 (512, 512, 10)"
    assert attributes_in(scan, text) == set()


def test_ids_of_a_clinical_table_are_looked_for():
    scan = LeakScan(text_identifiers(["PAC-0042", 778812.0, 1234], "clinical table"))
    assert attributes_in(scan, "pac-0042") == {"clinical table"}
    assert attributes_in(scan, "id_1234") == {"clinical table"}
    assert attributes_in(scan, "(1234, 5)") == set()


def test_given_words_and_facts_may_come_out_and_nothing_else_of_their_attributes():
    person = header(
        SeriesDescription="Somatom QX778812", PatientID="QX778812", StationName="Harbour East"
    )
    scan = LeakScan(
        merged(identifying_values(person)), own_words=["Harbour"], facts=["Somatom", "QX778812"]
    )
    assert attributes_in(scan, "Harbour Somatom") == set()
    assert attributes_in(scan, "Harbour East") == {"StationName"}
    assert attributes_in(scan, "QX778812") == {"PatientID"}


def test_a_folder_s_name_within_the_dataset_s_own_may_come_out_whole_words_only():
    found = path_identifiers(["in/quell_umberto/1.dcm"])
    named = LeakScan(found, own_words=["ds_quell_umberto"])
    assert attributes_in(named, "ds_quell_umberto") == set()
    other = LeakScan(found, own_words=["ds_quell_umbertos"])
    assert attributes_in(other, "ds quell umberto") == {"folder name"}


def test_a_folder_s_word_whose_plain_spelling_is_ours_is_looked_for_in_its_own_alone():
    scan = LeakScan(path_identifiers(["in/Paetient Groess/1.dcm"]))
    assert attributes_in(scan, "patient_id") == set()
    assert attributes_in(scan, "paetient") == {"folder name"}
    assert attributes_in(scan, "Gross") == {"folder name"}


def test_letters_of_a_table_s_coded_schema_are_no_leak_and_its_names_are(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "metadata.parquet"
    pl.DataFrame({"quellmann": [1, 2]}).write_parquet(path)
    schema = pq.read_metadata(path).metadata[b"ARROW:schema"].decode()
    letters = next(word for word in re.findall("[A-Za-z]{4,}", schema) if not is_own(word.lower()))
    assert LeakScan({letters.lower(): "private"}).file(path) == []
    assert {leak.attribute for leak in LeakScan({"quellmann": "private"}).file(path)} == {"private"}


def test_codes_of_axes_that_are_first_names_are_no_leak_and_the_whole_name_is():
    scan = LeakScan(merged(identifying_values(header(PatientName="Quellmann^Lia"))))
    assert attributes_in(scan, "LIA") == set()
    assert attributes_in(scan, "Lia Quellmann") == {"PatientName"}


def test_a_dataset_may_be_called_as_the_numbered_folder_it_was_made_from():
    found = path_identifiers(["in/quellberg12/1.dcm"])
    assert attributes_in(LeakScan(found), "quellberg12") == {"folder name"}
    assert attributes_in(LeakScan(found, own_words=["quellberg12"]), "quellberg12") == set()
    other = LeakScan(found, own_words=["harbour12"])
    assert attributes_in(other, "quellberg12") == {"folder name"}


def test_names_of_masks_may_come_out_and_a_patient_s_may_not():
    found = path_identifiers(["in/QuellTumor/liverspot.nii.gz"])
    person = merged(identifying_values(header(PatientName="Quellmann^Ludmilla")))
    scan = LeakScan({**found, **person}, label_names=["liverspot", "Quellmann"])
    assert attributes_in(scan, "liverspot") == set()
    assert attributes_in(scan, "Quellmann") == {"PatientName"}


def test_a_run_s_tables_are_looked_through_without_the_values_of_single_slices():
    one = merged(identifying_values(header(**PERSON, SOPInstanceUID="1.2.826.0.1.99.88.1")))
    found = identifiers_of_run([one, text_identifiers(["Halloway"], "PatientName")])
    assert "halloway" in found
    assert "quellmann" in found
    assert not any(value.startswith("uid:1.2.826.0.1.99.88") for value in found)


@pytest.fixture
def scan() -> LeakScan:
    return scan_for(**PERSON)


def nifti(path: Path, voxels, *, descrip: bytes = b"", extension: bytes = b"") -> Path:
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header["descrip"] = descrip
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, extension))
    nib.save(image, path)
    return path


VOXELS = np.random.default_rng(0).integers(-1000, 1001, (70, 60, 50)).astype(np.int16)


def passed(scan: LeakScan, voxels, slices: int = 7):
    """Voxels that went by a few slices at a time, as they do on their way into a file."""
    seen = scan.voxels()
    for k in range(0, voxels.shape[2], slices):
        seen.add(voxels[:, :, k : k + slices])
    return seen


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("place", ["descrip", "extension", "wide extension"])
def test_name_in_a_nifti_header_is_found(tmp_path, scan, dtype, suffix, place):
    voxels = VOXELS if dtype == np.int16 else (VOXELS > 0).astype(np.uint8)
    path = tmp_path / f"ct{suffix}"
    assert scan.file(nifti(path, voxels)) == []
    wide = "for Ludmilla".encode("utf-16-be")
    nifti(
        path,
        voxels,
        descrip=b"CT of Ludmilla" if place == "descrip" else b"",
        extension={"extension": b"for Ludmilla", "wide extension": wide}.get(place, b""),
    )
    assert [(leak.attribute, leak.place) for leak in scan.file(path)] == [
        ("PatientName", path.name)
    ]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 5_001, (1 << 19) - 190, (1 << 19) - 176, 600_000])
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_text_among_voxels_is_found_wherever_it_stands(tmp_path, scan, start, wide, suffix):
    voxels = np.zeros(1_000_000, np.int16)
    text = b"for QUELLMANN of Ward"
    letters = np.frombuffer(text.ljust(22), np.uint8).astype(np.int16)
    values = letters if wide else np.frombuffer(text.ljust(22), np.int16)
    voxels[start : start + values.size] = values
    path = nifti(tmp_path / f"ct{suffix}", voxels.reshape(100, 100, 100, order="F"))
    assert {leak.attribute for leak in scan.file(path)} == {"PatientName"}


@pytest.mark.parametrize("start", [0, 3, 90, 95, 99, 185, 1_998])
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("shape", [(10, 10, 30), (4, 3, 250)])
def test_text_across_slabs_is_found_without_unpacking(tmp_path, scan, start, wide, shape):
    text = b"for QUELLMANN of Ward".ljust(22)
    letters = np.frombuffer(text, np.uint8).astype(np.int16)
    values = letters if wide else np.frombuffer(text, np.int16)
    voxels = np.zeros(3_000, np.int16)
    voxels[start : start + values.size] = values
    ct = voxels.reshape(shape, order="F")
    path = tmp_path / "ct.nii.gz"
    write_volume(path, Volume(ct, Geometry(shape, np.eye(4))))
    seen = passed(scan, ct, slices=1)
    assert seen.pieces(path) is not None
    assert {leak.attribute for leak in scan.file(path, seen)} == {"PatientName"}


def test_text_in_a_mask_is_found_and_a_mask_holds_none(tmp_path, scan):
    mask = (VOXELS > 0).astype(np.uint8)
    assert scan.file(nifti(tmp_path / "m.nii.gz", mask)) == []
    mask.reshape(-1, order="F")[:0] = 0
    flat = mask.ravel(order="F")
    flat[7000:7009] = np.frombuffer(b"quellmann", np.uint8)
    path = nifti(tmp_path / "m.nii.gz", flat.reshape(mask.shape, order="F"))
    assert {leak.attribute for leak in scan.file(path)} == {"PatientName"}


def test_our_own_writer_s_files_hold_nothing_and_are_known_by_their_voxels(tmp_path, scan):
    geometry = Geometry(VOXELS.shape, np.diag([1.0, 1.0, 2.0, 1.0]))
    ct = np.asfortranarray(VOXELS)
    write_volume(tmp_path / "ct.nii.gz", Volume(ct, geometry))
    write_volume(tmp_path / "m.nii.gz", Volume(ct > 0, geometry))
    assert scan.file(tmp_path / "ct.nii.gz") == []
    assert scan.file(tmp_path / "ct.nii.gz", passed(scan, ct)) == []
    assert scan.file(tmp_path / "m.nii.gz") == []
    assert scan.looked.files == 3
    assert scan.looked.bytes_read == 2 * (352 + 2 * ct.size) + 352 + ct.size


@pytest.mark.parametrize("damage", ["other voxels", "loose bytes", "second member"])
def test_voxels_at_hand_do_not_hide_what_the_file_holds_besides(tmp_path, scan, damage):
    ct = np.asfortranarray(VOXELS)
    path = tmp_path / "ct.nii.gz"
    write_volume(path, Volume(ct, Geometry(ct.shape, np.eye(4))))
    if damage == "other voxels":
        there = ct.copy(order="F")
        there.ravel(order="K")[100:109] = np.frombuffer(b"quellmann", np.uint8)
        write_volume(path, Volume(there, Geometry(ct.shape, np.eye(4))))
    elif damage == "loose bytes":
        path.write_bytes(path.read_bytes() + b"see Quellmann")
    else:
        path.write_bytes(path.read_bytes() + gzip.compress(b"see Quellmann", mtime=0))
    assert {leak.attribute for leak in scan.file(path, passed(scan, ct))} == {"PatientName"}


def test_name_in_a_gzip_header_is_found(tmp_path):
    with (
        (tmp_path / "ct.nii.gz").open("wb") as raw,
        gzip.GzipFile("Quellmann.nii", "wb", 1, raw) as f,
    ):
        f.write(b"\0" * 400)
    (leak,) = LeakScan({}).file(tmp_path / "ct.nii.gz")
    assert leak.attribute == "gzip header"
    second = gzip.compress(b"a", mtime=0) + (tmp_path / "ct.nii.gz").read_bytes()
    (tmp_path / "b.gz").write_bytes(second)
    assert LeakScan({}).file(tmp_path / "b.gz")


@pytest.mark.parametrize(
    ("value", "never"),
    [(-32768, False), (-2049, False), (-2048, True), (8191, True), (8192, False), (32767, False)],
)
def test_voxels_are_no_text_while_no_high_byte_can_be_a_letter(value, never):
    # High bytes 0x20 (a space) to 0xf7 occur in text.
    voxels = np.zeros(1000, np.int16)
    voxels[777] = value
    assert never_text(voxels) is never
    assert never_text(voxels[:0])


def test_random_voxels_never_look_like_a_name(tmp_path):
    names = [f"{a}{b}{c}" for a in "abcdef" for b in "xyz" for c in "klm"]
    scan = LeakScan(text_identifiers([*names, *(n * 2 for n in names)], "PatientName"))
    soft = np.random.default_rng(1).normal(90, 25, (100, 100, 100)).astype(np.int16)
    assert scan.file(nifti(tmp_path / "a.nii.gz", soft)) == []
    assert scan.file(nifti(tmp_path / "b.nii.gz", VOXELS)) == []


def test_text_of_compressed_parquet_columns_and_metadata_is_found(tmp_path, scan):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "metadata.parquet"
    clean = pl.DataFrame({"case_id": ["case_abc"] * 500, "age": [64] * 500, "x": [0.743012] * 500})
    clean.write_parquet(path, compression="zstd")
    assert scan.file(path) == []
    notes = [f"note {n * 7919 % 499} of Ludmilla Quellmann" for n in range(499)]
    notes = pl.Series("note", ["a", *notes])  # the least stands in the statistics as it is
    clean.with_columns(notes).write_parquet(path, compression="zstd", statistics=False)
    assert b"Quellmann" not in path.read_bytes()
    assert {leak.attribute for leak in scan.file(path)} == {"PatientName"}
    clean.with_columns(pl.Series("id", [91827364] * 500)).write_parquet(path)
    assert {leak.attribute for leak in scan.file(path)} == {"OtherPatientIDs"}
    clean.with_columns(pl.Series("l", [["a", "Quellmann"]] * 500)).write_parquet(path)
    assert scan.file(path)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"of": "Quellmann"}), path)
    assert scan.file(path)
    pq.write_table(pa.table({"Quellmann": [1]}), path)
    assert scan.file(path)


def test_cells_of_tables_and_values_and_keys_of_records_are_found(tmp_path, scan):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["case", "voxels", "x"], ["c", 5566, 0.143012], ["d", 9, "e"]])
    assert scan.file(tmp_path / "a.csv") == []
    with (tmp_path / "a.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["e", "0005566778", 'said "Quellmann", then'])
    found = {leak.attribute for leak in scan.file(tmp_path / "a.csv")}
    assert found == {"AccessionNumber", "PatientName"}
    (tmp_path / "a.json").write_text(
        json.dumps({"a": [{"b": "M\\u00fc"}, 143012, 0.5, True, None]})
    )
    assert scan.file(tmp_path / "a.json") == []
    (tmp_path / "a.json").write_text(json.dumps({"of Ludmilla": 1, "b": [91827364]}))
    found = {leak.attribute for leak in scan.file(tmp_path / "a.json")}
    assert found == {"PatientName", "OtherPatientIDs"}
    assert {leak.attribute for leak in scan.value({"x": ("Quellmann",)}, "record")} == {
        "PatientName"
    }


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"after"])
def test_text_of_png_chunks_is_found(tmp_path, scan, kind):
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    body = {
        b"tEXt": b"Title\0of Quellmann",
        b"zTXt": b"Title\0\0" + zlib.compress(b"of Quellmann"),
        b"iTXt": b"Title\0\1\0\0\0" + zlib.compress("für Quellmann".encode()),
        b"eXIf": b"MM\0*" + b"Quellmann",
    }
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
    parts += [chunk(b"IDAT", zlib.compress(b"\0\0"))]
    clean = b"".join([*parts, chunk(b"IEND", b"")])
    (tmp_path / "a.png").write_bytes(clean)
    assert scan.file(tmp_path / "a.png") == []
    parts += [chunk(kind, body[kind])] if kind in body else []
    parts += [chunk(b"IEND", b""), b"" if kind in body else b"Quellmann"]
    (tmp_path / "a.png").write_bytes(b"".join(parts))
    assert scan.file(tmp_path / "a.png")


def test_names_of_files_and_folders_written_are_looked_through(tmp_path, scan):
    folder = tmp_path / "out" / "case_1" / "Quellmann_CT"
    folder.mkdir(parents=True)
    (folder / "id_778812.json").write_text("{}")
    leaks = scan.folder(tmp_path / "out")
    assert {leak.attribute for leak in leaks} == {"PatientName", "PatientID"}
    message = explain(leaks)
    assert "PatientName in file name" in message
    assert "uellmann" not in message
    assert "778812" not in message


def test_message_of_a_leak_repeats_no_name_of_a_file_that_is_one(tmp_path, scan):
    (tmp_path / "Quellmann.txt").write_text("Ludmilla")
    assert "uellmann" not in explain(scan.file(tmp_path / "Quellmann.txt"))


def test_pseudonyms_hold_no_time_name_or_number_though_they_look_like_one():
    scan = LeakScan({"time:072730": "StudyTime", "wang": "PatientName", "number:7": "PatientID"})
    assert scan.text("case_a7h27bcdefgh", "here") == []
    assert scan.text("patient_2wang3abcdef at site_77aaaaaaaaaa", "here") == []
    assert scan.text("case_a7h27bcdefgh of wang", "here")
    assert scan.text("case_wang", "here")


def test_shape_and_spacing_are_numbers():
    scan = LeakScan({"0 754321 0 754321": "private", "number:12345678": "PatientID"})
    assert scan.value({"spacing": "(0.754321, 0.754321, 2.5)"}, "here") == []
    assert scan.value(np.diag([-0.754321, 0.754321]), "here") == []
    assert scan.text("(12345678, 2)", "here")
