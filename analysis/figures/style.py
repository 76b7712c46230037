"""How the figures of a grid look alike: one style, and one color, marker and hatch per variant."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.caveats import limits, not_canonical
from analysis.figures.glyphs import drawable
from analysis.frames import Frames

MARKERS = "osD^vP*Xhp"
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "+++", "ooo", "|||", "OO")
"""Hatches of bars, which distinguish them without colors."""
DEFAULTS = {
    name: value
    for name, value in mpl.rcParamsDefault.items()
    if not name.startswith("backend") and name not in ("interactive", "toolbar")
}
# The identifiers in an SVG would else be random.
DEFAULTS["svg.hashsalt"] = "analysis"
"""Settings of matplotlib as it comes, less those of windows: a report looks the same whatever its user has set."""
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
"""Settings of matplotlib for every figure."""
IMAGE_STYLE = {**STYLE, "axes.grid": False}
"""Settings of matplotlib for figures of images and of areas of color, on which a grid would lie."""
SIZE = (5.6, 3.8)
"""Width and height of a figure of one panel, in inches; the width is that of a text column."""
MIN_WIDTH = 3.6
"""The least width of a figure in inches, so that titles have space."""
MARGIN = 0.1
"""What titles and legends leave free on either side, in inches."""


class VariantStyle(NamedTuple):
    """How one variant looks in all figures of a grid."""

    color: Any
    marker: str
    hatch: str


def empty_figure(width: float, height: float) -> Figure:
    """A figure without panels, of this size in inches or wider."""
    return Figure(figsize=(max(width, MIN_WIDTH), height), layout="constrained")


def variant_styles(members: pd.DataFrame) -> dict[str, VariantStyle]:
    """The style of every variant that is present, in the order of the grid.

    A variant has the same style in all figures of a grid, whatever others are present.

    Args:
        members: one row per member, as `Frames.members`.

    """
    every = styles([str(name) for name in members["variant"].cat.categories])
    return {name: style for name, style in every.items() if (members["variant"] == name).any()}


def styles(names: Sequence[str]) -> dict[str, VariantStyle]:
    """A style for each of some names, in their order."""
    palette = sns.color_palette("colorblind" if len(names) <= 10 else "husl", len(names))
    return {
        name: VariantStyle(palette[place], MARKERS[place % len(MARKERS)], HATCHES[place % len(HATCHES)])
        for place, name in enumerate(names)
    }


def legend_entry(style: VariantStyle, label: str) -> Line2D:
    """The entry of a variant in a legend."""
    return Line2D([], [], color=style.color, marker=style.marker, ms=5, label=escape_mathtext(label))


def escape_mathtext(text: str) -> str:
    r"""`text` with its dollar signs shown as such; matplotlib would read mathematics between two of them. What the font
    lacks is shown by its code points (see `drawable`).

    Examples:
        >>> print(escape_mathtext("$5 or $6"))
        \$5 or \$6

    """
    return drawable(text).replace("$", r"\$")


def offset(place: int, count: int, step: float = 0.06) -> float:
    """How far the variant at `place` of `count` is moved sideways, so that variants do not hide one another.

    All together take up no more than 0.6, so that those of one depth do not mix with those of the next.

    Args:
        place: from 0.
        count: number of variants.
        step: distance of neighboring variants if there is space for it.

    Examples:
        >>> [offset(place, 3) for place in range(3)]
        [-0.06, 0.0, 0.06]

    """
    return min(step, 0.6 / max(1, count - 1)) * (place - (count - 1) / 2)


def of_one_data_set(frames: Frames) -> Frames:
    """What a figure is to show.

    Raises:
        ValueError: the frames hold several data sets, which one figure would mix.

    """
    if frames.members["dataset"].nunique() > 1:
        raise ValueError("one figure shows one data set: draw each of frames.groups() apart")
    return frames


def greatest_depth(rows: pd.DataFrame) -> int | None:
    """The greatest depth of any row of a frame; None if there are no rows."""
    return None if rows.empty else int(rows["depth"].max())


def title_text(frames: Frames, *details: str) -> str:
    """`mnist, L = 5`: the group that a figure shows, and `details`.

    The title names files that are not the distributor's and images that were left out.
    """
    group = next(frames.groups(), None)
    return ", ".join([subject_text(group.title, frames) if group else "", *details]).removeprefix(", ")


def subject_text(subject: str, frames: Frames) -> str:
    """What a figure shows, with what is said of its data: files that are not the distributor's, images left out."""
    caveats = [*["not the distributor's files"] * not_canonical(frames.members), *limits(frames.members)]
    return subject + f" ({', '.join(caveats)})" * bool(caveats)


def mark_diverged(axes: Axes, x: "pd.Series[float]", style: VariantStyle) -> None:
    """A cross at the bottom of the axes at each x."""
    bottom = axes.get_xaxis_transform()
    axes.plot(x, np.full(len(x), 0.03), "x", color=style.color, ms=6, mew=1.6, transform=bottom)


def wrap(name: str, width: int = 14) -> str:
    r"""A long name on several lines, broken after spaces and before plus signs, but not within a code point such
    as `U+57FA`.

    Args:
        name: the name of a variant.
        width: characters per line; a longer word is not broken.

    Examples:
        >>> wrap("Prob. ladder+BN+WU")
        'Prob. ladder\n+BN+WU'

    """
    lines = [""]
    for part in re.split(r"(?<=\s)|(?<!\bU)(?=\+)", drawable(name)):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def panel_length(names: Iterable[str], minimum: float) -> float:
    """The side of a panel in inches along which the longest of these wrapped names fits, and at least `minimum`."""
    return max(minimum, *(0.1 * len(line) for name in names for line in name.split("\n")))


def add_legend(figure: Figure, handles: Iterable[Any], columns: int = 2, **spacing: float) -> None:
    """One legend below all panels, in as many columns as there is space for.

    A figure too narrow for a single column is widened; it is made taller where the legend would squash the panels.

    Args:
        figure: it has its width, and no title yet (see `add_title`).
        handles: the entries, with their labels.
        columns: the greatest number of columns.
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


def add_title(figure: Figure, text: str) -> None:
    """A title above all panels, on as many lines as the width of the figure requires; further lines make it taller."""
    artist = figure.suptitle("", fontsize="medium")
    available = (figure.get_figwidth() - 2 * MARGIN) * figure.dpi
    width = max(8, len(text))
    while True:
        # `L = 5` stays on one line.
        lines = textwrap.wrap(text.replace(" = ", "\xa0=\xa0"), width, break_on_hyphens=False)
        artist.set_text(escape_mathtext("\n".join(lines).replace("\xa0", " ")))
        extent = artist.get_window_extent()
        if extent.width <= available or width <= 8:
            break
        width = max(8, min(width - 1, int(max(map(len, lines)) * available / extent.width)))
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi * (1 - 1 / len(lines)))
