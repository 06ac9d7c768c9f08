"""What the sources hold: DICOM series, volume files, annotations, and files that are neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pantskit.core.crew import Crew
from pantskit.core.nrrd import NRRD_SUFFIXES
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.discovery.dicomdir import Listed, missing_files, normal_place
from pantskit.ingest.discovery.reading import Progress, read_files
from pantskit.ingest.discovery.series import Series, group_series
from pantskit.ingest.discovery.sources import BadSource, SourceFile, find_files
from pantskit.ingest.discovery.strays import doubt_series
from pantskit.ingest.discovery.torn import doubt_torn
from pantskit.ingest.labels.references import is_label_object
from pantskit.ingest.labels.sources import LabelSource, find_label_sources

# So many bad files of a folder are told of each by itself; more that are bad alike, together.
_TOLD_ALONE = 20

NIFTI_SUFFIXES = (".nii", ".nii.gz")
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES)

# Images and archives that are not read: a scan in one is to be missed by nobody.
_UNREAD = (
    ".mha", ".mhd", ".hdr", ".img", ".mgz", ".mgh", ".mnc", ".nii.bz2", ".nii.xz", ".nii.zst",
    ".7z", ".rar", ".tar.zst",
)  # fmt: skip


@dataclass
class Found:
    """The content of a set of sources.

    Attributes:
        series: DICOM series, those to be skipped included.
        volumes: NIfTI and NRRD files; those inside archives are read by `Reader.local`.
        bad: files that could not be listed or parsed; of many in one folder that are bad for one
            reason the first, with a message that says so.
        annotations: number of volume files that are no images, since they are annotations.
        others: number of files that are neither DICOM images nor volumes.
        unread: of these, how many are images or archives of a format that is not read, by suffix.
    """

    series: list[Series] = field(default_factory=list)
    volumes: list[SourceFile] = field(default_factory=list)
    bad: list[BadSource] = field(default_factory=list)
    annotations: int = 0
    others: int = 0
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing that could become a case or a record."""
        return not (self.series or self.volumes or self.bad)


def unread_formats(unread: Mapping[str, int]) -> str:
    """What to say of `Found.unread`; "" where there is none."""
    if not unread:
        return ""
    counts = ", ".join(f"{count} {suffix}" for suffix, count in unread.items())
    return f"{counts} of formats that are not read: convert images to .nii.gz, unpack archives"


def is_nifti(file: SourceFile) -> bool:
    """Whether a volume file is NIfTI by its name, and not NRRD."""
    return file.name.lower().endswith(NIFTI_SUFFIXES)


def discover(
    sources: Iterable[Path],
    *,
    leave: Path | None = None,
    without: Iterable[Path] = (),
    workers: Crew | None = None,
    progress: Progress | None = None,
) -> Found:
    """Look through sources and read every DICOM header.

    Args:
        sources: folders, files, archives, a DICOMDIR.
        leave: a file or folder of annotations: volume files there are no images, but for those
            given as sources by name.
        without: folders that are not looked into.
        workers: processes to parse headers in, so that a hostile file costs itself only.
        progress: called with the number of files seen so far.

    Raises:
        ConfigError: If a source does not exist or may not be looked at.
    """
    sources = list(sources)
    named = {source.resolve() for source in sources if source.is_file()}
    annotations = leave.resolve() if leave else None
    found = Found()
    headers: list[ImageHeader] = []
    digests: dict[SourceFile, str] = {}
    indexes: list[tuple[SourceFile, tuple[Listed, ...]]] = []
    seen: list[SourceFile] = []
    others: list[SourceFile] = []

    def unread() -> Iterator[SourceFile]:
        for file in find_files(sources, without):
            if isinstance(file, BadSource):
                found.bad.append(file)
                continue
            seen.append(file)
            if not file.name.lower().endswith(VOLUME_SUFFIXES) or _is_dicom(file):
                yield file
            elif annotations and _is_under(annotations, file.path, named):
                found.annotations += 1
            else:
                found.volumes.append(file)

    for contents in read_files(unread(), workers, progress):
        headers += contents.headers
        if contents.digest:
            digests[contents.file] = contents.digest
        if contents.listed is not None:
            indexes.append((contents.file, contents.listed))
        if contents.bad:
            found.bad.append(contents.bad)
        elif contents.listed is None and not contents.headers:
            others.append(contents.file)
    found.others = len(others) + len(indexes)
    suffixes = (next((s for s in _UNREAD if f.name.lower().endswith(s)), "") for f in others)
    found.unread = dict(sorted(Counter(suffix for suffix in suffixes if suffix).items()))
    found.bad.sort(key=lambda b: b.file)
    found.series = doubt_series(doubt_torn(group_series(headers, digests)), found.bad, others)
    if indexes:
        here = {normal_place(file.place) for file in seen}
        uids = {header.sop_uid for header in headers}
        for file, listed in indexes:
            _compare(found, file, missing_files(listed, file.folder, here, uids))
    found.bad = _told_together(found.bad)
    return found


