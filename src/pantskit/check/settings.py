"""Settings of a check: which rules, how much they matter, their limits and ranges."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
                off=tuple(str(n) for n in values.get("off", ())),
                rules_from=tuple(path.parent / str(p) for p in values.get("rules_from", ())),
                ranges=path.parent / str(values["ranges"]) if "ranges" in values else None,
                severity={r: Severity(s) for r, s in dict(values.get("severity", {})).items()},
                limits={
                    r: {n: float(v) for n, v in dict(some).items()}
                    for r, some in dict(values.get("limits", {})).items()
                },
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


DEFAULT = CheckSettings()
