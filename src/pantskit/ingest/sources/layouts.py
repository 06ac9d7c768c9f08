"""Files of a dataset matched to its layouts: which CT, which label, which case."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pantskit.core.errors import DatasetError
from pantskit.ingest.sources.catalogue import known_sources
from pantskit.ingest.sources.declaration import Layout, Source

_TOKEN = re.compile(
    r"\{(?P<name>\w+)(?P<digits>#?)(?:=(?P<literal>\w+))?\}"
    r"|(?P<deep>\*\*/)|(?P<any>\*)|(?P<group>[(|)])"
)
_STRUCTURE = "structure"

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FoundCase:
    """The files of one case.

    Attributes:
        case_id, patient_id: from the file names.
        split: as the layout says.
        layout: the one that fitted.
        images: the volume, or the DICOM slices; () where there is only a label.
        labels: the label map, the masks, or the PNG slices; () where there is none.
        names: of masks, what each file calls its structure; else ().
        groups: what the patterns took from the file names.
        also: findings of the same case in other layouts whose labels were left.
        fault: why it cannot become a case; "" if it can.
    """

    case_id: str
    patient_id: str
    split: str
    layout: Layout
    images: tuple[Path, ...] = ()
    labels: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    also: tuple[FoundCase, ...] = ()
    fault: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All its files."""
        left = (path for other in self.also for path in other.labels)
        return (*self.images, *self.labels, *left)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing is in doubt."""
        return bool(self.images and (self.labels or not self.layout.annotation) and not self.fault)


@dataclass(frozen=True)
class Fitting:
    """What of a folder fits a dataset.

    Attributes:
        cases: by case ID.
        tried: for each layout its name and the numbers of images and labels that fit.
        others: number of files that fit no pattern.
        like: where there are CTs and no case is complete, the datasets that the files lie as.
    """

    cases: tuple[FoundCase, ...]
    tried: tuple[tuple[Layout, int, int], ...]
    others: int
    like: tuple[str, ...] = ()

    @property
    def without_ct(self) -> bool:
        """Whether there are labels alone, as where images are another download."""
        return not any(case.images for case in self.cases)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression for the end of a path.

    `{id}` is any text without a slash, `{id#}` digits, `{task=liver}` this very text, `*` any text
    within a name, `**/` any folders or none, `(a|b)` either; `.nii` at the end is `.nii.gz` too.
    Capitals do not matter.
    """
    text, last, seen = "", 0, set[str]()
    suffix = r"\.nii(?:\.gz)?" if pattern.endswith(".nii") else ""
    body = pattern.removesuffix(".nii") if suffix else pattern
    for token in _TOKEN.finditer(body):
        text += re.escape(body[last : token.start()])
        last = token.end()
        if token["name"]:
            again = token["name"] in seen
            inside = token["literal"] or (r"\d+" if token["digits"] else "[^/]+?")
            text += f"(?P={token['name']})" if again else f"(?P<{token['name']}>{inside})"
            seen.add(token["name"])
        elif token["deep"]:
            text += "(?:[^/]+/)*"
        elif token["any"]:
            text += "[^/]*"
        else:
            text += {"(": "(?:"}.get(token["group"], token["group"])
    text += re.escape(body[last:]) + suffix
    return re.compile(rf"(?:^|/){text}$", re.IGNORECASE)


def list_files(folders: Iterable[Path]) -> list[Path]:
    """All files below some folders, sorted, but for hidden ones (`._case.nii.gz` of macOS).

    Raises:
        DatasetError: If a folder is not there, or nothing is in them.
    """
    found: list[Path] = []
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; give the one that was downloaded")
        seen: set[str] = set()
        for where, inside, names in os.walk(folder.absolute(), followlinks=True):
            real = os.path.realpath(where)
            if real in seen:
                inside.clear()
                continue
            seen.add(real)
            inside[:] = sorted(n for n in inside if not n.startswith("."))
            found += [Path(where, n) for n in sorted(names) if not n.startswith(".")]
    if not found:
        raise DatasetError(f"{', '.join(map(str, folders))}: there are no files")
    return found


def fit(source: Source, folders: Sequence[Path]) -> Fitting:
    """Match the files of some folders to the layouts of a dataset.

    Every layout is tried and all that fit are taken; a file belongs to the first that takes it.

    Raises:
        DatasetError: If nothing fits: the message says what was expected and what was there.
    """
    files = list_files(folders)
    cases, tried = _cases_among(source, files)
    if not cases:
        raise DatasetError(_nothing_fits(source, folders, files))
    taken = {file for case in cases.values() for file in case.files}
    ordered = tuple(cases[c] for c in sorted(cases))
    found = Fitting(ordered, tuple(tried), len(files) - len(taken))
    doubtful = not found.without_ct and not any(case.complete for case in ordered)
    return replace(found, like=_lie_as(source, files)) if doubtful else found


def _cases_among(
    source: Source, files: Sequence[Path]
) -> tuple[dict[str, FoundCase], list[tuple[Layout, int, int]]]:
    """The cases by ID, and what each layout took."""
    left = dict.fromkeys(files)
    cases: dict[str, FoundCase] = {}
    tried: list[tuple[Layout, int, int]] = []
    for layout in source.layouts:
        images = _matched(layout.image, left, layout.highest)
        taken = {path for paths in images.values() for path in paths}
        rest = [file for file in left if file not in taken]
        labels = _matched(layout.annotation, rest, layout.highest) if layout.annotation else {}
        tried.append((layout, len(images), len(labels)))
        for case in _paired(source, layout, images, labels):
            cases[case.case_id] = _better(cases.get(case.case_id), case)
        for case in cases.values():
            if case.complete:
                for file in case.files:
                    left.pop(file, None)
    return cases, tried


