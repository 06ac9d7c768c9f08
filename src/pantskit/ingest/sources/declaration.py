"""What a file of `data/` says of a public dataset: where its files lie and what they mean."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.core.labels import STRUCTURES

ORIGINS = ("expert", "model", "derived")
STATUSES = ("seen", "partial", "memory")

# What may be split by side: the part of the name before `_left` and `_right`.
SIDED = tuple(s.removesuffix("_left") for s in STRUCTURES if s.endswith("_left"))

_SPLIT = "split_lr:"


@dataclass(frozen=True)
class Meaning:
    """What an id of a label map, or a mask by its name, stands for.

    Attributes:
        name: what the dataset calls it.
        structures: of ours; () for what has no place among the 28.
        split: bases that are still to be split by side, as `"kidney"`.
        sex: the structure is this one in patients of this sex only (`"M"`); None for all.
        optional: a mask without which its structure is whole all the same.
    """

    name: str
    structures: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    sex: str | None = None
    optional: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Structures, and bases to split."""
        return (*self.structures, *self.split)


@dataclass(frozen=True)
class LabelSet:
    """What the labels of one part of a dataset mean.

    Attributes:
        ids: label value to its meaning.
        masks: file name without suffix to its meaning, for one mask a structure.
        annotated: structures whose absence from a label means that they are not there. Any
            other one is annotated where it has a voxel.
        partial: structures that are not drawn whole, with what is missing; left out unless asked
            for.
        unlisted: the highest id, beyond those listed, that is known to have no place here.
    """

    ids: Mapping[int, Meaning] = field(default_factory=dict)
    masks: Mapping[str, Meaning] = field(default_factory=dict)
    annotated: tuple[str, ...] = ()
    partial: Mapping[str, str] = field(default_factory=dict)
    unlisted: int = 0

    @property
    def structures(self) -> tuple[str, ...]:
        """All structures that it may give, sides included, in the order of the 28."""
        meanings = (*self.ids.values(), *self.masks.values())
        named = {s for m in meanings for s in m.structures} | set(self.annotated)
        named |= {f"{b}_{side}" for m in meanings for b in m.split for side in ("left", "right")}
        return tuple(s for s in STRUCTURES if s in named)


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset's files lie; patterns are those of `layouts.compile_pattern`.

    Attributes:
        name: for people.
        image: pattern of the CT: a volume, or the slices of a DICOM series (`.dcm`).
        labels: pattern of its label map.
        masks: pattern of one mask a structure, with `{structure}`.
        slices: pattern of PNG masks, one a slice, in the order of the slices' file names.
        folder: pattern of a file in the folder of a case in the release's layout.
        split: `"train"` or `"test"`, as the source says.
        labelset: which of the dataset's label sets holds; `""` the only one.
        origin: of the labels, where it is not the dataset's.
        highest: number `{id#}` of the last case that is a CT; 0 where all are.
    """

    name: str
    image: str
    labels: str = ""
    masks: str = ""
    slices: str = ""
    folder: str = ""
    split: str = "train"
    labelset: str = ""
    origin: str = ""
    highest: int = 0

    @property
    def annotation(self) -> str:
        """The pattern of whatever annotates; "" for CTs without labels."""
        return self.labels or self.masks or self.slices or self.folder


@dataclass(frozen=True)
class Fact:
    """How well one statement about a dataset is known: seen, partial, or from memory."""

    what: str
    status: str
    source: str


@dataclass(frozen=True)
class Source:
    """A dataset, as declared.

    Attributes:
        name: what `pantskit import` calls it.
        title, url, license, terms, citation: for people; `terms` says what one has to agree to.
        aliases: other names.
        layouts: the ways its files may lie.
        labelsets: by name; `""` where there is only one.
        case: template of case IDs from the groups of the patterns: `"KiTS23_{id}"`.
        patient: template of patient IDs; "" where each scan counts as a patient.
        origin: who made the labels: expert, model or derived.
        origins: the same for single structures that differ.
        lesion_negative: whether the source says that no scan shows a pancreatic tumour.
        unlabelled: whether scans without a label are usual in it.
        flips: axes by which its labels may be mirrored against the CT: `"y"`, `"yz"`; which of
            them holds is told from the content.
        test_from: number of the first case of the official test set; 0 where layouts tell.
        table: facts of the patients; see `facttable`.
        facts: how well what stands here is known.
        notes: what a user should know.
    """

    name: str
    title: str
    url: str
    license: str
    terms: str
    citation: str
    layouts: tuple[Layout, ...]
    labelsets: Mapping[str, LabelSet]
    case: str
    patient: str = ""
    aliases: tuple[str, ...] = ()
    origin: str = "expert"
    origins: Mapping[str, str] = field(default_factory=dict)
    lesion_negative: bool = False
    unlabelled: bool = False
    flips: tuple[str, ...] = ()
    test_from: int = 0
    table: Mapping[str, Any] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def structures(self) -> tuple[str, ...]:
        """Structures that some scan of it may have annotated; of the release's layout all 28."""
        if any(layout.folder for layout in self.layouts):
            return tuple(STRUCTURES)
        named = {s for labels in self.labelsets.values() for s in labels.structures}
        return tuple(s for s in STRUCTURES if s in named)

    @property
    def verified(self) -> str:
        """How well its label values are known: the least of what is said of them."""
        worst = max(
            (STATUSES.index(f.status) for f in self.facts if "label values" in f.what), default=2
        )
        return STATUSES[worst]


