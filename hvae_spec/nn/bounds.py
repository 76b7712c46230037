"""The importance-weighted bound of log weights (Eqs. 10-12): with fewer samples, and how uncertain. In nats."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

FEWER_SAMPLES = (1, 5, 10, 50, 100, 500, 1000, 5000)
"""Numbers of samples K' for which the bound is given besides K. Each divides the next."""


def bound(log_w: Tensor, iw_samples: int = 1) -> Tensor:
    """The importance-weighted bound per image: the mean over Monte Carlo samples of log (1/K) sum_k w_k.

    Args:
        log_w: [M, S, B] with S = (Monte Carlo samples) * K.
        iw_samples: K. With K = 1 this is the ELBO.

    Returns: [M, B].

    """
    if iw_samples == 1:  # the logarithm of one weight
        return log_w.mean(dim=1)
    weights = log_w.unflatten(1, (-1, iw_samples))
    return (weights.logsumexp(dim=2) - math.log(iw_samples)).mean(dim=1)


def nested_bounds(log_w: Tensor, points: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The importance-weighted bound with fewer samples, for the first few K' of `FEWER_SAMPLES`.

    The samples fall into S // K' groups one after another, the first K' and so on. Each group gives an independent
    estimate log (1/K') sum_k w_k, and all of them together a mean with far less noise than the first alone. The same
    samples serve every K', so that (Jensen) the means rise with K' wherever K' divides S.

    Args:
        log_w: log weights [S, B].
        points: how many K', the last at most S.

    Yields: the mean over groups and its variance, [B] each. With one group it is the jackknife's.

    """
    groups, size = log_w.double(), 1
    for samples in FEWER_SAMPLES[:points]:
        ratio, size = samples // size, samples
        if ratio > 1:
            whole = groups[: len(groups) // ratio * ratio]
            groups = whole.unflatten(0, (-1, ratio)).logsumexp(1) - math.log(ratio)
        count = len(groups)
        variance = groups.var(0) / count if count > 1 else jackknife_variance(log_w[:samples].double())
        yield groups.mean(0), variance


def jackknife_variance(log_w: Tensor) -> Tensor:
    """Variance of the bound log (1/K) sum_k w_k of each image, by the jackknife: how much the bounds without one of the
    samples scatter, sum_k (L_-k - mean_k L_-k)^2.

    Its expectation is never below the variance of the bound with K - 1 samples (Efron & Stein, 1981), whatever the
    weights. Where no weight stands out it is that of the delta method, 1/ESS - 1/K. Where one weight makes up nearly
    all of the sum, which the delta method takes for certainty, it is about the squared gap to the next.

    Args:
        log_w: log weights [K, B] of two samples or more.

    """
    total = log_w.logsumexp(0)
    without = torch.log1p(-(log_w - total).exp())
    # Without the largest weight, its share of the sum may round to 1: here what is left is summed up.
    largest = log_w.argmax(0, keepdim=True)
    left = log_w.scatter(0, largest, -math.inf).logsumexp(0, keepdim=True) - total
    without = without.scatter(0, largest, left)
    return (without - without.mean(0)).square().sum(0)
