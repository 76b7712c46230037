"""Two results beside each other: which members both have, in which settings their cells differ, and by how much their
numbers do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from analysis import frames
from analysis.columns import columns_by_path, setting_fields
from analysis.frames import Frames
from analysis.statistics.agreement import CONFIDENCE
from analysis.statistics.over_seeds import mean_over_seeds
from hvae_spec.errors import UserError
from hvae_spec.spec.labels import GRID, LABELS, NONE

QUANTITIES = ("test_log_likelihood", "test_elbo", "active_units")
DATA = ("train_images", "test_images", "data_sha256", "test_sha256", "data_canonical")
"""Columns of members with what a result says of its images, which are compared as settings are."""


@dataclass(frozen=True)
class Comparison:
    """Two results, a and b, as tidy frames. A cell is a data set, a depth, a variant and a place on every further axis
    of either; where one of the two has several grids, `grid` is part of it.
    """

    members: pd.DataFrame
    """One row per member (by its `digest`): the cell and `seed`, as a calls them if a has it, `where` (`both`, `a` or
    `b`), and `status_a` and `status_b`, missing where there is no such member."""
    settings: pd.DataFrame
    """One row per cell that both have and setting that differs in it: the cell, `setting` (a column of
    `Frames.members`) and its values `a` and `b`, as far as they are known; a text of all, where members of a cell have
    several."""
    differences: pd.DataFrame
    """One row per cell that both have and quantity: the cell, `quantity`, the means `a` and `b`, `difference` (b - a),
    `se`, `low` and `high` (95% confidence), `sd`, `df`, `n` (pairs), `planned` (seeds that both have), `diverged` (of
    these, where a or b has diverged), `same` (of these, one and the same member)."""


def compare(a: Frames | str | Path, b: Frames | str | Path, quantities: Sequence[str] = QUANTITIES) -> Comparison:
    """Two results beside each other, seed by seed.

    Over the n seeds s with which both have finished a cell, with differences d_s = y_s(b) - y_s(a),

        difference = (1/n) sum_s d_s,    sd^2 = sum_s (d_s - difference)^2 / (n - 1),    se = sd / sqrt(n),

    and the interval from `low` to `high` is difference -+ t_{0.975, n - 1} se (Student). It covers seeds, given these
    test images. With n = 1 there is none: `se`, `low` and `high` are NaN. Where seeds come in two stages, `sd` is of
    those of the first (see `analysis.statistics.mean_over_seeds`). A member that both have is compared with itself: its
    difference is that of two runs, 0 where these are the same to the bit.

    Args:
        a: the one, as `analysis.load` has it, or its folder. Records that its grid no longer plans are left out.
        b: the other.
        quantities: columns of `Frames.members`; likelihoods are in nats per image.

    Raises:
        UserError: a folder holds no results, or members have no such quantity.

    """
    first, second = (one if isinstance(one, Frames) else frames.load(one) for one in (a, b))
    for name in quantities:
        if name not in first.members or name not in second.members:
            raise UserError(f"members have no column {name!r} to compare; expected such as {', '.join(QUANTITIES)}")
    paths = list(dict.fromkeys(path for one in (first, second) for grid in _grids(one) for path in grid.axes.values()))
    is_of_several = bool(first.grids or second.grids)
    own, other = (_members(one, paths, is_of_several) for one in (first, second))
    axes = list(map(_key, paths))
    cell = [*([GRID] if is_of_several else []), *(label for label in LABELS if label != "seed"), *axes]
    pairs = own.merge(other, on=[*cell, "seed"], suffixes=("_a", "_b"))
    columns = dict(zip(axes, _columns((first, second), paths), strict=True))
    return Comparison(
        _in_either(own, other, [*cell, "seed"]).rename(columns=columns),
        _settings(own, other, cell).rename(columns=columns),
        _differences(pairs, cell, quantities).rename(columns=columns),
    )


def _grids(one: Frames) -> tuple[Frames, ...]:
    return one.grids or (one,)


def _key(path: str) -> str:
    """What an axis is called where grids may have columns of other names for it: like no column of theirs."""
    return f"axis {path}"


def _columns(both: Sequence[Frames], paths: Sequence[str]) -> Iterator[str]:
    """The column of each axis in the first grid that has it."""
    for path in paths:
        yield next(column for one in both for grid in _grids(one) for column, own in grid.axes.items() if own == path)


def _members(one: Frames, paths: Sequence[str], is_of_several: bool) -> pd.DataFrame:
    """The planned members of every grid, with the axes of both results."""
    parts = []
    for grid in _grids(one):
        members = grid.planned.members
        levels = {_key(path): _levels(members, grid, path) for path in paths}
        named = {GRID: grid.name} if is_of_several else {}
        parts.append(members.assign(**levels, **named, variant=members["variant"].astype(str)))
    return pd.concat(parts, ignore_index=True)


def _levels(members: pd.DataFrame, grid: Frames, path: str) -> "pd.Series[Any]":
    """The level of each member on an axis. A grid without the axis has one, which its setting tells."""
    column = next((column for column, own in grid.axes.items() if own == path), None)
    if column is not None:
        return members[column].astype(object)
    setting = columns_by_path().get(path)
    if setting is None:
        return pd.Series(None, index=members.index, dtype=object)
    values = members[setting].astype(object)
    return values.mask(values.isna() & members["background"].notna(), NONE)


def _in_either(own: pd.DataFrame, other: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    one, two = (
        members.drop_duplicates("digest")[[*labels, "digest", "status"]].astype({"status": object})
        for members in (own, other)
    )
    table = one.merge(two[["digest", "status"]], on="digest", how="left", suffixes=("_a", "_b"))
    only = two[~two["digest"].isin(one["digest"])].rename(columns={"status": "status_b"})
    table = pd.concat([table, only], ignore_index=True) if len(only) else table
    where = np.where(table["status_b"].isna(), "a", np.where(table["status_a"].isna(), "b", "both"))
    return table.assign(where=where)[[*labels, "where", "status_a", "status_b", "digest"]]


def _settings(own: pd.DataFrame, other: pd.DataFrame, cell: Sequence[str]) -> pd.DataFrame:
    names = [*setting_fields(), *DATA]
    # What is known: before a member begins, none of its settings, and before it has ended, nothing of its images.
    cells = [dict(iter(_by_cell(members, cell))) for members in (own, other)]
    rows = [
        (*place, name, *map(_text, values))
        for place, members in cells[0].items()
        if place in cells[1]
        for name in names
        if (values := [_values(one, name) for one in (members, cells[1][place])])[0] != values[1] and all(values)
    ]
    return pd.DataFrame(rows, columns=[*cell, "setting", "a", "b"])


def _by_cell(members: pd.DataFrame, cell: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Cells in order of appearance; a level that is not known is None, so that it is the same in both results."""
    for place, own in members.groupby(list(cell), sort=False, dropna=False):
        yield tuple(None if pd.isna(value) else value for value in cast(tuple[Any, ...], place)), own


