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
    locations: Mapping[object, object], channels: Channels, case_id: str
) -> dict[object, object]:
    """Places to sample foreground patches from, of annotated structures only.

    A region that is not annotated holds the voxels of its annotated members: patches around
    them are drawn for these, and not once more for the region.

    Args:
        locations: nnU-Net's `class_locations`: a label, or a tuple of a region's labels, to
            (n, 4) voxels.
        channels: what labels mean.
        case_id: the case.

    Returns:
        The same keys; nothing at those of regions that the case does not annotate.
    """
    if not channels.regions:
        return dict(locations)  # its labels hold annotated structures only
    ids = {s: n for n, s in enumerate(channels.structures, 1)}
    unknown = set()
    for structure in set(channels.structures) - set(channels.annotated[case_id]):
        members = sorted(ids[s] for s in (structure, *overlapping(structure, channels.structures)))
        unknown.add(tuple(members) if len(members) > 1 else members[0])
    return {key: [] if key in unknown else places for key, places in locations.items()}
