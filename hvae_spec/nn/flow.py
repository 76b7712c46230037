"""Normalizing flows of the latents of one layer: z_T = f_T(... f_1(z_0)), z_0 from a Gaussian, each f_t invertible.

log q(z_T) = log N(z_0) - log|det dz_T/dz_0|. What a flow takes from the image is a linear map of the last hidden layer
of the mapping into z_i, the flow's head. Heads are zero at the start, at which every flow is the identity with a
gradient that is not zero. Nothing of a flow is normalized: statistics over a batch would make the map of one sample
depend on the other samples.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvae_spec.nn.gaussian import DiagonalGaussian, GaussianHead, GaussianMapping, Style, log_ratio
from hvae_spec.nn.linear import Linear
from hvae_spec.registry import Registry

BISECTIONS = 50
"""Halvings of an interval, after which float32 and float64 alike are left to the one Newton step that follows."""


class Flow(nn.Module, ABC):
    """A flow of the latents of one layer.

    Attributes:
        heads: the linear maps that are zero at the start.

    """

    heads: Sequence[Linear]

    @abstractmethod
    def amortize(self, d: Tensor) -> Tensor:
        """The flow's parameters [M, P, S, B] of a hidden layer d [M, inputs, S, B]. S is 1 where d depends on no
        sample.
        """

    @abstractmethod
    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """z_T of z_0 [M, U, S, B], and log|det dz_T/dz_0| [M, 1, S, B]."""

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> Tensor:
        """z_0 of z_T [M, U, S, B]. It may be slow: training and evaluation know z_0."""


MakeFlow = Callable[[Style, int, int], Flow]
"""Makes a flow for a style, the width of the hidden layer that its parameters come from, and the units of z_i."""
FLOWS: Registry[Callable[..., Flow] | None] = Registry("flow in torch")
"""Classes of flows, which take settings beside what `MakeFlow` takes. None: there is no flow."""
FLOWS.add("none", None)


@dataclass(frozen=True)
class Flowed:
    """The distribution of f(z_0) with z_0 from a Gaussian. Its log density is of the layer, [M, 1, S, B]."""

    base: DiagonalGaussian
    """The distribution of z_0."""
    flow: Flow
    """f, but for what it takes from the image."""
    parameters: Tensor
    """What it takes from the image, `Flow.amortize`."""

    def split(self, sizes: Sequence[int]) -> list["Flowed"]:
        """It apart for the first so many images, the next so many, and so on."""
        parts = zip(self.base.split(sizes), self.parameters.split(list(sizes), dim=3), strict=True)
        return [replace(self, base=base, parameters=own) for base, own in parts]

    def sample(self, noise: Tensor) -> Tensor:
        """f(mean + sqrt(variance) * noise)."""
        return self.transport(noise)[0]

    def sample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`sample`, and log q of it."""
        z, log_det = self.transport(noise)
        return z, self.log_prob_of(noise, log_det)

    def transport(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`sample`, and log|det dz_T/dz_0| [M, 1, S, B]."""
        moved: tuple[Tensor, Tensor] = self.flow(self.base.sample(noise), self.parameters)
        return moved

    def log_prob_of(self, noise: Tensor, log_det: Tensor) -> Tensor:
        """log q of the sample that noise makes, with this log determinant."""
        return self.base.sample_and_log_prob(noise)[1].sum(1, keepdim=True) - log_det

    def log_prob(self, z: Tensor) -> Tensor:
        """log q of any z, by the inverse of the flow."""
        start = self.flow.inverse(z, self.parameters)
        return self.base.log_prob(start).sum(1, keepdim=True) - self.flow(start, self.parameters)[1]

    def log_ratio(self, p: DiagonalGaussian, z: Tensor, noise: Tensor, log_det: Tensor) -> Tensor:
        """log p(z) - log q(z) of the layer, [M, 1, S, B], for z = q.sample(noise):
        sum_j 0.5 (noise^2 + log v_q - log v_p - (z - mu_p)^2 / v_p) + log|det|.
        """
        return log_ratio(p, self.base, z, noise).sum(1, keepdim=True) + log_det


Posterior = DiagonalGaussian | Flowed
"""What a mapping into a layer gives: a Gaussian, or one with a flow after it."""


def gaussian_of(q: Posterior) -> DiagonalGaussian:
    """The Gaussian, before the flow if there is one."""
    return q.base if isinstance(q, Flowed) else q


def with_gaussian(q: Posterior, gaussian: DiagonalGaussian) -> Posterior:
    """The same with another Gaussian, before the same flow if there is one."""
    return replace(q, base=gaussian) if isinstance(q, Flowed) else gaussian


class FlowedMapping(nn.Module):
    """y -> the distribution of f(z_0), z_0 ~ N(mu(y), sigma2(y)): an MLP with the heads of a Gaussian and of a flow."""

    def __init__(self, style: Style, inputs: int, widths: Sequence[int], units: int, make: MakeFlow) -> None:
        super().__init__()
        self.mlp = style.mapping(style, inputs, widths)
        self.head = GaussianHead(style, self.mlp.outputs, units)
        self.flow = make(replace(style, norm=None), self.mlp.outputs, units)

    def forward(self, y: Tensor) -> Flowed:
        """[M, inputs, S, B] -> a distribution of [M, units, S, B]."""
        d = self.mlp(y)
        return Flowed(self.head(d), self.flow, self.flow.amortize(d))


def gaussian_before_flow(mapping: nn.Module, y: Tensor) -> DiagonalGaussian:
    """The Gaussian that a mapping, with a flow or without, makes of y [M, inputs, S, B]; no flow is computed."""
    if not isinstance(mapping, GaussianMapping | FlowedMapping):
        raise TypeError("a mapping without a Gaussian")
    gaussian: DiagonalGaussian = mapping.head(mapping.mlp(y))
    return gaussian


@FLOWS.register("planar")
class Planar(Flow):
    """Planar flow (Rezende & Mohamed, 2015): f(z) = z + v tanh(w.z + b), K steps, with u, w, b of every image.

    It is invertible if v.w > -1. Rezende and Mohamed add a multiple of w / |w|^2 to u, which has no value at w = 0, and
    leaves no identity at u = 0. Here v = 2 u / (1 + sqrt(1 + a^2) - a) with a = w.u, which is smooth everywhere, and
    next to u for small u. v.w rises with a from -1 to infinity, and every v with v.w > -1 is that of one u, so that
    these are the same flows. With u = w = b = 0 no derivative of f would differ from 0. So w and b are what the head
    gives plus constants: w begins along one unit, b evenly spaced over the steps that begin along the same unit. And
    what the head gives is divided by K: the steps, which learn all at once, would together move a sample K times as
    far as one (in a trial on MNIST with Adam, ten steps trained worse than none without it, and better with it).
    """

    def __init__(self, style: Style, inputs: int, units: int, steps: int) -> None:
        super().__init__()
        self.units, self.steps = units, steps
        self.head = Linear(style.members, inputs, steps * (2 * units + 1))
        self.heads = [self.head]

    def amortize(self, d: Tensor) -> Tensor:
        """u, w and b of every step, [M, K (2 U + 1), S, B]."""
        parameters: Tensor = self.head(d)
        return parameters / self.steps

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """See `Flow.forward`."""
        log_det = z.new_zeros(())
        for v, w, b, along in self._by_step(parameters):
            bend = torch.tanh((w * z).sum(1, keepdim=True) + b)
            z = z + v * bend
            log_det = log_det + torch.log1p(along * (1 - bend.square()))
        return z, log_det

    def inverse(self, z: Tensor, parameters: Tensor) -> Tensor:
        """See `Flow.inverse`: w.z_t = a + (v.w) tanh(a + b) rises in a = w.z_{t-1}, so that bisection finds it."""
        for v, w, b, along in reversed(self._by_step(parameters)):
            target = (w * z).sum(1, keepdim=True)
            with torch.no_grad():
                low, high = target - along.abs(), target + along.abs()
                for _ in range(BISECTIONS):
                    middle = (low + high) / 2
                    is_low = middle + along * torch.tanh(middle + b) < target
                    low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
                middle = (low + high) / 2
            # One step of Newton's method, through which the derivatives of the solution come.
            bend = torch.tanh(middle + b)
            slope = (1 + along * (1 - bend.square())).detach()
            middle = middle - (middle + along * bend - target) / slope
            z = z - v * torch.tanh(middle + b)
        return z

    def _by_step(self, parameters: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """v [M, U, S, B], w [M, U, S, B], b [M, 1, S, B] and v.w [M, 1, S, B] of every step."""
        unit, place = self._start(parameters)
        u, w, b = parameters.unflatten(1, (self.steps, -1)).split([self.units, self.units, 1], dim=2)
        w, b = w + unit, b + place
        along = (w * u).sum(2, keepdim=True)
        factor = 2 / (1 + (1 + along.square()).sqrt() - along)
        every = (u * factor, w, b, along * factor)
        return list(zip(*(part.unbind(1) for part in every), strict=True))

    def _start(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The constants that w [K, U, 1, 1] and b [K, 1, 1, 1] begin with, of a tensor's device and type."""
        step = torch.arange(self.steps, device=like.device)
        unit = (step[:, None] % self.units == torch.arange(self.units, device=like.device)).to(like.dtype)
        rounds = -(-self.steps // self.units)
        place = (2 * (step // self.units) + 1 - rounds).to(like.dtype) / rounds
        return unit[:, :, None, None], place[:, None, None, None]


class MaskedLinear(Linear):
    """A linear map from units to units of which every one has a degree: an output sees inputs of its own degree and
    below, or only of those below.

    Args:
        members: M.
        degrees: of the inputs and of the outputs.
        bias: whether there is one.
        is_strict: whether an output does not see inputs of its own degree.
        heads: see `Linear`.

    """

    def __init__(
        self,
        members: int,
        degrees: tuple["Degrees", "Degrees"],
        *,
        bias: bool = True,
        is_strict: bool = False,
        heads: int = 1,
    ) -> None:
        super().__init__(members, degrees[0].count, degrees[1].count * heads, bias=bias, heads=heads)
        self.degrees, self.is_strict = degrees, is_strict

    @property
    def matrix(self) -> Tensor:
        """The weights, 0 where an output does not see an input."""
        below, own = (degrees.of(self.weight.device) for degrees in self.degrees)
        own = own.repeat(self.heads)[:, None]
        return self.weight * (own > below if self.is_strict else own >= below)


@dataclass(frozen=True)
class Degrees:
    """The degrees of the units of a layer: of U latents 1 ... U, or the other way round; of hidden units U - 1 ... 0,
    evenly spread, so that one sees all latents but the last, however few there are. Those of degree 0 see no latent.
    """

    count: int
    latents: int
    is_hidden: bool = False
    is_reversed: bool = False

    def of(self, device: torch.device) -> Tensor:
        """One degree per unit."""
        place = torch.arange(self.count, device=device)
        if self.is_hidden:
            return self.latents - 1 - place * self.latents // self.count
        return self.latents - place if self.is_reversed else place + 1


class MADE(nn.Module):
    """m and s of every latent, of the latents before it and a context (Germain et al., 2015)."""

    def __init__(self, style: Style, units: int, widths: Sequence[int], *, is_reversed: bool) -> None:
        super().__init__()
        latents = Degrees(units, units, is_reversed=is_reversed)
        layers = [latents, *(Degrees(width, units, is_hidden=True) for width in widths)]
        self.latents, self.nonlinearity = latents, style.nonlinearity
        # The context, which is added to what the first map gives, has a bias of its own.
        self.linears = nn.ModuleList(
            MaskedLinear(style.members, (below, above), bias=place > 0)
            for place, (below, above) in enumerate(pairwise(layers))
        )
        ends = (layers[-1], latents)
        self.head = MaskedLinear(style.members, ends, bias=bool(widths), is_strict=True, heads=2)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z [M, U, S, B], context [M, width, S, B] -> m and s, [M, U, S, B]."""
        if not len(self.linears):
            m, s = (self.head(z) + context).chunk(2, dim=1)
            return m, s
        y = z
        for place, linear in enumerate(self.linears):
            y = linear(y)
            y = self.nonlinearity(y + context if place == 0 else y)
        m, s = self.head(y).chunk(2, dim=1)
        return m, s


@FLOWS.register("iaf")
class InverseAutoregressive(Flow):
    """Inverse autoregressive flow (Kingma et al., 2016): f(z) = 2 sigmoid(s) z + m, m_j and s_j functions of the units
    before z_j, whose order is reversed from step to step, and of a context, which a hidden layer of q gives.

    Kingma et al. have sigmoid(s) z + (1 - sigmoid(s)) m, which is no identity at m = s = 0. The factor 2 makes it one,
    and the scale stays bounded, so that no sample is blown up on its way through the steps.
    """

    def __init__(self, style: Style, inputs: int, units: int, steps: int, mlp: Sequence[int]) -> None:
        super().__init__()
        mades = [MADE(style, units, mlp, is_reversed=step % 2 == 1) for step in range(steps)]
        self.mades, self.latents = nn.ModuleList(mades), [made.latents for made in mades]
        self.context = Linear(style.members, inputs, steps * (mlp[0] if mlp else 2 * units), heads=steps)
        self.heads = [*(made.head for made in mades), *([] if mlp else [self.context])]

    def amortize(self, d: Tensor) -> Tensor:
        """The contexts of all steps, side by side."""
        contexts: Tensor = self.context(d)
        return contexts

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """See `Flow.forward`."""
        log_det = z.new_zeros(())
        for made, context in zip(self.mades, self._contexts(parameters), strict=True):
            m, s = made(z, context)
            z = 2 * torch.sigmoid(s) * z + m
            log_det = log_det + (F.logsigmoid(s) + math.log(2)).sum(1, keepdim=True)
        return z, log_det

    def inverse(self, z: Tensor, parameters: Tensor) -> Tensor:
        """See `Flow.inverse`: unit by unit, each from those before it."""
        steps = zip(self.mades, self._contexts(parameters), self.latents, strict=True)
        for made, context, latents in reversed(list(steps)):
            order = latents.of(z.device)[:, None, None]
            known = torch.zeros_like(z)
            for last in range(1, z.shape[1] + 1):
                m, s = made(known, context)
                known = torch.where(order <= last, (z - m) / (2 * torch.sigmoid(s)), 0)
            z = known
        return z

    def _contexts(self, parameters: Tensor) -> tuple[Tensor, ...]:
        return parameters.chunk(len(self.mades), dim=1)
