"""What identifies somebody: every value of a header, a path or a table that must not come out.

Values are kept as they are looked for (leaks.py): words of a name or text as plain lower-case
words with single spaces; others with their kind before them, `date:1950-03-17`, `time:143012`,
`number:778812` (without leading zeros), `uid:1.2.3`, and `script:` for scripts without spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any

from pydicom.charset import decode_bytes
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from pantskit.ingest.privacy.own_words import PLACEHOLDERS, is_own
from pantskit.ingest.privacy.written_forms import (
    dates_in,
    has_own_words,
    parts_of,
    plain,
    spelt_out,
    words_of,
)

Found = dict[str, str]  # what is looked for, to the attribute that held it
Identifiers = Mapping[str, str]
Memory = dict[tuple[int, str | None, bytes, tuple[str, ...]], Found]

FILE_NAME = "file name"
FOLDER_NAME = "folder name"

# Shorter values appear everywhere by chance; a name part of three letters is still a name.
SHORTEST_NAME = 3
SHORTEST = 4
_SHORTEST_NUMBER = 6  # inside a longer text; a value that is a number counts from four digits
_LONGEST_PHRASE = 40  # words; of longer texts the words alone are looked for

_STANDARD_UIDS = "1.2.840.10008."
_PLACEHOLDER_DATES = {(1900, 1, 1), (1970, 1, 1), (2000, 1, 1), (1980, 1, 1), (1901, 1, 1)}
_PLACEHOLDER_TIMES = {"000000", "120000", "0000", "1200"}

# Software that made a file; no person's or place's.
_HARMLESS = {"ImplementationClassUID", "SpecificCharacterSet", "TransferSyntaxUID"}

# Named as the source of a value only where no other attribute holds it.
_LAST_NAMED = {"private", "preamble", FILE_NAME, FOLDER_NAME}

_TEXTS = {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_ONE_VALUE = {"LT", "ST", "UR", "UT"}  # a backslash is text in them
_NUMBERS = {"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "DS"}
_BYTES = {"OB", "OB or OW", "OW", "UN", "OD", "OF", "OL", "OV"}
_DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D, 0x5C, 0x5E, 0x3D}  # end a code extension (PS3.5 6.1.2.5.3)
_ONE_BYTE = {"iso8859", "latin_1", "iso8859_2", "iso8859_15"}
_LOOKED_AT = 1 << 18  # bytes of a binary element in which text is looked for
_RUN = re.compile(rb"(?:[\x1b\x20-\x7e\x80-\xf7]){4,}")
_WIDE_RUN = re.compile(rb"(?:[\x20-\x7e]\0){4,}")

_MEMORY = 200_000  # elements remembered: a few dozen megabytes

_EXTENSION = re.compile(r"(?:\.(?:dcm|dicom|ima|img|nii|nrrd|nhdr|gz|zip))+$", re.IGNORECASE)
_UMLAUT = re.compile("([aou])e")
_CAMEL = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])")


@dataclass(frozen=True)
class Census:
    """How much of a header was read: elements, private ones, and those that identify."""

    elements: int = 0
    private: int = 0
    identifying: int = 0

    def __add__(self, other: Census) -> Census:
        return Census(
            self.elements + other.elements,
            self.private + other.private,
            self.identifying + other.identifying,
        )


def identifying_values(dataset: Dataset, known: Memory | None = None) -> tuple[Found, ...]:
    """As `read_identifiers`, the values alone."""
    return read_identifiers(dataset, known)[0]


def read_identifiers(
    dataset: Dataset, known: Memory | None = None
) -> tuple[tuple[Found, ...], Census]:
    """Every value of a header, nested ones included, that must not come out again.

    Args:
        dataset: a parsed header; elements that need no conversion stay as they are.
        known: what elements held before: slices of a series differ in few of them.

    Returns:
        For each element that identifies, what to look for to its keyword, or `"private"`; and
        how many elements there were, the preamble among them when it is not blank.
    """
    known = {} if known is None else known
    if len(known) > _MEMORY:
        known.clear()
    meta = getattr(dataset, "file_meta", None) or Dataset()
    found = [*_of_items(meta, known), *_of_items(dataset, known)]
    preamble = (getattr(dataset, "preamble", None) or b"").strip(b"\0 ")
    if preamble:
        found.append(_of_bytes(preamble, "preamble"))
    kept = tuple(values for values in found if values)
    numbers = [int(tag) for part in (meta, dataset) for tag in part.keys()]  # noqa: SIM118  # iterating converts
    private = sum(number >> 16 & 1 for number in numbers)
    return kept, Census(len(numbers) + bool(preamble), private, len(kept))


def element_identifiers(tag: int, vr: str, value: bytes) -> Found:
    """What `read_identifiers` finds in a header of one element alone.

    Args:
        tag: of the element, which is not private.
        vr: its value representation.
        value: its bytes, padding included; ASCII without code extensions.
    """
    vr = _vr(tag, vr)
    return _of_value(tag, vr, value, ()) if value and _may_identify(vr) else {}


def merged(parts: Iterable[Identifiers]) -> Found:
    """All values of some elements; one that several hold counts as the most telling one's."""
    found: Found = {}
    for values in {id(part): part for part in parts}.values():
        for value, attribute in values.items():
            if attribute not in _LAST_NAMED or value not in found:
                found[value] = attribute
    return found


