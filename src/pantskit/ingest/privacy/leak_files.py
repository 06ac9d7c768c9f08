"""Every text that a written file holds, decompressed: what the leak scan looks through.

NIfTI, JSON, CSV, Excel, Parquet, PNG and DICOM are read by their structure, so that compressed
columns, chunks and element values are seen as they are; anything else as bytes. Text is looked
for as UTF-8, Latin-1, UTF-16 in both orders, and in the character sets of DICOM.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from pantskit.core.errors import ImageError
from pantskit.ingest.privacy.leak_text import (
    CODED_SHORTEST,
    VOXEL_RUN,
    WIDE_LIMIT,
    Piece,
    texts_of,
)
from pantskit.ingest.privacy.leak_volumes import (
    PassingVoxels,
    is_packed_or_nifti,
    never_text,
    volume_pieces,
)
from pantskit.ingest.privacy.voxel_text import WideText

_ASCII_RUN = re.compile(rb"[\x20-\x7e]{7,}")
_NUMBER = re.compile(r"\s*[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?\s*")
_XML_TEXT = re.compile(r">([^<>]*[^<>\s][^<>]*)<")


def pieces_of(path: Path, wide: WideText, voxels: PassingVoxels | None = None) -> Iterator[Piece]:
    """Everything in a file that could be text.

    Args:
        path: the file; its content decides how it is read, its name only for tables.
        wide: looks for values among voxels, as 16-bit letters.
        voxels: those that it was written from, or None.

    Raises:
        OSError: If it cannot be read.
        ImageError: If it is damaged.
    """
    seen = voxels.pieces(path) if voxels else None
    if seen is not None:
        yield from seen
        return
    raw = path.read_bytes()
    try:
        yield from _pieces(raw, path.suffix.lower(), wide)
    # Each format's reader has errors of its own for damaged bytes.
    except Exception as error:
        raise ImageError(
            f"a file that was written cannot be read back ({type(error).__name__})"
        ) from None


def _pieces(raw: bytes, suffix: str, wide: WideText) -> Iterator[Piece]:
    if is_packed_or_nifti(raw):
        yield from volume_pieces(raw, wide)
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
    # The columns' names once more, in base64, whose letters would now and then be a short value.
    if schema := extra.get(b"ARROW:schema"):
        for match in VOXEL_RUN.finditer(base64.b64decode(schema)):
            yield Piece(match[0].decode("utf-8", "replace"))
    others = [pair for pair in extra.items() if pair[0] != b"ARROW:schema"]
    texts += [part.decode("utf-8", "replace") for pair in others for part in pair]
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
                unpacked = zlib.decompressobj().decompress(body[match.start() :], WIDE_LIMIT)
                yield from texts_of(unpacked)
                break
    yield from texts_of(raw[place:])


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
        if dataset.get("BitsAllocated") == 16 and never_text(np.frombuffer(even, np.int16)):
            return
        yield from (Piece(m[0].decode("latin-1"), shortest=4) for m in VOXEL_RUN.finditer(raw))
        return
    for frame in pydicom.encaps.generate_frames(raw, number_of_frames=1):
        # Headers of JPEG and JPEG 2000 end with the start of scan or of data.
        ends = [n for n in (frame.find(b"\xff\xda"), frame.find(b"\xff\x93")) if n > 0]
        yield from texts_of(frame[: min(ends, default=0)])
        for match in _ASCII_RUN.finditer(frame):
            yield Piece(match[0].decode("ascii"), shortest=CODED_SHORTEST)
