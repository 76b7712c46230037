"""Which factor of a grid stands where in the one table and the one figure over its axes.

Of the factors of a data set's members, `depth`, `variant` and the axes, those that have several levels are placed:

1. What `report.layout` of the spec names is where it says.
2. `x`, the horizontal axis of the figure: the factor over numbers that has the most levels, of several the first one
   of the axes, in their order in the spec, and depth last; without one over numbers, the axis with the most levels.
3. `color`, the lines of the figure and the columns of the table: the variants; where there is one or where they are
   `x`, the first that is left.
4. `facets`: all that are left, depth first. Every combination of their levels has a panel.

The rows of the table are the levels of the facets and of x. A factor with one level is named in the title. Without an
axis that has several levels, x is the depth and color is the variant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.frames import Frames, Group
from hvae_spec.spec.labels import headings, level_label, level_text

DEPTH, VARIANT = "depth", "variant"
NOWHERE = "–"
"""The level of members that have no place on an axis."""


@dataclass(frozen=True)
class Layout:
    """The places of the factors."""

    x: str
    color: str
    facets: tuple[str, ...]
    paths: Mapping[str, str]
    """All axes of the grid (`Frames.axes`), by which labels are long enough."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The factors whose levels are rows of the table, the one that changes slowest first."""
        return (*self.facets, self.x)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that have a place: they make no tables and figures of their own."""
        return tuple(factor for factor in (*self.rows, self.color) if factor in self.paths)

    def heading(self, factor: str) -> str:
        """What heads the levels of a factor: `L`, `batch`."""
        return {DEPTH: "L", VARIANT: VARIANT}.get(factor) or headings(self.paths.values())[self.paths[factor]]

    def label(self, factor: str, level: Any) -> str:
        """A level with its factor: `L = 2`, `VAE+BN`, `batch 64`; the names of levels by themselves."""
        if factor in (DEPTH, VARIANT):
            return f"L = {level}" if factor == DEPTH else str(level)
        return level_label(self.paths[factor], level, self.paths.values())

    def subject(self, group: Group) -> str:
        """The title of what shows a group: where the depth is one of several factors and has one level, with it."""
        depths = group.frames.members[DEPTH].unique()
        is_named = bool(self.axes) and DEPTH not in (*self.rows, self.color) and len(depths) == 1
        return f"{group.title}, L = {depths[0]}" if is_named else group.title

    def panel(self, place: Mapping[Any, Any]) -> str:
        """The title of the panel at a place: `L = 2, batch 64`; empty without facets."""
        return ", ".join(self.label(factor, place[factor]) for factor in self.facets)

    def row(self, place: Mapping[Any, Any]) -> str:
        """The label of the row of the table at a place, below `row_heading`: `2, 64`."""
        return ", ".join(level_text(place[factor]) for factor in self.rows)

    @property
    def row_heading(self) -> str:
        """The heading of the rows of the table: `L, batch`."""
        return ", ".join(map(self.heading, self.rows))


def layout(frames: Frames) -> Layout:
    """The places of the factors of a grid, or of a part of it."""
    members = known(frames.planned.members, frames.factors)
    axes = [factor for factor in frames.factors if len(levels(members, factor)) > 1]
    named = {place: factor for place, factor in _named(frames).items() if factor in (DEPTH, VARIANT, *axes)}
    if not axes and not named:
        return Layout(DEPTH, VARIANT, (), frames.axes)
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
    return Layout(x, color, (*facets, *rest), frames.axes)


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
