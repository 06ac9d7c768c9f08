"""Real files of public datasets, which come with faults of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pantskit.core.labelvolumes import read_label_map


def test_real_labels_of_pants(shared_data: Path, run: Callable, tmp_path: Path) -> None:
    source = shared_data / "pants_labels" / "PanTS_00000035"
    few = ("pancreas.nii.gz", "pancreatic_lesion.npz", "spleen.npz")
    for place in ("combined_labels.nii.gz", *(f"segmentations/{name}" for name in few)):
        copy = tmp_path / "src" / source.name / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / place, copy)

    made = run("pants", tmp_path / "src")

    made.require_done("PanTS_00000035")
    record = made.only.data
    assert record["labels"]["voxels"]["pancreatic_lesion"] == 937
    assert record["metadata"]["lesions"] >= 1
    faults = record["labels"]["faults"]
    assert any("not binary" in fault for fault in faults)
    assert any("no geometry of its own" in fault for fault in faults)


@pytest.mark.slow
def test_all_real_labels_of_pants(shared_data: Path, run: Callable) -> None:
    made = run("pants", shared_data / "pants_labels")

    made.require_done("PanTS_00000035")
    made.require_done("PanTS_00000001")
    record = made.records["PanTS_00000001"].data
    assert len(record["labels"]["voxels"]) == 28
    assert record["lesion_negative"] is True
    assert record["metadata"]["lesions"] == 0


def test_real_labels_of_panorama(shared_data: Path, run: Callable) -> None:
    made = run("panorama", shared_data / "panorama_labels")

    assert set(made.records) == {"PANORAMA_100036_00001", "PANORAMA_101381_00001"}
    for record in made.records.values():
        assert record.status == "done", record.message
        voxels = record.data["labels"]["voxels"]
        assert set(voxels) == {"pancreas", "pancreatic_duct", "common_bile_duct"}
        assert any(f.startswith("veins is left out") for f in record.data["labels"]["faults"])
        assert record.data["metadata"]["lesions"] is None


def test_real_scan_of_totalsegmentator(shared_data: Path, run: Callable, tmp_path: Path) -> None:
    source = shared_data / "totalsegmentator"
    case = tmp_path / "src" / "s0001"
    case.mkdir(parents=True)
    shutil.copy(source / "example_ct.nii.gz", case / "ct.nii.gz")
    label = source / "example_seg_fast_force_split.nii.gz"
    shutil.copy(label, case / "segmentations.nii.gz")

    made = run("totalsegmentator_v2", tmp_path / "src")

    assert made.only.status == "done", made.only.message
    stored = read_label_map(label).array
    voxels = made.only.data["labels"]["voxels"]
    assert voxels["pancreas"] == np.count_nonzero(stored == 7)
    assert voxels["lung_left"] == np.count_nonzero(np.isin(stored, (10, 11)))
    assert made.only.data["labels"]["sides"]["liver"] > 20
    assert made.only.data["labels"]["organ_voxels_with_organ_hu"] > 0.6


def test_real_scan_of_totalsegmentator_with_its_label_mirrored_is_refused(
    shared_data: Path, run: Callable, tmp_path: Path
) -> None:
    import nibabel as nib

    source = shared_data / "totalsegmentator"
    image = nib.load(source / "example_seg_fast_force_split.nii.gz")
    for axis in range(3):
        case = tmp_path / "src" / f"s000{axis}"
        case.mkdir(parents=True)
        shutil.copy(source / "example_ct.nii.gz", case / "ct.nii.gz")
        mirrored = np.flip(np.asarray(image.dataobj), axis).astype(np.uint8)
        nib.save(nib.Nifti1Image(mirrored, image.affine), case / "segmentations.nii.gz")

    made = run("totalsegmentator_v2", tmp_path / "src")

    for axis, name in enumerate("xyz"):
        record = made.records[f"TotalSegmentator_s000{axis}"]
        assert record.status == "quarantined", record.data.get("labels")
        assert f"mirrored along {name}" in record.message


def test_real_label_of_another_slab_is_refused(
    shared_data: Path, run: Callable, tmp_path: Path
) -> None:
    source = shared_data / "totalsegmentator"
    case = tmp_path / "src" / "s0001"
    case.mkdir(parents=True)
    shutil.copy(source / "example_ct.nii.gz", case / "ct.nii.gz")
    shutil.copy(source / "example_seg.nii.gz", case / "segmentations.nii.gz")

    made = run("totalsegmentator_v2", tmp_path / "src")

    assert made.only.status in ("failed", "quarantined")
    assert "label" in made.only.message


def test_real_pancreas_masks_come_as_flat_label_maps(
    shared_data: Path, run: Callable, tmp_path: Path
) -> None:
    source = tmp_path / "src" / "reference"
    source.mkdir(parents=True)
    for path in sorted((shared_data / "pancreas_algorithms" / "reference").glob("*.nii.gz"))[:3]:
        shutil.copy(path, source)

    made = run("flat", source, label_map="1=pancreas")

    assert len(made.records) == 3
    for record in made.records.values():
        assert record.status == "done", record.message
        assert record.data["labels"]["voxels"]["pancreas"] > 1000
