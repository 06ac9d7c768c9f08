"""The leak scan: does anything that was written hold a value that identifies somebody?

Outputs are made from an allow-list (describe.py), so nothing should be found. The scan is
the second lock: it knows every identifying value of the headers read and looks for each in
every byte written, decompressed, and in every file name, table cell and record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

# Value representations that hold free text, names, dates or identifiers. Coded strings (CS)
# and numbers are terms of the standard.
_IDENTIFYING_VR = {"AE", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UN", "UR", "UT"}

# Terms of the standard, and what the allow-list lets out.
_HARMLESS = {
    "ConvolutionKernel",
    "FilterType",
    "Manufacturer",
    "ManufacturerModelName",
    "RescaleType",
    "SoftwareVersions",
    "SpecificCharacterSet",
    "WindowCenterWidthExplanation",
    "CodeMeaning",
    "CodeValue",
    "CodingSchemeDesignator",
    "CodingSchemeVersion",
    "PositionReferenceIndicator",
    "ImplementationVersionName",
}
# A NIfTI header with room for its extensions; texts of other files are read whole anyway.
_HEADER_BYTES = 352
_STANDARD_UIDS = "1.2.840.10008."

# Shorter values appear everywhere by chance; a name part of three letters is still a name.
_SHORTEST = 4
_SHORTEST_NAME = 3

# Words that stand where a name should be, and words of our own records.
_COMMON_WORDS = (
    "anonymous anonymized anonymised anon unknown none null patient phantom test case head body "
    "plain default series image axial abdomen pelvis thorax portal venous arterial delayed "
    "contrast train site other true false done male female"
)
_PLACEHOLDERS = frozenset(_COMMON_WORDS.split())

_WORD = re.compile(r"[^\W_]+")
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")

_MEMORY = 200_000  # elements remembered: a few dozen megabytes

Found = dict[str, str]  # value, lower case, to the attribute that held it
Identifiers = Mapping[str, str]
Memory = dict[tuple[BaseTag, str | None, bytes], Found]


def identifying_values(dataset: Dataset, known: Memory | None = None) -> tuple[Found, ...]:
    """Every value of a header, nested ones included, that must not come out again.

    Args:
        dataset: a parsed header; elements that need no conversion stay as they are.
        known: what elements held before: slices of a series differ in few of them.

    Returns:
        For each element that identifies, its values (lower case; dates in every usual form;
        names whole and in parts) to its keyword, or `"private"`.
    """
    known = {} if known is None else known
    meta = getattr(dataset, "file_meta", None) or Dataset()
    parts = [(part, tag) for part in (meta, dataset) for tag in _tags(part)]
    found = [_of_element(part, tag, known) for part, tag in parts]
    preamble = (getattr(dataset, "preamble", None) or b"").strip(b"\0 ")
    if len(preamble) >= _SHORTEST and preamble.isascii():
        found.append({_EDGES.sub("", preamble.decode("ascii").lower()): "preamble"})
    return tuple(values for values in found if values)


def _tags(dataset: Dataset) -> list[BaseTag]:
    return list(dataset.keys())  # iterating over the dataset itself converts every element


def _of_element(dataset: Dataset, tag: BaseTag, known: Memory) -> Found:
    raw: Any = dataset.get_item(tag)
    if not isinstance(raw, RawDataElement) or not isinstance(raw.value, bytes):
        return _values(dataset[tag])
    key = (tag, raw.VR, raw.value)
    if key not in known:
        if len(known) > _MEMORY:
            known.clear()
        known[key] = _values(dataset[tag])
    return known[key]


def _values(element: DataElement) -> Found:
    if isinstance(element.value, Sequence):
        nested = (identifying_values(item) for item in element.value)
        return {value: k for item in nested for part in item for value, k in part.items()}
    keyword = element.keyword or "private"
    if element.VR not in _IDENTIFYING_VR or keyword in _HARMLESS:
        return {}
    shortest = _SHORTEST_NAME if element.VR == "PN" else _SHORTEST
    forms = (form for text in _texts(element) for form in _forms(text, element.VR))
    values = (_EDGES.sub("", form) for form in forms)
    return {value: keyword for value in values if len(value) >= shortest}


def _texts(element: DataElement) -> Iterator[str]:
    value = element.value
    for part in value if isinstance(value, (list, tuple)) or element.VM > 1 else (value,):
        if isinstance(part, bytes):
            text = part.rstrip(b"\0 ").decode("latin-1")
            if text.isprintable():
                yield text
        elif part is not None:
            yield str(part).strip().strip("\0")


def _forms(text: str, vr: str) -> Iterator[str]:
    if vr == "UI" and text.startswith(_STANDARD_UIDS):
        return
    lowered = " ".join(text.lower().split())
    if vr in ("DA", "DT"):
        yield from _date_forms(lowered)
        return
    if vr == "PN":
        parts = re.split(r"[\^=,\s]+", lowered)
        yield from (p for p in parts if not p.isdigit() and p not in _PLACEHOLDERS)
    if lowered not in _PLACEHOLDERS:
        yield lowered


def _date_forms(text: str) -> Iterator[str]:
    match = re.match(r"(\d{4})[-.]?(\d\d)[-.]?(\d\d)", text)
    if match:
        year, month, day = match.groups()
        for mark in ("-", "/", "."):
            yield mark.join((year, month, day))
            yield mark.join((day, month, year))
            yield mark.join((month, day, year))
        yield year + month + day
        yield day + month + year


@dataclass(frozen=True)
class Leak:
    """An identifying value in an output; the value itself is never repeated.

    Attributes:
        attribute: keyword of the header attribute that the value came from.
        place: which output holds it.
    """

    attribute: str
    place: str


class LeakScan:
    """Looks for a set of identifying values in outputs."""

    def __init__(
        self, identifiers: Identifiers, *, own_words: Iterable[str] = (), facts: Iterable[str] = ()
    ) -> None:
        """Prepare to look for the values.

        Args:
            identifiers: from `identifying_values`.
            own_words: texts that are ours; an identifier equal to one, or to a word of one,
                cannot be told from it.
            facts: allowed facts; descriptions and private attributes may repeat one, as they
                do the scanner's model, but a fact that holds a name or number is a leak.
        """
        ours, repeated = _with_words(own_words), _with_words(facts)
        self._identifiers = {
            value: attribute
            for value, attribute in identifiers.items()
            if value not in ours and not (value in repeated and _describes(attribute))
        }
        self._lengths = sorted({len(_WORD.findall(v)) for v in self._identifiers})

    def text(self, text: str, place: str) -> list[Leak]:
        """Leaks in one text; a value counts only where no letter or digit touches it."""
        lowered = " ".join(text.lower().split())
        spans = [match.span() for match in _WORD.finditer(lowered)]
        found: set[str] = set()
        for n in self._lengths:
            pieces = {
                lowered[start:stop]
                for (start, _), (_, stop) in zip(spans, spans[n - 1 :], strict=False)
            }
            found |= pieces & self._identifiers.keys()
        return [Leak(self._identifiers[v], place) for v in sorted(found)]

    def value(self, value: Any, place: str) -> list[Leak]:
        """Leaks in every text of nested lists and dicts; numbers are our own measurements."""
        if isinstance(value, str):
            return self.text(value, place)
        if isinstance(value, Mapping):
            value = (*value.keys(), *value.values())
        if isinstance(value, (list, tuple)):
            return [leak for item in value for leak in self.value(item, place)]
        return []

    def file(self, path: Path) -> list[Leak]:
        """Leaks in a file's decompressed bytes; a gzip header must hold no name either."""
        place = path.name
        if path.suffix == ".json":
            return self.value(json.loads(path.read_bytes()), place)
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            if raw[3] & 0b11100:
                return [Leak("gzip header", place)]
            raw = igzip.decompress(raw)
        texts = chain(printable_texts(raw[:_HEADER_BYTES], wide=True), printable_texts(raw))
        return [leak for text in texts for leak in self.text(text, place)]


