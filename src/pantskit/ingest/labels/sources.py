"""Annotations that come with CTs: found, and matched to the case they belong to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pantskit.core.errors import ConfigError, ImageError, LabelError
from pantskit.core.labels import find_structure
from pantskit.core.labelsets import COMBINED, SEGMENTATIONS
from pantskit.core.nrrd import files_of_volume
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels.references import References, read_references
from pantskit.ingest.privacy.identifiers import merged

_VOLUME_SUFFIXES = (".gz", ".nii", ".nrrd", ".nhdr", ".seg")
_MAP_STEM = COMBINED.removesuffix(".nii.gz")


@dataclass(frozen=True)
class LabelObject:
    """A DICOM segmentation or RT structure set.

    Attributes:
        header: of the object.
        references: what it was drawn on; empty where the object is damaged.
    """

    header: ImageHeader
    references: References


@dataclass(frozen=True)
class LabelSource:
    """The annotations of one case, where they lie.

    Attributes:
        keys: names that may be its case's: of its folder, of its file.
        place: folder that holds everything of the case.
        map_file: a label map or a segmentation of 3D Slicer, or None.
        masks: (name, file) of every mask in a volume file.
        series: (name, slices) of every DICOM mask series.
        objects: DICOM segmentations and structure sets.
    """

    keys: tuple[str, ...]
    place: PurePosixPath
    map_file: SourceFile | None = None
    masks: tuple[tuple[str, SourceFile], ...] = ()
    series: tuple[tuple[str, tuple[ImageHeader, ...]], ...] = ()
    objects: tuple[LabelObject, ...] = ()

    @property
    def headers(self) -> tuple[ImageHeader, ...]:
        """Of all its DICOM files."""
        of_series = [header for _, slices in self.series for header in slices]
        return (*of_series, *(o.header for o in self.objects))

    @property
    def identifiers(self) -> dict[str, str]:
        """Identifying values of its DICOM headers, which must not come out either."""
        return merged(values for h in self.headers for values in h.identifiers)

    @property
    def volumes(self) -> tuple[SourceFile, ...]:
        """Its volume files."""
        return (*([self.map_file] if self.map_file else []), *(file for _, file in self.masks))

    @property
    def paths(self) -> tuple[Path, ...]:
        """All its files on disk, an archive once."""
        dicom = {header.file.path for header in self.headers}
        on_disk = (
            p for f in self.volumes for p in ([f.path] if f.member else files_of_volume(f.path))
        )
        return tuple(dict.fromkeys((*on_disk, *sorted(dicom))))


@dataclass(frozen=True)
class LabelTarget:
    """A CT that annotations may belong to.

    Attributes:
        keys: names that its annotations may go by, the most telling first.
        folder: where it lies.
        series, instances, frames: UIDs of its series, of its files, and of its frame of
            reference; empty for a volume file.
    """

    keys: tuple[str, ...]
    folder: PurePosixPath
    series: frozenset[str] = field(default_factory=frozenset)
    instances: frozenset[str] = field(default_factory=frozenset)
    frames: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(
        cls, keys: tuple[str, ...], folder: PurePosixPath, slices: Iterable[ImageHeader]
    ) -> LabelTarget:
        """A CT of these slices; none for a volume file."""
        own = tuple(slices)
        return cls(
            keys,
            folder,
            frozenset({s.series_uid for s in own} - {""}),
            frozenset({s.sop_uid for s in own} - {""}),
            frozenset({s.frame_of_reference for s in own} - {""}),
        )


def find_label_sources(
    root: Path,
    files: Iterable[SourceFile],
    mask_series: Iterable[Sequence[ImageHeader]],
    objects: Iterable[ImageHeader] = (),
    *,
    cases: Collection[str] = (),
) -> list[LabelSource]:
    """Annotations under `--labels`, one source a case, or one an object that names its CT.

    Args:
        root: the path given.
        files: volume files under it.
        mask_series: DICOM series under it that are not CTs in HU, each with its slices.
        objects: headers of the DICOM segmentations and structure sets under it.
        cases: names that CTs go by: a file called `pancreas_001` as a CT is holds its labels,
            and is no mask of the pancreas.

    Raises:
        LabelError: If there is nothing that could be an annotation.
    """
    numbered = {name.lower() for name in cases if name[-1:].isdecimal()}
    folders: dict[PurePosixPath, list[SourceFile]] = defaultdict(list)
    for file in files:
        folder = file.folder
        folders[folder.parent if folder.name == SEGMENTATIONS else folder].append(file)
    found = [
        source for f, inside in folders.items() for source in _volumes(root, f, inside, numbered)
    ]
    by_place: dict[PurePosixPath, list[tuple[str, tuple[ImageHeader, ...]]]] = defaultdict(list)
    for slices in mask_series:
        own = slices[0].file.folder
        # .../<case>/MASKS_DICOM/<structure>/image_0, with an archive standing for a folder.
        by_place[own.parent.parent].append((own.name, tuple(slices)))
    found += [
        LabelSource(_case_keys(place), place, series=tuple(series))
        for place, series in by_place.items()
    ]
    with Reader() as reader:
        found += [_object_source(header, reader) for header in objects]
    if not found:
        raise LabelError(
            f"{root}: no masks; expected a label map (.nii.gz, .nrrd), a folder of "
            "<structure>.nii.gz, of <case>/<structure>.nii.gz, DICOM segmentations or structure "
            "sets, or DICOM masks in folders named after structures"
        )
    return found


def _volumes(
    root: Path, folder: PurePosixPath, files: list[SourceFile], numbered: Collection[str]
) -> list[LabelSource]:
    """Sources in one folder: masks of one case, or a label map for each of several."""
    named = [(volume_stem(file.name), file) for file in files]
    maps = [file for name, file in named if name == _MAP_STEM]
    masks = [(name, file) for name, file in named if name != _MAP_STEM]
    if len(files) == 1 and files[0] == SourceFile(root):
        return [LabelSource((named[0][0],), folder, map_file=files[0])]
    of_cases = any(name.lower() in numbered for name, _ in masks)
    if any(find_structure(name) for name, _ in masks) and not of_cases:
        return [LabelSource(_case_keys(folder), folder, masks=tuple(masks))]
    if maps and not masks:
        return [LabelSource(_case_keys(folder), folder, map_file=maps[0])]
    own_folder = len(masks) == 1 and folder != PurePosixPath(root.as_posix())
    return [
        LabelSource((name, *(_case_keys(folder) if own_folder else ())), folder, map_file=file)
        for name, file in masks
    ]


def _object_source(header: ImageHeader, reader: Reader) -> LabelSource:
    try:
        references = read_references(header.file, reader)
    except ImageError:
        references = References()  # what is wrong with it is said when its case reads it
    place = header.file.folder
    keys = (*_case_keys(place), volume_stem(header.file.name).removesuffix(".dcm"))
    return LabelSource(
        tuple(dict.fromkeys(keys)), place, objects=(LabelObject(header, references),)
    )


def _case_keys(place: PurePosixPath) -> tuple[str, ...]:
    return tuple(dict.fromkeys((place.name, place.name.removesuffix(".zip"))))


def volume_stem(name: str) -> str:
    """A volume file's name without .nii, .nii.gz, .nrrd, .nhdr or .seg.nrrd."""
    stem = name
    while stem.lower().endswith(_VOLUME_SUFFIXES):
        stem = stem[: stem.rindex(".")]
    return stem


