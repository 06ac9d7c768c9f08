"""Every text that a written file holds, decompressed: what the leak scan looks through.

NIfTI, JSON, CSV, Parquet, PNG and DICOM are read by their structure, so that compressed columns,
chunks and element values are seen as they are; anything else as bytes. Text is looked for as
UTF-8, Latin-1, UTF-16 in both orders, and in the character sets of DICOM.
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from isal import igzip, isal_zlib
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pantskit.core.errors import ImageError
from pantskit.ingest.deflate_literals import gzip_literals
from pantskit.ingest.voxel_text import wide_text_at

# Runs of bytes that could be text: printable, the escape of ISO 2022, and what follows in
# multi-byte sets; 0xf8 and above start no UTF-8 letter and are high bytes of small numbers.
_RUN = re.compile(rb"[\t\x1b\x20-\x7e\x80-\xf7]{3,}")
_ASCII_RUN = re.compile(rb"[\x20-\x7e]{7,}")
_CODECS = (
    "utf-8", "latin-1", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_9", "cp1252", "gb18030",
    "shift_jis", "euc_jp", "euc_kr", "iso2022_jp", "iso2022_jp_2", "iso2022_kr",
)  # fmt: skip
_NUMBER = re.compile(r"\s*[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?\s*")
_NIFTI_HEADER = 352
_SMALLEST_HEADER = 348
_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20  # voxels looked at in one go: stays in the cache
# Two bytes a letter are looked for in files up to this size; ours that are larger are images.
_WIDE_LIMIT = 1 << 24
_CODED_SHORTEST = 7  # bytes of coded pixels are random: shorter values turn up by chance


@dataclass(frozen=True)
class Piece:
    """A piece of a file.

    Attributes:
        text: what to look through.
        size: decompressed bytes that it, and what held no text before it, stand for.
        is_number: a number of a table or a numeric element.
        shortest: values shorter than this are not looked for in it.
        fault: what is wrong with the file itself, as an attribute of a leak.
    """

    text: str
    size: int = 0
    is_number: bool = False
    shortest: int = 0
    fault: str = ""


def pieces_of(path: Path, literal: Sequence[str] = ()) -> Iterator[Piece]:
    """Everything in a file that could be text.

    Args:
        path: the file; its content decides how it is read, its name only for tables.
        literal: values that are looked for among voxels as 16-bit letters.

    Raises:
        OSError: If it cannot be read.
        ImageError: If it is damaged.
    """
    raw = path.read_bytes()
    try:
        yield from _pieces(raw, path.suffix.lower(), literal)
    # Each format's reader has errors of its own for damaged bytes.
    except Exception as error:
        raise ImageError(
            f"a file that was written cannot be read back ({type(error).__name__})"
        ) from None


def _pieces(raw: bytes, suffix: str, literal: Sequence[str]) -> Iterator[Piece]:
    if raw[:2] == _GZIP:
        yield from _gzip(raw, literal)
    elif raw[128:132] == b"DICM":
        yield from _dicom(raw)
    elif raw[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _png(raw)
    elif raw[:4] == b"PAR1":
        yield from _parquet(raw)
    elif suffix == ".json":
        yield Piece("", len(raw))
        yield from _values(json.loads(raw))
    elif suffix == ".csv":
        yield from _csv(raw)
    elif _is_nifti(raw):
        yield from _nifti(raw, literal)
    else:
        yield Piece("", len(raw))
        yield from texts_of(raw)


def texts_of(raw: bytes) -> Iterator[Piece]:
    """Text in bytes of no known structure."""
    for match in _RUN.finditer(raw):
        run = match[0]
        if run.isascii() and b"\x1b" not in run:
            yield Piece(run.decode("ascii"))
        else:
            yield from map(Piece, _readings(run))
    if len(raw) <= _WIDE_LIMIT and not _is_plain(raw):
        for codec in ("utf-16-le", "utf-16-be"):
            for start in (0, 1):
                # Numbers between letters come out as letters of far scripts, which part words.
                text = raw[start:].decode(codec, "replace")
                yield from (Piece(run) for run in re.findall(r"[^\x00-\x1f\ufffd]{2,}", text))


def _is_plain(raw: bytes) -> bool:
    if b"\0" in raw:
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _readings(run: bytes) -> Iterator[str]:
    """A run of bytes in every character set that can read it."""
    seen = set()
    for codec in _CODECS:
        text = run.decode(codec, "replace")
        if text not in seen:
            seen.add(text)
            yield text


def _values(value: Any) -> Iterator[Piece]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield Piece(str(key))
            yield from _values(item)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item)
    elif isinstance(value, str):
        yield Piece(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield Piece(str(value), is_number=True)


def _csv(raw: bytes) -> Iterator[Piece]:
    yield Piece("", len(raw))
    for row in csv.reader(io.StringIO(raw.decode("utf-8", "surrogateescape"))):
        for cell in row:
            if cell:
                yield Piece(cell, is_number=_NUMBER.fullmatch(cell) is not None)


def _parquet(raw: bytes) -> Iterator[Piece]:
    """Columns decompressed, their names, and the file's own metadata."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(raw))
    yield Piece("", len(raw))
    extra = file.metadata.metadata or {}
    texts = [file.metadata.created_by or "", *file.schema_arrow.names]
    texts += [part.decode("utf-8", "replace") for pair in extra.items() for part in pair]
    yield from map(Piece, texts)
    for column in file.read().columns:
        yield Piece("", column.nbytes)
        for value in dict.fromkeys(map(_hashable, column.to_pylist())):
            yield from _values(json.loads(value) if isinstance(value, bytes) else value)


