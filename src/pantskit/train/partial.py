"""Partial labels: what a case's labels leave open, voxel by voxel and channel by channel.

Nobody annotates everything. What a case does not annotate is not background there: it may lie
wherever the case's labels leave room for it, and neither the loss nor the sampling of patches may
hold its presence or its absence against the network.

Softmax: a voxel's label allows one or more channels, and the loss asks for their joint
probability (marginal loss: Fang and Yan, IEEE TMI 2020; Shi et al., Medical Image Analysis
2021). Regions: each channel is a yes or no of its own, and what is not annotated is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.labels import PAINT_ORDER, containers
from pantskit.train.labels import Channels, overlapping

Table = NDArray[np.bool_]


def allowed_channels(structures: Sequence[str], annotated: Sequence[str]) -> Table:
    """Which channels of a softmax a voxel may belong to, by its label.

    A structure that is not annotated may lie under the label of what was painted before it:
    its container's where that is annotated, and those of the container's other members; else
    the background's.

    Args:
        structures: of channel 1, 2, ...
        annotated: those of them that the case annotates.

    Returns:
        (label, channel); the diagonal is always true. The column of an annotated structure
        holds nothing else, that of another one does.
    """
    table = np.eye(len(structures) + 1, dtype=np.bool_)
    channel = {s: n for n, s in enumerate(structures, 1)}
    for hidden in structures:
        if hidden in annotated:
            continue
        around = set(containers(hidden))
        if not around.intersection(annotated):
            table[0, channel[hidden]] = True
        for shown in annotated:
            family = shown in around or around.intersection(containers(shown))
            if family and PAINT_ORDER.index(shown) < PAINT_ORDER.index(hidden):
                table[channel[shown], channel[hidden]] = True
    return table


class AnnotationTable:
    """What the labels of each case tell of the channels, for batches of cases.

    Attributes:
        regions: whether rows are of regions.
    """

    def __init__(self, channels: Channels) -> None:
        self.regions = channels.regions
        self._rows = {c: _row(channels, known) for c, known in channels.annotated.items()}

    @property
    def complete(self) -> bool:
        """Whether every case annotates every structure."""
        if self.regions:
            return all(row.all() for row in self._rows.values())
        return all(row.sum() == len(row) for row in self._rows.values())

    def of(self, cases: Sequence[str]) -> Table:
        """Of a batch.

        Returns:
            Of a softmax (case, label, channel), see `allowed_channels`; of regions (case,
            channel): whether it is annotated.
        """
        return np.stack([self._rows[case] for case in cases])


def _row(channels: Channels, annotated: Sequence[str]) -> Table:
    if channels.regions:
        return np.array([s in annotated for s in channels.structures])
    return allowed_channels(channels.structures, annotated)


def without_unknown_regions(
    locations: Mapping[Any, Any], structures: tuple[str, ...], annotated: Sequence[str]
) -> dict[Any, Any]:
    """Places to draw foreground patches around, of annotated structures only.

    A region that is not annotated holds the voxels of its annotated members: patches around
    them are drawn for these, and not once more for the region. A softmax needs no such care:
    its labels hold annotated structures only.

    Args:
        locations: nnU-Net's `class_locations` of regions: a label, or a tuple of a region's
            labels, to (n, 4) voxels.
        structures: of label 1, 2, ...
        annotated: those of them that the case annotates.

    Returns:
        The same keys; nothing at those of regions that the case does not annotate.
    """
    unknown = [region_labels(s, structures) for s in structures if s not in annotated]
    return {
        key: [] if (key if isinstance(key, tuple) else (key,)) in unknown else places
        for key, places in locations.items()
    }


def region_labels(structure: str, structures: tuple[str, ...]) -> tuple[int, ...]:
    """Labels, from 1 in the order of `structures`, whose voxels are the structure's."""
    own = (structure, *overlapping(structure, structures))
    return tuple(n for n, s in enumerate(structures, 1) if s in own)


def starting_shares(
    channels: Channels, voxels: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int]
) -> list[float]:
    """How much of an image each channel takes up, from the cases that annotate it.

    Args:
        channels: of the network.
        voxels: case_id to structure to the voxels that bear its label.
        sizes: case_id to the voxels of its image.

    Returns:
        Of a softmax the background's share, then each structure's; of regions each one's,
        with what lies in it.
    """
    shares = []
    for structure in channels.structures:
        cases = [c for c in voxels if structure in channels.annotated[c]]
        own = (structure, *overlapping(structure, channels.structures))
        parts = own if channels.regions else (structure,)
        filled = sum(voxels[c][part] for c in cases for part in parts)
        shares.append(filled / max(1, sum(sizes[c] for c in cases)))
    return shares if channels.regions else [max(0.0, 1 - sum(shares)), *shares]
