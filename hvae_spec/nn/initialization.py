"""Initial weights, drawn member by member from the members' own generators."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvae_spec.nn.gaussian import GaussianHead
from hvae_spec.nn.linear import Linear


@torch.no_grad()
def initialize(model: nn.Module, scheme: str, variance_bias: float, generators: Sequence[torch.Generator]) -> None:
    """Draw every linear map of every member anew.

    Args:
        model: a member-batched model.
        scheme: `torch` (PyTorch's default: weights and biases uniform on +-1/sqrt(fan_in)), `glorot_normal`,
            `glorot_uniform` (variance 2 / (fan_in + fan_out), biases zero), `he_normal`, `he_uniform` (2 / fan_in).
        variance_bias: initial bias of the heads that give variances.
        generators: member m is drawn from generators[m] alone.

    """
    for module in model.modules():
        if isinstance(module, Linear):
            for member, generator in enumerate(generators):
                _draw(module, member, scheme, generator)
    for module in model.modules():
        if isinstance(module, GaussianHead) and module.linear.bias is not None and variance_bias:
            half = module.linear.bias.shape[1] // 2
            module.linear.bias[:, half:] = variance_bias


def _draw(linear: Linear, member: int, scheme: str, generator: torch.Generator) -> None:
    _, outputs, fan_in = linear.weight.shape
    fan_out = outputs // linear.heads
    family, _, shape = scheme.partition("_")
    variance = {"torch": 1 / (3 * fan_in), "glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in}[family]
    linear.weight[member] = _noise((outputs, fan_in), variance, shape == "normal", generator)
    if linear.bias is not None:
        linear.bias[member] = _noise((outputs, 1), variance, False, generator) if scheme == "torch" else 0.0


def _noise(shape: tuple[int, int], variance: float, normal: bool, generator: torch.Generator) -> Tensor:
    """Normal or uniform noise of mean 0 and the given variance."""
    if normal:
        return torch.randn(shape, generator=generator) * math.sqrt(variance)
    return (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3 * variance)
