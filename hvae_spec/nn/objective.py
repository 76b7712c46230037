"""The training bound (Eqs. 10-12 and 22) and what is added to it: pure functions of a trace. All in nats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import torch
from torch import Tensor

from hvae_spec.nn.bounds import bound
from hvae_spec.nn.estimators import ESTIMATORS
from hvae_spec.nn.hierarchy import Hierarchy, Trace
from hvae_spec.nn.marginal import Marginal, mean_log_classes
from hvae_spec.registry import Registry

Term = Callable[[Trace, Tensor | float], Tensor]
"""A term of the log weight: of a trace and the weight beta of the KL part, in a shape that broadcasts to [M, S, B]."""
TERMS: Registry[Term] = Registry("term of the objective in torch")
ADDED_TERMS: Registry[Callable[..., Tensor]] = Registry("added term in torch")
"""Functions of a trace, and of settings where they have any, that give what is added to log w in training."""


@TERMS.register("likelihood")
def likelihood(trace: Trace, beta: Tensor | float) -> Tensor:
    """log p(x|z_1)."""
    return trace.log_likelihood


@TERMS.register("prior")
def prior(trace: Trace, beta: Tensor | float) -> Tensor:
    """beta sum_i [log p(z_i|z_{i+1}) - log q(z_i|...)]: minus an estimate of beta times the KL. With a weight per
    layer, sum_i beta_i [...]. The log ratio of an auxiliary variable a has the weight of the latents', as the sum is
    of the one KL(q(a, z|x) || p(z) r(a|x, z)): with a weight for each layer there is none for a.
    """
    ratios = torch.stack([layer.sum(1) for layer in trace.log_ratios])  # [L, M, S, B]
    if isinstance(beta, Tensor) and beta.dim() == 2:
        if trace.auxiliary is not None:
            raise ValueError("a weight for each layer says none for an auxiliary variable")
        return (beta.T[:, :, None, None] * ratios).sum(0)
    ratio = ratios.sum(0)
    if trace.auxiliary is not None:
        ratio = ratio + trace.auxiliary
    if isinstance(beta, Tensor):
        beta = beta[:, None, None]
    return beta * ratio


def log_weight(trace: Trace, beta: Tensor | float = 1.0, terms: Sequence[Term] = (likelihood, prior)) -> Tensor:
    """log w = log p(x|z_1) + beta sum_i [log p(z_i|z_{i+1}) - log q(z_i|...)], [M, S, B].

    Args:
        trace: S samples per image.
        beta: weight of the KL part, one for all, one per member, [M], or one per member and layer, [M, L].
        terms: what is summed up.

    """
    return reduce(add, (term(trace, beta) for term in terms))


def missing_kl(trace: Trace, beta: Tensor, nats: Tensor, per: str) -> Tensor:
    """What free bits (Kingma et al., 2016) take from the bound: sum_j beta max(0, nats - KL_j), [M], KL_j being the
    mean over images and samples of unit or layer j. The bound less this is log p(x|z_1) - beta sum_j max(nats, KL_j).

    Args:
        trace: S samples per image.
        beta: weight of the KL part, [M] or [M, L].
        nats: the floor, [M].
        per: `unit` or `layer`.

    """
    missing = torch.stack([_below(-layer.mean((2, 3)), nats, per) for layer in trace.log_ratios], dim=1)  # [M, L]
    return (missing * beta if beta.dim() == 2 else missing * beta[:, None]).sum(1)


def _below(kl: Tensor, nats: Tensor, per: str) -> Tensor:
    """By how much the KL of a layer's units [M, U], or of the layer as a whole, is below the floor, [M]."""
    kl = kl if per == "unit" else kl.sum(1, keepdim=True)
    return (nats[:, None] - kl).clamp(min=0).sum(1)


