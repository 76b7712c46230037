"""A search: what each setting has to do with the bound on the validation images."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.style import STYLE, add_legend, add_title, empty_figure, escape_mathtext, title_text
from analysis.frames import Frames
from analysis.statistics.search import points as points_of

LOGARITHMIC = 20
"""An axis is logarithmic where its greatest value is more than so many times the least."""
COLUMNS = 3
"""Panels beside one another."""


def search(frames: Frames) -> Figure | None:
    """The bound on the validation images of every point of a search against each of its settings.

    A panel per setting. A point is drawn at the last rung that it reached, the darker the more epochs it was trained
    for; a star is the best point. Points of fewer epochs are lower for that reason, too. Points that diverged or failed
    are left out.
    """
    if frames.search is None:
        return None
    points = points_of(frames)
    points = points.dropna(subset=["mean"]) if len(points) else points
    if points.empty:
        return None
    keys = [*(key for key in ("dataset", "depth", "variant") if key in points), "trial"]
    points = points.sort_values("epochs").drop_duplicates(keys, keep="last")
    settings = frames.search.space
    rows = -(-len(settings) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = empty_figure(2.6 * min(COLUMNS, len(settings)) + 0.6, 2.4 * rows + 0.6)
        panels = figure.subplots(rows, min(COLUMNS, len(settings)), squeeze=False, sharey=True)
        for path, axes in zip(settings, panels.flat, strict=False):
            _draw(axes, points, path)
        for axes in panels[:, 0]:
            axes.set_ylabel("validation bound (nats)")
        for axes in list(panels.flat)[len(settings) :]:
            axes.set_visible(False)
        shades = _shades(points)
        handles = [
            Line2D([], [], ls="", marker="o", color=shade, label=f"{epochs:,} epochs")
            for epochs, shade in shades.items()
        ]
        add_legend(
            figure, [*handles, Line2D([], [], ls="", marker="*", ms=10, color="#d55e00", label="best")], columns=4
        )
        add_title(figure, title_text(frames))
    return figure


def _shades(points: pd.DataFrame) -> dict[int, str]:
    """A shade of gray for every number of epochs, the darkest for the greatest."""
    rungs = sorted(points["epochs"].unique())
    return {int(epochs): str(round(0.75 * (1 - (place + 1) / len(rungs)), 2)) for place, epochs in enumerate(rungs)}


def _draw(axes: Axes, points: pd.DataFrame, path: str) -> None:
    values = points[path]
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    x = values if is_number else values.map(str)
    for epochs, shade in _shades(points).items():
        own = points["epochs"] == epochs
        axes.plot(x[own], points["mean"][own], "o", color=shade, ms=4.5)
    last = points[points["epochs"] == points["epochs"].max()]
    best = last["mean"].idxmax()
    axes.plot([x[best]], [points["mean"][best]], "*", color="#d55e00", ms=11, zorder=3)
    if is_number and values.min() > 0 and values.max() > LOGARITHMIC * values.min():
        axes.set_xscale("log")
    axes.set_xlabel(escape_mathtext(path.rsplit(".", 1)[-1]))
