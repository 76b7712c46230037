"""The inner loop of evaluation: log weights of one chunk of samples, as written or with its operations fused."""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hvae_spec.backend.compile import NotCompiledError, fusing
from hvae_spec.nn.classes import DrawnClasses
from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.flow import Posterior
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import split_noise

WORTH_COMPILING = 10**7
"""Samples, over all images, from which an evaluation gains more by compilation than that costs."""
Weighed = tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]
Weigh = Callable[..., Weighed]
"""See `weigh`."""


def weigh(
    model: Hierarchy,
    x: Tensor,
    encoding: Sequence[Posterior],
    top: Distribution,
    noise: Tensor,
    drawn: tuple[Tensor, Tensor] | None = None,
) -> Weighed:
    """S samples for encoded images x [1, D, 1, B]: log weights [S, B]; the sums over samples of log p - log q and of
    its square, [B, U_i] a layer and after them, where q has an auxiliary variable, [B, 1] of its log ratio; and those
    of z over the first sample and every other one from there, and over the rest, [2, B, U_i] a layer. `top` is p(z_L).
    Noise is flat, see `Hierarchy.flat_noise`. With classes, `drawn` are log q(y|x) [1, C, B] and uniform noise on
    [0, 1) [1, S, B], which draws the y of every sample from it: y is a latent of p and q as the others are.
    """
    images = x.shape[3]
    samples = noise.shape[1] // (images * sum(model.noise_units))
    classes = None if drawn is None else DrawnClasses.of_levels(*drawn)
    trace = model.trace(x, encoding, split_noise(noise, samples, images, model.noise_units), top, classes)
    ratios = [ratio[0] for ratio in trace.log_ratios]
    ratios += [] if trace.auxiliary is None else [trace.auxiliary]
    halves = [torch.stack((z[0, :, 0::2].sum(1), z[0, :, 1::2].sum(1))).mT for z in trace.latents]
    sums, squares = [ratio.sum(1).mT for ratio in ratios], [ratio.square().sum(1).mT for ratio in ratios]
    log_w = log_weight(trace)[0]
    if drawn is not None and classes is not None:
        log_w = log_w - (classes.log_density(drawn[0])[0] + math.log(model.classes))
    return log_w, sums, squares, halves


@functools.cache
def compiled_weigh() -> Weigh:
    """`weigh` with its operations fused; `weigh` itself from the first call on where compiling fails."""
    fused: Weigh | None = None

    def call(*given: Any) -> Weighed:
        nonlocal fused
        if fused is weigh:
            return weigh(*given)
        try:
            with fusing():
                fused = fused or torch.compile(weigh, dynamic=False)
                return fused(*given)
        except NotCompiledError as error:
            warnings.warn(f"torch.compile failed, evaluation goes on without it: {error}", stacklevel=2)
            fused = weigh
            return weigh(*given)

    return call
