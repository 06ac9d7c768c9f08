"""What a segment or a region of interest means: by label map, by name, by its codes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from pydicom.dataset import Dataset

from pantskit.core.errors import LabelError
from pantskit.core.labels import (
    LESION,
    PANCREAS,
    STRUCTURES,
    LabelMap,
    containers,
    find_structure,
)

Code = tuple[str, str]  # coding scheme, value

# Names under which SNOMED's older codes were written.
_OLD_SCHEMES = ("SRT", "SNM3", "99SDM")


@dataclass(frozen=True)
class Described:
    """A segment or region of interest as its file describes it.

    Attributes:
        kind: `"segment"` or `"ROI"`.
        number: its number in the file.
        name: free text; it may say anything about the patient.
        types: coded kinds of what it holds: an organ, a tumour.
        regions: coded places that it lies in.
        sides: coded modifiers of either.
    """

    kind: str
    number: int
    name: str
    types: tuple[Code, ...] = ()
    regions: tuple[Code, ...] = ()
    sides: tuple[Code, ...] = ()

    @property
    def shown(self) -> str:
        """What a record may call it: its number, and its name if it is made of known words."""
        words = re.findall(r"[^\W\d_]+", self.name.lower())
        if words and set(words) <= _known_words() and len(self.name) <= 64:
            plain = " ".join(re.findall(r"[^\W\d_]+|\d{1,2}", self.name))
            return f"{self.kind} {self.number} ({plain})"
        return f"{self.kind} {self.number}"

    def structures(self, label_map: LabelMap | None) -> tuple[str, ...]:
        """The structures that its voxels belong to; none where it has no place among the 28.

        A label map decides by number; without one, the name does; where that says nothing, the
        codes do.

        Raises:
            LabelError: If the label map does not know the number, or two of them contradict.
        """
        named, coded = find_structure(self.name), _coded_structure(self)
        if label_map is not None:
            label_map.require_known([self.number], name=self.kind)
            mapped = label_map.ids.get(self.number, ())
            if named and mapped and named not in _with_containers(*mapped):
                self._refuse(f"the label map says {mapped[0]} and its own name {named}")
            return mapped
        if named and coded and coded not in _with_containers(named):
            self._refuse(f"its name says {named} and its codes {coded}")
        found = named or coded
        return (found,) if found else ()

    def _refuse(self, found: str) -> None:
        raise LabelError(
            f"{self.kind} {self.number}: {found}; say what it is with --label-map "
            f"{self.number}=<structure>, or correct the file"
        )


def described_segment(item: Dataset) -> Described:
    """An item of SegmentSequence.

    Raises:
        LabelError: If it has no number.
    """
    number = item.get("SegmentNumber")
    if not isinstance(number, int):
        raise LabelError("a segment has no number; export the segmentation again")
    kinds = _items(item, "SegmentedPropertyTypeCodeSequence")
    places = _items(item, "AnatomicRegionSequence")
    sides = [
        side for kind in kinds for side in _items(kind, "SegmentedPropertyTypeModifierCodeSequence")
    ] + [side for place in places for side in _items(place, "AnatomicRegionModifierSequence")]
    return Described(
        "segment",
        number,
        str(item.get("SegmentLabel") or ""),
        codes_of(kinds),
        codes_of(places),
        codes_of(sides),
    )


def codes_of(items: list[Dataset]) -> tuple[Code, ...]:
    """(scheme, value) of coded items; older schemes as SRT, in the standard's three lengths."""
    found = []
    for item in items:
        value = next(
            (item.get(k) for k in ("CodeValue", "LongCodeValue", "URNCodeValue") if item.get(k)), ""
        )
        found.append(code(str(item.get("CodingSchemeDesignator") or ""), str(value)))
    return tuple(found)


def code(scheme: str, value: str) -> Code:
    """A code with SNOMED's older schemes under one name."""
    return ("SRT" if scheme in _OLD_SCHEMES else scheme, value)


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or [])


def _coded_structure(described: Described) -> str | None:
    """The structure that the codes say, or None where they do not say one."""
    table = _codes()
    place = _organ(described.types, described.sides)
    if place:
        return place
    if not set(described.types) & table["tumours"]:
        return None
    organ = _organ(described.regions, described.sides)
    return LESION if organ == PANCREAS or (organ and PANCREAS in containers(organ)) else organ


def _organ(codes: tuple[Code, ...], sides: tuple[Code, ...]) -> str | None:
    """The one organ of some codes; None where there are several or its side is not said."""
    table = _codes()
    side = {table["sides"][s] for s in sides if s in table["sides"]}
    found = set()
    for known in codes:
        if known in table["structures"]:
            found.add(table["structures"][known])
        elif known in table["sided"]:
            found.add(f"{table['sided'][known]}_{next(iter(side))}" if len(side) == 1 else None)
    return next(iter(found)) if len(found) == 1 else None


def _with_containers(*structures: str) -> set[str]:
    return {*structures, *(c for s in structures for c in containers(s))}


@cache
def _data() -> Mapping[str, Any]:
    path = resources.files("pantskit.ingest") / "data" / "segment_codes.toml"
    return tomllib.loads(path.read_text("utf-8"))


@cache
def _codes() -> Mapping[str, Any]:
    """Tables from code to name, and the set of tumours' codes."""
    tables: dict[str, Any] = {
        table: {tuple(c.split(":")): name for name, codes in _data()[table].items() for c in codes}
        for table in ("structures", "sided", "sides")
    }
    return tables | {"tumours": {tuple(c.split(":")) for c in _data()["tumours"]["codes"]}}


@cache
def _known_words() -> frozenset[str]:
    names = [n for s in STRUCTURES.values() for n in (s.name, s.title, *s.synonyms)]
    own = {w for name in names for w in re.findall(r"[^\W\d_]+", name.lower())}
    return frozenset(own) | frozenset(_data()["words"]["shown"])
