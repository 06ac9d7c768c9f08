"""The elements of a DICOM header, each distinct one converted once.

Slices of a series repeat nearly all of their header, and pydicom's parsing costs more than their
pixels do. A plain header is therefore cut into elements here, and the meaning of an element (by
pydicom) is remembered by its bytes. A header that is odd in any way is left to pydicom, which
knows more of the ways in which files are wrong.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

import pydicom
import pydicom.config
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import data_element_generator, read_dataset

from pantskit.core.errors import ImageError
from pantskit.ingest.dicom.cutting import (
    LONG_VR,
    SHORT_VR,
    Cut,
    MoreNeeded,
    OddHeader,
    PixelElement,
    cut_elements,
    pixel_element,
    swapped,
)
from pantskit.ingest.dicom.values import text_of
from pantskit.ingest.privacy.identifiers import (
    Census,
    Found,
    Identifiers,
    element_identifiers,
    identifying_values,
    read_identifiers,
)

# Values outside the standard's rules are read as they are: what matters is judged later, and
# pydicom's warnings would quote them.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
# Those whose pixels are not in fragments; "" where an old file names none.
PLAIN_SYNTAXES = {"", _IMPLICIT, "1.2.840.10008.1.2.1", _BIG_ENDIAN, DEFLATED}

_CHARACTER_SET, _TRANSFER_SYNTAX = 0x00080005, 0x00020010
_PRIVATE = 0x00010000  # the bit of a tag that only private ones have
_NUMBERS = frozenset(b"AT DS FD FL IS SL SS UL US".split())  # they identify nobody

# Of these an ASCII value is one text, if it has no backslash and no escape.
_PLAIN = frozenset(b"DA TM UI".split())

_FIRST_BYTES = 1 << 14  # holds the header of most slices
_MOST_BYTES = 1 << 28  # of a header; one of 10,000 frames has a few dozen megabytes
_SEARCHED_FOR_END = 1 << 24
_LONG_ELEMENT = 1024  # longer ones are remembered by their digest
_MEMORY = 200_000  # elements remembered: some dozen megabytes

Converter = Callable[[Any], Any]
_Meaning = tuple[tuple[Found, ...], Any]
# What elements mean, by what that hangs on beside their bytes, and by these; one for a run's files.
HeaderMemory = dict[tuple[Any, ...], dict[bytes, _Meaning]]


@dataclass(frozen=True)
class Elements:
    """A header.

    Attributes:
        values: keyword to converted value, of the elements asked for that are present.
        identifiers: identifying values to the attribute they came from, for the leak scan.
        census: how many elements there are, for the audit.
        pixels: where the pixels are, or None.
        big_endian: whether numbers of two bytes and more begin with the high byte.
        dataset: the header as pydicom has it, where that was needed or asked for.
    """

    values: Mapping[str, Any]
    identifiers: tuple[Identifiers, ...]
    census: Census
    pixels: PixelElement | None
    big_endian: bool = False
    dataset: Dataset | None = None


class _Prefix:
    """The first bytes of an object, inflated where it is deflated; as many as asked for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        stream.seek(0)
        self.data = stream.read(_FIRST_BYTES)
        self._inflater: Any = None

    def more(self) -> bool:
        """Get more of it; whether there was any."""
        if len(self.data) > _MOST_BYTES:
            raise ImageError("a header of more than 256 MiB; such an object is not read")
        wanted = 3 * len(self.data)
        if self._inflater is None:
            piece = self._stream.read(wanted)
        else:
            piece = _inflated(self._inflater, self._stream, wanted)
        self.data += piece
        return bool(piece)

    def inflate_from(self, start: int) -> None:
        """Read on as a deflated object whose data set begins there."""
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        head, tail = self.data[:start], self.data[start:]
        self.data = head + self._inflater.decompress(tail, 4 * _FIRST_BYTES)

    def upto(self, size: int) -> bytes:
        """The first `size` bytes, after inflating.

        Raises:
            ImageError: If the deflated stream has no end: nothing else tells that its bytes are
                damaged. What follows those asked for is not kept, and not looked through for long.
        """
        data = self.data + _inflated(self._inflater, self._stream, size - len(self.data))
        left = _SEARCHED_FOR_END
        while left > 0 and not self._inflater.eof:
            piece = _inflated(self._inflater, self._stream, 1 << 20)
            if not (piece or self._inflater.eof):
                raise ImageError(
                    "a deflated object without an end: it is truncated or damaged; send it again"
                )
            left -= len(piece)
        return data


