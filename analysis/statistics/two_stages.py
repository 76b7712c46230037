"""How many seeds an interval of a given width takes: Stein's two stages (1945).

The first stage has n seeds. Of its standard deviation s alone,

    N = max(n, ceil((t s / h)^2)),    interval = mean over all N +- t s / sqrt(N),

with h the half-width that is asked for and t the 97.5% point of Student's distribution with n - 1 degrees of freedom.
The mean over all N is independent of s, whatever N is as a function of s, so that the interval covers with exactly 95%
if seeds are normal. Stopping as soon as an interval of all seeds looks narrow enough does not: it stops where the seeds
happen to agree.

Seeds come in whole blocks, 0 to N - 1, to all cells that are compared with each other: those at one depth, on one data
set, at one place on the further axes. A block's N is the greatest that one of its cells, or of its effects, takes.

A member that diverges takes its seed's place all the same. It is left out of means and of s, so that t has a degree of
freedom less for each that the first stage loses, and intervals get wider than was asked for.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.caveats import different_x
from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.statistics.contrasts import CONFIDENCE
from analysis.statistics.effects import paired_effects
from analysis.statistics.over_seeds import cells
from hvae_spec.errors import UserError
from hvae_spec.records.result import DONE

MOST_NAMED = 1_000_000
"""The most seeds that are named by their number."""


def half_width(sd: ArrayLike, df: ArrayLike, n: ArrayLike) -> NDArray[Any]:
    """Half the width of the 95% confidence interval of a mean: t s / sqrt(N).

    Args:
        sd: standard deviation s of the first stage.
        df: its degrees of freedom.
        n: number N of replicates that the mean is of.

    Examples:
        >>> half_width(0.1, 4, 8).round(4).tolist()
        0.0982

    """
    return np.asarray(stats.t.ppf((1 + CONFIDENCE) / 2, df) * np.asarray(sd) / np.sqrt(n))


def sample_size(sd: ArrayLike, df: ArrayLike, width: float) -> NDArray[Any]:
    """The least number of replicates with which an interval is no wider than asked for: ceil((t s / h)^2).

    Args:
        sd: standard deviation s of the first stage.
        df: its degrees of freedom.
        width: half-width h.

    Returns:
        Whole numbers, as floats: they may be of any size, and infinite. NaN where `sd` is.

    Examples:
        >>> sample_size([0.05, 0.1, 0.2], 4, 0.1).tolist()
        [2.0, 8.0, 31.0]

    """
    with np.errstate(over="ignore"):
        return np.asarray(np.ceil((half_width(sd, df, 1) / width) ** 2))


def takes_text(takes: float) -> str:
    """How many seeds an interval takes, in words that stay short whatever the number.

    Examples:
        >>> takes_text(31.0), takes_text(float("inf"))
        ('31', 'over 1,000,000')

    """
    return f"{takes:,.0f}" if takes <= MOST_NAMED else f"over {MOST_NAMED:,}"


def needed(frames: Frames) -> pd.DataFrame:
    """How wide the interval of every cell, or of every effect, is, and how many seeds it takes.

    Args:
        frames: a grid with two stages, whatever its state. Axes that are factors of the paper make variants, as for
            `analysis.statistics.paired_effects`.

    Returns:
        One row per cell or effect, by what `grid.seeds.of` names: the columns of `cells` or `paired_effects`, and
        `compared` (what it is called), `half_width` (of the interval over the n replicates that there are) and `takes`
        (seeds that it takes, by the members of the first stage that have finished so far). Both are NaN where s is not
        known, or zero. No rows where seeds are a list.

    """
    frames = frames.as_variants(FACTORS)
    if frames.stages is None:
        return pd.DataFrame(columns=["dataset", *frames.factors, "depth", "compared"])
    by = ["dataset", *frames.factors, "depth"]
    if frames.stages.of == "cell":
        rows = cells(frames.planned.members, [*by, "variant"])
        names = rows["variant"].astype(str)
    else:
        rows = paired_effects(frames)
        # Seeds are shared at one place on the axes: what an axis adds is no effect within a block.
        rows = rows[rows[by].notna().all(axis=1)]
        names = rows["effect"] + ": " + rows["without"].astype(str) + " → " + rows["with"].astype(str)
    has_spread = rows["sd"] > 0
    rows = rows.assign(compared=names)
    df = rows["df"].where(has_spread)
    rows["half_width"] = half_width(rows["sd"].where(has_spread), df, rows["n"])
    takes = sample_size(rows["sd"].where(has_spread), df, frames.stages.half_width)
    rows["takes"] = np.maximum(takes, frames.stages.first)
    return rows


@dataclass(frozen=True)
class Block:
    """What is compared with each other and has the same seeds: the cells at one depth, on one data set, at one place on
    the further axes.
    """

    place: dict[str, Any]
    """`dataset`, `depth` and the value on every further axis that is no factor of the paper."""
    takes: float | None
    """Seeds that its widest interval takes, a whole number or infinity; None until all members of its first stage are
    finished or diverged."""
    seeds: int | None
    """The same, as far as `at_most` allows."""


def blocks(frames: Frames) -> list[Block]:
    """The blocks of a grid with two stages, and how many seeds each has.

    Args:
        frames: the grid, whatever its state; its second stage need not be planned.

    Raises:
        UserError: the intervals are to be of effects, and the grid has none.

    """
    frames, stages = frames.as_variants(FACTORS), frames.stages
    if stages is None:
        return []
    rows = needed(frames)
    if rows.empty:
        of_one_x = " with observation models of one x" * bool(different_x(frames.members))
        raise UserError(
            f"{frames.name}: grid.seeds.of: effect: no two variants of the grid{of_one_x} differ in one setting alone\n"
            "      expected of: cell, or variants that do"
        )
    by = ["dataset", *frames.factors, "depth"]
    found = []
    for place, is_done in _first_stages(frames).items():
        where = dict(zip(by, place, strict=True))
        own = rows[np.logical_and.reduce([rows[key] == value for key, value in where.items()])]
        takes = float(np.nanmax([stages.first, *own["takes"]])) if is_done else None
        # What a tiny half-width takes may be more than any whole number can hold.
        seeds = None if takes is None else int(min(takes, stages.at_most))
        found.append(Block(where, int(takes) if takes is not None and math.isfinite(takes) else takes, seeds))
    return found


def _first_stages(frames: Frames) -> dict[tuple[Any, ...], bool]:
    """The places of blocks, and whether all members of their first stage are finished or diverged."""
    members = frames.planned.members
    first = members[members["stage"] == 1]
    keys = [first[key] for key in ("dataset", *frames.factors, "depth")]
    done = first["status"].isin(DONE).groupby(keys, sort=False, dropna=False).all()
    return dict(zip(done.index.tolist(), done.tolist(), strict=True))
