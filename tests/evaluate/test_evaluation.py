"""Scoring a folder: what is counted, what is ignored, and what is said of it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pantskit.core.errors import ConfigError, DatasetError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.records import read_table
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.evaluate.evaluation import Evaluation, evaluate
from pantskit.evaluate.settings import EvaluateConfig

Row = dict[str, Any]
Predict = Callable[..., Path]
DIAGONAL_MM = math.dist((0, 0, 0), (20 * 1.0, 18 * 1.5, 16 * 2.0))


def run(predictions: Path, reference: Path, **settings: Any) -> tuple[Evaluation, Path]:
    out = reference.parent / "scores"
    config = EvaluateConfig(bootstrap_samples=200, **settings)
    return evaluate(predictions, reference, out, config, workers=0), out


def scores_of(out: Path, case_id: str, structure: str) -> list[Row]:
    rows = read_table(out / "scores.parquet")
    return [r for r in rows if (r["case_id"], r["structure"]) == (case_id, structure)]


def case_of(out: Path, case_id: str) -> Row:
    (row,) = (r for r in read_table(out / "cases.parquet") if r["case_id"] == case_id)
    return row


def test_the_reference_against_itself_is_1_everywhere(reference: Path) -> None:
    result, out = run(reference, reference)
    rows = [r for r in read_table(out / "scores.parquet") if r["status"] == "scored"]
    assert len(rows) == 4 * 2 + 2
    for row in rows:
        perfect = {r: row[r] for r in ("dsc", "iou", "nsd", "sensitivity", "specificity")}
        assert set(perfect.values()) == {1.0}, row
        assert (row["precision"], row["hd95_mm"], row["assd_mm"]) == (1.0, 0.0, 0.0)
    assert result.exit_status == 0
    detection = result.summary["detection"]
    assert detection["auc"]["value"] == 1.0
    assert detection["sensitivity_patient"]["value"] == detection["specificity"]["value"] == 1.0


def test_an_empty_prediction_is_0_and_finds_no_tumour(
    cohort: Any, reference: Path, predict: Predict
) -> None:
    nothing = dict.fromkeys(cohort.body(), cohort.empty)
    for case_id in cohort.lesions:
        folder = predict(case_id, nothing)
    result, out = run(folder, reference)
    for row in read_table(out / "scores.parquet"):
        if row["reference_voxels"]:
            assert (row["dsc"], row["nsd"], row["sensitivity"]) == (0, 0, 0)
            assert row["precision"] is None
            assert row["hd95_mm"] == row["assd_mm"] == pytest.approx(DIAGONAL_MM)
        else:
            assert (row["status"], row["dsc"], row["nsd"]) == ("both_empty", None, None)
            assert row["specificity"] == 1.0
    detection = result.summary["detection"]
    assert detection["sensitivity_patient"]["count"] == 0
    assert detection["specificity"]["count"] == detection["specificity"]["of"] == 2
    assert detection["auc"]["value"] == 0.5
    assert result.exit_status == 0


def test_scores_of_a_shifted_lesion_by_hand(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    """4 x 4 x 4 voxels moved by one along k: 48 of 64 overlap."""
    predict("a_1", cohort.body(cohort.block(10, 10, 7)))
    _, out = run(perfect, reference)
    (row,) = scores_of(out, "a_1", "pancreatic_lesion")
    assert row["dsc"] == 2 * 48 / 128
    assert row["iou"] == 48 / 80
    assert row["sensitivity"] == row["precision"] == 48 / 64
    assert row["specificity"] == 1 - 16 / (20 * 18 * 16 - 64)
    assert row["reference_ml"] == pytest.approx(64 * 3.0 / 1000)
    assert row["nsd"] == 1.0  # nothing is further than the 2 mm of a voxel along k
    assert row["hd95_mm"] == 2.0
    lesion = next(r for r in read_table(out / "lesions.parquet") if r["case_id"] == "a_1")
    assert lesion["volume_mm3"] == pytest.approx(64 * 3.0)
    assert lesion["hit"]
    assert (lesion["overlap_fraction"], lesion["best_dsc"]) == (0.75, 0.75)
    centre = cohort.geometry.to_world((11.5, 11.5, 7.5))
    assert (lesion["x_mm"], lesion["y_mm"], lesion["z_mm"]) == pytest.approx(tuple(centre))


def test_means_say_how_many_cases_they_are_over(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    """Two lesions, one missed; of two normal cases one is called so and one is not."""
    predict("b_1", cohort.body())
    predict("c_1", cohort.body(cohort.block(9, 9, 9, 2)))
    result, _ = run(perfect, reference)
    lesion = result.summary["structures"]["pancreatic_lesion"]
    assert lesion["status"] == {"scored": 3, "both_empty": 1}
    # Patients a, b and c have one DSC each: samples of the three reach from none to all perfect.
    dsc = {"mean": pytest.approx(1 / 3), "low": 0.0, "high": 1.0, "median": 0.0, "n": 3}
    assert lesion["dsc"] == dsc
    assert lesion["nsd"]["2"]["n"] == 3
    assert lesion["sensitivity"] == {"mean": 0.5, "low": 0.0, "high": 1.0, "median": 0.5, "n": 2}
    detection = result.summary["detection"]
    assert (detection["sensitivity_patient"]["count"], detection["specificity"]["count"]) == (1, 1)
    assert detection["sensitivity_tumor"]["count"] == 1
    assert detection["sensitivity_tumor"]["of"] == 2


def test_a_missing_prediction_is_named_and_scores_worst(perfect: Path, reference: Path) -> None:
    for case_id in ("a_1", "c_1"):
        shutil.rmtree(perfect / case_id)
    result, out = run(perfect, reference)
    assert result.exit_status == 1
    assert result.summary["cases"]["missing_prediction"] == ["a_1", "c_1"]
    assert "a_1: no prediction in" in result.summary["cases"]["messages"]["a_1"]
    (lesion,) = scores_of(out, "a_1", "pancreatic_lesion")
    assert (lesion["status"], lesion["dsc"], lesion["nsd"]) == ("missing_prediction", 0.0, 0.0)
    assert lesion["hd95_mm"] == pytest.approx(DIAGONAL_MM)
    liver = result.summary["structures"]["liver"]
    assert {name: liver["dsc"][name] for name in ("mean", "median", "n")} == {
        "mean": 0.5, "median": 0.5, "n": 4,
    }  # fmt: skip
    assert liver["worst"] == 2
    # The tumour case ranks lowest and the normal one highest: 1 of 4 pairs is in order.
    detection = result.summary["detection"]
    assert detection["auc"]["value"] == 0.25
    assert detection["sensitivity_patient"]["count"] == 1
    assert detection["specificity"]["count"] == 1
    assert detection["sensitivity_tumor"]["count"] == 1
    assert detection["sensitivity_tumor"]["of"] == 2


def test_a_prediction_on_another_grid_is_refused_with_both_grids(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    coarse = Geometry.from_spacing((20, 18, 8), (1.0, 1.5, 4.0), origin=(5.0, -3.0, 40.0))
    half = {s: m[:, :, ::2] for s, m in cohort.body(cohort.lesions["b_1"]).items()}
    shutil.rmtree(perfect / "b_1")
    predict("b_1", half, geometry=coarse)
    result, out = run(perfect, reference)
    message = result.summary["cases"]["messages"]["b_1"]
    assert message.startswith("b_1: reference and prediction are on different grids")
    assert "--resample brings" in message
    assert "(20, 18, 16)" in message
    assert "(20, 18, 8)" in message
    assert result.exit_status == 1
    assert {r["dsc"] for r in scores_of(out, "b_1", "liver")} == {0.0}


@pytest.mark.parametrize("orientation", ["RPS", "RAS", "PIL", "SRA"])
def test_the_same_voxels_in_another_order_are_the_same_grid(
    cohort: Any, perfect: Path, reference: Path, predict: Predict, orientation: str
) -> None:
    shutil.rmtree(perfect / "b_1")
    turned = {
        s: Volume(m, cohort.geometry).reoriented(orientation)
        for s, m in cohort.body(cohort.lesions["b_1"]).items()
    }
    masks = {s: volume.array for s, volume in turned.items()}
    predict("b_1", masks, geometry=turned["liver"].geometry)
    result, out = run(perfect, reference)
    assert result.exit_status == 0
    assert result.summary["cases"]["resampled"] == []
    assert {r["dsc"] for r in scores_of(out, "b_1", "pancreatic_lesion")} == {1.0}
    assert f"axes run to {orientation}" in case_of(out, "b_1")["faults"]


def test_resampling_is_asked_for_and_recorded(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    """Masks in a larger box than the reference's: resampling gives them back."""
    larger = Geometry.from_spacing((22, 18, 16), (1.0, 1.5, 2.0), origin=(7.0, -3.0, 40.0))
    shutil.rmtree(perfect / "b_1")
    masks = {
        s: np.pad(m, [(2, 0), (0, 0), (0, 0)])
        for s, m in cohort.body(cohort.lesions["b_1"]).items()
    }
    predict("b_1", masks, geometry=larger)
    assert run(perfect, reference)[0].exit_status == 1
    result, out = run(perfect, reference, resample=True)
    assert result.exit_status == 0
    assert result.summary["cases"]["resampled"] == ["b_1"]
    assert {r["dsc"] for r in scores_of(out, "b_1", "pancreatic_lesion")} == {1.0}
    assert (case_of(out, "b_1")["resampled"], case_of(out, "a_1")["resampled"]) == (True, False)


