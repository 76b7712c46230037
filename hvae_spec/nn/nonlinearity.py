"""The nonlinearities of the MLPs, by their names in a spec."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "silu": F.silu,
    "gelu": F.gelu,
    "elu": F.elu,
    "leaky_relu": partial(F.leaky_relu, negative_slope=0.1),
}


def leaky_relu(slope: float) -> Callable[[Tensor], Tensor]:
    """max(a, slope * a)."""
    return partial(F.leaky_relu, negative_slope=slope)


def elu(alpha: float) -> Callable[[Tensor], Tensor]:
    """A for a > 0, alpha * (exp(a) - 1) otherwise."""
    return partial(F.elu, alpha=alpha)
