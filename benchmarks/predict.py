"""Prediction against nnU-Net's own predictor: the export alone, whole cases, and a long scan.

    python benchmarks/predict.py export [--scale 0.5]
    python benchmarks/predict.py case [--mirror] [--full]
    python benchmarks/predict.py long [--slices 1000]
    python benchmarks/predict.py many MODEL CASES [--device cuda]
    python benchmarks/predict.py gpu [MODEL CT] [--plans default] [--device cpu --size small]
    python benchmarks/predict.py shortcuts MODEL CASES... [--limit N] [--device cuda]
    python benchmarks/predict.py postprocess [--algorithms FOLDER] [--model MODEL CASES...]

Every engine runs in a process of its own; memory is the highest resident size less that before the
job. Figures are printed beside their aims; exit status 1 if one is missed. `case` and `long` train
the tests' network in half a minute (tests/support/blobs.py): they compare engines on the same
weights, not models. `case --full` and `gpu` take the network that nnU-Net plans for 28 structures,
with random weights. `shortcuts` and `postprocess` take a trained model and cases with labels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from predict_effects import postprocess, shortcuts
from predict_gpu import gpu, gpu_job
from predict_measured import Aims, apart, cores, measured, show
from predict_models import (
    anatomy,
    full_size,
    nnunet_labels,
    nnunet_predictor,
    patient,
    replanned,
    small_model,
)

ENGINES = ("pantskit", "nnunet-torch", "nnunet")


def export(scale: float) -> int:
    """Logits of 28 structures to labels of 512 x 512 x 300, times `scale`."""
    aims, rows = Aims(), {}
    with tempfile.TemporaryDirectory() as scratch:
        for engine in ENGINES:
            file = f"{scratch}/{engine}.npy"
            rows[engine] = apart("export-job", engine, file, "--scale", str(scale))
            show(engine, rows[engine])
        ours = rows["pantskit"]
        assert ours is not None
        for engine, times, memory in (("nnunet-torch", 4.0, 0.1), ("nnunet", 30.0, 0.05)):
            aims.ratios(ours, rows[engine], engine, times=times, memory=memory)
            if rows[engine] is not None:
                a, b = (np.load(f"{scratch}/{e}.npy") for e in ("pantskit", engine))
                print(f"    voxels that differ from {engine}: {(a != b).mean():.2e}")
    return aims.missed


def export_job(engine: str, file: str, scale: float) -> None:
    z, y, x = (round(n * scale) for n in (250, 273, 273))
    out = tuple(round(n * scale) for n in (300, 512, 512))
    logits = anatomy((z, y, x))
    if engine == "pantskit":
        from pantskit.predict.export import resample_argmax

        resample_argmax(np.ascontiguousarray(logits[:, :2, :8, :8]), (4, 9, 9))  # compiles
        size = (out[0], out[1], out[2])
        row, labels = measured(lambda: resample_argmax(logits, size, threads=cores()))
    else:
        import torch

        torch.set_num_threads(cores())
        row, labels = measured(lambda: nnunet_export(engine, logits, out))
    np.save(file, labels.astype(np.uint8))
    print(json.dumps(row))


def nnunet_export(engine: str, logits: np.ndarray, out: Any) -> np.ndarray:
    spacing, target = [1.5, 1.5, 1.5], [1.25, 0.8, 0.8]
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

        full = resample_torch(logits, out, spacing, target, num_threads=cores())
    return full.argmax(0)


def case(mirror: bool, full: bool) -> int:
    """256 x 256 x 200 on the CPU, from an array to an array."""
    aims, rows = Aims(), {}
    flags = ["--mirror"] * mirror + ["--full"] * full
    with tempfile.TemporaryDirectory() as scratch:
        folder = small_model(Path(scratch))
        for engine in ("pantskit", "nnunet"):
            file = f"{scratch}/{engine}.npy"
            rows[engine] = apart("case-job", engine, str(folder), file, *flags)
            show(engine, rows[engine])
        ours = rows["pantskit"]
        assert ours is not None
        aims.ratios(ours, rows["nnunet"], "nnUNetPredictor", times=1.0, memory=0.25)
        if rows["nnunet"] is not None:
            a, b = (np.load(f"{scratch}/{e}.npy") for e in ("pantskit", "nnunet"))
            print(f"    voxels that differ (nnU-Net sums in float16): {(a != b).mean():.2e}")
    return aims.missed


def case_job(engine: str, folder: Path, file: str, mirror: bool, full: bool) -> None:
    import torch

    from pantskit.networks.runtime import start_torch

    device = start_torch("cpu")
    torch.set_num_threads(cores())
    model = full_size(folder, 2.0, 64) if full else replanned(folder, 2.0, 64)
    image, small = patient((256, 256, 200), (1.5, 1.5, 1.5)), patient((64, 64, 64), (2, 2, 2))
    if engine == "pantskit":
        from pantskit.predict.case import predict_volume

        network = model.build(device)
        options = {"device": device, "threads": cores()}
        predict_volume(model, network, small, mirror=False, **options)  # compiles
        row, answer = measured(
            lambda: predict_volume(model, network, image, mirror=mirror, **options)
        )
        labels = answer.labels.array
    else:
        peer = nnunet_predictor(model, mirror, device)
        row, labels = measured(lambda: nnunet_labels(model, peer, image))
    np.save(file, labels)
    print(json.dumps(row))


def long(slices: int) -> int:
    """512 x 512 x `slices`: the memory of a whole process."""
    aims = Aims()
    with tempfile.TemporaryDirectory() as scratch:
        row = apart("long-job", str(small_model(Path(scratch))), str(slices))
    show(f"512 x 512 x {slices}", row)
    if row is None:
        return 1
    print(f"    {row['windows']} windows")
    aims.at_most("GiB of the whole process", row["peak_gb"], 6.0)
    return aims.missed


def long_job(folder: Path, slices: int) -> None:
    import resource

    import torch

    from pantskit.networks.runtime import start_torch
    from pantskit.predict.case import predict_volume

    device = start_torch("cpu")
    torch.set_num_threads(cores())
    model = replanned(folder, 1.5, 96)
    image = patient((512, 512, slices), (0.8, 0.8, 1.0))
    network = model.build(device)
    row, answer = measured(
        lambda: predict_volume(model, network, image, device=device, mirror=False, threads=cores())
    )
    row["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({**row, "windows": answer.windows}))


def many(model: Path, cases: Path, device: str) -> int:
    """How busy the network is over many cases, by the command that a user types.

    The first case is left out: for it the model is loaded.
    """
    aims = Aims()
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "pantskit", "predict", str(model), str(cases), "--out",
            f"{scratch}/out", "--device", device, "--json",
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    told = json.loads(result.stdout)["cases"][1:]
    network, waited = (sum(c[key] for c in told) for key in ("network_s", "waited_s"))
    print(f"{len(told)} cases after the first: network {network:.1f} s, waited {waited:.2f} s")
    aims.at_least("share of the time in which the network computes", network / (network + waited),
                  0.95)  # fmt: skip
    return aims.missed


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    jobs = whole.add_subparsers(dest="job", required=True)
    add = {name: jobs.add_parser(name) for name in (*RUN, *JOBS)}
    for argument in ("engine", "file"):
        add["export-job"].add_argument(argument)
    for name in ("export", "export-job"):
        add[name].add_argument("--scale", type=float, default=1.0)
    add["case-job"].add_argument("engine")
    add["case-job"].add_argument("folder", type=Path)
    add["case-job"].add_argument("file")
    for name in ("case", "case-job"):
        add[name].add_argument("--mirror", action="store_true")
        add[name].add_argument("--full", action="store_true")
    add["long"].add_argument("--slices", type=int, default=1000)
    add["long-job"].add_argument("folder", type=Path)
    add["long-job"].add_argument("slices", type=int)
    add["many"].add_argument("model", type=Path)
    add["many"].add_argument("cases", type=Path)
    add["gpu"].add_argument("model", type=Path, nargs="?")
    add["gpu"].add_argument("ct", type=Path, nargs="?")
    add["gpu"].add_argument("--size", choices=("full", "small"), default="full")
    add["gpu"].add_argument("--plans", default="default,torch")
    for argument in ("engine", "plans", "file"):
        add["gpu-job"].add_argument(argument)
    add["gpu-job"].add_argument("folder", type=Path)
    add["gpu-job"].add_argument("ct")
    add["gpu-job"].add_argument("--made")
    add["shortcuts"].add_argument("model", type=Path)
    add["shortcuts"].add_argument("cases", type=Path, nargs="+")
    add["shortcuts"].add_argument("--limit", type=int)
    add["shortcuts"].add_argument("--batch", type=int, default=1)
    add["postprocess"].add_argument("--algorithms", type=Path)
    add["postprocess"].add_argument("--model", type=Path)
    add["postprocess"].add_argument("cases", type=Path, nargs="*")
    for name in ("many", "shortcuts", "postprocess"):
        add[name].add_argument("--device", default="cpu")
    for name in ("gpu", "gpu-job"):
        add[name].add_argument("--device", default="cuda")
    return whole


def gpu_part(o: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        return gpu(o.model, o.ct, o.device, o.size, o.plans.split(","), Path(scratch))


RUN = {
    "export": lambda o: export(o.scale),
    "case": lambda o: case(o.mirror, o.full),
    "long": lambda o: long(o.slices),
    "many": lambda o: many(o.model, o.cases, o.device),
    "gpu": gpu_part,
    "shortcuts": lambda o: shortcuts(o.model, o.cases, o.limit, o.batch, o.device),
    "postprocess": lambda o: postprocess(o.algorithms, o.model, o.cases, o.device),
}
JOBS = {
    "export-job": lambda o: export_job(o.engine, o.file, o.scale),
    "case-job": lambda o: case_job(o.engine, o.folder, o.file, o.mirror, o.full),
    "long-job": lambda o: long_job(o.folder, o.slices),
    "gpu-job": lambda o: gpu_job(o.engine, o.plans, o.file, o.folder, o.ct, o.device, o.made),
}


def main() -> None:
    o = parser().parse_args()
    if o.job in JOBS:
        JOBS[o.job](o)
        return
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    sys.exit(min(RUN[o.job](o) or 0, 1))


if __name__ == "__main__":
    main()
