"""The deep hierarchical VAE: generative model p(x, z) and inference model q(z|x), evaluated on the same samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hvae_spec.nn.distribution import Distribution, log_density_ratio
from hvae_spec.nn.flow import Flowed, Posterior
from hvae_spec.nn.gaussian import STANDARD_NORMAL, DiagonalGaussian, GaussianMapping, Style, log_ratio
from hvae_spec.nn.inference import INFERENCES, Draw, InferenceNetwork, Layer
from hvae_spec.nn.likelihood import BernoulliLikelihood, Likelihood

MakeLikelihood = Callable[[Style, int, Sequence[int], int], Likelihood]
"""Makes p(x|z_1) for a style, the units of z_1, hidden widths and D, as the classes of `hvae_spec.nn.likelihood` do."""


@dataclass(frozen=True)
class Trace:
    """What a pass of samples through the model leaves behind. All in nats."""

    log_likelihood: Tensor
    """log p(x|z_1), [M, S, B]."""
    log_ratios: list[Tensor]
    """log p(z_i|z_{i+1}) - log q(z_i|...) per unit, [M, U_i, S, B] for i = 1 ... L, or of the layer as a whole,
    [M, 1, S, B], where p or q does not factorize over its units. The negative is a one-sample estimate of the KL."""
    latents: list[Tensor]
    """z_1 ... z_L, each [M, U_i, S, B]."""


def log_ratio_of(p: Distribution, draw: Draw, noise: Tensor) -> Tensor:
    """log p(z) - log q(z) of a sample that noise [M, U, S, B] made: see `Trace.log_ratios`."""
    if isinstance(p, DiagonalGaussian) and isinstance(draw.posterior, DiagonalGaussian):
        return log_ratio(p, draw.posterior, draw.z, noise)
    if isinstance(p, DiagonalGaussian) and isinstance(draw.posterior, Flowed) and draw.log_det is not None:
        return draw.posterior.log_ratio(p, draw.z, noise, draw.log_det)
    log_q = draw.posterior.sample_and_log_prob(noise)[1] if draw.log_prob is None else draw.log_prob
    return log_density_ratio(p.log_prob(draw.z), log_q)


def units_first(x: Tensor) -> Tensor:
    """Images [M, B, D] as activations, [M, D, 1, B], in that order in memory too: the likelihood goes through x and the
    parameters of p(x|z_1) together.
    """
    return x.mT.contiguous().unsqueeze(2)


class Generative(nn.Module):
    """p(x|z_1) p(z_1|z_2) ... p(z_L), Eqs. 1-4. `conditionals[0]` is p(z_1|z_2), and so on up.

    Attributes:
        factorizes: whether the prior of each layer is a product over its units.

    """

    def __init__(self, style: Style, pixels: int, layers: Sequence[Layer], observation: MakeLikelihood) -> None:
        super().__init__()
        self.likelihood = observation(style, layers[0].units, layers[0].down, pixels)
        self.conditionals = nn.ModuleList(
            GaussianMapping(style, above.units, above.down, layer.units) for layer, above in pairwise(layers)
        )
        self.factorizes = [True for _ in layers]

    def prior(self, layer: int, draws: Sequence[Draw]) -> Distribution:
        """p(z|z above) for the layer at this index, given the samples above it; N(0, I) for the top."""
        if layer == len(draws) - 1:
            return STANDARD_NORMAL
        known = draws[layer].prior
        if known is not None:
            return known
        conditional: Distribution = self.conditionals[layer](draws[layer + 1].z)
        return conditional


class Hierarchy(nn.Module):
    """M deep hierarchical VAEs of one shape.

    Args:
        style: what all mappings have in common, M among it.
        pixels: D, width of x.
        layers: stochastic layers, z_1 first.
        inference: a name of `hvae_spec.nn.inference.INFERENCES`.
        share_top_down: its top-down mappings are the generative ones.
        observation: makes p(x|z_1): an item of `hvae_spec.nn.likelihood.LIKELIHOODS` with its settings.

    """

    def __init__(
        self,
        style: Style,
        pixels: int,
        layers: Sequence[Layer],
        *,
        inference: str,
        share_top_down: bool = False,
        observation: MakeLikelihood = BernoulliLikelihood,
    ) -> None:
        super().__init__()
        self.members, self.pixels = style.members, pixels
        self.units = [layer.units for layer in layers]
        self.generative = Generative(style, pixels, layers, observation)
        shared = self.generative.conditionals if share_top_down else None
        self.inference: InferenceNetwork = INFERENCES[inference](style, pixels, layers, shared)
        both = zip(self.generative.factorizes, self.inference.factorizes, strict=True)
        self.ratio_widths = [units if all(pair) else 1 for units, pair in zip(self.units, both, strict=True)]
        """Entries of each of a trace's log ratios: the layer's units, or 1 where p or q does not factorize."""

    def forward(self, x: Tensor, noise: Sequence[Tensor]) -> Trace:
        """x [M, B, D], noise [M, U_i, S, B] for each layer -> the trace of S samples per image."""
        x = units_first(x)
        return self.trace(x, self.inference.encode(x), noise)

    def trace(self, x: Tensor, encoding: Sequence[Posterior], noise: Sequence[Tensor]) -> Trace:
        """The trace of new samples for images [M, D, 1, B] that are encoded already."""
        draws = self.inference.sample(encoding, noise)
        ratios = [
            log_ratio_of(self.generative.prior(layer, draws), draw, eps)
            for layer, (draw, eps) in enumerate(zip(draws, noise, strict=True))
        ]
        log_likelihood = self.generative.likelihood(draws[0].z, x)
        return Trace(log_likelihood, ratios, [draw.z for draw in draws])

    def visit_norms(self, x: Tensor, noise: Sequence[Tensor]) -> None:
        """Pass x [M, B, D] and noise [M, U_i, S, B] through everything that may be batch-normalized: all but the output
        layer of p(x|z_1), the largest of all.
        """
        draws = self.inference.sample(self.inference.encode(units_first(x)), noise)
        for layer in range(len(draws)):
            self.generative.prior(layer, draws)
        self.generative.likelihood.mlp(draws[0].z)

    def ancestral(self, noise: Sequence[Tensor]) -> list[Tensor]:
        """z_1 ... z_i drawn top down from noise [M, U_j, S, B] for j = 1 ... i: z_i ~ N(0, I), then p(z_j|z_{j+1}).

        With noise for all layers, i = L, these are samples of the prior; with less, z_i is injected at layer i.
        """
        latents = [noise[-1]]
        below = self.generative.conditionals[: len(noise) - 1]
        for mapping, eps in zip(reversed(below), reversed(noise[:-1]), strict=True):
            latents.insert(0, mapping(latents[0]).sample(eps))
        return latents

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device
