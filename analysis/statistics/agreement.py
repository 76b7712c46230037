"""Whether ours agree with a published value: the difference, its 95% interval, and a verdict.

Ours is the mean over n seeds, measured on one binarization of N test images that all seeds share. With s the standard
deviation over seeds and v the variance of an image's bound over draws of its zeros and ones, both estimated, the
interval is the difference +- h with

    h^2 = (t_{n-1} s)^2 / n + (t_f)^2 v / N,    f = 2 (v / se_v)^2,

where t_f is Student's 97.5% quantile with f degrees of freedom, and f those of a variance with this standard error. The
first part shrinks with n, the second does not. The Monte Carlo error of the bound is in the first: every seed has draws
of its own, so that s holds it, and adding it again would count it twice.

Adding the squared half-widths covers the truth in 95% of all cases where either part is negligible, and in somewhat
more where both count (simulated: at most 98.8% with two seeds, 97.7% with three, 96.8% with five). A common Student's t
with Welch's and Satterthwaite's degrees of freedom covers too little with few seeds: 87% with two, 92% with three.

The published value is taken as it is: it is one run, whose spread over seeds is not known.
"""

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hvae_spec.spec.fields import Hindrance

CONFIDENCE = 0.95
"""Of the intervals of differences."""
COUNT_ERROR = math.sqrt(1 / 12)
"""The least standard deviation over seeds that a count of units is taken to have: that of rounding to whole numbers.
Counts that are alike do not show that the spread is zero."""
AGREES, DIFFERS, UNDECIDED = "agrees", "differs", "undecided"
NONE_FINISHED, ONE_SEED = "none finished", "one seed"


def difference_half_width(
    se: ArrayLike, freedom: int, shared_se: ArrayLike = 0.0, shared_freedom: ArrayLike = math.inf
) -> NDArray[np.float64]:
    """Half the width of the interval of a difference from a published value.

    Args:
        se: standard error over seeds, s / sqrt(n).
        freedom: the degrees of freedom of s: n - 1, or one less than the seeds of a first stage.
        shared_se: standard error of what all seeds share, sqrt(v / N).
        shared_freedom: its degrees of freedom, f.

    Returns:
        h; NaN without degrees of freedom, as a single seed shows no spread.

    Examples:
        >>> float(difference_half_width(0.1, 2).round(3)), float(difference_half_width(0.1, 2, 0.05).round(3))
        (0.43, 0.441)

    """
    quantile = (1 + CONFIDENCE) / 2
    seeds = stats.t.ppf(quantile, freedom) * np.asarray(se, dtype=float) if freedom else np.full(np.shape(se), np.nan)
    finite = np.minimum(np.asarray(shared_freedom, dtype=float), 1e9)
    shared = stats.t.ppf(quantile, finite) * np.asarray(shared_se, dtype=float)
    return np.asarray(np.hypot(seeds, shared))


def binarization_error(members: pd.DataFrame) -> tuple[float, float]:
    """Standard error of the mean test log-likelihood of one cell for the one binarization of the test set, and its
    degrees of freedom.

        sqrt(v / N),    f = 2 (v / se_v)^2

    v is the mean over seeds of `test_log_likelihood_redraw_variance`, and so is se_v of its standard errors: all seeds
    are measured on the same draws, so that neither gets surer with more of them.

    Args:
        members: rows of `Frames.members`.

    Returns:
        NaN twice where no finished member has it measured; 0 and infinity where v is 0.

    """
    finished = members[members["status"] == "finished"]
    known = finished[finished["test_log_likelihood_redraw_variance"].notna()]
    if known.empty:
        return math.nan, math.nan
    variance = float(known["test_log_likelihood_redraw_variance"].mean())
    error = float(known["test_log_likelihood_redraw_variance_se"].mean())
    # Of a single image, of which the error of v is not known, one degree of freedom is what there is at the least.
    freedom = 1.0 if math.isnan(error) else 2 * (variance / error) ** 2 if error else math.inf
    return math.sqrt(variance / float(known["test_images"].min())), freedom


def verdict(difference: float, half: float, tolerance: float, n: int, hindrances: Sequence[Hindrance] = ()) -> str:
    """What is said of a difference.

    Args:
        difference: ours less the published value.
        half: half the width of its interval.
        tolerance: how far ours may be from it.
        n: finished seeds.
        hindrances: what of ours is another one than the published number's.

    Returns:
        `agrees` if the whole interval lies within the tolerance, `differs` if it lies wholly outside, else `undecided`;
        or what hinders a verdict: `other data and budget`, `one seed`, `none finished`.

    Examples:
        >>> [verdict(difference, 0.15, 0.3, n=3) for difference in (0.1, -0.6, 0.4)]
        ['agrees', 'differs', 'undecided']
        >>> verdict(0.1, float("nan"), 0.3, n=1, hindrances=["budget", "data"])
        'other data and budget, one seed'

    """
    hindered = hindrance_in_words(hindrances, n)
    if hindered:
        return hindered
    if abs(difference) + half <= tolerance:
        return AGREES
    return DIFFERS if abs(difference) - half > tolerance else UNDECIDED


def verdict_on_layers(as_claimed: int, n: int, hindrances: Sequence[Hindrance] = ()) -> str:
    """What is said of the claim which layers have no active unit.

    Args:
        as_claimed: finished seeds in which just the claimed layers have none.
        n: finished seeds.
        hindrances: as for `verdict`.

    Returns:
        `agrees` if it holds in every seed, `differs` if in none, else `undecided`; or what hinders a verdict.

    """
    hindered = hindrance_in_words(hindrances, n)
    return hindered or (AGREES if as_claimed == n else UNDECIDED if as_claimed else DIFFERS)


def hindrance_in_words(hindrances: Sequence[Hindrance], n: int) -> str:
    """What hinders a verdict on n finished seeds; empty if nothing does."""
    if not n:
        return NONE_FINISHED
    *first, last = [kind for kind in get_args(Hindrance) if kind in hindrances] or [""]
    other = f"other {', '.join(first)} and {last}" if first else f"other {last}" * bool(last)
    return ", ".join(filter(None, (other, ONE_SEED * (n == 1))))
