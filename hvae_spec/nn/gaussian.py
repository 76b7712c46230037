"""Diagonal Gaussians: densities, sampling, the precision-weighted merge, and the network that predicts one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvae_spec.nn.linear import Linear
from hvae_spec.registry import Registry

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(variance)), two tensors of one shape. Densities are in nats, per unit."""

    mean: Tensor
    variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + sqrt(variance) * noise, the reparametrized sample."""
        return self.mean + self.variance.sqrt() * noise

    def sample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`sample`, and log N of it per unit, for which the noise is enough."""
        return self.sample(noise), -0.5 * (LOG_2PI + self.variance.log() + noise.square())

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; mean, variance) per unit."""
        return -0.5 * (LOG_2PI + self.variance.log() + (z - self.mean).square() / self.variance)

    def split(self, sizes: Sequence[int]) -> list["DiagonalGaussian"]:
        """Its parts for groups of images, of these sizes in their order."""
        parts = zip(self.mean.split(sizes, dim=3), self.variance.split(sizes, dim=3), strict=True)
        return [DiagonalGaussian(mean, variance) for mean, variance in parts]

    def kl(self, other: "DiagonalGaussian") -> Tensor:
        """KL(self || other) per unit, in closed form."""
        ratio = self.variance / other.variance
        return 0.5 * (ratio - 1 - ratio.log() + (self.mean - other.mean).square() / other.variance)


STANDARD_NORMAL = DiagonalGaussian(torch.tensor(0.0), torch.tensor(1.0))
"""p(z_L) = N(0, I), Eq. 4, per unit."""


def precision_weighted_merge(first: DiagonalGaussian, second: DiagonalGaussian) -> DiagonalGaussian:
    """The normalized product of two Gaussians, Eq. 21: precisions add, means are weighted by precision.

    Written with variances, v1 v2 / (v1 + v2) and (m1 v2 + m2 v1) / (v1 + v2), which is the same without reciprocals.
    """
    total = first.variance + second.variance
    mean = (first.mean * second.variance + second.mean * first.variance) / total
    return DiagonalGaussian(mean, first.variance * (second.variance / total))


def log_ratio(p: DiagonalGaussian, q: DiagonalGaussian, z: Tensor, noise: Tensor) -> Tensor:
    """log p(z) - log q(z) per unit, for z = q.sample(noise): the squared distance under q is just noise^2."""
    distance = (z - p.mean).square() / p.variance
    return 0.5 * (noise.square() + q.variance.log() - p.variance.log() - distance)


class MLP(nn.Module):
    """d(y) = MLP(y), Eq. 7: hidden layers of the given widths, each linear, normalized, then nonlinear.

    Other mappings are subclasses with a `forward` of their own. A norm follows its linear map there too, so that the
    two can be folded into one map, and there are no other parameters. Settings of a mapping are further arguments of
    its class, by their names in a spec.
    """

    def __init__(self, style: "Style", inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        ins = [inputs, *widths]
        self.nonlinearity = style.nonlinearity
        self.linears = nn.ModuleList(
            Linear(style.members, wide, width, bias=style.norm is None)
            for wide, width in zip(ins, widths, strict=False)
        )
        self.norms = nn.ModuleList(nn.Identity() if style.norm is None else style.norm(width) for width in widths)
        self.outputs = ins[-1]

    def forward(self, y: Tensor) -> Tensor:
        """[M, inputs, S, B] -> [M, outputs, S, B]."""
        for linear, norm in zip(self.linears, self.norms, strict=True):
            y = self.nonlinearity(norm(linear(y)))
        return y


MAPPINGS: Registry[type[MLP]] = Registry("mapping in torch")
MAPPINGS.add("mlp", MLP)
MakeMapping = Callable[["Style", int, Sequence[int]], MLP]
"""Makes a mapping for a style, a number of inputs and hidden widths."""


@dataclass(frozen=True)
class Style:
    """What all mappings of a model have in common."""

    members: int
    nonlinearity: Callable[[Tensor], Tensor]
    norm: Callable[[int], nn.Module] | None
    """Makes the normalization of so many units of a hidden layer (see `hvae_spec.nn.norm`); None: there is none. A map
    that feeds one has no bias, as its shift is one."""
    variance_floor: float
    mean_clip: float = 0.0
    """What means of binary observations keep from 0 and 1."""
    normalizes_heads: bool = True
    """Whether the heads of the latents have the normalization of hidden layers, if there is one."""
    mapping: MakeMapping = MLP
    """Makes the hidden layers."""
    generative_skips: bool = False
    """Whether p(z_i|...) and p(x|...) take the latents of all layers above, not of the nearest alone."""
    inference_skips: bool = False
    """Whether q(z_i|...) takes the latents of all layers that are drawn before, not of the nearest alone."""
    sweeps: int = 1
    """Sweeps of the inference network, the last of which draws (`model.inference_steps`)."""
    classes: int = 0
    """C, the classes that y is one of, which joins z_L (`hvae_spec.nn.classes`); 0: there is no y."""
    classifier: Sequence[int] = ()
    """Hidden widths of q(y|x), where there are classes."""


class GaussianHead(nn.Module):
    """mu = Linear(d) and sigma2 = Softplus(Linear(d)) + floor, Eqs. 8-9, as one product with two heads.

    Args:
        normalize: whether the style's normalization of heads is for these (those of the latents; never those of
            p(x|z_1)).

    """

    def __init__(self, style: Style, inputs: int, units: int, *, normalize: bool = True) -> None:
        super().__init__()
        norm = style.norm if normalize and style.normalizes_heads else None
        self.linear = Linear(style.members, inputs, 2 * units, bias=norm is None, heads=2)
        self.norm = nn.Identity() if norm is None else norm(2 * units)
        self.variance_floor = style.variance_floor

    def forward(self, d: Tensor) -> DiagonalGaussian:
        """[M, inputs, S, B] -> a Gaussian over [M, units, S, B]."""
        mean, scale = self.norm(self.linear(d)).chunk(2, dim=1)
        return DiagonalGaussian(mean, F.softplus(scale) + self.variance_floor)


class MeanHead(nn.Module):
    """mu = Linear(d), with one variance for all units, never batch-normalized.

    Args:
        variance: it; None: one of each member, softplus(a) + floor with a trained number a.

    """

    def __init__(self, style: Style, inputs: int, units: int, variance: float | None) -> None:
        super().__init__()
        self.linear = Linear(style.members, inputs, units)
        self.variance = variance
        self.variance_floor = style.variance_floor
        self.before_softplus = nn.Parameter(torch.zeros(style.members, 1, 1, 1)) if variance is None else None

    def forward(self, d: Tensor) -> DiagonalGaussian:
        """[M, inputs, S, B] -> a Gaussian over [M, units, S, B]."""
        mean = self.linear(d)
        if self.before_softplus is None:
            return DiagonalGaussian(mean, mean.new_full((), self.variance))
        return DiagonalGaussian(mean, F.softplus(self.before_softplus) + self.variance_floor)


class GaussianMapping(nn.Module):
    """y -> N(mu(y), sigma2(y)): a mapping d(y) and its head, Eqs. 7-9."""

    def __init__(self, style: Style, inputs: int, widths: Sequence[int], units: int) -> None:
        super().__init__()
        self.mlp = style.mapping(style, inputs, widths)
        self.head = GaussianHead(style, self.mlp.outputs, units)

    def forward(self, y: Tensor) -> DiagonalGaussian:
        """[M, inputs, S, B] -> a Gaussian over [M, units, S, B]."""
        gaussian: DiagonalGaussian = self.head(self.mlp(y))
        return gaussian
