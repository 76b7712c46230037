"""What one would write for the observation models p(x|z_1): the part of the plain program (`tune.bench.baseline`) for
them, and how their x is drawn.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tune.bench.baseline import BernoulliDecoder, GaussianLayer, binarized, hidden_layers, log_normal


class GaussianDecoder(nn.Module):
    """p(x|z_1) = N(x | mu(z_1), sigma2(z_1))."""

    def __init__(self, units: int, widths: Sequence[int], pixels: int, style: dict[str, Any]) -> None:
        super().__init__()
        self.gaussian = GaussianLayer(units, widths, pixels, **{**style, "normalize_heads": False})

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1), summed over pixels: z [N, U], x [N, D] -> [N]."""
        return log_normal(x, *self.gaussian(z))


class OneVarianceDecoder(nn.Module):
    """p(x|z_1) = N(x | mu(z_1), sigma2), sigma2 learned or given."""

    def __init__(
        self, units: int, widths: Sequence[int], pixels: int, style: dict[str, Any], variance: float | None
    ) -> None:
        super().__init__()
        self.mlp = hidden_layers(units, widths, style["nonlinearity"], style["norm"])
        self.mu = nn.Linear([units, *widths][-1], pixels)
        self.floor = style["floor"]
        self.raw = nn.Parameter(torch.zeros(())) if variance is None else None
        self.given = torch.tensor(math.nan if variance is None else variance)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1), summed over pixels: z [N, U], x [N, D] -> [N]."""
        mu = self.mu(self.mlp(z))
        sigma2 = self.given.to(mu) if self.raw is None else F.softplus(self.raw) + self.floor
        return torch.distributions.Normal(mu, torch.sqrt(sigma2), validate_args=False).log_prob(x).sum(-1)


def gaussian_decoder(
    units: int, widths: Sequence[int], pixels: int, style: dict[str, Any], variance: str | float = "predicted"
) -> nn.Module:
    """The decoder of a Gaussian with this variance."""
    if variance == "predicted":
        return GaussianDecoder(units, widths, pixels, style)
    return OneVarianceDecoder(units, widths, pixels, style, variance if isinstance(variance, float) else None)


class ContinuousBernoulliDecoder(nn.Module):
    """p(x|z_1) = C(lambda) lambda^x (1 - lambda)^(1 - x), lambda = sigmoid(Linear(MLP(z_1)))."""

    def __init__(self, units: int, widths: Sequence[int], pixels: int, style: dict[str, Any]) -> None:
        super().__init__()
        self.mlp = hidden_layers(units, widths, style["nonlinearity"], style["norm"])
        self.logits = nn.Linear([units, *widths][-1], pixels)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1), summed over pixels: z [N, U], x [N, D] -> [N]."""
        logits = self.logits(self.mlp(z))
        return torch.distributions.ContinuousBernoulli(logits=logits, validate_args=False).log_prob(x).sum(-1)


class DiscretizedLogisticDecoder(nn.Module):
    """p(x|z_1) = F(x + half a level) - F(x - half a level), F logistic, open at the ends."""

    def __init__(self, units: int, widths: Sequence[int], pixels: int, style: dict[str, Any], levels: int) -> None:
        super().__init__()
        self.half_level = 0.5 / (levels - 1)
        self.gaussian = GaussianLayer(units, widths, pixels, **{**style, "normalize_heads": False})

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1), summed over pixels: z [N, U], x [N, D] -> [N]."""
        mu, sigma2 = self.gaussian(z)
        scale, half = (3 * sigma2).sqrt() / math.pi, self.half_level
        # In the lighter half of a logistic, as it is symmetric: there a difference of 1 and nearly 1 would be lost.
        nearer, farther = ((half - (x - mu).abs()) / scale, (-half - (x - mu).abs()) / scale)
        inner = torch.log((torch.sigmoid(nearer) - torch.sigmoid(farther)).clamp(min=1e-38))
        darkest, lightest = F.logsigmoid((x + half - mu) / scale), F.logsigmoid((mu - x + half) / scale)
        return torch.where(x < half, darkest, torch.where(x > 1 - half, lightest, inner)).sum(-1)


def dequantized(gray: Tensor) -> Tensor:
    """Intensities in [0, 1] with noise below the last of 256 gray levels."""
    return (255 * gray + torch.rand_like(gray)) / 256


def same(gray: Tensor) -> Tensor:
    """Intensities in [0, 1] as they are."""
    return gray


DECODERS: dict[str, Any] = {
    "bernoulli": BernoulliDecoder,
    "gaussian": gaussian_decoder,
    "continuous_bernoulli": ContinuousBernoulliDecoder,
    "discretized_logistic": DiscretizedLogisticDecoder,
}
"""Makers of modules, by the name of their observation model, of whose settings they take arguments."""
DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "bernoulli": binarized,
    "gaussian": dequantized,
    "continuous_bernoulli": dequantized,
    "discretized_logistic": same,
}
"""How x is made of intensities in [0, 1], by the same names."""
