"""Structures, label spaces and label maps: what an integer in a label map means."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import LabelError

Mask = NDArray[np.bool_]
LabelArray = NDArray[np.uint8]

PANCREAS = "pancreas"
LESION = "pancreatic_lesion"
# Whoever knows all three knows the gland, though not by its name.
PANCREAS_PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail")


class Annotation(StrEnum):
    """What is known of a structure in a case."""

    PRESENT = "present"  # annotated, and there
    EMPTY = "empty"  # annotated, and not there
    ABSENT = "absent"  # nobody annotated it: training and scoring ignore it


@dataclass(frozen=True)
class Structure:
    """One of the 28 structures of the release.

    Attributes:
        name: as in file names, `"kidney_left"`.
        id: in the release README's class map, 1 to 28.
        title: for people.
        group: for tables and legends.
        color: red, green, blue, 0 to 255.
        standard: what belongs to the mask.
        volume_ml: plausible (low, high) in an adult who is wholly in view.
        hu_non_contrast: plausible mean HU without contrast medium.
        hu_portal_venous: plausible mean HU in the portal venous phase.
        members: structures whose masks lie inside this one's.
        side: `"left"`, `"right"` or None.
    """

    name: str
    id: int
    title: str
    group: str
    color: tuple[int, int, int]
    standard: str
    volume_ml: tuple[float, float]
    hu_non_contrast: tuple[float, float]
    hu_portal_venous: tuple[float, float]
    synonyms: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    side: str | None = None


def _data(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("pantskit.core") / "data" / name).read_text("utf-8"))


def _structure(name: str, row: dict[str, Any]) -> Structure:
    hexes = row["color"].lstrip("#")
    red, green, blue = (int(hexes[i : i + 2], 16) for i in (0, 2, 4))
    pairs = {k: tuple(row[k]) for k in ("volume_ml", "hu_non_contrast", "hu_portal_venous")}
    return Structure(
        name=name,
        id=row["id"],
        title=row["title"],
        group=row["group"],
        color=(red, green, blue),
        standard=row["standard"],
        synonyms=tuple(row["synonyms"]),
        members=tuple(row.get("members", ())),
        side=row.get("side"),
        **pairs,
    )


_STRUCTURES = _data("structures.toml")
PAINT_ORDER: tuple[str, ...] = tuple(_STRUCTURES.pop("paint_order"))
STRUCTURES: Mapping[str, Structure] = MappingProxyType(
    {name: _structure(name, row) for name, row in _STRUCTURES.items()}
)


def containers(structure: str) -> tuple[str, ...]:
    """Structures whose mask contains this one's: `("pancreas",)` of `"pancreas_head"`."""
    return tuple(s.name for s in STRUCTURES.values() if structure in s.members)


def innermost(group: Iterable[str]) -> tuple[str, ...]:
    """The structures of a group that contain no other of it: of a lesion's id, the lesion."""
    names = tuple(group)
    return tuple(s for s in names if not any(s in containers(other) for other in names))


_IGNORE = "ignore"  # nnU-Net's name for voxels that nobody annotated


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _names_by_key() -> dict[str, str]:
    keys = {_key(n): s.name for s in STRUCTURES.values() for n in (*s.synonyms, s.title)}
    return keys | {_key(name): name for name in STRUCTURES}


def find_structure(name: str) -> str | None:
    """The structure that a file or label name means, or None.

    Case, spaces, punctuation, image suffixes and a trailing number do not matter:
    `"Left Kidney"`, `"livertumor2"`, `"IVC.nii.gz"`. A bare "tumor" means nothing: it may be
    another organ's.
    """
    stem = re.sub(r"\.(nii(\.gz)?|nrrd|mha|npz|dcm|png)$", "", name.strip(), flags=re.IGNORECASE)
    names = _names_by_key()
    return names.get(_key(stem)) or names.get(_key(re.sub(r"[\s_-]*\d+$", "", stem)))


def require_structure(name: str) -> str:
    """The structure that a name means.

    Raises:
        LabelError: If it means none of the 28.
    """
    found = find_structure(name)
    if found is None:
        raise LabelError(
            f"{name!r} is none of the 28 structures; they are: {', '.join(STRUCTURES)}"
        )
    return found


