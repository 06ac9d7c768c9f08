"""What a check has to say: one finding a fault, with where to look and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

Voxel = tuple[int, int, int]


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"  # wrong: training or scoring on it gives a wrong number
    WARNING = "warning"  # implausible: look at it
    INFO = "info"  # worth knowing


@dataclass(frozen=True)
class Fault:
    """What a rule yields; the rule's name and the case are added by whoever runs it.

    Attributes:
        message: what was found, what was expected; likely cause or what to do.
        structure: the structure concerned, or "".
        value: the number that broke the rule, in the unit that the message names, or None.
        at: voxel to look at, as (i, j, k) index of the array in the file, or None.
        severity: where it differs from the rule's own.
        case_id: of a rule over a dataset: the case concerned.
    """

    message: str
    structure: str = ""
    value: float | None = None
    at: Voxel | None = None
    severity: Severity | None = None
    case_id: str = ""


@dataclass(frozen=True)
class Finding:
    """One fault of one case.

    Attributes:
        case_id: the case; "" for the dataset as a whole.
        rule: short name of the rule, stable over versions.
        severity: error, warning or info.
        message: what was found, what was expected.
        structure: the structure concerned, or "".
        value: the number that broke the rule, in the unit that the message names, or None.
        voxel: `"i j k"`, index of the voxel to look at in the array of the file, counted from 0,
            or "".
        accepted: why a person accepted it (from the baseline), or "".
    """

    case_id: str
    rule: str
    severity: Severity
    message: str
    structure: str = ""
    value: float | None = None
    voxel: str = ""
    accepted: str = ""

    def row(self) -> dict[str, Any]:
        """As a table row."""
        return asdict(self) | {"severity": str(self.severity)}

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Finding:
        """From a table row."""
        return cls(**row | {"severity": Severity(row["severity"])})

    @property
    def at(self) -> Voxel | None:
        """The voxel to look at, as numbers."""
        if not self.voxel:
            return None
        i, j, k = (int(n) for n in self.voxel.split())
        return i, j, k


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Sorted by severity, then by case, rule and structure."""
    order = list(Severity)
    return sorted(
        findings, key=lambda f: (order.index(f.severity), f.case_id, f.rule, f.structure, f.message)
    )
