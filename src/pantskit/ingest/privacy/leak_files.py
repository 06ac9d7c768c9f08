"""Every text that a written file holds, decompressed: what the leak scan looks through.

NIfTI, JSON, CSV, Excel, Parquet, PNG and DICOM are read by their structure, so that compressed
columns, chunks and element values are seen as they are; anything else as bytes. Text is looked
for as UTF-8, Latin-1, UTF-16 in both orders, and in the character sets of DICOM.
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pantskit.core.errors import ImageError
from pantskit.ingest.privacy.deflate_literals import gzip_literals
from pantskit.ingest.privacy.voxel_text import WideText

# Runs of bytes that could be text: printable, the escape of ISO 2022, and whatever a character
# set may have above ASCII; among voxels not 0xf8 and above, the high bytes of small numbers.
_RUN = re.compile(rb"[\t\x1b\x20-\x7e\x80-\xff]{3,}")
_VOXEL_RUN = re.compile(rb"[\x20-\x7e\x80-\xf7]{4,}")
_ASCII_RUN = re.compile(rb"[\x20-\x7e]{7,}")
_WIDE_RUN = re.compile(r"[^\x00-\x1f\ufffd]{2,}")
_NEAR_RUN = re.compile(r"[\x20-\u052f]{3,}")  # Latin, Greek, Cyrillic
# The numbers 1 to 4 in a row, as dimensions are, read in the wrong order: letters with accents.
_SMALL_NUMBERS = re.compile(r"[\u0100\u0200\u0300\u0400]{2,}")
_CODECS = (
    "utf-8", "latin-1", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_9", "cp1252", "gb18030",
    "shift_jis", "euc_jp", "euc_kr", "iso2022_jp", "iso2022_jp_2", "iso2022_kr",
)  # fmt: skip
_NUMBER = re.compile(r"\s*[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?\s*")
_XML_TEXT = re.compile(r">([^<>]*[^<>\s][^<>]*)<")
_NIFTI_HEADER = 352
_SMALLEST_HEADER = 348
_GZIP = b"\x1f\x8b"
_BLOCK_BYTES = 1 << 20  # looked at in one go: stays in the cache
_SEAM = 256  # bytes of a block that are looked at with the next: longer than a value
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


def pieces_of(path: Path, wide: WideText, voxels: NDArray[Any] | None = None) -> Iterator[Piece]:
    """Everything in a file that could be text.

    Args:
        path: the file; its content decides how it is read, its name only for tables.
        wide: looks for values among voxels, as 16-bit letters.
        voxels: (i, j, k), what it was written from, or None.

    Raises:
        OSError: If it cannot be read.
        ImageError: If it is damaged.
    """
    raw = path.read_bytes()
    try:
        yield from _pieces(raw, path.suffix.lower(), wide, voxels)
    # Each format's reader has errors of its own for damaged bytes.
    except Exception as error:
        raise ImageError(
            f"a file that was written cannot be read back ({type(error).__name__})"
        ) from None


def _pieces(
    raw: bytes, suffix: str, wide: WideText, voxels: NDArray[Any] | None
) -> Iterator[Piece]:
    if raw[:2] == _GZIP or _is_nifti(raw):
        yield from _gzip(raw, wide, voxels)
    elif raw[128:132] == b"DICM":
        yield from _dicom(raw)
    elif raw[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _png(raw)
    elif raw[:4] == b"PAR1":
        yield from _parquet(raw)
    elif raw[:4] == b"PK\3\4" and suffix == ".xlsx":
        yield from _workbook(raw)
    elif suffix == ".json":
        yield Piece("", len(raw))
        yield from _values(json.loads(raw))
    elif suffix == ".csv":
        yield from _csv(raw)
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
                text = _SMALL_NUMBERS.sub("\0", raw[start:].decode(codec, "replace"))
                yield from map(Piece, _WIDE_RUN.findall(text))
                # Numbers beside a word come out as letters of far scripts, which are no part of it.
                yield from map(Piece, _NEAR_RUN.findall(text))


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


def _workbook(raw: bytes) -> Iterator[Piece]:
    """An Excel file: its cells, the names of its sheets, and the texts of its properties."""
    import openpyxl

    yield Piece("", len(raw))
    book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True)
    for sheet in book.worksheets:
        yield Piece(sheet.title)
        for row in sheet.iter_rows(values_only=True):
            yield from _values([cell for cell in row if cell is not None])
    book.close()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for name in archive.namelist():
            if not name.startswith(("xl/worksheets/", "xl/styles", "xl/sharedStrings")):
                yield from map(Piece, _XML_TEXT.findall(archive.read(name).decode("utf-8")))


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


def _gzip(raw: bytes, wide: WideText, voxels: NDArray[Any] | None) -> Iterator[Piece]:
    """A gzip file, whose header must hold no name, comment or other field."""
    stream = _Unpacked(raw)
    head = stream.read(_NIFTI_HEADER)
    if not _is_nifti(head):
        unpacked = head + stream.read(-1)
        yield from (Piece("", fault="gzip header") for _ in range(stream.named))
        yield Piece("", len(unpacked))
        yield from texts_of(unpacked)
        return
    offset, expected, itemsize = _extent(head)
    head += stream.read(offset - len(head))
    yield from texts_of(head)
    image = None if voxels is None else _file_order(voxels)
    if image is not None and _unpacks_to(raw, head, image):
        stream = _Unpacked(image)
    if itemsize != 1 or not _spells_no_text(raw, offset, expected):
        yield from _voxels(stream, expected, itemsize, wide)
        rest = stream.read(-1)
        yield from texts_of(rest)
        expected += len(rest)
    yield from (Piece("", fault="gzip header") for _ in range(stream.named))
    yield Piece("", offset + expected)


def _file_order(voxels: NDArray[Any]) -> memoryview:
    return np.asfortranarray(voxels).T.data.cast("B")


def _unpacks_to(raw: bytes, head: bytes, image: memoryview) -> bool:
    """Whether a gzip file gives a header and an image, by the checksum and length at its end.

    Were anything added to it, another member or loose bytes, other numbers would stand there.
    """
    crc = isal_zlib.crc32(image, isal_zlib.crc32(head))
    size = (len(head) + len(image)) & 0xFFFFFFFF
    return raw[:2] == _GZIP and raw[3] == 0 and raw[-8:] == struct.pack("<LL", crc, size)


class _Unpacked:
    """The bytes of a gzip file, all its members; counts those whose header says more than it must.

    A file that is not packed is read in the same way.
    """

    def __init__(self, raw: bytes | memoryview) -> None:
        self._raw = memoryview(raw)
        self._member: Any = None
        self._packed = bytes(raw[:2]) == _GZIP
        self.named = 0

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end; all for -1."""
        parts, left = [], size if size >= 0 else 1 << 62
        while left > 0 and (part := self._some(min(left, _BLOCK_BYTES))):
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        if not self._packed:
            part, self._raw = bytes(self._raw[:size]), self._raw[size:]
            return part
        data: Any = b""
        while True:
            if self._member is None:
                if self._raw[:2] != _GZIP:
                    # What follows the last member is no part of it, and is looked at as it is.
                    self._packed = False
                    return self._some(size)
                self.named += self._raw[3] != 0
                self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
                data = self._raw
            part = bytes(self._member.decompress(data, size))
            if self._member.eof:
                self._raw = memoryview(self._member.unused_data)
                self._member = None
            elif not part:
                raise EOFError
            if part:
                return part