def flat_maps(folder: Path, cohort: Any, *, label_space: str | None = "pants") -> Path:
    folder.mkdir(parents=True)
    for case_id, lesion in cohort.lesions.items():
        volume = Volume(PANTS.combine(cohort.body(lesion)), cohort.geometry)
        write_volume(folder / f"{case_id}.nii.gz", volume, label_space=label_space)
    return folder


def test_label_maps_and_separate_masks_score_alike(
    cohort: Any, reference: Path, perfect: Path, tmp_path: Path
) -> None:
    flat = flat_maps(tmp_path / "flat", cohort)
    from_masks, _ = run(perfect, reference)
    from_maps, _ = run(flat, reference)
    both_maps, _ = run(
        flat, flat_maps(tmp_path / "flat_reference", cohort), structures=tuple(cohort.body())
    )
    assert from_maps.summary["structures"] == from_masks.summary["structures"]
    assert (
        both_maps.summary["structures"]["pancreas"] == from_maps.summary["structures"]["pancreas"]
    )


def test_scores_do_not_depend_on_the_form(
    cohort: Any, reference: Path, predict: Predict, tmp_path: Path
) -> None:
    """A prediction that is wrong, as masks and as a map with ids of its own."""
    flat = tmp_path / "flat"
    flat.mkdir()
    wrong = {"pancreas": cohort.block(9, 9, 5, 6), "pancreatic_lesion": cohort.block(9, 9, 5, 2)}
    ids = np.asfortranarray(np.where(wrong["pancreas"], 3, 0).astype(np.uint8))
    ids[wrong["pancreatic_lesion"]] = 7
    for case_id in cohort.lesions:
        masks = predict(case_id, wrong)
        write_volume(flat / f"{case_id}.nii.gz", Volume(ids, cohort.geometry))
    structures = tuple(wrong)
    _, out = run(masks, reference, structures=structures)
    expected = read_table(out / "scores.parquet")
    run(flat, reference, structures=structures, label_map="3=pancreas,7=pancreatic_lesion")
    assert read_table(out / "scores.parquet") == expected


