"""Findings that say the same of several structures, in one line for people.

Tables keep a finding a structure: a baseline accepts, filters choose and pictures show by it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pantskit.check.findings import Finding


@dataclass(frozen=True)
class Line:
    """What is told in one line.

    Attributes:
        findings: one, or several that differ in the structure alone.
    """

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The finding that stands for all."""
        return self.findings[0]

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures concerned; () where there is none."""
        return tuple(f.structure for f in self.findings if f.structure)

    def message(self, *, named: int | None = None) -> str:
        """The message with the names of all structures, and without the case's.

        Args:
            named: how many are named at most, the others are counted; None: all.
        """
        text = self.first.message.removeprefix(f"{self.first.case_id}: ")
        if len(self.findings) == 1:
            return text
        names = list(self.structures[:named])
        more = len(self.findings) - len(names)
        last = f"{more} more" if more else names.pop()
        listed = f"{', '.join(names)} and {last}"
        return _name(self.first.structure).sub(lambda _: listed, text)


def in_lines(findings: Iterable[Finding]) -> list[Line]:
    """One line for findings that differ in nothing but the structure that they name.

    Those that say where to look, or name the structure more than once, stay by themselves.

    Returns:
        Lines in the order of their first findings.
    """
    lines: dict[Finding | tuple[int, Finding], list[Finding]] = defaultdict(list)
    for number, finding in enumerate(findings):
        text, times = _name(finding.structure).subn("", finding.message)
        alone = not finding.structure or finding.voxel or times != 1
        key = (number, finding) if alone else replace(finding, structure="", message=text)
        lines[key].append(finding)
    return [Line(tuple(some)) for some in lines.values()]


def _name(structure: str) -> re.Pattern[str]:
    """A structure's name as a word of its own, not in the name of a file."""
    return re.compile(rf"(?<![\w/.-]){re.escape(structure)}(?![\w/.-])")
