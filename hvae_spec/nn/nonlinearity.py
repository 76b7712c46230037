"""The nonlinearities of the MLPs, a -> f(a), by their names in a spec."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hvae_spec.registry import Registry

NONLINEARITIES: Registry[Callable[..., Tensor]] = Registry("nonlinearity in torch")
"""Functions of a and, by its name, of the parameter that the nonlinearity has."""
NONLINEARITIES.add("relu", torch.relu)
NONLINEARITIES.add("tanh", torch.tanh)
NONLINEARITIES.add("sigmoid", torch.sigmoid)
NONLINEARITIES.add("softplus", F.softplus)
NONLINEARITIES.add("silu", F.silu)
NONLINEARITIES.add("gelu", F.gelu)
NONLINEARITIES.add("elu", F.elu)


@NONLINEARITIES.register("leaky_relu")
def leaky_relu(a: Tensor, slope: float) -> Tensor:
    """max(a, slope * a)."""
    return F.leaky_relu(a, slope)
