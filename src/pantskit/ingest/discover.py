"""What the sources hold: DICOM series, NIfTI images, annotations, and files that are neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pantskit.core.errors import ImageError
from pantskit.ingest.headers import DIRECTORY, ImageHeader, is_dicom, looks_damaged, read_header
from pantskit.ingest.leaks import Memory
from pantskit.ingest.masks import LabelSource, find_label_sources
from pantskit.ingest.series import Series, group_series
from pantskit.ingest.sources import BadSource, Reader, SourceFile, find_files
from pantskit.ingest.strays import doubt_series

NIFTI_SUFFIXES = (".nii", ".nii.gz")

Progress = Callable[[int], None]


@dataclass
class Found:
    """The content of a set of sources.

    Attributes:
        series: DICOM series, those to be skipped included.
        nifti: NIfTI files.
        bad: files that could not be listed or parsed.
        others: number of files that are neither DICOM nor NIfTI.
    """

    series: list[Series] = field(default_factory=list)
    nifti: list[SourceFile] = field(default_factory=list)
    bad: list[BadSource] = field(default_factory=list)
    others: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing that could become a case or a record."""
        return not (self.series or self.nifti or self.bad)


def discover(
    sources: Iterable[Path], *, leave: Path | None = None, progress: Progress | None = None
) -> Found:
    """Look through sources and read every DICOM header.

    Args:
        sources: folders, files, zip archives.
        leave: a file or folder of annotations: NIfTI files there are no images, but for those
            given as sources by name.
        progress: called with the number of files seen so far.

    Raises:
        ConfigError: If a source does not exist.
    """
    found = Found()
    headers: list[ImageHeader] = []
    known: Memory = {}
    sources = list(sources)
    named = {source for source in sources if source.is_file()}
    with Reader() as reader:
        for n, file in enumerate(find_files(sources)):
            if progress and n % 100 == 0:
                progress(n)
            if isinstance(file, BadSource):
                found.bad.append(file)
            elif not file.name.lower().endswith(NIFTI_SUFFIXES):
                _add_dicom(found, headers, file, reader, known)
            elif leave is None or file.path in named or not file.path.is_relative_to(leave):
                _add_nifti(found, file)
    found.series = doubt_series(group_series(headers), found.bad)
    return found


def _add_nifti(found: Found, file: SourceFile) -> None:
    if file.member:
        found.bad.append(BadSource(file, "NIfTI inside an archive is not read; unpack it first"))
    else:
        found.nifti.append(file)


def _add_dicom(
    found: Found, headers: list[ImageHeader], file: SourceFile, reader: Reader, known: Memory
) -> None:
    try:
        with reader.open(file) as stream:
            if looks_damaged(stream):
                raise ImageError("the file is empty, or its DICOM mark is damaged")
            if not is_dicom(stream):
                found.others += 1
                return
            slices = read_header(stream, file, known)
        if slices[0].sop_class == DIRECTORY:
            found.others += 1
        else:
            headers.extend(slices)
    except ImageError as error:
        found.bad.append(BadSource(file, str(error)))
    # zlib, zipfile and the file system each have errors of their own for damaged input.
    except Exception as error:
        found.bad.append(BadSource(file, f"cannot be read ({type(error).__name__})"))


def discover_labels(
    path: Path, images: Iterable[Path], known: Found | None = None
) -> list[LabelSource]:
    """Annotations under `--labels`: NIfTI masks and label maps, DICOM mask series.

    Args:
        path: the file or folder.
        images: files that are the CTs, wherever they lie.
        known: the content of the path, where it is a source too and has been looked through.

    Raises:
        ConfigError: If the path does not exist.
        LabelError: If there is nothing that could be an annotation.
    """
    found = known or discover([path])
    masks = [s.slices for s in found.series if s.is_mask or _in_mask_folder(s)]
    taken = {image.resolve() for image in images}
    nifti = [f for f in found.nifti if f.path.resolve() not in taken]
    return find_label_sources(path, nifti, masks)


def _in_mask_folder(series: Series) -> bool:
    """Whether a series lies in .../MASKS_DICOM/<name>/ or the like, whatever its pixels are."""
    folder: PurePosixPath = series.first.file.folder
    return folder.parent.name.lower().startswith(("mask", "labels", "segmentation"))