def match_labels(
    cases: Mapping[str, LabelTarget], sources: Sequence[LabelSource]
) -> dict[str, LabelSource]:
    """Give each case its annotations.

    What a DICOM segmentation or structure set refers to decides first: the series, the
    slices, the frame of reference where one CT alone lies in it. All such objects of a CT are
    its annotation together. Then a source in the case's own folder is its; then names decide,
    but for those that several cases go by. A single case takes a single source whatever its
    name, since grid and references are checked.

    Args:
        cases: case_id to CT.
        sources: from `find_label_sources`.

    Raises:
        ConfigError: If two sources fit one case or one source two, or labels fit no case at all.
    """
    if len(cases) == 1 and len(sources) == 1:
        return {next(iter(cases)): sources[0]}
    matched = _by_reference(cases, sources)
    rest = [s for s in sources if not any(o.references.series for o in s.objects)]
    matched = _by_name({c: t for c, t in cases.items() if c not in matched}, rest) | matched
    _require_one_case_each(matched)
    if not matched:
        raise ConfigError(
            f"--labels: none of the {len(sources)} annotations found belongs to one of the "
            f"{len(cases)} CTs; name each folder after its CT: <PatientID>, "
            "<PatientID>_<SeriesNumber>, the series' folder, or the CT file without suffix"
        )
    return {case_id: matched[case_id] for case_id in cases if case_id in matched}


