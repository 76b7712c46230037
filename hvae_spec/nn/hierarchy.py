"""The deep hierarchical VAE: generative model p(x, z) and inference model q(z|x), evaluated on the same samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from hvae_spec.nn.auxiliary import Auxiliary, beside
from hvae_spec.nn.batch_norm import not_counting
from hvae_spec.nn.classes import (
    Classes,
    Classifier,
    DrawnClasses,
    EveryClass,
    class_units,
    top_with_classes,
)
from hvae_spec.nn.distribution import Distribution, log_density_ratio
from hvae_spec.nn.flow import Flowed, Posterior, gaussian_of
from hvae_spec.nn.gaussian import STANDARD_NORMAL, DiagonalGaussian, GaussianMapping, Style, log_ratio
from hvae_spec.nn.inference import INFERENCES, Draw, InferenceNetwork, Layer
from hvae_spec.nn.likelihood import BernoulliLikelihood, Likelihood
from hvae_spec.nn.prior import Prior, StandardNormal
from hvae_spec.nn.random import CHOICES, CLASSES, Purpose, Streams, split_noise
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
    log_classes: Tensor | None = None
    """With classes and C copies of every sample (`hvae_spec.nn.classes`): log q(y|x), [M, C, B]."""


@dataclass(frozen=True)
class Drawn:
    """Samples of q(z|x), and what they came with."""

    layers: list[Draw]
    """Of z_1 ... z_L."""
    y: Tensor | None = None
    """With classes, theirs, one-hot, [M, C, S, B]."""
    a: Draw | None = None
    """Of the auxiliary variable, where q has one."""

    @property
    def latents(self) -> list[Tensor]:
        """z_1 ... z_L, each [M, U_i, S, B]."""
        return [draw.z for draw in self.layers]


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

    With skip connections they are p(x|z_1 ... z_L) and p(z_i|z_{i+1} ... z_L). With classes, p(y) is uniform, and what
    takes z_L takes y beside it; no prior of z_L does.

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
        units[-1] += class_units(style.classes)
        self.joined_units = [sum(units[index:]) for index in range(len(units) - 1)] if self.skips else []
        self.likelihood = observation(style, joined_units(units, skip=self.skips), layers[0].down, pixels)
        self.conditionals = nn.ModuleList(
            GaussianMapping(style, joined_units(units[index:], skip=self.skips), above.down, layer.units)
            for index, (layer, above) in enumerate(pairwise(layers), start=1)
        )
        self.top = prior(replace(style, norm=None), layers[-1].units, pixels)
        self.factorizes = [*(True for _ in layers[1:]), self.top.factorizes]

    def prior(self, layer: int, draws: Sequence[Draw], top: Distribution, y: Tensor | None = None) -> Distribution:
        """p(z|z above) for the layer at this index, given the samples above it; `top`, p(z_L), for the top. With
        classes, y is the one-hot class of every sample, as in the following.
        """
        if layer == len(draws) - 1:
            return top
        known = draws[layer].prior
        if known is not None:
            return known
        return self.conditional(layer, [draw.z for draw in draws[layer + 1 :]], y)

    def conditional(self, layer: int, above: Sequence[Tensor], y: Tensor | None = None) -> Distribution:
        """p(z|z above) for the layer at this index, below the top, given the samples of all layers above it."""
        given = joined(top_with_classes(above, y), skip=self.skips)
        conditional: Distribution = self.conditionals[layer](given)
        return conditional

    def seen(self, latents: Sequence[Tensor], y: Tensor | None = None) -> Tensor:
        """What `likelihood` takes of z_1 ... z_L [M, U_i, S, B]: z_1, or with skip connections all of them in one."""
        return joined(top_with_classes(latents, y), skip=self.skips)


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
        self.members, self.pixels, self.classes = style.members, pixels, style.classes
        self.units = [layer.units for layer in layers]
        self.generative = Generative(style, pixels, layers, observation, prior)
        shared = self.generative.conditionals if share_top_down else None
        self.auxiliary = None if auxiliary is None else auxiliary(style, pixels, sum(self.units))
        more = 0 if self.auxiliary is None else self.auxiliary.units
        self.inference: InferenceNetwork = INFERENCES[inference](style, pixels + more, layers, shared)
        self.noise_units = [*self.units, more] if more else self.units
        """Numbers of noise of one sample of one image, part by part: those of z_1 ... z_L, then those of a."""
        known = self.inference.known_units(pixels, self.units) if self.classes else 0
        # A single class is known without.
        self.classifier = Classifier(style, known, style.classifier) if self.classes > 1 else None
        both = zip(self.generative.factorizes, self.inference.factorizes, strict=True)
        self.ratio_widths = [units if all(pair) else 1 for units, pair in zip(self.units, both, strict=True)]
        """Entries of each of a trace's log ratios: the layer's units, or 1 where p or q does not factorize."""

    @property
    def copies(self) -> int:
        """Copies of every sample in a pass that knows no y: one for each class."""
        return max(1, self.classes)

    def forward(self, x: Tensor, noise: Sequence[Tensor]) -> Trace:
        """x [M, B, D], noise [M, U_i, S, B] for each of `noise_units` -> the trace of S samples per image. With
        classes S is a multiple of C, and the first S / C are of the first class, and so on.
        """
        x = units_first(x)
        encoding, top = self.encode(x)
        if not self.classes:
            return self.trace(x, encoding, noise, top)
        trace = self.trace(x, encoding, noise, top, EveryClass(self.classes, noise[0].shape[2] // self.classes))
        return replace(trace, log_classes=self.log_classes(x, encoding))

    def log_classes(self, x: Tensor, encoding: Sequence[Posterior] | None = None) -> Tensor:
        """log q(y|x) of every class, [M, C, B], for images [M, D, 1, B], and what is known of them if it has been
        computed. Without it no more than q(y|x) needs is.
        """
        if self.classifier is None:
            return x.new_zeros(x.shape[0], self.classes, x.shape[3])
        log_q: Tensor = self.classifier(self.inference.known(x, encoding))
        return log_q

    def draw(
        self, x: Tensor, encoding: Sequence[Posterior], noise: Sequence[Tensor], uniform: Tensor | None = None
    ) -> Drawn:
        """Samples of q(z|x), and with classes of q(y|x) q(z|x, y).

        Args:
            x: images [M, D, 1, B].
            encoding: what is known of them, by `known` or `encode`.
            noise: [M, U_i, S, B] for each of `noise_units`.
            uniform: uniform noise on [0, 1) [M, S, B], which draws y from q(y|x); None: y is the likeliest class.

        """
        if not self.classes:
            return self._sample(x, encoding, noise)
        log_q = self.log_classes(x, encoding)
        classes = (
            DrawnClasses.likeliest(log_q, noise[0].shape[2])
            if uniform is None
            else DrawnClasses.of_levels(log_q, uniform)
        )
        return self._sample(x, encoding, noise, classes)

    def _sample(
        self, x: Tensor, encoding: Sequence[Posterior], noise: Sequence[Tensor], classes: Classes | None = None
    ) -> Drawn:
        """Samples of q(z|x), or with classes of q(z|x, y) for theirs. Other arguments as in `draw`."""
        if self.auxiliary is not None:
            a = Draw.of(encoding[0], noise[-1])
            return Drawn(self.inference.sample(self.inference.encode(beside(x, a.z)), noise[:-1]), a=a)
        if classes is None:
            return Drawn(self.inference.sample(encoding, noise))
        y = classes.one_hot(x.device)
        return Drawn(self.inference.sample(self.inference.of_classes(encoding, classes), noise, y), y)

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
        self,
        x: Tensor,
        encoding: Sequence[Posterior],
        noise: Sequence[Tensor],
        top: Distribution | None = None,
        classes: Classes | None = None,
    ) -> Trace:
        """The trace of new samples for images [M, D, 1, B] that are encoded already.

        Args:
            x: the images.
            encoding: what is known of them.
            noise: [M, U_i, S, B] for each of `noise_units`.
            top: p(z_L), as `encode` or `top` gave it for all passes that it serves; None: it is computed for this one.
            classes: those of the samples, where the model has classes. What the trace has of p and q is given y.

        """
        top = self.top() if top is None else top
        drawn = self._sample(x, encoding, noise, classes)
        ratios = [
            log_ratio_of(self.generative.prior(layer, drawn.layers, top, drawn.y), draw, eps)
            for layer, (draw, eps) in enumerate(zip(drawn.layers, noise[: len(drawn.layers)], strict=True))
        ]
        log_likelihood = self.generative.likelihood(self.generative.seen(drawn.latents, drawn.y), x)
        trace = Trace(log_likelihood, ratios, drawn.latents)
        if self.auxiliary is None or drawn.a is None:
            return trace
        of_a = self.auxiliary.log_ratio(x, drawn.latents, drawn.a.z, gaussian_of(encoding[0]), noise[-1])
        return replace(trace, auxiliary=of_a)

    def visit_norms(self, x: Tensor, noise: Sequence[Tensor]) -> None:
        """Pass x [M, B, D] and noise [M, U_i, S, B] through everything that may be batch-normalized: all but the output
        layer of p(x|z_1), the largest of all. With classes, S is a multiple of C, as in `forward`.
        """
        x = units_first(x)
        encoding, every = self.known(x), None
        if self.classes:
            self.log_classes(x, encoding)
            every = EveryClass(self.classes, noise[0].shape[2] // self.classes)
        drawn = self._sample(x, encoding, noise, every)
        for layer in range(len(drawn.layers) - 1):  # nothing of p(z_L) is batch-normalized
            self.generative.prior(layer, drawn.layers, STANDARD_NORMAL, drawn.y)
        self.generative.likelihood.mlp(self.generative.seen(drawn.latents, drawn.y))
        if self.auxiliary is not None:
            self.auxiliary.r(beside(x, *drawn.latents))

    def visit_classifier(self, x: Tensor) -> None:
        """Pass x [M, B, D] through what q(y|x) is made of, which may be batch-normalized."""
        self.log_classes(units_first(x))

    def ancestral(
        self,
        noise: Sequence[Tensor],
        injected: int | None = None,
        top: Distribution | None = None,
        y: Tensor | None = None,
    ) -> list[Tensor]:
        """z_1 ... z_L drawn top down from noise [M, U_i, S, B] for every layer: from p(z_L), then p(z_i|z_{i+1}).

        Args:
            noise: of z_1 ... z_L. That of z_L has what chooses, too (`Prior.extra_noise`; see `prior_noise`).
            injected: a layer i below the top, counted from 1, of which z_i ~ N(0, I) whatever the layers above are
                (Fig. 6b). What is below depends on these by skip connections alone. None, or the top layer: none, so
                that these are samples of the prior.
            top: p(z_L), see `trace`.
            y: with classes, those of the samples as `prior_classes` gives them.

        """
        return self.below((self.top() if top is None else top).sample(noise[-1]), noise[:-1], injected, y)

    def prior_classes(
        self, streams: Streams, purpose: Purpose, samples: int, images: int, epoch: int = 0
    ) -> Tensor | None:
        """One-hot classes [M, C, S, B] from p(y) for the samples of `prior_noise` with these arguments, by streams of
        their own; None without classes.
        """
        if not self.classes:
            return None
        level = streams.begin(CLASSES[purpose], epoch).uniform(samples, images)
        # Uniform noise is below 1, but its product may round to C.
        index = (level * self.classes).long().clamp(max=self.classes - 1)
        return DrawnClasses(index, self.classes).one_hot(self.device)

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

    def below(
        self, z: Tensor, noise: Sequence[Tensor], injected: int | None = None, y: Tensor | None = None
    ) -> list[Tensor]:
        """z_1 ... z_L of a given z_L [M, U_L, S, B] and noise [M, U_i, S, B] of the layers below; see `ancestral`."""
        latents = [z]
        for layer in reversed(range(len(noise))):
            eps = noise[layer]
            is_injected = layer + 1 == injected
            latents.insert(0, eps if is_injected else self.generative.conditional(layer, latents, y).sample(eps))
        return latents

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device
