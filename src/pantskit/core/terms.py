"""The coded name of each structure, as we write it into DICOM objects."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

SCHEME = "SCT"  # SNOMED CT


@dataclass(frozen=True)
class Coded:
    """A SNOMED CT concept.

    Attributes:
        value: its code.
        meaning: for people.
    """

    value: str
    meaning: str


ANATOMICAL = Coded("91723000", "Anatomical Structure")
ABNORMAL = Coded("49755003", "Morphologically Abnormal Structure")
SIDES: Mapping[str, Coded] = {"left": Coded("7771000", "Left"), "right": Coded("24028007", "Right")}


@dataclass(frozen=True)
class Term:
    """What a structure is, in codes.

    Attributes:
        category: `ANATOMICAL`, or `ABNORMAL` of a lesion.
        kind: the organ, or the kind of finding.
        side: laterality, or None.
        region: the organ that a finding lies in, or None.
    """

    category: Coded
    kind: Coded
    side: Coded | None = None
    region: Coded | None = None


@cache
def structure_terms() -> Mapping[str, Term]:
    """Structure to its term; all 28."""
    path = resources.files("pantskit.core") / "data" / "structure_terms.toml"
    return {name: _term(row) for name, row in tomllib.loads(path.read_text("utf-8")).items()}


def _term(row: Mapping[str, str]) -> Term:
    region = Coded(row["region"], row["region_meaning"]) if "region" in row else None
    return Term(
        ABNORMAL if region else ANATOMICAL,
        Coded(row["type"], row["meaning"]),
        SIDES.get(row.get("side", "")),
        region,
    )
