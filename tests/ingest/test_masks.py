"""Annotations: which case they belong to, what their names mean, and whose grid they are on."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import SimpleITK
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.ingest.dicom.stacks import read_series
from pantskit.ingest.discovery.discover import discover
from pantskit.ingest.discovery.sources import Reader
from pantskit.ingest.labels.casemasks import CaseMasks
from pantskit.ingest.labels.masks import following, onto_grid, read_masks
from pantskit.ingest.labels.nearest import take_nearest
from pantskit.ingest.labels.planes import Scan
from pantskit.ingest.labels.sources import LabelSource
from pantskit.ingest.report import summary_lines

GRID = Geometry.from_spacing((6, 5, 4), (0.8, 0.9, 2.5), orientation="RAS", origin=(-3, 4, 9))


def ct(path: Path, seed: int = 0, grid: Geometry = GRID) -> Path:
    hu = np.random.default_rng(seed).integers(-900, 900, grid.shape, dtype=np.int16)
    write_volume(path, Volume(np.asfortranarray(hu), grid))
    return path


def block(*box: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool, order="F")
    mask[tuple(slice(*b) for b in box)] = True
    return mask


LIVER = block((0, 3), (0, 3), (0, 2))
TUMOUR = block((2, 5), (1, 2), (1, 2))
SPLEEN = block((4, 6), (3, 5), (2, 4))


def save(path: Path, array: np.ndarray, orientation: str = "RAS") -> Path:
    values = array if array.dtype == bool else array.astype(np.uint8)
    write_volume(path, Volume(values, GRID).reoriented(orientation))
    return path


def masks_of(result, index: int = 0) -> dict[str, np.ndarray]:
    """Written masks, back on the source's RAS grid."""
    case = Dataset.open(result.out).cases()[index]
    labels = case.labels()
    assert labels is not None
    return {
        s: Volume(mask, labels.geometry).reoriented("RAS").array
        for s, mask in labels.masks().items()
    }


def test_masks_are_named_by_synonym_united_and_the_rest_is_listed(run, tmp_path):
    save(tmp_path / "m" / "Leber.nii.gz", LIVER)
    save(tmp_path / "m" / "livertumor1.nii.gz", TUMOUR)
    save(tmp_path / "m" / "Spleen.nii.gz", SPLEEN, "LPS")
    save(tmp_path / "m" / "bone.nii.gz", SPLEEN)
    result = run(ct(tmp_path / "ct.nii.gz"), labels=tmp_path / "m")
    found = masks_of(result)
    assert set(found) == {"liver", "spleen"}
    np.testing.assert_array_equal(found["liver"], LIVER | TUMOUR)
    np.testing.assert_array_equal(found["spleen"], SPLEEN)
    assert result.data["labels"]["unmapped"] == ["bone"]
    assert result.data["labels"]["united"] == {"liver": ["Leber", "livertumor1"]}


def test_ct_and_masks_stay_voxel_on_voxel_in_standard_orientation(run, tmp_path):
    source = ct(tmp_path / "ct.nii.gz")
    result = run(source, labels=save(tmp_path / "liver.nii.gz", LIVER, "PIR"), label_map="1=liver")
    assert result.ct.geometry.orientation == "LAI"
    hu = result.ct.reoriented("RAS").array
    from pantskit.core.volume import read_volume

    np.testing.assert_array_equal(hu, read_volume(source).array)
    np.testing.assert_array_equal(masks_of(result)["liver"], LIVER)


def test_pancreas_holds_its_lesion_and_lesions_are_counted(run, tmp_path):
    save(tmp_path / "m" / "pancreas.nii.gz", LIVER)
    save(tmp_path / "m" / "pancreatic_lesion.nii.gz", TUMOUR | block((0, 1), (4, 5), (3, 4)))
    result = run(ct(tmp_path / "ct.nii.gz"), labels=tmp_path / "m")
    found = masks_of(result)
    np.testing.assert_array_equal(found["pancreas"], LIVER | found["pancreatic_lesion"])
    assert result.data["metadata"]["lesions"] == 2
    assert any("pancreas grew by" in fault for fault in result.data["labels"]["faults"])


