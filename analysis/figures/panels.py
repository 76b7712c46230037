"""Figures with a panel for each place on the axes: where the panels stand, and how the levels in them look."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import SIZE, VariantStyle, empty_figure, escape_mathtext, styles, variant_styles
from analysis.layout import VARIANT, Panels, at, levels, split

PANEL = (3.0, 2.6)
"""Width and height of one of several panels, in inches."""
IN_A_ROW = 4
"""Panels side by side, at most."""
MOST = 8
"""Places that a figure has panels for, at most, but for that of the test log-likelihood: two rows of panels."""


def panels(members: pd.DataFrame, places: Panels, most: int | None = MOST) -> list[tuple[str, pd.DataFrame]]:
    """The title and the members of every panel that has any.

    Args:
        members: what is to be shown.
        places: where the factors stand.
        most: of how many places (`analysis.layout.split`); None is all.

    """
    return [(places.panel(place), at(members, place)) for place in split(members, places, most)[0]]


def columns_of(count: int, members: pd.DataFrame, places: Panels) -> int:
    """How many of some panels stand side by side: one for each level of the factor that changes fastest, if they are no
    more than fit.
    """
    return min(count, len(levels(members, places.facets[-1])), IN_A_ROW) if places.facets else 1


def figure_of(count: int, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of common scale, in so many columns."""
    rows = -(-count // columns)
    figure = empty_figure(*SIZE) if count == 1 else empty_figure(PANEL[0] * columns, PANEL[1] * rows)
    every: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes in every[count:]:
        axes.set_visible(False)
    return figure, every[:count]


def set_titles(every: list[Axes], titles: list[str]) -> None:
    """The titles of panels that have any."""
    for axes, title in zip(every, titles, strict=True):
        if title:
            axes.set_title(escape_mathtext(title), fontsize="medium")


def outer(every: list[Axes], columns: int) -> Iterator[tuple[Axes, bool, bool]]:
    """Every panel, whether it is the lowest of its column, and whether it is the first of its row."""
    for place, axes in enumerate(every):
        is_lowest = place + columns >= len(every)
        if is_lowest:
            axes.tick_params(labelbottom=True)
        yield axes, is_lowest, place % columns == 0


def level_styles(members: pd.DataFrame, places: Panels) -> dict[Any, tuple[str, VariantStyle]]:
    """The label and the style of every level that has a color."""
    if places.color == VARIANT:
        return {name: (name, style) for name, style in variant_styles(members).items()}
    found = levels(members, places.color)
    labels = [places.label(places.color, level) for level in found]
    return dict(zip(found, styles(labels).items(), strict=True))
