"""How the figures of a grid look alike: one style, and one colour and marker a variant."""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.frames import Frames
from analysis.notes import limits, not_canonical

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
SIZE = (5.6, 3.8)
"""Inches: a text column's width."""

Looks = dict[str, tuple[Any, str]]
"""Colour and marker by variant."""


def looks(members: pd.DataFrame) -> tuple[list[str], Looks]:
    """The variants present, and a colour and marker for each variant of the grid: the same in all of its figures."""
    categories = list(members["variant"].cat.categories)
    palette = sns.color_palette("colorblind" if len(categories) <= 10 else "husl", len(categories))
    found = {name: (palette[place], MARKERS[place % len(MARKERS)]) for place, name in enumerate(categories)}
    return [name for name in categories if (members["variant"] == name).any()], found


def key(name: str, look: tuple[Any, str], label: str | None = None) -> Line2D:
    """A variant's entry in a legend."""
    return Line2D([], [], color=look[0], marker=look[1], ms=5, label=label or name)


def shift(place: int, count: int, step: float = 0.06) -> float:
    """How far the variant at `place` of `count` stands beside the middle, so that variants do not hide one another."""
    return step * (place - (count - 1) / 2)


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


def legend_below(figure: Figure, handles: Iterable[Any]) -> None:
    """One legend under all panels."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=2)
