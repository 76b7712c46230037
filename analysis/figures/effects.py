"""Beyond the paper: the bound against the number of importance samples, and what each of the paper's advances adds."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.columns import FACTORS
from analysis.figures.style import (
    STYLE,
    Looks,
    blank,
    deepest,
    heading,
    key,
    legend_below,
    literal,
    looks,
    shift,
    title,
)
from analysis.frames import Frames
from analysis.statistics import over_seeds
from analysis.tables import effects

QUANTITIES = {"test_log_likelihood": "log-likelihood (nats)", "active_units": "active units"}
"""What effects are drawn of, and how they are called."""
WIDTHS = {"test_log_likelihood": 0.1, "active_units": 2.0}
"""The least range of the vertical axis."""


def bound_by_samples(frames: Frames) -> Figure | None:
    """Left: the importance-weighted bound on the test set against its number of samples K, at the greatest depth.

    K = 1 is the ELBO, and the bound rises with K to the log-likelihood. Right: the effective sample size
    (Σ_k w_k)^2 / Σ_k w_k^2 of the final bound, averaged over test images, by depth; the nearer it is to K, the
    closer q(z|x) is to the posterior. Means over the finished members; bars are the standard error over seeds.
    """
    depth = deepest(frames, frames.bounds)
    if depth is None:
        return None
    members = frames.members
    bounds = over_seeds.over_seeds(
        frames.bounds[frames.bounds["depth"] == depth], ["variant", "iw_samples"], "bound"
    ).sort_values("iw_samples")
    sizes = over_seeds.cells(members, ["depth", "variant"], "effective_sample_size").sort_values("depth")
    with mpl.rc_context(STYLE):
        figure = blank(7.2, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        names, look = looks(members)
        for place, name in enumerate(names):
            colour, marker = look[name]
            own, aside = bounds[bounds["variant"] == name], 1 + shift(place, len(names), 0.05)
            own = own.assign(x=own["iw_samples"] * aside)
            left.errorbar(own["x"], own["mean"], own["se"], color=colour, marker=marker, ms=4, lw=1.2, capsize=2)
            own = sizes[sizes["variant"] == name]
            own = own.assign(x=own["depth"] + shift(place, len(names)))
            right.errorbar(own["x"], own["mean"], own["se"], color=colour, marker=marker, ms=4, lw=1.2, capsize=2)
        counts = sorted(bounds["iw_samples"].unique())
        left.set_xscale("log")
        left.set_xticks(counts, [f"{count:,}" for count in counts])
        left.xaxis.set_minor_locator(NullLocator())
        left.set(xlabel="importance samples K", ylabel="bound (nats)", title=f"L = {depth}")
        right.set_yscale("log")
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        right.yaxis.set_minor_locator(NullLocator())
        right.set_xticks(sorted(members["depth"].unique()))
        samples = " / ".join(f"{count:,.0f}" for count in sorted(members["iw_samples"].dropna().unique()))
        right.set(xlabel="number of stochastic layers L", ylabel="effective sample size", title=f"K = {samples}")
        legend_below(figure, [key(name, look[name]) for name in names])
        heading(figure, title(frames))
    return figure


def paired_effects(frames: Frames) -> Figure | None:
    """What batch normalisation, warm-up and the ladder each add, by depth: mean difference over pairs of one seed.

    Above on the test log-likelihood, below on the number of active units; each panel has a scale of its own. Bars are
    the 95% confidence interval by Student's t, each by itself; a single pair, or pairs that are
    all alike, have none. Filled markers: p < 0.05 by
    Holm's correction over all effects of a row.
    """
    frames = frames.as_variants(FACTORS)
    deepest(frames, frames.members)
    tables = {quantity: effects.paired(frames, quantity).dropna(subset=["mean"]) for quantity in QUANTITIES}
    tables = {quantity: table for quantity, table in tables.items() if len(table)}
    found = [name for name in effects.EFFECTS if any((table["effect"] == name).any() for table in tables.values())]
    if not found:
        return None
    with mpl.rc_context(STYLE):
        figure = blank(1.2 + 2.1 * len(found), 0.9 + 1.9 * len(tables))
        grid = figure.subplots(len(tables), len(found), squeeze=False, sharex=True)
        _, look = looks(frames.members)
        depths = sorted(frames.members["depth"].unique())
        handles: dict[str, Line2D] = {}
        for (quantity, table), row in zip(tables.items(), grid, strict=True):
            row[0].set_ylabel(QUANTITIES[quantity])
            for effect, axes in zip(found, row, strict=True):
                axes.axhline(0, color="0.3", lw=1)
                handles |= _effect(axes, table[table["effect"] == effect], look)
                axes.set_xticks(depths)
                axes.set_xlim(depths[0] - 0.5, depths[-1] + 0.5)
                low, high = axes.get_ylim()
                if high - low < WIDTHS[quantity]:
                    # Differences that are all nought are not to be magnified.
                    axes.set_ylim((low + high - WIDTHS[quantity]) / 2, (low + high + WIDTHS[quantity]) / 2)
        for effect, axes in zip(found, grid[0], strict=True):
            axes.set_title(effect, fontsize="medium")
        for axes in grid[-1]:
            axes.set_xlabel("stochastic layers L")
        legend_below(figure, handles.values())
        heading(figure, title(frames))
    return figure


def _effect(axes: Axes, table: pd.DataFrame, look: Looks) -> dict[str, Line2D]:
    """One effect by depth, in the colour of the variant that has what the other lacks; its entries in the legend."""
    handles = {}
    pairs = list(table.groupby(["without", "with"], sort=False, observed=True))
    for place, ((without, with_), own) in enumerate(pairs):
        (colour, marker), x = look[str(with_)], own["depth"] + shift(place, len(pairs), 0.15)
        errors = own["mean"] - own["low"], own["high"] - own["mean"]
        axes.errorbar(x, own["mean"], errors, fmt="none", color=colour, elinewidth=1.2, capsize=2.5)
        for certain in (True, False):
            here = (own["p_holm"] < 0.05) == certain
            face = colour if certain else "white"
            axes.plot(x[here], own["mean"][here], marker, ls="", color=colour, mfc=face, ms=5, mew=1.2)
        name = f"{without} → {with_}"
        handles[name] = Line2D([], [], color=colour, marker=marker, ms=5, label=literal(name))
    return handles