@dataclass(frozen=True)
class LabelMap:
    """What the ids of a label map mean, in our structures.

    Attributes:
        name: of the map, for messages and records.
        ids: id to the structures that its voxels belong to, containers included.
        annotated: structures whose absence from a map means that they are not there; any
            other structure without a voxel is absent (not annotated).
        unmapped: id to the name of what has no place among our structures.
        max_id: ids up to this one are known to mean something without a place here.
    """

    name: str
    ids: Mapping[int, tuple[str, ...]]
    annotated: tuple[str, ...]
    unmapped: Mapping[int, str] = field(default_factory=dict)
    max_id: int = 0

    @classmethod
    def build(
        cls,
        name: str,
        ids: Mapping[int, tuple[str, ...]],
        *,
        annotated: tuple[str, ...] | None = None,
        unmapped: Mapping[int, str] | None = None,
        max_id: int = 0,
    ) -> LabelMap:
        """A label map from ids and the structures named for them.

        Containers are added: an id of the tumour is one of the pancreas too. Where nothing is
        said of `annotated`, every structure named is.
        """
        named = tuple(dict.fromkeys(s for group in ids.values() for s in group))
        closed = {
            i: tuple(dict.fromkeys((*group, *(c for s in group for c in containers(s)))))
            for i, group in sorted(ids.items())
        }
        return cls(name, closed, named if annotated is None else annotated, unmapped or {}, max_id)

    @classmethod
    def parse(cls, text: str) -> LabelMap:
        """Read `--label-map`: a known name, a .toml or .json file, or `1=liver,2=spleen`.

        Raises:
            LabelError: If it is none of them, or names what is no structure.
        """
        if "=" in text and not Path(text).is_file():
            return _inline_map(text)
        if Path(text).suffix in (".json", ".toml"):
            return _file_map(Path(text))
        known = known_label_maps()
        if text not in known:
            raise LabelError(
                f"label map {text!r} is not known; use one of {', '.join(known)}, a .toml or "
                ".json file, or pairs such as 1=pancreas,2=pancreatic_lesion"
            )
        return _known_map(text)

    @cached_property
    def structures(self) -> tuple[str, ...]:
        """Structures that some id means, in the order of the 28."""
        named = {s for group in self.ids.values() for s in group} | set(self.annotated)
        return tuple(s for s in STRUCTURES if s in named)

    def ids_of(self, structure: str) -> tuple[int, ...]:
        """The ids whose union is the structure's mask."""
        return tuple(i for i, group in self.ids.items() if structure in group)

    def require_known(self, values: NDArray[Any] | list[int], *, name: str) -> None:
        """Refuse label values that the map does not speak of.

        Args:
            values: distinct values of a label map.
            name: the case and file, for the message.

        Raises:
            LabelError: If a value is neither background, mapped, nor known to have no place; or
                if it is nnU-Net's `ignore`, whose voxels may be anything and are no background.
        """
        ignored = [int(v) for v in values if self.unmapped.get(int(v), "").lower() == _IGNORE]
        if ignored:
            raise LabelError(
                f"{name}: label {ignored[0]} is {_IGNORE!r}: what lies there is not known, and it "
                "is not taken for background; annotate these voxels, or leave the case out"
            )
        unknown = sorted(
            int(v)
            for v in values
            if v and v > self.max_id and int(v) not in self.ids and int(v) not in self.unmapped
        )
        if unknown:
            raise LabelError(
                f"{name}: labels {unknown} are not in the label map {self.name!r} "
                f"(ids {_ranges(sorted({*self.ids, *self.unmapped}))}); give the right one with "
                "--label-map"
            )