def test_pancreas_is_made_of_all_three_parts_and_never_of_two(run, tmp_path):
    for name, mask in (("head", LIVER), ("body", TUMOUR), ("tail", SPLEEN)):
        save(tmp_path / "m" / f"pancreas_{name}.nii.gz", mask)
    result = run(ct(tmp_path / "ct.nii.gz"), labels=tmp_path / "m")
    np.testing.assert_array_equal(masks_of(result)["pancreas"], LIVER | TUMOUR | SPLEEN)
    (tmp_path / "m" / "pancreas_tail.nii.gz").unlink()
    result = run(tmp_path / "ct.nii.gz", labels=tmp_path / "m", out="other")
    assert "pancreas" not in masks_of(result)


def test_label_map_gives_masks_and_annotated_structures_that_are_empty(run, tmp_path):
    values = np.zeros(GRID.shape, np.uint8, order="F")
    values[LIVER], values[SPLEEN] = 6, 1
    path = save(tmp_path / "seg.nii.gz", values)
    result = run(ct(tmp_path / "ct.nii.gz"), labels=path, label_map="1=spleen,6=liver,9=stomach")
    found = masks_of(result)
    np.testing.assert_array_equal(found["liver"], LIVER)
    assert not found["stomach"].any()
    assert result.data["labels"]["empty"] == ["stomach"]
    told = [line.strip() for line in summary_lines(result.summary, result.out)]
    assert "annotated, and without a voxel: stomach" in told
    combined = read_label_map(next(result.out.rglob("combined_labels.nii.gz")))
    assert combined.label_space == "pants"
    assert result.data["labels"]["exact_in_combined"] == ["liver", "spleen", "stomach"]


def test_labels_outside_the_map_are_refused_by_value(run, tmp_path):
    values = np.zeros(GRID.shape, np.uint8, order="F")
    values[LIVER], values[SPLEEN] = 6, 77
    path = save(tmp_path / "seg.nii.gz", values)
    result = run(ct(tmp_path / "ct.nii.gz"), labels=path, label_map="6=liver")
    assert result.statuses == ["failed"]
    assert "labels [77] are not in the label map" in result.message
    assert result.files == []


def test_label_map_file_that_was_edited_makes_the_case_again(run, tmp_path):
    source, ids = ct(tmp_path / "ct.nii.gz"), tmp_path / "ids.json"
    labels = save(tmp_path / "seg.nii.gz", LIVER)
    for structure in ("spleen", "liver"):
        ids.write_text(f'{{"1": "{structure}"}}')
        result = run(source, labels=labels, label_map=str(ids))
    assert set(masks_of(result)) == {"liver"}


def test_label_map_without_a_declaration_is_refused(run, tmp_path):
    path = save(tmp_path / "seg.nii.gz", LIVER.astype(np.uint8))
    result = run(ct(tmp_path / "ct.nii.gz"), labels=path)
    assert "--label-map" in result.message


def test_label_map_option_is_read_before_anything_is_written(run, tmp_path):
    path = save(tmp_path / "seg.nii.gz", LIVER.astype(np.uint8))
    with pytest.raises(LabelError, match="not known"):
        run(ct(tmp_path / "ct.nii.gz"), labels=path, label_map="nonsense")
    assert not (tmp_path / "dataset").exists()


def test_labels_on_another_grid_are_refused_and_resampled_on_request(run, tmp_path):
    coarse = Geometry.from_spacing(
        (3, 5, 4), (1.6, 0.9, 2.5), origin=(-2.6, 4, 9), orientation="RAS"
    )
    values = np.zeros(coarse.shape, np.uint8, order="F")
    values[1, 2, 1] = 1  # covers i = 2 and 3 of the fine grid
    write_volume(tmp_path / "seg.nii.gz", Volume(values, coarse))
    source = ct(tmp_path / "ct.nii.gz")
    settings = {"labels": tmp_path / "seg.nii.gz", "label_map": "1=liver"}
    result = run(source, **settings)
    assert "different grids" in result.message
    assert "(3, 5, 4)" in result.message
    assert result.files == []
    result = run(source, resample_labels=True, **settings)
    assert result.data["labels"]["resampled"] is True
    np.testing.assert_array_equal(masks_of(result)["liver"], block((2, 4), (2, 3), (1, 2)))