def unused_labels(
    matched: Mapping[str, LabelSource], sources: Iterable[LabelSource]
) -> tuple[str, ...]:
    """First names of the sources that no case took; for the terminal, they may tell a patient."""
    taken = {id(source) for source in matched.values()}
    used = {o.header.file for source in matched.values() for o in source.objects}
    return tuple(
        sorted(
            s.keys[0]
            for s in sources
            if id(s) not in taken and not (s.objects and s.objects[0].header.file in used)
        )
    )


def _by_reference(
    cases: Mapping[str, LabelTarget], sources: Iterable[LabelSource]
) -> dict[str, LabelSource]:
    matched: dict[str, LabelSource] = {}
    for source in sources:
        if not source.objects:
            continue
        case_id = _referenced(cases, source.objects[0].references)
        if case_id in matched:
            together = (*matched[case_id].objects, *source.objects)
            matched[case_id] = replace(matched[case_id], objects=together)
        elif case_id is not None:
            matched[case_id] = source
    return matched


def _referenced(cases: Mapping[str, LabelTarget], references: References) -> str | None:
    """The case that an object refers to, or None.

    Raises:
        ConfigError: If it fits several.
    """
    series, instances = frozenset(references.series), references.instances
    fitting = [c for c, t in cases.items() if t.series & series]
    drawn_on = [c for c, t in cases.items() if t.instances & instances]
    if len(fitting) != 1 and drawn_on:
        fitting = drawn_on  # one series may be several stacks, each a case
    if not fitting and not series:
        near = [c for c, t in cases.items() if t.frames & references.frames]
        fitting = near if len(near) == 1 else []
    if len(fitting) > 1:
        raise ConfigError(
            f"--labels: a segmentation or structure set refers to {len(fitting)} of the CTs, and "
            "labels are of one; ingest that CT alone"
        )
    return fitting[0] if fitting else None


def _by_name(
    cases: Mapping[str, LabelTarget], sources: Sequence[LabelSource]
) -> dict[str, LabelSource]:
    by_key: dict[str, list[LabelSource]] = defaultdict(list)
    for source in sources:
        for key in source.keys:
            by_key[key.lower()].append(source)
    bearers = Counter(key for t in cases.values() for key in {k.lower() for k in t.keys})
    matched: dict[str, LabelSource] = {}
    for case_id, target in cases.items():
        near = [s for s in sources if s.series and target.folder.is_relative_to(s.place)]
        # A name such as ct.nii.gz, which other CTs bear too, does not tell whose labels these are.
        named = [by_key.get(k.lower(), []) for k in target.keys if bearers[k.lower()] == 1]
        fitting = [found for found in (near, *named) if found]
        one = next((found[0] for found in fitting if len(found) == 1), None)
        if fitting and one is None:
            raise ConfigError(
                f"--labels: {len(fitting[0])} annotations are named for one case; keep one"
            )
        if one is not None:
            matched[case_id] = one
    return matched


def _require_one_case_each(matched: Mapping[str, LabelSource]) -> None:
    cases = Counter(id(source) for source in matched.values())
    for source in matched.values():
        if cases[id(source)] > 1:
            raise ConfigError(
                f"--labels: {source.keys[0]} fits {cases[id(source)]} of the CTs, and labels are "
                "of one; ingest that CT alone, or name them apart"
            )