def inflated_object(stream: IO[bytes], size: int) -> bytes:
    """The first `size` bytes of a deflated object, or all where it has fewer.

    Raises:
        ImageError: If it has no end.
    """
    prefix = _Prefix(stream)
    _, start, _ = _meta(prefix)
    prefix.inflate_from(start)
    return prefix.upto(size)


def _inflated(inflater: Any, stream: IO[bytes], limit: int) -> bytes:
    """Up to `limit` more bytes of a deflated stream; fewer only where it ends."""
    pieces, left = [], limit
    while left > 0 and not inflater.eof:
        source = inflater.unconsumed_tail or stream.read(1 << 16)
        if not source:
            break
        pieces.append(inflater.decompress(source, left))
        left -= len(pieces[-1])
    return b"".join(pieces)


def read_elements(
    stream: IO[bytes],
    wanted: Mapping[int, tuple[str, Converter]],
    memory: HeaderMemory,
    whole: Callable[[str], bool],
) -> Elements:
    """Read a header up to its pixels.

    Args:
        stream: the object, with its preamble.
        wanted: tag to keyword and the function that makes a plain value of pydicom's.
        memory: what elements of earlier headers mean; added to.
        whole: by the SOP class, whether the data set is asked for too.

    Raises:
        ImageError: If it is too large.
        Exception: Of many kinds, where it is damaged.
    """
    prefix = _Prefix(stream)
    if prefix.data[128:132] != b"DICM":
        raise InvalidDicomError
    try:
        meta, start, syntax = _meta(prefix)
        if syntax == DEFLATED:
            prefix.inflate_from(start)
        found, end = _plain(prefix, meta, start, syntax, wanted, memory)
    except OddHeader:
        return _by_pydicom(prefix, stream, wanted)
    if not whole(found.values.get("SOPClassUID", "")):
        return found
    body = io.BytesIO(prefix.data[start:end])
    dataset = read_dataset(body, is_implicit_VR=syntax == _IMPLICIT, is_little_endian=True)
    return replace(found, dataset=dataset)


def _meta(prefix: _Prefix) -> tuple[Cut, int, str]:
    """The elements of group 2, where they end, and the transfer syntax."""
    while True:
        try:
            meta, start = cut_elements(prefix.data, 132, explicit=True, last_group=2)
            break
        except MoreNeeded:
            if not prefix.more():
                raise OddHeader from None
    for tag, begin, end in meta:
        if tag == _TRANSFER_SYNTAX:
            return meta, start, prefix.data[begin + 8 : end].decode("ascii").strip("\0 ")
    raise OddHeader


def _plain(
    prefix: _Prefix,
    meta: Cut,
    start: int,
    syntax: str,
    wanted: Mapping[int, tuple[str, Converter]],
    memory: HeaderMemory,
) -> tuple[Elements, int]:
    """The header by cutting it into elements, and where its pixels begin."""
    explicit = syntax != _IMPLICIT
    if syntax == _BIG_ENDIAN:
        raise OddHeader
    if not explicit and prefix.data[start + 4 : start + 6] in LONG_VR | SHORT_VR:
        raise OddHeader  # its bytes say otherwise
    complete = False
    while True:
        try:
            cut, end = cut_elements(prefix.data, start, explicit=explicit, complete=complete)
            pixels = pixel_element(prefix.data, end, explicit=explicit, complete=complete)
            break
        except MoreNeeded:
            if complete:
                raise OddHeader from None
            complete = not prefix.more()
    if sum(map(len, memory.values())) > _MEMORY:
        memory.clear()
    values: dict[str, Any] = {}
    identifiers: list[Identifiers] = list(_preamble(prefix.data[:128], memory))
    _interpret(prefix.data, meta, True, wanted, memory, values, identifiers)
    _interpret(prefix.data, cut, explicit, wanted, memory, values, identifiers)
    private = len([tag for tag, _, _ in cut if tag & _PRIVATE])
    census = Census(len(meta) + len(cut), private, len(identifiers))
    return Elements(values, tuple(identifiers), census, pixels), end