def test_labels_of_the_same_shape_half_a_voxel_away_are_refused(run, tmp_path):
    affine = GRID.affine.copy()
    affine[0, 3] += 0.4
    write_volume(tmp_path / "seg.nii.gz", Volume(LIVER, Geometry(GRID.shape, affine)))
    result = run(ct(tmp_path / "ct.nii.gz"), labels=tmp_path / "seg.nii.gz", label_map="1=liver")
    assert "corners 0.400 mm apart" in result.message


def test_labels_that_do_not_overlap_the_ct_are_refused_even_when_resampled(run, tmp_path):
    affine = GRID.affine.copy()
    affine[2, 3] += 500
    write_volume(tmp_path / "seg.nii.gz", Volume(LIVER, Geometry(GRID.shape, affine)))
    result = run(
        ct(tmp_path / "ct.nii.gz"),
        labels=tmp_path / "seg.nii.gz",
        label_map="1=liver",
        resample_labels=True,
    )
    assert "do not overlap" in result.message


def test_masks_find_their_case_by_file_name_and_the_rest_is_told(run, tmp_path):
    for n, name in enumerate(("a", "b", "c")):
        ct(tmp_path / "images" / f"{name}_0000.nii.gz", seed=n)
    save(tmp_path / "labels" / "a.nii.gz", LIVER.astype(np.uint8))
    save(tmp_path / "labels" / "b" / "liver.nii.gz", SPLEEN)
    save(tmp_path / "labels" / "nobody" / "liver.nii.gz", SPLEEN)
    result = run(tmp_path / "images", labels=tmp_path / "labels", label_map="1=liver")
    plans = {Path(p.place).name[0]: p.plan for p in result.summary.planned.values()}
    case = {letter: result.out / "LabelTr" / plan.case_id for letter, plan in plans.items()}
    assert [letter for letter in "abc" if case[letter].is_dir()] == ["a", "b"]
    assert result.summary.unused_labels == ("nobody",)


def test_cts_of_one_file_name_are_told_apart_by_their_folders(run, tmp_path):
    for n, name in enumerate("ab"):
        ct(tmp_path / "scans" / name / "ct.nii.gz", seed=n)
    save(tmp_path / "labels" / "a" / "ct.nii.gz", LIVER)
    result = run(tmp_path / "scans", labels=tmp_path / "labels", label_map="1=liver")
    assert [case.labels() is not None for case in Dataset.open(result.out).cases()].count(True) == 1
    save(tmp_path / "labels" / "b" / "ct.nii.gz", SPLEEN)
    result = run(tmp_path / "scans", labels=tmp_path / "labels", label_map="1=liver")
    volumes = {int(masks_of(result, i)["liver"].sum()) for i in range(2)}
    assert volumes == {int(LIVER.sum()), int(SPLEEN.sum())}


def test_labels_that_fit_two_cts_are_refused(run, tmp_path):
    ct(tmp_path / "scans" / "a.nii.gz")
    ct(tmp_path / "scans" / "b" / "ct.nii.gz", seed=1)
    save(tmp_path / "labels" / "b" / "a.nii.gz", LIVER)
    with pytest.raises(ConfigError, match="a fits 2 of the CTs"):
        run(tmp_path / "scans", labels=tmp_path / "labels", label_map="1=liver")


def test_the_file_at_fault_is_told_without_its_folder_where_both_have_one_name(run, tmp_path):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "ct.nii.gz").write_text("no image")
    labels = save(tmp_path / "anna-labels" / "ct.nii.gz", LIVER)
    result = run(tmp_path / "anna", labels=labels, label_map="1=liver")
    (record,) = result.summary.run.records
    assert record.message.startswith(f"{record.case_id}: the CT: not a NIfTI image")


def test_labels_of_no_case_at_all_are_an_error(run, tmp_path):
    ct(tmp_path / "images" / "a.nii.gz")
    ct(tmp_path / "images" / "b.nii.gz", seed=1)
    save(tmp_path / "labels" / "zzz" / "liver.nii.gz", LIVER)
    with pytest.raises(ConfigError, match="belongs to one of the 2 CTs"):
        run(tmp_path / "images", labels=tmp_path / "labels")


def mask_series(series, folder: Path, array: np.ndarray) -> None:
    """A DICOM mask as 3D-IRCADb ships it: a CT series of 0 and 255, eight bits."""
    made = series(stored=(array.transpose(2, 1, 0) * 255).astype(np.uint8))
    made.origin, made.intercept[:] = (0, 0, 0), 0
    made.write(folder)


