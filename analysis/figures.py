"""Figures of a grid, each for one data set at one place on the further axes (see `Frames.groups`).

Every function returns None where there is nothing to draw. Figures are made without pyplot, so that drawing them never
disturbs a notebook's own.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis import statistics
from analysis.frames import Frames
from hvae_spec.records import ACTIVE

MARKERS = "osD^vP*Xhp"
STYLE = {
    **sns.axes_style("ticks", {"axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True}),
    **sns.plotting_context("paper", font_scale=1.1),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
    # Text stays text in a PDF.
    "pdf.fonttype": 42,
}


def log_likelihood(frames: Frames) -> Figure | None:
    """Test log-likelihood by depth, a line a variant (Fig. 3 of the paper).

    Bars are the standard error over seeds, faint dots the seeds. A cross at the foot marks a depth at which members
    diverged; they are in no mean.
    """
    members = frames.members
    finished = members[members["status"] == "finished"].dropna(subset=["test_log_likelihood"])
    if _deepest(frames, finished) is None:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        names, looks = _looks(members)
        table = statistics.cells(members, ["depth", "variant"])
        for place, name in enumerate(names):
            colour, marker = looks[name]
            shift = 0.06 * (place - (len(names) - 1) / 2)
            own = table[table["variant"] == name].sort_values("depth")
            seeds = finished[finished["variant"] == name]
            axes.plot(
                seeds["depth"] + shift,
                seeds["test_log_likelihood"],
                ".",
                color=colour,
                alpha=0.4,
                ms=5,
                mew=0,
                zorder=1,
            )
            x = own["depth"] + shift
            axes.errorbar(x, own["mean"], own["se"], color=colour, capsize=2.5, lw=1.4, elinewidth=1.1, fmt="-")
            axes.plot(x, own["mean"], marker, color=colour, ms=4.5)
            lost = own[own["diverged"] > 0]
            foot = axes.get_xaxis_transform()
            axes.plot(lost["depth"] + shift, np.full(len(lost), 0.03), "x", color=colour, ms=6, mew=1.6, transform=foot)
        handles = [Line2D([], [], color=looks[name][0], marker=looks[name][1], ms=5, label=name) for name in names]
        if (table["diverged"] > 0).any():
            handles.append(Line2D([], [], color="0.3", marker="x", ms=6, mew=1.6, ls="", label="diverged members"))
        axes.set(xlabel="number of stochastic layers L", ylabel="test log-likelihood (nats)", title=_title(frames))
        axes.set_xticks(sorted(members["depth"].unique()))
        _legend_below(figure, handles)
    return figure


def learning_curves(frames: Frames) -> Figure | None:
    """Training bound (full lines) and test log-likelihood (dashed) at the greatest depth (Fig. 4 of the paper).

    Lines are means over the finished members, or over the running ones where none is finished, up to the last epoch
    that all of them have reached; bands are the standard error over seeds. A diverged member is a dotted line, and a
    cross at the foot of the epoch at which it ends. The first fifth of the training may leave the frame, so that the
    rest can be read.
    """
    depth = _deepest(frames, frames.epochs)
    if depth is None:
        return None
    members = frames.members[frames.members["depth"] == depth].set_index("digest")
    epochs = frames.epochs[frames.epochs["depth"] == depth]
    epochs = epochs.assign(status=epochs["digest"].map(members["status"].astype(str)))
    if not {"train_bound", "test_log_likelihood"} & set(epochs):
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        names, looks = _looks(frames.members[frames.members["depth"] == depth])
        drawn: list[pd.DataFrame] = []
        handles = []
        for name in names:
            colour, marker = looks[name]
            own = epochs[epochs["variant"] == name]
            for _, lost in own[own["status"] == "diverged"].groupby("digest", sort=False):
                curve = lost.dropna(subset=["train_bound"])
                axes.plot(curve["epoch"], curve["train_bound"], ":", color=colour, lw=1)
                end, foot = lost["epoch"].tail(1), axes.get_xaxis_transform()
                axes.plot(end, [0.03], "x", color=colour, ms=6, mew=1.6, transform=foot)
            curves, label = _common_curves(own)
            for quantity, line in (("train_bound", "-"), ("test_log_likelihood", "--")):
                if quantity not in curves:
                    continue
                curve = statistics.over_seeds(curves.dropna(subset=[quantity]), ["epoch"], quantity).sort_values(
                    "epoch"
                )
                dots = marker if quantity != "train_bound" else None
                axes.plot(curve["epoch"], curve["mean"], line, color=colour, lw=1.3, marker=dots, ms=3)
                if (curve["n"] > 1).any():
                    band = curve["mean"] - curve["se"], curve["mean"] + curve["se"]
                    axes.fill_between(curve["epoch"], *band, color=colour, alpha=0.2, lw=0)
                drawn.append(curve)
            handles.append(Line2D([], [], color=colour, label=f"{name}{label}"))
        _robust_limits(axes, drawn)
        handles += [Line2D([], [], color="0.3", label="training bound")]
        handles += [Line2D([], [], color="0.3", ls="--", marker=".", label=_test_label(epochs))]
        if (members["status"] == "diverged").any():
            handles += [Line2D([], [], color="0.3", ls=":", marker="x", ms=6, label="diverged member")]
        axes.set(xlabel="epoch", ylabel="nats per image", title=_title(frames, depth))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_below(figure, handles)
    return figure


def active_units(frames: Frames) -> Figure | None:
    """Active units of every layer at the greatest depth, with standard errors (Table 2 of the paper)."""
    members = frames.members
    depth = _deepest(frames, members[(members["status"] == "finished") & members["active_units"].notna()])
    if depth is None:
        return None
    members = members[members["depth"] == depth]
    table = statistics.active_units(members, ["depth", "variant"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        names, looks = _looks(members)
        width = 0.8 / len(names)
        handles = []
        for place, name in enumerate(names):
            own = table[table["variant"] == name]
            layers, total = own[own["layer"] != "total"], own[own["layer"] == "total"].iloc[0]
            x = layers["layer"].astype(int) + width * (place - (len(names) - 1) / 2)
            label = f"{name} (total {total['mean']:.3g})" if total["n"] else f"{name} (none finished)"
            bars = axes.bar(x, layers["mean"], 0.92 * width, color=looks[name][0], label=label)
            axes.errorbar(x, layers["mean"], layers["se"], fmt="none", ecolor="0.2", elinewidth=1, capsize=2)
            handles.append(bars)
        axes.set(xlabel="stochastic layer", ylabel="active units", title=_title(frames, depth))
        axes.set_xticks(range(1, depth + 1), [f"$z_{{{layer}}}$" for layer in range(1, depth + 1)])
        axes.grid(visible=False, axis="x")
        _legend_below(figure, handles)
    return figure


def unit_kl(frames: Frames) -> Figure | None:
    """KL of every unit over epochs, units sorted, a panel a variant and layer (Fig. 5 of the paper).

    Greatest depth and first seed, of the variants with at least two evaluations. The colours are on a logarithmic
    scale; a unit is active above the line in the colour bar.
    """
    depth = _deepest(frames, frames.units)
    if depth is None:
        return None
    units = frames.units[(frames.units["depth"] == depth)]
    units = units[units.groupby("digest")["epoch"].transform("nunique") >= 2]
    if units.empty:
        return None
    units = units[units["seed"] == units.groupby("variant", observed=True)["seed"].transform("min")]
    names = [name for name in units["variant"].cat.categories if (units["variant"] == name).any()]
    norm = LogNorm(1e-3, max(1.0, float(units["kl"].max())))
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(1.2 + 1.35 * depth, 0.9 + 1.3 * len(names)), layout="constrained")
        grid = figure.subplots(len(names), depth, squeeze=False, sharex=True)
        for name, row in zip(names, grid, strict=True):
            own = units[units["variant"] == name]
            for layer, axes in enumerate(row, start=1):
                mesh = _heat_map(axes, own[own["layer"] == layer], norm)
            row[0].set_ylabel(f"{_folded(name)}\nunit")
        for layer, axes in enumerate(grid[0], start=1):
            axes.set_title(f"$z_{{{layer}}}$")
        figure.suptitle(_title(frames, depth), fontsize="medium")
        figure.supxlabel("epoch", fontsize="medium")
        bar = figure.colorbar(mesh, ax=grid, label="KL (nats)", extend="min", shrink=min(1.0, 2 / len(names)))
        bar.ax.axhline(ACTIVE, color="white", lw=1.5)
    return figure


FIGURES: dict[str, Callable[[Frames], Figure | None]] = {
    "log_likelihood": log_likelihood,
    "learning_curves": learning_curves,
    "active_units": active_units,
    "unit_kl": unit_kl,
}
"""Every figure by its file name."""


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


def _looks(members: pd.DataFrame) -> tuple[list[str], dict[str, tuple[Any, str]]]:
    """The variants present, and a colour and marker for each: the same in every figure of a grid."""
    categories = list(members["variant"].cat.categories)
    palette = sns.color_palette("colorblind" if len(categories) <= 10 else "husl", len(categories))
    looks = {name: (palette[place], MARKERS[place % len(MARKERS)]) for place, name in enumerate(categories)}
    return [name for name in categories if (members["variant"] == name).any()], looks


def _deepest(frames: Frames, having: pd.DataFrame) -> int | None:
    """Greatest depth with any rows in `having`, in frames of a single group.

    Raises:
        ValueError: the frames hold several data sets or places on the further axes, which one figure would mix up.

    """
    if len(frames.members[["dataset", *frames.factors]].drop_duplicates()) > 1:
        raise ValueError("one figure shows one data set at one place on the axes: draw each of frames.groups() apart")
    return None if having.empty else int(having["depth"].max())


def _title(frames: Frames, depth: int | None = None) -> str:
    group = next(frames.groups(), None)
    words = [] if group is None else [group.title]
    return ", ".join(words + ([] if depth is None else [f"L = {depth}"]))


def _folded(name: str, width: int = 14) -> str:
    """A long name on several lines, broken after spaces and before plus signs."""
    lines = [""]
    for part in re.split(r"(?<=\s)|(?=\+)", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def _common_curves(epochs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The curves of a variant that are averaged, as far as all of them go, and what the legend adds to its name."""
    for status, word in (("finished", ""), ("running", ", running")):
        curves = epochs[epochs["status"] == status]
        if not curves.empty:
            last = curves.groupby("digest")["epoch"].max()
            return curves[curves["epoch"] <= last.min()], f" (n = {len(last)}{word})"
    return epochs.iloc[:0], " (none finished)"


def _robust_limits(axes: Axes, curves: Iterable[pd.DataFrame]) -> None:
    """Limits of y from the last four fifths of the training, so that its first epochs do not squash the rest."""
    means = pd.concat([curve[["epoch", "mean"]] for curve in curves] or [pd.DataFrame({"epoch": [], "mean": []})])
    late = means[means["epoch"] >= 0.2 * means["epoch"].max()]["mean"].dropna()
    if len(late):
        margin = 0.08 * float(late.max() - late.min()) or 1.0
        axes.set_ylim(late.min() - margin, late.max() + margin)


def _test_label(epochs: pd.DataFrame) -> str:
    counts = sorted(epochs["test_iw_samples"].dropna().unique()) if "test_iw_samples" in epochs else []
    return "test log-likelihood" + (f", K = {' / '.join(f'{count:.0f}' for count in counts)}" if counts else "")


def _legend_below(figure: Figure, handles: Iterable[Any]) -> None:
    figure.legend(handles=list(handles), loc="outside lower center", ncols=2)