def _interpret(
    data: bytes,
    cut: Cut,
    explicit: bool,
    wanted: Mapping[int, tuple[str, Converter]],
    memory: HeaderMemory,
    values: dict[str, Any],
    identifiers: list[Identifiers],
) -> None:
    """Add what the elements mean to values and identifiers."""
    creators = {
        tag: data[start:end]
        for tag, start, end in cut
        if tag == _CHARACTER_SET or (tag & _PRIVATE and 0 < tag & 0xFFFF < 0x100)
    }
    charset = creators.pop(_CHARACTER_SET, b"")
    known = memory.setdefault((explicit, charset, *creators.items()), {})
    for tag, start, end in cut:
        raw = short = data[start:end]
        if end - start >= _LONG_ELEMENT:
            short = hashlib.blake2b(raw, digest_size=24).digest()
        meaning = known.get(short)
        if meaning is None:
            creator = creators.get(tag & ~0xFFFF | tag >> 8 & 0xFF, b"") if tag & _PRIVATE else b""
            converter = wanted[tag][1] if tag in wanted else None
            meaning = known[short] = _meaning(tag, raw, explicit, charset, creator, converter)
        found, value = meaning
        if found:
            identifiers += found
        if value is not None:
            values[wanted[tag][0]] = value


def _meaning(
    tag: int, raw: bytes, explicit: bool, charset: bytes, creator: bytes, converter: Any
) -> _Meaning:
    number = explicit and raw[4:6] in _NUMBERS
    # A whole number of six digits and more may be somebody's.
    number = number and not (raw[4:6] == b"IS" and len(raw) >= 14)
    if number and converter is None:
        return (), None
    if number and raw[4:6] in (b"DS", b"IS") and converter is not text_of:
        # Positions and instance numbers are new in every slice.
        # Padding stands behind; a zero byte before the digits is damage, which hides others.
        texts = raw[8:].decode("ascii").rstrip("\0 ").split("\\")
        return (), converter(texts if len(texts) > 1 else texts[0])
    public = not tag >> 16 & 1
    if public and explicit and raw[4:6] in _PLAIN and converter in (None, text_of):
        value = raw[8:]
        if value.isascii() and b"\\" not in value and b"\x1b" not in value:
            # New in every slice too, and read without making a data set for each.
            one = element_identifiers(tag, raw[4:6].decode("ascii"), value)
            text = value.decode("ascii").rstrip("\0 ")
            return (one,) if one else (), None if converter is None else text_of(text)
    encodings = convert_encodings(_first(charset, explicit, None).value if charset else None)
    dataset = _dataset(creator + raw, explicit, encodings)
    found = () if number else identifying_values(dataset)
    return found, None if converter is None else converter(dataset[tag].value)


def _first(raw: bytes, explicit: bool, encodings: Any) -> Any:
    return next(iter(_dataset(raw, explicit, encodings)))


def _dataset(raw: bytes, explicit: bool, encodings: Any) -> Dataset:
    elements = data_element_generator(io.BytesIO(raw), not explicit, True, encoding=encodings)
    dataset = Dataset({element.tag: element for element in elements})
    dataset.set_original_encoding(not explicit, True, encodings)
    return dataset


def _preamble(preamble: bytes, memory: HeaderMemory) -> tuple[Identifiers, ...]:
    if not preamble.strip(b"\0"):
        return ()
    known = memory.setdefault((), {})
    if preamble not in known:
        dataset = Dataset()
        dataset.preamble = preamble
        known[preamble] = identifying_values(dataset), None
    return known[preamble][0]


def _by_pydicom(
    prefix: _Prefix, stream: IO[bytes], wanted: Mapping[int, tuple[str, Converter]]
) -> Elements:
    """The same by pydicom."""
    if DEFLATED.encode() in prefix.data:
        # pydicom would inflate all of it, however large it becomes.
        raise ImageError("damaged DICOM header (deflated)")
    stream.seek(0)
    dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=False)
    identifiers, census = read_identifiers(dataset)
    implicit, little = dataset.original_encoding
    head = stream.read(12)
    pixels = None
    if len(head) == 12:  # of the element that pydicom stopped at; objects without pixels have none
        pixels = pixel_element(head if little else swapped(head), 0, explicit=not implicit)
    if pixels:
        pixels = replace(pixels, offset=pixels.offset + stream.tell() - 12)
    values = {}
    for tag, (keyword, converter) in wanted.items():
        part = dataset.file_meta if tag >> 16 == 2 else dataset
        if tag in part and (value := converter(part[tag].value)) is not None:
            values[keyword] = value
    return Elements(values, identifiers, census, pixels, not little, dataset)
