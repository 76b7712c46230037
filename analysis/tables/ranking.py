"""Which variant is best at each depth, and how probable it is that each is.

With n finished seeds of mean y and standard error s, the expected test log-likelihood mu of a variant has, under a
normal model with the prior 1/sigma^2, the posterior mu = y + s t, where t is Student's with n - 1 degrees of freedom
(Box & Tiao, 1973). Variants are taken as independent, each with its own spread, so that seeds that only some of them
have finished count too:

    P(v is best) = integral of f_v(x) prod_{u != v} F_u(x) dx = integral_0^1 prod_{u != v} F_u(F_v^-1(p)) dp.

With few seeds these posteriors have heavy tails, as they should. A variant with a single finished seed has no
posterior: then no variant at that depth gets a probability. Only finished members count: of a variant that diverges,
what is ranked is how good it is when it does not.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.statistics import over_seeds
from analysis.tables.footnotes import bound_notes, grid_notes
from analysis.tables.tables import Plain, Table, TableSet, columns_of

POINTS = 20_000
"""Points of the integral."""


def ranks(frames: Frames) -> pd.DataFrame:
    """Every cell with its rank among the variants at its depth; see `analysis.tables.effects` for axes that make
    variants.

    Returns:
        The columns of `statistics.cells` with `rank` (1 is the highest mean; NaN without one) and `p_best` (NaN where
        it cannot be told).

    """
    frames = frames.as_variants(FACTORS)
    keys = ["dataset", *frames.factors, "depth"]
    cells = over_seeds.cells(frames.planned.members, [*keys, "variant"])
    parts = []
    for _, own in cells.groupby(keys, sort=False, dropna=False):
        ranked = own.assign(rank=own["mean"].rank(ascending=False, method="min"), p_best=np.nan)
        having = ranked[ranked["n"] > 0]
        if len(having) > 1 and (having["n"] > 1).all():
            ranked.loc[having.index, "p_best"] = probability_best(having["mean"], having["se"], having["n"])
        parts.append(ranked)
    return pd.concat(parts, ignore_index=True)


def probability_best(means: Iterable[float], ses: Iterable[float], ns: Iterable[int]) -> "np.ndarray[Any, Any]":
    """The probability of each of V means of n > 1 replicates that its expectation is the greatest, [V]."""
    levels = (np.arange(POINTS) + 0.5) / POINTS
    variants = list(zip(means, ses, ns, strict=True))
    weights = np.empty(len(variants))
    for place, (mean, se, n) in enumerate(variants):
        x = mean + se * stats.t.ppf(levels, n - 1)
        others = (_below(x, *other) for index, other in enumerate(variants) if index != place)
        weights[place] = np.mean(np.prod([np.ones(POINTS), *others], axis=0))
    # The integrals add up to 1 but for the error of the midpoint rule.
    return weights / weights.sum()


def _below(x: "np.ndarray[Any, Any]", mean: float, se: float, n: int) -> "np.ndarray[Any, Any]":
    """P(mu < x); equal values count half."""
    if se == 0:
        return np.heaviside(x - mean, 0.5)
    return np.asarray(stats.t.cdf((x - mean) / se, n - 1))


def ranking(frames: Frames) -> TableSet:
    """Rank and probability of being best, by depth and variant."""
    frames = frames.as_variants(FACTORS)
    tidy = ranks(frames)
    tables = []
    for group in frames.groups():
        own = group.rows(tidy).sort_values("depth", kind="stable")
        if own["variant"].nunique() < 2 or not own["n"].any():
            continue
        cells = {(str(row["depth"]), str(row["variant"])): _cell(row) for row in own.to_dict("records")}
        notes: tuple[str, ...] = (
            "Rank by mean test log-likelihood over the finished seeds (their number), and the probability that the "
            "variant's expectation is the highest (independent Student's t posteriors).",
        )
        if own["p_best"].isna().any():
            notes += ("No probability is given at a depth at which a variant has a single finished seed, or no rival.",)
        notes += (*bound_notes(group.frames), *grid_notes(frames, group.frames))
        rows = tuple(str(depth) for depth in own["depth"].unique())
        title = ("Rank of the variants", group.title)
        tables.append(Table(*title, "L", rows, columns_of(own), cells, notes))
    return TableSet("ranking", tuple(tables), tidy)


def _cell(row: Mapping[Any, Any]) -> Plain:
    """`1 (3), P = 0.93`; `2 (1)`; `diverged 3`."""
    counts = f"{row['n']}" if row["n"] == row["planned"] else f"{row['n']}/{row['planned']}"
    lost = tuple(f"{word} {row[word]}" for word in ("diverged", "failed") if row[word])
    if not row["n"]:
        return Plain(counts, lost)
    p = row["p_best"]
    probability = () if np.isnan(p) else ("P < 0.01" if p < 0.01 else "P > 0.99" if p > 0.99 else f"P = {p:.2f}",)
    return Plain(f"{row['rank']:.0f} ({counts})", (*probability, *lost))
