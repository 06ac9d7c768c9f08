"""Real annotations and NIfTI images; the volumes of real series are in test_truth_real.py."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.volume import read_header, read_volume


@pytest.fixture(scope="module")
def ircadb(shared_data: Path) -> Path:
    (path,) = (shared_data / "ircadb01_case17").glob("*.zip")
    return path


def test_ircadb_masks_are_the_case_s_own(ircadb, run):
    result = run(ircadb, labels=ircadb)
    assert result.statuses == ["done"]
    with zipfile.ZipFile(ircadb) as archive:
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


def test_phase_of_a_plain_head_scan_is_read_from_its_header(shared_data, run):
    result = run(shared_data / "dicom" / "philips_head" / "S2010")
    assert result.data["metadata"]["phase"] == "non_contrast"


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
