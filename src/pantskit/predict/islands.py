"""Small parts away from their organ: removed, or given to what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, PANCREAS, PANTS, STRUCTURES, label_counts
from pantskit.predict.changes import Labels, Mask, Report, parts_of, report


@dataclass(frozen=True)
class Rule:
    """Which parts of a structure are islands.

    A part is one when it is smaller than both say; the largest part never is.

    Attributes:
        share: of the largest part.
        volume_mm3: of its own; infinite where the share alone decides.
    """

    share: float
    volume_mm3: float = np.inf


# An organ in one piece. Of 1,221 predictions of pancreases by 33 networks, 158 got better and 40
# worse, none by more than 0.023 DSC; to keep the largest part alone cost up to 0.24, and on the
# mean more than it gained (docs/predict.md).
WHOLE = Rule(0.1)
# What networks cut into pieces that are all real: long, thin, or with gaps.
LONG = Rule(0.1, 200.0)
# Several lesions are real, however small beside the largest: only specks of noise go.
SPECK = Rule(1.0, 10.0)

RULES: dict[str, Rule] = {
    **dict.fromkeys(STRUCTURES, WHOLE),
    **dict.fromkeys(
        (
            "celiac_artery", "colon", "common_bile_duct", "pancreatic_duct", "postcava",
            "superior_mesenteric_artery", "veins",
        ),
        LONG,
    ),
    "pancreatic_lesion": SPECK,
}  # fmt: skip


def remove_islands(labels: Labels, geometry: Geometry) -> Report:
    """Give each structure's islands to what lies around them, mostly background.

    The gland counts as one organ with its parts, duct and lesion: a duct in two pieces within
    it stays, a tail beside the spleen that nothing connects goes with all that is in it, unless
    it is larger than a tenth of the rest. A lesion that lies alone stays: a tumour may grow out of
    the gland; `stray-lesions` judges by distance. Islands of one part within another become the
    other.

    Args:
        labels: (i, j, k) uint8 ids of the space `pants`; not changed.
        geometry: their grid.
    """
    after = labels.copy(order="K")
    present = np.flatnonzero(label_counts(labels))
    found = [PANTS.ids[n] for n in present.tolist() if n]
    gland = PANTS.evaluation_ids(PANCREAS)
    members = STRUCTURES[PANCREAS].members
    if any(PANTS.id_of(s) in present for s in (PANCREAS, *members)):
        _settle(after, np.isin(after, gland), RULES[PANCREAS], geometry, alone=PANTS.id_of(LESION))
    for structure in found:
        if structure != PANCREAS:
            inside = after == PANTS.id_of(structure)
            hosts = gland if structure in members else ()
            _settle(after, inside, RULES[structure], geometry, hosts=hosts)
    return report(labels, after, [])


def _settle(
    labels: Labels,
    mask: Mask,
    rule: Rule,
    geometry: Geometry,
    *,
    hosts: tuple[int, ...] = (),
    alone: int | None = None,
) -> None:
    """Give the islands of a mask the label that most of their neighbours have, in place.

    Args:
        labels: to be changed.
        mask: of one structure.
        rule: which parts are islands.
        geometry: their grid.
        hosts: labels that are preferred where any neighbour has one.
        alone: label of which a part with nothing else in it stays.
    """
    largest = 0
    for box, part in parts_of(mask):
        size = int(np.count_nonzero(part))
        largest = largest or size
        small = size < rule.share * largest or (rule.share == 1.0 and size == largest)
        small &= size * geometry.voxel_volume_mm3 < rule.volume_mm3
        if small and not (alone is not None and bool((labels[box][part] == alone).all())):
            labels[box][part] = surrounding(labels, box, part, hosts)


def surrounding(
    labels: Labels, box: tuple[slice, slice, slice], part: Mask, hosts: tuple[int, ...] = ()
) -> int:
    """The label that most of the 26-neighbours of a part have.

    Args:
        labels: (i, j, k) ids.
        box: of the part.
        part: its voxels within the box.
        hosts: labels that count alone where any neighbour has one of them.
    """
    from scipy.ndimage import binary_dilation

    low = [max(s.start - 1, 0) for s in box]
    wide = tuple(
        slice(start, min(s.stop + 1, n)) for start, s, n in zip(low, box, labels.shape, strict=True)
    )
    inside = np.zeros(labels[wide].shape, np.bool_)
    inside[tuple(slice(s.start - a, s.stop - a) for s, a in zip(box, low, strict=True))] = part
    ring = binary_dilation(inside, np.ones((3, 3, 3))) & ~inside
    counts = np.bincount(labels[wide][ring], minlength=256)
    if hosts and counts[list(hosts)].any():
        counts[[n for n in range(256) if n not in hosts]] = 0
    return int(counts.argmax())
