"""The paper's tables from several grids, and whether ours agree: each member of the paper once, whichever of the grids
hold it.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.frames import Frames
from analysis.paper import published, replication, verdicts
from analysis.tables.table import TableSet
from hvae_spec.spec.labels import GRID


def tables(grids: Sequence[Frames]) -> tuple[TableSet, ...]:
    """The verdicts, and those of the paper's tables that several grids answer, in the paper's order, each naming the
    grids that it is of (in the tidy frames the column `grid`).

    A cell that several grids hold stands in the tables of the one with the most members that are not fine-tuned, unless
    only another one, of another folder, has finished it.
    Fine-tuned members stand beside their first phases (Table 1) whatever else holds these.
    """
    found: dict[str, list[tuple[int, TableSet]]] = {}
    shown: set[str] = set()
    finished: set[str] = set()
    tuned_members = [published.is_fine_tuned(grid.members) for grid in grids]
    for place in sorted(range(len(grids)), key=lambda place: -int((~tuned_members[place]).sum())):
        grid = grids[place]
        own = grid.select(_is_new(grid, shown, finished))
        tuned = [one for one in (replication.table_1(grid),) if one.tables]
        others = [one for one in replication.tables(own) if one.name != "table_1"]
        judged = (verdicts.verdicts_on_values(grid, tuned), verdicts.verdicts(own, others))
        for table_set in (*judged, *tuned, *others):
            if table_set.tables:
                found.setdefault(table_set.name, []).append((place, table_set))
        shown |= set(grid.members["digest"])
        finished |= set(grid.members["digest"][grid.members["status"] == "finished"])
    order = dict.fromkeys(["verdicts", "table_1", *found])
    return tuple(_joined(name, sorted(found[name], key=lambda one: one[0]), grids) for name in order if name in found)


def _is_new(grid: Frames, shown: set[str], finished: set[str]) -> "pd.Series[bool]":
    """Which members are of cells that are not shown as a whole already, or not as finished as they are here."""
    cell = ["dataset", "depth", "variant", *grid.factors]
    is_shown = grid.members["digest"].isin(shown)
    is_shown &= (grid.members["status"] != "finished") | grid.members["digest"].isin(finished)
    return ~is_shown.groupby([grid.members[key] for key in cell], observed=True, dropna=False).transform("all")


def _joined(name: str, parts: Sequence[tuple[int, TableSet]], grids: Sequence[Frames]) -> TableSet:
    named = [
        replace(table, subject=f"{table.subject} ({grids[place].name})")
        for place, table_set in parts
        for table in table_set.tables
    ]
    tidies = [table_set.tidy.assign(**{GRID: grids[place].name}) for place, table_set in parts]
    return TableSet(name, tuple(named), pd.concat(tidies, ignore_index=True))
