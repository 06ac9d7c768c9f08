"""What a training started from: kept, compared, and named where it differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import blobs
import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.train.begin import (
    Start,
    alone_in,
    choose_cases,
    choose_sides,
    hash_cases,
    sides_of,
)
from pantskit.train.recipe import Recipe
from pantskit.train.run import train_model

SHORT = blobs.QUICK.changed(epochs=1, iterations=1)


@pytest.fixture
def start(trained: tuple[Dataset, Path]) -> Start:
    dataset = trained[0]
    cases = dataset.cases("train")
    sides, unit = sides_of(dataset, cases, Recipe(), 0)
    hashes = hash_cases(cases)
    return Start(Recipe(), 0, "train", "28", unit, 0, sides, hashes, {"structures": ["liver"]})


def test_start_reads_back_as_it_was_written(start: Start, tmp_path: Path) -> None:
    start.write(tmp_path)
    again = Start.read(tmp_path)
    assert again is not None
    assert again.differences(start, with_data=True) == []
    assert again.mark == start.mark
    assert Start.read(tmp_path / "nowhere") is None


def test_every_difference_is_named(start: Start) -> None:
    recipe = start.recipe.changed(epochs=7)
    now = replace(start, recipe=recipe, seed=3, scheme="2")
    assert start.differences(now, with_data=True) == [
        "seed was 0, is 3",
        "scheme was 28, is 2",
        "epochs was 1000, is 7",
    ]
    changed = {c: dict(h) for c, h in start.hashes.items()}
    changed["blob_2"]["labels"] = "other"
    now = replace(start, hashes=changed)
    assert start.differences(now, with_data=True) == ["the labels of case blob_2 changed"]
    assert start.differences(now, with_data=False) == []
    fewer = {c: v for c, v in start.cases.items() if c != "blob_0"}
    now = replace(start, cases=fewer)
    assert start.differences(now, with_data=False) == ["case blob_0 is gone"]
    # A recipe from a file is called by the file.
    renamed = replace(start, recipe=start.recipe.changed(name="mine"))
    assert start.differences(renamed, with_data=True) == []
    assert renamed.mark == start.mark


def test_training_in_the_folder_of_another_names_what_differs(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    dataset = Dataset.open(Path(shutil.copytree(trained[0].root, tmp_path / "dataset")))
    model = shutil.copytree(trained[1], tmp_path / "model")
    with pytest.raises(DatasetError, match=r"epochs was 8, is 9.*give a new folder"):
        train_model(dataset, model, recipe=blobs.QUICK.changed(epochs=9), workers=0)
    spleen = dataset.labels_path("blob_1", "train") / "segmentations" / "spleen.nii.gz"
    spleen.unlink()
    with pytest.raises(DatasetError, match="the labels of case blob_1 changed"):
        train_model(dataset, model, recipe=blobs.QUICK.changed(epochs=8), workers=0)


def test_second_process_is_kept_out_of_a_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(DatasetError, match="another process"):  # noqa: SIM117
        with alone_in(tmp_path):
            pass
    with alone_in(tmp_path):  # it has ended
        pass


def test_subset_and_sides_are_written_beside_the_model(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    recipe = SHORT.changed(validation="fold", folds=3, fold=1)
    model = tmp_path / "model"
    said: list[str] = []
    from pantskit.train.run import Listener

    result = train_model(
        trained[0], model, recipe=recipe, subset=3, device="cpu", workers=0,
        listener=Listener(say=said.append),
    )  # fmt: skip
    chosen, drawn_from = choose_cases(trained[0], "train", None, 3, 0)
    written = json.loads((model / "cases.json").read_text())
    assert sorted(written["cases"]) == sorted(c.case_id for c in chosen)
    assert (written["chosen_of"], drawn_from) == (4, 4)
    assert written["unit"] == "scan"
    assert sorted(v["fold"] for v in written["cases"].values()) == [0, 1, 2]
    assert written["counts"]["cases"] == 3
    hashes = {c: {k: v[k] for k in ("image", "labels")} for c, v in written["cases"].items()}
    assert hashes == result.info.training["cases"]
    assert any("fold 1 of 3, by scan, as no patient is known: 2 cases" in s for s in said)


def test_structure_that_is_missing_on_one_side_is_named(start: Start) -> None:
    recipe = start.recipe.changed(folds=2, fold=0)
    folds = {"blob_0": 0, "blob_1": 1, "blob_2": 1, "blob_3": 0}
    cases = {c: {**v, "fold": folds[c]} for c, v in start.cases.items()}
    voxels = {c: {"liver": 9, "pancreatic_lesion": 5 * (folds[c] == 0)} for c in folds}
    train, kept_out, lines = choose_sides(replace(start, recipe=recipe, cases=cases), voxels)
    assert (train, kept_out) == (["blob_1", "blob_2"], ["blob_0", "blob_3"])
    assert lines == [
        "fold 0 of 2, by scan, as no patient is known: 2 cases to train on, 2 kept out",
        "in none of the cases to train on: pancreatic_lesion",
    ]


def test_side_that_lost_its_cases_is_said_and_all_are_trained_on(start: Start) -> None:
    recipe = start.recipe.changed(folds=2, fold=0)
    cases = {c: {**v, "fold": 0} for c, v in start.cases.items()}
    voxels = {c: {"liver": 9} for c in cases}
    train, kept_out, lines = choose_sides(replace(start, recipe=recipe, cases=cases), voxels)
    assert train == kept_out == sorted(cases)
    assert "too few patients for 2 folds" in lines[0]


def test_single_case_without_a_lesion_and_with_an_unknown_structure_trains(tmp_path: Path) -> None:
    from pantskit.train.run import Listener

    dataset = Dataset.create(tmp_path / "dataset", annotated=blobs.STRUCTURES)
    blobs.write_case(dataset, "only", lesion=False)
    said: list[str] = []
    recipe = SHORT.changed(validation="fold")
    result = train_model(
        dataset, tmp_path / "m", recipe=recipe, device="cpu", workers=0,
        listener=Listener(say=said.append),
    )  # fmt: skip
    assert result.exit_status == 0
    told = " | ".join(said)
    assert "annotated, but in no case there: pancreatic_lesion" in told
    assert "too few patients for 5 folds" in told
    assert "left out, annotated in no case: " in told
