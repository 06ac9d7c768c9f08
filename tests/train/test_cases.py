import json
from pathlib import Path
from typing import Any

import blobs
import nibabel
import numpy as np
import pytest
from label_plans import plans_of
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ImageError
from pantskit.core.run import Job
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume
from pantskit.networks.axes import header_spacing, to_network
from pantskit.networks.folder import channel_space
from pantskit.networks.plans import Plans
from pantskit.networks.preprocessing import NetworkImage
from pantskit.train.cases import Preparation, TrainingCase, prepare_case, scan_case

LABELS = {"background": 0, **{s: n for n, s in enumerate(blobs.STRUCTURES, 1)}}
REGIONS = {"background": 0, "liver": [1], "spleen": [2], "pancreas": [3, 4], "lesion": [4]}


@pytest.fixture
def case(tmp_path: Path) -> TrainingCase:
    """One blob patient whose CT has zeros at its sides."""
    dataset = Dataset.create(tmp_path / "dataset", annotated=blobs.STRUCTURES)
    image = blobs.write_case(dataset, "blob", seed=3)
    array = image.array.copy(order="F")
    array[:2], array[:, :, -3:] = 0, 0
    write_volume(dataset.image_path("blob", "train"), image.with_array(array))
    known = dataset.cases("train")[0]
    return TrainingCase(known, blobs.STRUCTURES, tmp_path / "work", samples=500)


def raw_files(case: TrainingCase, folder: Path) -> tuple[str, str]:
    """The case as nnU-Net's readers take it."""
    image = read_volume(case.case.image_path)
    labels = case.case.labels()
    assert labels is not None
    painted = labels.label_map(channel_space(case.structures))
    write_volume(folder / "blob_0000.nii.gz", image.reoriented())
    write_volume(folder / "blob.nii.gz", Volume(painted, image.geometry).reoriented())
    return str(folder / "blob_0000.nii.gz"), str(folder / "blob.nii.gz")


def preparation(case: TrainingCase, plans: Plans, folder: Path) -> Job:
    paths = folder / "plans.json", folder / "dataset.json"
    for path, values in zip(paths, (plans.plans, plans.dataset_json), strict=True):
        path.write_text(json.dumps(values))
    return Job(case.case.case_id, Preparation(case, *paths))


def read_back(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    data, labels, _, properties = nnUNetDatasetBlosc2(str(folder)).load_case("blob")
    return data, labels, properties


def test_scan_finds_what_nnunets_own_fingerprint_has(case: TrainingCase, tmp_path: Path) -> None:
    found = scan_case(Job("blob", case))
    image, labels = raw_files(case, tmp_path)
    shape, spacing, values, _, share = DatasetFingerprintExtractor.analyze_case(
        [image], labels, NibabelIO, num_samples=500
    )
    assert tuple(found["shape_after_crop"]) == tuple(shape)
    assert found["spacing"] == pytest.approx(spacing)
    assert found["relative_size_after_crop"] == pytest.approx(share)
    np.testing.assert_array_equal(np.load(case.intensities_path), values[0])
    array = case.read()[1]
    assert list(found["voxels"].values()) == [int((array == n).sum()) for n in range(1, 5)]


@pytest.mark.parametrize("spacing", [[6.0, 6.0, 6.0], [12.0, 3.0, 3.0]])
def test_prepared_files_are_those_of_nnunets_own_preprocessing(
    case: TrainingCase, tmp_path: Path, spacing: list[float]
) -> None:
    plans = plans_of(spacing, LABELS)
    assert prepare_case(preparation(case, plans, tmp_path)) == {}
    (tmp_path / "theirs").mkdir()
    image, labels = raw_files(case, tmp_path)
    DefaultPreprocessor(verbose=False).run_case_save(
        str(tmp_path / "theirs" / "blob"), [image], labels,
        plans.manager, plans.configuration, plans.dataset_json,
    )  # fmt: skip
    data, labels_, properties = read_back(case.prepared.parent)
    their_data, their_labels, their_properties = read_back(tmp_path / "theirs")
    np.testing.assert_allclose(data[:], their_data[:], atol=1e-4)
    np.testing.assert_array_equal(labels_[:], their_labels[:])
    for ours, theirs in ((data, their_data), (labels_, their_labels)):
        assert (ours.dtype, ours.chunks, ours.blocks) == (
            theirs.dtype,
            theirs.chunks,
            theirs.blocks,
        )
    places, their_places = (p["class_locations"] for p in (properties, their_properties))
    assert list(places) == list(their_places)
    for key in places:
        np.testing.assert_array_equal(places[key], their_places[key])


def test_no_patch_is_drawn_for_a_region_that_the_case_does_not_annotate(
    case: TrainingCase, tmp_path: Path
) -> None:
    known = ("liver", "spleen", "pancreatic_lesion")
    asked = TrainingCase(case.case, case.structures, case.work, 0, known, regions=True)
    plans = plans_of([6.0, 6.0, 6.0], REGIONS)
    prepare_case(preparation(asked, plans, tmp_path))
    places = read_back(case.prepared.parent)[2]["class_locations"]
    assert {key: len(found) > 0 for key, found in places.items()} == {
        (1,): True, (2,): True, (3, 4): False, (4,): True
    }  # fmt: skip


def test_case_too_thin_for_the_plans_is_named(case: TrainingCase, tmp_path: Path) -> None:
    job = preparation(case, plans_of([900.0, 6.0, 6.0], LABELS), tmp_path)
    with pytest.raises(
        ImageError, match=r"^blob: .* no voxel on the network's grid of 900 x 6 x 6 mm"
    ):
        prepare_case(job)


def test_spacing_of_a_tilted_scan_is_its_header_s_as_in_prediction(
    case: TrainingCase, tmp_path: Path
) -> None:
    a = np.deg2rad(5)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    for path in case.inputs():
        old = nibabel.load(path)
        new = nibabel.Nifti1Image(np.asanyarray(old.dataobj), tilt @ old.affine, old.header)
        new.header["pixdim"][1:4] = (4, 4, 5)  # as scanners' and ITK's converters write it
        nibabel.save(new, path)
    image = read_volume(case.case.image_path)
    assert image.geometry.spacing[2] > 5  # by the rounding of the affine
    assert scan_case(Job("blob", case))["spacing"] == [5.0, 4.0, 4.0]
    # 25 slices are not cropped: 12.5 of 10 mm, rounded to the even 12. More than 12.5 would be 13.
    plans = plans_of([10.0, 8.0, 8.0], LABELS)
    prepare_case(preparation(case, plans, tmp_path))
    data = read_back(case.prepared.parent)[0]
    said = header_spacing(case.case.image_path, image.geometry)
    view, along = to_network(image, "LAI", spacing=said)
    assert data.shape[1] == 12
    assert data.shape[1:] == NetworkImage(view, along, plans).shape