def path_identifiers(files: Iterable[PurePath | str]) -> Found:
    """What file and folder names may tell: names, dates, numbers, UIDs, each part of them.

    Args:
        files: paths of sources, as they were given; archive members with their archive's path.
    """
    folders: set[str] = set()
    found: Found = {}
    for file in dict.fromkeys(map(str, files)):
        *above, name = PurePath(file).parts or ("",)
        folders.update(above)
        found |= _of_name(_EXTENSION.sub("", name), FILE_NAME)
    for folder in folders:
        found = _of_name(_EXTENSION.sub("", folder), FOLDER_NAME) | found
    return found


def text_identifiers(values: Iterable[object], attribute: str) -> Found:
    """Values of a table's column, such as the original patient IDs of a clinical table.

    Args:
        values: texts or numbers.
        attribute: what a leak of one is called: `"clinical table"`.
    """
    found: Found = {}
    for value in values:
        found |= _of_text(str(value).strip(), attribute)
    return found


def _of_name(name: str, attribute: str) -> Found:
    apart = _CAMEL.sub(" ", name)
    found = _of_text(name, attribute, shortest=SHORTEST_NAME)
    telling = [w for w in words_of(plain(apart)) if not (_says_nothing(w) or w.isdigit())]
    if len(telling) == 2:
        found |= _phrase(telling, attribute) | _phrase(telling[::-1], attribute)
    return found | (_of_text(apart, attribute, shortest=SHORTEST_NAME) if apart != name else {})


def _of_items(dataset: Dataset, known: Memory) -> Iterator[Found]:
    # Iterating over the dataset itself would convert every element.
    for tag, element in list(dataset.items()):
        if element.VR in _NUMBERS:
            continue
        if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
            yield _of_raw(dataset, tag, element, known)
        else:
            yield _of_converted(dataset, tag, known)


def _of_raw(dataset: Dataset, tag: BaseTag, raw: RawDataElement, known: Memory) -> Found:
    value, number = raw.value, int(tag)  # a tag compares far slower than its number
    if not value:
        return {}
    plain_text = value.isascii() and b"\x1b" not in value
    encodings = () if plain_text else _encodings(dataset)
    key = (number, raw.VR, value, encodings)
    if key not in known:
        vr = _vr(number, raw.VR)
        if vr == "SQ":
            return _of_converted(dataset, tag, known)
        known[key] = _of_value(number, vr, value, encodings) if _may_identify(vr) else {}
    return known[key]


def _of_converted(dataset: Dataset, tag: BaseTag, known: Memory) -> Found:
    """Values of a sequence, or of an element that was converted or made in memory."""
    element: DataElement = dataset[tag]
    value: Any = element.value
    if isinstance(value, Sequence):
        # Flat: what is nested how deep does not matter to who is looked for.
        return merged(part for item in value for part in _of_items(item, known))
    if value is None or value == "" or not _may_identify(element.VR):
        return {}
    if isinstance(value, bytes):
        return _of_value(int(tag), element.VR, value, _encodings(dataset))
    many = value if isinstance(value, (list, tuple)) or element.VM > 1 else (value,)
    raw = "\\".join(str(v) for v in many).encode("utf-8")
    return _of_value(int(tag), element.VR, raw, ("utf-8",))


