"""Sweeps of iterative inference (`hvae_spec.nn.inference.Ladder`): several passes with the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Swept(nn.Module):
    """What has something of its own for every sweep.

    Attributes:
        sweep: the place of the earlier sweep that it is in, 0 for the first; None in the last, the only one that draws.

    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.sweep: int | None = None


@contextmanager
def in_sweep(model: nn.Module, sweep: int) -> Iterator[None]:
    """Within this context, passes through the parts of `model` are of the earlier sweep at this place."""
    parts = [module for module in model.modules() if isinstance(module, Swept)]
    for part in parts:
        part.sweep = sweep
    try:
        yield
    finally:
        for part in parts:
            part.sweep = None
