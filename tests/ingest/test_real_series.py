"""Real series: each gives the right volume, or the right refusal."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.volume import read_header, read_volume


def by_dcm2niix(folder: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels, clipped, and affine of the one volume that dcm2niix makes, in LAI."""
    out.mkdir(parents=True)
    tool = Path(sys.executable).with_name("dcm2niix")
    subprocess.run([tool, "-z", "n", "-f", "x", "-o", out, folder], check=True, capture_output=True)
    (path,) = out.glob("*.nii")
    image = nib.load(path)
    o = nib.orientations
    turn = o.ornt_transform(o.io_orientation(image.affine), o.axcodes2ornt("LAI"))
    voxels = o.apply_orientation(np.asarray(image.dataobj), turn)
    affine = image.affine @ o.inv_ornt_aff(turn, image.shape)
    return np.clip(voxels, -1000, 1000), affine


@pytest.fixture(scope="module")
def ircadb(shared_data: Path) -> Path:
    (path,) = (shared_data / "ircadb01_case17").glob("*.zip")
    return path


def test_ircadb_case_is_dcm2niix_s_volume_and_its_own_masks(ircadb, run, tmp_path):
    result = run(ircadb, labels=ircadb)
    assert result.statuses == ["done"]
    with zipfile.ZipFile(ircadb) as archive:
        members = archive.namelist()
        archive.extractall(tmp_path / "x", [m for m in members if m.startswith("PATIENT")])
        voxels, affine = by_dcm2niix(tmp_path / "x", tmp_path / "d")
        np.testing.assert_allclose(result.ct.geometry.affine, affine, atol=1e-3)
        np.testing.assert_array_equal(result.ct.array, voxels)
        # The union of the liver and its two tumours, counted straight from the source bytes.
        parts = ("liver", "livertumor1", "livertumor2")
        union = [
            np.logical_or.reduce(
                [
                    pydicom.dcmread(archive.open(f"MASKS_DICOM/{p}/image_{n}")).pixel_array > 0
                    for p in parts
                ]
            )
            for n in (20, 60, 100)
        ]
    labels = Dataset.open(result.out).cases()[0].labels()
    assert labels is not None
    assert labels.structures() == ("liver",)
    liver = labels.mask("liver")
    assert liver is not None
    # image_n lies at z = 1.6 n; the written volume runs from the head down, row 0 in front.
    for n, expected in zip((20, 60, 100), union, strict=True):
        k = round(float(labels.geometry.to_voxel([-10, -10, 1.6 * n])[2]))
        np.testing.assert_array_equal(liver[:, ::-1, k].T, expected)
    assert result.data["labels"]["unmapped"] == [
        "artery", "bone", "portalvein", "skin", "venoussystem",
    ]  # fmt: skip
    assert result.data["labels"]["united"] == {"liver": ["liver", "livertumor1", "livertumor2"]}


def test_head_scan_leaves_its_localizer_and_captures(shared_data, run, tmp_path):
    result = run(shared_data / "dicom" / "philips_head")
    assert result.statuses == ["done", "skipped", "skipped"]
    reasons = " ".join(r.message for r in result.summary.run.records)
    assert "localizer" in reasons
    assert "Secondary Capture" in reasons
    voxels, affine = by_dcm2niix(shared_data / "dicom" / "philips_head" / "S2010", tmp_path / "d")
    np.testing.assert_allclose(result.ct.geometry.affine, affine, atol=1e-3)
    np.testing.assert_array_equal(result.ct.array, voxels)
    assert result.data["metadata"]["phase"] == "non_contrast"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("philips_tilt", "gantry tilt of 18.5 degrees"),
        ("tilt_untagged", "gantry tilt of 14.0 degrees"),
        ("missing_slice", "missing: 1 of 5 at 5 mm (1 after slice 3"),
    ],
)
def test_series_that_are_no_regular_grid_are_quarantined(shared_data, run, folder, reason):
    result = run(shared_data / "dicom" / folder)
    assert result.statuses == ["quarantined"]
    assert reason in result.message
    assert result.files == []


