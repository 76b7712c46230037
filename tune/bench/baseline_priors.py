"""What one would write for a learned prior of z_L: the part of the plain program (`tune.bench.baseline`) for it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tune.bench.baseline import Gaussian, StandardNormal, hidden_layers, log_normal


def log_mixture(z: Tensor, mu: Tensor, sigma2: Tensor) -> Tensor:
    """log (1/K) sum_k N(z; mu_k, sigma2_k), z [N, U], mu and sigma2 [K, U] -> [N], all terms side by side."""
    return log_normal(z[:, None], mu, sigma2).logsumexp(1) - math.log(len(mu))


class Mixture(nn.Module):
    """p(z_L) = (1/K) sum_k N(mu_k, sigma2_k)."""

    def __init__(self, units: int, pixels: int, style: dict[str, Any], components: int) -> None:
        super().__init__()
        self.floor = style["floor"]
        self.mu = nn.Parameter(torch.randn(components, units))
        self.raw = nn.Parameter(torch.full((components, units), math.log(math.expm1(1.0))))

    def forward(self, z: Tensor, posterior: Callable[[Tensor], Gaussian]) -> Tensor:
        """See `StandardNormal.forward`."""
        return log_mixture(z, self.mu, F.softplus(self.raw) + self.floor)


class VampPrior(nn.Module):
    """p(z_L) = (1/K) sum_k q(z_L|u_k). The u_k, which start at random, are a batch of their own to a batch norm."""

    def __init__(self, units: int, pixels: int, style: dict[str, Any], components: int) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.rand(components, pixels))

    def forward(self, z: Tensor, posterior: Callable[[Tensor], Gaussian]) -> Tensor:
        """See `StandardNormal.forward`."""
        return log_mixture(z, *posterior(self.images.clamp(0, 1)))


class RealNVP(nn.Module):
    """p(z_L) of N(0, I) through coupling layers."""

    def __init__(self, units: int, pixels: int, style: dict[str, Any], blocks: int, mlp: Sequence[int]) -> None:
        super().__init__()
        halves, f = [units // 2, units - units // 2], style["nonlinearity"]
        shapes = [halves if block % 2 == 0 else halves[::-1] for block in range(blocks)]
        self.sizes = halves
        self.nets = nn.ModuleList(
            nn.Sequential(hidden_layers(kept, mlp, f, None), nn.Linear([kept, *mlp][-1], 2 * changed))
            for kept, changed in shapes
        )

    def forward(self, z: Tensor, posterior: Callable[[Tensor], Gaussian]) -> Tensor:
        """See `StandardNormal.forward`."""
        log_det = z.new_zeros(len(z))
        for block in reversed(range(len(self.nets))):
            first, second = z.split(self.sizes, dim=1)
            kept, changed = (first, second) if block % 2 == 0 else (second, first)
            scale, shift = self.nets[block](kept).chunk(2, dim=1)
            scale = torch.tanh(scale)
            changed = (changed - shift) * torch.exp(-scale)
            z = torch.cat([kept, changed] if block % 2 == 0 else [changed, kept], dim=1)
            log_det = log_det - scale.sum(1)
        return log_normal(z, torch.zeros_like(z), torch.ones_like(z)) + log_det


PRIORS: dict[str, Callable[..., nn.Module]] = {
    "standard_normal": StandardNormal,
    "vamp": VampPrior,
    "mixture": Mixture,
    "realnvp": RealNVP,
}
"""Priors of z_L by name, of whose settings they take arguments."""
