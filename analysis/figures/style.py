"""How the figures of a grid look alike: one style, and one colour and marker a variant."""

import re
import textwrap
from collections.abc import Iterable
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.frames import Frames
from analysis.tables.footnotes import limits, not_canonical

MARKERS = "osD^vP*Xhp"
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "+++", "ooo", "|||", "OO")
"""Of bars, so that they can be told apart without colours."""
STYLE = {
    **sns.axes_style("ticks", {"axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True}),
    **sns.plotting_context("paper", font_scale=1.1),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "mathtext.fontset": "dejavusans",
    # Text stays text in a PDF.
    "pdf.fonttype": 42,
}
SIZE = (5.6, 3.8)
"""Inches: a text column's width."""
NARROWEST = 3.6
"""Inches: the least width of a figure, so that titles have room."""
MARGIN = 0.1
"""Inches that titles and legends leave free on either side."""

Looks = dict[str, tuple[Any, str]]
"""Colour and marker by variant."""


def blank(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, or wider."""
    return Figure(figsize=(max(width, NARROWEST), height), layout="constrained")


def looks(members: pd.DataFrame) -> tuple[list[str], Looks]:
    """The variants present, and a colour and marker for each variant of the grid: the same in all of its figures."""
    categories = list(members["variant"].cat.categories)
    palette = sns.color_palette("colorblind" if len(categories) <= 10 else "husl", len(categories))
    found = {name: (palette[place], MARKERS[place % len(MARKERS)]) for place, name in enumerate(categories)}
    return [name for name in categories if (members["variant"] == name).any()], found


def hatches(members: pd.DataFrame) -> dict[str, str]:
    """A hatch for each variant of the grid: the same in all of its figures."""
    return {name: HATCHES[place % len(HATCHES)] for place, name in enumerate(members["variant"].cat.categories)}


def key(name: str, look: tuple[Any, str], label: str | None = None) -> Line2D:
    """A variant's entry in a legend."""
    return Line2D([], [], color=look[0], marker=look[1], ms=5, label=literal(label or name))


def literal(text: str) -> str:
    """Text with its dollar signs as they are; matplotlib would read mathematics between two of them."""
    return text.replace("$", r"\$")


def shift(place: int, count: int, step: float = 0.06) -> float:
    """How far the variant at `place` of `count` stands beside the middle, so that variants do not hide one another.

    All together take up no more than 0.6, so that those of one depth do not mix with those of the next.
    """
    return min(step, 0.6 / max(1, count - 1)) * (place - (count - 1) / 2)


def deepest(frames: Frames, having: pd.DataFrame) -> int | None:
    """Greatest depth with any rows in `having`, in frames of a single group.

    Raises:
        ValueError: the frames hold several data sets or places on the further axes, which one figure would mix up.

    """
    if len(frames.members[["dataset", *frames.factors]].drop_duplicates()) > 1:
        raise ValueError("one figure shows one data set at one place on the axes: draw each of frames.groups() apart")
    return None if having.empty else int(having["depth"].max())


def title(frames: Frames, *more: str) -> str:
    """`mnist, L = 5`: the group, and what else tells the figure from others. It says if data are not canonical or
    not all of them.
    """
    group = next(frames.groups(), None)
    if group is None:
        return ", ".join(more)
    caveats = [*["not the distributor's files"] * not_canonical(frames.members), *limits(frames.members)]
    return ", ".join([group.title + f" ({', '.join(caveats)})" * bool(caveats), *more])


def folded(name: str, width: int = 14) -> str:
    """A long name on several lines, broken after spaces and before plus signs."""
    lines = [""]
    for part in re.split(r"(?<=\s)|(?=\+)", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def room(names: Iterable[str], least: float) -> float:
    """Inches that a panel needs for the longest of these folded names along one of its sides."""
    return max(least, *(0.1 * len(line) for name in names for line in name.split("\n")))


def legend_below(figure: Figure, handles: Iterable[Any], columns: int = 2, **spacing: float) -> None:
    """One legend under all panels, in as many columns as there is room for.

    A figure too narrow for a single column is widened; it is made taller where the legend would squash the panels.

    Args:
        figure: it has its width, and no heading yet (see `heading`).
        handles: the entries, with their labels.
        columns: at most so many.
        spacing: settings of `Figure.legend`.

    """
    entries = list(handles)
    for count in range(columns, 0, -1):
        legend = figure.legend(handles=entries, loc="outside lower center", ncols=count, **spacing)
        extent = legend.get_window_extent()
        width, height = extent.width / figure.dpi + 2 * MARGIN, extent.height / figure.dpi
        if width <= figure.get_figwidth():
            break
        if count > 1:
            legend.remove()
    figure.set_figwidth(max(width, figure.get_figwidth()))
    figure.set_figheight(figure.get_figheight() + max(0, height - figure.get_figheight() / 5))


def heading(figure: Figure, text: str) -> None:
    """A title over all panels, on as many lines as the figure's width asks for; further lines make it taller."""
    artist = figure.suptitle("", fontsize="medium")
    room = (figure.get_figwidth() - 2 * MARGIN) * figure.dpi
    width = max(8, len(text))
    while True:
        # `L = 5` stays on one line.
        lines = textwrap.wrap(text.replace(" = ", "\xa0=\xa0"), width, break_on_hyphens=False)
        artist.set_text(literal("\n".join(lines).replace("\xa0", " ")))
        extent = artist.get_window_extent()
        if extent.width <= room or width <= 8:
            break
        width = max(8, min(width - 1, int(max(map(len, lines)) * room / extent.width)))
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi * (1 - 1 / len(lines)))