def test_dicom_masks_are_united_onto_the_ct_of_their_folder(series, run, tmp_path):
    shape = (8, 6, 5)
    liver, tumour = np.zeros(shape, bool), np.zeros(shape, bool)
    liver[1:4, 2:5, 0:2], tumour[3:6, 2, 1:3] = True, True
    for n in (1, 2):
        home = tmp_path / f"case{n}"
        series(
            stored=np.random.default_rng(n).integers(0, 2048, (5, 6, 8), dtype=np.uint16),
            attributes={"PatientID": "", "PatientName": f"liver_{n}", "SeriesNumber": ""},
        ).write(home / "PATIENT_DICOM")
        mask_series(series, home / "MASKS_DICOM" / "liver", liver if n == 1 else tumour)
        mask_series(series, home / "MASKS_DICOM" / "livertumor1", tumour)
        mask_series(series, home / "MASKS_DICOM" / "skin", liver)
    result = run(tmp_path / "case1", tmp_path / "case2", labels=tmp_path)
    assert result.statuses == ["done", "done"]
    for case_id, item in result.summary.planned.items():
        (path,) = (result.out / "LabelTr" / case_id / "segmentations").iterdir()
        mask = read_label_map(path).reoriented("LPS").array
        expected = liver | tumour if "case1" in item.place else tumour
        np.testing.assert_array_equal(mask, expected)
        assert item.plan.skip == ""


def test_dicom_masks_of_slices_without_a_regular_grid_lie_on_those_slices(series, tmp_path):
    shift = np.outer(np.arange(5) ** 1.2, (0, 1.1, 0.7))  # tilted, and at varying distances
    stored = np.random.default_rng(1).integers(0, 2, (5, 6, 8), dtype=np.uint8)
    scan_slices, mask_slices = [], []
    for folder, values, found in (("ct", None, scan_slices), ("liver", stored, mask_slices)):
        made = series(**({} if values is None else {"stored": values * 255}))
        made.positions += shift
        made.write(tmp_path / folder)
        files = sorted((tmp_path / folder).iterdir())
        found += [s for f in files for s in discover([f]).series[0].slices]
    order = np.argsort([s.position[2] for s in scan_slices]).tolist()
    scan = Scan.of_series(scan_slices, order, None)
    place = PurePosixPath((tmp_path).as_posix())
    source = LabelSource(("x",), place, series=(("liver", tuple(mask_slices)),))
    with Reader() as reader:
        found = read_masks(source, None, reader, case_id="x", scan=scan)
    assert found.geometry is None
    np.testing.assert_array_equal(found.coded.mask("liver"), stored.transpose(2, 1, 0) > 0)


def test_labels_of_a_tilted_ct_follow_its_slices_onto_the_resampled_grid(series, tmp_path):
    made = series(attributes={"FrameOfReferenceUID": "1.2.3"})
    made.positions += np.outer(np.arange(5), (0, 0.75, 0))  # a row a slice
    made.write(tmp_path / "ct")
    (found,) = discover([tmp_path / "ct"]).series
    volume, _, layout = read_series(found.slices, Reader(), allowed=("tilt",))
    codes = np.zeros((8, 6, 5), np.uint8, order="F")
    codes[2, [5, 4, 3, 2, 1], range(5)] = 1  # one line along z in the patient
    masks = CaseMasks(CodedMasks(codes, [frozenset(), frozenset({"aorta"})], {"aorta"}), None)
    record = onto_grid(
        masks, volume.geometry, case_id="x", resample=False, follow=following(layout)
    )
    assert masks.geometry is volume.geometry
    assert record["before"] == record["after"] == {"aorta": 5}
    places = volume.geometry.to_world(np.argwhere(masks.coded.mask("aorta")))
    x, y, z = made.origin
    np.testing.assert_allclose(places[:, 0], -(x + 2 * 0.5), atol=1e-6)
    np.testing.assert_allclose(places[:, 1], -(y + 5 * 0.75), atol=1e-6)
    np.testing.assert_allclose(np.sort(places[:, 2]), z + 2.5 * np.arange(5), atol=1e-6)


