"""From logits on the network's grid to labels on the image's grid.

The usual way resamples the logits of every class to the image's size, gigabytes of them, and
takes the largest. Here finished slices of logits are turned into labels of the image while the
next ones are computed, and most voxels never meet interpolation: an interpolated logit is a
weighted mean of its eight neighbours', so where one channel wins in all eight, it wins between
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError, ImageError
from pantskit.networks.resampling import AxisWeights, axis_weights
from pantskit.predict.kernels import best_channels, interpolated_chances, interpolated_labels

Labels = NDArray[np.uint8]
Shape = tuple[int, int, int]

MOST_CHANNELS = 254  # codes are bytes, and one byte says that neighbours differ


@dataclass(frozen=True)
class Want:
    """What an export shall give beside labels.

    Attributes:
        score: channels whose joint probability's largest value on the network's grid is asked.
        chances: groups of channels whose joint probability is asked on the image's grid.
        entropy: whether the answer's entropy is.
    """

    score: tuple[int, ...] = ()
    chances: tuple[tuple[int, ...], ...] = ()
    entropy: bool = False


@dataclass
class Ring:
    """The last slices of logits on the network's grid; slice z lies in slot z % depth.

    Attributes:
        logits: (depth, c, y, x) float32: sums of weighted windows; means once exported.
        weight: (depth, y, x) float32, sums of weights.
    """

    logits: Any
    weight: Any

    @property
    def depth(self) -> int:
        """Slices it holds."""
        return int(self.logits.shape[0])


@dataclass(frozen=True)
class Grids:
    """The network's grid in the ring's, and the image's on the same extent.

    Attributes:
        inside: (z, y, x) first voxel of the network's grid in a padded ring.
        shape: (z, y, x) of the network's grid.
        out: (z, y, x) of the image's.
        nearest_axis: axis that takes the nearest slice in place of interpolation.
    """

    inside: Shape
    shape: Shape
    out: Shape
    nearest_axis: int | None = None

    def axes(self) -> list[AxisWeights]:
        """The weights along z, y and x."""
        return [
            axis_weights(n_in, n_out, nearest=axis == self.nearest_axis)
            for axis, (n_in, n_out) in enumerate(zip(self.shape, self.out, strict=True))
        ]


@dataclass(frozen=True)
class Block:
    """Slices of the image that are done.

    Attributes:
        start: index of the first.
        labels: (n, y, x) uint8.
        chances: (group, n, y, x) float32.
        entropy: (n, y, x) float32 in nats, or None.
    """

    start: int
    labels: Labels
    chances: NDArray[np.float32]
    entropy: NDArray[np.float32] | None


class Exporter:
    """Labels of an image from a ring that is filled slice by slice.

    Attributes:
        want: what is asked beside labels.
        threads: that share the slices.
        score: largest joint probability so far of the channels in `Want.score`.
    """

    def __init__(
        self,
        grids: Grids,
        *,
        table: NDArray[np.uint8],
        regions: bool = False,
        want: Want | None = None,
        threads: int = 1,
    ) -> None:
        """Prepare weights.

        Args:
            grids: the grids.
            table: label by code: of a softmax the channel; of regions 0 for none, n + 1 for
                channel n.
            regions: whether channels are painted one over the other where they are positive;
                else the largest wins, of equal ones the first.
            want: what else.
            threads: that share the slices.
        """
        if len(table) > MOST_CHANNELS + regions:
            raise ConfigError(f"{len(table)} channels; at most {MOST_CHANNELS} can be exported")
        self._grids, self._table, self._regions = grids, table, regions
        self._axes = grids.axes()
        self.want, self.threads = want or Want(), threads
        self._codes: Labels | None = None
        self._seen, self._done = 0, 0
        self.score = 0.0

    def push(self, ring: Ring, finished: int) -> Block | None:
        """Take slices of the ring that will not change any more; those before are known.

        Args:
            ring: numpy arrays; must still hold the last slice of the push before.
            finished: first slice, in the ring's counting, that may still change.

        Returns:
            Slices of the image that can be told now, if there are any.

        Raises:
            ImageError: If a logit is not finite.
        """
        inside, shape = self._grids.inside, self._grids.shape
        stop = min(finished - inside[0], shape[0])
        if stop <= self._seen:
            return None
        self._finish(ring, self._seen, stop)
        self._seen = stop
        # The upper neighbour decides when a slice can be told.
        ready = int(np.searchsorted(self._axes[0].high, stop, side="left"))
        start, self._done = self._done, ready
        return self._told(ring, start, ready) if ready > start else None

    def _finish(self, ring: Ring, start: int, stop: int) -> None:
        """Divide sums by weights, and find the best channel of every voxel."""
        if self._codes is None:
            self._codes = np.zeros((ring.depth, *ring.logits.shape[2:]), np.uint8)
        z0, y0, x0 = self._grids.inside
        rows, columns = self._grids.shape[1:]
        chosen = np.array(self.want.score, np.int64)

        def finish(first: int, last: int) -> tuple[float, bool]:
            slots = np.arange(first + z0, last + z0) % ring.depth
            return best_channels(
                ring.logits, ring.weight, self._codes, slots,
                y0, y0 + rows, x0, x0 + columns, self._regions, chosen, self.score,
            )  # fmt: skip

        for score, finite in self._shared(finish, start, stop):
            if not finite:
                raise ImageError("the network's answer is not finite; are the image's values HU?")
            self.score = max(self.score, score)

    def _told(self, ring: Ring, start: int, stop: int) -> Block:
        n, plane, want = stop - start, self._grids.out[1:], self.want
        labels: Labels = np.empty((n, *plane), np.uint8)
        chances = np.empty((len(want.chances), n, *plane), np.float32)
        entropy = np.empty((n, *plane) if want.entropy else (0, 0, 0), np.float32)
        groups = np.zeros((len(want.chances), ring.logits.shape[1]), np.bool_)
        for group, channels in enumerate(want.chances):
            groups[group, list(channels)] = True
        weights = self._ring_weights(ring.depth)

        def tell(first: int, last: int) -> None:
            part = slice(first - start, last - start)
            interpolated_labels(
                ring.logits, self._codes, labels[part], self._table, self._regions, first,
                *weights,
            )  # fmt: skip
            if want.chances or want.entropy:
                interpolated_chances(
                    ring.logits, chances[:, part], entropy[part], groups, self._regions, first,
                    *weights,
                )  # fmt: skip

        self._shared(tell, start, stop)
        return Block(start, labels, chances, entropy if want.entropy else None)

    def _ring_weights(self, depth: int) -> list[NDArray[Any]]:
        """Indices into the ring and weights, along z, y and x."""
        z, y, x = self._axes
        z0, y0, x0 = self._grids.inside
        return [
            (z.low + z0) % depth, (z.high + z0) % depth, z.weight,
            y.low + y0, y.high + y0, y.weight,
            x.low + x0, x.high + x0, x.weight,
        ]  # fmt: skip

    def _shared(self, work: Callable[[int, int], Any], start: int, stop: int) -> list[Any]:
        """Do slices start to stop, some by each thread."""
        pieces = max(1, min(4 * self.threads, stop - start)) if self.threads > 1 else 1
        edges = np.linspace(start, stop, pieces + 1).astype(int).tolist()
        if pieces == 1:
            return [work(start, stop)]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, edges[:-1], edges[1:]))


def resample_argmax(
    logits: NDArray[np.float32],
    shape: Shape,
    *,
    nearest_axis: int | None = None,
    threads: int = 1,
    table: Sequence[int] | None = None,
    regions: bool = False,
) -> Labels:
    """Label of the largest logit, interpolated, at every voxel of a grid of another size.

    Args:
        logits: (c, z, y, x) float32; at most 254 channels.
        shape: of the output, on the same extent.
        nearest_axis: axis that takes the nearest slice in place of interpolation.
        threads: that share the slices.
        table: label by code, as `Exporter` has it; None gives the codes.
        regions: as `Exporter` has it.

    Returns:
        `shape` uint8; of equal logits the first channel's, as argmax gives.
    """
    codes = range(logits.shape[0] + regions) if table is None else table
    grids = Grids((0, 0, 0), _shape(logits), shape, nearest_axis)
    exporter = Exporter(grids, table=np.array(codes, np.uint8), regions=regions, threads=threads)
    return export_whole(exporter, logits, shape).labels


def export_whole(exporter: Exporter, logits: NDArray[np.float32], shape: Shape) -> Block:
    """What an exporter tells of logits that are all there.

    Args:
        exporter: on their grid, `Grids.inside` at 0.
        logits: (c, z, y, x) float32.
        shape: of the image.
    """
    channels, depth, rows, columns = logits.shape
    want, step = exporter.want, min(depth, 8 * exporter.threads)
    ring = Ring(
        np.empty((step + 1, channels, rows, columns), np.float32),
        np.ones((step + 1, rows, columns), np.float32),
    )
    labels: Labels = np.empty(shape, np.uint8)
    chances = np.empty((len(want.chances), *shape), np.float32)
    entropy = np.empty(shape, np.float32) if want.entropy else None
    for start in range(0, depth, step):
        stop = min(start + step, depth)
        for z in range(start, stop):
            ring.logits[z % (step + 1)] = logits[:, z]
            ring.weight[z % (step + 1)] = 1
        block = exporter.push(ring, stop)
        if block is not None:
            told = slice(block.start, block.start + len(block.labels))
            labels[told], chances[:, told] = block.labels, block.chances
            if entropy is not None and block.entropy is not None:
                entropy[told] = block.entropy
    return Block(0, labels, chances, entropy)


def _shape(logits: NDArray[np.float32]) -> Shape:
    _, depth, rows, columns = logits.shape
    return depth, rows, columns