def test_labels_outside_the_map_fail_the_case_with_its_name(
    cohort: Any, reference: Path, tmp_path: Path
) -> None:
    flat = flat_maps(tmp_path / "flat", cohort)
    odd = np.full(cohort.geometry.shape, 99, np.uint8, order="F")
    write_volume(flat / "b_1.nii.gz", Volume(odd, cohort.geometry), label_space="pants")
    result, _ = run(flat, reference)
    assert result.summary["cases"]["failed"] == ["b_1"]
    assert "b_1" in result.summary["cases"]["messages"]["b_1"]
    assert "[99]" in result.summary["cases"]["messages"]["b_1"]
    assert result.exit_status == 1


def test_maps_that_declare_nothing_need_the_option(
    cohort: Any, reference: Path, tmp_path: Path
) -> None:
    flat = flat_maps(tmp_path / "flat", cohort, label_space=None)
    result, _ = run(flat, reference)
    assert result.summary["cases"]["scored"] == 0
    assert "--label-map" in result.summary["cases"]["messages"]["a_1"]
    assert run(flat, reference, label_map="pants")[0].exit_status == 0
    with pytest.raises(LabelError, match="nosuchmap"):
        run(flat, reference, label_map="nosuchmap")


def test_a_case_that_is_there_twice_fails_alone(
    cohort: Any, reference: Path, tmp_path: Path
) -> None:
    flat = flat_maps(tmp_path / "flat", cohort)
    write_volume(
        flat / "a_1.nii", Volume(PANTS.combine(cohort.body()), cohort.geometry), label_space="pants"
    )
    result, out = run(flat, reference)
    cases = result.summary["cases"]
    assert (cases["scored"], cases["failed"], result.exit_status) == (3, ["a_1"], 1)
    assert "a_1 is there twice" in cases["messages"]["a_1"]
    rows = read_table(out / "scores.parquet")
    assert {r["dsc"] for r in rows if r["case_id"] == "a_1"} == {0.0}


