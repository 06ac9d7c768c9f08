"""Sound cases: false alarms of phantoms of every phase, site and size; memory; time."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from planted_aims import Figure, table

from pantskit.check.dataset import check_dataset
from pantskit.core.dataset import Dataset
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.phantom.case import THIN_PIXELS, PhantomCase, lesion_shifts, make_case
from pantskit.phantom.cohort import make_cohort, write_case
from pantskit.phantom.patient import anatomy
from pantskit.phantom.render import render
from pantskit.phantom.scans import CohortPlan, plan_scan, scan_geometry, scanner_for
from pantskit.phantom.voxelize import tissue_map

AT_ONCE = 25
MARKS = (1000, 2000, 5000, 10000)
TINY = 6  # every nth voxel of a small phantom
MOST_ALARMS = 0.01  # of sound cases, for each rule
MOST_SECONDS, MOST_MB = 10, 2048  # for one full case
MOST_GROWTH = 1.05  # of a worker, from a tenth of the cases to all
MOST_KB = 10  # in the main process, which keeps what was found, for each case
FEW = ("liver", "spleen", "pancreas")


def cohort(folder: Path, cases: int, seed: int, size: str) -> Dataset:
    """Phantoms of all four sites, half of the patients with a tumour; what is there is kept."""
    plan = CohortPlan(cases, seed=seed, tumor_rate=0.5, sites=4, test_fraction=0.3)
    if size == "medium":
        return _medium_cohort(folder, replace(plan, size="full"))
    summary = make_cohort(replace(plan, size=size), folder, refine=0, workers=0)
    if summary.exit_status:
        raise SystemExit("a phantom could not be made")
    return Dataset.open(folder)


def _medium_cohort(folder: Path, plan: CohortPlan) -> Dataset:
    dataset = Dataset.create(folder, name=f"phantom-{plan.seed}")
    rows = [write_case(dataset, medium_case(plan, n))["metadata"] for n in range(plan.cases)]
    dataset.write_metadata(rows)
    dataset.write_info()
    return dataset


def medium_case(plan: CohortPlan, number: int) -> PhantomCase:
    """A scan on the full grid's every second voxel along each axis: 256 x 256 x 150."""
    scan = plan_scan(plan, number)
    fine, body = scan_geometry(scan, anatomy(scan.patient, prone=scan.site.prone), "full")
    affine = fine.affine @ np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = fine.to_world([0.5, 0.5, 0.5])
    grid = replace(fine, shape=tuple(n // 2 for n in fine.shape), affine=affine)
    tissues = tissue_map(body, grid, thin_mm=THIN_PIXELS * grid.spacing[0])
    scanner = scanner_for(scan.site, "small")
    shifts = lesion_shifts(scan)
    hu = render(tissues, grid.spacing, scan.phase, scan.rng(2), scanner=scanner, shifts=shifts)
    return PhantomCase(scan, Volume(hu, grid), tissues, body)


@dataclass
class Alarms:
    """What was said of sound cases."""

    size: str
    cases: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    drawn: list[tuple[str, str]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(vars(self), indent=1), "utf-8")


def count_alarms(work: Path, cases: int, seed: int, size: str, kept: Path | None = None) -> Alarms:
    """Check sound phantoms, so many at once, each lot of a seed of its own.

    Args:
        work: scratch folder.
        cases: how many.
        seed: of the first lot; the next has the next.
        size: small, medium or full.
        kept: file of counts to go on from, and to keep them in.
    """
    alarms = Alarms(size)
    if kept is not None and kept.is_file():
        alarms = Alarms(**json.loads(kept.read_text("utf-8")))
    for n, first in enumerate(range(0, cases, AT_ONCE)):
        if first < alarms.cases:
            continue
        folder = work / f"clean-{size}-{seed + n}"
        dataset = cohort(folder, min(AT_ONCE, cases - first), seed + n, size)
        start = time.perf_counter()
        found = check_dataset(dataset, workers=0).findings
        alarms.seconds += time.perf_counter() - start
        rows = dataset.metadata
        alarms.cases += len(rows)
        alarms.drawn += [(r["site"], r["phase"]) for r in rows.values()]
        alarms.rows += [f.row() | {"seed": seed + n} for f in found]
        shutil.rmtree(folder)
        if kept is not None:
            alarms.save(kept)
        print(f"  {size}: {alarms.cases} of {cases}", file=sys.stderr, flush=True)
    return alarms


def report_alarms(parts: list[Alarms]) -> list[Figure]:
    """False alarms per rule, over all sizes."""
    print("## Sound phantoms\n")
    cases = sum(p.cases for p in parts)
    by_size: Counter[str] = Counter()
    for part in parts:
        by_size[part.size] += part.cases
    drawn = Counter(tuple(pair) for p in parts for pair in p.drawn)
    sites = sorted({site for site, _ in drawn})
    phases = sorted({phase for _, phase in drawn})
    sizes = ", ".join(f"{n} {size}" for size, n in by_size.items())
    print(f"{cases} cases ({sizes}), by site and phase:\n")
    table(("", *phases), [(s, *(drawn[s, p] for p in phases)) for s in sites])
    rows = [r for p in parts for r in p.rows]
    false = [r for r in rows if r["severity"] != "info"]
    alarmed = {(r["seed"], r["case_id"]) for r in false}
    print(f"{len(alarmed)} with a warning or an error, {len(rows) - len(false)} remarks\n")
    counts = Counter(r["rule"] for r in rows)
    hit = {name: {(r["seed"], r["case_id"]) for r in rows if r["rule"] == name} for name in counts}
    if counts:
        table(
            ("rule", "findings", "cases", "share of cases"),
            [(k, n, len(hit[k]), f"{100 * len(hit[k]) / cases:.1f} %")
             for k, n in counts.most_common()],
        )  # fmt: skip
    for r in false:
        print(f"seed {r['seed']} {r['case_id']}: {r['severity']}: {r['rule']}: {r['message']}")
    seconds = {size: sum(p.seconds for p in parts if p.size == size) / n
               for size, n in by_size.items()}  # fmt: skip
    print("seconds a case:", ", ".join(f"{size} {t:.2f}" for size, t in seconds.items()), "\n")
    wrong = {(r["rule"], r["seed"], r["case_id"]) for r in false}
    worst = Counter(rule for rule, *_ in wrong).most_common(1) or [("no rule", 0)]
    (name, most), share = worst[0], worst[0][1] / max(1, cases)
    return [
        Figure("sound phantoms: cases with a warning or an error", f"{len(alarmed)} of {cases}"),
        Figure("sound phantoms: the worst rule alarms on", f"{100 * share:.1f} % ({name}, {most})",
               "at most 1 %", share <= MOST_ALARMS),
    ]  # fmt: skip


# Memory over many cases


def make_many(folder: Path, cases: int, seed: int) -> Dataset:
    """Copies of one tiny case of three structures in a map alone, each of other content."""
    if (folder / "dataset.json").is_file() and len(Dataset.open(folder).cases()) == cases:
        return Dataset.open(folder)
    made = make_case(CohortPlan(1, seed=seed, sites=4), 0)
    ct = made.ct.reoriented()
    pick = (slice(None, None, TINY),) * 3
    affine = ct.geometry.affine @ np.diag([TINY, TINY, TINY, 1.0])
    small = np.ascontiguousarray(ct.array[pick])
    grid = replace(ct.geometry, shape=small.shape, affine=affine)
    masks = {s: Volume(made.mask(s), made.geometry).reoriented().array[pick] for s in FEW}
    labels = PANTS.combine(masks)
    dataset = Dataset.create(folder, name="many", annotated=FEW)
    liver = np.argwhere(masks["liver"])
    for n in range(cases):
        name = f"Many_{n:08d}"
        hu, ids = np.clip(small, -1000, 1000), labels.copy()
        hu[tuple(liver[n % len(liver)])] += 1 + n // len(liver)
        ids[tuple(liver[n % len(liver)])] = 0
        image, folder_of = dataset.image_path(name, "train"), dataset.labels_path(name, "train")
        write_volume(image, Volume(hu, grid))
        path = folder_of / "combined_labels.nii.gz"
        write_volume(path, Volume(ids, grid), label_space=PANTS.name)
    dataset.write_info()
    return dataset


def resident_mb() -> tuple[float, float]:
    """Resident memory of this process, and of the largest of those that it started."""
    me = psutil.Process()
    sizes = [0.0]
    for child in me.children(recursive=True):
        try:
            sizes.append(child.memory_info().rss / 2**20)
        except psutil.Error:
            continue
    return me.memory_info().rss / 2**20, max(sizes)


def report_many(work: Path, cases: int, seed: int, workers: int) -> list[Figure]:
    """Resident memory while so many tiny cases are checked in one run."""
    dataset = make_many(work / "many", cases, seed)
    rows: list[tuple[object, ...]] = []
    sizes: list[tuple[float, float]] = []
    start = time.perf_counter()

    def progress(_record: object, done: int, _all: int) -> None:
        if done in MARKS or done in (100, cases // 10, cases):
            parent, worker = resident_mb()
            if done in (cases // 10, cases):
                sizes.append((parent, worker))
            took = time.perf_counter() - start
            rows.append((done, f"{parent:.0f}", f"{worker:.0f}", f"{1000 * took / done:.0f}"))
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)

    result = check_dataset(dataset, workers=workers, progress=progress)
    print(f"## {cases} tiny cases in one run, {workers} workers\n")
    table(("cases done", "this process, MB", "largest worker, MB", "ms a case"), rows)
    print(f"{len(result.findings)} findings; exit status {result.exit_status}; "
          f"after the run {resident_mb()[0]:.0f} MB\n")  # fmt: skip
    (parent, worker), (parent_end, worker_end) = sizes[0], sizes[-1]
    each = 1024 * (parent_end - parent) / max(1, cases - cases // 10)
    return [
        Figure(f"{cases} cases: a worker, MB after a tenth and all",
               f"{worker:.0f}, {worker_end:.0f}", "at most 5 % more",
               worker_end <= MOST_GROWTH * worker),
        Figure(f"{cases} cases: main process, which keeps what was found", f"{each:.1f} kB a case",
               f"at most {MOST_KB} kB", each <= MOST_KB),
    ]  # fmt: skip


# A full case


def report_full(work: Path, seed: int) -> list[Figure]:
    """Seconds and memory of all rules on one full case, in a process of its own on one core."""
    dataset = cohort(work / f"full-{seed}", 1, seed, "full")
    here = Path(__file__).resolve()
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    out = subprocess.run(
        [sys.executable, str(here), str(dataset.root)], env=env, check=True, capture_output=True
    )
    print("## All rules on one full case\n")
    *lines, last = out.stdout.decode().splitlines()
    print("\n".join(lines), "\n")
    seconds, peak = json.loads(last)
    return [
        Figure("full case, all rules, one core", f"{seconds:.1f} s", f"at most {MOST_SECONDS} s",
               seconds <= MOST_SECONDS),
        Figure("full case, memory", f"{peak:.0f} MB", f"at most {MOST_MB} MB", peak <= MOST_MB),
    ]  # fmt: skip


def _measure_full(root: Path) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    dataset = Dataset.open(root)
    check_dataset(dataset, workers=0)  # once for imports and the disk's cache
    wall, cpu = time.perf_counter(), time.process_time()
    result = check_dataset(dataset, workers=0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (case,) = dataset.cases()
    labels = case.labels()
    assert labels is not None
    grid: Geometry = labels.geometry
    print(f"{grid.shape}, {len(labels.structures())} structures, one core: {wall:.1f} s, "
          f"{cpu:.1f} s of the processor, at most {peak:.0f} MB, reading included")  # fmt: skip
    print(f"findings: {[(f.rule, str(f.severity)) for f in result.findings]}")
    print(json.dumps([wall, peak]))


if __name__ == "__main__":
    _measure_full(Path(sys.argv[1]))
