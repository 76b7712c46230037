"""Which variant is best at each depth, and how probable it is that each is.

Who chooses by the test set has no honest number left to report. So ranks are by the log-likelihood of the validation
set where all that is compared has one, and by that of the test set elsewhere.

With n finished seeds of mean y and standard error s, the expected log-likelihood mu of a variant has, under a normal
model with the prior 1/sigma^2, the posterior mu = y + s t, where t is Student's with n - 1 degrees of freedom (Box &
Tiao, 1973). Variants are taken as independent, each with its own spread, so that seeds that only some of them have
finished count too:

    P(v is best) = integral of f_v(x) prod_{u != v} F_u(x) dx = integral_0^1 prod_{u != v} F_u(F_v^-1(p)) dp.

With few seeds these posteriors have heavy tails, as they should. A variant with a single finished seed has no
posterior: then no variant at that depth gets a probability. Only finished members count, so a variant of which members
diverge is ranked by those that do not.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.caveats import best_by
from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.statistics.over_seeds import cells

POINTS = 20_000
"""Points of the midpoint rule for the integral over p."""


def ranks(frames: Frames) -> pd.DataFrame:
    """Every cell with its rank among the variants at its depth, by validation log-likelihood where all members that are
    compared have a validation set, else by test log-likelihood; by bits per dimension, of which less is better, where
    they are models of different x.

    Args:
        frames: a grid, or any part of it. Axes that are factors of the paper make variants, as for
            `analysis.statistics.paired_effects`.

    Returns:
        The columns of `cells`, of that quantity, with `quantity` (its column in `frames.members`), `rank` (1 is the
        best mean; NaN without a finished member) and `p_best` (the probability of being the best; NaN where there is
        no posterior, or only one variant with a finished member).

    """
    frames = frames.as_variants(FACTORS)
    keys = ["dataset", *frames.factors, "depth"]
    parts = []
    for _, members in frames.planned.members.groupby(keys, sort=False, dropna=False):
        known = members["validation"].dropna()
        has_validation = len(known) > 0 and bool((known > 0).all())
        quantity, sign = best_by(members, "validation_log_likelihood" if has_validation else "test_log_likelihood")
        own = cells(members, [*keys, "variant"], quantity).assign(quantity=quantity)
        ranked = own.assign(rank=(-sign * own["mean"]).rank(method="min"), p_best=np.nan)
        finished = ranked[ranked["n"] > 0]
        if len(finished) > 1 and (finished["df"] > 0).all():
            posteriors = sign * finished["mean"], finished["se"], finished["df"] + 1
            ranked.loc[finished.index, "p_best"] = probability_best(*posteriors)
        parts.append(ranked)
    return pd.concat(parts, ignore_index=True)


def probability_best(means: Iterable[float], ses: Iterable[float], ns: Iterable[int]) -> NDArray[Any]:
    """The probability of each of V variants that its expectation is the greatest.

    Args:
        means: mean of each variant over its replicates [V].
        ses: standard error of each mean [V].
        ns: number of replicates that each standard error was estimated from, at least 2 [V].

    Returns:
        Probabilities [V]; they add up to 1.

    Examples:
        >>> probability_best([-81.0, -82.0], [0.1, 0.1], [3, 3]).round(2).tolist()
        [0.99, 0.01]

    """
    levels = (np.arange(POINTS) + 0.5) / POINTS
    variants = list(zip(means, ses, ns, strict=True))
    probabilities = np.empty(len(variants))
    for place, (mean, se, n) in enumerate(variants):
        x = mean + se * stats.t.ppf(levels, n - 1)
        others = (_probability_below(x, *other) for index, other in enumerate(variants) if index != place)
        probabilities[place] = np.mean(np.prod([np.ones(POINTS), *others], axis=0))
    # The integrals add up to 1 but for the error of the midpoint rule.
    return probabilities / probabilities.sum()


def _probability_below(x: NDArray[Any], mean: float, se: float, n: int) -> NDArray[Any]:
    """P(mu < x), pointwise; where the posterior is a single value, an equal x counts half."""
    if se == 0:
        return np.heaviside(x - mean, 0.5)
    return np.asarray(stats.t.cdf((x - mean) / se, n - 1))