def test_a_reference_that_is_there_twice_scores_nobody(cohort: Any, tmp_path: Path) -> None:
    flat = flat_maps(tmp_path / "flat", cohort)
    twice = flat_maps(tmp_path / "twice", cohort)
    write_volume(
        twice / "a_1.nii",
        Volume(PANTS.combine(cohort.body()), cohort.geometry),
        label_space="pants",
    )
    result, out = run(flat, twice)
    assert result.summary["cases"]["failed"] == ["a_1"]
    assert {r["case_id"] for r in read_table(out / "scores.parquet")} == {"a_2", "b_1", "c_1"}


def test_a_damaged_prediction_fails_its_case_and_no_other(perfect: Path, reference: Path) -> None:
    path = perfect / "a_2" / "segmentations" / "liver.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    result, out = run(perfect, reference)
    assert result.summary["cases"]["failed"] == ["a_2"]
    assert result.summary["cases"]["scored"] == 3
    assert {r["status"] for r in scores_of(out, "a_2", "liver")} == {"failed"}


def test_a_damaged_reference_is_named_and_scores_nobody(perfect: Path, reference: Path) -> None:
    folder = reference / "LabelTe" / "a_2"
    for path in folder.rglob("*.nii.gz"):
        path.write_text("no image")
    result, out = run(perfect, reference)
    assert result.summary["cases"]["failed"] == ["a_2"]
    assert scores_of(out, "a_2", "liver") == []
    assert case_of(out, "a_2")["reference_tumor"] is None
    assert result.summary["structures"]["liver"]["dsc"]["n"] == 3
    assert result.exit_status == 1


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.5, "high", True, math.inf])
def test_a_probability_that_is_none_fails_its_case(
    cohort: Any, perfect: Path, reference: Path, predict: Predict, value: object
) -> None:
    predict("c_1", cohort.body(), tumor_probability=value)
    result, _ = run(perfect, reference)
    assert result.summary["cases"]["failed"] == ["c_1"]
    message = result.summary["cases"]["messages"]["c_1"]
    assert message.startswith("c_1: prediction.json gives tumor_probability")
    assert result.exit_status == 1