def _lie_as(source: Source, files: Sequence[Path]) -> tuple[str, ...]:
    """Other datasets of which whole cases lie among these files, those with most first."""
    whole: dict[str, int] = {}
    for other in known_sources():
        if other.name != source.name:
            cases, _ = _cases_among(other, files)
            whole[other.name] = sum(case.complete for case in cases.values())
    return tuple(sorted((n for n in whole if whole[n]), key=lambda name: -whole[name]))


def _better(earlier: FoundCase | None, case: FoundCase) -> FoundCase:
    """Of two findings of one case the one that has more; labels of the other are kept in mind."""
    if earlier is None:
        return case
    ranked = sorted((earlier, case), key=_rank)  # stable: the earlier layout first
    best, other = ranked
    further = best.labels and set(other.labels) - set(best.labels)
    return replace(best, also=(*best.also, *((other,) if further else ())))


def _rank(case: FoundCase) -> tuple[bool, bool, bool, bool]:
    return not case.complete, bool(case.fault), not case.images, not case.labels


def _matched(pattern: str, files: Iterable[Path], highest: int) -> dict[Key, list[Path]]:
    """Files by what the pattern takes from their paths; numbers above the highest are left."""
    compiled = compile_pattern(pattern)
    found: dict[Key, list[Path]] = defaultdict(list)
    for file in files:
        match = compiled.search(file.as_posix())
        if match and not (highest and int(match["id"]) > highest):
            found[tuple(sorted(match.groupdict().items()))].append(file)
    return found


def _paired(
    source: Source,
    layout: Layout,
    images: Mapping[Key, list[Path]],
    labels: Mapping[Key, list[Path]],
) -> Iterable[FoundCase]:
    """CTs with their labels, CTs without, and labels without."""
    shared = _names(layout.image) & _names(layout.annotation)
    by_case: dict[Key, list[tuple[str, Path]]] = defaultdict(list)
    groups_of: dict[Key, dict[str, str]] = {}
    for key, paths in labels.items():
        groups = dict(key)
        name = groups.pop(_STRUCTURE, "")
        by_case[_only(key, shared)] += [(name, path) for path in paths]
        groups_of[_only(key, shared)] = groups
    for key, paths in images.items():
        case = _case(source, layout, dict(key))
        case = replace(case, images=tuple(paths), fault=_two_images(layout, paths))
        yield _with_labels(case, by_case.pop(_only(key, shared), []))
    for key, named in by_case.items():  # labels that no CT took
        yield _with_labels(_case(source, layout, groups_of[key]), named)


def _case(source: Source, layout: Layout, groups: Mapping[str, str]) -> FoundCase:
    # A label may lack a group that the CT's path has: RSNA's does not name the patient.
    known = defaultdict(lambda: "unknown", groups)
    case_id = _plain(source.case.format_map(known))
    patient = _plain(source.patient.format_map(known)) if source.patient else case_id
    numbers = [int(v) for v in groups.values() if v.isdigit()]
    beyond = source.test_from and numbers and numbers[-1] >= source.test_from
    split = "test" if beyond else layout.split
    return FoundCase(case_id, patient, split, layout, groups=dict(groups))


def _with_labels(case: FoundCase, named: list[tuple[str, Path]]) -> FoundCase:
    paths = tuple(path for _, path in named)
    names = tuple(name for name, _ in named) if case.layout.masks else ()
    fault = case.fault
    if case.layout.labels and len(paths) > 1:
        fault = f"has {len(paths)} labels ({', '.join(p.name for p in paths)}); keep one"
    elif names and len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        fault = f"has two masks of {', '.join(twice[:3])}; keep one of each"
    return replace(case, labels=paths, names=names, fault=fault)


def _two_images(layout: Layout, paths: Sequence[Path]) -> str:
    if len(paths) == 1 or is_dicom(layout):
        return ""
    return f"has {len(paths)} CTs ({', '.join(p.name for p in paths)}); keep one"


def is_dicom(layout: Layout) -> bool:
    """Whether its CTs are DICOM slices."""
    return layout.image.endswith(".dcm")


def _names(pattern: str) -> set[str]:
    return {m["name"] for m in _TOKEN.finditer(pattern) if m["name"]} - {_STRUCTURE}


def _only(key: Key, names: set[str]) -> Key:
    return tuple((n, v) for n, v in key if n in names)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)


def _nothing_fits(source: Source, folders: Sequence[Path], files: Sequence[Path]) -> str:
    where = ", ".join(map(str, folders))
    expected = "; ".join(
        f"{layout.name}: {layout.image}"
        + (f" with {layout.annotation}" if layout.annotation else "")
        for layout in source.layouts
    )
    first = folders[0].absolute()
    seen = ", ".join(str(f.relative_to(first)) for f in files[:3] if f.is_relative_to(first))
    like = ", ".join(_lie_as(source, files))
    instead = (
        f"They lie as in {like}: is it that dataset?"
        if like
        else "Is it another dataset (`pantskit import --list`), or an archive that is not unpacked "
        "yet?"
    )
    return (
        f"{where}: none of its {len(files)} files lies as in {source.title} (there is {seen}). "
        f"Expected {expected}. {instead}"
    )
