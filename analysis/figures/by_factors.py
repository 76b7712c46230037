"""The test log-likelihood by depth (Fig. 3), or over the axes of a grid."""

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.caveats import x_of
from analysis.figures.panels import columns_of, figure_of, level_styles, outer, panels, set_titles
from analysis.figures.style import (
    STYLE,
    VariantStyle,
    add_legend,
    add_title,
    escape_mathtext,
    legend_entry,
    mark_diverged,
    of_one_data_set,
    offset,
    subject_text,
)
from analysis.frames import Frames
from analysis.layout import DEPTH, VARIANT, Layout, is_ordered, known, layout, positions
from analysis.paper import published
from analysis.statistics import cells
from hvae_spec.spec.labels import level_text

X = "position"
"""The column of a member's place on the horizontal axis."""

CHARACTER = 0.1
"""About the width of a character of a tick's label, with its share of the gaps between labels, in inches."""


def log_likelihood(frames: Frames) -> Figure | None:
    """Test log-likelihood by depth, a line per variant (Fig. 3 of the paper). With further axes, what lies along the
    horizontal axis, what has colors and what has panels is chosen by `analysis.layout`. Lines join levels that have an
    order.

    Bars are the standard error over seeds, faint dots the seeds. Hollow markers are the paper's published values. A
    cross at the bottom marks a place at which members diverged; they are excluded from the mean.
    """
    members = of_one_data_set(frames).members
    if members[members["status"] == "finished"]["test_log_likelihood"].dropna().empty:
        return None
    places = layout(frames)
    members = known(members, places.axes)
    members = members.assign(**{X: members[places.x].map(positions(members, places.x)).astype(float)})
    with mpl.rc_context(STYLE):
        shown = panels(members, places, most=None)
        columns = columns_of(len(shown), members, places)
        figure, every = figure_of(len(shown), columns)
        looks = level_styles(members, places)
        papers = [_draw(axes, own, places, looks) for axes, (_, own) in zip(every, shown, strict=True)]
        set_titles(every, [title for title, _ in shown])
        _label(every, columns, figure.get_figwidth() / columns - 1, members, places)
        handles = [legend_entry(style, label) for label, style in looks.values()]
        paper = pd.concat(papers)
        if len(paper):
            label = _published_label(members, paper)
            handles.append(Line2D([], [], ls="", marker="o", mfc="none", mec="0.3", ms=6.5, label=label))
        if (members["status"] == "diverged").any():
            handles.append(Line2D([], [], color="0.3", marker="x", ms=6, mew=1.6, ls="", label="diverged members"))
        add_legend(figure, handles)
        group = next(frames.groups(), None)
        add_title(figure, subject_text(places.subject(group), frames) if group else "")
    return figure


def _draw(
    axes: Axes, members: pd.DataFrame, places: Layout, looks: dict[Any, tuple[str, VariantStyle]]
) -> pd.DataFrame:
    """One panel. Returns the published values in it."""
    finished = members[members["status"] == "finished"].dropna(subset=["test_log_likelihood"])
    means = cells(members, [X, places.color])
    is_joined = is_ordered(members, places.x)
    paper = _published(members) if {places.x, places.color} == {DEPTH, VARIANT} else pd.DataFrame()
    for place, (level, (_, style)) in enumerate(looks.items()):
        shift = offset(place, len(looks))
        seeds = finished[finished[places.color] == level]
        y = seeds["test_log_likelihood"]
        axes.plot(seeds[X] + shift, y, ".", color=style.color, alpha=0.4, ms=5, mew=0, zorder=1)
        own = means[means[places.color] == level].sort_values(X)
        _draw_means(axes, own, style, shift)
        if is_joined:
            for part in _comparable(own, seeds):
                axes.plot(part[X] + shift, part["mean"], "-", color=style.color, lw=1.4)
        if len(paper):
            theirs = paper[paper[places.color] == level]
            theirs = theirs.assign(**{X: theirs[places.x].map(positions(members, places.x)).astype(float)}).sort_values(
                X
            )
            hollow: dict[str, Any] = {"mfc": "none", "color": style.color, "ms": 6.5, "mew": 1.2}
            axes.plot(theirs[X] + shift, theirs["value"], style.marker, **hollow)
        mark_diverged(axes, own[own["diverged"] > 0][X] + shift, style)
    return paper


def _comparable(means: pd.DataFrame, members: pd.DataFrame) -> list[pd.DataFrame]:
    """The means that a line may join: those that stand side by side and are of models of one x."""
    x = {place: frozenset(x_of(own["observation"]).values()) for place, own in members.groupby(X)}
    kinds = means[X].map(x)
    return [part for _, part in means.groupby((kinds != kinds.shift()).cumsum())]


def _draw_means(axes: Axes, means: pd.DataFrame, style: VariantStyle, shift: float) -> None:
    x = means[X] + shift
    axes.errorbar(x, means["mean"], means["se"], fmt="none", ecolor=style.color, capsize=2.5, elinewidth=1.1)
    axes.plot(x, means["mean"], style.marker, color=style.color, ms=4.5)


def _label(every: list[Axes], columns: int, width: float, members: pd.DataFrame, places: Layout) -> None:
    """The names of the axes and the ticks of x, below the lowest panel of every column, which has about this width in
    inches, and left of every row.
    """
    xlabel = "number of stochastic layers L" if places.x == DEPTH else places.heading(places.x)
    found = positions(members, places.x)
    texts = [escape_mathtext(level_text(level)) for level in found]
    is_tight = places.x == VARIANT or CHARACTER * sum(map(len, texts)) > width
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if is_tight else {}
    for axes, is_lowest, is_first in outer(every, columns):
        axes.set_xticks(list(found.values()), texts, **slanted)
        if is_lowest:
            axes.set_xlabel(escape_mathtext(xlabel))
        if is_first:
            axes.set_ylabel("test log-likelihood (nats)")


def _published(members: pd.DataFrame) -> pd.DataFrame:
    """The paper's values for the cells that are here: `depth`, `value`, and `variant` as this grid calls it."""
    paper = published.log_likelihoods(str(members["dataset"].iloc[0]))
    ours = members[["depth", "variant"]].assign(paper=published.variants(members))
    # A fine-tuned member has values of its own, in Table 1.
    ours = ours[~published.is_fine_tuned(members)].drop_duplicates()
    return ours.merge(paper.rename(columns={"variant": "paper"}), on=["depth", "paper"])


def has_published(members: pd.DataFrame) -> bool:
    """Whether the paper has values for any of these members' cells, all of one data set."""
    return not _published(members).empty


def _published_label(members: pd.DataFrame, paper: pd.DataFrame) -> str:
    """The legend's entry, which says whether the published values were obtained differently (`published.differences`):
    in what hinders a verdict, or in what the paper leaves open alone.
    """
    ours = members[~published.is_fine_tuned(members)].merge(paper[["depth", "variant", "paper"]])
    by_cell = ours.groupby(["depth", "variant", "paper"], observed=True)
    found = [one for _, own in by_cell for one in published.differences(own, str(own["paper"].iloc[0]))]
    if any(one.hinders for one in found):
        return "published (data, budget or model differ)"
    return "published (differs in what the paper leaves open)" if found else "published"
