"""What is exported and imported again is what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import Miniature

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.errors import DatasetError, LabelError
from pantskit.core.labelsources import open_label_source
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import read_volume
from pantskit.core.writing import write_volume
from pantskit.ingest.sources.exporting import ExportSettings, export_dataset

FIRST = ("liver", "pancreas", "pancreas_tail", "pancreatic_lesion", "aorta")
SECOND = ("liver", "pancreas", "spleen", "bladder")


@pytest.fixture(scope="session")
def dataset(mini: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two cases that annotate different structures, one of them empty, and a CT without labels."""
    made = Dataset.create(tmp_path_factory.mktemp("dataset") / "D", name="two")
    ct = mini.ct.reoriented()
    ct = ct.with_array(np.clip(ct.array, -1000, 1000))
    for case_id, split, structures in (
        ("A_1", "train", FIRST),
        ("B_2", "test", SECOND),
        ("C_3", "train", ()),
    ):
        scan = ct.with_array(np.clip(ct.array + len(structures), -1000, 1000))  # each its own
        write_volume(made.image_path(case_id, split), scan)
        masks = {s: mini.truth(s) for s in structures}
        if "bladder" in masks:
            masks["bladder"] = np.zeros_like(masks["bladder"])
        if "pancreas" in masks and case_id == "A_1":
            masks["pancreas"] = masks["pancreas"] & ~masks["pancreatic_lesion"]  # not its union
        if masks:
            write_case_labels(made, case_id, split, masks, ct.geometry)
    rows = [{"case_id": c, "patient_id": f"P{c[-1]}", "split": s, "sex": "F", "phase": "arterial"}
            for c, s in (("A_1", "train"), ("B_2", "test"), ("C_3", "train"))]  # fmt: skip
    made.write_metadata(rows)
    return made


def _require_same(first: Dataset, second: Dataset) -> None:
    assert [c.case_id for c in second.cases()] == [c.case_id for c in first.cases()]
    for one, other in zip(first.cases(), second.cases(), strict=True):
        assert other.split == one.split
        a, b = read_volume(one.image_path), read_volume(other.image_path)
        assert np.array_equal(a.array, b.array)
        assert np.array_equal(a.geometry.affine, b.geometry.affine)
        mine, again = one.labels(), other.labels()
        assert (mine is None) == (again is None)
        if mine is None or again is None:
            continue
        assert again.structures() == mine.structures()
        for structure in mine.structures():
            assert np.array_equal(again.mask(structure), mine.mask(structure)), structure


@pytest.mark.parametrize("format", ["nnunet", "monai", "flat"])
def test_import_of_an_export_is_identical(
    dataset: Dataset, run: Callable, tmp_path: Path, format: str
) -> None:
    summary = export_dataset(dataset, tmp_path / "out", ExportSettings(format, workers=0))
    assert summary.run.exit_status == 0

    made = run(format, tmp_path / "out")

    assert made.exit_status == 0, [r.message for r in made.records.values()]
    _require_same(dataset, made.dataset)
    row = made.records["A_1"].data["metadata"]
    assert (row["patient_id"], row["sex"], row["phase"]) == ("P1", "F", "arterial")


def test_nnunet_has_consecutive_labels_that_every_case_annotates(
    dataset: Dataset, tmp_path: Path
) -> None:
    export_dataset(dataset, tmp_path / "out", ExportSettings("nnunet", workers=0))

    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert index["labels"] == {"background": 0, "liver": 1, "pancreas": 2}
    assert index["numTraining"] == 1
    names = sorted(p.name for p in (tmp_path / "out" / "imagesTr").iterdir())
    assert names == ["A_1_0000.nii.gz"], "a CT without labels is none to train on"
    values = np.unique(read_label_map(tmp_path / "out" / "labelsTr" / "A_1.nii.gz").array)
    assert values.tolist() == [0, 1, 2]


def test_what_a_case_has_not_annotated_is_ignored_and_not_background(
    dataset: Dataset, run: Callable, tmp_path: Path
) -> None:
    settings = ExportSettings("nnunet", structures=("liver", "spleen"), workers=0)

    summary = export_dataset(dataset, tmp_path / "out", settings)

    assert summary.labels == {1: "liver", 2: "spleen", 3: "ignore"} or summary.labels == {
        1: "spleen", 2: "liver", 3: "ignore"}  # fmt: skip
    first = read_label_map(tmp_path / "out" / "labelsTr" / "A_1.nii.gz").array
    second = read_label_map(tmp_path / "out" / "labelsTs" / "B_2.nii.gz").array
    assert 0 not in first, "nobody looked for the spleen of A_1"
    assert 0 in second
    assert 3 not in second
    _require_same(dataset, run("nnunet", tmp_path / "out").dataset)


def test_flat_maps_declare_their_ids_and_what_is_annotated(
    dataset: Dataset, tmp_path: Path
) -> None:
    export_dataset(dataset, tmp_path / "out", ExportSettings("flat", workers=0))

    found = open_label_source(tmp_path / "out" / "labels")

    liver = dataset.case("B_2").labels().mask("liver")
    assert np.array_equal(found["B_2"].mask("liver"), liver)
    assert found["B_2"].mask("kidney_left") is None


@pytest.mark.slow
def test_monai_reads_its_datalist(dataset: Dataset, tmp_path: Path) -> None:
    data = pytest.importorskip("monai.data")
    export_dataset(dataset, tmp_path / "out", ExportSettings("monai", workers=0))

    entries = data.load_decathlon_datalist(
        str(tmp_path / "out" / "datalist.json"), True, "training"
    )

    assert [Path(e["image"]).name for e in entries] == ["A_1.nii.gz"]
    assert all(Path(e[k]).is_file() for e in entries for k in ("image", "label"))


def test_links_take_no_second_copy(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset, tmp_path / "out", ExportSettings("flat", link=True, workers=0))
    image = tmp_path / "out" / "images" / "A_1.nii.gz"
    assert image.is_symlink()
    assert image.samefile(dataset.case("A_1").image_path)


def test_datasets_without_a_common_structure_are_refused(mini: Miniature, tmp_path: Path) -> None:
    made = Dataset.create(tmp_path / "D")
    ct = mini.ct.reoriented()
    for case_id, structure in (("A", "liver"), ("B", "spleen")):
        write_case_labels(made, case_id, "train", {structure: mini.truth(structure)}, ct.geometry)
    with pytest.raises(LabelError, match="--structures"):
        export_dataset(made, tmp_path / "out", ExportSettings(workers=0))


def test_a_folder_that_holds_something_else_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("mine")
    with pytest.raises(DatasetError, match="no export of ours"):
        export_dataset(dataset, tmp_path / "out", ExportSettings(workers=0))
