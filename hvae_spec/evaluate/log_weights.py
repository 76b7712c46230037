"""The inner loop of evaluation: log weights of one chunk of samples, as written or with its operations fused."""

import functools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from hvae_spec.backend.compile import fusing
from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.flow import Posterior
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import split_noise

WORTH_COMPILING = 10**7
"""Samples, over all images, from which an evaluation gains more by compilation than that costs."""
Weighed = tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]
Weigh = Callable[[Hierarchy, Tensor, Sequence[Posterior], Distribution, Tensor], Weighed]
"""See `weigh`."""


def weigh(model: Hierarchy, x: Tensor, encoding: Sequence[Posterior], top: Distribution, noise: Tensor) -> Weighed:
    """S samples for encoded images x [1, D, 1, B]: log weights [S, B]; the sums over samples of log p - log q and of
    its square, [B, U_i] a layer and after them, where q has an auxiliary variable, [B, 1] of its log ratio; and those
    of z over the first sample and every other one from there, and over the rest, [2, B, U_i] a layer. `top` is p(z_L).
    Noise is flat, see `Hierarchy.flat_noise`.
    """
    images = x.shape[3]
    samples = noise.shape[1] // (images * sum(model.noise_units))
    trace = model.trace(x, encoding, split_noise(noise, samples, images, model.noise_units), top)
    ratios = [ratio[0] for ratio in trace.log_ratios]
    ratios += [] if trace.auxiliary is None else [trace.auxiliary]
    halves = [torch.stack((z[0, :, 0::2].sum(1), z[0, :, 1::2].sum(1))).mT for z in trace.latents]
    sums, squares = [ratio.sum(1).mT for ratio in ratios], [ratio.square().sum(1).mT for ratio in ratios]
    return log_weight(trace)[0], sums, squares, halves


@functools.cache
def compiled_weigh() -> Weigh:
    """`weigh` with its operations fused; `weigh` itself from the first call on where compiling fails."""
    fused: list[Weigh] = [torch.compile(weigh, dynamic=False)]

    def call(model: Hierarchy, x: Tensor, encoding: Sequence[Posterior], top: Distribution, noise: Tensor) -> Weighed:
        try:
            with fusing():
                return fused[0](model, x, encoding, top, noise)
        except TorchDynamoException as error:
            warnings.warn(f"torch.compile failed, evaluation goes on without it: {error}", stacklevel=2)
            fused[0] = weigh
            return weigh(model, x, encoding, top, noise)

    return call
