"""The training bound (Eqs. 10-12 and 22): pure functions of a trace. All in nats."""

import math

import torch
from torch import Tensor

from hvae_spec.nn.hierarchy import Trace


def log_weight(trace: Trace, beta: Tensor | float = 1.0) -> Tensor:
    """log w = log p(x|z_1) + beta sum_i [log p(z_i|z_{i+1}) - log q(z_i|...)], [M, S, B].

    Args:
        trace: S samples an image.
        beta: warm-up weight, one for all or one a member, [M].

    """
    ratio = torch.stack([layer.sum(1) for layer in trace.log_ratios]).sum(0)
    if isinstance(beta, Tensor):
        beta = beta[:, None, None]
    return trace.log_likelihood + beta * ratio


def bound(log_w: Tensor, iw_samples: int = 1) -> Tensor:
    """The importance-weighted bound per image: the mean over Monte Carlo samples of log (1/K) sum_k w_k.

    Args:
        log_w: [M, S, B] with S = (Monte Carlo samples) * K.
        iw_samples: K. With K = 1 this is the ELBO.

    Returns: [M, B].

    """
    weights = log_w.unflatten(1, (-1, iw_samples))
    return (weights.logsumexp(dim=2) - math.log(iw_samples)).mean(dim=1)
