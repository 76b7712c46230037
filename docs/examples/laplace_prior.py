"""p(z_L) = prod_u exp(-|z_u| / b) / 2b, whose units are near zero more often than those of N(0, I), and far from it."""

import math
from dataclasses import dataclass

import torch

from hvae_spec import extend
from hvae_spec.nn.prior import Prior


class Scale(extend.Settings):
    """A Laplace distribution of every unit."""

    scale: extend.Positive = 0.70711
    """b; the variance is 2 b²."""


class LaplaceModel(extend.PriorModel):
    factorizes = True

    def equation(self, settings):
        return f"Π_u exp(-|z_u| / b) / 2b,  b = {settings.scale:g}"


@dataclass(frozen=True)
class Laplace:
    b: float

    def log_prob(self, z):
        return -z.abs() / self.b - math.log(2 * self.b)

    def sample(self, noise):
        """The quantile of z at that of the normal noise, on the side that it is on."""
        return -self.b * noise.sign() * (torch.special.log_ndtr(-noise.abs()) + math.log(2))

    def sample_and_log_prob(self, noise):
        return self.sample(noise), self.log_prob(self.sample(noise))


@extend.prior("laplace", LaplaceModel(), Scale)
class LaplacePrior(Prior):
    factorizes = True

    def __init__(self, style, units, pixels, scale):
        super().__init__()
        self.b = scale

    def forward(self, encoded):
        return Laplace(self.b)
