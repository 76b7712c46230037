"""Contrasts: sums of differences between cells, so that the weights of the cells sum to zero, tested over seeds.

A contrast is taken at each of its places p, as a difference of two cells, or a difference of differences, and averaged
over the places:

    d_s = (1/P) sum_p sum_c w_pc y_cs,    sum_c w_pc = 0.

Each seed s gives one number, whatever the number of places: what the members of a seed have in common makes their
differences alike, so that these are no replicates of one another. With n seeds,

    mean = (1/n) sum_s d_s,   se^2 = sum_s (d_s - mean)^2 / (n (n - 1)),   mean / se ~ t with n - 1 degrees of freedom,

if the contrast is zero. Where seeds come in two stages, se and the degrees of freedom are those of
`analysis.statistics.two_stages`. A place at which a seed's member has diverged, failed or not finished, while another
place has that seed, leaves the average for all seeds: else seeds would be compared that average over different places.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.caveats import canonical

CONFIDENCE = 0.95
"""Of the intervals of effects."""
Difference = tuple[int, int, int]
"""Indices of two cells, and a sign: the second cell less the first, times the sign."""


class Outcomes:
    """What became of the members of some cells.

    Args:
        cells: the rows of `Frames.members` of each cell.
        quantity: the column that contrasts are of.

    """

    def __init__(self, cells: Sequence[pd.DataFrame], quantity: str) -> None:
        seeds = list(dict.fromkeys(seed for members in cells for seed in members["seed"]))
        place = {seed: index for index, seed in enumerate(seeds)}
        shape = len(cells), len(seeds)
        self.values = np.full(shape, np.nan)
        """Of finished members [cells, seeds]; NaN of all others."""
        self.planned, self.diverged = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        self.unmeasured = np.zeros(shape, dtype=bool)
        """Of members that are finished and do not have the quantity."""
        self.is_first = np.ones(len(seeds), dtype=bool)
        """Whether a seed is of the first stage."""
        self.canonical = [canonical(members["data_canonical"]) for members in cells]
        for index, members in enumerate(cells):
            at = [place[seed] for seed in members["seed"]]
            status = members["status"].astype(str).to_numpy()
            self.planned[index, at] = True
            self.diverged[index, at] = status == "diverged"
            numbers = members[quantity].to_numpy(dtype=float)
            self.unmeasured[index, at] = (status == "finished") & np.isnan(numbers)
            self.values[index, at] = np.where(status == "finished", numbers, np.nan)
            self.is_first[at] = members["stage"].to_numpy() == 1

    def contrast(self, places: Sequence[Sequence[Difference]]) -> dict[str, Any]:
        """The statistics of a contrast.

        Args:
            places: the differences that it is the sum of at each place: one of a simple effect, two of an interaction.

        Returns:
            `mean`, `se`, `low` and `high` (95% confidence), `p`, `sd` (of the seeds' numbers) and its degrees of
            freedom `df`; `n` (seeds), `planned` (seeds that all places have), `places` (their number in the average),
            `left_out` (the indices of places that are not in it); `unmeasured` (pairs of members of which one is
            finished and does not have the quantity), `diverged` (pairs of members of which one has
            diverged), and of how many members of the first cells and of the second ones (`diverged_reference`,
            `diverged_level`); and `data_canonical`. NaN where there are too few seeds.

        """
        pairs = [(first, second) for place in places for first, second, _ in place]
        planned = np.all([self.planned[[*pair]].all(axis=0) for pair in pairs], axis=0)
        values = np.array([self._at(place) for place in places])
        complete = ~np.isnan(values) & planned
        seeds = complete.any(axis=0)
        kept = complete[:, seeds].all(axis=1) & seeds.any()
        numbers = values[kept][:, seeds].mean(axis=0) if kept.any() else np.empty(0)
        first = numbers[self.is_first[seeds]] if kept.any() else numbers
        known = [self.canonical[cell] for pair in pairs for cell in pair]
        return {
            **paired_t(numbers, first),
            "n": len(numbers),
            "planned": int(planned.sum()),
            "places": int(kept.sum()),
            "left_out": np.flatnonzero(~kept).tolist(),
            "unmeasured": sum(int((self.unmeasured[[*pair]].any(axis=0) & planned).sum()) for pair in pairs),
            "diverged": sum(int((self.diverged[[*pair]].any(axis=0) & planned).sum()) for pair in pairs),
            "diverged_reference": sum(int((self.diverged[first] & planned).sum()) for first, _ in pairs),
            "diverged_level": sum(int((self.diverged[second] & planned).sum()) for _, second in pairs),
            "data_canonical": canonical(pd.Series(known, dtype=object)),
        }

    def _at(self, place: Sequence[Difference]) -> NDArray[Any]:
        """The contrast at one place, by seed."""
        return np.sum([sign * (self.values[second] - self.values[first]) for first, second, sign in place], axis=0)


def paired_t(differences: NDArray[Any], first: NDArray[Any]) -> dict[str, float]:
    """`mean`, `se`, `low`, `high`, `p`, `sd` and `df` of a paired t test; NaN where there are too few differences.

    Numbers that are all alike, as counts of units may be, have no interval and no p value: they do not show that the
    spread is zero.

    Args:
        differences: all of them [n].
        first: those of the first stage, which alone give the spread; where there is one stage, all [df + 1].

    """
    n, df = len(differences), max(len(first) - 1, 0)
    mean = float(differences.mean()) if n else np.nan
    if not df:
        return {"mean": mean, **dict.fromkeys(("se", "low", "high", "p", "sd"), np.nan), "df": df}
    sd = float(first.std(ddof=1)) if np.ptp(first) else 0.0
    se = float(sd / np.sqrt(n))
    if not se:
        return {"mean": mean, "se": se, **dict.fromkeys(("low", "high", "p"), np.nan), "sd": sd, "df": df}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * se
    p = 2 * float(stats.t.sf(abs(mean) / se, df))
    return {"mean": mean, "se": se, "low": mean - half, "high": mean + half, "p": p, "sd": sd, "df": df}


def holm(p: NDArray[Any]) -> NDArray[Any]:
    """Holm's step-down adjustment of m p values: max over j <= i of min(1, (m - j + 1) p_(j)) for the i-th smallest.

    Args:
        p: p values [m]. NaN marks what was not tested: it is not counted in m, and stays NaN.

    Returns:
        The adjusted p values, in the order of `p`.

    Examples:
        >>> holm(np.array([0.01, np.nan, 0.04, 0.03])).round(2).tolist()
        [0.03, nan, 0.06, 0.06]

    """
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps)) if len(order) else steps
    return adjusted
