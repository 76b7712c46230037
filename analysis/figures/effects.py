"""Beyond the paper: what the settings of variants and the levels of axes add."""

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.columns import FACTORS
from analysis.figures.style import (
    STYLE,
    VariantStyle,
    add_legend,
    add_title,
    empty_figure,
    escape_mathtext,
    of_one_data_set,
    offset,
    panel_length,
    title_text,
    variant_styles,
)
from analysis.frames import Frames
from analysis.layout import varied
from analysis.statistics import all_effects
from analysis.statistics import paired_effects as effects_on
from analysis.statistics.effects import effect_text, is_pooled, is_unmeasured, quantities

KINDS = {
    "main": "Main effects",
    "interaction": "Interactions",
    "named": "Named contrasts",
    "simple": "Simple effects",
}
"""Kinds of effects, in the order of the figure over the axes, and their headings."""
MOST_ROWS = 60
"""Rows of the figure over the axes. Of the kinds of effects after the first, those that do not fit are left out."""
COLOR = "#0173b2"
"""Of effects over the axes, which have no variant of their own."""
AXES = {"test_log_likelihood": "log-likelihood (nats)", "active_units": "active units", "test_error": "test error (%)"}
"""The labels of the axes of the quantities that effects are drawn of."""
MIN_RANGES = {"test_log_likelihood": 0.1, "active_units": 2.0, "test_error": 0.1}
"""The least range of the vertical axis, so that differences that are all zero are not magnified."""
SIGNIFICANT = 0.05
"""Effects with a smaller corrected p value have filled markers."""


def paired_effects(frames: Frames) -> Figure | None:
    """What each setting adds in which two variants differ alone, by depth: mean difference over pairs of one seed.

    Above on the test log-likelihood, below on the number of active units. What each factor adds, where there are
    further axes: main effects, interactions, named contrasts and the simple effects at every place, as in the table.
    Left on the test log-likelihood, right on the number of active units. Of models with classes a further panel is on
    the test error. Each panel has a scale of its own. Bars are the 95%
    confidence interval by Student's t, not adjusted for the number of effects; a single pair, or pairs that are all
    alike, have none. Filled markers: p < 0.05 by Holm's correction over all effects of the same kind.
    """
    frames = of_one_data_set(frames).as_variants(FACTORS)
    return _over_the_axes(frames) if varied(frames) else _by_depth(frames)


def listed(frames: Frames) -> tuple[list[tuple[str, pd.DataFrame]], dict[str, int]]:
    """The effects that the figure over the axes has, on all quantities: by a heading, the rows of
    `analysis.statistics.all_effects`, with their labels in `row`; and how many of which kind are too many for it.

    Args:
        frames: of one data set, with the paper's factors as variants.

    """
    every = pd.concat([all_effects(frames, quantity) for quantity in quantities(frames.members)]).dropna(
        subset=["mean"]
    )
    is_shown = (every["kind"] == "simple") | is_pooled(every)
    every = every[is_shown].assign(row=lambda rows: [effect_text(row) for row in rows.to_dict("records")])
    found: list[tuple[str, pd.DataFrame]] = []
    left_out: dict[str, int] = {}
    taken = 0
    for kind, heading in KINDS.items():
        own = every[every["kind"] == kind]
        parts = [(heading, own)]
        if kind == "simple":
            parts = [
                (f"{heading}: {text}", rows.assign(row=rows["place"])) for text, rows in own.groupby("row", sort=False)
            ]
        parts = [(text, rows) for text, rows in parts if len(rows)]
        count = sum(1 + rows["row"].nunique() for _, rows in parts)
        if taken and taken + count > MOST_ROWS:
            left_out[heading.lower()] = sum(rows["row"].nunique() for _, rows in parts)
        else:
            found += parts
            taken += count
    return found, left_out


def quantities_of(frames: Frames) -> dict[str, bool]:
    """The quantities that the figure has effects on, each with whether some effects are none of it, as one side does
    not have it.

    Args:
        frames: as of `listed`.

    """
    found = {quantity: all_effects(frames, quantity) for quantity in quantities(frames.members)}
    return {name: bool(is_unmeasured(rows).any()) for name, rows in found.items() if rows["mean"].notna().any()}


def _over_the_axes(frames: Frames) -> Figure | None:
    """A row per effect, under the headings of their kinds."""
    parts, _ = listed(frames)
    if not parts:
        return None
    rows = [(heading, label) for heading, own in parts for label in ("", *dict.fromkeys(own["row"]))]
    y = {row: place for place, row in enumerate(rows)}
    shown = [name for name in quantities(frames.members) if any((own["quantity"] == name).any() for _, own in parts)]
    with mpl.rc_context(STYLE):
        texts = [escape_mathtext(label or heading) for heading, label in rows]
        figure = empty_figure(4.4 + panel_length(texts, 1.0), 0.9 + 0.19 * len(rows))
        every = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, quantity in zip(every, shown, strict=True):
            axes.axvline(0, color="0.3", lw=1)
            for heading, own in parts:
                here = own[own["quantity"] == quantity]
                height = here["row"].map(lambda label, heading=heading: y[heading, label]).astype(float)
                errors = here["mean"] - here["low"], here["high"] - here["mean"]
                axes.errorbar(here["mean"], height, xerr=errors, fmt="none", color=COLOR, elinewidth=1.2, capsize=2)
                for significant in (True, False):
                    chosen = (here["p_holm"] < SIGNIFICANT) == significant
                    face = COLOR if significant else "white"
                    axes.plot(here["mean"][chosen], height[chosen], "o", color=COLOR, mfc=face, ms=4.5, mew=1.2)
            _widen(axes.get_xlim, axes.set_xlim, MIN_RANGES[quantity])
            axes.set_xlabel(AXES[quantity])
            axes.grid(visible=False, axis="y")
        every[0].set_yticks(range(len(rows)), texts)
        every[0].set_ylim(len(rows) - 0.5, -0.5)
        for tick, (_, label) in zip(every[0].get_yticklabels(), rows, strict=True):
            tick.set_fontweight("normal" if label else "bold")
        add_title(figure, title_text(frames))
    return figure


def _by_depth(frames: Frames) -> Figure | None:
    """A panel per effect, in a row for every quantity."""
    found = {quantity: effects_on(frames, quantity).dropna(subset=["mean"]) for quantity in quantities(frames.members)}
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
            row[0].set_ylabel(AXES[quantity])
            for name, axes in zip(names, row, strict=True):
                own = effects[effects["effect"] == name]
                handles |= _draw_effect(axes, own, styles)
                _frame(axes, depths, MIN_RANGES[quantity])
                if own.empty:
                    axes.text(
                        0.5, 0.6, "no number", ha="center", transform=axes.transAxes, fontsize="small", color="0.3"
                    )
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
    _widen(axes.get_ylim, axes.set_ylim, min_range)


def _widen(limits: Callable[[], tuple[float, float]], set_limits: Callable[[float, float], Any], least: float) -> None:
    """Limits of an axis that are no nearer than this."""
    low, high = limits()
    if high - low < least:
        set_limits((low + high - least) / 2, (low + high + least) / 2)


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
