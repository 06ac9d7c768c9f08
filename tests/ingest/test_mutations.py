"""Thousands of damaged and forged series: each ends in a record, and no wrong volume comes out.

Every mutant is a series of a few small slices in a folder of its own, and many are given to one
run of the command, as a curator would give a damaged disc. What is written is compared with a
decode of the mutated files by pydicom (`dicom_truth`): whatever was accepted must hold every
slice that lies in the folder, and nothing else.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # as its makers call it
from dicom_mutants import BYTES, ELEMENTS, Files, zipped
from dicom_seeds import Seed, made_seeds, real_seeds
from dicom_truth import Slice, difference, slices_of
from ingest_runs import Case, Report, run_measured

MEMORY_MIB = 1200  # of the run and of each of its processes
SECONDS_A_CASE = 20.0


@dataclass(frozen=True)
class Mutant:
    """One series and what was done to it.

    Attributes:
        name: of its folder or archive.
        what: the seed and the mutation.
        files: what its folder holds.
        beside: those of the files that are no CT, whatever they have become.
        archive: holds the files instead of a folder.
    """

    name: str
    what: str
    files: Files
    beside: frozenset[bytes] = frozenset()
    archive: bytes | None = None

    def write(self, root: Path) -> None:
        if self.archive is not None:
            (root / f"{self.name}.zip").write_bytes(self.archive)
            return
        (root / self.name).mkdir()
        for number, raw in enumerate(self.files):
            (root / self.name / f"{number}").write_bytes(raw)


def mutants(count: int, data: Path | None, seed: int) -> Iterator[Mutant]:
    """As many mutants as asked for; the same for the same seed."""
    seeds = made_seeds() | (real_seeds(data) if data else {})
    names = list(seeds)
    changes = BYTES | ELEMENTS
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name = names[int(rng.integers(len(names)))]
        files: Seed = seeds[name](f"1.2.826.0.1.3680043.10.{seed}.{number + 1}")
        label = f"m{number:05d}"
        kind = rng.random()
        if kind < 0.04:
            yield Mutant(label, f"{name}: untouched", files, beside(name, files))
            continue
        if kind < 0.12:
            packed = zipped(files, rng)
            what = f"{name}: in a damaged archive"
            yield Mutant(label, what, files, beside(name, files), packed)
            continue
        change = list(changes)[int(rng.integers(len(changes)))]
        try:
            changed = changes[change](files, rng)
        except ValueError:  # elements of a syntax that is not taken apart
            change = list(BYTES)[int(rng.integers(len(BYTES)))]
            changed = BYTES[change](files, rng)
        others = beside(name, files) | (
            beside(name, changed) if len(changed) == len(files) else set()
        )
        yield Mutant(label, f"{name}: {change}", changed, others)


def beside(seed: str, files: Files) -> frozenset[bytes]:
    """What lies beside the CT in a seed: a structure set, a segmentation."""
    return frozenset(
        files[{"rtstruct": 2, "seg": 1}[seed] :] if seed in ("rtstruct", "seg") else ()
    )


def fault(mutant: Mutant, cases: tuple[Case, ...], report: Report) -> str:
    """What is wrong with the outcome of one mutant; empty when it is right."""
    if not cases and len(set(mutant.files)) > 1:
        return "no record"
    for case in cases:
        if re.match(r"\w+ while the case was made", case.reason) or "Traceback" in case.reason:
            return f"an error that nobody meant: {case.reason}"
        seconds = float(str(report.record(case)["seconds"]))
        if seconds > SECONDS_A_CASE:
            return f"took {seconds:.0f} s"
    done = [case for case in cases if case.status == "done"]
    if not done:
        return f"refused: {cases[0].reason}" if "untouched" in mutant.what and usual(mutant) else ""
    try:
        files = map(with_preamble, set(mutant.files) - mutant.beside)
        truth = distinct(slices_of(map(io.BytesIO, files)))
    except Exception as error:  # whatever pydicom says of a damaged file
        return f"accepted, but pydicom says {type(error).__name__}: {error}"
    differences = [difference(report.ct(case), truth) for case in done]
    return "; ".join(d for d in differences if d)


def with_preamble(raw: bytes) -> bytes:
    """A file that begins with DICOM's mark, as pydicom reads it."""
    return bytes(128) + raw if raw.startswith(b"DICM") else raw


def usual(mutant: Mutant) -> bool:
    """Whether the seed, left alone, is a CT that must be taken."""
    seed = mutant.what.split(":")[0]
    return seed not in ("siemens-tilt", "seg", "real-enhanced")


def distinct(slices: list[Slice]) -> list[Slice]:
    """Slices that are equal in place and pixels are one."""
    kept: dict[tuple[bytes, ...], Slice] = {}
    for one in slices:
        key = (one.hu.tobytes(), one.origin.tobytes(), one.down.tobytes(), one.across.tobytes())
        kept.setdefault(key, one)
    return list(kept.values())


