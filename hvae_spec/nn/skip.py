"""Skip connections: what a mapping takes of the latents that it may depend on."""

from collections.abc import Sequence

import torch
from torch import Tensor


def joined(latents: Sequence[Tensor], *, skip: bool) -> Tensor:
    """The nearest of some latents, each [M, U_i, S, B], or with skip connections all of them in one.

    Args:
        latents: those that a mapping may depend on, the nearest first.
        skip: whether there are skip connections.

    Returns: [M, U, S, B], for a skip connection U = sum_i U_i, in the order given.

    """
    return torch.cat(list(latents), dim=1) if skip and len(latents) > 1 else latents[0]


def joined_units(units: Sequence[int], *, skip: bool) -> int:
    """Units of what `joined` returns, for the units of the latents that it is given."""
    return sum(units) if skip else units[0]