def test_dicom_masks_without_the_option_are_skipped_with_the_mend(series, run, tmp_path):
    mask_series(series, tmp_path / "in" / "liver", np.ones((8, 6, 5), bool))
    result = run(tmp_path / "in")
    (record,) = result.summary.run.records
    assert (record.status, "--labels" in record.message) == ("skipped", True)


def test_labels_named_by_patient_serve_one_scan_and_number_tells_two_apart(series, run, tmp_path):
    grid = Geometry(
        (8, 6, 5), np.diag([-0.5, -0.75, 2.5, 1]) + np.outer([1, 0, 0, 0], [0, 0, 0, 0])
    )
    affine = grid.affine.copy()
    affine[:3, 3] = (100, 120, 50)
    grid = Geometry(grid.shape, affine)
    mask = np.zeros(grid.shape, bool, order="F")
    mask[2:5, 1:4, 1:3] = True
    series(uid=generate_uid(), attributes={"SeriesNumber": 3}).write(tmp_path / "in" / "x")
    write_volume(tmp_path / "labels" / "QX778812" / "liver.nii.gz", Volume(mask, grid))
    write_volume(tmp_path / "labels" / "other" / "liver.nii.gz", Volume(mask, grid))
    result = run(tmp_path / "in", labels=tmp_path / "labels")
    assert result.data["labels"]["voxels"] == {"liver": 18}
    # A second scan of the patient: the patient's number alone no longer says whose masks.
    stored = np.random.default_rng(9).integers(0, 2048, (5, 6, 8), dtype=np.uint16)
    series(stored=stored, attributes={"SeriesNumber": 5}).write(tmp_path / "in" / "y")
    with pytest.raises(ConfigError, match="PatientID>_<SeriesNumber"):
        run(tmp_path / "in", labels=tmp_path / "labels", out="second")
    (tmp_path / "labels" / "QX778812").rename(tmp_path / "labels" / "QX778812_5")
    result = run(tmp_path / "in", labels=tmp_path / "labels", out="third")
    labelled = [r for r in result.summary.run.records if r.data["labels"]]
    assert len(labelled) == 1
    assert "/y " in result.summary.planned[labelled[0].case_id].place


