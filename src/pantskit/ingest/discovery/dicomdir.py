"""DICOMDIR: the index that lies beside the files of a DICOM medium.

It is no image. What it lists and what is not there may be slices of a series that otherwise
looks whole, so the two are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import pydicom

from pantskit.core.errors import ImageError

_VERSION = re.compile(r";\d+$")  # ISO 9660 file names end in a version
_ABOVE = ("PATIENT", "STUDY")


@dataclass(frozen=True)
class Listed:
    """A file that a DICOMDIR lists.

    Attributes:
        parts: folders and name, below the folder of the DICOMDIR.
        sop_uid: of the object in it, or "".
        series_uid: of its series, or "".
        modality: of its series, or "".
    """

    parts: tuple[str, ...]
    sop_uid: str
    series_uid: str
    modality: str


def is_directory_name(name: str) -> bool:
    """Whether a file name is a DICOMDIR's."""
    return normal_name(name) == "dicomdir"


def normal_name(name: str) -> str:
    """A file name as ISO 9660, Windows and others may each write it differently."""
    return _VERSION.sub("", name).rstrip(".").lower().removesuffix(".dcm")


def normal_place(place: PurePosixPath) -> tuple[str, ...]:
    """A path with each of its parts as `normal_name`."""
    return tuple(map(normal_name, place.parts))


def read_directory(stream: IO[bytes]) -> tuple[Listed, ...]:
    """Every file that a DICOMDIR lists, in its order.

    A file listed by what is no path below it (`..`, an absolute path) is left out.

    Raises:
        ImageError: If it cannot be parsed; the message quotes none of it.
    """
    try:
        dataset = pydicom.dcmread(stream, force=False)
        return tuple(_listed(dataset))
    except Exception as error:  # a damaged header raises nearly anything inside pydicom
        raise ImageError(f"damaged DICOMDIR ({type(error).__name__})") from None


def listed_files(directory: Path) -> list[Path]:
    """Files that a DICOMDIR lists and that lie in its own folder, whatever their letters' case.

    What it lists beyond that folder is not looked at. An unreadable DICOMDIR lists nothing here;
    reading it says why.
    """
    try:
        with directory.open("rb") as stream:
            listed = read_directory(stream)
    except (ImageError, OSError):
        return []
    names: dict[Path, dict[str, Path]] = {}
    root = directory.parent.resolve()
    found: list[Path] = []
    for item in listed:
        path: Path | None = directory.parent
        for part in item.parts:
            path = _child(path, part, names) if path else None
        if path and path.is_file() and path.resolve().is_relative_to(root):
            found.append(path)
    return found


def _child(folder: Path, name: str, names: dict[Path, dict[str, Path]]) -> Path | None:
    if folder not in names:
        try:
            names[folder] = {normal_name(path.name): path for path in sorted(folder.iterdir())}
        except OSError:
            names[folder] = {}
    return names[folder].get(normal_name(name))


def _listed(dataset: pydicom.Dataset) -> Iterator[Listed]:
    for record, series in _in_series(dataset):
        parts = record.get("ReferencedFileID") or ()
        parts = (parts,) if isinstance(parts, str) else tuple(map(str, parts))
        if parts and not any(_leads_out(part) for part in parts):
            uid, modality = (
                str(series.get(k, "") or "") for k in ("SeriesInstanceUID", "Modality")
            )
            # Some writers repeat the attributes of the image instead of pointing at it.
            sop_uid = record.get("ReferencedSOPInstanceUIDInFile") or record.get("SOPInstanceUID")
            yield Listed(parts, str(sop_uid or ""), uid, modality)


def _in_series(dataset: pydicom.Dataset) -> list[tuple[pydicom.Dataset, pydicom.Dataset]]:
    """Every record with the series record above it, or an empty one.

    Records point at one another by their place in the file. Where these pointers do not reach
    all of them (they are lost when the file was written again), the order tells: images come
    after their series.
    """
    records = list(dataset.get("DirectoryRecordSequence") or ())
    by_offset = {record.seq_item_tell: record for record in records}
    none = pydicom.Dataset()
    found: list[tuple[pydicom.Dataset, pydicom.Dataset]] = []
    waiting = [(dataset.get("OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity"), none)]
    while waiting:
        offset, series = waiting.pop()
        record = by_offset.pop(offset, None)
        if record is not None:
            kind = record.get("DirectoryRecordType")
            own = record if kind == "SERIES" else none if kind in _ABOVE else series
            found.append((record, own))
            waiting.append((record.get("OffsetOfTheNextDirectoryRecord"), series))
            waiting.append((record.get("OffsetOfReferencedLowerLevelDirectoryEntity"), own))
    if not by_offset:
        return found
    found, own = [], none
    for record in records:
        kind = record.get("DirectoryRecordType")
        own = record if kind == "SERIES" else none if kind in _ABOVE else own
        found.append((record, own))
    return found


def missing_files(
    listed: Sequence[Listed], folder: PurePosixPath, here: Set[tuple[str, ...]], uids: Set[str]
) -> list[Listed]:
    """What a DICOMDIR lists and what is nowhere.

    A file is there if its object is among those read, whatever its name, or if a file lies
    where it should. Of an index that was moved together with its files, leading folders may
    be other ones; as many of them are left out as serves most files.

    Args:
        listed: from `read_directory`.
        folder: where the DICOMDIR lies.
        here: every file found, as `normal_place`.
        uids: SOP instance UID of every object read.
    """
    base = normal_place(folder)
    unread = [item for item in listed if not item.sop_uid or item.sop_uid not in uids]
    depth = max((len(item.parts) for item in listed), default=1)
    best = unread
    for left_out in range(depth):
        rest = [
            item
            for item in unread
            if (*base, *map(normal_name, item.parts[left_out:])) not in here
            or left_out >= len(item.parts)
        ]
        best = min(best, rest, key=len)
    return best


def _leads_out(part: str) -> bool:
    return part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part
