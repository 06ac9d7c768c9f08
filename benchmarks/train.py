"""Training against nnU-Net's own: preparing a case, and iterations with their batches.

    python benchmarks/train.py prepare [--plans fine,thick] [--dataset DATASET --case CASE]
    python benchmarks/train.py iterations [--rounds 6 --seconds 4]
    python benchmarks/train.py gpu [--iterations 60] [--device cpu --size small]

`prepare` takes a made-up patient of 512 x 512 x 300 with 28 structures, or a case of a dataset,
from its files to nnU-Net's cache: one process with one thread each (nnU-Net's class lets blosc2
have four to compress, in both), and compares the caches. `fine` is resampled along all axes,
`thick` by nearest slice along the coarse one. `iterations` trains nnU-Net's network of a small
plan on the tests' patients; `gpu` trains the default plan on full-size ones. Every engine runs in a
process of its own; memory is the highest resident size less that before the job. In `iterations`
one engine runs and the others are stopped, some seconds each in turns, and the medians of the turns
count; nnU-Net has its own number of augmenting processes, and in `nnunet-0` none; threads and their
way of waiting are each engine's own. Figures are printed beside their aims; exit status 1 if one is
missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from predict_measured import cores
from train_iterations import gpu, iterations, iterations_job
from train_prepare import PLANS, prepare, prepare_job


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    jobs = whole.add_subparsers(dest="job", required=True)
    add = {name: jobs.add_parser(name) for name in (*RUN, *JOBS)}
    add["prepare"].add_argument("--plans", default=",".join(PLANS))
    add["prepare"].add_argument("--dataset", type=Path)
    add["prepare"].add_argument("--case")
    add["prepare"].add_argument("--size", choices=("full", "small"), default="full")
    add["prepare-job"].add_argument("engine")
    add["prepare-job"].add_argument("folder", type=Path)
    add["iterations"].add_argument("--rounds", type=int, default=6)
    add["iterations"].add_argument("--seconds", type=float, default=4.0)
    add["gpu"].add_argument("--iterations", type=int, default=60)
    add["gpu"].add_argument("--device", default="cuda")
    add["gpu"].add_argument("--size", choices=("full", "small"), default="full")
    add["iterations-job"].add_argument("engine")
    add["iterations-job"].add_argument("folder", type=Path)
    add["iterations-job"].add_argument("--device", default="cpu")
    add["iterations-job"].add_argument("--ticks", type=Path)
    add["iterations-job"].add_argument("--iterations", type=int, default=40)
    return whole


RUN = {
    "prepare": lambda o, t: prepare(o.plans.split(","), o.dataset, o.case, o.size, t),
    "iterations": lambda o, t: iterations(o.rounds, o.seconds, t),
    "gpu": lambda o, t: gpu(o.iterations, o.device, o.size, t),
}
JOBS = {
    "prepare-job": lambda o: prepare_job(o.engine, o.folder),
    "iterations-job": lambda o: iterations_job(o.engine, o.folder, o.device, o.iterations, o.ticks),
}


def main() -> None:
    o = parser().parse_args()
    if o.job in JOBS:
        JOBS[o.job](o)
        return
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        missed = RUN[o.job](o, Path(scratch))
    sys.exit(min(missed, 1))


if __name__ == "__main__":
    main()
