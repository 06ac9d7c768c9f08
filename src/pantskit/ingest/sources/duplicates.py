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

# Set by looking at 30 small phantoms and 2 real scans. Copies that were mirrored, resampled,
# cropped, halved or clipped agreed in 45 places and more, with a difference to 5.2 (to 4.0 on the
# real scans); another phase of a patient in 79 and more, 5.1 to 5.7. Phantoms of other patients,
# who are shaped alike, reached 53 places, from 6.0 on; the two real scans agreed in 2 places.
SAME_PLACES = 40
SAME_SCAN, SAME_BODY = 5.0, 5.8

_BASE_MB, _BYTES_A_VOXEL = 300.0, 8


@dataclass(frozen=True)
class Duplicate:
    """Two cases that show one scan, or one patient.

    Attributes:
        first, second: `<dataset>/<case_id>`.
        kind: `"same scan"`, or `"same patient"`: the same body with other HU, as in another phase.
        places: how many places agree.
        similarity: as a share of the places of the scan that has fewer; a crop lowers it.
        difference: of the descriptions of those places.
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
        workers=workers,
        progress=progress,
    )
    done = [r.case_id for r in run.records if r.status == "done"]
    prints = [_read(out, key) for key in done]
    pairs = tuple(
        _pair(cases[done[a]], cases[done[b]], likeness)
        for a, b, likeness in find_alike(prints, fewest_places=SAME_PLACES)
        if likeness.difference <= SAME_BODY
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
        np.savez(file, places=made.places, descriptions=made.descriptions)
    return {"places": len(made.places)}


def _read(out: Path, key: str) -> Fingerprint:
    with np.load(_path(out, key), allow_pickle=False) as held:
        return Fingerprint(held["places"], held["descriptions"])


def _pair(a: tuple[str, Case], b: tuple[str, Case], likeness: Likeness) -> Duplicate:
    kind = "same scan" if likeness.difference <= SAME_SCAN else "same patient"
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
