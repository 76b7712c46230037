"""The training bound (Eqs. 10-12 and 22): pure functions of a trace. All in nats."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from hvae_spec.nn.hierarchy import Trace
from hvae_spec.registry import Registry

Term = Callable[[Trace, Tensor | float], Tensor]
"""A term of the log weight: of a trace and the warm-up weight beta, in a shape that broadcasts to [M, S, B]."""
TERMS: Registry[Callable[..., Tensor]] = Registry("term of the objective in torch")
"""Terms, as functions also of the argument that their description names."""


@TERMS.register("likelihood")
def likelihood(trace: Trace, beta: Tensor | float) -> Tensor:
    """log p(x|z_1)."""
    return trace.log_likelihood


@TERMS.register("prior")
def prior(trace: Trace, beta: Tensor | float) -> Tensor:
    """beta sum_i [log p(z_i|z_{i+1}) - log q(z_i|...)]: minus an estimate of beta times the KL."""
    ratio = torch.stack([layer.sum(1) for layer in trace.log_ratios]).sum(0)
    if isinstance(beta, Tensor):
        beta = beta[:, None, None]
    return beta * ratio


def log_weight(trace: Trace, beta: Tensor | float = 1.0, terms: Sequence[Term] = (likelihood, prior)) -> Tensor:
    """log w = log p(x|z_1) + beta sum_i [log p(z_i|z_{i+1}) - log q(z_i|...)], [M, S, B].

    Args:
        trace: S samples per image.
        beta: warm-up weight, one for all or one per member, [M].
        terms: what is summed up.

    """
    return reduce(add, (term(trace, beta) for term in terms))


def bound(log_w: Tensor, iw_samples: int = 1) -> Tensor:
    """The importance-weighted bound per image: the mean over Monte Carlo samples of log (1/K) sum_k w_k.

    Args:
        log_w: [M, S, B] with S = (Monte Carlo samples) * K.
        iw_samples: K. With K = 1 this is the ELBO.

    Returns: [M, B].

    """
    weights = log_w.unflatten(1, (-1, iw_samples))
    return (weights.logsumexp(dim=2) - math.log(iw_samples)).mean(dim=1)
