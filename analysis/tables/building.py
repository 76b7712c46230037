"""How tables are put together from statistics: the steps that several builders share."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.frames import Frames, Group
from analysis.tables.table import MeanCell, Table


def by_depth(frames: Frames) -> Iterator[tuple[Group, int, pd.DataFrame]]:
    """The planned members of every group and depth, the greatest depth of each group first."""
    for group in frames.groups():
        members = group.frames.members
        for depth in sorted(members["depth"].unique(), reverse=True):
            yield group, int(depth), members[members["depth"] == depth]


def mean_table(
    title: tuple[str, str], row_heading: str, rows: pd.DataFrame, footnotes: tuple[str, ...], decimals: int = 2
) -> Table:
    """A table of means over seeds.

    Args:
        title: the quantity and the subject of the table.
        row_heading: heading of the row labels.
        rows: the columns of `analysis.statistics.cells`, one row per cell, with the label of its table row in `row`.
        footnotes: what stands below the table.
        decimals: of means that are below 1,000.

    """
    cells = {(str(item["row"]), str(item["variant"])): mean_cell(item, decimals) for item in rows.to_dict("records")}
    return Table(*title, row_heading, tuple(dict.fromkeys(rows["row"])), variants_present(rows), cells, footnotes)


def mean_cell(item: Mapping[Any, Any], decimals: int = 2, mark: str = "") -> MeanCell:
    """The cell of one row of `analysis.statistics.cells`."""
    n, planned, diverged, failed = (int(item[key]) for key in ("n", "planned", "diverged", "failed"))
    return MeanCell(float(item["mean"]), float(item["se"]), n, planned, diverged, failed, decimals, mark)


def variants_present(rows: pd.DataFrame) -> tuple[str, ...]:
    """The variants that occur in the column `variant`, in the order of the spec."""
    present = set(rows["variant"])
    return tuple(str(name) for name in rows["variant"].cat.categories if name in present)
