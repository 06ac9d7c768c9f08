"""CPU-seconds of `pantskit ingest`, beside dcm2niix and dicom2nifti with nibabel.

    pip install -e '.[bench]'
    python benchmarks/ingest.py SERIES [--repeat 3] [--copies 10] [--work FOLDER]
    python benchmarks/ingest.py --phantom

SERIES is a folder of one CT series in DICOM, with which 28 made-up organs go; --phantom makes a
CT of 512 x 512 x 300 with its 28 masks first (a minute). All read the same files, warm in the
page cache, write to the same disk and take turns, in an order that changes. Where pigz is
installed, which dcm2niix packs with when told to (-z y), that way is taken, too. Times are medians
of the user and system time of the process and of those it starts. Outputs are equal voxel by voxel,
or there is no ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import peers
from peers import (
    COMBINED,
    CT,
    Run,
    require_equal,
    standardize,
    then_nibabel,
    with_dcm2niix,
    with_dicom2nifti,
)

from pantskit.core.files import content_hash
from pantskit.core.labels import PAINT_ORDER, PANTS, STRUCTURES
from pantskit.core.volume import read_volume
from pantskit.core.writing import slabs_of, write_slabs, write_volume
from pantskit.ingest import IngestSettings, ingest
from pantskit.ingest.dicom.stacks import read_series, series_in_hu
from pantskit.ingest.discovery.discover import discover
from pantskit.ingest.discovery.sources import Reader
from pantskit.ingest.privacy.identifiers import merged
from pantskit.ingest.privacy.leaks import LeakScan
from pantskit.phantom.cohort import make_cohort
from pantskit.phantom.scans import CohortPlan

COMMAND = Path(sys.executable).with_name("pantskit")
OURS = "pantskit (CT: ISA-L 1 to 3, zlib-ng 3; masks: 6)"
Z6, Z1 = "zlib 6", "zlib 1"  # what dcm2niix and nibabel use when not told otherwise


# Measuring


@dataclass
class Timing:
    """Times of one way to do a job, and what it wrote."""

    folder: Path
    seconds: list[float] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    @property
    def megabytes(self) -> float:
        """Of the compressed images and labels written."""
        return sum(p.stat().st_size for p in self.folder.rglob("*.nii.gz")) / 1e6


def cpu_seconds() -> float:
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def in_turns(runs: dict[str, Run], work: Path, repeat: int) -> dict[str, Timing]:
    """Run all in turn, into fresh folders; the first turn warms up and is not counted.

    Each turn has an order of its own, so that none always comes after the same other one, which
    may leave memory and caches full.
    """
    timings = {name: Timing(work / f"run_{n}") for n, name in enumerate(runs)}
    order = random.Random(0)
    for turn in range(repeat + 1):
        for name in order.sample([*runs], len(runs)):
            folder = timings[name].folder
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(f"{folder.name}.key").unlink(missing_ok=True)
            folder.mkdir(parents=True)
            start = cpu_seconds()
            runs[name](folder)
            if turn:
                timings[name].seconds.append(cpu_seconds() - start)
    return timings


# A process of its own between: a child's peak memory begins with that of who starts it.
_WRAPPER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
wall = time.perf_counter() - start
print(json.dumps([status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3, wall]))
"""


def whole_command(*command: str | Path) -> tuple[float, float, float]:
    """CPU-seconds, megabytes at the peak and seconds of a command with all its processes."""
    line = [sys.executable, "-c", _WRAPPER, *map(str, command)]
    status, *numbers = json.loads(subprocess.check_output(line))
    if status:
        sys.exit(f"{command[0]} ended with status {status}")
    return numbers[0], numbers[1], numbers[2]


def show(title: str, timings: dict[str, Timing], aims: dict[str, float], ours: int = 1) -> None:
    """A line each, with how many times our ways, the first so many, it takes."""
    mine = [*timings.values()][:ours]
    print(f"\n{title}")
    for n, (name, timing) in enumerate(timings.items()):
        ratios = "".join(f"{timing.cpu / own.cpu:8.2f} x" for own in mine) if n >= ours else ""
        size = f"{timing.megabytes:8.2f} MB ({timing.megabytes / mine[0].megabytes:5.3f})"
        aim = f"  aim {aims[name]:g} x" if name in aims else ""
        print(f"  {name:<52}{timing.cpu:8.2f} s {size}{ratios}{aim}", flush=True)


