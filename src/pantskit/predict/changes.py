"""What a step of post-processing did to a label map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.labels import PANTS

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """Voxels that a step moved from one structure to another.

    Attributes:
        structure: what they were.
        became: what they are; None for background.
        voxels: how many.
    """

    structure: str
    became: str | None
    voxels: int


@dataclass(frozen=True, eq=False)
class Report:
    """The outcome of a step.

    Attributes:
        labels: (i, j, k) uint8 ids of the space `pants`: the array given where nothing changed.
        changes: what changed, most voxels first.
        doubts: what the step might have changed and did not, with the reason.
    """

    labels: Labels
    changes: tuple[Change, ...] = ()
    doubts: tuple[str, ...] = ()


def report(before: Labels, after: Labels, doubts: list[str]) -> Report:
    """The outcome of a step, its changes counted from the two arrays."""
    moved = np.flatnonzero((before != after).ravel(order="K"))
    if not moved.size:
        return Report(before, (), tuple(doubts))
    old, new = before.ravel(order="K")[moved], after.ravel(order="K")[moved]
    counts: Counter[tuple[int, int]] = Counter(zip(old.tolist(), new.tolist(), strict=True))
    changes = tuple(Change(PANTS.ids[a], PANTS.ids.get(b), n) for (a, b), n in counts.most_common())
    return Report(after, changes, tuple(doubts))


def parts_of(mask: Mask) -> Iterator[tuple[tuple[slice, slice, slice], Mask]]:
    """The 26-connected parts of a mask, largest first.

    Yields:
        The box of a part, and the part's own voxels within it.
    """
    from pantskit.core.codedmasks import bounding_box

    box = bounding_box(mask)
    if box is None:
        return
    import cc3d

    # As uint8: of some bool rows cc3d raises an exception.
    crop = np.asfortranarray(mask[box]).view(np.uint8)
    labels: Any = cc3d.connected_components(crop, connectivity=26)
    found = cc3d.statistics(labels)
    sizes = np.asarray(found["voxel_counts"])[1:]
    for n in (np.argsort(-sizes.astype(np.int64), kind="stable") + 1).tolist():
        inner = found["bounding_boxes"][n]
        outer = tuple(
            slice(a.start + b.start, a.stop + b.start) for a, b in zip(inner, box, strict=True)
        )
        yield (outer[0], outer[1], outer[2]), np.asarray(labels[inner] == n)