def _hashable(value: Any) -> Any:
    simple = value is None or isinstance(value, (str, int, float))
    return value if simple else json.dumps(value, default=str).encode()


def _png(raw: bytes) -> Iterator[Piece]:
    """Chunks but for the pixels, texts unpacked; and what follows the end."""
    yield Piece("", len(raw))
    place, kind = 8, b""
    while kind != b"IEND" and place + 12 <= len(raw):
        length, kind = struct.unpack(">I4s", raw[place : place + 8])
        body = raw[place + 8 : place + 8 + length]
        place += 12 + length
        if kind == b"IDAT":
            continue
        yield from texts_of(body)
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            # The packed part begins at the first zlib header that opens.
            for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", body):
                unpacked = zlib.decompressobj().decompress(body[match.start() :], _WIDE_LIMIT)
                yield from texts_of(unpacked)
                break
    yield from texts_of(raw[place:])


def _gzip(raw: bytes, literal: Sequence[str]) -> Iterator[Piece]:
    """A gzip file, whose header must hold no name, comment or other field."""
    if raw[3]:
        yield Piece("", fault="gzip header")
    head = isal_zlib.decompressobj(wbits=31).decompress(raw, 1 << 12)
    if raw[3] == 0 and _is_nifti(head):
        offset, expected, itemsize = _extent(head)
        if itemsize == 1:
            walked = gzip_literals(raw, skip=offset)
            small = walked is not None and not walked.spelt[0x20:].any()
            if walked and small and walked.stop == len(raw) and walked.size == offset + expected:
                yield Piece("", walked.size)
                yield from texts_of(head[:offset])
                return
    unpacked, names = _members(raw)
    yield from names
    if _is_nifti(unpacked):
        yield from _nifti(unpacked, literal)
    else:
        yield Piece("", len(unpacked))
        yield from texts_of(unpacked)


def _members(raw: bytes) -> tuple[bytes, list[Piece]]:
    """All gzip members unpacked, and what is wrong with the headers of later ones."""
    unpacked = igzip.decompress(raw)
    faults = []
    # Members begin where a header of theirs follows another's end; a name in one is a leak.
    # igzip has checked that they are members, so the flag byte is the fourth.
    rest, first = raw, True
    while raw.count(b"\x1f\x8b\x08", 1) and rest[:2] == _GZIP:
        if not first and rest[3]:
            faults.append(Piece("", fault="gzip header"))
        stream = isal_zlib.decompressobj(wbits=31)
        while not stream.eof:
            piece = stream.decompress(stream.unconsumed_tail or rest, 1 << 22)
            if not piece and not stream.unconsumed_tail and not stream.eof:
                break
        rest, first = stream.unused_data, False
    return unpacked, faults


def _is_nifti(raw: bytes) -> bool:
    return len(raw) >= _SMALLEST_HEADER and raw[344:347] in (b"n+1", b"ni1")


