"""The dry run: what would become of every source, and that it writes nothing."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from rich.console import Console

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.ingest.listing import listing_end, listing_lines, print_listing, takes_nothing
from pantskit.ingest.report import listing
from pantskit.ingest.settings import IngestSettings


@pytest.fixture
def rows(series, tmp_path):
    """A listing of a study with everything in it, by folder name."""
    folder = tmp_path / "in"
    attributes = {
        "SeriesDescription": "ABD PORTAL VENOUS",
        "SliceThickness": 2.5,
        "ConvolutionKernel": "Br40d",
        "ContrastBolusAgent": "Iomeprol",
    }
    series(attributes=attributes).write(folder / "ct")
    series(attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(folder / "scout")
    series().write(folder / "gap", skip=(2,))
    (folder / "broken.dcm").write_bytes(b"no DICOM")
    image = Volume(np.zeros((4, 5, 6), np.int16), Geometry((4, 5, 6), np.diag([1, 2, 3, 1.0])))
    write_volume(tmp_path / "ct.nii.gz", image)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.write(tmp_path / "ct.nii.gz", "ct.nii.gz")
        archive.writestr("bad.nii", b"no image")
    before = sorted(tmp_path.rglob("*"))
    found = listing([folder], IngestSettings())
    assert sorted(tmp_path.rglob("*")) == before
    return {row["source"].removeprefix(f"{folder}/").split(" ")[0]: row for row in found}


def test_row_of_a_ct_has_its_geometry_kernel_and_phase(rows):
    ct = rows["ct"]
    assert ct["kind"] == "CT"
    assert (ct["slices"], ct["shape"], ct["spacing"]) == (5, [8, 6, 5], [0.5, 0.75, 2.5])
    assert (ct["orientation"], ct["slice_thickness_mm"]) == ("LPS", 2.5)
    assert (ct["kernel"], ct["kernel_class"]) == ("Br40d", "soft")
    assert (ct["phase"], ct["contrast_agent"]) == ("portal_venous", True)
    assert ct["reason"] == ""


def test_what_would_not_be_taken_says_why(rows):
    kinds = {name: (row["kind"], row["reason"]) for name, row in rows.items()}
    assert kinds["scout"] == ("skipped", "localizer by its ImageType")
    assert kinds["gap"][0] == "quarantined"
    assert "slices are missing: 1 of 5" in kinds["gap"][1]
    assert kinds["broken.dcm"][0] == "fails"
    assert kinds["images.zip/bad.nii"][0] == "fails"
    assert "/tmp" not in kinds["images.zip/bad.nii"][1]


def test_image_inside_an_archive_is_listed(rows):
    image = rows["images.zip/ct.nii.gz"]
    assert (image["kind"], image["shape"], image["slices"]) == ("NIfTI", [4, 5, 6], 6)


def test_rows_are_json(rows):
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())


def test_lines_are_aligned_and_hold_every_reason(rows):
    lines = listing_lines(list(rows.values()))
    sources = [row["source"] for row in rows.values()]
    heads = [line for line in lines if line.endswith(tuple(sources))]
    assert len(heads) == len(sources)
    assert lines[0].split() == [
        "study", "slices", "size", "spacing", "axes", "thick", "kernel", "phase", "source",
    ]  # fmt: skip
    start = lines[0].index("source")
    assert {line[start - 2 : start] for line in heads} == {"  "}
    assert all(any(row["reason"] in line for line in lines) for row in rows.values())


def test_terminal_shows_the_same_with_sources_and_reasons_below(rows):
    out = io.StringIO()
    print_listing(list(rows.values()), Console(width=300, file=out))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[0].endswith("phase")
    for row in rows.values():
        at = lines.index(f"    {row['source']}")
        assert lines[at - 1].startswith(row["kind"])
        assert not row["reason"] or lines[at + 1] == f"    {row['reason']}"


def test_end_counts_what_would_become_of_all(rows):
    assert listing_end(list(rows.values())) == (
        "2 of 6 would be taken, 1 skipped, 1 quarantined, 2 fails"
    )
    assert not takes_nothing(list(rows.values()))


def test_folder_of_localizers_holds_no_ct_to_take(series, tmp_path):
    series(attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(tmp_path / "in")
    found = listing([tmp_path / "in"], IngestSettings())
    assert takes_nothing(found)
    assert listing_end(found) == "there is no CT to take, 1 skipped"


def test_series_that_another_takes_the_place_of_is_listed_with_the_reason(series, tmp_path):
    shared = {
        "StudyInstanceUID": "1.2.826.0.1",
        "FrameOfReferenceUID": "1.2.826.0.2",
        "AcquisitionDate": "20140902",
        "AcquisitionTime": "101500",
    }
    series(attributes=shared | {"SliceThickness": 1}).write(tmp_path / "in" / "thin")
    series(attributes=shared | {"SliceThickness": 5}).write(tmp_path / "in" / "thick")
    found = {row["slice_thickness_mm"]: row for row in listing([tmp_path / "in"], IngestSettings())}
    assert found[1]["kind"] == "CT"
    assert found[1]["study"] == found[5]["study"] == 1
    assert "another reconstruction of this acquisition is taken" in found[5]["reason"]
    everything = listing([tmp_path / "in"], IngestSettings(series="all"))
    assert [row["kind"] for row in everything] == ["CT", "CT"]
