"""Small datasets whose counts can be told by looking at the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume

SHAPE = (6, 5, 4)
GRID = Geometry(SHAPE, np.diag([-0.8, 0.8, -2.5, 1.0]))


def write_dataset(
    root: Path,
    cases: Mapping[str, Mapping[str, bool] | None],
    rows: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    without_ct: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
) -> Dataset:
    """Write a dataset: case ID to its structures (True: with a voxel), and rows of metadata."""
    dataset = Dataset.create(root)
    for case_id, structures in cases.items():
        split = "test" if case_id in test else "train"
        if case_id not in without_ct:
            volume = Volume(np.zeros(SHAPE, np.int16), GRID)
            write_volume(dataset.image_path(case_id, split), volume)
        if structures:
            masks = {s: np.zeros(SHAPE, np.bool_) for s in structures}
            for structure, present in structures.items():
                masks[structure][2:4, 2, 1] = present
            write_case_labels(dataset, case_id, split, masks, GRID)
    if rows is not None:
        dataset.write_metadata({"case_id": c, **row} for c, row in rows.items())
    dataset.write_info()
    return Dataset.open(dataset.root)


def write_three_cases(root: Path) -> Dataset:
    """A tumour drawn, an empty tumour mask, and a case of which nobody says."""
    return write_dataset(
        root,
        {
            "c1": {"pancreas": True, LESION: True, "liver": True},
            "c2": {"pancreas": True, LESION: False},
            "c3": {"pancreas": True, "pancreas_head": True},
        },
        {
            "c1": {"patient_id": "p1", "site": "North", "nationality": "DE", "lesions": 1},
            "c2": {"patient_id": "p1", "site": "South", "nationality": "NA", "lesions": 0},
            "c3": {"patient_id": "p2", "site": "North", "manufacturer": "GE"},
        },
        without_ct=("c2",),
        test=("c3",),
    )