@dataclass(frozen=True)
class LabelSpace:
    """Ids of the structures in maps that we write or train on: one structure an id.

    Attributes:
        name: declared in every map written with it.
        ids: id (1 and up, contiguous) to structure.
    """

    name: str
    ids: Mapping[int, str]

    def __post_init__(self) -> None:
        if sorted(self.ids) != list(range(1, len(self.ids) + 1)):
            raise LabelError(f"label space {self.name}: ids {sorted(self.ids)} are not 1 to n")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Structures in id order."""
        return tuple(self.ids[i] for i in sorted(self.ids))

    @cached_property
    def colors(self) -> dict[int, tuple[int, int, int]]:
        """Id to red, green, blue."""
        return {i: STRUCTURES[s].color for i, s in self.ids.items()}

    @cached_property
    def paint_order(self) -> tuple[str, ...]:
        """Structures of this space, first painted first."""
        return tuple(s for s in PAINT_ORDER if s in self.names)

    def id_of(self, structure: str) -> int:
        """Id of a structure.

        Raises:
            LabelError: If the space has none for it.
        """
        if structure not in self.names:
            raise LabelError(f"label space {self.name} has no {structure}; it has {self.names}")
        return self.names.index(structure) + 1

    def evaluation_ids(self, structure: str) -> tuple[int, ...]:
        """Ids whose union is the structure's mask: its own and its members'."""
        wanted = (structure, *STRUCTURES[structure].members)
        return tuple(i for i, s in sorted(self.ids.items()) if s in wanted)

    def label_map(self, annotated: tuple[str, ...] | None = None) -> LabelMap:
        """This space as a label map to read with; `annotated` defaults to all its structures."""
        return LabelMap.build(
            self.name, {i: (s,) for i, s in self.ids.items()}, annotated=annotated
        )

    def combine(self, masks: Mapping[str, Mask]) -> LabelArray:
        """Paint masks of one grid into a label map.

        Args:
            masks: structure to (i, j, k) bool; structures outside the space are left out.

        Returns:
            (i, j, k) uint8, Fortran order; where masks overlap, the last painted stays.

        Raises:
            LabelError: If there is no mask or shapes differ.
        """
        shapes = {mask.shape for mask in masks.values()}
        if len(shapes) != 1:
            raise LabelError(f"masks of one shape are needed to combine, found {sorted(shapes)}")
        combined: LabelArray = np.zeros(shapes.pop(), np.uint8, order="F")
        for structure in self.paint_order:
            if structure in masks:
                self.paint(combined, structure, masks[structure])
        return combined

    def paint(self, combined: LabelArray, structure: str, mask: Mask) -> None:
        """Write the structure's id into `combined` wherever its mask is."""
        part = filled_slab(mask)
        combined[part][mask[part]] = self.id_of(structure)

    def exact(self, combined: LabelArray, masks: Mapping[str, Mask]) -> tuple[str, ...]:
        """Structures whose mask the combined map gives back voxel for voxel."""
        sizes = label_counts(combined)
        names = []
        for structure, mask in masks.items():
            if structure not in self.names:
                continue
            ids = list(self.evaluation_ids(structure))
            size = np.count_nonzero(mask)
            if size == sizes[ids].sum() == label_counts_inside(combined, mask)[ids].sum():
                names.append(structure)
        return tuple(names)


# Whole volumes are passed over as few times as possible below: with 28 structures a case, one
# pass a structure too many is seconds.


def filled_slab(mask: Mask) -> tuple[slice, slice, slice]:
    """The slices along k between the first and the last voxel of a mask; none when empty."""
    filled = np.flatnonzero(mask.any(axis=(0, 1)))
    ends = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
    return slice(None), slice(None), slice(*ends)


