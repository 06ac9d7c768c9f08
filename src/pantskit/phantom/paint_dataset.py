"""Label sets of real patients, painted into a dataset: `pantskit phantom --paint`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.errors import ConfigError
from pantskit.core.labels import LESION, LabelMap, Mask
from pantskit.core.labelsets import COMBINED
from pantskit.core.labelsources import open_label_source
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.phantom.paint import paint
from pantskit.phantom.tissues import PHASES

STAGE = "paint"


@dataclass(frozen=True)
class _Task:
    root: Path
    source: Path
    label_map: LabelMap | None
    phase: str
    seed: int


def paint_dataset(
    source: Path,
    out: Path,
    *,
    phase: str = "portal_venous",
    seed: int = 0,
    label_map: LabelMap | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> RunSummary:
    """Write a dataset whose labels are those of `source` and whose CTs are painted from them.

    Args:
        source: labels of one case or of many, as `open_label_source` reads them.
        out: folder of the dataset; cases go to its training split.
        phase: contrast phase of the CTs.
        seed: of everything random.
        label_map: what ids mean, where the source does not say.
        workers: processes; 0: this one.
        progress: called after each case.

    Raises:
        ConfigError: If the phase is unknown.
        DatasetError: If `source` holds no labels or `out` something else.
    """
    if phase not in PHASES:
        raise ConfigError(f"--phase {phase!r} is not one of {', '.join(PHASES)}")
    cases = open_label_source(source, label_map=label_map)
    dataset = Dataset.create(out, name="painted")
    task = _Task(out, source, label_map, phase, seed)
    jobs = [
        Job(
            case_id,
            task,
            inputs=labels.paths,
            outputs=(
                dataset.image_path(case_id, "train"),
                dataset.labels_path(case_id, "train") / COMBINED,
            ),
        )
        for case_id, labels in cases.items()
    ]
    summary = run_cases(
        _paint_case,
        jobs,
        stage=STAGE,
        store=dataset.records,
        settings={"phase": phase, "seed": seed, "label_map": label_map and label_map.name},
        workers=workers,
        progress=progress,
    )
    rows = dict(dataset.metadata)
    rows |= {r.case_id: r.data["metadata"] for r in summary.records if r.status == "done"}
    dataset.write_metadata(rows.values())
    dataset.write_info()
    return summary


def _paint_case(job: Job) -> dict[str, Any]:
    task: _Task = job.payload
    labels = open_label_source(task.source, label_map=task.label_map)[job.case_id]
    structures = labels.structures()
    found = {name: mask for name in structures if (mask := labels.mask(name)) is not None}
    rng = np.random.default_rng((task.seed, zlib.crc32(job.case_id.encode())))
    ct = Volume(paint(found, labels.geometry, task.phase, rng), labels.geometry).reoriented()
    dataset = Dataset(task.root, {})
    write_volume(
        dataset.image_path(job.case_id, "train"), ct.with_array(np.clip(ct.array, -1000, 1000))
    )
    masks: dict[str, Mask] = {
        name: Volume(mask, labels.geometry).reoriented().array for name, mask in found.items()
    }
    data = write_case_labels(dataset, job.case_id, "train", masks, ct.geometry)
    lesion = masks.get(LESION)
    row = {
        "case_id": job.case_id,
        "patient_id": job.case_id,
        "split": "train",
        "shape": str(ct.geometry.shape),
        "spacing": str(tuple(round(s, 4) for s in ct.geometry.spacing)),
        "slice_thickness_mm": round(ct.geometry.spacing[2], 4),
        "phase": task.phase,
        "study_type": "painted from labels",
        "lesions": None if lesion is None else int(lesion.any()),
    }
    return {"labels": data, "metadata": row, "faults": labels.faults}
