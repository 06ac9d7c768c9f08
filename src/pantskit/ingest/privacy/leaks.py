"""The leak scan: does anything that was written hold a value that identifies somebody?

Outputs are made from an allow-list (facts/describe.py, export.py), so nothing should be found.
The scan is the second lock: it knows every identifying value of what was read (identifiers.py)
and looks for each, in whatever form, in every byte written, decompressed (leak_files.py), and
in every file name, table cell and record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.ingest.privacy.identifiers import FILE_NAME, FOLDER_NAME, SHORTEST, Found, Identifiers
from pantskit.ingest.privacy.leak_files import pieces_of
from pantskit.ingest.privacy.leak_text import Piece
from pantskit.ingest.privacy.leak_volumes import PassingVoxels
from pantskit.ingest.privacy.own_words import is_own
from pantskit.ingest.privacy.voxel_text import WideText
from pantskit.ingest.privacy.written_forms import (
    Date,
    dates_in,
    numbers_in,
    parts_of,
    plain,
    times_in,
    uids_in,
    words_of,
)

# A number shorter than this counts only beside a word, in a longer text only from this on.
_LONG_NUMBER = 6
# Numbers of our own (voxels, bytes) are compared from this length on.
_LONGEST_COUNT = 7
_MEMORY = 100_000  # texts remembered as clean
# Values of single slices: a run's tables are looked through without them.
_OF_SLICES = {
    "SOPInstanceUID", "MediaStorageSOPInstanceUID", "ReferencedSOPInstanceUID", "ContentTime",
    "AcquisitionTime", "AcquisitionDateTime", "InstanceCreationTime", FILE_NAME,
}  # fmt: skip
# Attributes about the scan, whose words may come out as facts.
_DESCRIBING = (
    "Description", "ProtocolName", "Manufacturer", "ManufacturerModelName", "ConvolutionKernel",
    "BodyPartExamined", "ContrastBolusAgent", "private",
)  # fmt: skip

# Ours, and random: among thousands some hold a time, a short name or a number by chance.
_PSEUDONYMS = re.compile(r"(?<![a-z0-9])(?:case|patient|site)_[a-z2-7]{12}(?![a-z0-9])")
_NUMBERS = re.compile(r"\(\d+(?:\.\d+)?(?:, \d+(?:\.\d+)?)+\)")


@dataclass(frozen=True)
class Leak:
    """An identifying value in an output; the value itself is never repeated.

    Attributes:
        attribute: keyword of the header attribute that the value came from, `"private"`,
            `"file name"`, `"folder name"` or `"clinical table"`.
        place: which output holds it.
    """

    attribute: str
    place: str


@dataclass
class Looked:
    """How much a scan has looked through.

    Attributes:
        files: opened.
        bytes_read: decompressed, of these files.
        texts: pieces of text in files, tables, records and names.
    """

    files: int = 0
    bytes_read: int = 0
    texts: int = 0


@dataclass
class _Needles:
    """What is looked for, by kind; each to the attribute it came from."""

    words: dict[str, list[tuple[tuple[str, ...], str]]] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    dates: dict[Date, str] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)

    def add(self, value: str, attribute: str) -> None:
        kind, colon, rest = value.partition(":")
        if colon and kind == "number":
            self.numbers[rest] = attribute
        elif colon and kind == "date":
            year, month, day = map(int, rest.split("-"))
            self.dates[year, month, day] = attribute
            self.dates.setdefault((year, month, 0), attribute)
        elif colon and kind == "time":
            self.times[rest] = attribute
            self.times.setdefault(rest[:4], attribute)
        elif colon and kind == "uid":
            self.uids[rest] = attribute
        elif colon and kind == "script":
            self.scripts[rest] = attribute
        elif words := tuple(words_of(plain(value))):
            self.words.setdefault(words[0], []).append((words, attribute))

    @property
    def count(self) -> int:
        kinds = (self.numbers, self.times, self.uids, self.scripts)
        words = sum(map(len, self.words.values()))
        return words + sum(map(len, kinds)) + sum(day > 0 for _, _, day in self.dates)


class LeakScan:
    """Looks for a set of identifying values in outputs."""

    def __init__(
        self,
        identifiers: Identifiers,
        *,
        own_words: Iterable[str] = (),
        facts: Iterable[str] = (),
        label_names: Iterable[str] = (),
    ) -> None:
        """Prepare to look for the values.

        Args:
            identifiers: from `read_identifiers`, `path_identifiers`, `text_identifiers`.
            own_words: texts that are ours or were given to be written (site, dataset name); an
                identifier that lies in one, or is a word of one, cannot be told from them.
            facts: allowed facts; descriptions and private attributes may repeat one, as they
                do the scanner's model, but a fact that holds a name or number is a leak.
            label_names: names of masks as they are recorded; of file and folder names alone,
                what is made of their words is not looked for.
        """
        self._needles = _Needles()
        self.looked = Looked()
        self._clean: set[str] = set()
        self._wide: WideText | None = None
        own_texts = [*own_words]
        ours, repeated, labels = map(_words_of_all, (own_texts, facts, label_names))
        # `site12` was given: `site` alone cannot be told from it either (see `_in_words`).
        ours |= {part for word in ours for part in parts_of(word)}
        phrases = "\n".join(map(_phrase, own_texts))  # no phrase reaches into the next line
        for value, attribute in identifiers.items():
            words = value.partition(":")[2] or value if ":" in value else value
            parts = set(words_of(plain(words)))
            made_of = parts | {words}
            if made_of <= ours or words in ours or _phrase(words) in phrases:
                continue
            # A spacing, say, is written as one text in the header and as another in a table.
            fact = words in repeated or (parts and parts <= repeated)
            if fact and attribute.endswith(_DESCRIBING):
                continue
            if attribute in (FILE_NAME, FOLDER_NAME) and (made_of <= labels or words in labels):
                continue
            self._needles.add(value, attribute)
        self._years = tuple({date[0] for date in self._needles.dates})

    def add(self, identifiers: Identifiers) -> None:
        """Look for more from now on."""
        for value, attribute in identifiers.items():
            self._needles.add(value, attribute)
        self._years = tuple({date[0] for date in self._needles.dates})
        self._clean.clear()
        self._wide = None

    def allow_dates(self, dates: Iterable[str]) -> None:
        """Stop looking for dates (`20140902`) that are ours: a moved one may fall on a true one."""
        for date in dates:
            self._needles.dates.pop((int(date[:4]), int(date[4:6]), int(date[6:8])), None)
            self._needles.dates.pop((int(date[:4]), int(date[4:6]), 0), None)

    def allow_fact(self, fact: str) -> None:
        """Let one more fact pass, as those given at first."""
        allowed = _words_of_all([fact])
        for word, phrases in self._needles.words.items():
            self._needles.words[word] = [
                (phrase, attribute)
                for phrase, attribute in phrases
                if not (attribute.endswith(_DESCRIBING) and allowed.issuperset(phrase))
            ]

    @property
    def needles(self) -> int:
        """How many values are looked for."""
        return self._needles.count

    def text(self, text: str, place: str, *, shortest: int = 0) -> list[Leak]:
        """Leaks in one text; a value counts only where no letter or digit touches it.

        Args:
            text: of any length.
            place: what a leak is reported with; never holds an identifier itself.
            shortest: values shorter than this are not looked for (in bytes that are no text).
        """
        self.looked.texts += 1
        if text in self._clean:
            return []
        if _NUMBERS.fullmatch(text):  # a shape or a spacing, which private elements repeat
            return [leak for n in text[1:-1].split(", ") for leak in self.number(n, place)]
        lowered = _PSEUDONYMS.sub(" ", plain(text))
        found = {**self._in_words(lowered, shortest), **self._in_numbers(lowered)}
        if not lowered.isascii():
            found |= {s: a for s, a in self._needles.scripts.items() if s in lowered}
        if not found and len(text) < 200 and len(self._clean) < _MEMORY:
            self._clean.add(text)
        return [Leak(attribute, place) for attribute in sorted(set(found.values()))]

    def _in_words(self, lowered: str, shortest: int) -> dict[str, str]:
        words = words_of(lowered)
        found: dict[str, str] = {}
        known = self._needles.words
        for n, word in enumerate(words):
            for phrase, attribute in known.get(word, ()):
                if phrase == tuple(words[n : n + len(phrase)]):
                    found[" ".join(phrase)] = attribute
            if not (word.isalpha() or word.isdigit()) and not is_own(word):
                for part in parts_of(word):
                    if len(part) >= SHORTEST:
                        found |= {p[0]: a for p, a in known.get(part, ()) if len(p) == 1}
        return {v: a for v, a in found.items() if len(v) >= shortest} if shortest else found

    def _in_numbers(self, lowered: str) -> dict[str, str]:
        """Numbers, dates, times and UIDs in a plain text."""
        needles = self._needles
        found: dict[str, str] = {}
        if not any(c.isdigit() for c in lowered):
            return found
        for number, joined in numbers_in(lowered):
            if number in needles.numbers and (joined or len(number) >= _LONG_NUMBER):
                found[number] = needles.numbers[number]
        for date in dates_in(lowered, two_digit_years=self._years) if needles.dates else ():
            if date in needles.dates:
                found[str(date)] = needles.dates[date]
        for time in times_in(lowered) if needles.times else ():
            if time in needles.times:
                found[time] = needles.times[time]
        for uid in uids_in(lowered) if needles.uids else ():
            parts = uid.split(".")
            for n in range(3, len(parts) + 1):
                if (start := ".".join(parts[:n])) in needles.uids:
                    found[start] = needles.uids[start]
        return found

    def number(self, value: float | str, place: str) -> list[Leak]:
        """Leaks in a number: our own are measurements and counts, so only long ones count."""
        digits = str(value).removesuffix(".0").lstrip("+-0")
        if not digits.isdigit() or len(digits) < _LONGEST_COUNT:
            return []
        return self.text(digits, place)

    def value(self, value: Any, place: str) -> list[Leak]:
        """Leaks in every text and number of nested lists and dicts, keys included."""
        if isinstance(value, (np.ndarray, np.generic)):
            value = value.tolist()
        if isinstance(value, str):
            return self.text(value, place)
        if isinstance(value, bool) or value is None:
            return []
        if isinstance(value, (int, float)):
            return self.number(value, place)
        if isinstance(value, Mapping):
            value = (*value.keys(), *value.values())
        if isinstance(value, (list, tuple, set, frozenset)):
            return [leak for item in value for leak in self.value(item, place)]
        return self.text(str(value), place)

    def name(self, path: Path | str) -> list[Leak]:
        """Leaks in a file's or folder's name, and those of the folders it is given with."""
        return self.text(str(path), FILE_NAME)

    def voxels(self) -> PassingVoxels:
        """Looks at the voxels of an image while they are written, for `file` afterwards."""
        return PassingVoxels(self._wide_text)

    def file(self, path: Path, voxels: PassingVoxels | None = None) -> list[Leak]:
        """Leaks in a file's decompressed content, whatever its format, and in its name.

        Args:
            path: the file.
            voxels: those that a NIfTI file was written from: when its checksum says that they
                are what unpacking would give, it is not unpacked.

        Raises:
            OSError: If it cannot be read.
            ImageError: If it is damaged.
        """
        leaks = self.name(path.name)
        place = f"{path.suffix or 'a'} file" if leaks else path.name
        self.looked.files += 1
        for piece in pieces_of(path, self._wide_text, voxels):
            self.looked.bytes_read += piece.size
            leaks += self._piece(piece, place)
        return list(dict.fromkeys(leaks))

    def folder(self, folder: Path) -> list[Leak]:
        """Leaks in every file below a folder, and in the names of files and folders."""
        leaks: list[Leak] = []
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            leaks += self.name(path.relative_to(folder.parent).as_posix())
            leaks += self.file(path) if path.is_file() else []
        return list(dict.fromkeys(leaks))

    def _piece(self, piece: Piece, place: str) -> list[Leak]:
        if piece.fault:
            return [Leak(piece.fault, place)]
        if piece.is_number:
            return self.number(piece.text, place)
        return self.text(piece.text, place, shortest=piece.shortest) if piece.text else []

    @property
    def _wide_text(self) -> WideText:
        """Values long enough to be told from voxels that happen to look like letters."""
        if self._wide is None:
            needles = self._needles
            words = [w for w, many in needles.words.items() if any(len(p) == 1 for p, _ in many)]
            dates = [f"{y:04d}{m:02d}{d:02d}" for y, m, d in needles.dates if d]
            self._wide = WideText((*words, *needles.numbers, *needles.uids, *dates))
        return self._wide


def explain(leaks: Iterable[Leak]) -> str:
    """What a message says of leaks: attributes and places, never a value."""
    places: dict[str, list[str]] = {}
    for leak in leaks:
        places.setdefault(leak.attribute, []).append(leak.place)
    told = []
    for attribute, found in sorted(places.items()):
        first, *others = sorted(set(found))
        told.append(f"{attribute} in {first}" + (f" and {len(others)} more" if others else ""))
    more = f"; and {len(told) - 8} more attributes" if len(told) > 8 else ""
    return f"the leak scan found identifying values ({'; '.join(told[:8])}{more})"


def identifiers_of_run(cases: Iterable[Identifiers]) -> Found:
    """What to look for in the tables of a whole run: values of all cases, but for single slices'.

    The tables are made from rows that were scanned for the values of their own slices.
    """
    return {v: a for found in cases for v, a in found.items() if a not in _OF_SLICES}


def _phrase(text: str) -> str:
    """A text's words with a space around each: one phrase lies in another only by whole words."""
    return f" {' '.join(words_of(plain(text)))} "


def _words_of_all(texts: Iterable[str]) -> set[str]:
    """The texts, plain, and their words."""
    lowered = {plain(text) for text in texts}
    return lowered | {word for text in lowered for word in words_of(text)}