def _extent(head: bytes) -> tuple[int, int, int]:
    """Where the voxels begin, how many bytes they are, and how many bytes each has."""
    dims = struct.unpack_from("<8h", head, 40)
    count = int(np.prod([max(d, 1) for d in dims[1 : 1 + max(0, min(dims[0], 7))]], dtype=np.int64))
    itemsize = struct.unpack_from("<h", head, 72)[0] // 8
    offset = max(int(struct.unpack_from("<f", head, 108)[0]), _NIFTI_HEADER)
    return offset, count * itemsize, itemsize


def _nifti(raw: bytes, literal: Sequence[str]) -> Iterator[Piece]:
    offset, expected, itemsize = _extent(raw)
    yield Piece("", len(raw))
    yield from texts_of(raw[:offset])
    yield from _voxels(memoryview(raw)[offset : offset + expected], itemsize, literal)
    yield from texts_of(raw[offset + expected :])


def _voxels(raw: memoryview, itemsize: int, literal: Sequence[str]) -> Iterator[Piece]:
    """Text among voxels; of most images none can be there, which takes one look at each voxel."""
    if itemsize == 2 and len(raw) % 2 == 0:
        values: NDArray[np.int16] = np.frombuffer(raw, np.int16)
        yield from (Piece(text, shortest=_CODED_SHORTEST) for text in wide_text_at(values, literal))
        if _never_text(values):
            return
    elif itemsize == 1:
        small: NDArray[np.uint8] = np.frombuffer(raw, np.uint8)
        if all(part.max() < 0x20 for part in _blocks(small)):
            return
    for match in _RUN.finditer(raw):
        if len(match[0]) >= 4:
            yield from (Piece(text, shortest=4) for text in _readings(match[0]))


def _never_text(values: NDArray[np.int16]) -> bool:
    """Whether every second byte is no letter: HU and stored values in -2048 to 8191.

    Their high bytes are 0x00 to 0x1f or 0xf8 to 0xff, which no run of text has.
    """
    return all(part.min() >= -2048 and part.max() < 8192 for part in _blocks(values))


def _blocks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, values.size, _BLOCK):
        yield values[start : start + _BLOCK]


def _dicom(raw: bytes) -> Iterator[Piece]:
    """A DICOM file: preamble, every element by its value, and the bytes between them."""
    dataset = pydicom.dcmread(io.BytesIO(raw), force=True)
    yield Piece("", len(raw))
    pixels = dataset.get_item("PixelData") if "PixelData" in dataset else None
    start, stop = len(raw), len(raw)
    if pixels is not None and isinstance(pixels.value, bytes):
        start = raw.rfind(pixels.value[:64], 0, len(raw) - len(pixels.value) + 64)
        stop = start + len(pixels.value)
        yield from _pixels(pixels.value, dataset)
    yield from texts_of(raw[:start])
    yield from texts_of(raw[stop:])
    for part in (dataset.file_meta, dataset):
        yield from _elements(part)


def _elements(dataset: Dataset) -> Iterator[Piece]:
    for element in dataset:
        value = element.value
        if element.VR == "SQ":
            for item in value:
                yield from _elements(item)
        elif element.keyword == "PixelData":
            continue
        elif isinstance(value, bytes):
            yield from texts_of(value)
        else:
            many = value if isinstance(value, (list, tuple)) or element.VM > 1 else (value,)
            numeric = element.VR in ("DS", "IS", "US", "SS", "UL", "SL", "FL", "FD")
            yield from (Piece(str(v), is_number=numeric) for v in many if v is not None)


def _pixels(raw: bytes, dataset: Dataset) -> Iterator[Piece]:
    """Text among pixels: of coded ones, in what comes before the coded samples of each frame."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_encapsulated:
        even = raw if len(raw) % 2 == 0 else raw + b"\0"
        if dataset.get("BitsAllocated") == 16 and _never_text(np.frombuffer(even, np.int16)):
            return
        yield from (Piece(m[0].decode("latin-1"), shortest=4) for m in _RUN.finditer(raw))
        return
    for frame in pydicom.encaps.generate_frames(raw, number_of_frames=1):
        # Headers of JPEG and JPEG 2000 end with the start of scan or of data.
        ends = [n for n in (frame.find(b"\xff\xda"), frame.find(b"\xff\x93")) if n > 0]
        yield from texts_of(frame[: min(ends, default=0)])
        for match in _ASCII_RUN.finditer(frame):
            yield Piece(match[0].decode("ascii"), shortest=_CODED_SHORTEST)
