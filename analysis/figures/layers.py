"""How stochastic layers are used: active units, KL of units over epochs (Fig. 5), distance from N(0, I) (Fig. 6a)."""

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import (
    SIZE,
    STYLE,
    blank,
    deepest,
    folded,
    hatches,
    heading,
    legend_below,
    literal,
    looks,
    room,
    title,
)
from analysis.frames import Frames
from analysis.statistics import over_seeds
from hvae_spec.records.layout import ACTIVE

PREFERRED = ("finished", "running", "diverged", "failed", "pending")
"""Members of which status are shown, where one stands for all."""


def active_units(frames: Frames) -> Figure | None:
    """Active units of every layer at the greatest depth (Table 2 of the paper): means over the finished members.

    Bars are the standard error over seeds. A unit is active if its KL is above 0.01 nats, on average over the test
    images.
    """

    def label(name: str, members: pd.DataFrame) -> str:
        total = members.loc[members["status"] == "finished", "active_units"].dropna()
        return f"{name} (total {total.mean():.3g})" if len(total) else f"{name} (none finished)"

    return _bars(frames, "active_units_", "active units", label)


def kl_standard_normal(frames: Frames) -> Figure | None:
    """KL(q(z_i|.)||N(0, I)) of every layer at the greatest depth (Fig. 6a of the paper).

    Means over the finished members: how far inference is from a standard normal. It is 0 for a layer that has collapsed
    onto a standard normal prior. Bars are the standard error over seeds.
    """
    return _bars(frames, "kl_standard_normal_", "KL(q($z_i$|·) || N(0, I)) (nats)", lambda name, _: name)


def _bars(frames: Frames, prefix: str, ylabel: str, label: Callable[[str, pd.DataFrame], str]) -> Figure | None:
    """Means over seeds of the columns `prefix` 1 ... L, a group of bars a layer."""
    members = frames.members
    if f"{prefix}1" not in members:
        return None
    depth = deepest(frames, members[(members["status"] == "finished") & members[f"{prefix}1"].notna()])
    if depth is None:
        return None
    members = members[members["depth"] == depth]
    with mpl.rc_context(STYLE):
        figure = blank(*SIZE)
        axes = figure.subplots()
        names, look = looks(members)
        hatch = hatches(members)
        width = 0.8 / len(names)
        layers = np.arange(1, depth + 1)
        tables = [over_seeds.cells(members, ["variant"], f"{prefix}{layer}").set_index("variant") for layer in layers]
        handles = []
        for place, name in enumerate(names):
            x = layers + width * (place - (len(names) - 1) / 2)
            mean, se = (
                np.array([table.at[name, column] for table in tables], dtype=float) for column in ("mean", "se")
            )
            colour, text = look[name][0], literal(label(name, members[members["variant"] == name]))
            bars = axes.bar(x, mean, 0.92 * width, color=colour, hatch=hatch[name], ec="white", lw=0, label=text)
            handles.append(bars)
            axes.errorbar(x, mean, se, fmt="none", ecolor="0.2", elinewidth=1, capsize=2)
        axes.set(xlabel="stochastic layer", ylabel=ylabel)
        axes.set_xticks(layers, [f"$z_{{{layer}}}$" for layer in layers])
        axes.grid(visible=False, axis="x")
        legend_below(figure, handles)
        heading(figure, title(frames, f"L = {depth}"))
    return figure


def unit_kl(frames: Frames) -> Figure | None:
    """KL of every unit over epochs, units sorted, a panel a variant and layer (Fig. 5 of the paper).

    Greatest depth, of the variants with at least two evaluations; of each the first seed that has finished, or else is
    running, or else has diverged. The colours are on a logarithmic scale; a unit is active above the line in the colour
    bar.
    """
    depth = deepest(frames, frames.units)
    if depth is None:
        return None
    units = frames.units[(frames.units["depth"] == depth)]
    units = units[units.groupby("digest")["epoch"].transform("nunique") >= 2]
    if units.empty:
        return None
    shown = _first(frames.members[frames.members["digest"].isin(units["digest"])])
    units = units[units["digest"].isin(shown["digest"])]
    names = [str(name) for name in shown["variant"]]
    norm = LogNorm(1e-3, max(1.0, float(units["kl"].max())))
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = blank(1.2 + 1.35 * depth, 0.9 + room(map(folded, names), 1.3) * len(names))
        grid = figure.subplots(len(names), depth, squeeze=False, sharex=True)
        for name, row in zip(names, grid, strict=True):
            own = units[units["variant"] == name]
            for layer, axes in enumerate(row, start=1):
                mesh = _heat_map(axes, own[own["layer"] == layer], norm)
            row[0].set_ylabel(f"{literal(folded(name))}\nunit")
        for layer, axes in enumerate(grid[0], start=1):
            axes.set_title(f"$z_{{{layer}}}$")
        heading(figure, title(frames, f"L = {depth}", *_seeds(shown)))
        figure.supxlabel("epoch", fontsize="medium")
        bar = figure.colorbar(mesh, ax=grid, label="KL (nats)", extend="min", shrink=min(1.0, 2 / len(names)))
        bar.ax.axhline(ACTIVE, color="white", lw=1.5)
    return figure


def _first(members: pd.DataFrame) -> pd.DataFrame:
    """One member of every variant, in the order of the grid: the least seed of those that have got furthest."""
    order = members["status"].map({status: place for place, status in enumerate(PREFERRED)}).astype(float)
    return members.assign(order=order).sort_values(["variant", "order", "seed"]).drop_duplicates("variant")


def _seeds(members: pd.DataFrame) -> list[str]:
    """`seed 0`, or `seeds 0, 1 (diverged)`: each seed once with what became of it, if it has not finished."""
    shown = members[["seed", "status"]].drop_duplicates().sort_values("seed")
    words = [
        f"{seed}" if status == "finished" else f"{seed} ({status})"
        for seed, status in shown.itertuples(index=False, name=None)
    ]
    return [f"seed{'s' * (len(words) > 1)} {', '.join(words)}"]


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
    axes.set_yticks([0, len(kl)])
    return mesh
