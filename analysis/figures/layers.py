"""What the stochastic layers are used for: active units, KL of units over epochs (Fig. 5), KL to N(0, I) (Fig. 6a)."""

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.figures.panels import columns_of, figure_of, level_styles, outer, panels, set_titles
from analysis.figures.style import (
    IMAGE_STYLE,
    STYLE,
    VariantStyle,
    add_legend,
    add_title,
    empty_figure,
    escape_mathtext,
    greatest_depth,
    of_one_data_set,
    panel_length,
    title_text,
    wrap,
)
from analysis.frames import Frames
from analysis.layout import at_best, at_one_depth, known
from analysis.statistics import cells
from hvae_spec.records.layout import ACTIVE

STATUS_PREFERENCE = ("finished", "trained", "running", "diverged", "failed", "damaged", "pending")
"""The order in which a member is chosen where one stands for all."""


def active_units(frames: Frames) -> Figure | None:
    """Active units of every layer at the greatest depth (Table 2 of the paper): means over the finished members.

    Bars are the standard error over seeds. A unit is active if its KL is above 0.01 nats, on average over the test
    images; a layer whose units have no KL of their own has no bar.
    """

    def label(name: str, members: pd.DataFrame) -> str:
        finished = members[members["status"] == "finished"]
        total = finished["active_units"].dropna()
        if len(finished) and total.empty:
            return f"{name} (of some layers not known)"
        return f"{name} (total {total.mean():.3g})" if len(total) else f"{name} (none finished)"

    return _bars(frames, "active_units_", "active units", label)


def kl_standard_normal(frames: Frames) -> Figure | None:
    """KL(q(z_i|.)||N(0, I)) of every layer at the greatest depth (Fig. 6a of the paper).

    Means over the finished members: how far inference is from a standard normal. It is 0 for a layer that has collapsed
    onto a standard normal prior. Bars are the standard error over seeds.
    """
    return _bars(frames, "kl_standard_normal_", "KL(q($z_i$|·) || N(0, I)) (nats)", lambda name, _: name)


def _bars(frames: Frames, prefix: str, ylabel: str, label: Callable[[str, pd.DataFrame], str]) -> Figure | None:
    """Means over seeds of the columns `prefix` 1 ... L, a group of bars per layer, and a panel per place on the axes.

    Args:
        frames: the frames of one data set.
        prefix: of the columns.
        ylabel: what they hold.
        label: the legend's entry of what has a color in the only panel, by its name and its members.

    """
    members = of_one_data_set(frames).members
    if f"{prefix}1" not in members:
        return None
    is_known = members.filter(regex=rf"^{prefix}\d+$").notna().any(axis=1)
    depth = greatest_depth(members[(members["status"] == "finished") & is_known])
    if depth is None:
        return None
    deepest = frames.select(members["depth"] == depth)
    places, members = at_one_depth(deepest), known(deepest.members, frames.factors)
    shown = panels(members, places)
    with mpl.rc_context(STYLE):
        columns = columns_of(len(shown), members, places)
        figure, every = figure_of(len(shown), columns)
        looks = level_styles(members, places)
        layers = np.arange(1, depth + 1)
        handles = {}
        for axes, (_, own) in zip(every, shown, strict=True):
            for place, (level, (name, style)) in enumerate(looks.items()):
                here = own[own[places.color] == level]
                text = escape_mathtext(label(name, here) if len(shown) == 1 else name)
                if len(here):
                    means = _layer_means(here, prefix, layers)
                    handles[level] = _draw_bars(axes, means, (place, len(looks)), style, text)
            axes.grid(visible=False, axis="x")
        set_titles(every, [title for title, _ in shown])
        for axes, is_lowest, is_first in outer(every, columns):
            axes.set(xlabel="stochastic layer" * is_lowest, ylabel=ylabel * is_first)
            axes.set_xticks(layers, [f"$z_{{{layer}}}$" for layer in layers])
        add_legend(figure, [handles[level] for level in looks if level in handles])
        add_title(figure, title_text(frames, f"L = {depth}"))
    return figure


def _layer_means(members: pd.DataFrame, prefix: str, layers: NDArray[Any]) -> pd.DataFrame:
    """Means over the seeds of one cell of the columns `prefix` 1 ... depth, a row per layer; none without members."""
    return pd.concat(cells(members, ["depth"], f"{prefix}{layer}").assign(layer=layer) for layer in layers)