# Ours


def our_ingest(
    source: Path, out: Path, *, labels: Path | None = None, label_map: str | None = None
) -> None:
    settings = IngestSettings(labels=labels, label_map=label_map, workers=0)
    records = ingest([source], out, settings).run.records
    if not any(record.status == "done" for record in records):
        sys.exit("\n".join(str(record) for record in records))


def our_conversion(series: Path, out: Path) -> None:
    """From DICOM to the file alone: no pseudonyms, records, scan."""
    with Reader() as reader:
        ct = series_in_hu(slices_of(series), reader)
        write_slabs(out / CT, ct.geometry, np.dtype(np.int16), ct.slabs)


def slices_of(series: Path) -> Any:
    return max((s.slices for s in discover([series]).series), key=len)


# The comparisons


def ct_only(series: Path, work: Path, repeat: int) -> None:
    zipped, plain = (with_dcm2niix(series, "-z", z) for z in "in")
    other = with_dicom2nifti(series)
    runs: dict[str, Run] = {
        OURS: partial(our_ingest, series),
        "the same without de-identification, scan, record": partial(our_conversion, series),
        f"dcm2niix -z i ({Z6}) + nibabel ({Z1})": then_nibabel(zipped),
        f"dicom2nifti ({Z1}) + nibabel ({Z1})": then_nibabel(other),
        f"dcm2niix -z i ({Z6}) + nibabel's get_fdata ({Z1})": then_nibabel(zipped, floats=True),
        f"dicom2nifti ({Z1}) + nibabel's get_fdata ({Z1})": then_nibabel(other, floats=True),
        f"dcm2niix -z n + nibabel ({Z1})": then_nibabel(plain),
        f"dcm2niix -z n + nibabel ({Z6}), a file as small": then_nibabel(plain, level=6),
    }
    if shutil.which("pigz"):
        packed = with_dcm2niix(series, "-z", "y")
        runs[f"dcm2niix -z y (pigz, level 6) + nibabel ({Z1})"] = then_nibabel(packed)
    timings = in_turns(runs, work, repeat)
    for name in [*runs][1:]:
        require_equal(timings[OURS].folder, timings[name].folder, [CT])
    aims = dict.fromkeys([*runs][2:4], 10.0)
    show("(a) CT only: de-identified, scanned, recorded / clipped, reoriented", timings, aims, 2)


def conversion(series: Path, work: Path, repeat: int) -> None:
    runs: dict[str, Run] = {
        OURS: partial(our_conversion, series),
        "the same with de-identification, scan and record": partial(our_ingest, series),
        f"dcm2niix -z i ({Z6})": with_dcm2niix(series, "-z", "i"),
        f"dcm2niix -z i -1 ({Z1})": with_dcm2niix(series, "-z", "i", "-1"),
        f"dicom2nifti ({Z1})": with_dicom2nifti(series),
    }
    timings = in_turns(runs, work, repeat)
    for n, name in enumerate([*runs][1:]):
        theirs = timings[name].folder
        if n:
            (work / "turned").mkdir(exist_ok=True)
            standardize(next(theirs.glob("*.nii.gz")), work / "turned" / CT)
            theirs = work / "turned"
        require_equal(timings[OURS].folder, theirs, [CT])
    show("(b) conversion", timings, dict(zip([*runs][2:], (5.0, 1.0, 8.0), strict=True)), 2)
    raw = voxels_of(next(timings[OURS].folder.glob(CT)))
    size = (timings[OURS].folder / CT).stat().st_size
    for level in (6, 1):
        print(f"  our voxels at zlib {level}: ours are {size / len(zlib.compress(raw, level)):.3f}")


def voxels_of(path: Path) -> bytes:
    array: bytes = read_volume(path).array.tobytes(order="F")
    return array