def label_counts(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Voxels of each label: (256,), or (65536,) for maps of two bytes."""
    flat = labels.ravel(order="K")
    counts = np.zeros(int(np.iinfo(labels.dtype).max) + 1, np.int64)
    for start in range(0, flat.size, 1 << 16):  # bincount takes 8 bytes a voxel: stay in the cache
        counts += np.bincount(flat[start : start + (1 << 16)], minlength=counts.size)
    return counts


def label_counts_inside(labels: NDArray[Any], mask: Mask) -> NDArray[np.int64]:
    """`label_counts` of the voxels in a mask."""
    part = filled_slab(mask)
    return label_counts(labels[part].T[mask[part].T])  # transposed: in the order of memory


def mask_of_ids(labels: NDArray[Any], ids: Iterable[int]) -> Mask:
    """Voxels that hold one of the ids, (i, j, k) bool."""
    mask: Mask = np.zeros(labels.shape, np.bool_, order="F")
    possible = [i for i in ids if i <= np.iinfo(labels.dtype).max]
    # A slice at a time stays in the cache, and memory of empty slices is never touched.
    for k in range(labels.shape[2]):
        for label in possible:
            found = labels[:, :, k] == label
            if found.any():
                mask[:, :, k] |= found
    return mask


def known_label_maps() -> tuple[str, ...]:
    """Names that `--label-map` knows."""
    folder = resources.files("pantskit.core") / "data" / "label_maps"
    return ("pants", *sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def _known_map(name: str) -> LabelMap:
    if name == PANTS.name:
        return PANTS.label_map()
    data = _data(f"label_maps/{name}.toml")
    ids = {int(i): (s,) if isinstance(s, str) else tuple(s) for i, s in data["ids"].items()}
    annotated = tuple(data["annotated"]) if "annotated" in data else None
    unmapped = {int(i): str(s) for i, s in data.get("unmapped", {}).items()}
    return LabelMap.build(
        name, ids, annotated=annotated, unmapped=unmapped, max_id=data.get("max_id", 0)
    )


def _space(name: str) -> LabelSpace:
    return LabelSpace(name, {i: group[0] for i, group in _known_map(name).ids.items()})


def _inline_map(text: str) -> LabelMap:
    ids: dict[int, tuple[str, ...]] = {}
    for pair in text.split(","):
        number, _, names = pair.partition("=")
        if not number.strip().isdigit() or not names.strip():
            raise LabelError(f"label map {text!r}: {pair!r} is not ID=STRUCTURE, as 2=spleen")
        if int(number) == 0:
            raise LabelError(f"label map {text!r}: 0 is the background; ids begin with 1")
        if int(number) in ids:
            raise LabelError(f"label map {text!r}: id {int(number)} is there twice; join with +")
        ids[int(number)] = tuple(require_structure(n) for n in names.split("+"))
    return LabelMap.build("inline", ids)


# Left out, a tumour's voxels would silently be missing from its organ.
_TUMOUR_WORDS = {
    f"{word}{plural}"
    for word in ("tumor", "tumour", "cancer", "lesion", "mass", "neoplasm", "carcinoma")
    for plural in ("", "s", "es")
}


def is_tumour_of_no_organ(name: str) -> bool:
    """Whether a name means a tumour and does not say of which organ: `"Cancer"`, `"lesions"`."""
    return _key(name) in _TUMOUR_WORDS


def _file_map(path: Path) -> LabelMap:
    """A TOML or JSON file of ours, or an nnU-Net or MSD dataset.json."""
    try:
        text = path.read_text("utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise LabelError(f"label map {path}: cannot be read: {error}") from None
    known = data if isinstance(data, dict) else {}
    pairs = known.get("ids") or known.get("labels") or data
    if not isinstance(pairs, dict):
        raise LabelError(f'label map {path}: expected {{"1": "liver", ...}} under ids or labels')
    ids: dict[int, tuple[str, ...]] = {}
    unmapped: dict[int, str] = {}
    for number, names in _id_pairs(pairs, path):
        if number in ids or number in unmapped:
            raise LabelError(f"label map {path}: id {number} is there twice")
        found = [find_structure(n) for n in names]
        if number and any(is_tumour_of_no_organ(n) for n in names):
            raise LabelError(
                f"label map {path}: id {number} is {'+'.join(names)!r}, of an organ that it does "
                "not name; say which with --label-map, as msd_pancreas or "
                "1=pancreas,2=pancreatic_lesion"
            )
        if number and all(found):
            ids[number] = tuple(s for s in found if s)
        elif number:
            unmapped[number] = "+".join(names)
    annotated = known.get("annotated")
    return LabelMap.build(
        path.name,
        ids,
        annotated=None if annotated is None else tuple(require_structure(n) for n in annotated),
        unmapped=unmapped,
    )


def _id_pairs(pairs: dict[str, Any], path: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Ids with names, from {"1": "liver"} (MSD, ours) or {"liver": 1} (nnU-Net v2)."""
    result = []
    for key, value in pairs.items():
        number, names = (key, value) if str(key).isdigit() else (value, key)
        if isinstance(number, list):
            raise LabelError(
                f"label map {path}: {key!r} is a region of several ids; list each id once"
            )
        if not str(number).isdigit():
            raise LabelError(f"label map {path}: {key!r}: {value!r} has no integer id")
        several = names if isinstance(names, list) else [names]
        if not several or not all(isinstance(name, str) for name in several):
            raise LabelError(f"label map {path}: {key!r}: {value!r} is no structure's name")
        result.append((int(number), tuple(several)))
    return result


def _ranges(numbers: list[int]) -> str:
    return (
        ", ".join(str(n) for n in numbers) if len(numbers) < 12 else f"{numbers[0]}..{numbers[-1]}"
    )


PANTS = LabelSpace("pants", {s.id: s.name for s in STRUCTURES.values()})
PANTS_ALPHABETICAL = _space("pants_alphabetical")
PANTS_2CLASS = _space("pants_2class")
LABEL_SPACES: Mapping[str, LabelSpace] = MappingProxyType(
    {space.name: space for space in (PANTS, PANTS_ALPHABETICAL, PANTS_2CLASS)}
)
