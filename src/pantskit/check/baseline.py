"""Findings that a person has looked at and accepted, with the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pantskit.check.findings import Finding
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.records import read_table

COLUMNS = ("case_id", "rule", "structure", "reason")


@dataclass(frozen=True)
class Accepted:
    """One line of a baseline.

    Attributes:
        case_id: the case; `*` for all, "" for findings of the dataset as a whole.
        rule: the rule.
        structure: the structure; `*` for all, "" for findings of none.
        reason: why.
    """

    case_id: str
    rule: str
    structure: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether a finding is accepted by this line."""
        return (
            self.rule == finding.rule
            and self.case_id in ("*", finding.case_id)
            and self.structure in ("*", finding.structure)
        )


def read_baseline(path: Path) -> tuple[Accepted, ...]:
    """Read a CSV with the columns case_id, rule, structure and reason.

    A findings.csv cut down to the accepted lines, with a column `reason`, is one.

    Raises:
        ConfigError: If it cannot be read, lacks a column, or a line has no rule or reason.
    """
    try:
        rows = read_table(path)
    except DatasetError as error:
        raise ConfigError(f"baseline {error}") from None
    lines = []
    for number, row in enumerate(rows, 2):
        values = {name: str(row.get(name) or "").strip() for name in COLUMNS}
        missing = sorted(set(COLUMNS) - set(row))
        if missing:
            raise ConfigError(f"baseline {path}: no column {missing[0]}; has {', '.join(row)}")
        for name in ("rule", "reason"):
            if not values[name]:
                raise ConfigError(f"baseline {path}: line {number} has no {name}")
        lines.append(Accepted(**values))
    return tuple(lines)


def mark_accepted(
    findings: Iterable[Finding],
    baseline: Iterable[Accepted],
    *,
    checked: Container[str] | None = None,
) -> tuple[list[Finding], list[Accepted]]:
    """Note the reason at each accepted finding.

    Args:
        findings: of a check.
        baseline: lines of it.
        checked: cases that were checked, where those are not all.

    Returns:
        All findings, and the lines of the baseline that no finding needs any more. Of cases that
        were not checked nobody knows.
    """
    lines, used, marked = list(baseline), set(), []
    by_rule: dict[str, list[Accepted]] = defaultdict(list)
    for one in lines:
        by_rule[one.rule].append(one)
    for finding in findings:
        line = next((one for one in by_rule[finding.rule] if one.covers(finding)), None)
        if line is not None:
            used.add(line)
            finding = replace(finding, accepted=line.reason)
        marked.append(finding)
    unused = [one for one in lines if one not in used]
    return marked, [one for one in unused if checked is None or one.case_id in checked]