def _draw_bars(axes: Axes, means: pd.DataFrame, place: tuple[int, int], style: VariantStyle, label: str) -> Any:
    """The bars of one color, which is at this place of so many, and their standard errors; returns the bars."""
    width = 0.8 / place[1]
    x = means["layer"] + width * (place[0] - (place[1] - 1) / 2)
    appearance: dict[str, Any] = {"color": style.color, "hatch": style.hatch, "ec": "white", "lw": 0}
    bars = axes.bar(x, means["mean"], 0.92 * width, label=label, **appearance)
    axes.errorbar(x, means["mean"], means["se"], fmt="none", ecolor="0.2", elinewidth=1, capsize=2)
    return bars


def unit_kl(frames: Frames) -> Figure | None:
    """KL of every unit over epochs, units sorted, a panel per variant and layer (Fig. 5 of the paper).

    The models are those of greatest depth with at least two evaluations; each variant is shown by its first seed that
    has finished, or else is trained, or else is running, or else has diverged. The colors are on a logarithmic scale; a
    unit is active above the line in the color bar. Of a layer whose units have no KL of their own, the layer's stands
    in their place, and is called so.
    """
    frames = of_best_watched(frames)
    depth = greatest_depth(frames.units)
    if depth is None:
        return None
    units = _watched(frames.units[frames.units["depth"] == depth])
    if units.empty:
        return None
    chosen = _one_per_variant(frames.members[frames.members["digest"].isin(units["digest"])])
    units = units[units["digest"].isin(chosen["digest"])]
    names = [str(name) for name in chosen["variant"]]
    norm = LogNorm(1e-3, max(1.0, float(units["kl"].max())))
    with mpl.rc_context(IMAGE_STYLE):
        figure = empty_figure(1.2 + 1.35 * depth, 0.9 + panel_length(map(wrap, names), 1.3) * len(names))
        grid = figure.subplots(len(names), depth, squeeze=False, sharex=True)
        for name, row in zip(names, grid, strict=True):
            own = units[units["variant"] == name]
            for layer, axes in enumerate(row, start=1):
                mesh = _heat_map(axes, own[own["layer"] == layer], norm)
            row[0].set_ylabel(f"{escape_mathtext(wrap(name))}\nunit")
        for layer, axes in enumerate(grid[0], start=1):
            axes.set_title(f"$z_{{{layer}}}$")
        add_title(figure, title_text(frames, f"L = {depth}", _seeds_text(chosen)))
        figure.supxlabel("epoch", fontsize="medium")
        bar = figure.colorbar(mesh, ax=grid, label="KL (nats)", extend="min", shrink=min(1.0, 2 / len(names)))
        bar.ax.axhline(ACTIVE, color="white", lw=1.5)
    return figure


def of_best_watched(frames: Frames) -> Frames:
    """The members at the place of the best cell on the axes, of those whose units were evaluated at least twice."""
    watched = _watched(of_one_data_set(frames).units)["digest"]
    return at_best(frames, frames.members[frames.members["digest"].isin(watched)])


def _watched(units: pd.DataFrame) -> pd.DataFrame:
    return units[units.groupby("digest")["epoch"].transform("nunique") >= 2]


def _one_per_variant(members: pd.DataFrame) -> pd.DataFrame:
    """One member of every variant, in the order of the grid: the least seed of those of the preferred status."""
    order = members["status"].map({status: place for place, status in enumerate(STATUS_PREFERENCE)}).astype(float)
    return members.assign(order=order).sort_values(["variant", "order", "seed"]).drop_duplicates("variant")


def _seeds_text(members: pd.DataFrame) -> str:
    """`seed 0`, or `seeds 0, 1 (diverged)`: each seed once, with its status unless it has finished."""
    seeds = members[["seed", "status"]].drop_duplicates().sort_values("seed")
    words = [
        f"{seed}" if status == "finished" else f"{seed} ({status})"
        for seed, status in seeds.itertuples(index=False, name=None)
    ]
    return f"seed{'s' * (len(words) > 1)} {', '.join(words)}"


def _heat_map(axes: Axes, units: pd.DataFrame, norm: LogNorm) -> Any:
    """One layer's units (sorted by their last KL, greatest first) over epochs."""
    kl = units.pivot_table(index="unit", columns="epoch", values="kl", dropna=False)
    kl = kl.sort_values(kl.columns[-1], ascending=False, kind="stable")
    epochs = kl.columns.to_numpy(dtype=float)
    middles = (epochs[1:] + epochs[:-1]) / 2
    edges = np.concatenate([[epochs[0] - (middles[0] - epochs[0])], middles, [epochs[-1] + epochs[-1] - middles[-1]]])
    values = np.clip(kl.to_numpy(dtype=float), norm.vmin, None)
    mesh = axes.pcolormesh(edges, np.arange(len(kl) + 1), values, norm=norm, cmap="mako", rasterized=True)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if (units["unit"] == 0).any():
        axes.set_yticks([0.5], ["layer"])
    else:
        axes.set_yticks([0, len(kl)])
    return mesh
