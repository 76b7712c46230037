"""The inference networks q(z|x): bottom-up (Eqs. 5-6), the probabilistic ladder (Eqs. 13-21), and top-down.

Each has two parts. `encode` is what does not depend on a sample, computed once per image; `sample` draws the latents
from noise. Lists over layers go from the data up: entry 0 is z_1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hvae_spec.nn.batch_norm import keep_apart
from hvae_spec.nn.classes import Classes, EveryClass, class_units, top_with_classes, with_classes
from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.flow import (
    Flowed,
    FlowedMapping,
    MakeFlow,
    Posterior,
    gaussian_before_flow,
    gaussian_of,
    with_gaussian,
)
from hvae_spec.nn.gaussian import DiagonalGaussian, GaussianMapping, Style, precision_weighted_merge
from hvae_spec.nn.skip import joined, joined_units
from hvae_spec.nn.sweep import in_sweep
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
    """Of inference from the top down, out of z_i: the ladder's t_{i-1}, say."""
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
        pixels: D, width of x; with an auxiliary variable, of x and a.
        layers: stochastic layers, z_1 first.
        shared: the generative mappings p(z_i|z_{i+1}), where they are to be its top-down ones too (Sec. 4).

    Attributes:
        factorizes: whether q of each layer is a product over its units, given what it depends on.
        classes: C, the classes that y is one of, which q(z_L|..., y) takes; 0: there is no y.

    """

    def __init__(self, style: Style, pixels: int, layers: Sequence[Layer], shared: nn.ModuleList | None = None) -> None:
        super().__init__()
        ins = self.inputs_up(style, pixels, [layer.units for layer in layers])
        ins[-1] += class_units(style.classes)
        self.classes = style.classes
        self.up = nn.ModuleList(
            GaussianMapping(style, wide, layer.up, layer.units)
            if layer.flow is None
            else FlowedMapping(style, wide, layer.up, layer.units, layer.flow)
            for wide, layer in zip(ins, layers, strict=True)
        )
        self.skips = style.inference_skips
        self.factorizes = [layer.flow is None for layer in layers]

    def inputs_up(self, style: Style, pixels: int, units: Sequence[int]) -> list[int]:
        """Widths of what the mappings up into z_1 ... z_L take."""
        return [pixels, *units[:-1]]

    def known_units(self, pixels: int, units: Sequence[int]) -> int:
        """Width of what `known` gives."""
        return pixels

    def known(self, x: Tensor, encoding: Sequence[Posterior] | None = None) -> Tensor:
        """What q(z_L|..., y) takes of x [M, D, 1, B] without any draw, which q(y|x) takes too: x itself.

        Args:
            x: the images.
            encoding: what is known of them, if it has been computed.

        """
        return x

    def of_classes(self, encoding: Sequence[Posterior], classes: Classes) -> list[Posterior]:
        """The encoding for samples of these classes: the evidence of the top layer has a copy for each class."""
        return [*encoding[:-1], classes.of(encoding[-1])]

    def into_top(self, h: Tensor) -> Tensor:
        """What the mapping into z_L takes of h [M, U, 1, B]: with classes, it beside each of them, [M, U + C, C, B]."""
        return with_classes(h, EveryClass(self.classes, 1).one_hot(h.device).to(h.dtype)) if self.classes else h

    @abstractmethod
    def encode(self, x: Tensor) -> list[Posterior]:
        """What is known of x [M, D, 1, B] before anything is drawn: Gaussians, with what flows take from x. With an
        auxiliary variable, of x and a [M, D + U, S, B] before any z is.
        """

    @abstractmethod
    def sample(self, encoding: Sequence[Posterior], noise: Sequence[Tensor], y: Tensor | None = None) -> list[Draw]:
        """Samples of z_1 ... z_L, in this order, from noise of shapes [M, U_i, S, B]; with classes, of a one-hot y
        [M, C, S, B], for which the encoding is that of `of_classes`.
        """

    @abstractmethod
    def forward(self, encoding: Sequence[Posterior], latents: Sequence[Tensor]) -> list[Posterior]:
        """q(z_i|...) for i = 1 ... L where the latents [M, U_i, S, B] have been drawn already."""


INFERENCES: Registry[type[InferenceNetwork]] = Registry("inference model in torch")


@INFERENCES.register("vae")
class BottomUp(InferenceNetwork):
    """q(z_1|x), then q(z_i|z_{i-1}), each sampled on the way up: the inference model of a VAE (Eqs. 5-6)."""

    def encode(self, x: Tensor) -> list[Posterior]:
        """x [M, D, 1, B] -> [q(z_1|x)], all that does not depend on a sample."""
        return [self.up[0](self.into_top(x) if len(self.up) == 1 else x)]

    def of_classes(self, encoding: Sequence[Posterior], classes: Classes) -> list[Posterior]:
        """See `InferenceNetwork.of_classes`: q(z_1|x) depends on no class where there are layers above."""
        return super().of_classes(encoding, classes) if len(self.up) == 1 else list(encoding)

    def inputs_up(self, style: Style, pixels: int, units: Sequence[int]) -> list[int]:
        """See `InferenceNetwork.inputs_up`: with skip connections, the latents of all layers below."""
        below = [units[layer - 1 :: -1] for layer in range(1, len(units))]
        return [pixels, *(joined_units(nearest_first, skip=style.inference_skips) for nearest_first in below)]

    def sample(self, encoding: Sequence[Posterior], noise: Sequence[Tensor], y: Tensor | None = None) -> list[Draw]:
        """Draw z_1, ..., z_L from noise of shapes [M, U_i, S, B]."""
        draws = [Draw.of(encoding[0], noise[0])]
        for mapping, eps in zip(self.up[1:], noise[1:], strict=True):
            given = joined([draw.z for draw in reversed(draws)], skip=self.skips)
            is_top = len(draws) == len(self.up) - 1
            (given,) = top_with_classes([given], y if is_top else None)
            draws.append(Draw.of(mapping(given), eps))
        return draws

    def forward(self, encoding: Sequence[Posterior], latents: Sequence[Tensor]) -> list[Posterior]:
        """q(z_1|x), then q(z_i|z_{i-1}) at given latents."""
        below = [latents[layer - 1 :: -1] for layer in range(1, len(latents))]
        pairs = zip(self.up[1:], below, strict=True)
        return [encoding[0], *(mapping(joined(nearest_first, skip=self.skips)) for mapping, nearest_first in pairs)]


class UpThenDown(InferenceNetwork):
    """A deterministic pass up, d_i = MLP(mu_{d,i-1}) with heads mu_{d,i} and sigma2_{d,i} (Eqs. 13-16), the evidence;
    then a stochastic pass down, q(z_L|x) and q(z_i|z_{i+1}, x), which is what the models of the kind differ in.
    """

    def encode(self, x: Tensor) -> list[Posterior]:
        """x [M, D, 1, B] -> [N(mu_{d,i}, sigma2_{d,i}) for i = 1 ... L]."""
        below = self._below_top(x)
        return [*below, self.up[-1](self.into_top(_mean_of_last(below, x)))]

    def _below_top(self, x: Tensor) -> list[Posterior]:
        """The evidence of all layers but the top one."""
        evidence: list[Posterior] = []
        for mapping in self.up[:-1]:
            evidence.append(mapping(_mean_of_last(evidence, x)))
        return evidence

    def known_units(self, pixels: int, units: Sequence[int]) -> int:
        """See `InferenceNetwork.known_units`."""
        return units[-2] if len(units) > 1 else pixels

    def known(self, x: Tensor, encoding: Sequence[Posterior] | None = None) -> Tensor:
        """See `InferenceNetwork.known`: mu_{d,L-1}, where there are layers below z_L."""
        return _mean_of_last(self._below_top(x) if encoding is None else encoding[:-1], x)

    def seen_down(self, above: Sequence[Tensor], y: Tensor | None) -> Sequence[Tensor]:
        """What the path down takes of the latents above a layer: no class."""
        return above

    def sample(self, encoding: Sequence[Posterior], noise: Sequence[Tensor], y: Tensor | None = None) -> list[Draw]:
        """Draw z_L, ..., z_1 from noise of shapes [M, U_i, S, B]."""
        draws = [Draw.of(encoding[-1], noise[-1])]
        for layer in reversed(range(len(encoding) - 1)):
            q, p = self._given(encoding[layer], layer, self.seen_down([draw.z for draw in draws], y))
            draws.insert(0, Draw.of(q, noise[layer], p))
        return draws

    def forward(self, encoding: Sequence[Posterior], latents: Sequence[Tensor]) -> list[Posterior]:
        """q(z_i|z_{i+1}, x) at given latents, and q(z_L|x)."""
        below = enumerate(encoding[:-1])
        return [*(self._given(d, layer, latents[layer + 1 :])[0] for layer, d in below), encoding[-1]]

    def _given(
        self, evidence: Posterior, layer: int, above: Sequence[Tensor]
    ) -> tuple[Posterior, DiagonalGaussian | None]:
        """`conditional`, with the flow after it that the evidence has, if it has one."""
        q, p = self.conditional(layer, gaussian_of(evidence), above)
        return with_gaussian(evidence, q), p

    @abstractmethod
    def conditional(
        self, layer: int, evidence: DiagonalGaussian, above: Sequence[Tensor]
    ) -> tuple[DiagonalGaussian, DiagonalGaussian | None]:
        """q(z_i|z_{i+1}, x) of the layer at an index, and p(z_i|z_{i+1}) where that is known with it.

        Args:
            layer: i - 1.
            evidence: N(mu_{d,i}, sigma2_{d,i}), [M, U_i, 1, B].
            above: z_{i+1} ... z_L, [M, U_j, S, B].

        """


def _mean_of_last(evidence: Sequence[Posterior], x: Tensor) -> Tensor:
    """What the next mapping up takes: mu_{d,i} of the last layer that there is evidence of, or x."""
    return gaussian_of(evidence[-1]).mean if evidence else x


@INFERENCES.register("ladder")
class Ladder(UpThenDown):
    """The probabilistic ladder network: q(z_i|z_{i+1}, x) merges the evidence with t_i = MLP(z_{i+1}) (Eqs. 17-21).

    In k sweeps (Raiko et al., 2014) the first k - 1 pass means down in the place of samples. Each sweep after the first
    has the evidence d_i = MLP(mean of q(z_{i-1}) in the sweep before), and all have the same weights. With a flow the
    mean is that of the merged Gaussian, before the flow.
    """

    def __init__(self, style: Style, pixels: int, layers: Sequence[Layer], shared: nn.ModuleList | None = None) -> None:
        super().__init__(style, pixels, layers)
        self.is_shared = shared is not None
        units = [layer.units for layer in layers]
        self.down = shared or nn.ModuleList(
            GaussianMapping(style, joined_units(units[index:], skip=self.skips), above.top_down, layer.units)
            for index, (layer, above) in enumerate(pairwise(layers), start=1)
        )
        self.sweeps = style.sweeps
        if self.sweeps > 1:
            for mapping in (*self.up[1:], *self.down):  # d_1 = MLP(x) is the same in all sweeps
                keep_apart(mapping, self.sweeps)

    def encode(self, x: Tensor) -> list[Posterior]:
        """x [M, D, 1, B] -> [N(mu_{d,i}, sigma2_{d,i}) for i = 1 ... L] of the last sweep."""
        if self.sweeps == 1:
            return super().encode(x)
        first = self.up[0](x)
        means: list[Tensor] = []
        for sweep in range(self.sweeps - 1):
            with in_sweep(self, sweep):
                evidence = [gaussian_of(first)]
                for place, mapping in enumerate(self.up[1:]):
                    y = means[place] if sweep else evidence[-1].mean
                    evidence.append(gaussian_before_flow(mapping, y))
                means = self._means(evidence)
        return [first, *(mapping(mean) for mapping, mean in zip(self.up[1:], means, strict=False))]

    def _means(self, evidence: Sequence[DiagonalGaussian]) -> list[Tensor]:
        """The means of q(z_i|...), z_1 first, with means in the place of samples on the way down: [M, U_i, 1, B]."""
        means = [evidence[-1].mean]
        for layer in reversed(range(len(evidence) - 1)):
            q, _ = self.conditional(layer, evidence[layer], means)
            means.insert(0, q.mean)
        return means

    def seen_down(self, above: Sequence[Tensor], y: Tensor | None) -> Sequence[Tensor]:
        """See `UpThenDown.seen_down`: p's own mappings take y with z_L."""
        return top_with_classes(above, y) if self.is_shared else above

    def conditional(
        self, layer: int, evidence: DiagonalGaussian, above: Sequence[Tensor]
    ) -> tuple[DiagonalGaussian, DiagonalGaussian | None]:
        """See `UpThenDown.conditional`."""
        t = self.down[layer](joined(above, skip=self.skips))
        return precision_weighted_merge(t, evidence), t if self.is_shared else None


