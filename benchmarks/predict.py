"""Prediction against nnU-Net's own predictor: the export alone, whole cases, and a long scan.

    python benchmarks/predict.py export [--scale 0.5]
    python benchmarks/predict.py case [--mirror]
    python benchmarks/predict.py shortcuts
    python benchmarks/predict.py long [--slices 1000]
    python benchmarks/predict.py gpu MODEL CT

Every job runs in a process of its own; memory is the highest resident size less that before the
job. Models are trained in half a minute on made-up patients (tests/support/blobs.py), so `case`
compares engines on the same small weights, not models. `gpu` needs a CUDA device.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
CLASSES = 29  # 28 and background


class Peak:
    """Highest resident memory of this process inside the block, in MiB, less that before."""

    def __enter__(self) -> Peak:
        import psutil

        self._process, self._done = psutil.Process(), False
        self.before = self._process.memory_info().rss
        self.highest = self.before
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done:
            self.highest = max(self.highest, self._process.memory_info().rss)
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._thread.join()

    @property
    def mb(self) -> float:
        """How much more it was."""
        return (self.highest - self.before) / 2**20


def measured(job: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    cpu, start = time.process_time(), time.perf_counter()
    with Peak() as peak:
        result = job()
    took = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    return {**took, "extra_mb": peak.mb, "load": os.getloadavg()[0]}, result


def apart(*arguments: str) -> dict[str, Any]:
    """Run this script in another process and read the JSON of its last line."""
    command = [sys.executable, __file__, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def show(name: str, row: dict[str, Any], base: dict[str, Any] | None = None) -> None:
    ratio = ""
    if base is not None:
        times, memory = row["s"] / base["s"], row["extra_mb"] / max(base["extra_mb"], 1)
        ratio = f"  pantskit: {times:.1f} x the speed, 1/{memory:.1f} of the memory"
    print(
        f"{name:<28} {row['s']:8.2f} s  {row['cpu_s']:8.2f} CPU-s  {row['extra_mb']:8.0f} MiB"
        f"  load {row['load']:.1f}{ratio}",
        flush=True,
    )


# Export ------------------------------------------------------------------------------------


def anatomy(shape: tuple[int, int, int]) -> np.ndarray:
    """Logits of 28 ellipsoids: large inside, falling off over some voxels, background between."""
    rng = np.random.default_rng(0)
    logits = np.empty((CLASSES, *shape), np.float32)
    grid = [np.linspace(0, 1, n, dtype=np.float32) for n in shape]
    z, y, x = np.meshgrid(*grid, indexing="ij", sparse=True)
    logits[0] = 0
    for c in range(1, CLASSES):
        centre, axes = rng.uniform(0.2, 0.8, 3), rng.uniform(0.03, 0.15, 3)
        far = sum(((a - m) / r) ** 2 for a, m, r in zip((z, y, x), centre, axes, strict=True))
        logits[c] = np.clip(12 * (1 - np.sqrt(far)), -15, 15)
    return logits


def export_job(engine: str, scale: float) -> None:
    shape = tuple(round(n * scale) for n in (250, 273, 273))
    out = tuple(round(n * scale) for n in (300, 512, 512))
    logits = anatomy((shape[0], shape[1], shape[2]))
    spacing, target = [1.5, 1.5, 1.5], [1.25, 0.8, 0.8]
    if engine == "pantskit":
        from pantskit.predict.export import resample_argmax

        warm = np.ascontiguousarray(logits[:, :2, :8, :8])
        resample_argmax(warm, (4, 9, 9))
        threads = len(os.sched_getaffinity(0))
        row, labels = measured(lambda: resample_argmax(logits, out, threads=threads))
    else:
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        row, labels = measured(lambda: nnunet_export(engine, logits, out, spacing, target))
    kept = Path(tempfile.gettempdir()) / f"predict-export-{os.getppid()}-{engine}.npy"
    np.save(kept, labels.astype(np.uint8))
    print(json.dumps({**row, "labels": str(kept)}))


def nnunet_export(
    engine: str, logits: np.ndarray, out: Any, spacing: list[float], target: list[float]
) -> np.ndarray:
    if engine == "nnunet":
        from nnunetv2.preprocessing.resampling.default_resampling import (
            resample_data_or_seg_to_shape as resample,
        )

        full = resample(
            logits, out, spacing, target, is_seg=False, order=1, order_z=0, force_separate_z=None
        )
    else:
        from nnunetv2.preprocessing.resampling.resample_torch import (
            resample_torch_fornnunet as resample_torch,
        )

        full = resample_torch(logits, out, spacing, target, num_threads=2)
    return full.argmax(0)


def export(scale: float) -> None:
    rows = {}
    for engine in ("pantskit", "nnunet-torch", "nnunet"):
        rows[engine] = apart("export-job", engine, "--scale", str(scale))
        show(engine, rows[engine], rows["pantskit"] if engine != "pantskit" else None)
    ours = np.load(rows["pantskit"]["labels"])
    for engine in ("nnunet-torch", "nnunet"):
        theirs = np.load(rows[engine]["labels"])
        print(f"voxels that differ from {engine}: {(ours != theirs).mean():.2e}")
    for row in rows.values():
        Path(row["labels"]).unlink()


# Whole cases -------------------------------------------------------------------------------


def small_model(folder: Path) -> Path:
    """Train the tests' network; the folder of the model."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import blobs

    return blobs.trained(folder)[1]


