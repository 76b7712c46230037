"""The deep hierarchical VAE: generative model p(x, z) and inference model q(z|x), evaluated on the same samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from hvae_spec.nn.auxiliary import Auxiliary, beside
from hvae_spec.nn.batch_norm import not_counting
from hvae_spec.nn.distribution import Distribution, log_density_ratio
from hvae_spec.nn.flow import Flowed, Posterior, gaussian_of
from hvae_spec.nn.gaussian import STANDARD_NORMAL, DiagonalGaussian, GaussianMapping, Style, log_ratio
from hvae_spec.nn.inference import INFERENCES, Draw, InferenceNetwork, Layer
from hvae_spec.nn.likelihood import BernoulliLikelihood, Likelihood
from hvae_spec.nn.prior import Prior, StandardNormal
from hvae_spec.nn.random import CHOICES, Purpose, Streams, split_noise
from hvae_spec.nn.skip import joined, joined_units

MakeLikelihood = Callable[[Style, int, Sequence[int], int], Likelihood]
"""Makes p(x|z_1) for a style, the units of z_1, hidden widths and D, as the classes of `hvae_spec.nn.likelihood` do."""
MakePrior = Callable[[Style, int, int], Prior]
"""Makes p(z_L) for a style, the units of z_L and D, as the classes of `hvae_spec.nn.prior` do."""
MakeAuxiliary = Callable[[Style, int, int], Auxiliary]
"""Makes q(a|x) and r(a|x, z) for a style, D and U_1 + ... + U_L, as `Auxiliary` does."""


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
    auxiliary: Tensor | None = None
    """log r(a|x, z) - log q(a|x) of the auxiliary variable, [M, S, B]; None where q has none."""


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

    With skip connections they are p(x|z_1 ... z_L) and p(z_i|z_{i+1} ... z_L).

    Attributes:
        skips: whether there are skip connections.
        joined_units: by skip connections, the units of every set of latents that they put together; else none.
        factorizes: whether the prior of each layer is a product over its units.

    """

    def __init__(
        self,
        style: Style,
        pixels: int,
        layers: Sequence[Layer],
        observation: MakeLikelihood,
        prior: MakePrior = StandardNormal,
    ) -> None:
        super().__init__()
        self.skips = style.generative_skips
        units = [layer.units for layer in layers]
        self.joined_units = [sum(units[index:]) for index in range(len(units) - 1)] if self.skips else []
        self.likelihood = observation(style, joined_units(units, skip=self.skips), layers[0].down, pixels)
        self.conditionals = nn.ModuleList(
            GaussianMapping(style, joined_units(units[index:], skip=self.skips), above.down, layer.units)
            for index, (layer, above) in enumerate(pairwise(layers), start=1)
        )
        self.top = prior(replace(style, norm=None), layers[-1].units, pixels)
        self.factorizes = [*(True for _ in layers[1:]), self.top.factorizes]

    def prior(self, layer: int, draws: Sequence[Draw], top: Distribution) -> Distribution:
        """p(z|z above) for the layer at this index, given the samples above it; `top`, p(z_L), for the top."""
        if layer == len(draws) - 1:
            return top
        known = draws[layer].prior
        if known is not None:
            return known
        return self.conditional(layer, [draw.z for draw in draws[layer + 1 :]])

    def conditional(self, layer: int, above: Sequence[Tensor]) -> Distribution:
        """p(z|z above) for the layer at this index, below the top, given the samples of all layers above it."""
        conditional: Distribution = self.conditionals[layer](joined(above, skip=self.skips))
        return conditional

    def seen(self, latents: Sequence[Tensor]) -> Tensor:
        """What `likelihood` takes of z_1 ... z_L [M, U_i, S, B]: z_1, or with skip connections all of them in one."""
        return joined(latents, skip=self.skips)