def test_cases_are_ranked_by_probability_when_all_have_one(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    for case_id, value in {"a_1": 0.9, "a_2": 0.6, "b_1": 0.5, "c_1": 0.1}.items():
        predict(case_id, cohort.body(cohort.lesions[case_id]), tumor_probability=value)
    result, out = run(perfect, reference)
    detection = result.summary["detection"]
    assert detection["score"] == "tumor_probability"
    assert detection["auc"]["value"] == 0.75
    assert detection["auc"]["patients"] == 3
    assert case_of(out, "b_1")["detection_score"] == 0.5
    assert case_of(out, "b_1")["called_positive"]  # by its predicted volume


def test_kinds_of_score_are_never_mixed(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    predict("a_2", cohort.body(), tumor_probability=0.99)
    result, out = run(perfect, reference)
    detection = result.summary["detection"]
    assert detection["score"] == "tumor_volume_mm3_prediction"
    assert "3 of 4 cases give no probability" in detection["score_is"]
    assert detection["auc"]["value"] == 1.0
    assert case_of(out, "a_1")["detection_score"] == pytest.approx(64 * 3.0)


def test_the_operating_point_is_a_volume_and_is_named(perfect: Path, reference: Path) -> None:
    result, _ = run(perfect, reference, tumor_mm3=100.0)
    detection = result.summary["detection"]
    assert detection["operating_point"] == "predicted tumour volume >= 100 mm3"
    assert detection["sensitivity_patient"]["count"] == 1  # 192 and 81 mm3
    result, _ = run(perfect, reference, tumor_mm3=192.0)  # that much is enough
    assert result.summary["detection"]["sensitivity_patient"]["count"] == 1
    result, _ = run(perfect, reference)
    assert result.summary["detection"]["operating_point"] == "any predicted tumour voxel"


def test_structures_nobody_annotated_are_ignored(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    predict("a_1", {"spleen": cohort.block(0, 0, 0)})
    (reference / "LabelTe" / "a_2" / "segmentations" / "liver.nii.gz").unlink()
    result, out = run(perfect, reference)
    assert "spleen" not in result.summary["structures"]
    liver = result.summary["structures"]["liver"]
    assert liver["status"] == {"absent": 1, "scored": 3}
    assert liver["dsc"]["n"] == 3
    (row,) = scores_of(out, "a_2", "liver")
    assert (row["status"], row["dsc"], row["nsd"]) == ("absent", None, None)


def test_a_structure_that_was_not_predicted_scores_worst(perfect: Path, reference: Path) -> None:
    for path in perfect.rglob("liver.nii.gz"):
        path.unlink()
    result, _ = run(perfect, reference)
    liver = result.summary["structures"]["liver"]
    assert liver["status"] == {"not_predicted": 4}
    assert (liver["worst"], liver["dsc"]["mean"], liver["dsc"]["n"]) == (4, 0.0, 4)
    assert result.exit_status == 0


def test_without_tumour_in_the_prediction_there_is_no_detection(
    perfect: Path, reference: Path
) -> None:
    for path in perfect.rglob("pancreatic_lesion.nii.gz"):
        path.unlink()
    detection = run(perfect, reference)[0].summary["detection"]
    assert (detection["score"], detection["auc"]) == (None, None)
    assert detection["tumor_cases"] == 2


def test_an_extra_prediction_is_named(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    predict("z_9", cohort.body())
    result, out = run(perfect, reference)
    assert result.summary["cases"]["extra_predictions"] == ["z_9"]
    assert result.exit_status == 1
    assert "z_9" not in {r["case_id"] for r in read_table(out / "cases.parquet")}


def test_only_listed_cases_are_scored(perfect: Path, reference: Path) -> None:
    result, out = run(perfect, reference, cases=("a_1", "c_1"))
    assert result.summary["cases"]["reference"] == 2
    assert result.summary["cases"]["extra_predictions"] == []
    assert {r["case_id"] for r in read_table(out / "scores.parquet")} == {"a_1", "c_1"}


def test_a_list_of_cases_that_disagrees_is_named(perfect: Path, reference: Path) -> None:
    result, _ = run(perfect, reference, cases=("a_1", "nobody", "a_1"))
    cases = result.summary["cases"]
    assert (cases["unknown_cases"], cases["repeated_cases"]) == (["nobody"], ["a_1"])
    assert (cases["reference"], cases["scored"]) == (1, 1)
    assert result.exit_status == 1


def test_a_split_is_not_asked_of_a_folder_that_has_none(perfect: Path) -> None:
    with pytest.raises(ConfigError, match="has no splits"):
        run(perfect, perfect, split="test")


def test_folders_that_share_no_case_are_refused(
    cohort: Any, predict: Predict, reference: Path
) -> None:
    with pytest.raises(DatasetError, match=r"no prediction of any of the 4 cases.*z_9.*a_1"):
        run(predict("z_9", cohort.body()), reference)


def test_the_other_split_is_left_alone(perfect: Path, reference: Path) -> None:
    assert run(perfect, reference, split="test")[0].summary["cases"]["reference"] == 4
    with pytest.raises(DatasetError, match="train split"):
        run(perfect, reference, split="train")


def test_every_tolerance_has_its_row(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    predict("a_1", cohort.body(cohort.block(10, 10, 7)))
    result, out = run(perfect, reference, tolerances_mm=(3.0, 1.0, 3.0))
    rows = scores_of(out, "a_1", "pancreatic_lesion")
    assert [r["tolerance_mm"] for r in rows] == [1.0, 3.0]
    assert rows[0]["nsd"] < rows[1]["nsd"] == 1.0
    assert rows[0]["dsc"] == rows[1]["dsc"]
    assert list(result.summary["structures"]["liver"]["nsd"]) == ["1", "3"]


@pytest.mark.parametrize("definition", ["surfel", "counted", "counted-le"])
def test_the_definition_is_named_in_every_output(
    perfect: Path, reference: Path, definition: str
) -> None:
    result, out = run(perfect, reference, definition=definition)
    assert result.summary["settings"]["definition"] == definition
    assert {r["nsd_definition"] for r in read_table(out / "scores.parquet")} == {definition}


def test_a_rerun_scores_only_what_changed(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    first, out = run(perfect, reference)
    assert first.run.ran == tuple(cohort.lesions)
    tables = (out / "scores.csv").read_text()
    again, _ = run(perfect, reference)
    assert again.run.ran == ()
    assert again.summary == first.summary
    assert (out / "scores.csv").read_text() == tables
    predict("b_1", cohort.body())
    assert run(perfect, reference)[0].run.ran == ("b_1",)
    assert run(perfect, reference, tolerances_mm=(1.0,))[0].run.ran == tuple(cohort.lesions)


def test_an_edited_label_map_scores_again(cohort: Any, reference: Path, tmp_path: Path) -> None:
    flat = flat_maps(tmp_path / "flat", cohort, label_space=None)
    ids = tmp_path / "ids.json"
    for wrong, right in (("spleen", "liver"), ("liver", "spleen")):
        labels = {str(i): s for i, s in PANTS.ids.items() if s not in (wrong, right)}
        ids.write_text(json.dumps(labels | {str(PANTS.id_of("liver")): right}))
        result, _ = run(flat, reference, label_map=str(ids), structures=("liver",))
    liver = result.summary["structures"]["liver"]
    assert (liver["dsc"]["mean"], liver["worst"]) == (0.0, 4)


def test_an_edited_dataset_json_above_the_labels_scores_again(
    cohort: Any, reference: Path, tmp_path: Path
) -> None:
    flat = flat_maps(tmp_path / "theirs" / "labelsTr", cohort, label_space=None)
    for name, dsc in (("liver", 1.0), ("spleen", 0.0)):
        labels = {"background": 0, name: PANTS.id_of("liver")} | {
            s: PANTS.id_of(s) for s in ("pancreas", "pancreatic_lesion")
        }
        (flat.parent / "dataset.json").write_text(json.dumps({"labels": labels}))
        result, _ = run(flat, reference, structures=("liver",))
        assert result.summary["structures"]["liver"]["dsc"]["mean"] == dsc


def test_a_reference_that_declares_nothing_names_its_own_option(
    cohort: Any, perfect: Path, tmp_path: Path
) -> None:
    flat = flat_maps(tmp_path / "flat", cohort, label_space=None)
    result = evaluate(perfect, flat, tmp_path / "scores", workers=0)
    assert "with --reference-label-map" in result.summary["cases"]["messages"]["a_1"]


def test_cases_without_tumour_annotation_have_no_say_in_detection(
    cohort: Any, reference: Path, predict: Predict
) -> None:
    """Nobody annotated c_1's tumour, and nobody predicted one there: the others count."""
    for case_id, lesion in cohort.lesions.items():
        folder = predict(case_id, cohort.body(lesion))
    for labels in (folder / "c_1", reference / "LabelTe" / "c_1"):
        (labels / "segmentations" / "pancreatic_lesion.nii.gz").unlink()
    result, _ = run(folder, reference)
    detection = result.summary["detection"]
    assert detection["cases_without_tumor_annotation"] == 1
    assert (detection["sensitivity_patient"]["of"], detection["specificity"]["of"]) == (2, 1)
    assert detection["auc"]["value"] == 1.0


def test_patients_and_sites_come_from_the_metadata(perfect: Path, reference: Path) -> None:
    _, out = run(perfect, reference)
    assert (case_of(out, "a_2")["patient_id"], case_of(out, "a_2")["site"]) == ("a", "north")


def test_roc_is_written_and_drawn(perfect: Path, reference: Path) -> None:
    out = reference.parent / "scores"
    result = evaluate(perfect, reference, out, figures=True, workers=0)
    header, *points = (out / "roc.csv").read_text().splitlines()
    assert header == "threshold,sensitivity,specificity,false_positive_rate"
    by_hand = [(math.inf, 0, 1, 0), (192, 0.5, 1, 0), (81, 1, 1, 0), (0, 1, 0, 1)]
    for point, expected in zip(points, by_hand, strict=True):
        assert [float(v) for v in point.split(",")] == pytest.approx(expected)
    assert (out / "roc.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (
        json.loads((out / "summary.json").read_text())["detection"] == result.summary["detection"]
    )


def test_a_curve_of_an_earlier_run_does_not_stay(perfect: Path, reference: Path) -> None:
    _, out = run(perfect, reference)
    assert (out / "roc.csv").exists()
    run(perfect, reference, cases=("a_1",))
    assert not (out / "roc.csv").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"definition": "median"}, "counted-le"),
        ({"tolerances_mm": (-1.0,)}, "tolerances"),
        ({"tolerances_mm": (math.nan,)}, "tolerances"),
        ({"tumor_mm3": -1.0}, "tumour volume"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EvaluateConfig(**settings)


def test_structures_may_be_named_as_people_do() -> None:
    assert EvaluateConfig(structures=("Spleen", "liver")).structures == ("liver", "spleen")
    with pytest.raises(LabelError, match="heart"):
        EvaluateConfig(structures=("heart",))


def test_worst_scores_are_the_workers_work_and_outlive_its_error(
    perfect: Path, reference: Path
) -> None:
    shutil.rmtree(perfect / "a_1")
    result, _ = run(perfect, reference)
    (record,) = result.run.not_done
    lesion = next(r for r in record.data["worst"]["lesions"] if r["case_id"] == "a_1")
    assert (lesion["hit"], lesion["voxels"]) == (False, 64)
    assert {r["status"] for r in record.data["worst"]["scores"]} >= {"missing_prediction"}


def test_a_case_whose_worker_died_still_scores_worst(
    perfect: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pantskit.evaluate.case.score_case", broken)
    result, out = run(perfect, reference, cases=("a_1",))
    assert result.summary["cases"]["failed"] == ["a_1"]
    assert "out of memory" in result.summary["cases"]["messages"]["a_1"]
    assert {r["dsc"] for r in scores_of(out, "a_1", "liver")} == {0.0}


def test_a_table_of_metadata_that_cannot_be_read_stops_the_run_before_it_scores(
    perfect: Path, reference: Path
) -> None:
    (reference / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="table cannot be read"):
        run(perfect, reference)
