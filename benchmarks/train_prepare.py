"""One training case from its files to nnU-Net's cache, by pantskit and by nnU-Net; see train.py."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from predict_measured import Aims, apart, measured, show
from train_data import phantoms, planned

SCRIPT = Path(__file__).with_name("train.py")
# mm along (i, j, k): resampled along all axes, and with nearest slices along k.
PLANS = {"fine": (0.8, 0.8, 2.0), "thick": (0.8, 0.8, 2.5)}
SMALL_PLANS = {"fine": (4.0, 4.0, 4.0), "thick": (3.0, 3.0, 10.0)}
ENGINES = ("pantskit", "nnunet")


def prepare(
    plans: Sequence[str], source: Path | None, case_id: str | None, size: str, scratch: Path
) -> int:
    """Time, memory and answers of both engines; how many aims were missed.

    Args:
        plans: out of `PLANS`.
        source: a dataset; None makes a patient up.
        case_id: of its cases; None for the first.
        size: of the made-up patient.
        scratch: for files.
    """
    from pantskit.core.dataset import Dataset

    # For all processes that follow.
    os.environ |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    dataset = Dataset.open(source) if source else phantoms(scratch / "dataset", 1, size)
    found = [c for split in ("train", "test") for c in dataset.cases(split)]
    case = next(c for c in found if case_id in (None, c.case_id))
    aims = Aims()
    for name in plans:
        folder = scratch / name
        spacing = (SMALL_PLANS if size == "small" and not source else PLANS)[name]
        facts = set_up(dataset, case, spacing, folder)
        print(f"{name}: {facts}", flush=True)
        rows = {}
        for engine in ENGINES:
            rows[engine] = apart("prepare-job", engine, str(folder), script=SCRIPT)
            show(f"{engine}, {name}", rows[engine])
            if rows[engine]:
                parts = {k: v for k, v in rows[engine].items() if k.endswith("_part")}
                print("    " + ", ".join(f"{k[:-5]} {v:.2f} s" for k, v in parts.items()))
        ours, theirs = rows["pantskit"], rows["nnunet"]
        assert ours is not None
        aims.ratios(ours, theirs, "nnU-Net's preprocessor", times=3.0, memory=0.5)
        if theirs is not None:
            compare(aims, folder)
    return aims.missed


def set_up(dataset: Any, case: Any, spacing: Any, folder: Path) -> str:
    """Plans, a job for each engine, and the case as nnU-Net's raw data; what they are like."""
    from pantskit.core.volume import Volume, read_volume
    from pantskit.core.writing import write_volume
    from pantskit.networks.folder import channel_space
    from pantskit.train.recipe import Recipe

    recipe = Recipe().changed(spacing=spacing)
    task, (job,) = planned(dataset, [case], recipe, folder)
    image = read_volume(case.image_path).reoriented()
    painted = case.labels().label_map(channel_space(task.channels.structures))
    labels = Volume(painted, read_volume(case.image_path).geometry).reoriented()
    raw = folder / "raw"
    raw.mkdir()
    write_volume(raw / "case_0000.nii.gz", image)
    write_volume(raw / "case.nii.gz", labels)
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    shown = " x ".join(str(n) for n in image.array.shape)
    mm = " x ".join(f"{s:.3g}" for s in image.geometry.spacing)
    to = " x ".join(f"{s:.3g}" for s in spacing)
    return f"{shown} at {mm} mm to {to} mm, {len(task.channels.structures)} structures"


def prepare_job(engine: str, folder: Path) -> None:
    """One engine; prints a line of JSON."""
    import torch

    torch.set_num_threads(1)
    job = pickle.loads((folder / "job.pickle").read_bytes())
    run, parts = OURS_OR_THEIRS[engine](job, folder)
    row, _ = measured(run)
    row |= {f"{name}_part": seconds for name, seconds in parts.items()}
    print(json.dumps(row))


Run = tuple[Callable[[], Any], dict[str, float]]


def ours(job: Any, folder: Path) -> Run:
    """What a training's worker does."""
    from pantskit.networks.plans import Plans
    from pantskit.train import cases

    todo, parts = job.payload, {}
    plans = Plans(
        json.loads(todo.plans_path.read_text()), json.loads(todo.dataset_json_path.read_text())
    )
    image, labels, spacing = tiny(plans)
    cases.prepare_arrays(image, labels, spacing, plans)  # imports, and loads what is compiled
    cases.prepare_arrays = timed(cases.prepare_arrays, "arrays", parts)
    cases.TrainingCase.read = timed(cases.TrainingCase.read, "reading", parts)
    return lambda: cases.prepare_case(job), parts


def theirs(job: Any, folder: Path) -> Run:
    """What nnUNetv2_preprocess does in each of its processes."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    from pantskit.networks.plans import Plans

    todo, parts = job.payload, {}
    plans = Plans(
        json.loads(todo.plans_path.read_text()), json.loads(todo.dataset_json_path.read_text())
    )
    plain = DefaultPreprocessor(verbose=False)
    image, labels, spacing = tiny(plans)
    arguments = plans.manager, plans.configuration, plans.dataset_json
    plain.run_case_npy(image[None], labels[None], {"spacing": spacing}, *arguments)  # imports
    reader = plans.manager.image_reader_writer_class
    plain.run_case_npy = timed(plain.run_case_npy, "arrays", parts)
    reader.read_images = timed(reader.read_images, "reading", parts)  # labels too
    out, raw = folder / "theirs", folder / "raw"
    out.mkdir()
    files = str(out / job.case_id), [str(raw / "case_0000.nii.gz")], str(raw / "case.nii.gz")
    return lambda: plain.run_case_save(*files, *arguments), parts


OURS_OR_THEIRS = {"pantskit": ours, "nnunet": theirs}


def timed(function: Any, name: str, parts: dict[str, float]) -> Any:
    """The function, whose seconds are added to a part's."""

    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        parts[name] = parts.get(name, 0.0) + time.perf_counter() - start
        return result

    return run


def tiny(plans: Any) -> Any:
    """An image with a structure, for what only the first case takes."""
    image = np.full((12, 14, 16), -100, np.float32)
    labels = np.zeros(image.shape, np.int16)
    labels[4:8, 4:8, 4:8] = 1
    return image, labels, [s * 1.3 for s in plans.configuration.spacing]


def compare(aims: Aims, folder: Path) -> None:
    """Both caches, read by nnU-Net's class."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    job = pickle.loads((folder / "job.pickle").read_bytes())
    places = job.payload.case.prepared.parent, folder / "theirs"
    (a, a_labels, _, mine), (b, b_labels, _, other) = (
        nnUNetDatasetBlosc2(str(place)).load_case(job.case_id) for place in places
    )
    assert a.shape == b.shape
    worst = max(float(np.abs(a[0, z] - b[0, z]).max()) for z in range(a.shape[1]))
    differing = sum(
        int(np.count_nonzero(a_labels[0, z] != b_labels[0, z])) for z in range(a.shape[1])
    )
    aims.at_most("largest difference of a voxel, in normalised units", worst, 1e-3)
    aims.at_most(f"labels that differ, of {b_labels[:].size:,}", differing, 0)
    keys = list(other["class_locations"])
    same = list(mine["class_locations"]) == keys and all(
        np.array_equal(mine["class_locations"][k], other["class_locations"][k]) for k in keys
    )
    print(f"    places to draw patches around: {'the same' if same else 'OTHERS'}")