def _encodings(dataset: Dataset) -> tuple[str, ...]:
    encodings = dataset.original_character_set or dataset._character_set
    return (encodings,) if isinstance(encodings, str) else tuple(encodings)


@cache
def _vr(tag: int, vr: str | None) -> str:
    """The VR, by the dictionary where the file gives none or says it is unknown."""
    if vr not in (None, "UN") or tag >> 16 & 1:
        return vr or "UN"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _may_identify(vr: str) -> bool:
    return vr in _TEXTS or vr in _READERS or vr in _BYTES


@cache
def _keyword(tag: int) -> str:
    if tag >> 16 & 1:
        return "private"
    return keyword_for_tag(tag) or f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _of_value(tag: int, vr: str, raw: bytes, encodings: tuple[str, ...]) -> Found:
    keyword = _keyword(tag)
    if keyword in _HARMLESS:
        return {}
    if vr in _BYTES:
        return _of_bytes(raw[:_LOOKED_AT], keyword)
    read = _READERS.get(vr, _of_text)
    found: Found = {}
    for text in _decoded(raw, encodings):
        for value in [text] if vr in _ONE_VALUE else text.split("\\"):
            found |= read(value.strip(" \0"), keyword)
    return found


def _decoded(raw: bytes, encodings: tuple[str, ...]) -> Iterator[str]:
    """The text in the character sets that the header declares, and in what it may really be in."""
    if not encodings:
        yield raw.decode("ascii")
        return
    try:
        text = decode_bytes(raw, list(encodings), _DELIMITERS)
    # A character set that Python does not have.
    except (LookupError, ValueError):
        text = "\ufffd"
    if "\ufffd" not in text:
        yield text
    if "\ufffd" in text or set(encodings) <= _ONE_BYTE:
        utf8 = raw.decode("utf-8", "replace")
        # Declared as Latin-1 or nothing, and really UTF-8: seen in exports of many archives.
        yield from () if "\ufffd" in utf8 else (utf8,)
    if "\ufffd" in text:
        yield raw.decode("latin-1")


def _of_bytes(raw: bytes, keyword: str) -> Found:
    """Text inside binary values: runs of printable bytes, of one byte or two a letter."""
    found: Found = {}
    runs = [match[0] for match in _RUN.finditer(raw)]
    runs += [match[0][::2] for match in _WIDE_RUN.finditer(raw)]
    for run in runs:
        try:
            text = run.decode("utf-8")
        except UnicodeDecodeError:
            text = run.decode("latin-1")
        found |= _of_text(text.strip(), keyword)
    return found


def _of_text(text: str, keyword: str, *, shortest: int = SHORTEST) -> Found:
    """A text as a whole, and each of its words that our own outputs never hold."""
    spellings = dict.fromkeys((plain(text), spelt_out(text)))
    found: Found = {}
    for spelling in spellings:
        words = words_of(spelling)
        if len(words) == 1 and words[0].isdigit():
            found |= _number(words[0], keyword, SHORTEST)
        elif not all(map(_says_nothing, words)) and len(words) <= _LONGEST_PHRASE:
            found |= _phrase(words, keyword)
        for word in words:
            found |= _of_word(word, keyword, shortest)
        for year, month, day in dates_in(spelling):
            found |= _date(year, month, day, keyword)
        if re.fullmatch(r"\d+(?:\.\d+){3,}", spelling):
            found |= _of_uid(spelling, keyword)
    return found


def _of_word(word: str, keyword: str, shortest: int) -> Found:
    if word.isdigit():
        return _number(word, keyword, _SHORTEST_NUMBER)
    if is_own(word):
        return {}
    if not word.isascii() and has_own_words(word):
        return {f"script:{word}": keyword} if len(word) > 1 else {}
    if word.isalpha():
        if len(word) < shortest or _says_nothing(word):
            return {}
        # Of names, Mueller is looked for as Muller too, which is Müller without its accent; but
        # not when that is a word of ours, as `patient` is of a folder called Pätient.
        other = _UMLAUT.sub(r"\1", word) if shortest < SHORTEST else word
        return {word: keyword} if _says_nothing(other) else {word: keyword, other: keyword}
    found = {word: keyword} if len(word) >= SHORTEST else {}
    for part in parts_of(word):
        if part.isdigit():
            found |= _number(part, keyword, _SHORTEST_NUMBER)
        elif len(part) > SHORTEST and not _says_nothing(part):
            found[part] = keyword
    return found


