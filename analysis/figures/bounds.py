"""Beyond the paper: the bound against the number of importance samples."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.figures.panels import level_styles, panels
from analysis.figures.style import (
    STYLE,
    VariantStyle,
    add_legend,
    add_title,
    empty_figure,
    escape_mathtext,
    greatest_depth,
    legend_entry,
    of_one_data_set,
    offset,
    title_text,
)
from analysis.frames import Frames
from analysis.layout import at, at_one_depth, known
from analysis.statistics import cells, mean_over_seeds

Looks = Mapping[Any, tuple[str, VariantStyle]]
"""The label and the style of every level that has a color."""
PAIRS = 2
"""Places side by side, each with two panels."""
PAIR = (5.8, 2.7)
"""Width and height of the panels of one of several places, in inches."""


def bound_by_samples(frames: Frames) -> Figure | None:
    """Left: the importance-weighted bound on the test set against its number of samples K, at the greatest depth.

    K = 1 is the ELBO, and the bound rises with K to the log-likelihood. Right: the effective sample size
    (Σ_k w_k)^2 / Σ_k w_k^2 of the final bound, averaged over test images, by depth; the nearer it is to K, the
    closer q(z|x) is to the posterior. Means over the finished members; bars are the standard error over seeds.
    """
    depth = greatest_depth(of_one_data_set(frames).bounds)
    if depth is None:
        return None
    deepest = frames.select(frames.members["depth"] == depth)
    places, members = at_one_depth(deepest), known(frames.members, frames.factors)
    shown = panels(known(deepest.members, frames.factors), places)
    with mpl.rc_context(STYLE):
        pairs = min(PAIRS, len(shown))
        rows = -(-len(shown) // pairs)
        figure = empty_figure(*((7.2, 3.6) if len(shown) == 1 else (PAIR[0] * pairs, PAIR[1] * rows)))
        grid = figure.subplots(rows, 2 * pairs, squeeze=False, width_ratios=[3, 2] * pairs)
        every = grid.reshape(-1, 2)
        looks = level_styles(members, places)
        for left, right in every[1:]:
            left.sharey(every[0][0])
            right.sharey(every[0][1])
        for (left, right), (title, own) in zip(every, shown, strict=False):
            bounds = frames.bounds[frames.bounds["digest"].isin(own["digest"])]
            _draw_bounds(left, known(bounds, places.axes), places.color, looks)
            left.set_title(escape_mathtext(", ".join(filter(None, [title, f"L = {depth}"]))))
            here = at(members, {factor: own[factor].iloc[0] for factor in places.facets})
            _draw_effective_sample_sizes(right, here, places.color, looks)
            if len(shown) > 1:
                right.set_xlabel("stochastic layers L")  # panels are too narrow for more
        for left, right in every[len(shown) :]:
            left.set_visible(False)
            right.set_visible(False)
        add_legend(figure, [legend_entry(style, name) for name, style in looks.values()])
        add_title(figure, title_text(frames))
    return figure


def _draw_bounds(axes: Axes, bounds: pd.DataFrame, color: str, looks: Looks) -> None:
    """Means of the bound by K, of one depth; the levels are moved sideways by a factor, as K is logarithmic."""
    means = mean_over_seeds(bounds, [color, "iw_samples"], "bound").sort_values("iw_samples")
    for place, (level, (_, style)) in enumerate(looks.items()):
        own = means[means[color] == level]
        _draw_line(axes, own["iw_samples"] * (1 + offset(place, len(looks), 0.05)), own, style)
    counts = sorted(means["iw_samples"].unique())
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="importance samples K", ylabel="bound (nats)")


def _draw_effective_sample_sizes(axes: Axes, members: pd.DataFrame, color: str, looks: Looks) -> None:
    """Means of the effective sample size by depth."""
    means = cells(members, ["depth", color], "effective_sample_size").sort_values("depth")
    for place, (level, (_, style)) in enumerate(looks.items()):
        own = means[means[color] == level]
        _draw_line(axes, own["depth"] + offset(place, len(looks)), own, style)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sorted(members["depth"].unique()))
    samples = " / ".join(f"{count:,.0f}" for count in sorted(members["iw_samples"].dropna().unique()))
    axes.set(xlabel="number of stochastic layers L", ylabel="effective sample size", title=f"K = {samples}")


def _draw_line(axes: Axes, x: "pd.Series[float]", means: pd.DataFrame, style: VariantStyle) -> None:
    axes.errorbar(x, means["mean"], means["se"], color=style.color, marker=style.marker, ms=4, lw=1.2, capsize=2)
