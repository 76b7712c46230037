"""The observation models p(x|z_1), those of Eqs. 1 and 2 and others. Their output layers are never batch-normalized.

What x each of them is a model of, `hvae_spec.spec.choices.observation` says.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvae_spec.nn.gaussian import DiagonalGaussian, GaussianHead, MeanHead, Style
from hvae_spec.nn.linear import Linear
from hvae_spec.registry import Registry


class Likelihood(nn.Module, ABC):
    """p(x|z_1). Settings of an observation model are further arguments, by their names in a spec.

    Args:
        style: what all mappings have in common.
        units: units of z_1.
        widths: hidden widths of the mapping.
        pixels: D.

    """

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int) -> None:
        super().__init__()
        self.mlp = style.mapping(style, units, widths)
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


LIKELIHOODS: Registry[type[Likelihood]] = Registry("observation model in torch")


@LIKELIHOODS.register("bernoulli")
class BernoulliLikelihood(Likelihood):
    """p(x|z_1) = B(x | mu(z_1)), Eq. 2, with mu = sigmoid(Linear(MLP(z_1))), clipped to [c, 1 - c] with the style's
    `mean_clip` c.
    """

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


@LIKELIHOODS.register("gaussian")
class GaussianLikelihood(Likelihood):
    """p(x|z_1) = N(x | mu(z_1), sigma2), mean linear.

    Args:
        style, units, widths, pixels: as of all.
        variance: `predicted`: sigma2(z_1) of every pixel, Eq. 1, by a softplus. `learned`: one number of each member,
            the same for all pixels and images (Rybkin, Daniilidis & Levine, 2021, "Simple and effective VAE training
            with calibrated decoders", Sec. 3.1), of which the softplus and the floor are those of all variances. A
            number: this, as it is.

    """

    def __init__(
        self,
        style: Style,
        units: int,
        widths: Sequence[int],
        pixels: int,
        variance: Literal["predicted", "learned"] | float = "predicted",
    ) -> None:
        super().__init__(style, units, widths, pixels)
        self.head: nn.Module = (
            GaussianHead(style, self.mlp.outputs, pixels, normalize=False)
            if variance == "predicted"
            else MeanHead(style, self.mlp.outputs, pixels, None if variance == "learned" else float(variance))
        )

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


@LIKELIHOODS.register("continuous_bernoulli")
class ContinuousBernoulliLikelihood(Likelihood):
    """p(x|z_1) = C(lambda) lambda^x (1 - lambda)^(1 - x) for x in [0, 1], lambda = sigmoid(eta), eta = Linear(MLP(z_1))
    (Loaiza-Ganem & Cunningham, 2019, "The continuous Bernoulli: fixing a pervasive error in variational autoencoders").

    In eta it is exp(eta x) / integral_0^1 exp(eta t) dt, so that log p = eta x - A(eta) with A(eta) =
    log((exp(eta) - 1) / eta), which is theirs with log C(lambda) = log(1 + exp(eta)) - A(eta). `mean_clip`, which is of
    probabilities, is not applied.
    """

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int) -> None:
        super().__init__(style, units, widths, pixels)
        self.logits = Linear(style.members, self.mlp.outputs, pixels)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1) = sum_d [eta_d x_d - A(eta_d)], of x within [0, 1].

        Near 0, A(eta) is by its series eta / 2 + eta^2 / 24 - eta^4 / 2880 + eta^6 / 181440. Elsewhere eta is taken
        out of it where it is positive, so that nothing large cancels: max(eta, 0) + log((1 - exp(-|eta|)) / |eta|).
        """
        eta = self.logits(self.mlp(z))
        large, small, is_small = _parted(eta)
        size, square = large.abs(), small.square()
        far = large * (x - (large > 0).to(large)) - torch.log(-torch.expm1(-size) / size)
        near = small * (x - 0.5) - square * (1 / 24 + square * (-1 / 2880 + square / 181440))
        return torch.where(is_small, near, far).sum(1)

    def mean(self, z: Tensor) -> Tensor:
        """E[x|z_1] = A'(eta) = 1 / (1 - exp(-eta)) - 1 / eta, which is not lambda; 1/2 + eta / 12 - ... near 0."""
        eta = self.logits(self.mlp(z))
        large, small, is_small = _parted(eta)
        series = 0.5 + small / 12 - small**3 / 720
        return torch.where(is_small, series, 0.5 + 0.5 / torch.tanh(0.5 * large) - 1 / large)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """The quantile log(1 + u (exp(eta) - 1)) / eta of the normal distribution function u of the noise, written with
        -|eta|, so that nothing overflows: a quantile at u and eta is 1 less that at 1 - u and -eta.
        """
        eta = self.logits(self.mlp(z))
        u = torch.special.ndtr(torch.where(eta > 0, -noise, noise))
        size = eta.abs().clamp(min=1e-6)  # nearer 0, the quantile is u
        quantile = -torch.log1p(u * torch.expm1(-size)) / size
        return torch.where(eta > 0, 1 - quantile, quantile).clamp(0, 1)


SMALL = 0.1
"""Natural parameters of a continuous Bernoulli below this have series, whose first term left out is below 1e-9."""


def _parted(eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Natural parameters with 1 in the place of small ones, with 0 in the place of the others, and which are small: the
    gradient of neither formula must meet what it is not for.
    """
    is_small = eta.abs() < SMALL
    return torch.where(is_small, 1.0, eta), torch.where(is_small, eta, 0.0), is_small


SUMMED = 256
"""Levels of a pixel over which a mean is summed, at the most. A picture has no more."""


@LIKELIHOODS.register("discretized_logistic")
class DiscretizedLogisticLikelihood(Likelihood):
    """The mass that a logistic distribution has on the interval of a gray level, x = v / (levels - 1), half a level to
    each side, and at the darkest and the lightest level all beyond it, too, so that the masses of all levels sum to 1
    (Kingma et al., 2016, "Improving variational inference with inverse autoregressive flow", Sec. 5.2; Salimans et al.,
    2017, "PixelCNN++", Sec. 2.1).

    With a and b the ends of the interval less the mean, over the scale s, and sigma the logistic function, it is

        sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(-(b - a))),

    in which nothing cancels: the last factor is of the width over s alone. At the darkest level it is sigma(b), at the
    lightest sigma(-a).

    Mean and variance are predicted for every pixel by the heads of `gaussian`, floor included, and s = sqrt(3 sigma2) /
    pi is the scale of a logistic distribution of this variance: the two models differ in shape and in what x is, and in
    nothing else. (Kingma et al. learn one scale; Salimans et al. predict log s for every pixel.)

    Args:
        style, units, widths, pixels: as of all.
        levels: gray levels of the images.

    """

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int, levels: int) -> None:
        super().__init__(style, units, widths, pixels)
        self.head = GaussianHead(style, self.mlp.outputs, pixels, normalize=False)
        self.largest = levels - 1
        """The lightest level."""

    def location_and_scale(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale s of the logistic distribution, [M, D, S, B] each."""
        matched = self.head(self.mlp(z))
        return matched.mean, matched.variance.sqrt() * (math.sqrt(3) / math.pi)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1), summed over pixels, of the levels that x is on."""
        location, scale = self.location_and_scale(z)
        half = 0.5 / self.largest
        below = F.logsigmoid((x + half - location) / scale)
        above = F.logsigmoid((location - x + half) / scale)
        width = torch.log(-torch.expm1(-2 * half / scale))
        is_darkest, is_lightest = x < half, 1 - x < half
        log_mass = (
            torch.where(is_lightest, 0.0, below)
            + torch.where(is_darkest, 0.0, above)
            + torch.where(is_darkest | is_lightest, 0.0, width)
        )
        return log_mass.sum(1)

    def mean(self, z: Tensor) -> Tensor:
        """E[x|z_1], of the masses: the mean of P(x > e) over the ends e between two levels.

        Of more levels than `SUMMED`, the mean over all e in [0, 1], which is that of the logistic distribution with all
        below 0 at 0 and all above 1 at 1, and differs by less than half a level.
        """
        location, scale = self.location_and_scale(z)
        if self.largest >= SUMMED:
            return scale * (F.softplus(location / scale) - F.softplus((location - 1) / scale))
        total = torch.zeros_like(location)
        for level in range(self.largest):
            total += torch.sigmoid((location - (level + 0.5) / self.largest) / scale)
        return total / self.largest

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """The level of the quantile mu + s log(u / (1 - u)) at the normal distribution function u of the noise."""
        location, scale = self.location_and_scale(z)
        logit = torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise)
        return ((location + scale * logit).clamp(0, 1) * self.largest).round() / self.largest
