"""The observation models p(x|z_1), Eqs. 1 and 2. Their output layers are never batch-normalized."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvae_spec.nn.gaussian import MLP, DiagonalGaussian, GaussianHead, Style
from hvae_spec.nn.linear import Linear
from hvae_spec.registry import Registry


class Likelihood(nn.Module, ABC):
    """p(x|z_1), and the observations x that it is made for.

    Args:
        style: what all mappings have in common.
        units: units of z_1.
        widths: hidden widths of the mapping.
        pixels: D.

    """

    binary: ClassVar[bool] = False
    """Whether x consists of zeros and ones (as its description in `hvae_spec.spec.choices.observation` says too)."""

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int) -> None:
        super().__init__()
        self.mlp = MLP(style, units, widths)
        self.pixels = pixels

    @abstractmethod
    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1) in nats, summed over pixels.  z [M, U, S, B], x [M, D, 1, B] -> [M, S, B]."""

    @abstractmethod
    def mean(self, z: Tensor) -> Tensor:
        """E[x|z_1], [M, D, S, B]."""

    @abstractmethod
    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """x ~ p(x|z_1), [M, D, S, B], from standard normal noise of that shape."""

    @staticmethod
    @abstractmethod
    def draw(values: Tensor, width: int, divisor: int, uniform: Tensor) -> Tensor:
        """Observations from gray values.

        Args:
            values: gray values 0, 1, ..., or intensities in [0, 1], which are floats.
            width: what dequantized gray values are divided by (`data.rescaled_by`).
            divisor: what makes a probability of a gray value (`data.grey_divisor`); 1 for intensities.
            uniform: noise on [0, 1), of the same shape.

        """


LIKELIHOODS: Registry[type[Likelihood]] = Registry("observation model in torch")


@LIKELIHOODS.register("bernoulli")
class BernoulliLikelihood(Likelihood):
    """p(x|z_1) = B(x | mu(z_1)), Eq. 2, with mu = sigmoid(Linear(MLP(z_1))), clipped to [c, 1 - c] with the style's
    `mean_clip` c.
    """

    binary = True

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int) -> None:
        super().__init__(style, units, widths, pixels)
        self.logits = Linear(style.members, self.mlp.outputs, pixels)
        clip = style.mean_clip
        self.largest_logit = math.log1p(-clip) - math.log(clip) if clip else None

    def clipped_logits(self, z: Tensor) -> Tensor:
        """The logits of mu. To clip them is to clip mu: its gradient is 0 beyond, too."""
        logits: Tensor = self.logits(self.mlp(z))
        return logits if self.largest_logit is None else logits.clamp(-self.largest_logit, self.largest_logit)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1) = sum_d [x_d log mu_d + (1 - x_d) log(1 - mu_d)]."""
        logits = self.clipped_logits(z)
        return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(1)

    def mean(self, z: Tensor) -> Tensor:
        """E[x|z_1] = mu."""
        return torch.sigmoid(self.clipped_logits(z))

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """A pixel is 1 where the normal distribution function of the noise, which is uniform, is below mu."""
        return (torch.special.ndtr(noise) < self.mean(z)).to(torch.float32)

    @staticmethod
    def draw(values: Tensor, width: int, divisor: int, uniform: Tensor) -> Tensor:
        """Binarization: a pixel is 1 with probability value / divisor."""
        return (uniform * divisor < values.to(torch.float32)).to(torch.float32)


@LIKELIHOODS.register("gaussian")
class GaussianLikelihood(Likelihood):
    """p(x|z_1) = N(x | mu(z_1), sigma2(z_1)), Eq. 1: mean linear, variance softplus."""

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int) -> None:
        super().__init__(style, units, widths, pixels)
        self.head = GaussianHead(style, self.mlp.outputs, pixels, normalize=False)

    def distribution(self, z: Tensor) -> DiagonalGaussian:
        """p(x|z_1), over [M, D, S, B]."""
        gaussian: DiagonalGaussian = self.head(self.mlp(z))
        return gaussian

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1) = sum_d log N(x_d; mu_d, sigma2_d)."""
        return self.distribution(z).log_prob(x).sum(1)

    def mean(self, z: Tensor) -> Tensor:
        """E[x|z_1] = mu."""
        return self.distribution(z).mean

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """mu + sigma * noise."""
        return self.distribution(z).sample(noise)

    @staticmethod
    def draw(values: Tensor, width: int, divisor: int, uniform: Tensor) -> Tensor:
        """See `dequantize`."""
        return dequantize(values, width, uniform)


def dequantize(values: Tensor, width: int, uniform: Tensor) -> Tensor:
    """Uniform dequantization: (value + u) / width, which lies in [0, 1) if the width is the number of levels.
    Intensities stay as they are.
    """
    gray = values.to(torch.float32)
    return gray if values.is_floating_point() else (gray + uniform) / width
