"""Estimators of the gradient of the training bound, all of one value: that of `hvae_spec.nn.bounds.bound`.

The gradient by the parameters phi of q(z|x) has two parts: one along the samples z(phi, eps), and the score, that of
log q by phi with the samples held constant. The score's expectation is zero for the ELBO, but not its variance, even
where q is the exact posterior: `path` leaves it out. For K importance samples its expectation is not zero, and
`doubly_reparameterized` turns it into a gradient along the samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hvae_spec.nn.bounds import bound
from hvae_spec.nn.distribution import Distribution, log_density_ratio
from hvae_spec.nn.flow import Flowed, Posterior
from hvae_spec.nn.gaussian import DiagonalGaussian
from hvae_spec.nn.hierarchy import Hierarchy, Trace, units_first
from hvae_spec.nn.inference import Draw
from hvae_spec.registry import Registry

Weigh = Callable[[Trace], Tensor]
"""The log weights [M, S, B] of a trace."""
Estimate = tuple[Trace, Tensor, Tensor]
"""The trace, its log weights [M, S, B], and the bound per image [M, B], whose gradient is the estimate."""
ESTIMATORS: Registry[Callable[[Hierarchy, Tensor, Sequence[Tensor], Weigh, Tensor, int], Estimate]] = Registry(
    "estimator of the gradient in torch"
)
"""Functions of a pack, x [M, B, D], noise [M, U_i, S, B] for each layer, what weighs a trace, the weight beta of the KL
part, [M] or [M, L], and K."""


@ESTIMATORS.register("reparameterized")
def reparameterized(
    model: Hierarchy, x: Tensor, noise: Sequence[Tensor], weigh: Weigh, beta: Tensor, iw_samples: int
) -> Estimate:
    """The whole gradient (Kingma & Welling, 2014; Burda et al., 2016)."""
    trace = model(x, noise)
    log_w = weigh(trace)
    return trace, log_w, bound(log_w, iw_samples)


@ESTIMATORS.register("stl")
def path(model: Hierarchy, x: Tensor, noise: Sequence[Tensor], weigh: Weigh, beta: Tensor, iw_samples: int) -> Estimate:
    """Sticking the landing (Roeder et al., 2017): the gradient of the ELBO without the score of q."""
    encoding, top, draws = _encode_and_draw(model, x, noise)
    trace = _trace(model, x, encoding, top, draws)
    log_w = weigh(trace)
    return trace, log_w, bound(log_w, iw_samples)


@ESTIMATORS.register("dreg")
def doubly_reparameterized(
    model: Hierarchy, x: Tensor, noise: Sequence[Tensor], weigh: Weigh, beta: Tensor, iw_samples: int
) -> Estimate:
    """The doubly reparameterized gradient (DReG; Tucker et al., 2019), with a weight beta of the KL part.

    With normalized weights w_k, the parameters of p get sum_k w_k dlog w_k/dtheta, and those of q
    sum_k [(1 - beta) w_k + beta w_k^2] dlog w_k/dz_k dz_k/dphi. The score's part of the latter: its expectation
    -beta E[w_k dlog q(z_k)/dphi] is -beta E[(w_k - w_k^2) dlog w_k/dz_k dz_k/dphi], as w_k is a function of z_k.
    """
    encoding, top, draws = _encode_and_draw(model, x, noise)
    latents, handles = zip(*(_Reweighted.apply(draw.z) for draw in draws), strict=True)
    draws = [replace(draw, z=z, prior=None) for draw, z in zip(draws, latents, strict=True)]
    trace = _trace(model, x, encoding, top, draws)
    log_w = weigh(trace)
    groups = log_w.detach().unflatten(1, (-1, iw_samples))
    weights = groups.softmax(dim=2)
    along = 1 - beta[:, None, None, None] * (1 - weights)  # what q's gradient has beyond a factor of w_k
    value = (weights * log_w.unflatten(1, (-1, iw_samples))).sum(2).mean(1)
    factors = torch.stack([along, torch.ones_like(along)]).flatten(2, 3)
    value = value + sum(((handle * factors).sum((0, 2)) for handle in handles), torch.zeros(()))
    return trace, log_w, value + (bound(log_w, iw_samples) - value).detach()


class _Reweighted(torch.autograd.Function):
    """z [M, U, S, B] as it is, whose gradient is multiplied by factors [M, S, B] that are known only after z was used.

    They come as a gradient, too, that of a second output, zeros of [2, M, S, B]: its first half is the factors times
    what the gradient of z's image has been multiplied by on its way here, and its second half that multiplier alone.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        members, _, samples, images = z.shape
        return z.view_as(z), z.new_zeros(2, members, samples, images)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        of_z, (factors, multiplier) = gradients
        # An image that counts nothing has a multiplier of 0, and a gradient of 0 with it.
        factors = torch.where(multiplier == 0, 0, factors / multiplier)
        reweighted: Tensor = of_z * factors.unsqueeze(1)
        return reweighted


def _encode_and_draw(
    model: Hierarchy, x: Tensor, noise: Sequence[Tensor]
) -> tuple[list[Posterior], Distribution, list[Draw]]:
    if model.auxiliary is not None:
        raise TypeError("the score of log q is left out of the latents alone, and an auxiliary variable has one too")
    encoding, top = model.encode(units_first(x))
    return encoding, top, model.inference.sample(encoding, noise)


def _trace(
    model: Hierarchy, x: Tensor, encoding: Sequence[Posterior], top: Distribution, draws: Sequence[Draw]
) -> Trace:
    """The trace of drawn samples in which log q is a function of the samples alone: its weights are constants, and the
    samples are not, also where those of one layer decide the parameters of the next.
    """
    constant = {name: parameter.detach() for name, parameter in model.inference.named_parameters()}
    known: list[Posterior] = []
    for each in encoding:
        if isinstance(each, Flowed):
            raise TypeError("log q with constant weights would take the inverse of a flow")
        known.append(DiagonalGaussian(each.mean.detach(), each.variance.detach()))
    latents = [draw.z for draw in draws]
    posteriors = torch.func.functional_call(model.inference, constant, (known, latents))
    ratios = [
        log_density_ratio(model.generative.prior(layer, draws, top).log_prob(z), q.log_prob(z))
        for layer, (z, q) in enumerate(zip(latents, posteriors, strict=True))
    ]
    log_likelihood = model.generative.likelihood(model.generative.seen(latents), units_first(x))
    return Trace(log_likelihood, ratios, latents)
