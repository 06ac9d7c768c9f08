"""One case's scores are the same whatever its labels are stored in, and cost little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, STRUCTURES
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelsources import labels_in, open_label_source
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.evaluate.case import score_case
from pantskit.evaluate.segmentation import Segmentation
from pantskit.evaluate.settings import EvaluateConfig

Mask = NDArray[np.bool_]


def dataset_of(folder: Path, masks: dict[str, Mask], geometry: Geometry) -> CaseLabels:
    """As `pantskit ingest` writes it: masks, and the map with what is exact in it."""
    dataset = Dataset.create(folder)
    write_case_labels(dataset, "c", "train", masks, geometry)
    return open_label_source(folder)["c"]


def separate(folder: Path, masks: dict[str, Mask], geometry: Geometry) -> CaseLabels:
    for structure, mask in masks.items():
        write_volume(folder / f"{structure}.nii.gz", Volume(mask, geometry))
    labels = labels_in(folder)
    assert labels is not None
    return labels


def scores(reference: CaseLabels, prediction: CaseLabels, **settings: Any) -> list[dict[str, Any]]:
    rows = score_case(reference, prediction, EvaluateConfig(**settings))["scores"]
    return [{k: v for k, v in row.items() if k != "case_id"} for row in rows]


def test_the_real_case_with_a_lesion_in_its_tail_scores_alike(
    shared_data: Path, tmp_path: Path
) -> None:
    """Its lesion lies in the tail and its duct in the parts, so that no map can hold both."""
    real = open_label_source(shared_data / "pants_labels")["PanTS_00000035"]
    names = ("kidney_left", "spleen", *(s for s in STRUCTURES if s.startswith("pancrea")))
    masks, geometry = real.masks(names), real.geometry
    moved = {name: np.roll(mask, (2, -1, 0), (0, 1, 2)) for name, mask in masks.items()}
    both = dataset_of(tmp_path / "both", masks, geometry)
    apart = separate(tmp_path / "apart", masks, geometry)
    predicted = dataset_of(tmp_path / "predicted", moved, geometry)
    predicted_apart = separate(tmp_path / "predicted_apart", moved, geometry)

    assert both.ids_in_map("spleen") is not None
    assert both.ids_in_map("pancreatic_lesion") is not None
    assert both.ids_in_map("pancreas_tail") is None
    assert apart.ids_in_map("spleen") is None
    tail = masks["pancreas_tail"] & masks["pancreatic_lesion"]
    assert tail.sum() > 0

    expected = scores(apart, predicted_apart)
    assert scores(both, predicted) == expected
    assert scores(both, predicted_apart) == expected
    assert scores(apart, predicted) == expected
    of_tail = next(r for r in expected if r["structure"] == "pancreas_tail")
    assert of_tail["reference_voxels"] == masks["pancreas_tail"].sum()


def test_scores_of_a_structure_are_those_of_its_mask_on_an_oblique_grid(tmp_path: Path) -> None:
    """Distances are in true millimetres: the length of the affine's columns."""
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.7, 1.3, 3.1)
    masks = {name: np.zeros((12, 11, 10), np.bool_) for name in ("reference", "prediction")}
    masks["reference"][4, 4, 2], masks["prediction"][4, 4, 5] = True, True
    masks["prediction"][6, 4, 2] = True
    labels = []
    for name, mask in masks.items():
        path = tmp_path / f"{name}.nii.gz"
        write_volume(path, Volume(mask.astype(np.uint8), Geometry((12, 11, 10), affine)))
        labels.append(CaseLabels("c", map_path=path, label_map=PANTS.label_map()))
    id_1 = next(s for s in STRUCTURES.values() if s.id == 1).name
    config = {"structures": (id_1,), "definition": "counted-le", "tolerances_mm": (1.39, 1.41, 9.5)}
    rows = scores(*labels, **config)
    # 2 x 0.7 mm from the reference to the nearer voxel and back, 3 x 3.1 from the other.
    assert [r["nsd"] for r in rows] == pytest.approx([0, 2 / 3, 1])
    assert rows[0]["hd95_mm"] == pytest.approx(9.3)
    assert rows[0]["assd_mm"] == pytest.approx((1.4 + (1.4 + 9.3) / 2) / 2)
    assert rows[0]["reference_ml"] == pytest.approx(0.7 * 1.3 * 3.1 / 1000)


def test_each_file_is_read_once_however_often_a_structure_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = Geometry.from_spacing((20, 20, 20), (1, 1, 1))
    mask = np.zeros((20, 20, 20), np.bool_)
    mask[4:9, 3:8, 2:6] = True
    labels = separate(tmp_path, dict.fromkeys(("liver", "pancreas_head"), mask), geometry)
    read: list[str] = []
    original = CaseLabels.mask_crop

    def counted(self: CaseLabels, structure: str) -> Any:
        read.append(structure)
        return original(self, structure)

    monkeypatch.setattr(CaseLabels, "mask_crop", counted)
    found = Segmentation(labels)
    for _ in range(3):
        for structure in found.structures:
            assert found.packed(structure).voxels == mask.sum()
            box = found.box(structure)
            assert box is not None
            np.testing.assert_array_equal(found.crop(structure, box), mask[box])
    assert read == ["liver", "pancreas_head"]


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    """28 masks that fill the scan take more than a quarter of a label map, even as bits."""
    shape = (32, 16, 16)
    full = dict.fromkeys(STRUCTURES, np.ones(shape, np.bool_))
    labels = separate(tmp_path, full, Geometry.from_spacing(shape, (1, 1, 1)))
    found = Segmentation(labels)
    for structure in found.structures:
        assert found.packed(structure).voxels == np.prod(shape)
    assert sum(m.bits.nbytes for m in found._kept.values()) <= np.prod(shape) // 4


def test_a_label_map_does_not_stay_in_memory_after_its_scores(tmp_path: Path) -> None:
    path = tmp_path / "c.nii.gz"
    write_volume(
        path, Volume(np.ones((8, 8, 8), np.uint8), Geometry.from_spacing((8, 8, 8), (1, 1, 1)))
    )
    labels = CaseLabels("c", map_path=path, label_map=PANTS.label_map())
    scores(labels, labels)
    assert labels._map is None
