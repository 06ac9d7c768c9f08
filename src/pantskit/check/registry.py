"""Rules: what one is, how a function becomes one, and where they are found."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from pantskit.check.findings import Fault, Finding, Severity
from pantskit.core.errors import ConfigError

Limits = Mapping[str, float]
Find = Callable[[Any, Limits], Iterator[Fault]]

_GROUPS = (
    "files", "image", "combined", "metadata", "labels", "shape", "cut", "organs", "pancreas",
    "duct", "vessels", "pelvis", "content", "kidneys", "bone", "scale",
    "cohort",
)  # fmt: skip


class Scope(StrEnum):
    """What a rule looks at, and so what its function is given."""

    FILES = "files"  # `read.CaseFiles`: files, headers, metadata row of one case
    LABELS = "labels"  # `scan.Scan`: masks of one case, and its CT where there is one
    ANATOMY = "anatomy"  # the same
    CONTENT = "content"  # the same
    DATASET = "dataset"  # `cohort.Cohort`: what was measured of all cases


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: short and stable, as in tables and settings.
        severity: of its faults, where they do not say otherwise.
        scope: what it looks at.
        find: the function: given the view of its scope and the limits, yields faults. It never
            raises for bad content.
        reason: why it matters, for the reader of a finding.
        standard: the sentence of the annotation standard that it serves, in our words, or "".
        limits: its numbers by name, which settings may change.
    """

    name: str
    severity: Severity
    scope: Scope
    find: Find
    reason: str
    standard: str = ""
    limits: Limits = field(default_factory=dict)

    def __call__(self, view: Any, **limits: float) -> Iterator[Fault]:
        """The faults it finds in a view, with some limits changed."""
        return self.find(view, dict(self.limits) | limits)

    def findings(
        self,
        case_id: str,
        view: Any,
        *,
        limits: Limits = MappingProxyType({}),
        severity: Severity | None = None,
    ) -> Iterator[Finding]:
        """The same as findings.

        Args:
            case_id: of the case, where the faults do not name one.
            view: what the rule looks at.
            limits: those that differ from the rule's.
            severity: of all faults, in place of their own.
        """
        for fault in self(view, **limits):
            yield Finding(
                fault.case_id or case_id,
                self.name,
                severity or fault.severity or self.severity,
                fault.message,
                fault.structure,
                None if fault.value is None else float(fault.value),
                "" if fault.at is None else " ".join(str(int(n)) for n in fault.at),
            )

    def explain(self) -> str:
        """All there is to say about it, for a terminal."""
        lines = [f"{self.name} ({self.severity}, {self.scope})", "", self.reason]
        if self.standard:
            lines += ["", f"Standard: {self.standard}"]
        if self.limits:
            lines += ["", "Limits (change them in the settings):"]
            lines += [f"  {name} = {value:g}" for name, value in self.limits.items()]
        return "\n".join(lines)


def rule(
    name: str,
    severity: Severity,
    scope: Scope,
    *,
    reason: str,
    standard: str = "",
    **limits: float,
) -> Callable[[Find], Rule]:
    """Make a rule of a function; see `Rule` for the arguments.

    Raises:
        ConfigError: If the name is not of small letters, digits and hyphens; files are named by it.

    Example:
        @rule("liver-cold", Severity.WARNING, Scope.CONTENT, reason="...", least_hu=0.0)
        def liver_cold(scan, limits): ...
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ConfigError(f"rule {name!r}: a name has small letters, digits and hyphens")

    def made(find: Find) -> Rule:
        return Rule(name, severity, scope, find, reason, standard, MappingProxyType(limits))

    return made


@cache
def built_in_rules() -> tuple[Rule, ...]:
    """The rules of this package, in the order in which they are applied."""
    modules = (importlib.import_module(f"pantskit.check.rules.{name}") for name in _GROUPS)
    return tuple({id(r): r for module in modules for r in _rules_of(module)}.values())


@cache
def _rules_from(path: Path) -> tuple[Rule, ...]:
    spec = importlib.util.spec_from_file_location(f"pantskit_own_rules_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file with rules")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        text = f"{path}: rules cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError(text) from None
    found = tuple(_rules_of(module))
    if not found:
        raise ConfigError(f"{path}: has no rule; put @rule(...) before a function")
    return found


def collect_rules(own: Iterable[Path] = ()) -> tuple[Rule, ...]:
    """The rules of this package and those of a user's files.

    Raises:
        ConfigError: If a file cannot be loaded, has no rule, or a name is there twice.
    """
    files = dict.fromkeys(Path(path).resolve() for path in own)
    # A rule that one file imports from another is the same rule.
    each = (*built_in_rules(), *(r for path in files for r in _rules_from(path)))
    rules = list({id(r): r for r in each}.values())
    names = [r.name for r in rules]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"two rules are called {', '.join(twice)}; give yours another name")
    return tuple(rules)


def require_rules(names: Iterable[str], rules: Iterable[Rule], *, where: str) -> None:
    """Refuse the name of a rule that does not exist.

    Raises:
        ConfigError: If there is one; the nearest names are told.
    """
    from difflib import get_close_matches

    known = [r.name for r in rules]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ConfigError(f"{where}: no rule {name!r}{hint} (`pantskit check --rules`)")


def _rules_of(module: ModuleType) -> Iterator[Rule]:
    for value in vars(module).values():
        if isinstance(value, Rule):
            yield value