def read_declaration(path: Path) -> Source:
    """Read a dataset's TOML file.

    Raises:
        ConfigError: If it cannot be read, lacks something, or names what is not known; the
            message says which file and which entry.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: declaration of a dataset cannot be read: {error}") from None
    try:
        return parse_declaration(path.stem, data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_declaration(name: str, data: Mapping[str, Any]) -> Source:
    """A dataset from the content of its TOML file.

    Raises:
        ConfigError: If something is missing or unknown.
    """
    known = {
        *("title", "url", "license", "terms", "citation", "case", "patient", "aliases", "origin"),
        *(
            "origins",
            "lesion_negative",
            "unlabelled",
            "flips",
            "test_from",
            "table",
            "layouts",
        ),
        *("ids", "masks", "annotated", "partial", "unlisted", "labelsets", "facts", "notes"),
    }
    _require_known(data, known, "the file")
    for key in ("title", "case", "layouts"):
        if not data.get(key):
            raise ConfigError(f"{key} is missing")
    labelsets = {part: _labelset(one, part) for part, one in data.get("labelsets", {}).items()}
    source = Source(
        name=name,
        labelsets=labelsets or {"": _labelset(data, "the file")},
        layouts=tuple(_layout(one) for one in data["layouts"]),
        facts=tuple(_fact(one) for one in data.get("facts", ())),
        title=str(data["title"]),
        case=str(data["case"]),
        url=str(data.get("url", "")),
        license=str(data.get("license", "")),
        terms=str(data.get("terms", "")),
        citation=str(data.get("citation", "")),
        patient=str(data.get("patient", "")),
        origin=_one_of(data.get("origin", "expert"), ORIGINS, "origin"),
        origins={_structure(s): _one_of(o, ORIGINS, "origins") for s, o in _items(data, "origins")},
        lesion_negative=bool(data.get("lesion_negative", False)),
        unlabelled=bool(data.get("unlabelled", False)),
        aliases=_texts(data, "aliases"),
        flips=_texts(data, "flips"),
        notes=_texts(data, "notes"),
        test_from=int(data.get("test_from", 0)),
        table=dict(data.get("table", {})),
    )
    for layout in source.layouts:
        if layout.labelset not in source.labelsets:
            raise ConfigError(f"layout {layout.name!r}: no labelsets.{layout.labelset}")
    return source


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(map(str, data.get(key, ())))


def _items(data: Mapping[str, Any], key: str) -> Any:
    return data.get(key, {}).items()


def _labelset(data: Mapping[str, Any], where: str) -> LabelSet:
    if where != "the file":
        _require_known(data, {"ids", "masks", "annotated", "partial", "unlisted"}, where)
    ids = {_number(i, where): _meaning(m, f"id {i}") for i, m in _items(data, "ids")}
    masks = {str(n): _meaning(m, f"mask {n}", n) for n, m in _items(data, "masks")}
    if any(m.split for m in masks.values()):
        raise ConfigError(f"{where}: masks are of one side; {_SPLIT} is for label maps")
    return LabelSet(
        ids=ids,
        masks=masks,
        annotated=tuple(_structure(s) for s in data.get("annotated", ())),
        partial={_structure(s): str(why) for s, why in _items(data, "partial")},
        unlisted=int(data.get("unlisted", 0)),
    )


def _meaning(entry: Any, where: str, name: str = "") -> Meaning:
    """From `"liver"`, `["pancreas", "pancreatic_lesion"]` or `{ name = ..., is = ... }`."""
    row = entry if isinstance(entry, dict) else {"is": entry}
    _require_known(row, {"name", "is", "sex", "optional"}, where)
    wanted = row.get("is", [])
    parts = [str(p) for p in (wanted if isinstance(wanted, list) else [wanted])]
    split = tuple(p.removeprefix(_SPLIT) for p in parts if p.startswith(_SPLIT))
    for base in split:
        _one_of(base, SIDED, f"{where}: {_SPLIT}")
    structures = tuple(_structure(p) for p in parts if not p.startswith(_SPLIT))
    label = str(row.get("name") or name or " + ".join(parts))
    return Meaning(label, structures, split, row.get("sex"), bool(row.get("optional", False)))


def _layout(row: Mapping[str, Any]) -> Layout:
    fields = set(Layout.__dataclass_fields__)
    _require_known(row, fields, "layouts")
    if "name" not in row or "image" not in row:
        raise ConfigError("layouts: each needs a name and an image")
    _one_of(row.get("split", "train"), ("train", "test"), "layouts: split")
    if row.get("origin"):
        _one_of(row["origin"], ORIGINS, "layouts: origin")
    texts = {k: str(v) for k, v in row.items() if k != "highest"}
    return Layout(**texts, highest=int(row.get("highest", 0)))


def _fact(row: Mapping[str, Any]) -> Fact:
    _require_known(row, {"what", "status", "source"}, "facts")
    status = _one_of(row.get("status", ""), STATUSES, "facts: status")
    return Fact(str(row.get("what", "")), status, str(row.get("source", "")))


def _structure(name: Any) -> str:
    if name not in STRUCTURES:
        raise ConfigError(f"{name!r} is none of the 28 structures")
    return str(name)


def _number(text: str, where: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ConfigError(f"{where}: id {text!r} is no integer above 0")
    return int(text)


def _one_of(value: Any, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        raise ConfigError(f"{where} {value!r} is unknown; it is one of {', '.join(known)}")
    return str(value)


def _require_known(row: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(row) - known)
    if unknown:
        raise ConfigError(f"{where}: unknown entry {', '.join(unknown)}")
