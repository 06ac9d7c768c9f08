"""What a second label of a case, which was left, says otherwise."""

from __future__ import annotations

import numpy as np

from pantskit.core.errors import PantskitError
from pantskit.core.labels import Mask
from pantskit.core.volume import Volume
from pantskit.ingest.sources.declaration import LabelSet, Source
from pantskit.ingest.sources.layouts import FoundCase
from pantskit.ingest.sources.reading import Labels, read_labels


def second_label_notes(source: Source, case: FoundCase, sex: str | None) -> list[str]:
    """A sentence for each label that was left: in how many voxels it differs.

    Compared is what both may draw, structure by structure, since one may be masks and the other a
    map, or maps with other values. A structure that one of them does not hold is empty in it.
    """
    notes = []
    for other in case.also:
        name = f"{other.labels[0].parent.name}/{other.labels[0].name}"
        try:
            notes.append(
                f"a second label ({name}) was left; it {_differ(source, case, other, sex)}"
            )
        except PantskitError as error:
            notes.append(f"a second label was left, and cannot be read: {error}")
    return notes


def _differ(source: Source, case: FoundCase, other: FoundCase, sex: str | None) -> str:
    sets = [source.labelsets[found.layout.labelset] for found in (case, other)]
    first, second = (
        read_labels(found, labels, None, sex=sex)
        for found, labels in zip((case, other), sets, strict=True)
    )
    differs: Mask | None = None
    for part in sorted(_parts(sets[0]) & _parts(sets[1])):
        one, two = _mask(first, part), _mask(second, part)
        if one.shape != two.shape:
            return "lies on another grid"
        differs = one != two if differs is None else differs | (one != two)
    if differs is None:
        return "has no structure in common with the first"
    count = int(np.count_nonzero(differs))
    return f"differs in {count} voxels" if count else "is the same"


def _parts(labels: LabelSet) -> set[str]:
    return {part for m in (*labels.ids.values(), *labels.masks.values()) for part in m.parts}


def _mask(labels: Labels, part: str) -> Mask:
    mask = labels.coded.mask(part)
    if mask is None:
        mask = np.zeros(labels.coded.shape, bool)
    return Volume(mask, labels.geometry).reoriented().array.astype(bool)