def _spells_no_text(raw: bytes, offset: int, expected: int) -> bool:
    """Whether no byte of a packed 8-bit image can be a letter."""
    if raw[:2] != _GZIP or raw[3]:
        return False
    walked = gzip_literals(raw, skip=offset)
    return (
        walked is not None
        and not walked.spelt[0x20:].any()
        and walked.stop == len(raw)
        and walked.size == offset + expected
    )


def _is_nifti(raw: bytes) -> bool:
    return len(raw) >= _SMALLEST_HEADER and raw[344:347] in (b"n+1", b"ni1")


def _extent(head: bytes) -> tuple[int, int, int]:
    """Where the voxels begin, how many bytes they are, and how many bytes each has."""
    dims = struct.unpack_from("<8h", head, 40)
    count = int(np.prod([max(d, 1) for d in dims[1 : 1 + max(0, min(dims[0], 7))]], dtype=np.int64))
    itemsize = struct.unpack_from("<h", head, 72)[0] // 8
    offset = max(int(struct.unpack_from("<f", head, 108)[0]), _NIFTI_HEADER)
    return offset, count * itemsize, itemsize


def _voxels(stream: _Unpacked, size: int, itemsize: int, wide: WideText) -> Iterator[Piece]:
    """Text among voxels; where none can be, that takes one look at each voxel.

    Voxels are looked at in blocks that stay in the cache, each with the end of the one before.
    """
    before = b""
    while size > 0 and (block := stream.read(min(size, _BLOCK_BYTES))):
        size -= len(block)
        whole = block[: len(block) - len(block) % 8]
        if itemsize == 2:
            values: NDArray[np.int16] = np.frombuffer(whole, np.int16)
            seam: NDArray[np.int16] = np.frombuffer(before[-_SEAM:] + whole[:_SEAM], np.int16)
            for part in (seam, values):
                for text in wide.find(part):
                    yield Piece(text, shortest=_CODED_SHORTEST)
        blank = _never_text(np.frombuffer(whole, np.int16)) if itemsize == 2 else False
        if itemsize == 1:
            blank = int(np.frombuffer(block, np.uint8).max()) < 0x20
        if not blank:
            for match in _VOXEL_RUN.finditer(before[-_SEAM:] + block):
                yield from (Piece(text, shortest=4) for text in _readings(match[0]))
        before = whole


def _never_text(values: NDArray[np.int16]) -> bool:
    """Whether every second byte is no letter: HU and stored values in -2048 to 8191.

    Their high bytes are 0x00 to 0x1f or 0xf8 to 0xff, which no run of text has.
    """
    return values.size == 0 or bool(values.min() >= -2048 and values.max() < 8192)


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
        yield from (Piece(m[0].decode("latin-1"), shortest=4) for m in _VOXEL_RUN.finditer(raw))
        return
    for frame in pydicom.encaps.generate_frames(raw, number_of_frames=1):
        # Headers of JPEG and JPEG 2000 end with the start of scan or of data.
        ends = [n for n in (frame.find(b"\xff\xda"), frame.find(b"\xff\x93")) if n > 0]
        yield from texts_of(frame[: min(ends, default=0)])
        for match in _ASCII_RUN.finditer(frame):
            yield Piece(match[0].decode("ascii"), shortest=_CODED_SHORTEST)
