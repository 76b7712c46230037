"""How tables are put together from statistics: the steps that several builders share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from pydantic import ValidationError

from analysis.frames import Frames, Group
from analysis.layout import DEPTH, Panels, at_one_depth, in_order, known, levels
from analysis.statistics import over_seeds
from analysis.tables.footnotes import MEANS, grid_footnotes
from analysis.tables.table import ABSENT, MeanCell, PlainCell, Table, TableSet, losses_text
from hvae_spec.spec.experiment import MemberSpec


@dataclass(frozen=True)
class AtDepth:
    """The members of one data set and depth, and where the factors stand in a table of their layers or bounds."""

    group: Group
    depth: int
    members: pd.DataFrame
    places: Panels

    @property
    def subject(self) -> str:
        """The title of what shows them: `digits, L = 3`."""
        return f"{self.group.title}, L = {self.depth}"

    @property
    def by(self) -> list[str]:
        """The columns by which the table has cells."""
        return [*self.places.rows, self.places.color]

    def placed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """`placed` of what has the label of its layer, say, in `row`."""
        return placed(rows, self.members, self.places)

    def flowed(self) -> pd.DataFrame:
        """The layers whose q has a flow, as far as specs are known: a row per member and layer, with it in `layer`."""
        specs = self.group.frames.specs
        layers = self.members["digest"].map(lambda digest: _flowed(specs.get(digest)))
        return self.members.assign(layer=layers).explode("layer").dropna(subset="layer")

    def layers_in_words(self, rows: pd.DataFrame) -> str:
        """Layers of some members by the rows and columns that they have in the table, columns of the same rows
        together: `z_3 (A, E); z_1, z_3 (B)`. Rows whose names have a comma stand one by one. Empty without any.

        Args:
            rows: one per member and layer, with a column for each factor that has a place and `layer`, 1 for z_1.

        """
        rows = rows.sort_values("layer", kind="stable")
        shown = self.placed(rows.assign(row=[f"z_{layer}" for layer in rows["layer"]]))
        columns: dict[tuple[str, ...], list[str]] = {}
        for column, own in shown.groupby("variant", observed=True):
            columns.setdefault(tuple(dict.fromkeys(own["row"])), []).append(str(column))
        return "; ".join(
            f"{rows} ({', '.join(names)})"
            for labels, names in columns.items()
            for rows in (labels if any("," in label for label in labels) else [", ".join(labels)])
        )


def by_depth(frames: Frames) -> Iterator[AtDepth]:
    """The planned members of every data set and depth, the greatest depth of each data set first."""
    for group in frames.groups():
        every = group.frames.members
        for depth in sorted(every[DEPTH].unique(), reverse=True):
            own = group.frames.select(every[DEPTH] == depth)
            yield AtDepth(group, int(depth), known(own.members, frames.factors), at_one_depth(own))


@dataclass(frozen=True)
class Asked:
    """What is measured where a section of `evaluation` asks for it, as tables of a depth each have it."""

    name: str
    """Of the table set."""
    title: str
    column: str
    """Of `Frames.members`, which finished members have that were evaluated with it."""
    quantities: Callable[[pd.DataFrame], Mapping[str, str]]
    """The columns that are shown of some members, and what the table calls them, in the order of its rows."""
    footnotes: Callable[[AtDepth], tuple[str, ...]]
    """What is said of the members that were evaluated with it."""
    absence: str
    """What an empty cell means."""
    decimals: int = 2

    def tables(self, frames: Frames) -> TableSet:
        """One table per depth, the greatest depth first; none where no member has the column."""
        by = ["dataset", *frames.factors, "depth", "variant"]
        tables, tidies = [], []
        for own in by_depth(frames):
            measured = own.members[(own.members["status"] == "finished") & own.members[self.column].notna()]
            if measured.empty:
                continue
            quantities = self.quantities(measured)
            rows = _cells_of(own.members, by, quantities)
            full = len(rows) == len(quantities) * len(own.members[by].drop_duplicates())
            absence = () if full else (f"{ABSENT}: {self.absence}",)
            footnotes = (
                *self.footnotes(replace(own, members=measured)),
                *absence,
                MEANS,
                *grid_footnotes(frames, own.group.frames),
            )
            heading = own.places.row_heading("quantity")
            tables.append(mean_table((self.title, own.subject), heading, own.placed(rows), footnotes, self.decimals))
            tidies.append(rows.drop(columns="row"))
        tidy = pd.concat(tidies, ignore_index=True) if tidies else pd.DataFrame(columns=[*by, "mean", "se", "n"])
        return TableSet(self.name, tuple(tables), tidy)


def _cells_of(members: pd.DataFrame, by: list[str], quantities: Mapping[str, str]) -> pd.DataFrame:
    """Cells of every quantity, with `quantity` (its column) and `row` (what the table calls it)."""
    parts = (
        over_seeds.cells(members, by, column).assign(quantity=column, row=row) for column, row in quantities.items()
    )
    rows = pd.concat(parts, ignore_index=True)
    # A variant whose finished members were all evaluated without it has no cells.
    return rows[(rows["n"] > 0) | (rows["finished"] == 0)]


def placed(rows: pd.DataFrame, members: pd.DataFrame, places: Panels) -> pd.DataFrame:
    """Statistics in the order of the rows of a table over the axes: with `row`, the label of the row, to which a label
    of their own is added if they have one there, and `variant`, the heading of the column.

    Args:
        rows: one per cell, with a column for each factor that has a place.
        members: all that the table shows, by which levels have their order.
        places: where the factors stand.

    """
    rows = with_row_labels(rows, members, places)
    columns = [places.label(places.color, level) for level in levels(members, places.color)]
    shown = [places.label(places.color, level) for level in rows[places.color]]
    return rows.assign(variant=pd.Categorical(shown, categories=columns, ordered=True))


def with_row_labels(rows: pd.DataFrame, members: pd.DataFrame, places: Panels) -> pd.DataFrame:
    """`placed` without the columns."""
    rows = in_order(rows, members, places.rows)
    return rows.assign(row=[places.row(record, record.get("row", "")) for record in rows.to_dict("records")])


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
    cells = {
        (str(item["row"]), str(item["variant"])): _has_none(item) or mean_cell(item, decimals)
        for item in rows.to_dict("records")
    }
    return Table(*title, row_heading, tuple(dict.fromkeys(rows["row"])), variants_present(rows), cells, footnotes)


def _has_none(item: Mapping[Any, Any]) -> PlainCell | None:
    """The cell of finished members none of which has the quantity; None of all others."""
    return PlainCell(ABSENT, losses_text(item)) if item["finished"] and not item["n"] else None


def mean_cell(item: Mapping[Any, Any], decimals: int = 2, mark: str = "") -> MeanCell:
    """The cell of one row of `analysis.statistics.cells`."""
    n, planned, diverged, failed = (int(item[key]) for key in ("n", "planned", "diverged", "failed"))
    return MeanCell(float(item["mean"]), float(item["se"]), n, planned, diverged, failed, decimals, mark)


def variants_present(rows: pd.DataFrame) -> tuple[str, ...]:
    """The variants that occur in the column `variant`, in the order of the spec."""
    present = set(rows["variant"])
    return tuple(str(name) for name in rows["variant"].cat.categories if name in present)


def _flowed(spec: dict[str, Any] | None) -> list[int]:
    """The layers whose q has a flow, by the resolved spec of a member; none where it is not known."""
    try:
        flows = () if spec is None else MemberSpec.model_validate(spec).model.flows
    except ValidationError:
        return []
    return [layer for layer, flow in enumerate(flows, start=1) if flow is not None]
