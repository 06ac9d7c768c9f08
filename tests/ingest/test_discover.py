"""Sources of every form: what is found, and what is said of the rest, which never stops a run."""

from __future__ import annotations

import io
import os
import signal
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from nrrd_files import VALUES
from nrrd_files import write as nrrd
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pantskit.core.errors import ConfigError, ImageError
from pantskit.core.workers import Workers
from pantskit.ingest.dicom.headers import DIRECTORY
from pantskit.ingest.discovery import archives
from pantskit.ingest.discovery.discover import discover
from pantskit.ingest.discovery.reading import Contents, _read_batch
from pantskit.ingest.discovery.recognise import kind_of
from pantskit.ingest.discovery.sources import BadSource, Reader, SourceFile, find_files
from pantskit.ingest.report import summary_lines


def names(*sources: Path) -> list[str]:
    return [f.name for f in find_files(sources) if isinstance(f, SourceFile)]


def bad(*sources: Path) -> list[str]:
    return [b.message for b in discover(sources).bad]


def zipped(path: Path, *sources: Path, below: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for source in sources:
            for file in sorted(source.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(below))
    return path


def bare(dataset: FileDataset, path: Path, *, implicit: bool, big: bool = False) -> Path:
    """A data set as exports before part 10 wrote it: no preamble, no mark, no meta."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = Dataset(dict(dataset.items()))
    pydicom.dcmwrite(path, plain, implicit_vr=implicit, little_endian=not big)
    assert path.read_bytes()[128:132] != b"DICM"
    return path


# --- folders -------------------------------------------------------------------------------


def test_files_are_found_in_any_nesting_with_or_without_extension(series, tmp_path):
    series().write(tmp_path / "in" / "a" / "b" / "c")
    named = series().write(tmp_path / "in" / "z")
    for file in named.iterdir():
        file.rename(file.with_suffix(".IMA"))
    found = discover([tmp_path / "in"])
    assert [len(s.slices) for s in found.series] == [5, 5]
    assert (found.bad, found.others) == ([], 0)


def test_what_operating_systems_leave_is_no_file_of_the_source(series, tmp_path):
    folder = series().write(tmp_path / "in")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._000", "__MACOSX/._000"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert len(names(folder)) == 5


def test_links_are_followed_once_and_never_round_in_circles(series, tmp_path):
    folder = series().write(tmp_path / "real")
    sources = tmp_path / "in"
    sources.mkdir()
    (sources / "here").symlink_to(folder)
    (sources / "again").symlink_to(folder)
    (folder / "up").symlink_to(sources)
    (folder / "round").symlink_to(folder / "round")
    found = discover([sources])
    assert [len(s.slices) for s in found.series] == [5]
    assert len(found.bad) == 1  # the link to itself


def test_link_to_a_missing_file_may_be_a_slice_and_is_told(series, tmp_path):
    folder = series().write(tmp_path / "in")
    (folder / "005").symlink_to(tmp_path / "gone")
    assert bad(folder) == ["a link to what is not there"]
    assert discover([folder]).series[0].doubt


def test_folder_that_may_not_be_looked_into_is_told_and_the_rest_is_read(
    series, tmp_path, monkeypatch
):
    series().write(tmp_path / "in" / "open")
    (tmp_path / "in" / "closed").mkdir()
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("pantskit.ingest.discovery.sources.os.scandir", guarded)
    found = discover([tmp_path / "in"])
    assert len(found.series) == 1
    assert [b.message for b in found.bad] == ["cannot be looked at (Permission denied)"]


def test_unreadable_file_is_told_without_its_name(series, tmp_path, monkeypatch):
    folder = series().write(tmp_path / "in")
    plain_open = Path.open

    def guarded(path, *args, **kwargs):
        if path.name == "000":
            raise PermissionError(13, "Permission denied", str(path))
        return plain_open(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", guarded)
    assert bad(folder) == ["cannot be read (Permission denied)"]


def test_pipes_and_empty_folders_are_no_files(tmp_path):
    (tmp_path / "in" / "empty").mkdir(parents=True)
    os.mkfifo(tmp_path / "in" / "pipe")
    assert discover([tmp_path / "in"]).empty


def test_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        discover([tmp_path / "nowhere"])


def test_a_file_given_twice_is_read_once(series, tmp_path):
    folder = series().write(tmp_path / "in")
    assert len(names(folder, folder, folder / "000")) == 5


# --- DICOM without its mark ----------------------------------------------------------------


@pytest.mark.parametrize(("implicit", "big"), [(True, False), (False, False), (False, True)])
def test_series_without_preamble_and_mark_is_read_as_it_would_be_with_them(
    series, tmp_path, implicit, big
):
    made = series()
    made.stored = made.stored if not big else made.stored.byteswap()
    for k in range(5):
        bare(made.dataset(k), tmp_path / "in" / str(k), implicit=implicit, big=big)
    (found,) = discover([tmp_path / "in"]).series
    assert (len(found.slices), found.skip, found.fault) == (5, "", "")
    positions = sorted(s.position for s in found.slices)
    assert np.allclose(positions, sorted(map(tuple, made.positions)))
    with Reader() as reader, reader.read(found.first.file) as stream:
        pixels = pydicom.dcmread(stream).pixel_array
    stored = series(uid=made.uid).stored[int(found.first.file.name)]
    assert np.array_equal(pixels, stored)


def test_group_2_without_preamble_is_dicom(series, tmp_path):
    made = series()
    made.write(tmp_path / "in")
    for file in (tmp_path / "in").iterdir():
        file.write_bytes(file.read_bytes()[132:])
    (found,) = discover([tmp_path / "in"]).series
    assert len(found.slices) == 5
    assert found.first.transfer_syntax == ExplicitVRLittleEndian


def test_mark_without_the_preamble_before_it_is_dicom(series, tmp_path):
    made = series()
    made.write(tmp_path / "in")
    for file in (tmp_path / "in").iterdir():
        file.write_bytes(file.read_bytes()[128:])
    (found,) = discover([tmp_path / "in"]).series
    with Reader() as reader, reader.read(found.first.file) as stream:
        one = pydicom.dcmread(stream)
    assert len(found.slices) == 5
    assert np.array_equal(one.pixel_array, made.stored[one.InstanceNumber - 1])


def test_noise_text_and_nifti_are_never_dicom(tmp_path):
    rng = np.random.default_rng(1)
    nifti = struct.pack("<i", 348) + bytes(400)
    starts = [b"\x08\0", b"\x02\0", b"\0\x08", b"\x08\0\x05\0", b"\x08\0\x05\0CS", b"\x08\0\0\0UL"]
    contents = [nifti, b"PatientName: Quellmann\n" * 40, b"\x08\0\x05\0CS\x0a\0ISO_IR 100"]
    contents += [s + rng.bytes(600) for s in starts for _ in range(200)]
    assert {kind_of(io.BytesIO(c)) for c in contents} == {"other"}


def test_file_named_dicom_that_is_none_may_be_a_lost_slice(series, tmp_path):
    folder = series().write(tmp_path / "in")
    (folder / "005.dcm").write_bytes(b"all of it overwritten" * 40)
    (folder / "notes.txt").write_text("a note")
    found = discover([folder])
    assert [b.message for b in found.bad] == ["named as a DICOM file, and its content is none"]
    assert found.others == 1
    assert found.series[0].doubt


def test_many_files_of_a_folder_that_are_bad_alike_are_told_together(tmp_path):
    # As a copy to a full disk leaves them: ten thousand records would tell no more.
    for folder, count in (("many", 21), ("few", 20)):
        (tmp_path / folder).mkdir()
        for n in range(count):
            (tmp_path / folder / f"{n:02}").touch()
    (tmp_path / "many" / "x.dcm").write_text("a letter")
    found = discover([tmp_path])
    told = [one for one in found.bad if one.file.folder.name == "many"]
    assert [(one.file.name, one.message) for one in told] == [
        (
            "00",
            "the file is empty, or its DICOM mark is damaged; so are 20 more files of this folder",
        ),
        ("x.dcm", "named as a DICOM file, and its content is none"),
    ]
    assert len(found.bad) - len(told) == 20


# --- archives ------------------------------------------------------------------------------


def test_archives_are_folders_also_inside_one_another(series, tmp_path):
    one = series().write(tmp_path / "raw" / "one" / "ct")
    two = series().write(tmp_path / "raw" / "two")
    (tmp_path / "box").mkdir()
    zipped(tmp_path / "box" / "inner.zip", one, below=tmp_path / "raw")
    zipped(tmp_path / "outer.ZIP", tmp_path / "box", two, below=tmp_path)
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "outer.ZIP", "patient/outer.ZIP")
        tar.add(two, "patient/two")
    found = discover([tmp_path / "outer.ZIP"])
    folders = sorted(str(s.first.file.folder.relative_to(tmp_path)) for s in found.series)
    assert folders == ["outer.ZIP/box/inner.zip/one/ct", "outer.ZIP/raw/two"]
    assert [len(s.slices) for s in discover([tmp_path / "all.tar.gz"]).series] == [5, 10]
    with Reader() as reader:  # in whatever order they are asked for
        for one_series in found.series * 2:
            with reader.read(one_series.first.file) as stream:
                assert pydicom.dcmread(stream).SeriesInstanceUID == one_series.first.series_uid


def test_archives_nested_too_deep_or_damaged_are_told_and_the_rest_is_read(series, tmp_path):
    folder = series().write(tmp_path / "ct")
    path = zipped(tmp_path / "0.zip", folder, below=tmp_path)
    for depth in range(1, archives.MAX_DEPTH + 1):
        outer = tmp_path / f"{depth}.zip"
        with zipfile.ZipFile(outer, "w") as archive:
            archive.write(path, path.name)
            archive.writestr("broken.zip", b"PK\3\4 and no more")
        path = outer
    messages = bad(path)
    assert sum("not a readable archive" in m for m in messages) == archives.MAX_DEPTH - 1
    assert sum("nested more than 3 deep" in m for m in messages) == 2


def test_archive_within_that_unpacks_without_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("inner.zip", bytes(2000))
    with tarfile.open(tmp_path / "in.tgz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x"), io.BytesIO(b""))
    (message,) = bad(tmp_path / "in.zip")
    assert "such an archive is not read" in message
    (message,) = bad(tmp_path / "in.tgz")
    assert "unpacks to more than 1000 bytes" in message


def test_encrypted_archive_is_told(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("slice", b"x" * 200)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1  # flag of the central directory
    path.write_bytes(raw)
    assert bad(path) == ["archive is encrypted; unpack it first"]


def test_links_and_devices_of_a_tar_are_left(tmp_path):
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"entry{kind!r}")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert names(tmp_path / "in.tar") == []


@pytest.mark.parametrize("name", ["ct.nii.gz", "CT.NII.GZ", "ct.nii", "ct.NRRD", "ct.seg.nrrd"])
def test_volume_inside_an_archive_is_lent_as_a_file_and_taken_back(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr(f"case/{name}", b"content")
    (file,) = discover([tmp_path / "in.zip"]).volumes
    with Reader() as reader, reader.local(file) as path:
        assert path.read_bytes() == b"content"
        assert path.name.endswith(name.lower().removeprefix("ct"))
    assert not path.exists()
    assert not path.parent.exists()


def test_volume_on_disk_is_lent_as_it_is(tmp_path):
    (tmp_path / "ct.NII.GZ").write_bytes(b"content")
    (file,) = discover([tmp_path]).volumes
    with Reader() as reader, reader.local(file) as path:
        assert path == tmp_path / "ct.NII.GZ"
    assert path.exists()


def test_volume_that_unpacks_to_more_than_a_member_may_is_not_lent(tmp_path, monkeypatch):
    monkeypatch.setattr("pantskit.ingest.discovery.sources.MAX_MEMBER_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("ct.nii", bytes(2000))
    (file,) = discover([tmp_path / "in.zip"]).volumes
    with Reader() as reader, pytest.raises(ImageError, match="more than 1000"):  # noqa: SIM117
        with reader.local(file):
            pass


# --- DICOMDIR ------------------------------------------------------------------------------


def directory(folder: Path, listed: dict[str, list[tuple[str, ...]]], *, uids=None) -> Path:
    """A DICOMDIR: series UID to the paths of its files; no SOP UIDs unless given."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DIRECTORY
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    records = []
    for uid, files in listed.items():
        series = Dataset()
        series.DirectoryRecordType, series.SeriesInstanceUID, series.Modality = "SERIES", uid, "CT"
        records.append(series)
        for parts in files:
            image = Dataset()
            image.DirectoryRecordType, image.ReferencedFileID = "IMAGE", list(parts)
            if uids:
                image.ReferencedSOPInstanceUIDInFile = uids[parts]
            records.append(image)
    index.DirectoryRecordSequence = records
    folder.mkdir(parents=True, exist_ok=True)
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


@pytest.fixture
def medium(series, tmp_path):
    """A medium with two series, and a DICOMDIR that lists all their files."""
    made = {name: series() for name in ("S1", "S2")}
    root = tmp_path / "CD"
    for name, one in made.items():
        one.write(root / name)
    listed = {
        one.uid: [(name, f.name) for f in sorted((root / name).iterdir())]
        for name, one in made.items()
    }
    directory(root, listed)
    return root, made


def test_dicomdir_is_an_index_and_no_image(medium):
    root, _ = medium
    found = discover([root])
    assert [(len(s.slices), s.doubt) for s in found.series] == [(5, ""), (5, "")]
    assert (found.bad, found.others) == ([], 1)


def test_series_of_which_listed_files_are_missing_is_in_doubt(medium):
    root, made = medium
    last = max((root / "S2").iterdir(), key=lambda f: pydicom.dcmread(f).InstanceNumber)
    last.unlink()
    doubts = {s.first.series_uid: s.doubt for s in discover([root]).series}
    assert doubts[made["S1"].uid] == ""
    assert "lists 1 more files of this series" in doubts[made["S2"].uid]


def test_series_of_which_nothing_is_there_is_told(medium):
    root, _ = medium
    for file in (root / "S1").iterdir():
        file.unlink()
    (message,) = bad(root)
    assert "lists 5 files of 1 series of which nothing is here" in message


def test_dicomdir_moved_with_its_files_or_beside_renamed_ones_is_no_fault(series, tmp_path):
    made = series()
    folder = made.write(tmp_path / "moved")
    files = sorted(folder.iterdir())
    directory(folder, {made.uid: [("OTHER", "ROOT", f.name) for f in files]})
    assert [s.doubt for s in discover([folder]).series] == [""]
    uids = {(f"X{n}",): pydicom.dcmread(f).SOPInstanceUID for n, f in enumerate(files)}
    directory(folder, {made.uid: list(uids)}, uids=uids)
    assert [s.doubt for s in discover([folder]).series] == [""]


def test_dicomdir_as_a_source_reads_what_it_lists_and_nothing_else(series, tmp_path):
    made, beside = series(), series()
    root = tmp_path / "cd"
    made.write(root / "images")
    beside.write(root / "unlisted")
    outside = series().write(tmp_path / "outside")
    listed = [("IMAGES", f"{f.name};1") for f in (root / "images").iterdir()]
    (root / "LINK").symlink_to(outside)
    ways_out = [("..", "outside", "000"), ("../outside/000",), ("LINK", "000"), ("/", "etc")]
    found = discover([directory(root, {made.uid: [*listed, *ways_out]})])
    assert [s.first.series_uid for s in found.series] == [made.uid]
    assert len(found.series[0].slices) == 5


def test_damaged_dicomdir_is_told(series, tmp_path):
    folder = series().write(tmp_path / "in")
    path = directory(folder, {"1.2": [("A",)]})
    path.write_bytes(path.read_bytes()[:-20])
    found = discover([folder])
    assert len(found.series) == 1
    assert len(found.bad) <= 1


# --- which series a damaged file is of -----------------------------------------------------


def test_damaged_file_doubts_the_series_whose_uid_it_still_tells(series, tmp_path):
    one, two = series(), series()
    folder = one.write(tmp_path / "in")
    for k in range(5):  # the names of the two are mixed
        two.dataset(k).save_as(folder / f"{(k * 7919) % 1000:03d}b", enforce_file_format=True)
    path = folder / f"{(4 * 7919) % 1000:03d}b"
    storage = CTImageStorage.encode()
    path.write_bytes(path.read_bytes().replace(storage, b" " * len(storage)))
    found = discover([folder])
    assert len(found.bad) == 1
    doubts = {s.first.series_uid: bool(s.doubt) for s in found.series}
    assert doubts == {one.uid: False, two.uid: True}


def test_damaged_file_without_a_uid_doubts_its_neighbours_by_name(series, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    made = [series(), series(), series()]
    for n, one in enumerate(made):
        for k in range(5):
            one.dataset(k).save_as(folder / f"I{n * 5 + k + 1}", enforce_file_format=True)
    (folder / "I10").write_bytes(b"")  # the last of the second: between I9 and I11
    doubts = {s.first.series_uid: bool(s.doubt) for s in discover([folder]).series}
    assert doubts == {made[0].uid: False, made[1].uid: True, made[2].uid: True}


# --- workers -------------------------------------------------------------------------------


def test_result_is_the_same_whatever_the_number_of_workers(series, tmp_path):
    for n in range(3):
        series().write(tmp_path / "in" / f"s{n}")
    (tmp_path / "in" / "s1" / "broken").write_bytes(b"\0" * 128 + b"DICM\x02\0")
    seen: list[int] = []
    here = discover([tmp_path / "in"])
    with Workers(2) as workers:
        there = discover([tmp_path / "in"], workers=workers, progress=seen.append)
    assert there.series == here.series
    assert there.bad == here.bad
    assert seen[-1] == 16


def read_batch_that_dies(item: tuple[int, tuple[SourceFile, ...]]) -> list[Contents]:
    """As the real one, but for files whose names say what they do to it."""
    for file in item[1]:
        if file.name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if file.name == "hang":
            time.sleep(600)
    return _read_batch(item)


@pytest.mark.slow
def test_file_that_crashes_or_hangs_its_reader_costs_itself_only(series, tmp_path, monkeypatch):
    for n in range(2):
        series().write(tmp_path / "in" / f"s{n}")
    for name in ("crash", "hang"):
        (tmp_path / "in" / "s0" / name).write_bytes(b"")
    monkeypatch.setattr("pantskit.ingest.discovery.reading._read_batch", read_batch_that_dies)
    monkeypatch.setattr("pantskit.ingest.discovery.reading._BATCH", 4)
    monkeypatch.setattr("pantskit.ingest.discovery.reading._BATCH_TIMEOUT_S", 20.0)
    monkeypatch.setattr("pantskit.ingest.discovery.reading._FILE_TIMEOUT_S", 20.0)
    with Workers(2) as workers:
        found = discover([tmp_path / "in"], workers=workers)
    assert [len(s.slices) for s in found.series] == [5, 5]
    assert [b.file.name for b in found.bad] == ["crash", "hang"]
    crash, hang = (b.message for b in found.bad)
    assert "SIGSEGV" in crash
    assert "took longer than 20 s" in hang
    assert all("in/s0" not in b.message for b in found.bad)


def test_bad_sources_name_no_file(tmp_path):
    (tmp_path / "Quellmann.zip").write_bytes(b"no archive")
    (tmp_path / "Quellmann.dcm").write_bytes(b"no DICOM")
    sources = discover([tmp_path]).bad
    assert len(sources) == 2
    assert all(isinstance(b, BadSource) and "Quellmann" not in b.message for b in sources)


@pytest.mark.parametrize("implicit", [True, False])
def test_transfer_syntax_of_bare_files_is_what_their_bytes_are(series, tmp_path, implicit):
    bare(series().dataset(0), tmp_path / "x", implicit=implicit)
    with Reader() as reader, reader.open(SourceFile(tmp_path / "x")) as stream:
        syntax = pydicom.dcmread(stream).file_meta.TransferSyntaxUID
    assert syntax == (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)


def test_slices_named_as_volumes_are_slices(series, tmp_path):
    folder = series().write(tmp_path / "in")
    for path in sorted(folder.rglob("*"))[:2]:
        path.rename(path.with_name(f"{path.stem}.nii"))
    found = discover([folder])
    assert found.volumes == []
    assert [len(s.slices) for s in found.series] == [5]


def test_what_a_run_writes_into_its_source_is_no_source_of_the_next(series, run, tmp_path):
    folder = series().write(tmp_path / "in" / "scan").parent
    places = {"out": "in/dataset", "export_dicom": folder / "exported"}
    assert run(folder, **places).statuses == ["done"]
    assert (folder / "exported").is_dir()
    assert run(folder, **places).statuses == ["done"]
    with pytest.raises(ConfigError, match="which this run writes to"):
        run(folder / "dataset", out="in/dataset")


def test_two_scans_with_one_detached_header_are_two(run, tmp_path):
    for name, values in (("a", VALUES), ("b", VALUES[::-1])):
        (tmp_path / "in" / name).mkdir(parents=True)
        nrrd(tmp_path / "in" / name / "ct.nhdr", b"", data_file="ct.raw")
        (tmp_path / "in" / name / "ct.raw").write_bytes(values.tobytes(order="F"))
    result = run(tmp_path / "in")
    assert result.statuses == ["done", "done"]
    assert result.summary.copies == ()


def test_file_names_that_are_no_utf8_are_names(series, run, tmp_path):
    folder = series().write(tmp_path / "in")
    for path in sorted(folder.iterdir())[:2]:
        path.rename(os.fsdecode(os.fsencode(path) + b"\xff1\xc2\xb23"))
    (folder / os.fsdecode(b"\xfe.nii")).write_bytes(b"no volume")
    result = run(tmp_path / "in")
    assert result.statuses == ["done", "failed"]


@pytest.mark.parametrize("kind", ["bz2", "xz"])
def test_packed_tars_are_folders(series, tmp_path, kind):
    series().write(tmp_path / "scan")
    with tarfile.open(tmp_path / f"in.tar.{kind}", f"w:{kind}") as tar:
        tar.add(tmp_path / "scan", "scan")
    assert [len(s.slices) for s in discover([tmp_path / f"in.tar.{kind}"]).series] == [5]


def test_images_of_formats_that_are_not_read_are_named(series, run, tmp_path):
    folder = series().write(tmp_path / "in")
    for name in ("a.mha", "b.MHA", "c.7z", "notes.txt"):
        (folder / name).write_bytes(b"something else")
    result = run(folder)
    assert result.statuses == ["done"]
    assert result.summary.unread == {".7z": 1, ".mha": 2}
    assert "1 .7z, 2 .mha of formats that are not read" in summary_lines(result.summary, folder)[2]
    (tmp_path / "alone").mkdir()
    (folder / "a.mha").rename(tmp_path / "alone" / "a.mha")
    with pytest.raises(ConfigError, match=r"among its 1 files; 1 \.mha of formats"):
        run(tmp_path / "alone", out="second")


def test_big_endian_objects_without_pixels_are_no_damaged_ones(series, tmp_path):
    made = series().dataset(0)
    del made.PixelData
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.5"
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    made.set_original_encoding(False, False, None)
    made.save_as(tmp_path / "plan.dcm", enforce_file_format=True)
    found = discover([tmp_path])
    assert found.bad == []
    assert [s.skip for s in found.series] == ["RT Plan Storage: not a CT image"]
