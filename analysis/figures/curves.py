"""Log-likelihoods: by depth (Fig. 3) and over epochs (Fig. 4)."""

from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import SIZE, STYLE, blank, deepest, heading, key, legend_below, looks, shift, title
from analysis.frames import Frames
from analysis.paper import published
from analysis.statistics import over_seeds

MARKED = 20
"""Markers on a curve at most: enough to tell it from others without colours."""


def log_likelihood(frames: Frames) -> Figure | None:
    """Test log-likelihood by depth, a line a variant (Fig. 3 of the paper).

    Bars are the standard error over seeds, faint dots the seeds. Hollow markers are the paper's published values. A
    cross at the foot marks a depth at which members diverged; they are in no mean.
    """
    members = frames.members
    finished = members[members["status"] == "finished"].dropna(subset=["test_log_likelihood"])
    if deepest(frames, finished) is None:
        return None
    with mpl.rc_context(STYLE):
        figure = blank(*SIZE)
        axes = figure.subplots()
        names, look = looks(members)
        table = over_seeds.cells(members, ["depth", "variant"])
        paper = _published(members)
        for place, name in enumerate(names):
            (colour, marker), aside = look[name], shift(place, len(names))
            own = table[table["variant"] == name].sort_values("depth")
            seeds = finished[finished["variant"] == name]
            x, y = seeds["depth"] + aside, seeds["test_log_likelihood"]
            axes.plot(x, y, ".", color=colour, alpha=0.4, ms=5, mew=0, zorder=1)
            x = own["depth"] + aside
            axes.errorbar(x, own["mean"], own["se"], color=colour, capsize=2.5, lw=1.4, elinewidth=1.1, fmt="-")
            axes.plot(x, own["mean"], marker, color=colour, ms=4.5)
            theirs = paper[paper["variant"] == name].sort_values("depth")
            if len(theirs):
                axes.plot(theirs["depth"] + aside, theirs["value"], marker, mfc="none", color=colour, ms=6.5, mew=1.2)
            lost = own[own["diverged"] > 0]
            foot = axes.get_xaxis_transform()
            axes.plot(lost["depth"] + aside, np.full(len(lost), 0.03), "x", color=colour, ms=6, mew=1.6, transform=foot)
        handles = [key(name, look[name]) for name in names]
        if len(paper):
            handles.append(
                Line2D([], [], ls="", marker="o", mfc="none", mec="0.3", ms=6.5, label=_published_label(members, paper))
            )
        if (table["diverged"] > 0).any():
            handles.append(Line2D([], [], color="0.3", marker="x", ms=6, mew=1.6, ls="", label="diverged members"))
        axes.set(xlabel="number of stochastic layers L", ylabel="test log-likelihood (nats)")
        axes.set_xticks(sorted(members["depth"].unique()))
        legend_below(figure, handles)
        heading(figure, title(frames))
    return figure


def _published(members: pd.DataFrame) -> pd.DataFrame:
    """The paper's values for the cells that are here: `depth`, `value`, and `variant` as this grid calls it."""
    paper = published.log_likelihoods(str(members["dataset"].iloc[0]))
    ours = members[["depth", "variant"]].assign(paper=published.variants(members))
    # A fine-tuned member has values of its own, in Table 1.
    ours = ours[~published.is_fine_tuned(members)].drop_duplicates()
    return ours.merge(paper.rename(columns={"variant": "paper"}), on=["depth", "paper"])


def _published_label(members: pd.DataFrame, paper: pd.DataFrame) -> str:
    """It says if the published values were obtained in another way (see `published.unlike`)."""
    ours = members[~published.is_fine_tuned(members)].merge(paper[["depth", "variant", "paper"]])
    cells = ours.groupby(["depth", "variant", "paper"], observed=True)
    alike = not any(published.unlike(own, str(own["paper"].iloc[0])) for _, own in cells)
    return "published" if alike else "published (data, budget or model differ)"


