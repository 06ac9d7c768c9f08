"""Settings of a check: which rules, how much they matter, their limits and ranges."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from pantskit import __version__
from pantskit.check.findings import Severity
from pantskit.check.ranges import BUILT_IN, Ranges, read_ranges
from pantskit.check.registry import Limits, Rule, collect_rules, require_rules
from pantskit.core.errors import ConfigError
from pantskit.core.files import content_hash

_KEYS = ("off", "rules_from", "ranges", "severity", "limits")


@dataclass(frozen=True)
class CheckSettings:
    """What a check is asked for; read from TOML.

    Attributes:
        off: names of rules that are not applied.
        rules_from: Python files with rules of the user's own.
        ranges: CSV of plausible volumes and HU, see `ranges.read_ranges`; None: ours.
        severity: rule to severity, in place of its own.
        limits: rule to those of its limits that differ.
    """

    off: tuple[str, ...] = ()
    rules_from: tuple[Path, ...] = ()
    ranges: Path | None = None
    severity: Mapping[str, Severity] = field(default_factory=dict)
    limits: Mapping[str, Limits] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> CheckSettings:
        """Read a TOML file; paths in it are relative to it.

        Raises:
            ConfigError: If it cannot be read, or holds what is no setting.
        """
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: settings cannot be read: {error}") from None
        unknown = sorted(set(values) - set(_KEYS))
        if unknown:
            raise ConfigError(f"{path}: no setting {unknown[0]!r}; there are {', '.join(_KEYS)}")
        try:
            return cls(
                off=_texts(values, "off"),
                rules_from=tuple(path.parent / name for name in _texts(values, "rules_from")),
                ranges=path.parent / _text(values["ranges"]) if "ranges" in values else None,
                severity={r: _severity(r, s) for r, s in _table(values, "severity").items()},
                limits=_limits(_table(values, "limits")),
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: a setting cannot be used: {error}") from None

    def rules(self) -> tuple[Rule, ...]:
        """The rules that are applied.

        Raises:
            ConfigError: If a setting names a rule or limit that does not exist.
        """
        rules = collect_rules(self.rules_from)
        require_rules([*self.off, *self.severity, *self.limits], rules, where="settings")
        for each in rules:
            unknown = sorted(set(self.limits.get(each.name, {})) - set(each.limits))
            if unknown:
                known = ", ".join(each.limits) or "none"
                raise ConfigError(f"settings: {each.name} has no limit {unknown[0]!r} ({known})")
        return tuple(r for r in rules if r.name not in self.off)

    def plausible(self) -> Ranges:
        """The ranges that apply."""
        return BUILT_IN if self.ranges is None else read_ranges(self.ranges)

    def fingerprint(self) -> dict[str, Any]:
        """What decides whether a case has to be checked again."""
        files = [*self.rules_from, *([self.ranges] if self.ranges else [])]
        return {
            "version": __version__,  # rules may differ in another one
            "rules": [r.name for r in self.rules()],
            "off": sorted(self.off),
            "files": [content_hash(path) for path in files],
            "severity": {r: str(s) for r, s in sorted(self.severity.items())},
            "limits": {r: dict(sorted(some.items())) for r, some in sorted(self.limits.items())},
        }


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    some = values.get(key, [])
    if not isinstance(some, list) or not all(isinstance(each, str) for each in some):
        raise TypeError(f"{key} is {some!r}; expected a list of texts")
    return tuple(some)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"ranges is {value!r}; expected the name of a CSV file")
    return value


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    some = values.get(key, {})
    if not isinstance(some, dict):
        raise TypeError(f"{key} is {some!r}; expected a table")
    return some


def _severity(rule: str, value: Any) -> Severity:
    if value not in list(Severity):
        raise ValueError(f"{rule} is {value!r}; expected {', '.join(Severity)}")
    return Severity(value)


def _limits(values: Mapping[str, Any]) -> dict[str, Limits]:
    return {
        rule: {name: _number(f"{rule}.{name}", v) for name, v in _table(values, rule).items()}
        for rule in values
    }


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise TypeError(f"{name} is {value!r}; expected a number")
    return float(value)


DEFAULT = CheckSettings()
