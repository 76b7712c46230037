"""A function of tensors, captured once as a CUDA graph and replayed: one launch in place of hundreds."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3
"""Calls before capture, in which libraries choose their kernels and allocate their workspaces."""


class CudaGraph:
    """Calls `function` on a CUDA device; from the fourth call with arguments of the same shapes on, replays its graph.

    The first calls run the function itself, so a call is a call: nothing is computed that was not asked for, and state
    that the function updates in place (parameters, optimizer) advances once per call.

    Args:
        function: of tensors and plain values; reads and writes no other memory than its tensors and what it owns.
            It must not wait for the device.

    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.key: Hashable = None
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.output = torch.empty(0)

    def __call__(self, *arguments: Any, key: Hashable = None) -> Tensor:
        """The function's value.

        Args:
            arguments: tensors and plain values. With tensors of other shapes, or other plain values, a new graph is
                captured in place of the last.
            key: what else the captured work depends on.

        """
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        now = (key, *(value.shape if isinstance(value, Tensor) else value for value in arguments))
        if now != self.key:
            self.key, self.calls, self.graph = now, 0, None
        self.calls += 1
        if self.calls <= WARM_UPS:
            return self._on_side_stream(_copies(arguments))
        graph = self.graph = self.graph or self._capture(arguments)
        for kept, value in zip(self.inputs, tensors, strict=True):
            kept.copy_(value)
        graph.replay()
        return self.output.clone()

    def _on_side_stream(self, arguments: Sequence[Any]) -> Tensor:
        """An ordinary call on a stream of its own, as capture asks of the calls before it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            output = self.function(*arguments)
        torch.cuda.current_stream().wait_stream(side)
        return output

    def _capture(self, arguments: Sequence[Any]) -> torch.cuda.CUDAGraph:
        """Record the function on copies of its arguments. Recording computes nothing."""
        kept = _copies(arguments)
        self.inputs = [value for value in kept if isinstance(value, Tensor)]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.output = self.function(*kept)
        return graph


def _copies(arguments: Sequence[Any]) -> list[Any]:
    """The arguments with copies in the place of tensors, contiguous in memory, so that the function sees one layout
    only: what `torch.compile` made of it would be compiled again for another.
    """
    return [
        value.clone(memory_format=torch.contiguous_format) if isinstance(value, Tensor) else value
        for value in arguments
    ]