def nrrd(path: Path, array: np.ndarray, grid: Geometry = GRID, **keys: str) -> Path:
    """A NRRD file, written by SimpleITK."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.astype(np.uint8).T))
    to_lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(grid.spacing)
    image.SetOrigin((to_lps @ grid.affine[:3, 3]).tolist())
    image.SetDirection((to_lps @ grid.affine[:3, :3] / grid.spacing).ravel().tolist())
    for key, value in keys.items():
        image.SetMetaData(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, path, useCompression=True)
    return path


def test_nrrd_label_map_and_masks_are_read_like_nifti(run, tmp_path):
    values = LIVER * 6 + SPLEEN * 1
    source = ct(tmp_path / "ct.nii.gz")
    path = nrrd(tmp_path / "seg.nrrd", values)
    result = run(source, labels=path, label_map="1=spleen,6=liver")
    np.testing.assert_array_equal(masks_of(result)["liver"], LIVER)
    result = run(source, labels=path, out="refused")
    assert "with --label-map" in result.message
    nrrd(tmp_path / "m" / "Leber.nrrd", LIVER)
    save(tmp_path / "m" / "spleen.nii.gz", SPLEEN)
    found = masks_of(run(source, labels=tmp_path / "m", out="masks"))
    np.testing.assert_array_equal(found["liver"], LIVER)
    np.testing.assert_array_equal(found["spleen"], SPLEEN)


def test_slicer_segmentation_names_its_segments_and_may_be_a_part_of_the_grid(run, tmp_path):
    part = (slice(1, 6), slice(0, 4), slice(0, 3))
    affine = GRID.affine.copy()
    affine[:3, 3] = GRID.to_world((1, 0, 0))
    cropped = Geometry((5, 4, 3), affine)
    path = nrrd(
        tmp_path / "a.seg.nrrd",
        (LIVER * 1 + (TUMOUR & ~LIVER) * 2)[part],
        cropped,
        Segment0_ID="a",
        Segment0_Name="Leber",
        Segment0_LabelValue="1",
        Segment1_ID="b",
        Segment1_Name="tumor 1",
        Segment1_LabelValue="2",
        Segment1_Tags="TerminologyEntry:x~SCT^49755003^a~SCT^4147007^Mass~^^~y~SCT^15776009^b~^^|",
    )
    result = run(ct(tmp_path / "ct.nii.gz"), labels=path)
    found = masks_of(result)
    inside = np.zeros(GRID.shape, bool)
    inside[part] = True
    np.testing.assert_array_equal(found["liver"], LIVER & inside)
    np.testing.assert_array_equal(found["pancreatic_lesion"], TUMOUR & ~LIVER & inside)
    assert result.data["labels"]["resampled"] is False
    # The same part as a plain label map says nothing of the rest of the CT.
    plain = nrrd(tmp_path / "b.nrrd", LIVER[part], cropped)
    result = run(tmp_path / "ct.nii.gz", labels=plain, label_map="1=liver", out="plain")
    assert "different grids" in result.message


def test_label_files_inside_an_archive_are_read_without_a_trace_of_their_place(run, tmp_path):
    source = ct(tmp_path / "ct.nii.gz")
    save(tmp_path / "liver.nii.gz", LIVER)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    for name, status in (("liver", "done"), ("broken", "failed")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.write(tmp_path / f"{name}.nii.gz", "ct/spleen.nii.gz")
        result = run(source, labels=tmp_path / f"{name}.zip", out=name)
        assert result.statuses == [status]
    assert "mask spleen: the file: not a NIfTI image" in result.message
    found = masks_of(run(source, labels=tmp_path / "liver.zip"))
    np.testing.assert_array_equal(found["spleen"], LIVER)


def test_resampling_record_says_from_where_to_where_and_what_became_of_the_voxels(run, tmp_path):
    affine = GRID.affine.copy()
    affine[:3, 3] = GRID.to_world((-3, 0.2, 0))  # three of the label's columns lie left of the CT
    moved = Geometry(GRID.shape, affine)
    write_volume(tmp_path / "seg.nii.gz", Volume(LIVER.astype(np.uint8), moved))
    result = run(
        ct(tmp_path / "ct.nii.gz"),
        labels=tmp_path / "seg.nii.gz",
        label_map="1=liver",
        resample_labels=True,
    )
    assert "do not overlap" in result.message
    values = np.ones(GRID.shape, np.uint8, order="F")
    write_volume(tmp_path / "seg.nii.gz", Volume(values, moved))
    result = run(
        tmp_path / "ct.nii.gz",
        labels=tmp_path / "seg.nii.gz",
        label_map="1=liver",
        resample_labels=True,
        out="second",
    )
    record = result.data["labels"]["resampling"]
    assert record["from"] == "(6, 5, 4) at (0.8, 0.9, 2.5) mm, LAI"
    assert record["to"] == record["from"]
    assert record["before"] == {"liver": 120}
    assert record["after"] == {"liver": 60}
    assert record["outside"] == 0.5
    assert "do not cover the whole CT" in result.data["labels"]["faults"][-1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nearest_labels_are_those_that_simpleitk_takes(dtype):
    random = np.random.default_rng(4)
    labels = random.integers(0, 9, (13, 11, 7)).astype(dtype)
    source = Geometry.from_spacing(labels.shape, (0.9, 0.7, 2.5), orientation="LPS")
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (5, -8, 12), degrees=True).as_matrix()
    wanted = Geometry.from_spacing((20, 18, 9), (0.61, 0.73, 1.9), orientation="RAI")
    affine = turn @ wanted.affine
    affine[:3, 3] += source.corners.mean(axis=0) - Geometry(wanted.shape, affine).corners.mean(0)
    target = Geometry(wanted.shape, affine)
    to_lps = np.diag([-1.0, -1.0, 1.0])
    images = []
    for array, grid in ((labels, source), (np.zeros(target.shape, dtype), target)):
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
        image.SetSpacing(grid.spacing)
        image.SetOrigin((to_lps @ grid.affine[:3, 3]).tolist())
        image.SetDirection((to_lps @ grid.affine[:3, :3] / grid.spacing).ravel().tolist())
        images.append(image)
    theirs = SimpleITK.Resample(
        images[0], images[1], SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0
    )
    found = take_nearest(labels, source, target)
    assert found.dtype == dtype
    assert (found != 0).sum() > 500
    np.testing.assert_array_equal(found, SimpleITK.GetArrayFromImage(theirs).T)