def test_tilts_named_are_the_ones_of_the_orientation(shared_data):
    # Truth apart from ingest: the slices' normal against the patient's long axis.
    for folder, degrees in (("philips_tilt", 18.5), ("tilt_untagged", 14.0)):
        path = next(p for p in (shared_data / "dicom" / folder).rglob("I*") if p.is_file())
        cosines = np.array(pydicom.dcmread(path).ImageOrientationPatient, float)
        normal = np.cross(cosines[:3], cosines[3:])
        assert np.degrees(np.arccos(normal[2])) == pytest.approx(degrees, abs=0.05)


def test_two_slices_beside_structure_sets_are_a_volume(shared_data, run):
    result = run(shared_data / "dicom" / "rtstruct")
    assert result.statuses == ["done", "skipped", "skipped"]
    geometry = result.ct.geometry
    assert geometry.shape == (512, 512, 2)
    # ct_1 and ct_2: LPS (-125, -125) at z = 60 and 65, pixels of 0.488281 mm.
    first = geometry.to_voxel([125, 125, 60])
    np.testing.assert_allclose(first, [0, 511, 1], atol=1e-3)
    pixels = pydicom.dcmread(shared_data / "dicom" / "rtstruct" / "ct_1.dcm")
    z = float(pixels.ImagePositionPatient[2])
    k = 1 if z == 60 else 0
    expected = np.clip(pixels.pixel_array.astype(int) - 1024, -1000, 1000)
    np.testing.assert_array_equal(result.ct.array[:, ::-1, k].T, expected)


def test_segmentations_are_skipped_and_a_lone_slice_is_refused(shared_data, run):
    result = run(shared_data / "dicom" / "seg")
    assert result.statuses == ["failed", *["skipped"] * 5]
    assert "one slice" in result.message
    assert result.files == []


def test_enhanced_perfusion_map_is_no_ct_of_anatomy(shared_data, run):
    result = run(shared_data / "dicom" / "enhanced_ct")
    (record,) = result.summary.run.records
    assert record.status == "skipped"
    assert "perfusion map" in record.message


def test_totalsegmentator_ct_with_its_label_map_is_a_case(shared_data, run):
    folder = shared_data / "totalsegmentator"
    seg = folder / "example_seg_fast_force_split.nii.gz"
    result = run(folder / "example_ct.nii.gz", labels=seg, label_map="totalsegmentator")
    assert result.statuses == ["done"]
    source = nib.load(folder / "example_ct.nii.gz")
    expected = np.clip(np.asarray(source.dataobj), -1000, 1000)
    back = result.ct.reoriented("RAS")  # as the source is stored
    np.testing.assert_array_equal(back.array, expected)
    np.testing.assert_allclose(back.geometry.affine, source.affine, atol=1e-3)
    assert result.data["hounsfield"]["hu_high"] == np.asarray(source.dataobj).max() == 3382
    labels = Dataset.open(result.out).cases()[0].labels()
    assert labels is not None
    values = np.asarray(nib.load(seg).dataobj)
    for structure, ids in {
        "pancreas": [7],
        "kidney_left": [3, 23],
        "lung_right": [12, 13, 14],
    }.items():
        mask = labels.mask(structure)
        assert mask is not None
        # RAS to LAI turns the first and the last axis around.
        np.testing.assert_array_equal(mask[::-1, :, ::-1], np.isin(values, ids))
    missing = {int(n.removeprefix("label ")) for n in result.data["labels"]["unmapped"]}
    present = set(np.unique(values).tolist())
    assert {18, 25, 117} <= missing <= present


def test_totalsegmentator_label_of_another_slab_is_refused(shared_data, run):
    folder = shared_data / "totalsegmentator"
    seg = folder / "example_seg.nii.gz"
    result = run(folder / "example_ct.nii.gz", labels=seg, label_map="totalsegmentator")
    assert "different grids: (122, 101, 30)" in result.message
    assert result.files == []


def test_written_files_open_the_same_in_nibabel_and_simpleitk(shared_data, run):
    sitk = pytest.importorskip("SimpleITK")
    result = run(shared_data / "dicom" / "philips_head")
    (case,) = Dataset.open(result.out).cases()
    image = sitk.ReadImage(str(case.image_path))
    ours = read_volume(case.image_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), ours.array)
    for index in ((0, 0, 0), (511, 0, 27), (100, 400, 5)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(lps * [-1, -1, 1], ours.geometry.to_world(index), atol=1e-3)
    header = read_header(case.image_path)
    assert (header.slope, header.intercept, header.dtype) == (1, 0, np.int16)