@dataclass(frozen=True)
class Objective:
    """What the members of a pack maximize."""

    terms: Sequence[Term]
    """What log w sums up."""
    estimator: str = "reparameterized"
    """Of the gradient, a name of `hvae_spec.nn.estimators.ESTIMATORS`."""
    elbo_share: Tensor | None = None
    """CIWAE (Rainforth et al., 2018): the share of the ELBO in the bound, [M]. None: no member has any."""
    free_bits: Tensor | None = None
    """The floor of every KL, [M]. None: no member has one."""
    free_bits_per: str = "unit"
    """What has a floor of its own, a unit or a layer."""
    marginal: Marginal | None = None
    """How classes add up, where the model has them."""

    def __call__(
        self,
        model: Hierarchy,
        x: Tensor,
        noise: Sequence[Tensor],
        beta: Tensor,
        iw_samples: int,
        labels: Tensor | None = None,
    ) -> tuple[Trace, Tensor]:
        """The trace of a batch, and every member's objective, averaged over the batch, [M].

        Args:
            model: a pack.
            x: [M, B, D].
            noise: [M, U_i, S, B] for each of the model's `noise_units`; with classes, S is a multiple of C as well.
            beta: weight of the KL part, [M] or [M, L].
            iw_samples: K, of which S is a multiple.
            labels: the classes of the last images, [M, labeled]; None: no image has one.

        """
        weigh = partial(log_weight, beta=beta, terms=self.terms)
        if self.marginal is not None:
            trace = model(x, noise)
            value = self.bound(trace, weigh(trace), beta, iw_samples, labels, self.elbo_share)
            if labels is not None:
                value = value + self.marginal.classification * mean_log_classes(_log_classes(trace), labels)
            return trace, value
        trace, log_w, value = ESTIMATORS[self.estimator](model, x, noise, weigh, beta, iw_samples)
        value = value.mean(1)
        if self.elbo_share is not None:
            value = torch.lerp(value, log_w.mean((1, 2)), self.elbo_share)
        if self.free_bits is not None:
            value = value - missing_kl(trace, beta, self.free_bits, self.free_bits_per)
        return trace, value

    def bound(
        self,
        trace: Trace,
        log_w: Tensor,
        beta: Tensor | float,
        iw_samples: int,
        labels: Tensor | None = None,
        elbo_share: Tensor | None = None,
    ) -> Tensor:
        """The mean of `bounds` over the images, [M], as they count in the objective."""
        values = self.bounds(trace, log_w, beta, iw_samples, labels, elbo_share)
        return values.mean(1) if self.marginal is None else self.marginal.over_images(values, labels)

    def bounds(
        self,
        trace: Trace,
        log_w: Tensor,
        beta: Tensor | float,
        iw_samples: int,
        labels: Tensor | None = None,
        elbo_share: Tensor | None = None,
    ) -> Tensor:
        """The bound of every image of a trace by its log weights [M, S, B], [M, B]. With classes, these are given y,
        this is the marginal over y, of whose KL the weight is that of z_L, and `elbo_share` is that of the ELBO in the
        bound of every class.
        """
        if self.marginal is None:
            return bound(log_w, iw_samples)
        log_q = _log_classes(trace)
        by_class = by_classes(log_w, log_q.shape[1])
        members, classes, _, images = by_class.shape
        value = bound(by_class.flatten(0, 1), iw_samples).view(members, classes, images)
        if elbo_share is not None:
            value = torch.lerp(value, by_class.mean(2), elbo_share[:, None, None])
        of_top = beta[:, -1] if isinstance(beta, Tensor) and beta.dim() == 2 else beta
        return self.marginal.bounds(value, log_q, of_top, labels)

    def average(self, values: Tensor, trace: Trace, labels: Tensor | None) -> Tensor:
        """The mean over samples and images of what a trace's samples have, [M, S, B] -> [M]; with classes, each by what
        it counts in the bound.
        """
        if self.marginal is None:
            return values.mean((1, 2))
        log_q = _log_classes(trace)
        weights = self.marginal.weights(log_q, labels).unsqueeze(2)
        return self.marginal.over_images((weights * by_classes(values, log_q.shape[1])).sum(1), labels)


def by_classes(values: Tensor, classes: int) -> Tensor:
    """What the samples of a pass with C copies of each have, [M, C S, B], by class: [M, C, S, B]."""
    return values.unflatten(1, (classes, -1))


def _log_classes(trace: Trace) -> Tensor:
    if trace.log_classes is None:
        raise ValueError("a trace without classes has no marginal over them")
    return trace.log_classes