def labelled(series: Path, labels: dict[str, Path], work: Path, repeat: int) -> None:
    names = [CT, COMBINED, *(f"{s}.nii.gz" for s in STRUCTURES)]
    for what, source in labels.items():
        label_map = "pants" if source.is_file() else None
        runs: dict[str, Run] = {
            OURS: partial(our_ingest, series, labels=source, label_map=label_map),
            f"dcm2niix -z i ({Z6}) + nibabel ({Z1})": then_nibabel(
                with_dcm2niix(series, "-z", "i"), source
            ),
            f"dicom2nifti ({Z1}) + nibabel ({Z1})": then_nibabel(with_dicom2nifti(series), source),
        }
        timings = in_turns(runs, work, repeat)
        for name in [*runs][1:]:
            require_equal(timings[OURS].folder, timings[name].folder, names)
        aims = dict.fromkeys([*runs][1:], 8.0)
        show(f"(c) with 28 masks and the combined map, from {what}", timings, aims)
        worst = max(timings[OURS].folder.rglob("*.nii.gz"), key=over_gzip)
        print(f"  largest beside zlib 6: {worst.name}, {over_gzip(worst):.3f}")


def over_gzip(path: Path) -> float:
    return path.stat().st_size / len(zlib.compress(voxels_of(path), 6))


def whole_case(series: Path, labels: Path, work: Path) -> None:
    out = work / "whole_case"
    cpu, peak, wall = whole_command(
        COMMAND, "ingest", series, "--labels", labels, "--out", out, "--workers", "0"
    )
    volume = read_volume(next(out.rglob(CT)))
    print(f"\n(d) whole command, {volume.array.shape} with {len(STRUCTURES)} masks")
    print(f"  {cpu:.2f} CPU-s (aim 15 at 512 x 512 x 300), {wall:.2f} s")
    print(f"  peak {peak:.0f} MB, {peak * 1e6 / volume.array.nbytes:.2f} x the volume (aim 4)")
    shutil.rmtree(out)


def whole_commands(series: Path, copies: int, work: Path) -> None:
    source = work / "copies"
    for n in range(copies):
        copy_series(series, source / f"series_{n:02}", n)
    script = (
        f"{peers.DCM2NIIX} -z {{z}} -b n -f %f -o {work / 'raw'} {source}",
        f"{sys.executable} {Path(peers.__file__)} {work / 'raw'} {work / 'std'}",
    )
    ours = (COMMAND, "ingest", source, "--out", work / "ours", "--workers")
    commands: dict[str, Sequence[str | Path]] = {
        OURS + ", 1 worker": (*ours, "1"),
        OURS + ", 2 workers": (*ours, "2"),
        f"dcm2niix -z i ({Z6})": ("sh", "-c", script[0].format(z="i")),
        f"dcm2niix -z i ({Z6}) + nibabel ({Z1})": (
            "sh",
            "-c",
            " && ".join(script).format(z="i"),
        ),
        f"dcm2niix -z n + nibabel ({Z1})": ("sh", "-c", " && ".join(script).format(z="n")),
    }
    print(f"\n(e) whole commands, {copies} series")
    first = None
    for name, command in commands.items():
        for made in ("raw", "std", "ours", "ours.key"):
            shutil.rmtree(work / made, ignore_errors=True)
            (work / made).unlink(missing_ok=True)
        for folder in ("raw", "std"):
            (work / folder).mkdir()
        cpu, _, wall = whole_command(*command)
        first = first or cpu
        cases = len([*work.joinpath("ours").rglob(CT)])
        if cases not in (0, copies):
            sys.exit(f"{cases} of {copies} series became cases")
        print(f"  {name:<50}{cpu:8.2f} s  {wall:8.2f} s of time  {cpu / first:6.2f} x", flush=True)


def copy_series(series: Path, out: Path, number: int) -> None:
    """The same slices as another patient's."""
    import pydicom
    from pydicom.uid import generate_uid

    out.mkdir(parents=True)
    study, own, frame = (generate_uid(entropy_srcs=[f"{number}", w]) for w in ("t", "s", "f"))
    for n, path in enumerate(sorted(p for p in series.rglob("*") if p.is_file())):
        slice_ = pydicom.dcmread(path, force=True)
        slice_.PatientID, slice_.PatientName = f"BENCH{number:04}", f"Bench^Patient{number:04}"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, own
        slice_.FrameOfReferenceUID = frame
        slice_.SOPInstanceUID = generate_uid(entropy_srcs=[f"{number}", f"{n}"])
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.save_as(out / f"{n:04}.dcm")


