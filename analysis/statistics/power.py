"""How small an effect the seeds of a grid can show: the power of the paired t test.

With n pairs whose differences have the standard deviation sigma and the mean delta, t = mean / se is distributed as

    (Z + delta sqrt(n) / sigma) / U,    Z standard normal,    U^2 chi-square with n - 1 degrees of freedom, by these,

which is the noncentral t distribution. The test at the level alpha finds the effect if |t| > c, the 1 - alpha / 2 point
of Student's t, so that its power is

    E[Phi(delta sqrt(n) / sigma - c U) + Phi(-delta sqrt(n) / sigma - c U)],

the expectation over U. The smallest detectable effect is the delta with which that is 80%. Holm's correction over m
effects compares the smallest p value with alpha / m, and the others with more: with c of alpha / m, the power is 80% at
least, whatever the other effects are.
"""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.statistics.effects import CONFIDENCE, paired_effects

POWER = 0.8
"""With what probability a detectable effect is found."""
POINTS = 20_000
"""Points of the midpoint rule for the expectation over U. (SciPy's noncentral t, `scipy.stats.nct`, is NaN at some
values with few degrees of freedom.)"""


def power_of(effect: float, df: int, tests: int = 1) -> float:
    """The probability that a two-sided paired t test at 5% finds an effect.

    Args:
        effect: its size, in standard errors: delta sqrt(n) / sigma.
        df: degrees of freedom of the standard error.
        tests: effects that Holm's correction is made for.

    Examples:
        >>> round(power_of(0.0, df=2), 3), round(power_of(3.1496, df=9), 3)
        (0.05, 0.8)

    """
    threshold = stats.t.isf((1 - CONFIDENCE) / tests / 2, df) * _scaled_chi(df)
    return float(np.mean(stats.norm.cdf(effect - threshold) + stats.norm.cdf(-effect - threshold)))


@cache
def detectable(n: int, tests: int = 1, df: int | None = None) -> float:
    """The smallest effect that is found with a probability of 80%, in standard deviations of the paired differences.

    Args:
        n: number of pairs.
        tests: effects that Holm's correction is made for.
        df: degrees of freedom of the standard deviation, where they are not n - 1.

    Returns:
        delta / sigma; infinite without a degree of freedom.

    Examples:
        >>> [round(detectable(n), 2) for n in (2, 3, 5, 10)]
        [11.55, 3.26, 1.68, 1.0]

    """
    df = n - 1 if df is None else df
    if df < 1:
        return np.inf
    largest = 10 + 2 * float(stats.t.isf((1 - CONFIDENCE) / tests / 2, df))
    in_errors = optimize.brentq(lambda effect: power_of(effect, df, tests) - POWER, 0, largest)
    return float(in_errors / np.sqrt(n))


def detectable_effects(frames: Frames, quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """The smallest detectable effect for every effect of a grid, by the measured spread of its pairs.

    Args:
        frames: a grid, or any part of it.
        quantity: a column of `Frames.members`.

    Returns:
        The columns of `paired_effects` with `tests` (effects that are tested on the same data set at the same place on
        the further axes, over which Holm's correction is), `detectable` and `detectable_holm` (without and with it, in
        the units of the quantity). NaN where the spread is not known, or zero.

    """
    table = paired_effects(frames, quantity)
    keys = ["dataset", *(column for column, path in frames.axes.items() if path not in FACTORS)]
    table["tests"] = table.groupby(keys, sort=False, dropna=False)["p"].transform("count").astype(int)
    alone = [_detectable(row, 1) for row in table.to_dict("records")]
    corrected = [_detectable(row, row["tests"]) for row in table.to_dict("records")]
    return table.assign(detectable=np.array(alone, dtype=float), detectable_holm=np.array(corrected, dtype=float))


def _detectable(row: dict[Any, Any], tests: int) -> float:
    """The smallest detectable effect of one row of `paired_effects`."""
    if not row["sd"] > 0:
        return np.nan
    return float(row["sd"]) * detectable(int(row["n"]), tests, int(row["df"]))


@cache
def _scaled_chi(df: int) -> NDArray[Any]:
    """U at equally probable points."""
    levels = (np.arange(POINTS) + 0.5) / POINTS
    return np.asarray(stats.chi.ppf(levels, df) / np.sqrt(df))
