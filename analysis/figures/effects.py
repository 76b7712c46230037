"""Beyond the paper: the bound against the number of importance samples, and what the settings of variants add."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.columns import FACTORS
from analysis.figures.style import (
    STYLE,
    VariantStyle,
    add_legend,
    add_title,
    empty_figure,
    escape_mathtext,
    greatest_depth,
    legend_entry,
    offset,
    title_text,
    variant_styles,
)
from analysis.frames import Frames
from analysis.statistics import cells, mean_over_seeds
from analysis.statistics import paired_effects as effects_on

QUANTITIES = {"test_log_likelihood": "log-likelihood (nats)", "active_units": "active units"}
"""The quantities that effects are drawn of, and the labels of their axes."""
MIN_RANGES = {"test_log_likelihood": 0.1, "active_units": 2.0}
"""The least range of the vertical axis, so that differences that are all zero are not magnified."""
SIGNIFICANT = 0.05
"""Effects with a smaller corrected p value have filled markers."""


def bound_by_samples(frames: Frames) -> Figure | None:
    """Left: the importance-weighted bound on the test set against its number of samples K, at the greatest depth.

    K = 1 is the ELBO, and the bound rises with K to the log-likelihood. Right: the effective sample size
    (Σ_k w_k)^2 / Σ_k w_k^2 of the final bound, averaged over test images, by depth; the nearer it is to K, the
    closer q(z|x) is to the posterior. Means over the finished members; bars are the standard error over seeds.
    """
    depth = greatest_depth(frames, frames.bounds)
    if depth is None:
        return None
    with mpl.rc_context(STYLE):
        figure = empty_figure(7.2, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        styles = variant_styles(frames.members)
        _draw_bounds(left, frames.bounds[frames.bounds["depth"] == depth], styles)
        left.set(title=f"L = {depth}")
        _draw_effective_sample_sizes(right, frames.members, styles)
        add_legend(figure, [legend_entry(style, name) for name, style in styles.items()])
        add_title(figure, title_text(frames))
    return figure


def _draw_bounds(axes: Axes, bounds: pd.DataFrame, styles: dict[str, VariantStyle]) -> None:
    """Means of the bound by K, both of one depth; the variants are moved sideways by a factor, as K is logarithmic."""
    means = mean_over_seeds(bounds, ["variant", "iw_samples"], "bound").sort_values("iw_samples")
    for place, (name, style) in enumerate(styles.items()):
        own = means[means["variant"] == name]
        _draw_line(axes, own["iw_samples"] * (1 + offset(place, len(styles), 0.05)), own, style)
    counts = sorted(means["iw_samples"].unique())
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="importance samples K", ylabel="bound (nats)")


def _draw_effective_sample_sizes(axes: Axes, members: pd.DataFrame, styles: dict[str, VariantStyle]) -> None:
    """Means of the effective sample size by depth."""
    means = cells(members, ["depth", "variant"], "effective_sample_size").sort_values("depth")
    for place, (name, style) in enumerate(styles.items()):
        own = means[means["variant"] == name]
        _draw_line(axes, own["depth"] + offset(place, len(styles)), own, style)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sorted(members["depth"].unique()))
    samples = " / ".join(f"{count:,.0f}" for count in sorted(members["iw_samples"].dropna().unique()))
    axes.set(xlabel="number of stochastic layers L", ylabel="effective sample size", title=f"K = {samples}")


def _draw_line(axes: Axes, x: "pd.Series[float]", means: pd.DataFrame, style: VariantStyle) -> None:
    axes.errorbar(x, means["mean"], means["se"], color=style.color, marker=style.marker, ms=4, lw=1.2, capsize=2)


def paired_effects(frames: Frames) -> Figure | None:
    """What each setting adds in which two variants differ alone, by depth: mean difference over pairs of one seed.

    Above on the test log-likelihood, below on the number of active units; each panel has a scale of its own. Bars are
    the 95% confidence interval by Student's t, not adjusted for the number of effects; a single pair, or pairs that are
    all alike, have none. Filled markers: p < 0.05 by Holm's correction over all effects of a row.
    """
    frames = frames.as_variants(FACTORS)
    greatest_depth(frames, frames.members)
    found = {quantity: effects_on(frames, quantity).dropna(subset=["mean"]) for quantity in QUANTITIES}
    found = {quantity: effects for quantity, effects in found.items() if len(effects)}
    names = list(dict.fromkeys(name for effects in found.values() for name in effects["effect"]))
    if not names:
        return None
    with mpl.rc_context(STYLE):
        figure = empty_figure(1.2 + 2.1 * len(names), 0.9 + 1.9 * len(found))
        grid = figure.subplots(len(found), len(names), squeeze=False, sharex=True)
        styles = variant_styles(frames.members)
        depths = sorted(frames.members["depth"].unique())
        handles: dict[str, Line2D] = {}
        for (quantity, effects), row in zip(found.items(), grid, strict=True):
            row[0].set_ylabel(QUANTITIES[quantity])
            for name, axes in zip(names, row, strict=True):
                handles |= _draw_effect(axes, effects[effects["effect"] == name], styles)
                _frame(axes, depths, MIN_RANGES[quantity])
        for name, axes in zip(names, grid[0], strict=True):
            axes.set_title(name, fontsize="medium")
        for axes in grid[-1]:
            axes.set_xlabel("stochastic layers L")
        add_legend(figure, handles.values())
        add_title(figure, title_text(frames))
    return figure


def _frame(axes: Axes, depths: list[int], min_range: float) -> None:
    """Limits and ticks of one panel."""
    axes.set_xticks(depths)
    axes.set_xlim(depths[0] - 0.5, depths[-1] + 0.5)
    low, high = axes.get_ylim()
    if high - low < min_range:
        axes.set_ylim((low + high - min_range) / 2, (low + high + min_range) / 2)


def _draw_effect(axes: Axes, effects: pd.DataFrame, styles: dict[str, VariantStyle]) -> dict[str, Line2D]:
    """One effect by depth, in the style of the variant that has the factor; returns its entries in the legend."""
    axes.axhline(0, color="0.3", lw=1)
    handles = {}
    pairs = list(effects.groupby(["without", "with"], sort=False, observed=True))
    for place, ((without, with_), own) in enumerate(pairs):
        color, marker, _ = styles[str(with_)]
        x = own["depth"] + offset(place, len(pairs), 0.15)
        errors = own["mean"] - own["low"], own["high"] - own["mean"]
        axes.errorbar(x, own["mean"], errors, fmt="none", color=color, elinewidth=1.2, capsize=2.5)
        for significant in (True, False):
            here = (own["p_holm"] < SIGNIFICANT) == significant
            face = color if significant else "white"
            axes.plot(x[here], own["mean"][here], marker, ls="", color=color, mfc=face, ms=5, mew=1.2)
        name = f"{without} → {with_}"
        handles[name] = Line2D([], [], color=color, marker=marker, ms=5, label=escape_mathtext(name))
    return handles