def _values(members: pd.DataFrame, name: str) -> list[Any]:
    """The different values of a column, of the members of which it is known; null is None."""
    known = members["data_sha256"].notna() if name in DATA else members["background"].notna()
    return list(dict.fromkeys(None if pd.isna(value) else value for value in members.loc[known, name]))


def _text(values: Sequence[Any]) -> Any:
    """One value as it is; several as a text of all."""
    return values[0] if len(values) == 1 else " / ".join(map(str, values))


def _differences(pairs: pd.DataFrame, cell: Sequence[str], quantities: Sequence[str]) -> pd.DataFrame:
    is_finished = (pairs["status_a"] == "finished") & (pairs["status_b"] == "finished")
    counted = pairs[list(cell)].assign(
        planned=1,
        diverged=((pairs["status_a"] == "diverged") | (pairs["status_b"] == "diverged")).astype(int),
        same=(pairs["digest_a"] == pairs["digest_b"]).astype(int),
    )
    counts = counted.groupby(list(cell), sort=False, dropna=False).sum().reset_index()
    stage = pairs[["stage_a", "stage_b"]].max(axis=1)
    tables = []
    for name in quantities:
        a, b = pairs[f"{name}_a"], pairs[f"{name}_b"]
        every = pairs[list(cell)].assign(a=a, b=b, difference=b - a, stage=stage)
        found = every[is_finished & every["difference"].notna()]
        means = found.groupby(list(cell), sort=False, dropna=False)[["a", "b"]].mean().reset_index()
        table = mean_over_seeds(found, cell, "difference").rename(columns={"mean": "difference"})
        table = counts.merge(means, on=list(cell), how="left").merge(table, on=list(cell), how="left")
        table[["n", "df"]] = table[["n", "df"]].fillna(0).astype(int)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, table["df"].where(table["df"] > 0)) * table["se"]
        table = table.assign(quantity=name, low=table["difference"] - half, high=table["difference"] + half)
        tables.append(table.assign(_place=range(len(table))))
    numbers = ["a", "b", "difference", "se", "low", "high", "sd", "df", "n", "planned", "diverged", "same"]
    table = pd.concat(tables).sort_values("_place", kind="stable")
    return table[[*cell, "quantity", *numbers]].reset_index(drop=True)
