"""One CT with mirroring, by pantskit and by nnU-Net's two pipelines; see predict.py."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from predict_measured import Aims, apart, cores, measured, show
from predict_models import (
    full_size,
    nnunet_labels,
    nnunet_predictor,
    patient,
    replanned,
    small_model,
    with_torch_resampling,
)

SIZES = {"full": ((512, 512, 300), (0.8, 0.8, 1.25)), "small": ((64, 64, 40), (3.0, 3.0, 3.0))}
# By how much nnU-Net is to be beaten with its default resampling and with its torch resampling.
AIMS = {"default": 4.0, "torch": 2.0}


def gpu(
    model: Path | None, ct: Path | None, device: str, size: str, ways: Sequence[str], scratch: Path
) -> int:
    """Whole cases from an array to an array on a device; how many aims were missed.

    Args:
        model: None trains the tests' model and gives it nnU-Net's network with random weights.
        ct: None makes one up.
        device: `"cuda"`; with `"cpu"` the part is only seen to run.
        size: `"full"`, or `"small"` to see it run.
        ways: of resampling, out of `AIMS`.
        scratch: for answers.
    """
    made = [] if model and ct else ["--made", size]
    folder = model or small_model(scratch)
    aims, rows = Aims(), {}
    common = [str(folder), str(ct or "none"), "--device", device, *made]
    floor = apart("gpu-job", "floor", "default", str(scratch / "none.npy"), *common)
    assert floor is not None
    print(f"{floor['name']}, network of {floor['gflop']:.3g} GFLOP a window of {floor['patch']}")
    for plans in ways:
        compiled = ("pantskit-compiled",) if device == "cuda" else ()
        for engine in ("pantskit", "pantskit-1", *compiled, "nnunet"):
            file = str(scratch / f"{plans}-{engine}.npy")
            row = rows[plans, engine] = apart("gpu-job", engine, plans, file, *common)
            show(f"{engine}, {plans} resampling", row)
            if row is not None and "windows" in row:
                passes = row["windows"] * floor["flips"]
                print(
                    f"    {row['windows']} windows, {floor['flips']} flips: "
                    f"{passes * floor['gflop'] / 1000:.3g} TFLOP, network alone "
                    f"{passes * floor['s']:.2f} s ({passes * floor['best_s']:.2f} s in batches)"
                )
    for plans in ways:
        ours = rows[plans, "pantskit"]
        if ours is None:
            aims.missed += 1
            continue
        aims.ratios(
            ours, rows[plans, "nnunet"], f"nnU-Net with {plans} resampling", times=AIMS[plans]
        )
        if "device_gb" in ours:
            aims.at_most(f"GiB of device memory, {plans} plans", ours["device_gb"], 5.0)
        if rows[plans, "nnunet"] is not None:
            a, b = (np.load(scratch / f"{plans}-{e}.npy") for e in ("pantskit", "nnunet"))
            print(f"    voxels that differ, {plans}: {(a != b).mean():.2e}")
    return aims.missed


def gpu_job(
    engine: str, plans: str, file: str, folder: Path, ct: str, device: str, made: str | None
) -> None:
    """One engine; prints a line of JSON."""
    import torch

    from pantskit.core.volume import read_volume
    from pantskit.networks.folder import Model
    from pantskit.networks.runtime import start_torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; this part is unmeasured here")
    chosen = start_torch(device)
    torch.backends.cudnn.benchmark = True  # as nnU-Net's commands do
    if made == "full":
        model = full_size(folder, 1.5, 128)
    else:
        model = replanned(folder, 4.0, 32) if made else Model.load(folder)
    image = patient(*SIZES[made]) if made else read_volume(Path(ct))
    if model.orientation is not None:
        image = image.reoriented(model.orientation)
    if plans == "torch":
        model = with_torch_resampling(model)
    if engine == "floor":
        print(json.dumps(network_alone(model, chosen)))
        return
    least = tuple(p + 8 for p in reversed(model.plans.patch_size))
    warm = patient((least[0], least[1], least[2]), tuple(model.plans.configuration.spacing))
    run = _job(engine, model, chosen)
    run(warm)
    if chosen.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    row, (labels, windows) = measured(lambda: run(image))
    if windows:
        row["windows"] = windows
    if chosen.type == "cuda":
        row["device_gb"] = torch.cuda.max_memory_reserved() / 2**30
    np.save(file, labels)
    print(json.dumps(row))


def _job(engine: str, model: Any, device: Any) -> Any:
    """A function of a CT that gives labels and how many windows there were."""
    if engine == "nnunet":
        peer = nnunet_predictor(model, True, device)
        return lambda image: (nnunet_labels(model, peer, image), None)
    from pantskit.predict.case import Shortcuts, predict_volume

    network = model.build(device)
    options = {"batch": 1 if engine == "pantskit-1" or device.type == "cpu" else 4}
    if engine == "pantskit-compiled":
        options["shortcuts"] = Shortcuts(compile=True)

    def run(image: Any) -> Any:
        answer = predict_volume(model, network, image, device=device, threads=cores(), **options)
        return answer.labels.array, answer.windows

    return run


def network_alone(model: Any, device: Any) -> dict[str, Any]:
    """Seconds and operations of one window: below them no engine comes with these windows."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = model.build(device)
    half = torch.autocast(device.type, enabled=device.type == "cuda")
    best = first = float("inf")
    for batch in (1, 2, 4) if device.type == "cuda" else (1,):
        patch = torch.zeros((batch, 1, *model.plans.patch_size), device=device)
        with torch.inference_mode(), half:
            rounds = 3 if device.type == "cuda" else 1
            for repeat in (1, rounds):  # the first one warms up
                _wait(device)
                start = time.perf_counter()
                for _ in range(repeat):
                    network(patch)
                _wait(device)
                took = (time.perf_counter() - start) / repeat / batch
        best, first = min(best, took), took if batch == 1 else first
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros((1, 1, *model.plans.patch_size), device=device))
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {
        "s": first,
        "best_s": best,
        "gflop": counter.get_total_flops() / 1e9,
        "flips": 2 ** len(model.mirror_axes),
        "patch": list(model.plans.patch_size),
        "name": name,
    }


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