@INFERENCES.register("top_down")
class TopDown(UpThenDown):
    """The ladder without its merge: q(z_i|z_{i+1}, x) = N(mu, sigma2) with the heads of
    MLP([mu_{d,i}, sigma2_{d,i}, z_{i+1}]), which could learn to weigh the evidence by its precision, or otherwise.
    """

    def __init__(self, style: Style, pixels: int, layers: Sequence[Layer], shared: nn.ModuleList | None = None) -> None:
        super().__init__(style, pixels, layers)
        if shared is not None:
            raise ValueError("mappings of z_{i+1} alone are none of z_{i+1} and the evidence: they cannot be shared")
        units = [layer.units for layer in layers]
        self.down = nn.ModuleList(
            GaussianMapping(
                style, 2 * layer.units + joined_units(units[index:], skip=self.skips), above.top_down, layer.units
            )
            for index, (layer, above) in enumerate(pairwise(layers), start=1)
        )

    def conditional(
        self, layer: int, evidence: DiagonalGaussian, above: Sequence[Tensor]
    ) -> tuple[DiagonalGaussian, DiagonalGaussian | None]:
        """See `UpThenDown.conditional`."""
        z = joined(above, skip=self.skips)
        d = [each.expand(-1, -1, z.shape[2], -1) for each in (evidence.mean, evidence.variance)]
        return self.down[layer](torch.cat([*d, z], dim=1)), None
