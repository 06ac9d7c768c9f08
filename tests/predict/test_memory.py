"""Memory of a prediction: bounded by the window, not by the scan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pantskit.core.dataset import Dataset

# In a process of its own: what grows there is this prediction's. Of the shape's two volumes the
# CT (int16) and the answer (uint8) must be held; sums of all logits would take 4 bytes a channel.
SCRIPT = """
import resource, sys, threading, time
from dataclasses import replace
from pathlib import Path
import numpy as np, psutil, torch
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.networks.folder import Model
from pantskit.networks.plans import Plans
from pantskit.predict.case import predict_volume

folder, side, *depths = sys.argv[1:]
torch.set_num_threads(1)
model = Model.load(Path(folder))
plans = model.plans.plans
plans["configurations"]["3d_fullres"]["patch_size"] = [48, 48, 48]
model = replace(model, plans=Plans(plans, model.plans.dataset_json))

def network(patches):  # what a network needs is its own: here it is next to nothing
    return patches.repeat(1, 5, 1, 1, 1) + torch.arange(5).reshape(1, 5, 1, 1, 1)

process = psutil.Process()

def peak_mb(depth):
    shape = (int(side), int(side), depth)
    array = np.full(shape, -100, np.int16, order="F")
    array[2:-2, 2:-2, ::7] = 60
    image = Volume(array, Geometry.from_spacing(shape, (6.0, 6.0, 6.0), orientation="LAI"))
    before, highest, done = process.memory_info().rss, 0, False
    def watch():
        nonlocal highest
        while not done:
            highest = max(highest, process.memory_info().rss)
            time.sleep(0.002)
    thread = threading.Thread(target=watch)
    thread.start()
    answer = predict_volume(model, network, image, device=torch.device("cpu"))
    done = True
    thread.join()
    return (highest - before) / 2**20 - answer.labels.array.nbytes / 2**20

peak_mb(int(depths[0]))  # code is compiled, caches are filled
print(*(peak_mb(int(depth)) for depth in depths))
"""


def extra_memory_mb(model: Path, side: int, depths: list[int]) -> list[float]:
    """Peak beside CT and answer, for scans of several lengths."""
    command = [sys.executable, "-c", SCRIPT, str(model), str(side), *map(str, depths)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in result.stdout.split()]


def test_memory_does_not_grow_with_the_scan(trained: tuple[Dataset, Path]) -> None:
    short, long = extra_memory_mb(trained[1], 96, [100, 1000])
    # All logits of the longer scan would take 170 MiB more, its float32 values 32.
    assert long - short < 16