def learning_curves(frames: Frames) -> Figure | None:
    """Training bound (full lines) and test log-likelihood (dashed) at the greatest depth (Fig. 4 of the paper).

    Lines are means over the finished members, or over the running ones where none is finished, up to the last epoch
    that all of them have reached; bands are the standard error over seeds. A diverged member is a dotted line, and a
    cross at the foot of the epoch at which it ends. The first fifth of the training may leave the frame, so that the
    rest can be read.
    """
    depth = deepest(frames, frames.epochs)
    if depth is None:
        return None
    members = frames.members[frames.members["depth"] == depth].set_index("digest")
    epochs = frames.epochs[frames.epochs["depth"] == depth]
    epochs = epochs.assign(status=epochs["digest"].map(members["status"].astype(str)))
    if not {"train_bound", "test_log_likelihood"} & set(epochs):
        return None
    with mpl.rc_context(STYLE):
        figure = blank(*SIZE)
        axes = figure.subplots()
        names, look = looks(frames.members[frames.members["depth"] == depth])
        drawn: list[pd.DataFrame] = []
        handles = []
        for name in names:
            colour, marker = look[name]
            own = epochs[epochs["variant"] == name]
            for _, lost in own[own["status"] == "diverged"].groupby("digest", sort=False):
                curve = lost.dropna(subset=["train_bound"])
                style = f":{marker}"
                axes.plot(
                    curve["epoch"], curve["train_bound"], style, color=colour, lw=1, ms=3, markevery=_every(curve)
                )
                end, foot = lost["epoch"].tail(1), axes.get_xaxis_transform()
                axes.plot(end, [0.03], "x", color=colour, ms=6, mew=1.6, transform=foot)
            curves, label = _common(own)
            for quantity, line in (("train_bound", "-"), ("test_log_likelihood", "--")):
                if quantity not in curves:
                    continue
                curve = over_seeds.over_seeds(curves.dropna(subset=[quantity]), ["epoch"], quantity).sort_values(
                    "epoch"
                )
                style = f"{line}{marker}"
                axes.plot(curve["epoch"], curve["mean"], style, color=colour, lw=1.3, ms=3, markevery=_every(curve))
                if (curve["n"] > 1).any():
                    band = curve["mean"] - curve["se"], curve["mean"] + curve["se"]
                    axes.fill_between(curve["epoch"], *band, color=colour, alpha=0.2, lw=0)
                drawn.append(curve)
            handles.append(key(name, look[name], f"{name}{label}"))
        _robust_limits(axes, drawn)
        handles += [Line2D([], [], color="0.3", label="training bound")]
        handles += [Line2D([], [], color="0.3", ls="--", marker=".", label=_test_label(epochs))]
        if (members["status"] == "diverged").any():
            handles += [Line2D([], [], color="0.3", ls=":", marker="x", ms=6, label="diverged member")]
        axes.set(xlabel="epoch", ylabel="nats per image")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if epochs["epoch"].nunique() == 1:
            axes.set_xlim(epochs["epoch"].iloc[0] - 1, epochs["epoch"].iloc[0] + 1)
        legend_below(figure, handles)
        heading(figure, title(frames, f"L = {depth}"))
    return figure


def _every(curve: pd.DataFrame) -> int:
    """Of how many epochs of a curve one has a marker."""
    return max(1, -(-len(curve) // MARKED))


def _common(epochs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
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
    """With the number of samples on a line of its own: `K = 100, at the end 5,000`."""
    if "test_iw_samples" not in epochs:  # nobody was evaluated
        return "test log-likelihood"
    known = epochs.dropna(subset=["test_iw_samples"])
    counts = [f"{count:,.0f}" for count in known.sort_values("epoch")["test_iw_samples"].unique()]
    return "test log-likelihood" + f",\nK = {', at the end '.join(counts)}" * bool(counts)
