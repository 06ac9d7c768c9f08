"""A network compiled for one shape of its input, with the network itself to fall back on."""

from __future__ import annotations

import torch


class Compiled(torch.nn.Module):
    """A network through `torch.compile`, on a GPU as a CUDA graph.

    It is compiled at the first call, and again for each further shape. Where that fails, as
    without a C++ compiler, the network runs as it is.

    Attributes:
        why_not: why it does not run compiled; empty while it does.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self._graph = device.type == "cuda"
        # Graphs save the launches of kernels, of which a window of a deep network has hundreds.
        mode = "reduce-overhead" if self._graph else None
        self._compiled = torch.compile(network, dynamic=False, mode=mode)
        self.why_not = ""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """The network's answer."""
        if self.why_not:
            answer: torch.Tensor = self.network(patches)
            return answer
        try:
            if self._graph:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            answer = self._compiled(patches)
        except Exception as error:
            if not _of_compiler(error):
                raise
            self.why_not = f"not compiled: {_reason(error)}"
            return self.forward(patches)
        # A graph writes every answer to the same memory.
        return answer.clone() if self._graph else answer


def _of_compiler(error: Exception) -> bool:
    """Whether an exception is of the compiler, and not of the network or its memory."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