def prepared(folder: Path, spacing: float, patch: int) -> Any:
    from pantskit.networks.folder import Model
    from pantskit.networks.plans import Plans

    model = Model.load(folder)
    plans = model.plans.plans
    plans["configurations"]["3d_fullres"] |= {"patch_size": [patch] * 3, "spacing": [spacing] * 3}
    return replace(model, plans=Plans(plans, model.plans.dataset_json), mirror_axes=(0, 1, 2))


def patient(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Any:
    """An ellipsoid of fat in air, with blobs in it: a CT of any size."""
    from pantskit.core.geometry import Geometry
    from pantskit.core.volume import Volume

    rng = np.random.default_rng(1)
    array = np.full(shape, -1000, np.int16, order="F")
    grid = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2]]
    x, y = np.meshgrid(*grid, indexing="ij", sparse=True)
    body = x**2 / 0.5 + y**2 / 0.3 < 1
    spots = np.hypot(x - 0.3, y) < 0.15, np.hypot(x + 0.3, y) < 0.12, np.hypot(x, y) < 0.1
    for k in range(shape[2]):
        plane = np.where(body, -100, -1000).astype(np.int16)
        for spot, hu in zip(spots, (120, 220, 60), strict=True):
            if k * spacing[2] % 90 < 50:
                plane[spot] = hu
        plane[body] += rng.integers(-10, 10, int(body.sum()), dtype=np.int16)
        array[:, :, k] = plane
    return Volume(array, Geometry.from_spacing(shape, spacing, orientation="LAI"))


