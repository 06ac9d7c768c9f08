"""Headers of many files, read in worker processes that a hostile file may take with it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import IO

from pantskit.core.crew import Crew
from pantskit.core.errors import ImageError, WorkerLost
from pantskit.core.imports import without_collecting
from pantskit.ingest.dicom.elements import HeaderMemory
from pantskit.ingest.dicom.headers import DIRECTORY, ImageHeader, read_header
from pantskit.ingest.discovery.dicomdir import Listed, is_directory_name, read_directory
from pantskit.ingest.discovery.recognise import kind_of
from pantskit.ingest.discovery.sources import BadSource, Reader, SourceFile
from pantskit.ingest.quiet import keep_quiet

Progress = Callable[[int], None]

# Files travel together: their headers share most values, which then exist once.
_BATCH = 64
# A header takes a millisecond or two; a cold network disk, some tenths of a second.
_BATCH_TIMEOUT_S = 180.0
_FILE_TIMEOUT_S = 60.0

# SeriesInstanceUID (0020,000E) in whatever byte order and VR, in bytes that do not parse.
_SERIES_UID = re.compile(
    rb"(?:\x20\x00\x0e\x00|\x00\x20\x00\x0e)(?:UI..|....)([0-9][0-9.]{4,63})", re.DOTALL
)
_SEARCHED_BYTES = 1 << 18  # at a time, or at all

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Contents:
    """What one file holds.

    Attributes:
        file: the file.
        headers: of its slices; empty where it is no DICOM image.
        listed: what it lists, where it is a DICOMDIR.
        bad: why it could not be read, or None.
        digest: hash of its bytes, where its headers name no series; else "".
    """

    file: SourceFile
    headers: tuple[ImageHeader, ...] = ()
    listed: tuple[Listed, ...] | None = None
    bad: BadSource | None = None
    digest: str = ""


def read_files(
    files: Iterable[SourceFile], workers: Crew | None = None, progress: Progress | None = None
) -> Iterator[Contents]:
    """What each file holds, in the order of the files.

    Args:
        files: the files; each is read on its own.
        workers: processes to read in; a file that crashes, hangs or fills one is a `bad` of its
            own. Without them (or with none) files are read here.
        progress: called with the number of files read.
    """
    if workers is None or workers.count == 0:
        with Reader() as reader:
            known: HeaderMemory = {}
            for number, batch in _batches(files):
                yield from _read_here(batch, reader, known)
                if progress:
                    progress(number * _BATCH + len(batch))
        return
    found: dict[int, list[Contents]] = {}
    done = 0
    lost: list[tuple[int, tuple[SourceFile, ...]]] = []
    outcomes = workers.map(_read_batch, _batches(files), timeout_s=_BATCH_TIMEOUT_S)
    for (number, batch), outcome in outcomes:
        if outcome.value is None:
            lost.append((number, batch))
            continue
        found[number] = outcome.value
        done += len(batch)
        if progress:
            progress(done)
    for number, batch in sorted(lost):
        found[number] = list(_one_by_one(batch, workers))
        done += len(batch)
        if progress:
            progress(done)
    for number in sorted(found):
        yield from found[number]


def _one_by_one(batch: Sequence[SourceFile], workers: Crew) -> Iterator[Contents]:
    """The files of a batch that did not come back: only the one to blame is bad."""
    singles = [(n, (file,)) for n, file in enumerate(batch)]
    outcomes = dict(workers.map(_read_batch, singles, timeout_s=_FILE_TIMEOUT_S))
    for single in singles:
        outcome = outcomes[single]
        if outcome.value is not None:
            yield from outcome.value
            continue
        why = str(outcome.error) if isinstance(outcome.error, WorkerLost) else "unreadable"
        message = f"the header cannot be read: {why}"
        (file,) = single[1]
        yield Contents(file, bad=BadSource(file, message))


def _batches(files: Iterable[SourceFile]) -> Iterator[tuple[int, tuple[SourceFile, ...]]]:
    rest, number = iter(files), 0
    while batch := tuple(islice(rest, _BATCH)):
        yield number, batch
        number += 1


def _read_batch(item: tuple[int, tuple[SourceFile, ...]]) -> list[Contents]:
    keep_quiet()
    return _read_here(item[1], *_at_hand())


def _read_here(batch: Iterable[SourceFile], reader: Reader, known: HeaderMemory) -> list[Contents]:
    # Headers are many objects that stay and refer to nothing: no use to look through them all.
    with without_collecting():
        return [read_file(file, reader, known) for file in batch]


@cache
def _at_hand() -> tuple[Reader, HeaderMemory]:
    """What a worker process keeps from batch to batch: open archives, values seen."""
    return Reader(), {}


def read_file(file: SourceFile, reader: Reader, known: HeaderMemory) -> Contents:
    """What one file holds; whatever is wrong with it becomes its `bad`.

    Args:
        file: the file.
        reader: opens it.
        known: identifying values of headers read before; added to.
    """
    try:
        return _contents(file, reader, known)
    except ImageError as error:
        message = str(error)
    except OSError as error:
        message = f"cannot be read ({error.strerror or type(error).__name__})"
    # zlib, zipfile and tarfile each have errors of their own for damaged input.
    except Exception:
        message = f"damaged; copy {'its archive' if file.member else 'it'} again"
    return Contents(file, bad=BadSource(file, message, _readable_uids(file, reader)))


def _contents(file: SourceFile, reader: Reader, known: HeaderMemory) -> Contents:
    with reader.open(file) as stream:
        kind = kind_of(stream)
        if kind == "damaged":
            raise ImageError("the file is empty, or its DICOM mark is damaged")
        if kind == "other":
            if file.name.lower().endswith(_DICOM_SUFFIXES):
                raise ImageError("named as a DICOM file, and its content is none")
            return Contents(file)
        if is_directory_name(file.name):
            return Contents(file, listed=read_directory(stream))
        headers = read_header(stream, file, known)
        if headers[0].sop_class == DIRECTORY:
            stream.seek(0)
            return Contents(file, listed=read_directory(stream))
        digest = ""
        if not all(header.series_uid for header in headers):
            stream.seek(0)
            digest = _digest(stream)
    return Contents(file, headers, digest=digest)


def _digest(stream: IO[bytes]) -> str:
    hasher = hashlib.sha256()
    while chunk := stream.read(_SEARCHED_BYTES):
        hasher.update(chunk)
    return hasher.hexdigest()


def _readable_uids(file: SourceFile, reader: Reader) -> frozenset[str]:
    """Every series UID in the first bytes of a damaged file."""
    try:
        with reader.open(file) as stream:
            head = stream.read(_SEARCHED_BYTES)
    except Exception:  # it is bad already; why has been said
        return frozenset()
    return frozenset(uid.decode("ascii") for uid in _SERIES_UID.findall(head))
