"""Several networks that answer as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Ensemble(torch.nn.Module):
    """The mean of the logits of networks, as nnU-Net ensembles the folds of a cross-validation."""

    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(n, c, z, y, x) logits of (n, 1, z, y, x) patches."""
        total: torch.Tensor | None = None
        for network in self.networks:
            answer = network(patches)
            total = answer if total is None else total.add_(answer)
        assert total is not None
        return total.div_(len(self.networks))
