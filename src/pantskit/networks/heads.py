"""What the output channels of a network mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import DatasetError, LabelError
from pantskit.core.labels import (
    PAINT_ORDER,
    PANTS,
    STRUCTURES,
    LabelMap,
    containers,
    find_structure,
    innermost,
    is_tumour_of_no_organ,
)


@dataclass(frozen=True)
class Heads:
    """Structures by label code.

    Attributes:
        names: structures that a code means; none for the background and for what is none of
            the 28. Of a softmax, a code is a channel and code 0 the background; of regions,
            code n + 1 is what channel n was painted with last, and code 0 nothing.
        regions: whether channels overlap and are painted one over the other.
        unmapped: what the model knows besides, by its own names.
    """

    names: tuple[tuple[str, ...], ...]
    regions: bool = False
    unmapped: tuple[str, ...] = ()

    @cached_property
    def structures(self) -> tuple[str, ...]:
        """Structures that a prediction speaks of, in the order of the 28."""
        named = {structure for names in self.names for structure in names}
        return tuple(s for s in STRUCTURES if s in named)

    @property
    def n_channels(self) -> int:
        """Output channels of the network."""
        return len(self.names) - self.regions

    @property
    def table(self) -> NDArray[np.uint8]:
        """Id in the label space `pants` by code."""
        ids = [0 if not names else PANTS.id_of(_painted(names)) for names in self.names]
        return np.array(ids, np.uint8)

    def channels_of(self, structure: str) -> tuple[int, ...]:
        """Channels whose voxels belong to a structure."""
        codes = [code for code, names in enumerate(self.names) if structure in names]
        return tuple(code - self.regions for code in codes)


def _painted(names: Sequence[str]) -> str:
    return max(names, key=PAINT_ORDER.index)


def heads_of_channels(structures: Sequence[str], *, regions: bool = False) -> Heads:
    """Of a model of ours: the structures, of a softmax after the background.

    A softmax has a voxel of the tumour in no other channel; it is the pancreas's all the same.
    """
    known = set(structures)
    around = [() if regions else tuple(known.intersection(containers(s))) for s in structures]
    return Heads(((), *((s, *a) for s, a in zip(structures, around, strict=True))), regions)


def heads_of_nnunet(labels: Any, *, label_map: LabelMap | None, where: str) -> Heads:
    """Of nnU-Net's LabelManager, by the names in its dataset.json or a label map of its ids.

    Args:
        labels: nnU-Net's LabelManager.
        label_map: what the ids mean; None goes by the names.
        where: the dataset.json, for messages.

    Raises:
        DatasetError: If no id is a structure's, or ids are not as nnU-Net's training wants them.
    """
    named = {k: v for k, v in labels.label_dict.items() if k != "ignore"}
    if labels.has_regions:
        names, unmapped = _regions(named, labels, label_map)
    else:
        lists = [k for k, v in named.items() if isinstance(v, (list, tuple))]
        if lists:
            raise DatasetError(
                f"{where}: label {lists[0]!r} is a list of one id, which makes it no region and no "
                "label; give the id alone, or regions of several ids"
            )
        if list(labels.all_labels) != list(range(len(labels.all_labels))):
            raise DatasetError(f"{where}: labels {labels.all_labels} are not 0 to n without gaps")
        names, unmapped = _channels({int(v): k for k, v in named.items()}, label_map)
    names = _around(names, regions=bool(labels.has_regions), label_map=label_map)
    if not any(names):
        known = ", ".join(str(name) for name in named if name != "background")
        raise DatasetError(
            f"{where}: none of its labels is one of the 28 structures ({known}); say what they "
            "mean with --label-map, as 1=pancreas,2=pancreatic_lesion"
        )
    return Heads(names, bool(labels.has_regions), unmapped)


def _around(
    names: Sequence[tuple[str, ...]], *, regions: bool, label_map: LabelMap | None
) -> tuple[tuple[str, ...], ...]:
    """Codes with the organs that they belong to, as far as the model knows those.

    A label map counts a tumour's id as the pancreas's too, but a model of the tumour alone does
    not know the pancreas. Regions have a channel for each.
    """
    own = [innermost(group) for group in names]
    if regions:
        return tuple(own)
    known = {s for group in own for s in group} | set(label_map.annotated if label_map else ())
    return tuple(
        tuple(dict.fromkeys((*group, *(c for s in group for c in containers(s) if c in known))))
        for group in own
    )


Names = tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]


def _channels(named: Mapping[int, str], label_map: LabelMap | None) -> Names:
    names: list[tuple[str, ...]] = [()]
    unmapped = []
    for label in range(1, len(named)):
        if label_map is not None:
            found = tuple(label_map.ids.get(label, ()))
        else:
            found = _structures_called(named[label])
        names.append(found)
        if not found:
            unmapped.append(named[label])
    return tuple(names), tuple(unmapped)


def _regions(named: Mapping[str, Any], labels: Any, label_map: LabelMap | None) -> Names:
    """A region of several ids is what all of them have in common."""
    names: list[tuple[str, ...]] = [()]
    unmapped = []
    for name, ids in named.items():
        members = [int(i) for i in (ids if isinstance(ids, (list, tuple)) else [ids])]
        if set(members) == {0}:
            continue
        if label_map is None:
            found = _structures_called(name)
        else:
            groups = [set(label_map.ids.get(i, ())) for i in members]
            found = tuple(s for s in STRUCTURES if all(s in group for group in groups))
        names.append(found)
        if not found:
            unmapped.append(name)
    return tuple(names), tuple(unmapped)


def _structures_called(name: str) -> tuple[str, ...]:
    """The structure of a name in a dataset.json.

    Raises:
        LabelError: If it is a tumour of an organ that the name does not tell.
    """
    found = find_structure(name)
    # Left out, a tumour's voxels would silently be missing from its organ.
    if found is None and is_tumour_of_no_organ(name):
        raise LabelError(
            f"dataset.json: {name!r} is of an organ that it does not name; say which with "
            "--label-map, as 1=pancreas,2=pancreatic_lesion"
        )
    return () if found is None else (found,)
