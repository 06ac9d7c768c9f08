"""The export on a GPU: logits never leave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError
from pantskit.predict.export import Block, Grids, Ring, Want

if TYPE_CHECKING:
    import torch

# Slices of the image that are made at once.
_CHUNK = 4


class DeviceExporter:
    """As `Exporter`, with a ring of torch tensors on a device.

    Attributes:
        score: largest joint probability so far of the channels in `Want.score`.
    """

    def __init__(
        self,
        grids: Grids,
        *,
        table: NDArray[np.uint8],
        regions: bool = False,
        want: Want | None = None,
    ) -> None:
        """Prepare weights; arguments as of `Exporter`."""
        self._grids, self._regions, self._want = grids, regions, want or Want()
        self._axes = grids.axes()
        self._table = table
        self._seen, self._done = 0, 0
        self.score = 0.0

    def push(self, ring: Ring, finished: int) -> Block | None:
        """Take slices of the ring that will not change any more, as `Exporter.push` does.

        Raises:
            ImageError: If a logit is not finite.
        """
        inside, shape = self._grids.inside, self._grids.shape
        stop = min(finished - inside[0], shape[0])
        if stop <= self._seen:
            return None
        for z in range(self._seen, stop):
            self._finish(ring, (z + inside[0]) % ring.depth)
        self._seen = stop
        ready = int(np.searchsorted(self._axes[0].high, stop, side="left"))
        start, self._done = self._done, ready
        return self._told(ring, start, ready) if ready > start else None

    def _finish(self, ring: Ring, slot: int) -> None:
        import torch

        weight, logits = ring.weight[slot], ring.logits[slot]
        untouched = weight == 0
        logits /= torch.where(untouched, torch.ones_like(weight), weight)
        if self._regions:
            logits.masked_fill_(untouched, -10.0)
        else:
            logits[0].masked_fill_(untouched, 10.0)
        weight.fill_(1)
        inner = self._inner(logits)
        if not bool(torch.isfinite(inner).all()):
            raise ImageError("the network's answer is not finite; are the image's values HU?")
        if self._want.score:
            chosen = list(self._want.score)
            if self._regions:
                top = torch.sigmoid(inner[chosen]).max()
            else:
                joint = torch.logsumexp(inner[chosen], 0) - torch.logsumexp(inner, 0)
                top = torch.exp(joint).max()
            # Of two logarithms that are nearly the same, the difference may be rounded above 0.
            self.score = max(self.score, min(float(top), 1.0))

    def _inner(self, logits: torch.Tensor) -> torch.Tensor:
        _, y, x = self._grids.inside
        _, rows, columns = self._grids.shape
        return logits[..., y : y + rows, x : x + columns]

    def _told(self, ring: Ring, start: int, stop: int) -> Block:
        n, plane, want = stop - start, self._grids.out[1:], self._want
        labels = np.empty((n, *plane), np.uint8)
        chances = np.empty((len(want.chances), n, *plane), np.float32)
        entropy = np.empty((n, *plane), np.float32) if want.entropy else None
        for first in range(start, stop, _CHUNK):
            part = slice(first - start, min(first + _CHUNK, stop) - start)
            values = self._interpolated(ring, first, min(first + _CHUNK, stop))
            labels[part] = self._table[self._codes(values).cpu().numpy()]
            if want.chances or want.entropy:
                self._spread(values, chances[:, part], None if entropy is None else entropy[part])
        return Block(start, labels, chances, entropy)

    def _interpolated(self, ring: Ring, start: int, stop: int) -> torch.Tensor:
        """(n, c, y, x) logits of slices of the image."""
        device = ring.logits.device
        z, y, x = self._axes
        offset, depth = self._grids.inside[0], ring.depth
        low, high = ((a[start:stop] + offset) % depth for a in (z.low, z.high))
        share = _on(z.weight[start:stop], device)[:, None, None, None]
        below, above = (self._inner(ring.logits[_on(slots, device)]) for slots in (low, high))
        values = below + share * (above - below)
        for axis, weights in ((2, y), (3, x)):
            share = _on(weights.weight, device).reshape(-1, *([1] * (3 - axis)))
            near = values.index_select(axis, _on(weights.low, device))
            far = values.index_select(axis, _on(weights.high, device))
            values = near + share * (far - near)
        return values

    def _codes(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        if not self._regions:
            return values.argmax(1).to(torch.uint8)
        n = values.shape[1]
        numbers = torch.arange(1, n + 1, device=values.device).reshape(1, n, 1, 1)
        return torch.where(values > 0, numbers, 0).amax(1).to(torch.uint8)

    def _spread(
        self, values: torch.Tensor, chances: NDArray[Any], entropy: NDArray[Any] | None
    ) -> None:
        """Fill the probabilities of the groups, and the entropy."""
        import torch

        p = torch.sigmoid(values) if self._regions else torch.softmax(values, 1)
        for group, channels in enumerate(self._want.chances):
            chosen = p[:, list(channels)]
            joint = chosen.amax(1) if self._regions else chosen.sum(1).clamp(max=1)
            chances[group] = joint.cpu().numpy()
        if entropy is not None:
            nats = torch.special.entr(p)
            each = nats + torch.special.entr(1 - p)
            entropy[:] = (each.amax(1) if self._regions else nats.sum(1)).cpu().numpy()


def _on(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
