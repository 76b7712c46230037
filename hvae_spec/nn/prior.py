"""The priors of the top layer, p(z_L), each of which a pass of a model takes a distribution from once.

Densities are in nats.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.gaussian import LOG_2PI, MLP, STANDARD_NORMAL, DiagonalGaussian, Style
from hvae_spec.nn.linear import Linear
from hvae_spec.registry import Registry


@dataclass(frozen=True)
class GaussianMixture:
    """(1/K) sum_k N(mean_k, diag(variance_k)) of a layer, both [M, U, 1, K].

    Its noise has one entry more than there are units, [M, U + 1, S, B]: the last one chooses the component.
    """

    mean: Tensor
    variance: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        """The log density of z [M, U, S, B], [M, 1, S, B].

        The squared distance to every component is expanded, so that it takes one matrix product and no tensor of all
        units, samples and components: sum_u (z - mu)^2 / v = sum_u z^2 / v - 2 z mu / v + mu^2 / v. The three cancel
        where a component is narrow and far from zero. Hence they are in float64, which holds them to 1e-9 nats where
        they are millions; and no setting of the precision of float32 products touches it.
        """
        mean, variance = self.mean.squeeze(2).double(), self.variance.squeeze(2).double()  # [M, U, K]
        precision = 1 / variance
        coefficients = torch.cat([-0.5 * precision, mean * precision], dim=1)
        constant = -0.5 * (LOG_2PI + variance.log() + mean.square() * precision).sum(1)
        flat = z.flatten(2).double()
        each = torch.bmm(coefficients.mT, torch.cat([flat.square(), flat], dim=1)) + constant.unsqueeze(2)
        log_density = each.to(z.dtype).logsumexp(1, keepdim=True) - math.log(mean.shape[2])
        return log_density.unflatten(2, z.shape[2:])

    def sample(self, noise: Tensor) -> Tensor:
        """The sample [M, U, S, B] that noise [M, U + 1, S, B] makes."""
        units, components = self.mean.shape[1], self.mean.shape[3]
        eps, choice = noise.split([units, 1], dim=1)
        level = 0.5 * (1 + torch.erf(choice * 0.5**0.5))  # uniform on [0, 1], of which 1 is a rounded number
        chosen = (level * components).long().clamp(max=components - 1).flatten(1).unsqueeze(1).expand(-1, units, -1)
        mean, variance = (of.squeeze(2).gather(2, chosen).view_as(eps) for of in (self.mean, self.variance))
        return DiagonalGaussian(mean, variance).sample(eps)

    def sample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`sample`, and its log density."""
        z = self.sample(noise)
        return z, self.log_prob(z)

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of every unit, [M, U, 1, 1]."""
        spread = self.mean.var(3, keepdim=True, correction=0)
        return (self.variance.mean(3, keepdim=True) + spread).sqrt()


class Prior(nn.Module, ABC):
    """p(z_L) of M members: what is learned of it.

    A subclass takes the style of the model's mappings, M among it, the units of z_L and D, and what its settings say
    (`arguments` of its description) by name. The style has no normalization: with that of a batch, the density of one
    sample would depend on the others.

    Attributes:
        factorizes: whether it is a product over units.
        extra_noise: numbers of noise of a sample beside one for each unit. They choose, and without them a sample is a
            smooth function of its noise.
        components: the terms that a density of one sample adds up, all at once; 0: it adds up none.
        pseudo_inputs: images whose q(z_L|x) it is made of, [M, D, 1, K]; None: of none.

    """

    factorizes = False
    extra_noise = 0
    components = 0

    @property
    def pseudo_inputs(self) -> Tensor | None:
        """None."""
        return None

    @abstractmethod
    def forward(self, encoded: DiagonalGaussian | None) -> Distribution:
        """p(z_L) as it stands.

        Args:
            encoded: q(z_L|x) of its pseudo-inputs, [M, U, 1, K]; None where it has none.

        """

    def start(self, generator: torch.Generator, images: Tensor | None) -> None:
        """Set the parameters of a single member, of which the linear maps have been drawn, to those that training
        starts with.

        Args:
            generator: of the member, the one that its linear maps were drawn with.
            images: as many training images as it has pseudo-inputs, [D, K]; None: there are none at hand.

        """

    def project(self) -> None:
        """After a step of training, bring parameters back to where they may lie. Nothing, for most priors."""

    def scale(self, p: Distribution) -> Tensor:
        """The scale of z_L under what `forward` gave, [M, U, 1, 1], or one for all: in its units z_L is moved where it
        is no smooth function of its noise.
        """
        return torch.ones(())


PRIORS: Registry[Callable[..., Prior]] = Registry("prior in torch")
"""Subclasses of `Prior`."""


@PRIORS.register("standard_normal")
class StandardNormal(Prior):
    """N(0, I), Eq. 4."""

    factorizes = True

    def __init__(self, style: Style, units: int, pixels: int) -> None:
        super().__init__()

    def forward(self, encoded: DiagonalGaussian | None) -> Distribution:
        """N(0, I)."""
        return STANDARD_NORMAL


@PRIORS.register("mixture")
class Mixture(Prior):
    """(1/K) sum_k N(mu_k, diag(sigma2_k)), of which all mu_k and sigma2_k are learned: the mixture of Gaussians that
    Tomczak & Welling (2018) compare the VampPrior with.
    """

    extra_noise = 1

    def __init__(self, style: Style, units: int, pixels: int, components: int) -> None:
        super().__init__()
        self.components = components
        self.variance_floor = style.variance_floor
        self.mean = nn.Parameter(torch.zeros(style.members, units, 1, components))
        self.before_softplus = nn.Parameter(torch.zeros(style.members, units, 1, components))

    def start(self, generator: torch.Generator, images: Tensor | None) -> None:
        """Means from N(0, I), so that no two components are alike, and variances of 1."""
        with torch.no_grad():
            self.mean.copy_(torch.randn(self.mean.shape, generator=generator))
            self.before_softplus.fill_(math.log(math.expm1(1.0)))

    def forward(self, encoded: DiagonalGaussian | None) -> GaussianMixture:
        """The mixture."""
        return GaussianMixture(self.mean, F.softplus(self.before_softplus) + self.variance_floor)

    def scale(self, p: Distribution) -> Tensor:
        """The standard deviation of the whole."""
        return _deviation(p)


@PRIORS.register("vamp")
class VampPrior(Prior):
    """(1/K) sum_k q(z_L|u_k) with learned pseudo-inputs u_k (Tomczak & Welling, 2018).

    A pseudo-input starts at a training image as it is, most pixels of which may be 0 or 1, where a sigmoid would need
    infinite numbers. It is cut off at 0 and 1, as in the published code. But cut off alone, a pixel that a step has
    taken out of [0, 1] would have no gradient any more: half of all pixels after the first step. So training projects
    pseudo-inputs back after every step (`project`), at which a pixel at 0 or 1 goes on to learn.
    """

    extra_noise = 1

    def __init__(self, style: Style, units: int, pixels: int, components: int) -> None:
        super().__init__()
        self.components = components
        # Not a number until there are images, so that none that were never set can pass for some that were.
        self.images = nn.Parameter(torch.full((style.members, pixels, 1, components), torch.nan))

    @property
    def pseudo_inputs(self) -> Tensor:
        """u, [M, D, 1, K]."""
        return self.images.clamp(0, 1)

    def start(self, generator: torch.Generator, images: Tensor | None) -> None:
        """At training images."""
        if images is not None:
            with torch.no_grad():
                self.images.copy_(images.view_as(self.images))

    def project(self) -> None:
        """Into [0, 1]."""
        with torch.no_grad():
            self.images.clamp_(0, 1)

    def forward(self, encoded: DiagonalGaussian | None) -> GaussianMixture:
        """The mixture of q(z_L|u_k)."""
        if encoded is None:
            raise ValueError("a VampPrior is made of q(z_L|x) of its pseudo-inputs")
        return GaussianMixture(encoded.mean, encoded.variance)

    def scale(self, p: Distribution) -> Tensor:
        """The standard deviation of the whole."""
        return _deviation(p)


def _deviation(p: Distribution) -> Tensor:
    if not isinstance(p, GaussianMixture):
        raise TypeError("expected the mixture that `forward` gave")
    return p.deviation


class Coupling(nn.Module):
    """An affine coupling layer (Dinh et al., 2017): one half of the units as it is, and the other half scaled and
    shifted by functions of it, with log scales in (-1, 1).
    """

    def __init__(self, style: Style, units: int, widths: Sequence[int], *, upper: bool) -> None:
        super().__init__()
        self.halves = [units // 2, units - units // 2]
        self.upper = upper
        """Whether the first half is the one that changes."""
        changed, kept = self.halves if upper else reversed(self.halves)
        self.mlp = MLP(style, kept, widths)
        self.linear = Linear(style.members, self.mlp.outputs, 2 * changed, heads=2)

    def _apart(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The half that is kept, the other one, and the log scale and the shift for it."""
        first, second = z.split(self.halves, dim=1)
        kept, changed = (second, first) if self.upper else (first, second)
        log_scale, shift = self.linear(self.mlp(kept)).chunk(2, dim=1)
        return kept, changed, log_scale.tanh(), shift

    def _joined(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, kept] if self.upper else [kept, changed], dim=1)

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Toward z, [M, U, S, B]; and log |det dz/dnoise|, [M, 1, S, B]."""
        kept, changed, log_scale, shift = self._apart(noise)
        return self._joined(kept, changed * log_scale.exp() + shift), log_scale.sum(1, keepdim=True)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Toward the noise, [M, U, S, B]; and log |det dnoise/dz|, [M, 1, S, B]."""
        kept, changed, log_scale, shift = self._apart(z)
        return self._joined(kept, (changed - shift) * (-log_scale).exp()), -log_scale.sum(1, keepdim=True)