def _says_nothing(word: str) -> bool:
    """Whether a word is our own, or a number as every text has it."""
    return is_own(word) or len(word) == 1 or (word.isdigit() and len(word) < SHORTEST)


def _phrase(words: list[str], keyword: str) -> Found:
    """Words in their order, with anything but letters between, and run together."""
    if sum(map(len, words)) < SHORTEST:
        return {}
    found = {" ".join(words): keyword}
    if 1 < len(words) <= 4:
        found["".join(words)] = keyword
    return found


def _number(digits: str, keyword: str, shortest: int) -> Found:
    bare = digits.lstrip("0")
    # All digits alike stand where a number should be.
    if len(digits) < shortest or len(bare) < SHORTEST or len(set(bare)) == 1:
        return {}
    return {f"number:{bare}": keyword}


def _of_name_value(text: str, keyword: str) -> Found:
    """A person's name: each part, and the whole in both orders, in every group of letters."""
    found: Found = {}
    for group in text.split("="):
        for spelling in dict.fromkeys((plain(group), spelt_out(group))):
            words = words_of(spelling)
            for word in words:
                found |= _of_word(word, keyword, SHORTEST_NAME)
            named = [w for w in words if w not in PLACEHOLDERS]
            nothing = all(map(_says_nothing, named)) and any(w.isdigit() for w in named)
            if len(named) < 2 or nothing:
                continue
            turned = [*named[1:], named[0]]
            for order in (named, turned):
                found |= _phrase(order[:2], keyword) | _phrase(order, keyword)
                if any(has_own_words(w) for w in order):
                    found["script:" + "".join(order)] = keyword
    return found


def _of_date(text: str, keyword: str) -> Found:
    """A DA or DT value, or a range of them: its dates, and the times beside them."""
    dates = list(re.finditer(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)(\d{4,6})?", text))
    found = {} if dates else _of_text(text, keyword)
    for match in dates:
        found |= _date(int(match[1]), int(match[2]), int(match[3]), keyword)
        found |= _time(match[4] or "", keyword)
    return found


def _date(year: int, month: int, day: int, keyword: str) -> Found:
    if (year, month, day) in _PLACEHOLDER_DATES or not (1 <= month <= 12 and day):
        return {}
    return {f"date:{year:04d}-{month:02d}-{day:02d}": keyword}


def _of_time(text: str, keyword: str) -> Found:
    times = list(re.finditer(r"(?<!\d)(\d\d):?(\d\d):?(\d\d)?(?:\.\d+)?", text))
    found = {} if times else _of_text(text, keyword)
    for match in times:
        found |= _time("".join(part or "" for part in match.groups()), keyword)
    return found


def _time(digits: str, keyword: str) -> Found:
    digits = digits[: 6 if len(digits) >= 6 else 4]
    return {f"time:{digits}": keyword} if digits and digits not in _PLACEHOLDER_TIMES else {}


def _of_uid(text: str, keyword: str) -> Found:
    if text.startswith(_STANDARD_UIDS) or not text:
        return {}
    if not re.fullmatch(r"[\d.]+", text) or text.count(".") < 2:
        return _of_text(text, keyword)
    # The last part of a UID tells an object apart as well as the whole.
    return {f"uid:{text}": keyword} | _number(text.rpartition(".")[2], keyword, 10)


def _of_integer(text: str, keyword: str) -> Found:
    return _number(text.lstrip("+-"), keyword, _SHORTEST_NUMBER) if text.isdigit() else {}


def _of_age(text: str, keyword: str) -> Found:
    # Ages below 90 are facts that may come out.
    match = re.fullmatch(r"(\d{3})Y", text)
    return {} if match and int(match[1]) < 90 else _of_text(text, keyword)


_READERS = {
    "AS": _of_age,
    "DA": _of_date,
    "DT": _of_date,
    "IS": _of_integer,
    "PN": _of_name_value,
    "TM": _of_time,
    "UI": _of_uid,
}
