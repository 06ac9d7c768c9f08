"""Sides of a training: folds and subsets, drawn over patients, even in what the cases are like.

Both follow from a seed and the IDs alone, not from the order of the cases. A stratum is a patient's
tumour, phase and site.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import ConfigError
from pantskit.core.labels import LESION
from pantskit.core.labelsets import LABELS_STAGE

UNKNOWN = "unknown"


@dataclass(frozen=True)
class CaseFacts:
    """What decides on which side a case may lie.

    Attributes:
        case_id: the case.
        patient: patient ID; the case's own where nobody knows.
        tumor: `"yes"`, `"no"` or `"unknown"`.
        phase: contrast phase, or `"unknown"`.
        site: where it was scanned, or `"unknown"`.
    """

    case_id: str
    patient: str
    tumor: str = UNKNOWN
    phase: str = UNKNOWN
    site: str = UNKNOWN

    @property
    def stratum(self) -> tuple[str, str, str]:
        """What it shares with cases like it."""
        return self.tumor, self.phase, self.site


def case_facts(dataset: Dataset, cases: Sequence[Case]) -> list[CaseFacts]:
    """Facts from the dataset's table; whether there is a tumour also from the labels' record."""
    return [_facts(dataset, case.case_id, dataset.metadata.get(case.case_id, {})) for case in cases]


def draw_folds(facts: Sequence[CaseFacts], n_folds: int, seed: int) -> dict[str, int]:
    """Deal patients to folds, stratum by stratum.

    The folds' numbers of patients differ by one at most: in all, of either tumour status, of
    either with each phase, and in every stratum.

    Args:
        facts: of all cases.
        n_folds: number of folds.
        seed: of the order within strata.

    Returns:
        case_id to its fold, from 0.

    Raises:
        ConfigError: If there are fewer patients than folds.
    """
    patients = _patients(facts)
    if len(patients) < n_folds:
        raise ConfigError(f"{len(patients)} patients do not make {n_folds} folds")

    def place(patient: str) -> tuple[tuple[str, ...], int, float]:
        scans = patients[patient]
        # Of a stratum those with most scans first: their scans spread, too.
        return _stratum(scans), -len(scans), _rank(seed, "fold", patient)

    ordered = sorted(patients, key=place)
    return {
        scan.case_id: n % n_folds for n, patient in enumerate(ordered) for scan in patients[patient]
    }


def draw_subset(facts: Sequence[CaseFacts], size: int, seed: int) -> tuple[str, ...]:
    """Choose some of the cases, every stratum in its share.

    All sizes are beginnings of one order, so a smaller subset lies inside a larger one. Of the
    patient at the end some scans may be left out, to keep the size.

    Args:
        facts: of all cases.
        size: number of cases.
        seed: of the order.

    Returns:
        Case IDs, sorted.

    Raises:
        ConfigError: If there are fewer cases.
    """
    if not 0 < size <= len(facts):
        raise ConfigError(f"a subset of {size:,} cases cannot be drawn from {len(facts):,}")
    patients = _patients(facts)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for patient, scans in patients.items():
        strata[_stratum(scans)].append(patient)
    place: dict[str, float] = {}
    for stratum, members in strata.items():
        # Evenly over 0 to 1, from a start of the stratum's own: a stratum of one patient is
        # as likely to be early as any other patient.
        total = sum(len(patients[p]) for p in members)
        before = _rank(seed, "start", " ".join(stratum))
        for patient in sorted(members, key=lambda p: _rank(seed, "subset", p)):
            place[patient] = before / total
            before += len(patients[patient])
    ordered = sorted(patients, key=lambda p: (place[p], p))
    cases = [scan.case_id for p in ordered for scan in patients[p]]
    return tuple(sorted(cases[:size]))


def counts_of(facts: Sequence[CaseFacts]) -> dict[str, dict[str, int]]:
    """How many cases have which tumour status, phase and site."""
    return {
        name: dict(sorted(Counter(getattr(f, name) for f in facts).items()))
        for name in ("tumor", "phase", "site")
    }


def _facts(dataset: Dataset, case_id: str, row: Mapping[str, Any]) -> CaseFacts:
    return CaseFacts(
        case_id,
        str(row.get("patient_id") or case_id),
        _tumor(dataset, case_id, row),
        str(row.get("phase") or UNKNOWN),
        str(row.get("site") or UNKNOWN),
    )


def _tumor(dataset: Dataset, case_id: str, row: Mapping[str, Any]) -> str:
    number: Any = row.get("lesions")
    if number is None:
        record = dataset.records.read(LABELS_STAGE, case_id)
        number = record.data.get("voxels", {}).get(LESION) if record else None
    try:
        return UNKNOWN if number is None else "yes" if float(number) > 0 else "no"
    except ValueError:
        return UNKNOWN


def _patients(facts: Sequence[CaseFacts]) -> dict[str, list[CaseFacts]]:
    """Patient to scans, both in the order of their IDs."""
    found: dict[str, list[CaseFacts]] = defaultdict(list)
    for one in sorted(facts, key=lambda f: (f.patient, f.case_id)):
        found[one.patient].append(one)
    return found


def _stratum(scans: Sequence[CaseFacts]) -> tuple[str, str, str]:
    """A patient's: the first scan's, with a tumour when any scan has one."""
    tumors = {scan.tumor for scan in scans}
    tumor = next((t for t in ("yes", "no") if t in tumors), UNKNOWN)
    return tumor, scans[0].phase, scans[0].site


def _rank(seed: int, what: str, name: str) -> float:
    """A random number from 0 to 1 that belongs to a name."""
    digest = blake3(f"{seed} {what} {name}".encode()).digest(length=8)
    return int.from_bytes(digest, "little") / 2**64
