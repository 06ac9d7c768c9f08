"""Lists of case IDs: which of the cases at hand a run is about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pantskit.core.errors import ConfigError, DatasetError


def read_case_list(path: Path, *, repeats: bool = False) -> tuple[str, ...]:
    """Case IDs from a text file, one a line; empty lines and lines after # are left out.

    Of a line with commas the first field counts, and a heading `case_id` is left out.

    Args:
        path: the file.
        repeats: give a case that is named twice as often, for the caller to judge.

    Raises:
        ConfigError: If the file cannot be read, names no case, or one twice.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: list of cases cannot be read: {error}") from None
    fields = (line.partition("#")[0].partition(",")[0].strip() for line in lines)
    cases = [name for name in fields if name and name != "case_id"]
    twice = sorted({name for name in cases if cases.count(name) > 1})
    if twice and not repeats:
        raise ConfigError(f"{path}: names {', '.join(twice[:5])} twice")
    if not cases:
        raise ConfigError(f"{path}: names no case; expected one case ID a line")
    return tuple(cases)


def require_cases(wanted: Iterable[str], found: Iterable[str], *, where: str) -> None:
    """Refuse a list that names cases which are not there.

    Args:
        wanted: case IDs asked for.
        found: case IDs at hand.
        where: the place looked at, for the message.

    Raises:
        DatasetError: If one is missing; up to five are named.
    """
    known = set(found)
    missing = [name for name in wanted if name not in known]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DatasetError(f"{where}: no case {', '.join(missing[:5])}{more}; correct the list")
