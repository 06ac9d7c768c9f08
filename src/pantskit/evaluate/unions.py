"""Structures that are scored together, as one mask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pantskit.core.errors import ConfigError, LabelError
from pantskit.core.labels import PANCREAS, STRUCTURES, find_structure, require_structure

# Unions that need not be spelled out.
UNIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "adrenal_glands": ("adrenal_gland_left", "adrenal_gland_right"),
        "femurs": ("femur_left", "femur_right"),
        "kidneys": ("kidney_left", "kidney_right"),
        "lungs": ("lung_left", "lung_right"),
        # A mask of the pancreas may leave out its lesion; this one cannot.
        "whole_pancreas": (PANCREAS, *STRUCTURES[PANCREAS].members),
    }
)


def parse_unions(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Unions as given to `--union`: a known name, or `vessels=aorta+postcava+veins`.

    Returns:
        Name to its structures, in the order given.

    Raises:
        ConfigError: If a name is no known union, is a structure's own or comes twice, or a
            member is no structure.
    """
    unions: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, members = text.partition("=")
        name = name.strip()
        if name in unions:
            raise ConfigError(f"union {name!r} is given twice")
        unions[name] = _members(name, members) if members else _known(name)
    return unions


def _known(name: str) -> tuple[str, ...]:
    if name not in UNIONS:
        raise ConfigError(
            f"union {name!r} is not known; use one of {', '.join(UNIONS)}, or say what it is "
            "made of: vessels=aorta+postcava+veins"
        )
    return UNIONS[name]


def _members(name: str, members: str) -> tuple[str, ...]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"union {name!r}: a name of small letters, digits and _ is expected")
    if find_structure(name):
        raise ConfigError(f"union {name!r} bears a structure's name; give it another")
    try:
        return tuple(dict.fromkeys(require_structure(m) for m in members.split("+")))
    except LabelError as error:
        raise ConfigError(f"union {name!r}: {error}") from None
