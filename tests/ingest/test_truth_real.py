"""Every real series gives the right volume or the right refusal, however it is delivered.

The truth is each slice's own pixels and places by pydicom (`dicom_truth`), and for a refusal what
is wrong with the series by its headers; neither looks at how pantskit comes to its answer.
"""

from __future__ import annotations

import random
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_truth import Slice, difference, interpolated, slices_of
from ingest_runs import Report, run_ingest


@dataclass(frozen=True)
class Real:
    """A real series: its files below data/dicom, and what must become of them."""

    files: str
    status: str
    reason: str = ""
    cases: int = 1

    def paths(self, data: Path) -> list[Path]:
        return sorted((data / "dicom").glob(self.files))


REAL = (
    Real("philips_head/S2010/I*", "done"),
    Real("philips_head/S1000/I*", "skipped", "localizer"),
    Real("philips_head/S4010/I*", "skipped", "Secondary Capture"),
    Real("philips_tilt/S2010/I*", "quarantined", r"tilt of 18\.5 degrees"),
    Real("tilt_untagged/IM*", "quarantined", r"tilt of 14\.0 degrees"),
    Real("missing_slice/IM*", "quarantined", "missing: 1 of 5 at 5 mm"),
    Real("rtstruct/ct_*.dcm", "done"),
    Real("rtstruct/*rt.dcm", "skipped", "Structure Set", cases=2),  # of two series UIDs
    Real("enhanced_ct/*.dcm", "skipped", "perfusion map"),
    Real("seg/ct_image.dcm", "failed", "one slice"),
    Real("seg/image/*.dcm", "skipped", "RescaleType US"),
    Real("seg/[sl]*.dcm", "skipped", "Segmentation", cases=4),
)
VOLUMES = tuple(real for real in REAL if real.status == "done")


def as_they_lie(data: Path, into: Path) -> Path:
    del into
    return data / "dicom"


def in_one_folder_by_random_names(data: Path, into: Path) -> Path:
    into.mkdir()
    files = [path for real in REAL for path in real.paths(data)]
    names = random.Random(3).sample(range(10**6), len(files))
    for path, name in zip(files, names, strict=True):
        shutil.copyfile(path, into / str(name))
    return into


def scattered_over_folders_and_archives(data: Path, into: Path) -> Path:
    """A third of the files each: by wrong suffixes, without one, in an archive without folders."""
    files = [path for real in REAL for path in real.paths(data)]
    random.Random(4).shuffle(files)
    (into / "disc 1").mkdir(parents=True)
    (into / "disc 2" / "DICOM").mkdir(parents=True)
    with zipfile.ZipFile(into / "3.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, path in enumerate(files):
            match number % 3:
                case 0:
                    shutil.copyfile(path, into / "disc 1" / f"{number}.txt")
                case 1:
                    shutil.copyfile(path, into / "disc 2" / "DICOM" / f"IM {number:05d}")
                case _:
                    archive.write(path, f"{number}.dcm")
    return into


Delivery = Callable[[Path, Path], Path]


@pytest.fixture(
    scope="module",
    params=[
        as_they_lie,
        in_one_folder_by_random_names,
        scattered_over_folders_and_archives,
    ],
    ids=lambda delivery: delivery.__name__,
)
def report(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory) -> Report:
    delivery: Delivery = request.param
    folder = tmp_path_factory.mktemp("real")
    return run_ingest(folder / "dataset", delivery(shared_data, folder / "in"))


def test_every_real_series_ends_as_it_must_and_none_is_left_out(report):
    report.check()
    left = list(report.cases)
    for real in REAL:
        matching = [c for c in left if c.status == real.status and re.search(real.reason, c.reason)]
        assert len(matching) >= real.cases, (real, report.cases)
        for case in matching[: real.cases]:
            left.remove(case)
    assert left == []


@pytest.mark.parametrize("real", VOLUMES, ids=lambda real: real.files)
def test_every_voxel_of_a_real_volume_is_the_slices_own(report, shared_data, real):
    slices = slices_of(real.paths(shared_data))
    done = [c for c in report.cases if c.status == "done"]
    differences = [difference(report.ct(case), slices) for case in done]
    assert differences.count("") == 1, differences


def test_ircadb_volume_is_its_slices(shared_data, tmp_path):
    (archive,) = (shared_data / "ircadb01_case17").glob("*.zip")
    report = run_ingest(tmp_path / "dataset", archive)
    report.check()
    (case,) = (c for c in report.cases if c.status == "done")
    with zipfile.ZipFile(archive) as opened:
        members = [m for m in opened.namelist() if re.fullmatch(r"PATIENT_DICOM/.+", m)]
        slices = slices_of(opened.open(member) for member in members)
    assert len(slices) == 119
    assert difference(report.ct(case), slices) == ""
    # Its masks are a series each, 8-bit, and no CT.
    assert [c.status for c in report.cases if c != case] == ["skipped"] * 8


def test_tilts_that_a_refusal_names_are_the_ones_of_the_orientation(shared_data):
    for folder, degrees in (("philips_tilt", 18.5), ("tilt_untagged", 14.0)):
        path = next(p for p in (shared_data / "dicom" / folder).rglob("I*") if p.is_file())
        cosines = np.array(pydicom.dcmread(path).ImageOrientationPatient, float)
        normal = np.cross(cosines[:3], cosines[3:])
        assert np.degrees(np.arccos(normal[2])) == pytest.approx(degrees, abs=0.05)


@pytest.mark.parametrize("real", [r for r in REAL if "tilt" in r.files], ids=lambda r: r.files)
def test_tilted_series_resampled_on_request_is_what_its_slices_say(real, shared_data, tmp_path):
    paths = real.paths(shared_data)
    report = run_ingest(tmp_path / "dataset", paths[0].parent, "--resample-tilt")
    report.check()
    (case,) = (c for c in report.cases if c.status == "done")
    assert report.record(case)["data"]["source"]["resampling"]["causes"]
    image = nib.load(report.ct(case))
    voxels = np.asarray(image.dataobj)
    # Orthogonal, and as large as the slices are.
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)
    slices = slices_of(paths)
    rng = np.random.default_rng(1)
    indices = np.stack([rng.integers(0, n, 200_000) for n in voxels.shape], 1)
    places = indices @ image.affine[:3, :3].T + image.affine[:3, 3]
    expected = interpolated(slices, places)
    found = voxels[tuple(indices.T)]
    # At the very edge of a slice, float32 of the file decides which side a place is on.
    assert np.count_nonzero(np.abs(found - expected) > 1) <= 20
    assert (found != -1000).mean() > 0.3
    # Taken for an untilted stack, the same slices lie elsewhere.
    straight = [replace(s, origin=s.origin * (1, 1, 0) + heights(s, slices)) for s in slices]
    wrong = interpolated(straight, places)
    assert np.count_nonzero(np.abs(found - wrong) > 50) > 5_000


def heights(one: Slice, slices: list[Slice]) -> np.ndarray:
    """Where a slice would be if all were stacked along their normal from the first."""
    normal = np.cross(one.across, one.down)
    normal /= np.linalg.norm(normal)
    first = slices[0].origin
    along = first + normal * ((one.origin - first) @ normal)
    return along - one.origin * (1, 1, 0)


def test_real_series_with_a_gap_is_not_filled_on_any_request(shared_data, tmp_path):
    both = ("--resample-spacing", "--resample-tilt")
    report = run_ingest(tmp_path / "d", shared_data / "dicom" / "missing_slice", *both)
    report.check()
    assert report.statuses == ["quarantined"]