@PRIORS.register("realnvp")
class RealNVP(Prior):
    """N(0, I) through coupling layers, which take turns in which half they change. It is the distribution itself."""

    def __init__(self, style: Style, units: int, pixels: int, blocks: int, mlp: Sequence[int]) -> None:
        super().__init__()
        uppers = islice(cycle([False, True]), blocks)
        self.couplings = nn.ModuleList(Coupling(style, units, mlp, upper=upper) for upper in uppers)

    def _couplings(self) -> list[Coupling]:
        return [module for module in self.couplings if isinstance(module, Coupling)]

    def start(self, generator: torch.Generator, images: Tensor | None) -> None:
        """At the identity."""
        with torch.no_grad():
            for coupling in self._couplings():
                for parameter in coupling.linear.parameters():
                    parameter.zero_()

    def forward(self, encoded: DiagonalGaussian | None) -> "RealNVP":
        """Itself."""
        return self

    def sample(self, noise: Tensor) -> Tensor:
        """See `Distribution.sample`."""
        return self.sample_and_log_prob(noise)[0]

    def sample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Distribution.sample_and_log_prob`."""
        z, log_density = noise, STANDARD_NORMAL.log_prob(noise).sum(1, keepdim=True)
        for coupling in self._couplings():
            z, log_det = coupling(z)
            log_density = log_density - log_det
        return z, log_density

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Distribution.log_prob`."""
        log_det = z.new_zeros(())
        for coupling in reversed(self._couplings()):
            z, one = coupling.inverse(z)
            log_det = log_det + one
        return STANDARD_NORMAL.log_prob(z).sum(1, keepdim=True) + log_det
