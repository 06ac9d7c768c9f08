"""Scans that are in datasets more than once, though resampled, mirrored, cropped or clipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.files import atomic_path
from pantskit.core.records import RecordStore, write_table
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import read_header, read_volume
from pantskit.measure.fingerprint import Fingerprint, Likeness, fingerprint
from pantskit.measure.fingerprint_search import find_alike

STAGE = "fingerprint"
_FOLDER = "fingerprints"
TABLE = "duplicates"

# By benchmarks/identity.py: see there what copies, other phases and other patients come to.
SAME_PLACES, SAME_BODY = 12, 0.13
# A copy keeps more of its places and their HU: share less the difference over so many HU.
SAME_SCAN, _HU_A_SHARE = 0.4, 33.0
# Raised when fingerprints change.
_RECIPE = 2

_BASE_MB, _BYTES_A_VOXEL = 300.0, 8


@dataclass(frozen=True)
class Duplicate:
    """Two cases that show one scan, or one patient.

    Attributes:
        first, second: `<dataset>/<case_id>`.
        kind: `"same scan"`, or `"same patient"`: the same body with other HU, as in another phase.
        places: how many places agree.
        similarity: as a share of the places that both could have.
        difference: HU by which the most different tenth of them differs, or more.
        mirrored: axes of the arrays that are mirrored, as `"ik"`.
        first_split, second_split: where they are.
    """

    first: str
    second: str
    kind: str
    places: int
    similarity: float
    difference: float
    mirrored: str
    first_split: str
    second_split: str

    @property
    def on_two_sides(self) -> bool:
        """Whether a model could be trained on one and tested on the other."""
        return self.first_split != self.second_split


@dataclass(frozen=True)
class DuplicateSummary:
    """What was found.

    Attributes:
        run: the records of the fingerprints.
        pairs: most places first.
    """

    run: RunSummary
    pairs: tuple[Duplicate, ...]

    @property
    def exit_status(self) -> int:
        """0 when every scan was read and no pair is on two sides of a split; else 1."""
        return 1 if any(pair.on_two_sides for pair in self.pairs) else self.run.exit_status


def find_duplicates(
    datasets: Sequence[Dataset],
    out: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> DuplicateSummary:
    """Find scans that are there more than once.

    Args:
        datasets: ours or the public release; they are only read.
        out: folder for the fingerprints, of which a rerun makes only those that are missing, and
            for duplicates.csv and .parquet.
        workers: processes; 0: this one.
        progress: called after each case.

    Raises:
        ConfigError, DatasetError: If two datasets have one name, or there is no CT.
    """
    names = [dataset.root.absolute().name for dataset in datasets]
    if len(set(names)) < len(names):
        raise ConfigError(f"datasets of one name: {', '.join(names)}; rename a folder")
    cases = {
        f"{name}__{case.case_id}": (f"{name}/{case.case_id}", case)
        for name, dataset in zip(names, datasets, strict=True)
        for case in dataset.cases()
        if case.image_path.is_file()
    }
    if not cases:
        raise DatasetError(f"{', '.join(names)}: no CT to compare")
    run = run_cases(
        _make,
        [_job(key, case, out) for key, (_, case) in cases.items()],
        stage=STAGE,
        store=RecordStore(out),
        settings={"recipe": _RECIPE},
        workers=workers,
        progress=progress,
    )
    done = [r.case_id for r in run.records if r.status == "done"]
    prints = [_read(out, key) for key in done]
    found = find_alike(prints, fewest_places=SAME_PLACES)
    pairs = tuple(
        _pair(cases[done[a]], cases[done[b]], likeness)
        for a, b, likeness in found
        if kind_of(likeness)
    )
    rows = [{**asdict(pair), "on_two_sides": pair.on_two_sides} for pair in pairs]
    columns = [*Duplicate.__dataclass_fields__, "on_two_sides"]
    write_table(out / TABLE, rows, columns=columns)
    return DuplicateSummary(run, pairs)


def _job(key: str, case: Case, out: Path) -> Job:
    try:
        voxels = float(np.prod(read_header(case.image_path).shape))
    except Exception:  # whatever it is, its own case says so
        voxels = 0.0
    memory = _BASE_MB + voxels * _BYTES_A_VOXEL / 2**20
    return Job(key, (case, out), (case.image_path,), (_path(out, key),), None, memory)


def _path(out: Path, key: str) -> Path:
    return out / _FOLDER / f"{key}.npz"


def _make(job: Job) -> dict[str, Any]:
    case, out = job.payload
    scan = read_volume(case.image_path).reoriented()
    made = fingerprint(scan.array, scan.geometry.spacing)
    with atomic_path(_path(out, job.case_id)) as part, part.open("wb") as file:
        np.savez(file, places=made.places, descriptions=made.descriptions, extent=made.extent)
    return {"places": len(made.places)}


def _read(out: Path, key: str) -> Fingerprint:
    with np.load(_path(out, key), allow_pickle=False) as held:
        return Fingerprint(held["places"], held["descriptions"], held["extent"])


def kind_of(likeness: Likeness) -> str:
    """What a pair is: `"same scan"`, `"same patient"` or `""`, two patients."""
    if likeness.places < SAME_PLACES or likeness.alike < SAME_BODY:
        return ""
    near = likeness.share - likeness.difference / _HU_A_SHARE >= SAME_SCAN
    return "same scan" if near else "same patient"


def _pair(a: tuple[str, Case], b: tuple[str, Case], likeness: Likeness) -> Duplicate:
    kind = kind_of(likeness)
    return Duplicate(
        a[0],
        b[0],
        kind,
        likeness.places,
        round(likeness.share, 3),
        round(likeness.difference, 2),
        "".join("ijk"[axis] for axis in likeness.mirrored),
        a[1].split,
        b[1].split,
    )
