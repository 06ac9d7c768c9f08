"""What a check has to say: one finding a fault, with what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"  # wrong: training or scoring on it gives a wrong number
    WARNING = "warning"  # implausible: look at it
    INFO = "info"  # worth knowing


@dataclass(frozen=True)
class Finding:
    """One fault of one case.

    Attributes:
        case_id: the case.
        rule: short name of the rule, stable over versions.
        severity: error, warning or info.
        message: what was found, what was expected.
        structure: the structure concerned, or "".
        value: the number that broke the rule, in the rule's unit, or None.
    """

    case_id: str
    rule: str
    severity: Severity
    message: str
    structure: str = ""
    value: float | None = None

    def row(self) -> dict[str, Any]:
        """As a table row."""
        return asdict(self) | {"severity": str(self.severity)}
