"""A demo folder as its steps leave it, made in a second: two tiny patients, no training."""

from __future__ import annotations

import numpy as np
import pytest

from pantskit.check.dataset import check_dataset
from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.files import write_json, write_text
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.demo.steps import Step, StepResult
from pantskit.evaluate.evaluation import evaluate

GEOMETRY = Geometry.from_spacing((40, 32, 24), (8.0, 8.0, 10.0))


def box(i, j, k):
    mask = np.zeros(GEOMETRY.shape, bool)
    mask[slice(*i), slice(*j), slice(*k)] = True
    return mask


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    dataset = Dataset.create(root / "dataset")
    rows = []
    for n, tumour in enumerate([False, True]):
        case_id = f"case_{n}"
        masks = {
            "liver": box((4, 16), (6, 20), (8, 18)),
            "pancreas": box((18, 28), (12, 18), (8, 12)),
            "pancreatic_lesion": box((20, 23), (13, 16), (9, 11)) if tumour else box(*[(0, 0)] * 3),
        }
        ct = np.full(GEOMETRY.shape, -90, np.int16)
        ct[masks["liver"]] = 110
        ct[masks["pancreas"]] = 95
        ct[masks["pancreatic_lesion"]] = 50
        write_volume(dataset.image_path(case_id, "test"), Volume(ct, GEOMETRY))
        write_case_labels(dataset, case_id, "test", masks, GEOMETRY)
        rows.append({"case_id": case_id, "site": "here", "lesions": int(tumour), "phase": None})
        predicted = masks | {"liver": box((5, 16), (6, 20), (8, 18))}
        folder = root / "predictions" / case_id
        combined = Volume(PANTS.combine(predicted), GEOMETRY)
        write_volume(folder / "combined_labels.nii.gz", combined, label_space="pants")
        write_json(folder / "prediction.json", {"tumor_probability": 0.9 if tumour else 0.2})
    write_json(
        root / "predictions" / "dataset.json", {"label_space": "pants", "annotated": list(masks)}
    )
    dataset.write_metadata(rows)
    check_dataset(dataset, root / "check", workers=0)
    evaluate(root / "predictions", root / "dataset", root / "scores", figures=True, workers=0)
    write_text(root / "logs" / "check.txt", "$ pantskit check\n")
    return root


@pytest.fixture(scope="session")
def steps(demo_folder):
    step = Step("check", "Check <geometry>", ("check", str(demo_folder / "dataset")), "check")
    return [StepResult(step, 1.25, 0, "checked", "logs/check.txt")]
