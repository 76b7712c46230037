"""The inference networks q(z|x): bottom-up (Eqs. 5-6) and the probabilistic ladder (Eqs. 13-21).

Each has two parts. `encode` is what does not depend on a sample, computed once per image; `sample` draws the latents
from noise. Lists over layers go from the data up: entry 0 is z_1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.flow import Flowed, FlowedMapping, MakeFlow, Posterior, gaussian_of, with_gaussian
from hvae_spec.nn.gaussian import DiagonalGaussian, GaussianMapping, Style, precision_weighted_merge
from hvae_spec.registry import Registry


@dataclass(frozen=True)
class Layer:
    """One stochastic layer: units of z_i and the hidden widths of its mappings."""

    units: int
    up: Sequence[int]
    """Into z_i."""
    down: Sequence[int]
    """Generative, out of z_i."""
    top_down: Sequence[int]
    """The ladder's t_{i-1}, out of z_i."""
    flow: MakeFlow | None = None
    """Makes the flow of q(z_i | ...), if there is one."""


@dataclass(frozen=True)
class Draw:
    """A sample of one layer and the distribution it came from."""

    z: Tensor
    """[M, U, S, B]."""
    posterior: Distribution
    """q(z_i | ...)."""
    prior: Distribution | None = None
    """p(z_i | z_{i+1}), where inference has computed it already (shared top-down mappings)."""
    log_prob: Tensor | None = None
    """log q(z_i | ...), where sampling gives it; None for a Gaussian, of which the noise says as much (`log_ratio`)."""
    log_det: Tensor | None = None
    """log|det dz/dz_0| [M, 1, S, B] of a flow (`hvae_spec.nn.flow`), where there is one."""

    @classmethod
    def of(cls, q: Distribution, noise: Tensor, prior: Distribution | None = None) -> "Draw":
        """The sample of q(z_i | ...) that noise [M, U, S, B] makes."""
        if isinstance(q, DiagonalGaussian):
            return cls(q.sample(noise), q, prior)
        if isinstance(q, Flowed):
            z, log_det = q.transport(noise)
            return cls(z, q, prior, q.log_prob_of(noise, log_det), log_det)
        z, log_prob = q.sample_and_log_prob(noise)
        return cls(z, q, prior, log_prob)


class InferenceNetwork(nn.Module, ABC):
    """q(z|x) of some stochastic layers, and the mappings up into them that it begins with.

    Args:
        style: what all mappings have in common, M among it.
        pixels: D, width of x.
        layers: stochastic layers, z_1 first.
        shared: the generative mappings p(z_i|z_{i+1}), where they are to be its top-down ones too (Sec. 4).

    Attributes:
        factorizes: whether q of each layer is a product over its units, given what it depends on.

    """

    def __init__(self, style: Style, pixels: int, layers: Sequence[Layer], shared: nn.ModuleList | None = None) -> None:
        super().__init__()
        ins = [pixels, *(layer.units for layer in layers)]
        self.up = nn.ModuleList(
            GaussianMapping(style, wide, layer.up, layer.units)
            if layer.flow is None
            else FlowedMapping(style, wide, layer.up, layer.units, layer.flow)
            for wide, layer in zip(ins, layers, strict=False)
        )
        self.factorizes = [layer.flow is None for layer in layers]

    @abstractmethod
    def encode(self, x: Tensor) -> list[Posterior]:
        """What is known of x [M, D, 1, B] before anything is drawn: Gaussians, with what flows take from x."""

    @abstractmethod
    def sample(self, encoding: Sequence[Posterior], noise: Sequence[Tensor]) -> list[Draw]:
        """Samples of z_1 ... z_L, in this order, from noise of shapes [M, U_i, S, B]."""

    @abstractmethod
    def forward(self, encoding: Sequence[Posterior], latents: Sequence[Tensor]) -> list[Posterior]:
        """q(z_i|...) for i = 1 ... L where the latents [M, U_i, S, B] have been drawn already."""


INFERENCES: Registry[type[InferenceNetwork]] = Registry("inference model in torch")


@INFERENCES.register("vae")
class BottomUp(InferenceNetwork):
    """q(z_1|x), then q(z_i|z_{i-1}), each sampled on the way up: the inference model of a VAE (Eqs. 5-6)."""

    def encode(self, x: Tensor) -> list[Posterior]:
        """x [M, D, 1, B] -> [q(z_1|x)], all that does not depend on a sample."""
        return [self.up[0](x)]

    def sample(self, encoding: Sequence[Posterior], noise: Sequence[Tensor]) -> list[Draw]:
        """Draw z_1, ..., z_L from noise of shapes [M, U_i, S, B]."""
        q = encoding[0]
        draws = [Draw.of(q, noise[0])]
        for mapping, eps in zip(self.up[1:], noise[1:], strict=True):
            q = mapping(draws[-1].z)
            draws.append(Draw.of(q, eps))
        return draws

    def forward(self, encoding: Sequence[Posterior], latents: Sequence[Tensor]) -> list[Posterior]:
        """q(z_1|x), then q(z_i|z_{i-1}) at given latents."""
        return [encoding[0], *(mapping(z) for mapping, z in zip(self.up[1:], latents[:-1], strict=True))]


@INFERENCES.register("ladder")
class Ladder(InferenceNetwork):
    """The probabilistic ladder network.

    A deterministic pass up, d_i = MLP(mu_{d,i-1}) with heads mu_{d,i} and sigma2_{d,i} (Eqs. 13-16); then a stochastic
    pass down, where q(z_i|z_{i+1}, x) merges that evidence with t_i = MLP(z_{i+1}) (Eqs. 17-21).
    """

    def __init__(self, style: Style, pixels: int, layers: Sequence[Layer], shared: nn.ModuleList | None = None) -> None:
        super().__init__(style, pixels, layers)
        self.is_shared = shared is not None
        self.down = shared or nn.ModuleList(
            GaussianMapping(style, above.units, above.top_down, layer.units) for layer, above in pairwise(layers)
        )

    def encode(self, x: Tensor) -> list[Posterior]:
        """x [M, D, 1, B] -> [N(mu_{d,i}, sigma2_{d,i}) for i = 1 ... L]."""
        evidence = [self.up[0](x)]
        for mapping in self.up[1:]:
            evidence.append(mapping(gaussian_of(evidence[-1]).mean))
        return evidence

    def sample(self, encoding: Sequence[Posterior], noise: Sequence[Tensor]) -> list[Draw]:
        """Draw z_L, ..., z_1 from noise of shapes [M, U_i, S, B]."""
        q = encoding[-1]
        draws = [Draw.of(q, noise[-1])]
        for layer in reversed(range(len(encoding) - 1)):
            t = self.down[layer](draws[0].z)
            q = _merge(t, encoding[layer])
            draws.insert(0, Draw.of(q, noise[layer], t if self.is_shared else None))
        return draws

    def forward(self, encoding: Sequence[Posterior], latents: Sequence[Tensor]) -> list[Posterior]:
        """q(z_i|z_{i+1}, x) at given latents, and q(z_L|x)."""
        pairs = zip(self.down, latents[1:], encoding[:-1], strict=True)
        return [*(_merge(mapping(z), d) for mapping, z, d in pairs), encoding[-1]]


def _merge(t: DiagonalGaussian, evidence: Posterior) -> Posterior:
    """Eq. 21, with the flow after it that the evidence has, if it has one."""
    return with_gaussian(evidence, precision_weighted_merge(t, gaussian_of(evidence)))