class Hierarchy(nn.Module):
    """M deep hierarchical VAEs of one shape.

    Args:
        style: what all mappings have in common, M among it.
        pixels: D, width of x.
        layers: stochastic layers, z_1 first.
        inference: a name of `hvae_spec.nn.inference.INFERENCES`.
        share_top_down: its top-down mappings are the generative ones.
        observation: makes p(x|z_1): an item of `hvae_spec.nn.likelihood.LIKELIHOODS` with its settings.
        prior: makes p(z_L): an item of `hvae_spec.nn.prior.PRIORS` with its settings.
        auxiliary: makes the auxiliary variable of q; None: it has none.

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
        prior: MakePrior = StandardNormal,
        auxiliary: MakeAuxiliary | None = None,
    ) -> None:
        super().__init__()
        self.members, self.pixels = style.members, pixels
        self.units = [layer.units for layer in layers]
        self.generative = Generative(style, pixels, layers, observation, prior)
        shared = self.generative.conditionals if share_top_down else None
        self.auxiliary = None if auxiliary is None else auxiliary(style, pixels, sum(self.units))
        more = 0 if self.auxiliary is None else self.auxiliary.units
        self.inference: InferenceNetwork = INFERENCES[inference](style, pixels + more, layers, shared)
        self.noise_units = [*self.units, more] if more else self.units
        """Numbers of noise of one sample of one image, part by part: those of z_1 ... z_L, then those of a."""
        both = zip(self.generative.factorizes, self.inference.factorizes, strict=True)
        self.ratio_widths = [units if all(pair) else 1 for units, pair in zip(self.units, both, strict=True)]
        """Entries of each of a trace's log ratios: the layer's units, or 1 where p or q does not factorize."""

    def forward(self, x: Tensor, noise: Sequence[Tensor]) -> Trace:
        """x [M, B, D], noise [M, U_i, S, B] for each of `noise_units` -> the trace of S samples per image."""
        x = units_first(x)
        encoding, top = self.encode(x)
        return self.trace(x, encoding, noise, top)

    def encode(self, x: Tensor) -> tuple[list[Posterior], Distribution]:
        """What is known of x [M, D, 1, B] before anything is drawn, and p(z_L).

        Pseudo-inputs of the prior go through inference together with x, and are normalized as its images are.
        """
        inputs = self.generative.top.pseudo_inputs
        if inputs is None:
            return self.known(x), self.generative.top(None)
        sizes = [x.shape[3], inputs.shape[3]]
        with not_counting(self.inference, inputs.shape[3]):
            both = self.inference.encode(torch.cat([x, inputs], dim=3))
        encoding, encoded = zip(*(one.split(sizes) for one in both), strict=True)
        return list(encoding), self.generative.top(gaussian_of(encoded[-1]))

    def known(self, x: Tensor) -> list[Posterior]:
        """What is known of x [M, D, 1, B] before anything is drawn: what inference makes of x; where there is an
        auxiliary variable, q(a|x) alone, as all that inference makes of x and a is of a sample then.
        """
        return self.inference.encode(x) if self.auxiliary is None else [self.auxiliary.q(x)]

    def draw(self, x: Tensor, encoding: Sequence[Posterior], noise: Sequence[Tensor]) -> tuple[list[Draw], Draw | None]:
        """Samples of z_1 ... z_L from q(z|x), and of the auxiliary variable that each of them came with, if q has one.

        Args:
            x: images [M, D, 1, B].
            encoding: what is known of them, by `known` or `encode`.
            noise: [M, U_i, S, B] for each of `noise_units`.

        """
        if self.auxiliary is None:
            return self.inference.sample(encoding, noise), None
        a = Draw.of(encoding[0], noise[-1])
        return self.inference.sample(self.inference.encode(beside(x, a.z)), noise[:-1]), a

    def flat_noise(self, streams: Streams, samples: int, images: int) -> Tensor:
        """The noise of one pass as one tensor, [M, S * B * (U_1 + ... + U_L)], see `split_noise`: that of the latents
        in one call per member, and after it that of an auxiliary variable, from streams beside (`Streams.auxiliary`).
        """
        rows = samples * images
        flat = streams.normal(rows * sum(self.units))
        if self.auxiliary is None:
            return flat
        return torch.cat([flat, streams.auxiliary.normal(rows * self.auxiliary.units)], dim=1)

    def noise(self, streams: Streams, samples: int, images: int) -> list[Tensor]:
        """The noise of one pass, [M, U_i, S, B] for each of `noise_units`."""
        return split_noise(self.flat_noise(streams, samples, images), samples, images, self.noise_units)

    def top(self) -> Distribution:
        """p(z_L) without a batch: in evaluation mode, or where nothing has batch statistics."""
        inputs = self.generative.top.pseudo_inputs
        if inputs is None:
            return self.generative.top(None)
        with not_counting(self.inference, inputs.shape[3]):
            return self.generative.top(gaussian_of(self.inference.encode(inputs)[-1]))

    def trace(
        self, x: Tensor, encoding: Sequence[Posterior], noise: Sequence[Tensor], top: Distribution | None = None
    ) -> Trace:
        """The trace of new samples for images [M, D, 1, B] that are encoded already.

        Args:
            x: the images.
            encoding: what is known of them.
            noise: [M, U_i, S, B] for each of `noise_units`.
            top: p(z_L), as `encode` or `top` gave it for all passes that it serves; None: it is computed for this one.

        """
        top = self.top() if top is None else top
        draws, a = self.draw(x, encoding, noise)
        ratios = [
            log_ratio_of(self.generative.prior(layer, draws, top), draw, eps)
            for layer, (draw, eps) in enumerate(zip(draws, noise[: len(draws)], strict=True))
        ]
        latents = [draw.z for draw in draws]
        log_likelihood = self.generative.likelihood(self.generative.seen(latents), x)
        if self.auxiliary is None or a is None:
            return Trace(log_likelihood, ratios, latents)
        of_a = self.auxiliary.log_ratio(x, latents, a.z, gaussian_of(encoding[0]), noise[-1])
        return Trace(log_likelihood, ratios, latents, of_a)

    def visit_norms(self, x: Tensor, noise: Sequence[Tensor]) -> None:
        """Pass x [M, B, D] and noise [M, U_i, S, B] through everything that may be batch-normalized: all but the output
        layer of p(x|z_1), the largest of all.
        """
        x = units_first(x)
        draws, _ = self.draw(x, self.known(x), noise)
        for layer in range(len(draws) - 1):  # nothing of p(z_L) is batch-normalized
            self.generative.prior(layer, draws, STANDARD_NORMAL)
        latents = [draw.z for draw in draws]
        self.generative.likelihood.mlp(self.generative.seen(latents))
        if self.auxiliary is not None:
            self.auxiliary.r(beside(x, *latents))

    def ancestral(
        self, noise: Sequence[Tensor], injected: int | None = None, top: Distribution | None = None
    ) -> list[Tensor]:
        """z_1 ... z_L drawn top down from noise [M, U_i, S, B] for every layer: from p(z_L), then p(z_i|z_{i+1}).

        Args:
            noise: of z_1 ... z_L. That of z_L has what chooses, too (`Prior.extra_noise`; see `prior_noise`).
            injected: a layer i below the top, counted from 1, of which z_i ~ N(0, I) whatever the layers above are
                (Fig. 6b). What is below depends on these by skip connections alone. None, or the top layer: none, so
                that these are samples of the prior.
            top: p(z_L), see `trace`.

        """
        return self.below((self.top() if top is None else top).sample(noise[-1]), noise[:-1], injected)

    def prior_noise(
        self, streams: Streams, purpose: Purpose, samples: int, images: int, epoch: int = 0
    ) -> list[Tensor]:
        """Noise for `ancestral`, [M, U_i, S, B] for each layer. That of z_L has what chooses in addition, which is
        drawn apart, so that it changes nothing else.

        Args:
            streams: the members' streams.
            purpose: what the samples are for, one of `CHOICES`.
            samples: S.
            images: B.
            epoch: epochs trained.

        """
        noise = streams.begin(purpose, epoch).noise(samples, images, self.units)
        if self.generative.top.extra_noise:
            choice = streams.begin(CHOICES[purpose], epoch).normal(self.generative.top.extra_noise, samples, images)
            noise[-1] = torch.cat([noise[-1], choice], dim=1)
        return noise

    def below(self, z: Tensor, noise: Sequence[Tensor], injected: int | None = None) -> list[Tensor]:
        """z_1 ... z_L of a given z_L [M, U_L, S, B] and noise [M, U_i, S, B] of the layers below; see `ancestral`."""
        latents = [z]
        for layer in reversed(range(len(noise))):
            eps = noise[layer]
            is_injected = layer + 1 == injected
            latents.insert(0, eps if is_injected else self.generative.conditional(layer, latents).sample(eps))
        return latents

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device