def case_job(engine: str, folder: Path, mirror: bool, name: str) -> None:
    import torch

    from pantskit.networks.runtime import start_torch

    device = start_torch("cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = prepared(folder, 2.0, 64)
    image = patient((256, 256, 200), (1.5, 1.5, 1.5))
    if engine == "pantskit":
        from pantskit.predict.case import predict_volume

        network = model.build(device)
        threads = len(os.sched_getaffinity(0))
        small = patient((64, 64, 64), (2.0, 2.0, 2.0))
        predict_volume(model, network, small, device=device, mirror=False, threads=threads)
        row, answer = measured(
            lambda: predict_volume(
                model, network, image, device=device, mirror=mirror, threads=threads
            )
        )
        labels = answer.labels.array
    else:
        row, labels = measured(lambda: nnunet_case(model, image, mirror))
    kept = Path(name)
    np.save(kept, labels)
    print(json.dumps(row))


def nnunet_case(model: Any, image: Any, mirror: bool) -> np.ndarray:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    plans = model.plans
    peer = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
    peer.manual_initialization(
        plans.build_network(), plans.manager, plans.configuration, [model.weights],
        plans.dataset_json, "nnUNetTrainer", model.mirror_axes,
    )  # fmt: skip
    array = np.ascontiguousarray(image.array.T, np.float32)[None]
    spacing = list(image.geometry.spacing[::-1])
    labels = peer.predict_single_npy_array(array, {"spacing": spacing})
    return model.heads.table[labels].T


def case(mirror: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, files = small_model(Path(scratch)), {}
        flags, rows = (["--mirror"] if mirror else []), {}
        for engine in ("pantskit", "nnunet"):
            files[engine] = str(Path(scratch) / f"{engine}.npy")
            rows[engine] = apart("case-job", engine, str(folder), files[engine], *flags)
            show(engine, rows[engine], rows["pantskit"] if engine == "nnunet" else None)
        ours, theirs = (np.load(files[engine]) for engine in ("pantskit", "nnunet"))
        print(f"voxels that differ (nnU-Net sums in float16): {(ours != theirs).mean():.2e}")


def shortcuts() -> None:
    """What each named shortcut saves and changes, on made-up patients in a lot of air."""
    import torch

    from pantskit.networks.runtime import start_torch
    from pantskit.predict.case import Shortcuts, predict_volume

    device = start_torch("cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as scratch:
        model = prepared(small_model(Path(scratch)), 2.0, 48)
        network = model.build(device)
        image = patient((256, 256, 120), (1.5, 1.5, 1.5))
        exact = None
        for name, chosen in {
            "warm": Shortcuts(), "exact": Shortcuts(), "--skip-air": Shortcuts(skip_air=True),
            "--step 0.75": Shortcuts(step=0.75), "--bf16": Shortcuts(bf16=True),
        }.items():  # fmt: skip
            row, answer = measured(
                lambda chosen=chosen: predict_volume(
                    model, network, image, device=device, mirror=False, threads=2, shortcuts=chosen
                )
            )
            labels = answer.labels.array
            exact = labels if exact is None else exact
            filled = (labels > 0).sum() + (exact > 0).sum()
            dsc = 2 * ((labels == exact) & (labels > 0)).sum() / filled
            show(f"{name} ({answer.windows} windows)", row)
            print(f"    agreement with exact inside structures (DSC) {dsc:.5f}")


def long_job(folder: Path, slices: int) -> None:
    import resource

    import torch

    from pantskit.networks.runtime import start_torch
    from pantskit.predict.case import predict_volume

    device = start_torch("cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = prepared(folder, 1.5, 96)
    image = patient((512, 512, slices), (0.8, 0.8, 1.0))
    network = model.build(device)
    row, answer = measured(
        lambda: predict_volume(model, network, image, device=device, mirror=False, threads=2)
    )
    row["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({**row, "windows": answer.windows}))


def long(slices: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        row = apart("long-job", str(small_model(Path(scratch))), str(slices))
        show(f"512 x 512 x {slices}", row)
        print(f"{row['windows']} windows; whole process at most {row['peak_gb']:.2f} GiB")


def gpu(folder: Path, path: Path) -> None:
    """Seconds and device memory of one CT with TTA, beside the network alone."""
    import torch

    from pantskit.core.volume import read_volume
    from pantskit.networks.folder import Model
    from pantskit.networks.runtime import start_torch
    from pantskit.predict.case import predict_volume

    if not torch.cuda.is_available():
        raise SystemExit("gpu: torch sees no CUDA device; this part is unmeasured here")
    device = start_torch("cuda")
    torch.backends.cudnn.benchmark = True
    model, image = Model.load(folder), read_volume(path)
    network = model.build(device)
    for batch in (1, 2, 4):
        for _ in ("warm", "timed"):
            torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            answer = predict_volume(model, network, image, device=device, batch=batch)
            torch.cuda.synchronize()
            took = time.perf_counter() - start
        floor = network_alone(network, model, device, answer.windows)
        memory = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"batch {batch}: {took:.2f} s, {answer.windows} windows, network alone "
            f"{floor:.2f} s, {memory:.2f} GiB of device memory"
        )


def network_alone(network: Any, model: Any, device: Any, windows: int) -> float:
    import torch

    patch = torch.zeros((1, 1, *model.plans.patch_size), device=device)
    flips = 2 ** len(model.mirror_axes)
    with torch.inference_mode(), torch.autocast(device.type):
        for _ in range(3):
            network(patch)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            network(patch)
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / 10 * windows * flips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    names = ("export", "export-job", "case", "case-job", "shortcuts", "long", "long-job", "gpu")
    add = {name: jobs.add_parser(name) for name in names}
    add["export-job"].add_argument("engine")
    for name in ("export", "export-job"):
        add[name].add_argument("--scale", type=float, default=1.0)
    for argument in ("engine", "folder", "name"):
        add["case-job"].add_argument(argument)
    for name in ("case", "case-job"):
        add[name].add_argument("--mirror", action="store_true")
    add["long"].add_argument("--slices", type=int, default=1000)
    add["long-job"].add_argument("folder", type=Path)
    add["long-job"].add_argument("slices", type=int)
    add["gpu"].add_argument("folder", type=Path)
    add["gpu"].add_argument("path", type=Path)
    o = parser.parse_args()
    if not o.job.endswith("-job"):
        print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    {
        "export": lambda: export(o.scale),
        "export-job": lambda: export_job(o.engine, o.scale),
        "case": lambda: case(o.mirror),
        "case-job": lambda: case_job(o.engine, Path(o.folder), o.mirror, o.name),
        "shortcuts": shortcuts,
        "long": lambda: long(o.slices),
        "long-job": lambda: long_job(o.folder, o.slices),
        "gpu": lambda: gpu(o.folder, o.path),
    }[o.job]()


if __name__ == "__main__":
    main()