def _is_under(folder: Path, path: Path, named: Collection[Path]) -> bool:
    """Whether a file lies under a folder, however its path is spelled, and is not named itself."""
    own = path.resolve()
    return own not in named and own.is_relative_to(folder)


def _is_dicom(file: SourceFile) -> bool:
    """Whether a file on disk named as a volume is DICOM: a slice must not be lost to its name."""
    if file.member:
        return False
    try:
        with file.path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False  # whoever reads it as a volume says so


def _told_together(bad: Iterable[BadSource]) -> list[BadSource]:
    """Bad files, of many in one folder that are bad alike the first: a copy that broke off."""
    alike: dict[tuple[PurePosixPath, str], list[BadSource]] = {}
    for one in bad:
        alike.setdefault((one.file.folder, one.message), []).append(one)
    told = []
    for ones in alike.values():
        if len(ones) > _TOLD_ALONE:
            first, others = ones[0], len(ones) - 1
            uids = frozenset().union(*(one.series_uids for one in ones))
            message = f"{first.message}; so are {others:,} more files of this folder"
            ones = [BadSource(first.file, message, uids)]
        told += ones
    return told


def _compare(found: Found, index: SourceFile, missing: Iterable[Listed]) -> None:
    """Doubt the series of which a DICOMDIR lists files that are not there."""
    lost = Counter(m.series_uid for m in missing if m.modality in ("CT", ""))
    known = {s.first.series_uid for s in found.series}
    found.series = [
        replace(s, doubt=s.doubt or _missing(lost[s.first.series_uid]))
        if lost[s.first.series_uid] and s.first.series_uid and not (s.skip or s.fault)
        else s
        for s in found.series
    ]
    elsewhere = [count for uid, count in lost.items() if not uid or uid not in known]
    if elsewhere:
        message = (
            f"this DICOMDIR lists {sum(elsewhere)} files of {len(elsewhere)} series of which "
            "nothing is here; copy them too, or take the DICOMDIR away"
        )
        found.bad.append(BadSource(index, message))


def _missing(count: int) -> str:
    return (
        f"slices may be missing: the DICOMDIR lists {count} more files of this series that are "
        "not here; copy them too"
    )


def discover_labels(
    path: Path,
    images: Iterable[Path],
    known: Found | None = None,
    *,
    cases: Collection[str] = (),
    workers: Crew | None = None,
) -> list[LabelSource]:
    """Annotations under `--labels`: volume files, DICOM mask series, segmentations, RTSTRUCT.

    Args:
        path: the file or folder.
        images: files that are the CTs, wherever they lie.
        known: the content of the path, where it is a source too and has been looked through.
        cases: names that CTs go by; see `find_label_sources`.
        workers: processes to parse headers in.

    Raises:
        ConfigError: If the path does not exist.
        LabelError: If there is nothing that could be an annotation.
    """
    found = known or discover([path], workers=workers)
    masks = [s.slices for s in found.series if s.is_mask or _in_mask_folder(s)]
    objects = [h for s in found.series for h in s.slices if is_label_object(h.sop_class)]
    taken = {image.resolve() for image in images}
    volumes = [f for f in found.volumes if f.member or f.path.resolve() not in taken]
    return find_label_sources(path, volumes, masks, objects, cases=cases)


def _in_mask_folder(series: Series) -> bool:
    """Whether a series lies in .../MASKS_DICOM/<name>/ or the like, whatever its pixels are."""
    folder: PurePosixPath = series.first.file.folder
    return folder.parent.name.lower().startswith(("mask", "labels", "segmentation"))