def examine(made: list[Mutant], root: Path, seconds: float) -> tuple[dict[str, str], Counter[str]]:
    """Ingest all mutants in one run.

    Returns:
        The faults by mutant, and how many mutants had a case of each status.
    """
    source = root / "in"
    source.mkdir()
    for mutant in made:
        mutant.write(source)
    report, memory = run_measured(source, root / "dataset", seconds=seconds)
    report.check()
    assert memory < MEMORY_MIB
    by_name: dict[str, list[Case]] = {}
    for case in report.cases:
        (name,) = re.findall(r"/(m\d{5})", case.source)
        by_name.setdefault(name, []).append(case)
    faults, statuses = {}, Counter[str]()
    for mutant in made:
        cases = tuple(by_name.get(mutant.name, ()))
        statuses.update({case.status for case in cases} or {"no DICOM"})
        if found := fault(mutant, cases, report):
            faults[f"{mutant.name} {mutant.what}"] = found
    return faults, statuses


@pytest.fixture(scope="module")
def real_data(pytestconfig: pytest.Config) -> Path | None:
    """The real series to mutate; without them the made ones alone."""
    data = pytestconfig.rootpath.parent / "shared" / "data"
    return data if data.is_dir() else None


def test_hundreds_of_mutants_end_in_a_record_or_in_their_own_voxels(tmp_path, real_data):
    faults, statuses = examine(list(mutants(160, real_data, seed=1)), tmp_path, 120)
    assert faults == {}
    # Not everything is refused: harmless damage leaves the voxels as they are.
    assert statuses["done"] > 30
    assert statuses["failed"] > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
def test_thousands_of_mutants_end_in_a_record_or_in_their_own_voxels(tmp_path, real_data, seed):
    faults, statuses = examine(list(mutants(500, real_data, seed)), tmp_path, 600)
    assert faults == {}
    assert statuses["done"] > 100


def volume_seeds(folder: Path) -> dict[str, bytes]:
    """An oblique volume in each form of file that is read, by suffix."""
    folder.mkdir()
    array = np.random.default_rng(5).integers(-1000, 1000, (14, 12, 9)).astype(np.int16)
    angle = np.radians(8)
    turned = np.eye(3)
    turned[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-100.0, -90.0, 40.0))
    image.SetDirection(turned.ravel().tolist())
    seeds = {}
    for suffix, packed in ((".nii", False), (".nii.gz", True), (".nrrd", False), (".nrrd", True)):
        path = folder / f"x{suffix}"
        sitk.WriteImage(image, str(path), useCompression=packed)
        seeds[f"{int(packed)}{suffix}"] = path.read_bytes()
    return seeds


def volume_slices(path: Path) -> list[Slice]:
    """The slices of a volume file by nibabel, or by SimpleITK where it is NRRD."""
    if path.suffix == ".nrrd":
        image = sitk.ReadImage(str(path))
        voxels = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
        to_ras = np.diag([-1.0, -1.0, 1.0])
        axes = to_ras @ np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        origin = to_ras @ np.array(image.GetOrigin())
    else:
        nifti = nib.load(path)
        voxels = np.asarray(nifti.dataobj)
        axes, origin = nifti.affine[:3, :3], nifti.affine[:3, 3]
    no_padding = np.zeros(voxels.shape[:2], bool)
    return [
        Slice(
            voxels[:, :, k].astype(np.float64),
            no_padding,
            origin + k * axes[:, 2],
            axes[:, 0],
            axes[:, 1],
        )
        for k in range(voxels.shape[2])
    ]


def examine_volumes(count: int, root: Path, seed: int) -> tuple[dict[str, str], Counter[str]]:
    """The same of volume files."""
    seeds = volume_seeds(root / "seeds")
    source = root / "in"
    source.mkdir()
    changes = {n: c for n, c in BYTES.items() if not n.startswith("file ")}
    what = {}
    written: set[bytes] = set()
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name = list(seeds)[int(rng.integers(len(seeds)))]
        change = list(changes)[int(rng.integers(len(changes)))]
        (raw,) = changes[change]([seeds[name]], rng)
        if raw in written:
            continue  # what has the content of another source is left
        written.add(raw)
        path = source / f"m{number:05d}{name[1:]}"
        path.write_bytes(raw)
        what[path.name] = (path, f"{name}: {change}")
    report, memory = run_measured(source, root / "dataset", seconds=300)
    report.check()
    assert memory < MEMORY_MIB
    faults, statuses = {}, Counter[str]()
    for name, (path, change) in what.items():
        cases = report.of(f"/{name}")
        statuses.update(case.status for case in cases)
        if len(cases) != 1:
            faults[f"{name} {change}"] = f"{len(cases)} records"
            continue
        if cases[0].status != "done":
            continue
        try:
            found = difference(report.ct(cases[0]), volume_slices(path))
        except Exception:  # stricter about a word that says nothing of voxels or places
            found = difference(
                report.ct(cases[0]), volume_slices(root / "seeds" / f"x{path.name[6:]}")
            )
        if found:
            faults[f"{name} {change}"] = found
    return faults, statuses


def test_mutated_volume_files_end_in_a_record_or_in_their_own_voxels(tmp_path):
    faults, statuses = examine_volumes(60, tmp_path, seed=1)
    assert faults == {}
    assert statuses["failed"] > 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hundreds_of_mutated_volume_files_end_in_a_record_or_in_their_own_voxels(tmp_path):
    faults, _ = examine_volumes(500, tmp_path, seed=2)
    assert faults == {}
