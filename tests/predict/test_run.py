import json
from pathlib import Path

import numpy as np
import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.geometry import Geometry
from pantskit.core.labelsets import COMBINED
from pantskit.core.labelsources import open_label_source
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume
from pantskit.predict.inputs import find_inputs
from pantskit.predict.run import PredictSettings, predict_cases

CPU = PredictSettings(device="cpu")


@pytest.fixture(scope="session")
def predictions(trained: tuple[Dataset, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the test cases, with masks."""
    dataset, model = trained
    out = tmp_path_factory.mktemp("predicted") / "predictions"
    settings = PredictSettings(device="cpu", masks=True)
    assert predict_cases(model, find_inputs(dataset.root), out, settings=settings).exit_status == 0
    return out


def dsc(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_blobs_of_unseen_patients_are_found_in_their_place(
    trained: tuple[Dataset, Path], predictions: Path
) -> None:
    reference = open_label_source(trained[0].root, split="test")
    predicted = open_label_source(predictions)
    assert list(predicted) == list(reference) == ["blob_4", "blob_5"]
    for case_id, labels in predicted.items():
        assert labels.geometry.same_grid(reference[case_id].geometry)
        for structure in ("liver", "spleen"):
            found, truth = labels.mask(structure), reference[case_id].mask(structure)
            assert found is not None
            assert truth is not None
            assert dsc(found, truth) > 0.8, f"{case_id} {structure}"


def test_predictions_declare_their_label_space_and_structures(predictions: Path) -> None:
    labels = open_label_source(predictions)["blob_4"]
    assert read_label_map(predictions / "blob_4" / COMBINED).label_space == "pants"
    assert labels.structures() == ("liver", "pancreas", "spleen", "pancreatic_lesion")
    assert labels.mask("stomach") is None  # the model does not know it: absent, not empty


def test_masks_are_unions_that_the_map_gives_too(predictions: Path) -> None:
    folder = predictions / "blob_4"
    combined = read_label_map(folder / COMBINED).array
    pancreas = read_label_map(folder / "segmentations" / "pancreas.nii.gz").array
    assert sorted(p.name for p in (folder / "segmentations").iterdir()) == [
        "liver.nii.gz",
        "pancreas.nii.gz",
        "pancreatic_lesion.nii.gz",
        "spleen.nii.gz",
    ]
    # In the release's class map the pancreas is 17 and the lesion 28.
    np.testing.assert_array_equal(pancreas > 0, np.isin(combined, (17, 28)))


def test_prediction_json_says_what_its_numbers_are(predictions: Path) -> None:
    values = json.loads((predictions / "blob_4" / "prediction.json").read_text())
    combined = read_label_map(predictions / "blob_4" / COMBINED)
    assert values["case_id"] == "blob_4"
    assert 0 < values["tumor_probability"] <= 1
    assert "softmax" in values["tumor_probability_is"]
    # 4 x 4 x 5 mm voxels.
    assert values["tumor_volume_mm3"] == pytest.approx((combined.array == 28).sum() * 80)
    assert values["versions"]["torch"]


@pytest.mark.parametrize("orientation", ["RAS", "PIR", "SLA"])
def test_prediction_of_a_turned_scan_is_the_turned_prediction(
    trained: tuple[Dataset, Path], predictions: Path, tmp_path: Path, orientation: str
) -> None:
    image = read_volume(trained[0].cases("test")[0].image_path)
    turned = image.reoriented(orientation)
    write_volume(tmp_path / "turned.nii.gz", turned)
    inputs = {"turned": tmp_path / "turned.nii.gz"}
    predict_cases(trained[1], inputs, tmp_path / "out", settings=CPU)
    labels = read_label_map(tmp_path / "out" / "turned" / COMBINED)
    assert labels.geometry.same_grid(turned.geometry)
    expected = read_label_map(predictions / "blob_4" / COMBINED).reoriented(orientation)
    np.testing.assert_array_equal(labels.array, expected.array)


def test_oblique_scan_keeps_its_oblique_grid(
    trained: tuple[Dataset, Path], predictions: Path, tmp_path: Path
) -> None:
    image = read_volume(trained[0].cases("test")[0].image_path)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(0.15), -np.sin(0.15)], [np.sin(0.15), np.cos(0.15)]]
    oblique = Geometry(image.geometry.shape, tilt @ image.geometry.affine)
    write_volume(tmp_path / "oblique.nii.gz", Volume(image.array, oblique))
    inputs = {"oblique": tmp_path / "oblique.nii.gz"}
    predict_cases(trained[1], inputs, tmp_path / "out", settings=CPU)
    labels = read_label_map(tmp_path / "out" / "oblique" / COMBINED)
    assert labels.geometry.same_grid(oblique)
    # The voxels are those of the upright scan, so the labels are, too.
    expected = read_label_map(predictions / "blob_4" / COMBINED)
    np.testing.assert_array_equal(labels.array, expected.array)


def test_bad_scans_are_failed_cases_and_the_others_are_predicted(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    good = read_volume(trained[0].cases("test")[0].image_path)
    scans = tmp_path / "scans"
    write_volume(scans / "good.nii.gz", good)
    holes = good.array.astype(np.float32)
    holes[3, 3, 3] = np.nan
    write_volume(scans / "holes.nii.gz", good.with_array(holes))
    write_volume(scans / "nothing.nii.gz", good.with_array(np.zeros_like(good.array)))
    raised = (good.array - good.array.min()).astype(np.int16)
    write_volume(scans / "raised.nii.gz", good.with_array(raised))
    slab = Geometry((*good.geometry.shape[:2], 1), good.geometry.affine * [1, 1, 0.1, 1])
    write_volume(scans / "slab.nii.gz", Volume(good.array[:, :, :1], slab))
    (scans / "text.nii.gz").write_text("no image")
    summary = predict_cases(trained[1], find_inputs(scans), tmp_path / "out", settings=CPU)
    messages = {r.case_id: r.message for r in summary.records}
    assert summary.exit_status == 1
    assert summary.counts == {"done": 1, "failed": 5}
    assert "not finite" in messages["holes"]
    assert "nothing: values of the CT run from 0 to 0" in messages["nothing"]
    assert "nothing is below 0, so they are not Hounsfield units" in messages["raised"]
    assert "slab: the CT is" in messages["slab"]
    assert "mm thick and a voxel of the network" in messages["slab"]
    assert "text" in messages["text"]
    assert not (tmp_path / "out" / "holes" / COMBINED).exists()
    again = predict_cases(trained[1], find_inputs(scans), tmp_path / "out", settings=CPU)
    assert set(again.ran) == {"holes", "nothing", "raised", "slab", "text"}  # the good one is done


def test_nothing_of_an_earlier_prediction_stays(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    """Old masks would win over the new map, and an old map be scored where the new CT failed."""
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    write_volume(scan, read_volume(trained[0].cases("test")[0].image_path))
    with_masks = PredictSettings(device="cpu", masks=True)
    predict_cases(trained[1], find_inputs(scan), out, settings=with_masks)
    assert (out / "scan" / "segmentations" / "liver.nii.gz").is_file()
    predict_cases(trained[1], find_inputs(scan), out, settings=CPU)
    assert open_label_source(out)["scan"].paths == (out / "scan" / COMBINED,)
    scan.write_text("no image")
    assert predict_cases(trained[1], find_inputs(scan), out, settings=CPU).exit_status == 1
    assert not [p for p in (out / "scan").rglob("*") if p.is_file()]


def test_folder_of_something_else_is_not_written_into(
    trained: tuple[Dataset, Path], predictions: Path, tmp_path: Path
) -> None:
    inputs = find_inputs(trained[0].root)
    with pytest.raises(DatasetError, match="holds a dataset"):
        predict_cases(trained[1], inputs, trained[0].root, settings=CPU)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match="not empty"):
        predict_cases(trained[1], inputs, tmp_path, settings=CPU)
