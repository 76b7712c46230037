"""Log-likelihoods over epochs (Fig. 4)."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.panels import columns_of, figure_of, level_styles, outer, panels, set_titles
from analysis.figures.style import (
    STYLE,
    VariantStyle,
    add_legend,
    add_title,
    greatest_depth,
    legend_entry,
    mark_diverged,
    of_one_data_set,
    title_text,
)
from analysis.frames import Frames
from analysis.layout import at_one_depth, known
from analysis.statistics import mean_over_seeds

MAX_MARKERS = 20
"""Markers per curve: enough to distinguish it from others without colors."""
PARTS = ("validation", "test")
"""The sets of images that curves are watched on: the validation set, or where there is none the test set."""
MEASURED = {f"{part}_log_likelihood": [f"{part}_iw_samples", f"{part}_images"] for part in PARTS}
"""What the points of one line of a watched quantity have in common."""
FINAL_SIZE = 6.5
"""Size of the marker of a final evaluation."""
LINES = {"train_bound_beta_1": ("-", 1.3), **dict.fromkeys(MEASURED, ("--", 1.3)), "train_bound": ("-.", 0.7)}
"""The quantities of learning curves, and the style and width of their lines."""


def learning_curves(frames: Frames) -> Figure | None:
    """Training bound at β = 1 (full lines) and validation log-likelihood (dashed), or without a validation set the test
    log-likelihood, at the greatest depth (Fig. 4 of the paper).

    Where the objective is another than the bound at β = 1, as it is during warm-up, it is a thin line of dashes and
    dots beside the training bound. Lines are means over the finished members, or over the trained or the running
    ones where none is finished, up to the last epoch that all of them have reached; bands are the standard error
    over seeds. The legend says with how many importance samples K and on how many images of which set the dashed
    curve was measured; where members or epochs differ in this, each way has a line of its own. The large marker
    with a bar at the end of the training is the final evaluation on all test images, with early stopping at the
    mean best epoch: mean and standard error over the finished members. Where the curve is of the validation set, or
    of the first test images alone, the hollow marker is the final evaluation on these, with which the curve can be
    compared, whereas the other one can be compared with tables. A diverged member is a dotted line with a cross at
    the bottom, at the epoch at which it ends. The first fifth of the training may lie outside the frame, so that
    the rest can be read.
    """
    depth = greatest_depth(of_one_data_set(frames).epochs)
    if depth is None or not set(LINES) & set(frames.epochs):
        return None
    deepest = frames.select(frames.members["depth"] == depth)
    places, members = at_one_depth(deepest), known(deepest.members, frames.factors)
    shown = panels(members, places)
    with mpl.rc_context(STYLE):
        columns = columns_of(len(shown), members, places)
        figure, every = figure_of(len(shown), columns)
        looks = level_styles(members, places)
        drawn: list[pd.DataFrame] = []
        counts: dict[Any, list[str]] = {level: [] for level in looks}
        for axes, (_, own) in zip(every, shown, strict=True):
            for level, (_, style) in looks.items():
                curves, label = _draw_level(axes, own[own[places.color] == level], deepest.epochs, style)
                drawn += curves
                counts[level].append(label)
        _robust_limits(every[0], drawn)
        set_titles(every, [title for title, _ in shown])
        epochs = deepest.epochs[deepest.epochs["digest"].isin(pd.concat([own for _, own in shown])["digest"])]
        for axes, is_lowest, is_first in outer(every, columns):
            axes.set(xlabel="epoch" * is_lowest, ylabel="nats per image" * is_first)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if epochs["epoch"].nunique() == 1:
            every[0].set_xlim(epochs["epoch"].iloc[0] - 1, epochs["epoch"].iloc[0] + 1)
        handles = [
            legend_entry(style, name + " or".join(dict.fromkeys(filter(None, counts[level]))))
            for level, (name, style) in looks.items()
        ]
        handles += list(_explained(epochs, _finished(members)))
        if (members["status"] == "diverged").any():
            handles += [Line2D([], [], color="0.3", ls=":", marker="x", ms=6, label="diverged member")]
        add_legend(figure, handles)
        add_title(figure, title_text(frames, f"L = {depth}"))
    return figure


def _finished(members: pd.DataFrame) -> pd.DataFrame:
    return members[members["status"] == "finished"].dropna(subset=["test_log_likelihood"])


def _draw_level(
    axes: Axes, members: pd.DataFrame, epochs: pd.DataFrame, style: VariantStyle
) -> tuple[list[pd.DataFrame], str]:
    """The curves of the members of one color in a panel, and what the legend adds to its name."""
    status = members.set_index("digest")["status"].astype(str)
    own = epochs[epochs["digest"].isin(members["digest"])]
    own = own.assign(status=own["digest"].map(status))
    _draw_diverged(axes, own[own["status"] == "diverged"], style)
    averaged, label = _averaged(own)
    drawn = [*_draw_curves(axes, averaged, style), *_draw_final(axes, _finished(members), style)]
    return drawn, label if len(members) else ""


def is_another_objective(epochs: pd.DataFrame) -> "pd.Series[bool]":
    """Where what is maximized is another than the bound at β = 1, which is the same to the last bit where it is not."""
    if not {"train_bound", "train_bound_beta_1"} <= set(epochs):
        return pd.Series(False, index=epochs.index)
    return epochs["train_bound"].notna() & (epochs["train_bound"] != epochs["train_bound_beta_1"])


def _draw_diverged(axes: Axes, epochs: pd.DataFrame, style: VariantStyle) -> None:
    """The training bound at beta = 1 of each diverged member of a variant, and a cross where it ends."""
    for _, member in epochs.groupby("digest", sort=False):
        curve = member.dropna(subset=["train_bound_beta_1"])
        line: dict[str, Any] = {"color": style.color, "lw": 1, "ms": 3, "markevery": _marker_interval(curve)}
        axes.plot(curve["epoch"], curve["train_bound_beta_1"], f":{style.marker}", **line)
        mark_diverged(axes, member["epoch"].tail(1), style)


def _draw_curves(axes: Axes, epochs: pd.DataFrame, style: VariantStyle) -> Iterator[pd.DataFrame]:
    """The mean of each quantity of one color over epochs, with its standard error; yields each curve."""
    for quantity, (line, width) in LINES.items():
        if quantity not in epochs:
            continue
        is_watched = quantity in MEASURED
        points = epochs.dropna(subset=[quantity])
        if quantity == "train_bound":
            points = points[is_another_objective(points)]
        for _, alike in points.groupby(MEASURED.get(quantity, "depth"), dropna=False, observed=True):
            curve = mean_over_seeds(alike, ["epoch"], quantity).sort_values("epoch")
            curve = _with_gaps(curve, epochs, everywhere=not is_watched)
            appearance: dict[str, Any] = {"color": style.color, "lw": width, "ms": 2.3 * width}
            axes.plot(
                curve["epoch"], curve["mean"], f"{line}{style.marker}", markevery=_marker_interval(curve), **appearance
            )
            if (curve["n"] > 1).any():
                band = curve["mean"] - curve["se"], curve["mean"] + curve["se"]
                axes.fill_between(curve["epoch"], *band, color=style.color, alpha=0.2, lw=0)
            yield curve


def _explained(epochs: pd.DataFrame, finished: pd.DataFrame) -> Iterator[Line2D]:
    """What the legend says of the lines of all variants and of the final evaluations."""
    yield Line2D([], [], color="0.3", label="training bound at β = 1")
    if (differs := is_another_objective(epochs)).any():
        is_warm_up = bool((epochs["beta"][differs] < 1).all())
        yield Line2D([], [], color="0.3", ls="-.", lw=0.7, label=f"objective{' (β < 1)' * is_warm_up}")
    for part, (quantity, measured) in zip(PARTS, MEASURED.items(), strict=True):
        points = epochs.dropna(subset=[quantity]) if quantity in epochs else epochs.iloc[:0]
        if len(points):
            label = _measured(part, "", points[measured], finished[f"{part}_images"].max())
            yield Line2D([], [], color="0.3", ls="--", marker=".", label=label)
    if len(finished):
        label = _measured("test", "final ", finished[["iw_samples", "test_images"]])
        yield Line2D([], [], color="0.3", ls="", marker="o", ms=FINAL_SIZE, label=label)
    if len(shown := sorted(finished["curve_test_images"].dropna().unique())):
        label = f"the same on the first {' and '.join(f'{count:,.0f}' for count in shown)}"
        yield Line2D([], [], color="0.3", ls="", marker="o", mfc="none", ms=FINAL_SIZE, label=label)
    validated = finished.dropna(subset=["validation_log_likelihood"])
    if len(validated):
        images = validated["curve_validation_images"].fillna(validated["validation_images"])
        ways = validated[["iw_samples"]].assign(images=images)
        label = _measured("validation", "final ", ways, validated["validation_images"].max())
        yield Line2D([], [], color="0.3", ls="", marker="o", mfc="none", ms=FINAL_SIZE, label=label)


def _with_gaps(curve: pd.DataFrame, epochs: pd.DataFrame, *, everywhere: bool) -> pd.DataFrame:
    """A curve without the epochs in which a member's row is lost: there the line ends, as the mean would be of others.

    Args:
        curve: the mean by epoch.
        epochs: the members' rows.
        everywhere: whether every epoch has a value, and not only the points of the watched curve.

    """
    lost = set(epochs[epochs["beta"].isna()]["epoch"])
    if everywhere:
        curve = pd.concat([curve, pd.DataFrame({"epoch": sorted(lost - set(curve["epoch"]))})]).sort_values("epoch")
    return curve.assign(**{name: curve[name].mask(curve["epoch"].isin(lost)) for name in ("mean", "se")})


def _draw_final(axes: Axes, finished: pd.DataFrame, style: VariantStyle) -> Iterator[pd.DataFrame]:
    """The mean of the final evaluations of one variant at its last epoch, with its standard error, on all test images
    and on those of the curve where these are others; yields each.
    """
    like_curve = finished["curve_test_log_likelihood"]
    for quantity in ("curve_validation_log_likelihood", "validation_log_likelihood"):
        like_curve = like_curve.fillna(finished[quantity])
    finished = finished.assign(like_curve=like_curve)
    full: dict[str, Any] = {"mec": "white", "mew": 0.6}
    hollow: dict[str, Any] = {"mfc": "none", "mew": 1.2}
    for quantity, look in (("test_log_likelihood", full), ("like_curve", hollow)):
        values = finished.dropna(subset=[quantity])
        if values.empty:
            continue
        # With early stopping, every member has an epoch of its own whose weights are evaluated.
        last = values["best_epoch"].fillna(values["epochs"])
        values = values.assign(epoch=last.groupby(values["planned_epochs"]).transform("mean"))
        points = mean_over_seeds(values, ["epoch"], quantity)
        bar: dict[str, Any] = {"color": style.color, "ms": FINAL_SIZE, "capsize": 2.5, **look}
        axes.errorbar(points["epoch"], points["mean"], points["se"], fmt=style.marker, zorder=3, **bar)
        yield points


def _marker_interval(curve: pd.DataFrame) -> int:
    """Every how many points a curve has a marker."""
    return max(1, -(-len(curve) // MAX_MARKERS))


def _averaged(epochs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The curves of a variant that are averaged, as far as all of them go, and what the legend adds to its name."""
    for status, word in (("finished", ""), ("trained", ", trained"), ("running", ", running")):
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


def _measured(part: str, when: str, ways: pd.DataFrame, images: float = math.nan) -> str:
    """A legend's entry with a line for each way of measuring: `K = 100 on 360 test images`.

    Args:
        part: the set of images that a log-likelihood was measured on.
        when: words before its name.
        ways: one row per measurement: its number of importance samples, and that of its images.
        images: how many images the set has. Fewer than these are called the first ones.

    """
    lines = []
    for samples, count in sorted(
        ways.dropna(subset=list(ways)[:1]).drop_duplicates().itertuples(index=False, name=None)
    ):
        first = "the first " if count < images else ""
        lines.append(f"K = {samples:,.0f}" + ("" if math.isnan(count) else f" on {first}{count:,.0f} {part} images"))
    return ",\n".join([f"{when}{part} log-likelihood", *lines])