def _with_words(texts: Iterable[str]) -> set[str]:
    lowered = {text.lower() for text in texts}
    return lowered | {word for text in lowered for word in _WORD.findall(text)}


def _describes(attribute: str) -> bool:
    """Whether an attribute is about the scan and not about a person or place."""
    return attribute == "private" or attribute.endswith(("Description", "ProtocolName"))


def printable_texts(raw: bytes, *, wide: bool = False) -> Iterator[str]:
    """Runs of three or more printable bytes, as UTF-8 or else Latin-1 text.

    Voxels of a clipped CT never look like text (their high byte is 0 to 3 or 252 to 255), nor
    do masks.

    Args:
        raw: the bytes.
        wide: look for 16-bit text too: every other byte.
    """
    for half in (raw, raw[::2], raw[1::2]) if wide else (raw,):
        data: NDArray[np.uint8] = np.frombuffer(half, np.uint8)
        printable = (data >= 0x20) & (data != 0x7F) & (data < 0xF8)
        run = printable[:-2] & printable[1:-1] & printable[2:]
        for start, stop in _runs(run):
            piece = half[start : stop + 2]
            try:
                yield piece.decode("utf-8")
            except UnicodeDecodeError:
                yield piece.decode("latin-1")


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    padded = np.concatenate(([False], flags, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
