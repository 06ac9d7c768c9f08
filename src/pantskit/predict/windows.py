"""Sliding window: a network over a volume larger than its input, slab by slab.

Rows of windows go through the volume along z. What no later row will reach is finished and
handed on, so sums of logits exist for the depth of one window only, however long the scan is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, product
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import PantskitError
from pantskit.predict.export import Ring

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]

# Logits are sums of windows times weights; nnU-Net scales weights to a peak of 10 because it
# sums in float16. The scale cancels, and float32 needs none.
_SIGMA = 1 / 8
# A window with no more tissue than this is empty for `skip_air`.
_LITTLE_TISSUE = 0.002


class ShortMemory(PantskitError):
    """Memory is too short, however little is computed at once."""


class Source(Protocol):
    """An image on the network's grid, read some slices at a time, in rising order."""

    @property
    def shape(self) -> Shape:
        """(z, y, x)."""

    @property
    def air(self) -> float | None:
        """Values up to this one are air or fat's lower end; None where nobody knows."""

    def read(self, start: int, stop: int) -> torch.Tensor:
        """(n, y, x) float32."""


@dataclass
class Sliding:
    """How windows are computed, and what became of it.

    Attributes:
        patch_size: the network's input, in voxels.
        n_channels: output channels of the network.
        device: where the network runs.
        sums_on: where logits are summed; None where the network runs.
        mirror_axes: spatial axes (0 to 2) over whose flips the answer is averaged.
        step: distance of windows as a share of the patch.
        batch: windows computed at once; falls when memory is short.
        skip_air: leave out windows without tissue; their voxels become background.
        bf16: compute in bfloat16.
        exact: compute in float32 on a GPU, too.
        fixed: hand the network full batches only, as one that is compiled wants them.
        computed: windows computed so far.
        skipped: windows left out so far.
        notes: what had to be changed on the way, for people.
    """

    patch_size: Shape
    n_channels: int
    device: torch.device
    sums_on: torch.device | None = None
    mirror_axes: tuple[int, ...] = ()
    step: float = 0.5
    batch: int = 1
    skip_air: bool = False
    bf16: bool = False
    exact: bool = False
    fixed: bool = False
    computed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)

    def padding(self, shape: Shape) -> tuple[Shape, Shape]:
        """Shape of an image grown to a patch at least, and where it begins in it."""
        grown = [max(n, p) for n, p in zip(shape, self.patch_size, strict=True)]
        before = [(g - n) // 2 for g, n in zip(grown, shape, strict=True)]
        return (grown[0], grown[1], grown[2]), (before[0], before[1], before[2])

    def rows(self, network: torch.nn.Module, source: Source) -> Iterator[tuple[Ring, int]]:
        """Compute an image's windows row by row.

        Yields:
            A ring of torch tensors, always the same, and the first slice, in the padded
            image's counting, that later rows will still change. The slice before the one that
            was finished last is still there.

        Raises:
            ShortMemory: If memory is too short for a single window, or for the sums.
        """
        import torch

        shape, before = self.padding(source.shape)
        starts = [
            window_starts(n, p, self.step) for n, p in zip(shape, self.patch_size, strict=True)
        ]
        ring = self._ring(shape)
        weights = torch.from_numpy(gaussian_weights(self.patch_size)).to(ring.logits.device)
        depth, filled = self.patch_size[0], 0
        block = torch.zeros((depth, *shape[1:]), dtype=torch.float32, device=self.device)
        at = 0
        for row, z in enumerate(starts[0]):
            # Left before each row is handed on: whoever takes it and fails would never leave it,
            # and what its thread trains or builds after that would have no gradients.
            with torch.inference_mode():
                kept = filled - z if row else 0
                if row:
                    block[:kept] = block[z - at : z - at + kept].clone()
                self._read(source, before, block[kept:], z + kept)
                _clear(ring, z + kept, z + depth)
                at, filled = z, z + depth
                corners = list(product(starts[1], starts[2]))
                self._row(network, block, corners, ring, z, weights, source.air)
            yield ring, starts[0][row + 1] if row + 1 < len(starts[0]) else shape[0]

    def _ring(self, shape: Shape) -> Ring:
        """Empty sums."""
        import torch

        depth = min(self.patch_size[0] + 1, shape[0])
        size = (depth, self.n_channels, *shape[1:])
        device = self.sums_on or self.device
        try:
            logits = torch.zeros(size, dtype=torch.float32, device=device)
            return Ring(logits, torch.zeros((depth, *shape[1:]), device=device))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        raise ShortMemory(
            f"out of memory: a slab of logits takes {np.prod(size) * 4 / 2**30:.1f} GiB"
        )

    def _read(self, source: Source, before: Shape, block: torch.Tensor, start: int) -> None:
        """Fill slices of the padded image; beyond the image they are 0."""
        block.zero_()
        low = max(start - before[0], 0)
        high = min(start + block.shape[0] - before[0], source.shape[0])
        if high > low:
            y, x = before[1:]
            first = low + before[0] - start
            part = block[
                first : first + high - low, y : y + source.shape[1], x : x + source.shape[2]
            ]
            part.copy_(source.read(low, high))

    def _row(
        self,
        network: torch.nn.Module,
        block: torch.Tensor,
        corners: Sequence[tuple[int, int]],
        ring: Ring,
        z: int,
        weights: torch.Tensor,
        air: float | None,
    ) -> None:
        """Add the windows of one row to the ring."""
        import torch

        _, rows, columns = self.patch_size
        todo = []
        for y, x in corners:
            window = block[:, y : y + rows, x : x + columns]
            if self.skip_air and air is not None and _empty(window, air):
                self.skipped += 1
            else:
                todo.append((y, x))
        done = 0
        while done < len(todo):
            some = todo[done : done + self.batch]
            parts = [block[None, :, y : y + rows, x : x + columns] for y, x in some]
            try:
                patches = torch.stack(parts)
                answers = self._answers(network, self._filled(patches))
            except (RuntimeError, MemoryError) as error:
                self._shrink(error)
                continue
            for (y, x), answer in zip(some, answers[: len(some)], strict=True):
                _add(ring, (z, y, x), answer.to(weights.device), weights)
            done += len(some)
            self.computed += len(some)

    def _filled(self, patches: torch.Tensor) -> torch.Tensor:
        """A batch with empty windows after the last, where it must be full."""
        import torch

        missing = self.batch - len(patches)
        if not self.fixed or not missing:
            return patches
        return torch.cat([patches, patches.new_zeros((missing, *patches.shape[1:]))])

    @property
    def precision(self) -> str:
        """The type in which the network computes."""
        if self.bf16:
            return "bfloat16 (autocast)"
        # nnU-Net computes in half precision on a GPU, and so do we: same windows, same type.
        return "float16 (autocast)" if self.device.type == "cuda" and not self.exact else "float32"

    def _answers(self, network: torch.nn.Module, patches: torch.Tensor) -> torch.Tensor:
        """The mean answer over all flips: (n, c, z, y, x)."""
        import torch

        half = torch.bfloat16 if self.bf16 else None
        enabled = self.precision != "float32"
        axes = [axis + 2 for axis in self.mirror_axes]
        flips = [c for n in range(len(axes) + 1) for c in combinations(axes, n)]
        total = None
        with torch.autocast(self.device.type, dtype=half, enabled=enabled):
            for flip in flips:
                answer = network(torch.flip(patches, flip) if flip else patches)
                answer = torch.flip(answer, flip) if flip else answer
                total = answer if total is None else total.add_(answer)
        assert total is not None
        return total.div_(len(flips)) if len(flips) > 1 else total

    def _shrink(self, error: BaseException) -> None:
        """Halve the batch where memory was short.

        Raises:
            ShortMemory: If it is one window already.
            BaseException: The error itself, if it is another one.
        """
        import torch

        if not out_of_memory(error):
            raise error
        if self.batch == 1:
            raise ShortMemory(
                "out of memory with one window at a time; free memory or use --device cpu"
            ) from None
        self.batch //= 2
        many = "one window" if self.batch == 1 else f"{self.batch} windows"
        self.notes.append(f"out of memory: from then on {many} at once")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or Python means that memory is short."""
    import torch

    short = isinstance(error, (torch.OutOfMemoryError, MemoryError, ShortMemory))
    return short or "can't allocate memory" in str(error) or "out of memory" in str(error).lower()


def _add(ring: Ring, corner: Shape, answer: torch.Tensor, weights: torch.Tensor) -> None:
    """Add one window's (c, z, y, x) answer."""
    z, y, x = corner
    rows, columns = slice(y, y + weights.shape[1]), slice(x, x + weights.shape[2])
    for slots, part in _slots(ring.depth, z, z + weights.shape[0]):
        share = weights[part]
        sums = ring.logits[slots, :, rows, columns]
        sums.addcmul_(answer[:, part].transpose(0, 1).float(), share[:, None])
        ring.weight[slots, rows, columns] += share


def _clear(ring: Ring, start: int, stop: int) -> None:
    for slots, _ in _slots(ring.depth, start, stop):
        ring.logits[slots] = 0
        ring.weight[slots] = 0


def _slots(depth: int, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """Runs of slots for slices start to stop, each with its part of them."""
    at = start
    while at < stop:
        slot = at % depth
        n = min(stop - at, depth - slot)
        yield slice(slot, slot + n), slice(at - start, at - start + n)
        at += n


def _empty(window: torch.Tensor, air: float) -> bool:
    tissue = (window > air) & (window != 0)  # 0 is what surrounds a small image
    return float(tissue.float().mean()) < _LITTLE_TISSUE


def window_starts(size: int, patch: int, step: float) -> list[int]:
    """First voxels of windows along an axis: evenly spaced, at most `step` patches apart."""
    most = size - patch + 1  # windows a voxel apart
    n = min(int(np.ceil((size - patch) / (patch * step))) + 1, most)
    spacing = (size - patch) / (n - 1) if n > 1 else 0.0
    return [int(np.round(spacing * i)) for i in range(n)]


@cache
def gaussian_weights(patch_size: Shape) -> NDArray[np.float32]:
    """Weight of each voxel of a window: 1 in its centre, at most an eighth patch wide, never 0."""
    from scipy.ndimage import gaussian_filter

    peak = np.zeros(patch_size)
    peak[tuple(n // 2 for n in patch_size)] = 1
    weights = gaussian_filter(peak, [n * _SIGMA for n in patch_size], mode="constant")
    # As in nnU-Net, corners get the smallest weight that float16 does not round to 0.
    weights = (weights / weights.max() * 10).astype(np.float16).astype(np.float32) / 10
    weights[weights == 0] = weights[weights > 0].min()
    result: NDArray[np.float32] = weights
    return result
