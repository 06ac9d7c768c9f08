"""A tiny cohort whose scores can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume

Mask = NDArray[np.bool_]

SHAPE = (20, 18, 16)
GEOMETRY = Geometry.from_spacing(SHAPE, (1.0, 1.5, 2.0), origin=(5.0, -3.0, 40.0))


@dataclass(frozen=True)
class Cohort:
    """Four cases on one anisotropic grid, two of them with a tumour."""

    geometry: Geometry
    lesions: dict[str, Mask]

    @staticmethod
    def block(i: int, j: int, k: int, size: int = 4) -> Mask:
        """A cube of voxels with its lowest corner at (i, j, k)."""
        mask = np.zeros(SHAPE, np.bool_, order="F")
        mask[i : i + size, j : j + size, k : k + size] = True
        return mask

    @property
    def empty(self) -> Mask:
        return self.block(0, 0, 0, 0)

    def body(self, lesion: Mask | None = None) -> dict[str, Mask]:
        """A liver, a pancreas and perhaps a lesion in it."""
        lesion = self.empty if lesion is None else lesion
        pancreas = self.block(9, 9, 5, 7) | lesion
        return {
            "liver": self.block(1, 1, 1, 6),
            "pancreas": pancreas,
            "pancreatic_lesion": lesion,
        }


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    """The truth that predictions of these tests are made from."""
    block = Cohort.block
    none = block(0, 0, 0, 0)
    lesions = {"a_1": block(10, 10, 6), "a_2": none, "b_1": block(11, 11, 7, 3), "c_1": none}
    return Cohort(GEOMETRY, lesions)


Predict = Callable[..., Path]


@pytest.fixture
def reference(tmp_path: Path, cohort: Cohort) -> Path:
    """Four cases, two with a tumour; a_1 and a_2 are one patient's."""
    dataset = Dataset.create(tmp_path / "reference", annotated=tuple(cohort.body()))
    for case_id, lesion in cohort.lesions.items():
        write_case_labels(dataset, case_id, "test", cohort.body(lesion), GEOMETRY)
    dataset.write_metadata(
        {"case_id": c, "patient_id": c[0], "split": "test", "site": "north"} for c in cohort.lesions
    )
    return dataset.root


@pytest.fixture
def predict(tmp_path: Path) -> Predict:
    """Write a predicted case as separate masks, with prediction.json where facts are given."""

    def write(
        case_id: str, masks: dict[str, Mask], *, geometry: Geometry = GEOMETRY, **facts: object
    ) -> Path:
        folder = tmp_path / "predictions"
        for structure, mask in masks.items():
            path = folder / case_id / "segmentations" / f"{structure}.nii.gz"
            write_volume(path, Volume(mask, geometry))
        if facts:
            (folder / case_id / "prediction.json").write_text(json.dumps(facts))
        return folder

    return write


@pytest.fixture
def perfect(predict: Predict, cohort: Cohort) -> Path:
    """The reference, predicted."""
    for case_id, lesion in cohort.lesions.items():
        folder = predict(case_id, cohort.body(lesion))
    return folder
