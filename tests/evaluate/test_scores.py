"""Unions of structures and errors of volumes, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelsources import labels_in
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.evaluate.case import score_case
from pantskit.evaluate.evaluation import evaluate
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.evaluate.unions import UNIONS, parse_unions

Mask = NDArray[np.bool_]
SHAPE = (20, 18, 16)
GRID = Geometry.from_spacing(SHAPE, (1.0, 1.5, 2.0))


def block(i: int, j: int, k: int, size: int) -> Mask:
    mask = np.zeros(SHAPE, np.bool_)
    mask[i : i + size, j : j + size, k : k + size] = True
    return mask


def case(folder: Path, **masks: Mask) -> CaseLabels:
    for structure, mask in masks.items():
        write_volume(folder / f"{structure}.nii.gz", Volume(mask, GRID))
    labels = labels_in(folder)
    assert labels is not None
    return labels


def rows(reference: CaseLabels, prediction: CaseLabels, **settings: Any) -> dict[str, Any]:
    result = score_case(reference, prediction, EvaluateConfig(**settings))
    return {row["structure"]: row for row in result["scores"]}


@pytest.fixture
def reference(tmp_path: Path) -> CaseLabels:
    left, right = block(1, 1, 1, 4), block(12, 1, 1, 4)
    return case(tmp_path / "reference", kidney_left=left, kidney_right=right, liver=left)


def test_a_union_is_one_mask(reference: CaseLabels, tmp_path: Path) -> None:
    """Left and right exchanged: nothing of either is right, and both together are."""
    left, right = block(12, 1, 1, 4), block(1, 1, 1, 4)
    prediction = case(tmp_path / "prediction", kidney_left=left, kidney_right=right)
    found = rows(reference, prediction, unions=parse_unions(["kidneys"]))
    assert found["kidney_left"]["dsc"] == found["kidney_right"]["dsc"] == 0
    assert found["kidneys"]["dsc"] == found["kidneys"]["nsd"] == 1
    assert found["kidneys"]["reference_voxels"] == 128


def test_voxels_of_several_members_count_once(reference: CaseLabels) -> None:
    unions = parse_unions(["upper=liver+kidney_left"])
    assert rows(reference, reference, unions=unions)["upper"]["reference_voxels"] == 64


def test_a_union_is_unknown_where_one_of_its_structures_is(reference: CaseLabels) -> None:
    found = rows(reference, reference, unions=parse_unions(["lungs", "x=liver+spleen"]))
    assert found["lungs"]["status"] == found["x"]["status"] == "absent"


def test_what_is_not_predicted_is_missing_from_the_union(
    reference: CaseLabels, tmp_path: Path
) -> None:
    prediction = case(tmp_path / "prediction", kidney_left=block(1, 1, 1, 4))
    found = rows(reference, prediction, unions=parse_unions(["kidneys", "x=liver+liver"]))
    assert found["kidneys"]["status"] == "scored"
    assert found["kidneys"]["dsc"] == 2 * 64 / (128 + 64)
    assert (found["x"]["status"], found["x"]["dsc"]) == ("not_predicted", 0)


def test_unions_reach_every_output(reference: CaseLabels, tmp_path: Path) -> None:
    config = EvaluateConfig(structures=("liver",), unions=parse_unions(["kidneys"]))
    folder = tmp_path / "reference"
    (tmp_path / "cases").mkdir()
    folder.rename(tmp_path / "cases" / "c")
    result = evaluate(tmp_path / "cases", tmp_path / "cases", tmp_path / "out", config, workers=0)
    assert list(result.summary["structures"]) == ["liver", "kidneys"]
    assert result.summary["structures"]["kidneys"]["dsc"]["mean"] == 1
    assert "kidneys" in (tmp_path / "out" / "scores.csv").read_text("utf-8")


def test_known_unions_are_made_of_structures() -> None:
    for name, members in UNIONS.items():
        assert name not in STRUCTURES
        assert set(members) <= set(STRUCTURES)
    assert "pancreatic_lesion" in UNIONS["whole_pancreas"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["vessels"], "not known"),
        (["kidneys", "kidneys"], "given twice"),
        (["liver=liver+spleen"], "a structure's name"),
        (["x=liver+brain"], "none of the 28"),
        (["X y=liver"], "small letters"),
    ],
)
def test_unions_that_mean_nothing_are_refused(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_unions(texts)


def test_volume_errors_are_signed(reference: CaseLabels, tmp_path: Path) -> None:
    prediction = case(
        tmp_path / "prediction",
        kidney_left=block(1, 1, 1, 5),
        kidney_right=block(12, 1, 1, 2),
        liver=block(0, 0, 0, 0),
    )
    found = rows(reference, prediction)
    # 3 mm3 a voxel: 125, 8 and 0 of them in place of 64.
    errors = [
        (found[s]["volume_error_ml"], found[s]["volume_error_relative"])
        for s in ("kidney_left", "kidney_right", "liver")
    ]
    expected = [(0.183, 61 / 64), (-0.168, -56 / 64), (-0.192, -1)]
    assert errors == [pytest.approx(e) for e in expected]


def test_without_a_reference_volume_there_is_no_relative_error(tmp_path: Path) -> None:
    truth = case(tmp_path / "reference", spleen=block(0, 0, 0, 0))
    found = case(tmp_path / "prediction", spleen=block(3, 3, 3, 2))
    row = rows(truth, found)["spleen"]
    assert row["volume_error_ml"] == pytest.approx(0.024)
    assert row["volume_error_relative"] is None
    assert row["dsc"] == row["nsd"] == 0


def test_two_files_are_one_case_whatever_they_are_called(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("TRUTH.NII.GZ", "model output.nii")]
    for path in paths:
        write_volume(tmp_path / "x.nii.gz", Volume(block(2, 2, 2, 3).astype(np.uint8), GRID))
        (tmp_path / "x.nii.gz").rename(path)
    config = EvaluateConfig(label_map="1=liver", reference_label_map="1=liver")
    result = evaluate(paths[1], paths[0], tmp_path / "out", config, workers=0)
    assert result.exit_status == 0
    assert result.summary["structures"]["liver"]["dsc"] == result.summary["structures"]["liver"][
        "dsc"
    ] | {"mean": 1.0, "n": 1}
    assert "TRUTH" in (tmp_path / "out" / "cases.csv").read_text("utf-8")


def test_two_folders_of_masks_are_one_case_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("truth", "output"):
        case(tmp_path / name, liver=block(2, 2, 2, 3), pancreatic_lesion=block(9, 9, 9, 2))
    (tmp_path / "output" / "prediction.json").write_text('{"tumor_probability": 0.25}')
    result = evaluate(tmp_path / "output", tmp_path / "truth", tmp_path / "out", workers=0)
    assert result.exit_status == 0
    assert result.summary["structures"]["liver"]["dsc"]["mean"] == 1.0
    assert result.summary["detection"]["score"] == "tumor_probability"
