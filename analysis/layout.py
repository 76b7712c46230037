"""Which factor of a grid stands where in the one table and the one figure over its axes.

Of the factors of a data set's members, `depth`, `variant` and the axes, those that have several levels are placed:

1. What `report.layout` of the spec names is where it says.
2. `x`, the horizontal axis of the figure: the factor over numbers that has the most levels, of several the first one
   of the axes, in their order in the spec, and depth last; without one over numbers, the axis with the most levels.
3. `color`, the colors of the figure and the columns of the table: the variants; where there is one or where they are
   `x`, the first that is left.
4. `facets`: all that are left, depth first. Every combination of their levels has a panel.

The rows of the table are the levels of the facets and of x. A factor with one level is named in the title. Without an
axis that has several levels, x is the depth and color is the variant, or where there is one depth, x is the variant.

What has layers, epochs or numbers of samples in the rows of its tables and along the horizontal axis of its figure
(`at_one_depth`) has x among the facets, or where no other factor is left for it, as color. Of many facets, a figure has
those with the best cells. What can show one place alone, as pictures do, shows that of the best cell (`at_best`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.caveats import best_by
from analysis.frames import Frames, Group
from analysis.statistics.over_seeds import cells
from hvae_spec.spec.labels import headings, level_label, level_text

DEPTH, VARIANT = "depth", "variant"
Place = Mapping[Any, Any]
"""The levels of some factors."""
NOWHERE = "–"
"""The level of members that have no place on an axis."""
NUMBER = re.compile(r"\d+(\.\d+)?(e-?\d+)?")
"""A number within the text of a level."""


@dataclass(frozen=True)
class Panels:
    """The places of the factors in what has rows or a horizontal axis of its own: layers, epochs, samples."""

    color: str
    facets: tuple[str, ...]
    paths: Mapping[str, str]
    """All axes of the grid (`Frames.axes`), by which labels are long enough."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The factors whose levels are rows of the table, the one that changes slowest first."""
        return self.facets

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that have a place."""
        return tuple(factor for factor in (*self.rows, self.color) if factor in self.paths)

    def heading(self, factor: str) -> str:
        """What heads the levels of a factor: `L`, `batch`."""
        return {DEPTH: "L", VARIANT: VARIANT}.get(factor) or headings(self.paths.values())[self.paths[factor]]

    def label(self, factor: str, level: Any) -> str:
        """A level with its factor: `L = 2`, `VAE+BN`, `batch 64`; the names of levels by themselves."""
        if factor in (DEPTH, VARIANT):
            return f"L = {level}" if factor == DEPTH else str(level)
        return level_label(self.paths[factor], level, self.paths.values())

    def panel(self, place: Mapping[Any, Any]) -> str:
        """The title of the panel at a place: `L = 2, batch 64`; empty without facets."""
        return ", ".join(self.label(factor, place[factor]) for factor in self.facets)

    def row(self, place: Mapping[Any, Any], own: str = "") -> str:
        """The label of the row of the table at a place, below `row_heading`: `2, 64`, and what it has of its `own`."""
        return ", ".join([*(level_text(place[factor]) for factor in self.rows), *filter(None, [own])])

    def row_heading(self, own: str = "") -> str:
        """The heading of the rows of the table: `L, batch`, and that of what they have of their `own`."""
        return ", ".join([*map(self.heading, self.rows), *filter(None, [own])])


@dataclass(frozen=True)
class Layout(Panels):
    """The places of all factors."""

    x: str

    @property
    def rows(self) -> tuple[str, ...]:
        """The factors whose levels are rows of the table, the one that changes slowest first."""
        return (*self.facets, self.x)

    def subject(self, group: Group) -> str:
        """The title of what shows a group: where the depth is one of several factors and has one level, with it."""
        depths = group.frames.members[DEPTH].unique()
        is_named = bool(self.axes) and DEPTH not in (*self.rows, self.color) and len(depths) == 1
        return f"{group.title}, L = {depths[0]}" if is_named else group.title


def layout(frames: Frames) -> Layout:
    """The places of the factors of a grid, or of a part of it."""
    members = known(frames.planned.members, frames.factors)
    axes = [factor for factor in frames.factors if len(levels(members, factor)) > 1]
    named = {place: factor for place, factor in _named(frames).items() if factor in (DEPTH, VARIANT, *axes)}
    if not axes and not named:
        # A depth that does not vary is no horizontal axis, where variants can be one.
        is_one_depth = len(levels(members, DEPTH)) == 1 < len(levels(members, VARIANT))
        color, x = (DEPTH, VARIANT) if is_one_depth else (VARIANT, DEPTH)
        return Layout(color, (), frames.axes, x)
    if not axes:
        named.pop("facet", None)  # two factors are x and color
    free = [factor for factor in (*axes, DEPTH, VARIANT) if factor not in named.values()]
    several = [factor for factor in free if len(levels(members, factor)) > 1]
    x = named.get("x") or _first_with_most(members, several) or free[0]
    left = [factor for factor in several if factor != x]
    candidates = [factor for among in (left, free) for factor in (VARIANT, *among) if factor in among and factor != x]
    color = named.get("color") or candidates[0]
    rest = [factor for factor in (DEPTH, *axes, VARIANT) if factor in left and factor != color]
    facets = [named["facet"]] if "facet" in named else []
    return Layout(color, (*facets, *rest), frames.axes, x)


def at_one_depth(frames: Frames) -> Panels:
    """The places of the factors in what shows layers, epochs or numbers of samples of members of one depth."""
    places, members = layout(frames), known(frames.planned.members, frames.factors)
    several = [factor for factor in places.rows if len(levels(members, factor)) > 1]
    has_colors = len(levels(members, places.color)) > 1
    color = places.color if has_colors else several.pop() if several else VARIANT
    return Panels(color, tuple(several), frames.axes)


def by_variant(frames: Frames) -> Panels:
    """The places of the factors in tables whose columns are variants, or what is compared of them."""
    places = layout(frames)
    axes = [factor for factor in (*places.rows, places.color) if factor in varied(frames)]
    return Panels(VARIANT, (DEPTH, *axes), frames.axes)


def varied(frames: Frames) -> tuple[str, ...]:
    """The axes that have several levels."""
    members = known(frames.planned.members, frames.factors)
    return tuple(factor for factor in frames.factors if len(levels(members, factor)) > 1)


def split(members: pd.DataFrame, places: Panels, most: int | None = None) -> tuple[Sequence[Place], Sequence[Place]]:
    """The places that have panels, in the order of the levels, and those that are left out.

    Args:
        members: what is to be shown.
        places: where the factors stand.
        most: how many places there are at most; those with the best cells are kept (`best_first`).

    """
    facets = list(places.facets)
    found = members[facets].drop_duplicates()
    every: list[Place] = [*in_order(found, members, facets).to_dict("records")] if facets else [{}]
    if most is None or len(every) <= most:
        return every, []
    kept = best_first(members, facets, places.paths)[:most]
    return [place for place in every if place in kept], [place for place in every if place not in kept]


def best_first(members: pd.DataFrame, factors: Sequence[str], axes: Iterable[str]) -> Sequence[Place]:
    """The places of members on some factors: first that of the cell with the best mean (`analysis.caveats.best_by`),
    and last those without a finished member that has it.

    Args:
        members: rows of `Frames.members`.
        factors: columns of factors.
        axes: columns of the further axes, by which there are cells.

    """
    every = known(members, [*axes])
    quantity, sign = best_by(members)
    found = cells(every, list(dict.fromkeys([*factors, DEPTH, VARIANT, *axes])), quantity)
    best = found.sort_values("mean", ascending=sign < 0, kind="stable", na_position="last")
    return best[list(factors)].drop_duplicates().to_dict("records")


def at_best(frames: Frames, among: pd.DataFrame) -> Frames:
    """The members at the place on the axes where the best cell is, for what can show one place alone.

    Args:
        frames: members of one data set.
        among: those of them that have something to show, rows of `frames.members`.

    """
    axes = varied(frames)
    if not axes or among.empty:
        return frames
    members, place = known(frames.members, axes), best_first(among, axes, frames.factors)[0]
    return frames.select((members[list(axes)] == pd.Series(place)).all(axis=1))


def at(members: pd.DataFrame, place: Place) -> pd.DataFrame:
    """The members at a place."""
    for factor, level in place.items():
        members = members[members[factor] == level]
    return members


def in_order(rows: pd.DataFrame, members: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """Rows in the order of the levels of some factors, the one that changes slowest first.

    Args:
        rows: with a column for each factor.
        members: all members, by which levels have their order.
        factors: columns of factors.

    """
    if not factors:
        return rows
    ranks = {
        factor: rows[factor].map({level: rank for rank, level in enumerate(levels(members, factor))}).astype(int)
        for factor in factors
    }
    order = pd.DataFrame(ranks).reset_index(drop=True).sort_values(list(ranks), kind="stable").index
    return rows.iloc[order]


def levels(members: pd.DataFrame, factor: str) -> list[Any]:
    """The levels of a factor that occur: numbers ascending, all others in the order of the grid."""
    if factor == VARIANT:
        present = set(members[VARIANT])
        return [name for name in members[VARIANT].cat.categories if name in present]
    found = list(members[factor].drop_duplicates())
    return sorted(found) if _are_numbers(found) else found


def known(members: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """Members of which every one has a level: members of several grids need not have all axes of the others."""
    missing = [factor for factor in factors if members[factor].isna().any()]
    return members.assign(**{factor: members[factor].astype(object).fillna(NOWHERE) for factor in missing})


def positions(members: pd.DataFrame, factor: str) -> dict[Any, float]:
    """Where the levels of a factor stand on the horizontal axis: depths at their number, all others side by side."""
    found = levels(members, factor)
    return {level: float(level if factor == DEPTH else place) for place, level in enumerate(found)}


def is_ordered(members: pd.DataFrame, factor: str) -> bool:
    """Whether the levels of a factor are an order along a line: depths, numbers, flags, and texts that differ in their
    numbers alone, as `mlp 512` and `mlp 256`.
    """
    found = levels(members, factor)
    if factor == VARIANT or not found:
        return False
    if _are_numbers(found) or all(isinstance(level, bool) for level in found):
        return True
    return len({NUMBER.sub("", str(level)) for level in found}) == 1


def _are_numbers(found: Sequence[Any]) -> bool:
    return all(isinstance(level, int | float) and not isinstance(level, bool) for level in found)


def _first_with_most(members: pd.DataFrame, factors: Sequence[str]) -> str | None:
    """Of some factors, the first over numbers with the most levels; without one, the first axis with the most."""
    counts = {factor: len(found) for factor in factors if _are_numbers(found := levels(members, factor))}
    counts = counts or {factor: len(levels(members, factor)) for factor in factors if factor != VARIANT}
    return max(counts, key=lambda factor: counts[factor]) if counts else None


def _named(frames: Frames) -> dict[str, str]:
    """The factors that the spec gives a place, by its name, as the frames call them."""
    columns = {path: column for column, path in frames.axes.items()}
    return {place: columns.get(axis, axis) for place, axis in frames.report.layout.places.items()}