def where_time_goes(series: Path, work: Path, repeat: int) -> None:
    """The steps of a CT alone, and reading and compressing as the floor."""
    files = [p for p in series.rglob("*") if p.is_file()]
    slices = slices_of(series)
    with Reader() as reader:
        kept = read_series(slices, reader)[0]
    identifiers = merged(part for header in slices for part in header.identifiers)
    write_volume(work / "kept.nii.gz", kept)

    def floor(out: Path) -> None:
        for path in files:
            path.read_bytes()
        write_volume(out / CT, kept)

    def pixels(out: Path) -> None:
        with Reader() as reader:
            for _ in series_in_hu(slices, reader).slabs:
                pass

    def scan(out: Path) -> None:
        leaks = LeakScan(identifiers)
        voxels = leaks.voxels()
        for slab in slabs_of(kept.array):
            voxels.add(slab)
        leaks.file(work / "kept.nii.gz", voxels)

    runs: dict[str, Run] = {
        "reading + compressing alone": floor,
        "whole case": partial(our_ingest, series),
        "compressing and writing": lambda out: write_volume(out / CT, kept),
        "headers": lambda out: slices_of(series),
        "pixels: read, decode, HU": pixels,
        "scan": scan,
        "hash of inputs": lambda out: [content_hash(path) for path in files],
    }
    timings = in_turns(runs, work, repeat)
    print("\n(f) where the time goes, CT only")
    floor_cpu, whole, *steps = (timing.cpu for timing in timings.values())
    for name, timing in timings.items():
        print(f"  {name:<50}{timing.cpu:8.3f} s  {timing.cpu / floor_cpu:6.2f} x the floor")
    rest = whole - sum(steps)
    print(f"  {'the rest: pseudonyms, records, tables, matching':<50}{rest:8.3f} s")


# Input


def made_labels(image: Path, out: Path) -> dict[str, Path]:
    """28 ellipsoids on the grid of an image, some inside others, as a map and as masks."""
    nifti = nib.load(image)
    shape = np.array(nifti.shape)
    rng = np.random.default_rng(0)
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    combined = np.zeros(shape, np.uint8)
    masks = {}
    for structure in PAINT_ORDER:
        radius = shape * rng.uniform(0.03, 0.12, 3)
        centre = shape * rng.uniform(0.25, 0.75, 3)
        if "pancrea" in structure:
            centre = shape * rng.uniform(0.45, 0.55, 3)
        apart = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True))
        masks[structure] = apart < 1
    for member in STRUCTURES["pancreas"].members:
        masks["pancreas"] |= masks[member]
    for structure in PAINT_ORDER:
        combined[masks[structure]] = PANTS.id_of(structure)
    return saved_labels(masks, combined, nifti.affine, out)


def saved_labels(masks: Any, combined: Any, affine: Any, out: Path) -> dict[str, Path]:
    folder = out / "masks"
    folder.mkdir(parents=True)
    for structure, mask in masks.items():
        image = nib.Nifti1Image(np.asarray(mask, np.uint8), affine)
        nib.save(image, folder / f"{structure}.nii.gz")
    nib.save(nib.Nifti1Image(combined, affine), out / "map.nii.gz")
    return {"a label map": out / "map.nii.gz", "28 masks": folder}


def phantom(work: Path) -> tuple[Path, dict[str, Path]]:
    plan = CohortPlan(cases=1, seed=3, size="full", tumor_rate=1.0)
    make_cohort(plan, work / "phantom", dicom=work / "delivered", refine=0, workers=0)
    manifest = json.loads((work / "delivered" / "manifest.json").read_text())
    labels = next((work / "phantom").glob("LabelT*/*"))
    return work / "delivered" / manifest["series"][0]["series_folder"], {
        "a label map": labels / COMBINED,
        "28 masks": labels / "segmentations",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", type=Path, nargs="?")
    parser.add_argument("--phantom", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--parts", default="abcdef")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    if not options.phantom and options.series is None:
        parser.error("give a folder with a CT series, or --phantom")
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        if options.phantom:
            series, labels = phantom(work)
        else:
            series = options.series
            our_conversion(series, work)
            labels = made_labels(work / CT, work / "labels")
        parts: dict[str, Callable[[], None]] = {
            "a": partial(ct_only, series, work, options.repeat),
            "b": partial(conversion, series, work, options.repeat),
            "c": partial(labelled, series, labels, work, options.repeat),
            "d": partial(whole_case, series, labels["28 masks"], work),
            "e": partial(whole_commands, series, options.copies, work),
            "f": partial(where_time_goes, series, work, options.repeat),
        }
        for part in options.parts:
            parts[part]()


if __name__ == "__main__":
    main()
